"""One module of a board: an instrument with a lane of its own, among others on one bus."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, ClassVar, Final, TypeVar, cast

from attrs import evolve

from actors.bus import Bus
from actors.command import Plan
from actors.errors import RefusedError
from actors.faults import Cause
from actors.instrument import Directive, Instrument
from actors.member import Identity, Script
from actors.operation import Overlap, Progress
from actors.parameter import Action, Assignment, Parameter, Setting, with_instance
from actors.ticket import Ticket
from actors.validation import Limits, check
from transports import Exchange, Framing, Lines

from .codec import answer, call
from .limits import narrowed

T = TypeVar("T")

WITHIN_S: Final = 5.0
"""How long a quick call may take, in seconds."""

_TOKENS: Final = itertools.count(1)


class Module(Instrument):
    """The base of everything on a board that takes calls.

    Its unit is the module's name in PyRPL; headers are the names of its attributes.
    """

    protocol: ClassVar[str] = "red_pitaya"
    framing: ClassVar[Framing] = Lines(b"\n")
    scheme: ClassVar[str | None] = "redpitaya"

    #: Settings that the board itself changes: neither compared nor written again.
    moving: ClassVar[Set[str]] = frozenset()
    #: Settings whose reading tells something else: written again, but not compared.
    unread: ClassVar[Set[str]] = frozenset()
    #: Settings that are another way to say a setting: the last one told counts.
    one_with: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make a module on `bus`; its unit is its name in PyRPL."""
        super().__init__(name, bus, unit=unit)
        self._under_way: list[Ticket[Any]] = []
        # What PyRPL says of its attributes, once the board was asked.
        self._attributes: Mapping[str, Mapping[str, Any]] = {}

    @property
    def group(self) -> str | None:
        """The board: its modules are tripped and driven safe together."""
        return self.name.partition(".")[0]

    # What the bus needs.

    def encode(self, directive: Directive[T], instance: int = 1) -> Exchange:
        """Return the call that carries out `directive`."""
        match directive:
            case Assignment(setting, value):
                path = self.path(setting, instance)
                return self.call("set", {"path": path, "value": value})
            case Action(header=header):
                return self.call(header, {})
            case Parameter():
                return self.call("get", {"path": self.path(directive, instance)})

    def path(self, parameter: Parameter[Any], instance: int) -> str:
        """Return the attribute of a parameter, as PyRPL names it."""
        del instance
        return f"{self.unit}.{parameter.header}"

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in an answer, by the parameter's type."""
        value = answer(raw)
        kind = cast("Any", parameter.type)
        if value is None or kind not in (float, int, bool, str, list):
            raise ValueError(f"{value!r} is no value of {parameter.name}")
        if kind is list and not isinstance(value, list):
            value = [value]
        decoded: T = _as(kind, value)
        return decoded

    def decode_written(self, directive: Directive[T], raw: bytes) -> None:
        """Raise what the worker said against a write."""
        del directive
        answer(raw)

    def identify(self) -> Script[Identity]:
        """Ask who the board is, and what the module's attributes take."""
        module = self.unit if self.parameters else None
        said = answer((yield self.call("describe", {"module": module})))
        self._attributes = said["attributes"]
        return Identity(said["maker"], said["model"], None, said["library"])

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return None: answers are told apart by their numbers."""
        del owed
        return None

    def limits_of(self, setting: Setting[T]) -> Limits[T]:
        """Return what a setting takes: what is declared, narrowed by what PyRPL says."""
        return narrowed(setting.limits, self._attributes.get(setting.header, {}))

    def plan(
        self,
        directive: Directive[Any],
        *,
        instance: int = 1,
        confirm: bool = False,
        whatever: bool = False,
    ) -> Plan[Any]:
        """Check a directive and return what to send for it; see `Instrument.plan`."""
        plan = super().plan(directive, instance=instance, confirm=confirm, whatever=whatever)
        if plan.setting is None or not isinstance(directive, Assignment):
            return plan
        name = directive.setting.name
        if name in self.moving:
            return evolve(plan, setting=None, readback=None)
        if name in self.unread:
            return evolve(plan, readback=None)
        return evolve(plan, setting=self.one_with.get(name, plan.setting))

    # What drivers of modules use.

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        within_s: float = WITHIN_S,
        *,
        wait: bool = True,
    ) -> Exchange:
        """Return the exchange that makes a call; see `codec.call`.

        Raises:
            RefusedError: An argument is something that cannot travel.
        """
        try:
            within_s = max(within_s, self.timeout_s or 0.0)
            return call(name, arguments, self.unit, within_s, wait=wait)
        except (TypeError, ValueError, OverflowError) as error:
            takes = "it takes numbers, texts, lists, mappings and arrays of them"
            raise self.refuse(name, f"{error}; {takes}") from error

    def quick(
        self,
        name: str,
        called: str,
        arguments: Mapping[str, Any],
        *,
        writes: bool = False,
        within_s: float = WITHIN_S,
        setting: str | None = None,
    ) -> Plan[Any]:
        """Return the plan of a call that is answered at once; `setting` is what it establishes."""
        return Plan(
            name=name,
            exchange=self.call(called, arguments, within_s),
            decode=answer,
            writes=writes,
            idempotent=not writes,
            setting=setting,
        )

    def operation(
        self,
        name: str,
        arguments: Mapping[str, Any],
        result: Callable[[Any], T],
        *,
        within_s: float,
        reports: Callable[[Any], None] | None = None,
        brings: Mapping[Setting[Any], Any] | None = None,
        wait: bool = True,
    ) -> Plan[T]:
        """Return the plan of an operation, which holds the module and leaves the board free.

        `reports` is given what it reports while it goes on; `brings` are the settings that
        it brings along. Without `wait` the worker refuses it where its module is in use.
        """
        token = f"{os.getpid()}-{next(_TOKENS)}"
        begin = {"token": token, "name": name, "arguments": dict(arguments)}

        doing = ""

        def judge(raw: bytes) -> Progress:
            nonlocal doing
            news = answer(raw)
            fraction = None
            for report in news["reports"]:
                match report:
                    case str():
                        doing = report
                        continue
                    case float():
                        fraction, doing = report, ""
                    case _:
                        pass
                if reports is not None:
                    reports(report)
            now = news["waits"] or doing
            return Progress(done=news["done"], fraction=fraction, doing=now, said=raw)

        return Plan(
            name=name,
            exchange=self.call("begin", begin, wait=wait),
            decode=lambda raw: _begun(raw, result),
            writes=True,
            idempotent=False,
            brings=[self.plan(each.to(value)) for each, value in (brings or {}).items()],
            overlap=Overlap(
                poll=self.call("poll", {"token": token}),
                judge=judge,
                finish=self.call("finish", {"token": token}),
                result=lambda raw: result(answer(raw)),
                abort=self.call("stop", {"token": token}),
                within_s=within_s,
            ),
        )

    async def start(self, plan: Plan[T], *, wait: bool = True) -> Ticket[T]:
        """Have an operation accepted and return its ticket.

        Raises:
            RefusedError: It was not accepted; with cause CONFLICT, another operation has the
                module and `wait` is False.
        """
        self._under_way = [each for each in self._under_way if not each.state.final]
        if self._under_way and not wait:
            raise RefusedError(
                f"{self.name} is busy with {self._under_way[0].command.plan.name}",
                cause=Cause.CONFLICT,
                instrument=self.name,
                command=plan.name,
            )
        ticket = await self.bus.submit(self, plan)
        self._under_way.append(ticket)
        return ticket

    def checked(self, command: str, given: Mapping[Setting[Any], Any]) -> dict[str, Any]:
        """Return settings by their names in PyRPL.

        Raises:
            RefusedError: A value is wrong.
        """
        for setting, value in given.items():
            self.check(command, setting, value)
        return {setting.header: value for setting, value in given.items()}

    def check(self, command: str, setting: Setting[T], value: T) -> None:
        """Check a value for a setting.

        Raises:
            RefusedError: It is wrong.
        """
        check(
            self.limits_of(setting),
            value,
            instrument=self.name,
            command=f"{command}.{with_instance(setting.name, 1)}",
            confirm=False,
        )

    def refuse(self, command: str, why: str) -> RefusedError:
        """Return the refusal of a command that is wrong."""
        return RefusedError(why, cause=Cause.VALIDATION, instrument=self.name, command=command)


def _as(kind: Any, value: Any) -> Any:
    return kind(value)


def _begun(raw: bytes, result: Callable[[Any], T]) -> T:
    """Check that an operation has begun; what came of it is not known yet."""
    del result
    answer(raw)
    nothing: Any = None
    return nothing  # type: ignore[no-any-return]  # the value is that of the overlap
