"""The base of every driver: directives in, values and samples out."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, overload

from attrs import evolve

from transports import (
    BusProfile,
    DeviceModel,
    Exchange,
    Framing,
    Hosting,
    SerialSettings,
    current_clock,
)

from .bus import Bus
from .command import Moves, Outcome, Plan, Priority, Readback
from .errors import DeviceError, RefusedError
from .events import MemoryWorn
from .faults import Cause, Fault
from .member import Identity, Script
from .operation import Overlap
from .parameter import Action, Assignment, Parameter, Reading, Setting, with_instance
from .polling import Polls
from .sample import Sample
from .ticket import Ticket
from .validation import Limits, Requirement, check
from .wear import Wear

T = TypeVar("T")

Directive: TypeAlias = Parameter[T] | Assignment[T] | Action
"""What an instrument can be told: to read, to write, or to act."""


class ModelFactory(Protocol):
    """Makes a device model with its usual numbers; a model's class is one."""

    def __call__(self) -> DeviceModel:
        """Make one."""
        ...


class Instrument(ABC):
    """One instrument on a bus. A driver derives from it and declares what there is.

    Class attributes a driver sets:
        protocol: The family's name, as in samples.
        framing: How its replies are told apart on the line.
        default_unit: The unit id it has from the factory, where its bus is shared.
        safe_state: What drives it safe, in this order.
        model: Makes the device model that stands in for it in a simulation.
        profiles: The numbers of its bus by the address's scheme, where the usual ones do
            not suit it.
        serial_settings: How its serial port is set up, where the address does not say.
        hosting: The library that talks to it, where one is hosted; see `transports.Hosting`.
        wearing: The settings and actions that wear out the device's memory.
        scheme: The scheme of the only addresses it can be at, or None for any bus of bytes.
        parts: The drivers of its parts, by the last word of their names, where each is an
            instrument of its own; see `made_parts`.
        recognised_at: How a serial port is set up, the likeliest first, when it is asked
            whether one of these is on it; see `recognise`. A driver for which it is empty
            takes no part in looking for instruments.
        recognised_units: Which units are asked for beside the default one where several
            share a line.
        known_models: Fits the models that it is the right driver for, of all that the
            driver it derives from recognises; None where a model's name does not say.
    """

    protocol: ClassVar[str] = ""
    framing: ClassVar[Framing]
    default_unit: ClassVar[str | None] = None
    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = ()
    model: ClassVar[ModelFactory | None] = None
    profiles: ClassVar[Mapping[str, BusProfile]] = {}
    serial_settings: ClassVar[SerialSettings | None] = None
    hosting: ClassVar[Hosting[Any] | None] = None
    wearing: ClassVar[frozenset[str]] = frozenset()
    scheme: ClassVar[str | None] = None
    parts: ClassVar[Mapping[str, type[Instrument]]] = {}
    recognised_at: ClassVar[Sequence[SerialSettings]] = ()
    recognised_units: ClassVar[Sequence[str]] = ()
    known_models: ClassVar[re.Pattern[str] | None] = None

    parameters: ClassVar[Mapping[str, Parameter[Any]]] = {}
    """The driver's settings and readings by name, inherited ones included."""

    actions: ClassVar[Mapping[str, Action]] = {}
    """The driver's actions by name, inherited ones included."""

    _looked_at: ClassVar[Set[str]] = frozenset()
    """The readings that something requires."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declared settings and readings."""
        super().__init_subclass__(**kwargs)
        found: dict[str, Parameter[Any]] = {}
        actions: dict[str, Action] = {}
        for base in reversed(cls.__mro__):
            for name, each in vars(base).items():
                # `isinstance` would leave the type of the parameter's values unknown.
                if issubclass(type(each), Parameter):
                    found[name] = each
                elif issubclass(type(each), Action):
                    actions[name] = each
        cls.parameters = found
        cls.actions = actions
        requires = [each.requires for each in actions.values()]
        requires += [each.requires for each in found.values() if isinstance(each, Setting)]
        cls._looked_at = {
            needed.of.name for each in requires for needed in each if needed.within_s is not None
        }

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make an instrument on `bus`; the tree attaches it."""
        self.name = name
        self.bus = bus
        self.unit = unit if unit is not None else self.default_unit
        #: How long a reply may take, in seconds; None for what the driver says.
        self.timeout_s: float | None = None
        # Reads are planned once: polling asks the same thing for days.
        self._reads: dict[tuple[str, int], Plan[Any]] = {}
        self._safe: tuple[Plan[object], ...] | None = None
        self._wear = Wear()
        # What was read last of what something requires, and when, in monotonic ns.
        self._seen: dict[str, tuple[object, int]] = {}

    def __repr__(self) -> str:
        """Return the driver, the name and the bus."""
        return f"<{type(self).__name__} {self.name} on {self.bus.name}>"

    @property
    def group(self) -> str | None:
        """What it is a part of together with others of its bus, or None.

        A family whose modules are instruments of their own overrides it: they are tripped,
        driven safe and rearmed together.
        """
        return None

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a device model for a line with these units on it.

        A family whose units share a line overrides it.

        Raises:
            ValueError: The driver has no model, or its model stands for one unit only.
        """
        if cls.model is None:
            raise ValueError(f"{cls.__name__} has no device model to simulate it with")
        if len(units) != 1:
            raise ValueError(f"{cls.__name__}'s device model is alone on its line")
        return cls.model()

    @classmethod
    def unit_problem(cls, unit: str | None) -> str | None:
        """Return what is wrong with a unit id, and what would be right; None if nothing.

        A family whose units share a line overrides it.
        """
        del unit
        return None

    @classmethod
    def find_parameter(cls, text: str) -> Parameter[Any] | None:
        """Return the parameter that users call `text`, or None.

        A family whose parameters go by a number as well overrides it.
        """
        return cls.parameters.get(text)

    @classmethod
    def instances_of(cls, parameter: Parameter[Any]) -> int:
        """Return how many of a parameter there are: one for each loop or channel.

        A family with several overrides it.
        """
        del parameter
        return 1

    @property
    def wear(self) -> int:
        """How many writes that wear out the device's memory were answered."""
        return self._wear.count

    def made_parts(self) -> Sequence[Instrument]:
        """Return its parts, which the tree attaches with it. Each is named "its name.part".

        A driver with `parts` overrides it.
        """
        return ()

    # What a driver defines.

    @abstractmethod
    def encode(self, directive: Directive[T], instance: int = 1) -> Exchange:
        """Return the exchange that carries out `directive`.

        Args:
            directive: What to read, to write or to do.
            instance: Which loop or channel, from 1; one that `instances_of` knows.
        """

    @abstractmethod
    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply to a read, or None where it is unavailable.

        Raises:
            DeviceError: The reply is an error of the instrument.
            ValueError: The reply does not fit.
        """

    @abstractmethod
    def decode_written(self, directive: Directive[T], raw: bytes) -> None:
        """Check the reply to a write or an action.

        Raises:
            DeviceError: The instrument refused or failed.
            ValueError: The reply does not fit.
        """

    @abstractmethod
    def identify(self) -> Script[Identity]:
        """Ask who the instrument is; each exchange says what it accepts.

        A line that was just opened may still carry the answer to something asked before.
        """

    @abstractmethod
    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return a harmless query whose answer cannot be taken for one of those owed.

        None where there is no such query now; the line is drained then.
        """

    def recognise(self) -> Script[Identity]:
        """Ask an unknown device who it is, in the quickest way that is harmless to any other.

        What does not answer as asked is not one of these. By default that of `identify`; a
        driver whose `identify` takes long, or changes anything, overrides it.
        """
        return self.identify()

    def following(
        self, directive: Directive[Any], instance: int
    ) -> Callable[[bytes], Plan[Any] | None] | None:
        """Return what tells which step follows the first reply; see `Plan.then`.

        None where one exchange is all, as in most protocols. A driver overrides it to
        read back what it wrote, or to look at a status before a value.
        """
        del directive, instance
        return None

    def moved(
        self, assignment: Assignment[Any], held: Mapping[str, Any]
    ) -> Sequence[Assignment[Any]]:
        """Return what else is another value once the device has taken an assignment.

        `held` is what its settings were before, as far as they were set. A value of None says
        that it cannot be known; such a setting is not restored. By default nothing moves. A
        driver whose devices change a setting with another overrides it.
        """
        del assignment, held
        return ()

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return what reads the faults that the device has found by itself; None if nothing.

        A harmless read that changes nothing at the device. A driver that knows of status
        registers overrides it.
        """
        return None

    def overlap(self, directive: Assignment[Any] | Action) -> Overlap[None] | None:
        """Return how a command is followed that goes on after its exchange, or None.

        A family whose devices say when they are done overrides it.
        """
        del directive
        return None

    def limits_of(self, setting: Setting[T]) -> Limits[T]:
        """Return what values a setting takes.

        A driver whose devices say so themselves overrides it.
        """
        return setting.limits

    def unit_of(self, parameter: Parameter[Any]) -> str | None:
        """Return a parameter's physical unit.

        A driver whose devices say so themselves overrides it.
        """
        return parameter.unit

    def specialised(self) -> Instrument:
        """Return the driver that fits the device best, now that it is identified.

        A driver that stands for several kinds overrides it.
        """
        return self

    # What reads several values at once.

    def poll_plans(self) -> Sequence[Plan[Any]]:
        """Return what to send to read the instrument as a whole: all its readings.

        A driver whose devices answer several at once overrides it, and `polled`.
        """
        readings = [each for each in self.parameters.values() if isinstance(each, Reading)]
        return [self.read_plan(each) for each in readings]

    def polled(self, values: Sequence[Any]) -> Mapping[str, Any]:
        """Return by name the values that `poll_plans` gave."""
        readings = [each for each in self.parameters.values() if isinstance(each, Reading)]
        return {each.name: value for each, value in zip(readings, values, strict=True)}

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Polls:
        """Return the poll of its bus for `parameters`; `names` is ignored.

        Raises:
            ValueError: A parameter or an instance means nothing here.
        """
        del names
        return Polls([self], parameters, self.bus.events, instances=instances)

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read parameters once, in those of `instances` that there are; `names` is ignored.

        What cannot be read is reported as a `ReadFailed` event and left out.

        Raises:
            ValueError: A parameter or an instance means nothing here.
        """
        samples: list[Sample] = []
        for poll in self.partitions(parameters, names=names, instances=instances):
            await poll.poll(samples.append)
        return samples

    def statistics_plan(
        self, wanted: Sequence[str | int], *, averaging_ms: int = 1
    ) -> Plan[Mapping[str, float | None]]:
        """Return the request for statistics that the device averages over a time.

        Raises:
            RefusedError: The driver knows no such request, or it is wrong (validation).
        """
        del wanted, averaging_ms
        raise RefusedError(
            f"{type(self).__name__} takes no request for statistics",
            cause=Cause.VALIDATION,
            instrument=self.name,
            command="request",
        )

    # What its users call.

    @overload
    async def submit(
        self,
        directive: Reading[T] | Setting[T],
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[T | None]: ...
    @overload
    async def submit(
        self,
        directive: Assignment[Any] | Action,
        *,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[None]: ...
    async def submit(
        self,
        directive: Directive[Any],
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[Any]:
        """Check a directive, have it accepted, and return its ticket.

        `instance` is the loop or channel to read; an assignment names its own. Waits for
        room in the instrument's lane unless `wait` is False, never for the device. It is
        sent once the commands of `after`, of whatever instruments, have completed; it fails
        when one of them does. The
        caller's scope is the command's deadline. An emergency trips the instrument; one
        that can do harm needs its confirmation like any other.

        Raises:
            RefusedError: It was not accepted: the value or confirmation is wrong
                (validation), the instrument is away (breaker), tripped, full or stopped.
        """
        urgent = priority is Priority.EMERGENCY
        plan = self.plan(directive, instance=instance, confirm=confirm, whatever=urgent)
        return await self.bus.submit(self, plan, priority=priority, wait=wait, after=after)

    @overload
    async def ask(
        self,
        directive: Reading[T] | Setting[T],
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> T | None: ...
    @overload
    async def ask(
        self,
        directive: Assignment[Any] | Action,
        *,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> None: ...
    async def ask(
        self,
        directive: Directive[Any],
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """Carry out a directive and return its value.

        `instance` is the loop or channel to read; an assignment names its own. Cancelled
        before its turn, nothing is sent; after it, the reply is taken off the line and
        forgotten.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It was, and failed.
        """
        urgent = priority is Priority.EMERGENCY
        plan = self.plan(directive, instance=instance, confirm=confirm, whatever=urgent)
        return await self.ask_plan(plan, priority=priority)

    async def ask_plan(self, plan: Plan[T], *, priority: Priority = Priority.NORMAL) -> T:
        """Carry out a plan and return its value: for what a driver declares no directive for.

        Cancelling is as for `ask`.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It was, and failed.
        """
        ticket = await self.bus.submit(self, plan, priority=priority, watch_deadline=False)
        return await self.finish(ticket)

    async def finish(self, ticket: Ticket[T]) -> T:
        """Wait for a command and return what it gave; cancelling takes it back.

        Raises:
            CommandError: It failed.
        """
        try:
            outcome: Outcome[T] = await ticket.outcome()
        except BaseException:
            ticket.withdraw()
            raise
        if outcome.error is not None:
            raise outcome.error
        value: Any = outcome.value
        return value  # type: ignore[no-any-return]  # it is there: there was no error

    def plan(
        self,
        directive: Directive[Any],
        *,
        instance: int = 1,
        confirm: bool = False,
        whatever: bool = False,
    ) -> Plan[Any]:
        """Check a directive and return what to send for it.

        `instance` is the loop or channel to read; an assignment names its own. `whatever`
        is for emergencies and what drives the instrument safe: it needs nothing to hold.
        A refusal is taken down like one of the bus.

        Raises:
            RefusedError: The driver did not declare it, there is no such instance, the
                value or the confirmation is wrong, or what has to hold does not.
        """
        try:
            return self._plan(directive, instance, confirm=confirm, whatever=whatever)
        except RefusedError as refusal:
            self.bus.note_refused(refusal, writes=not isinstance(directive, Parameter))
            raise

    def _plan(
        self, directive: Directive[Any], instance: int, *, confirm: bool, whatever: bool
    ) -> Plan[Any]:
        if not _is_directive(directive):
            declared = f"{type(self).__name__}.{next(iter(self.parameters), 'voltage')}"
            raise RefusedError(
                f"{directive!r} is no directive; it takes what a driver declares, such as "
                f"{declared} to read it or {declared}.to(value) to write it",
                cause=Cause.VALIDATION,
                instrument=self.name,
                command="submit",
            )
        if not isinstance(directive, Parameter):
            self._check_elsewhere(directive, instance)
        match directive:
            case Parameter():
                self._check_own(directive)
                self._check_instance(directive, instance)
                return self.read_plan(directive, instance)
            case Assignment(setting, value, instance):
                self._check_own(setting)
                self._check_instance(setting, instance)
                target = with_instance(setting.name, instance)
                command = f"{target}.set"
                limits = self.limits_of(setting)
                value = limits.plain(value)
                directive = setting.to(value, instance=instance)
                check(limits, value, instrument=self.name, command=command, confirm=confirm)
                harmless = callable(limits.hazardous) and not limits.is_hazardous(value)
                requires = () if whatever or harmless else setting.requires
                self._check_requirements(requires, command, value)
                decode = self._decoder(directive, setting.name)
                return Plan(
                    name=command,
                    exchange=_expecting(self._written(directive, command, instance), decode),
                    decode=decode,
                    writes=True,
                    hazardous=limits.is_hazardous(value),
                    idempotent=setting.idempotent,
                    setting=target,
                    moves=self._moves(directive),
                    readback=Readback(
                        read=partial(self.read_plan, setting, instance),
                        wanted=value,
                        agrees=partial(limits.same, value),
                    ),
                    then=self.following(directive, instance),
                    overlap=self.overlap(directive),
                    retry=setting.retry,
                    unmet=self._still_unmet(requires, value),
                )
            case Action():
                self._check_own(directive)
                if directive.hazardous and confirm is not True:
                    raise RefusedError(
                        "it can do harm; pass confirm=True if it is meant",
                        cause=Cause.VALIDATION,
                        instrument=self.name,
                        command=directive.name,
                    )
                requires = () if whatever else directive.requires
                self._check_requirements(requires, directive.name)
                decode = self._decoder(directive, directive.name)
                return Plan(
                    name=directive.name,
                    exchange=_expecting(self._written(directive, directive.name), decode),
                    decode=decode,
                    writes=True,
                    hazardous=directive.hazardous,
                    idempotent=directive.idempotent,
                    then=self.following(directive, 1),
                    overlap=self.overlap(directive),
                    retry=directive.retry,
                    unmet=self._still_unmet(requires),
                )

    def _moves(self, assignment: Assignment[Any]) -> Moves | None:
        """Return what tells which intended settings an assignment moves; None where none."""
        # What moves may depend on what is held by then.
        overridden = type(self).moved is not Instrument.moved
        return partial(self._moved, assignment) if overridden else None

    def _moved(
        self, assignment: Assignment[Any], intended: Mapping[str, Plan[object]]
    ) -> Mapping[str, Plan[object] | None]:
        held = {
            name: plan.readback.wanted
            for name, plan in intended.items()
            if plan.readback is not None
        }
        moved: dict[str, Plan[object] | None] = {}
        for each in self.moved(assignment, held):
            name = with_instance(each.setting.name, each.instance)
            moved[name] = None
            if each.value is not None:
                exact = Assignment[Any](each.setting, self._at_limit(each), each.instance)
                with suppress(RefusedError):  # what the driver would refuse is not restored
                    moved[name] = self._plan(exact, 1, confirm=True, whatever=True)
        return moved

    def _at_limit(self, assignment: Assignment[Any]) -> object:
        """Return a value, or the limit that it is but for rounding: it must not pass that."""
        value, limits = assignment.value, self.limits_of(assignment.setting)
        for limit in (limits.low, limits.high):
            if isinstance(value, float) and isinstance(limit, float | int):
                value = float(limit) if math.isclose(value, limit, rel_tol=1e-9) else value
        return value

    def _written(
        self, directive: Assignment[Any] | Action, command: str, instance: int = 1
    ) -> Exchange:
        """Return the exchange of a write; refuse a value that its protocol cannot say."""
        try:
            return self.encode(directive, instance)
        except ValueError as error:
            raise RefusedError(
                str(error), cause=Cause.VALIDATION, instrument=self.name, command=command
            ) from error

    def _decoder(self, directive: Assignment[Any] | Action, name: str) -> Callable[[bytes], None]:
        """Return what checks the reply to a write."""
        if name in self.wearing:
            return partial(self._decode_wearing, directive, name)
        return partial(self.decode_written, directive)

    def _decode_wearing(self, directive: Assignment[Any] | Action, name: str, raw: bytes) -> None:
        try:
            self.decode_written(directive, raw)
        finally:
            # Refused or not: whether the device stored it cannot be known.
            self.note_wear(name)

    def note_wear(self, name: str) -> None:
        """Count a write that wears out the device's memory.

        For a driver whose writes take several steps: it is done where one step is all.
        """
        recent = self._wear.note(current_clock().mono_ns())
        if recent is not None:
            self.bus.events.publish(
                MemoryWorn(instrument=self.name, command=name, writes=self.wear, last_minute=recent)
            )

    def _check_own(self, declared: Parameter[Any] | Action) -> None:
        """Refuse what was declared for another driver: its header means nothing here."""
        known = self.actions if isinstance(declared, Action) else self.parameters
        if known.get(declared.name) is not declared:
            raise RefusedError(
                f"{declared!r} is not declared by {type(self).__name__}; "
                f"it takes {', '.join(known) or 'none'}",
                cause=Cause.VALIDATION,
                instrument=self.name,
                command=declared.name,
            )

    def _check_instance(self, parameter: Parameter[Any], instance: int) -> None:
        count = self.instances_of(parameter)
        if not _is_whole(instance) or not 1 <= instance <= count:
            raise RefusedError(
                f"there is no instance {instance!r} of it; there "
                + ("is only 1" if count == 1 else f"are 1 to {count}"),
                cause=Cause.VALIDATION,
                instrument=self.name,
                command=parameter.name,
            )

    def _check_elsewhere(self, directive: Assignment[Any] | Action, instance: int) -> None:
        """Refuse an instance beside a directive that does not mean it: another would be written."""
        name, own, right = "", 1, "an action has none"
        match directive:
            case Assignment(setting, _, own):
                name = setting.name
                right = f"an assignment names its own: {name}.to(value, instance={instance!r})"
            case Action():
                name = directive.name
        if instance not in (1, own):
            raise RefusedError(
                f"instance {instance!r} is for what is read; {right}",
                cause=Cause.VALIDATION,
                instrument=self.name,
                command=name,
            )

    def read_plan(self, parameter: Parameter[T], instance: int = 1) -> Plan[T | None]:
        """Return what to send to read a parameter; the same object each time."""
        key = parameter.name, instance
        plan = self._reads.get(key)
        if plan is None:
            decode = partial(self.decode, parameter)
            if parameter.name in self._looked_at and instance == 1:
                decode = partial(self._decode_seen, parameter)
            plan = self._reads[key] = Plan(
                name=with_instance(*key),
                exchange=_expecting(self.encode(parameter, instance), decode),
                decode=decode,
                then=self.following(parameter, instance),
                retry=parameter.retry,
            )
        return plan

    def _decode_seen(self, parameter: Parameter[T], raw: bytes) -> T | None:
        value = self.decode(parameter, raw)
        self._seen[parameter.name] = value, current_clock().mono_ns()
        return value

    def _check_requirements(
        self, requires: Sequence[Requirement], command: str, value: object = None
    ) -> None:
        """Refuse what needs something to hold that does not, as far as is known."""
        unmet = self._unmet(requires, value, begun=False)
        if unmet is not None:
            raise RefusedError(unmet, cause=Cause.DEPENDENCY, instrument=self.name, command=command)

    def _still_unmet(
        self, requires: Sequence[Requirement], value: object = None
    ) -> Callable[[], str | None] | None:
        return partial(self._unmet, requires, value, begun=True) if requires else None

    def _unmet(self, requires: Sequence[Requirement], value: object, *, begun: bool) -> str | None:
        for needed in requires:
            found = self._lacks(needed, begun=begun)
            if found is not None:
                given = "" if value is None else f" {value!r}"
                return f"before{given} {needed.of.name} must {needed.text}; {found}"
        return None

    def _lacks(self, needed: Requirement, *, begun: bool) -> str | None:
        """Return what is known of what is required, where that will not do.

        What was read in time when the command was accepted may be older once it has `begun`.
        """
        name = needed.of.name
        if needed.within_s is None:
            plan = self.bus.intended(self.name).get(name)
            if plan is None or plan.readback is None:
                return "it was not set since it was connected"
            held = plan.readback.wanted
            return None if needed.accepts(held) else f"it was last set to {held!r}"
        value, at_ns = self._seen.get(name, (None, 0))
        age_s = (current_clock().mono_ns() - at_ns) / 1e9
        if name not in self._seen or (age_s > needed.within_s and not begun):
            return f"it was not read within the last {needed.within_s:g} s"
        if value is None:
            return "it was unavailable when last read"
        return None if needed.accepts(value) else f"it was {value!r} when last read"

    def safe_plans(self) -> Sequence[Plan[object]]:
        """Return what drives the instrument safe."""
        if self._safe is None:
            self._safe = self.made_safe_plans()
        return self._safe

    def made_safe_plans(self) -> tuple[Plan[object], ...]:
        """Return what drives the instrument safe, as it is planned now."""
        return tuple(self._plan(each, 1, confirm=True, whatever=True) for each in self.safe_state)


# What a type checker tells is told here to who has none.


def _is_directive(given: object) -> bool:
    return isinstance(given, (Parameter, Assignment, Action))


def _is_whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _expecting(exchange: Exchange, decode: Callable[[bytes], object]) -> Exchange:
    """Have the line know what fits, where the driver does not say.

    A reply that does not fit may answer an earlier question: the line must get into step.
    """
    if exchange.accepts is not None or exchange.reply_within_s is None:
        return exchange
    return evolve(exchange, accepts=partial(_fits, decode))


def _fits(decode: Callable[[bytes], object], raw: bytes) -> bool:
    try:
        decode(raw)
    except DeviceError:
        return True
    except ValueError:
        return False
    return True
