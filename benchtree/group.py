"""Many instruments asked at once: a view on a tree.

Rules:
1. Everybody is asked, whoever fails; a result is a value or an error.
2. Ports are asked at once, a port's instruments in turn: their bus sees to that.
3. What the group was given stays its giver's; what it opened it closes.
4. Nobody is taken out while a call of the group is with it.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary, WeakSet

import trio
from attrs import define, field

from actors import (
    Action,
    Assignment,
    Bus,
    Cause,
    CommandError,
    Instrument,
    Parameter,
    Plan,
    Polls,
    Reading,
    RefusedError,
    Sample,
    Setting,
    Ticket,
    describe,
)
from transports import SerialSettings, parse_address

from .member import (
    Host,
    Member,
    Owned,
    Source,
    attach,
    check,
    effective_settings,
    engaged,
    events_of,
    plug_in,
    status,
    take_out,
    with_settings,
)
from .results import (
    DeviceAdded,
    DeviceCloseFailed,
    DeviceResult,
    ErrorPolicy,
    FleetClosedError,
    FleetError,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D", bound=Instrument)
E = TypeVar("E", bound=Exception)
B = TypeVar("B", bound=BaseException)


@define(eq=False)
class _Asked:
    """What one instrument was asked in one call."""

    member: Member
    finish: Callable[[Sequence[Any]], Any]
    tickets: list[Ticket[Any]] = field(factory=list[Ticket[Any]])
    refused: RefusedError | None = None
    result: DeviceResult[Any] = field(factory=DeviceResult[Any])


Planner: TypeAlias = Callable[[Instrument], Sequence[Plan[Any]]]


class DeviceGroup:
    """Instruments asked together. `Tree.fleet` makes one; `Fleet` is one with its own tree."""

    def __init__(
        self,
        host: Host | None,
        instruments: Iterable[Instrument] = (),
        *,
        error_policy: ErrorPolicy = ErrorPolicy.RAISE,
    ) -> None:
        """Look at `instruments` of a tree; None as the tree for one that comes later."""
        self._host: Host | None = host
        self._error_policy: Final = error_policy
        self._members = {each.name: Member(each.name, each, Owned.BY_GIVER) for each in instruments}
        self._adding: set[str] = set()
        self._closed = False
        self._settings: WeakKeyDictionary[Bus, SerialSettings] = WeakKeyDictionary()
        self._polls: WeakSet[Polls] = WeakSet()

    def __repr__(self) -> str:
        """Return how many there are, the policy, and whether it is closed."""
        condition = " closed" if self._closed else ""
        return f"<{type(self).__name__} {len(self)} {self._error_policy.name}{condition}>"

    # Looking at it.

    @property
    def error_policy(self) -> ErrorPolicy:
        """What becomes of errors."""
        return self._error_policy

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of their addition."""
        return tuple(self._members)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __len__(self) -> int:
        """Return how many instruments there are."""
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        """Return whether there is an instrument of that name."""
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    @overload
    def get(self, name: str) -> Instrument: ...
    @overload
    def get(self, name: str, driver: type[D]) -> D: ...
    def get(self, name: str, driver: type[Instrument] = Instrument) -> Instrument:
        """Return an instrument by name, as the driver it is.

        Raises:
            KeyError: There is none of that name.
            TypeError: It has another driver.
        """
        found = self._find(name).instrument
        if not isinstance(found, driver):
            raise TypeError(f"{name} is a {type(found).__name__}, not a {driver.__name__}")
        return found

    # Changing it.

    async def add(
        self,
        name: str,
        source: Source,
        *,
        driver: str | type[Instrument] = "alicat",
        unit_id: str | None = None,
        serial: SerialSettings | None = None,
        timeout_s: float = 0.5,
    ) -> Instrument:
        """Identify an instrument and return it, as the driver that fits it.

        Whatever is given other than an address is never closed. Failing or cancelled,
        nothing is left behind.

        Args:
            name: What it is called here and in its errors.
            source: Where it is: an address, which this opens and owns; an opened transport;
                a bus; or an instrument that is ready.
            driver: Its driver, or the driver's name.
            unit_id: Its address on a shared bus; None for the driver's usual one.
            serial: How the serial port is set up; None for what the address or driver says.
            timeout_s: How long a reply may take, in seconds.

        Raises:
            AddressError: The address cannot be understood.
            CommandError: It cannot be reached, or is not what the driver is for.
            FleetClosedError: The fleet is closed.
            PortOwnedError: Another tree has the port.
            TypeError: `source` or `driver` is none of these.
            UnknownDriverError: No driver has that name.
            ValueError: The name or the unit is taken, a ready instrument is recorded under
                the name of another, or the arguments do not go together.
        """
        host = self._open_host()
        if name in self._members or name in self._adding:
            raise ValueError(f"an instrument named {name} exists already")
        if not timeout_s > 0.0:
            raise ValueError(f"timeout_s is {timeout_s}; it must be more than 0")
        if serial is not None and not isinstance(source, str):
            raise ValueError(f"{name}: serial= is for ports that are opened here")
        chosen = check(name, source, driver)
        self._check_series(name, source)
        self._adding.add(name)
        try:
            if isinstance(source, Instrument):
                if unit_id is not None:
                    raise ValueError(f"{name}: an instrument that is ready has its unit id")
                await trio.lowlevel.checkpoint()
                member = Member(name, source, Owned.BY_GIVER)
            elif isinstance(source, Bus):
                member = await attach(name, chosen, source, unit_id, timeout_s)
            else:
                where = source
                if isinstance(source, str):
                    where = await self._prepare(name, host, source, serial)
                member = await plug_in(name, host, chosen, where, unit_id, timeout_s)
            try:
                self._open_host()
            except FleetClosedError:
                with trio.CancelScope(shield=True):
                    await take_out(member, self._host)
                raise
        finally:
            self._adding.discard(name)
        self._members[name] = member
        if source_settings := effective_settings(chosen, source, serial):
            self._settings.setdefault(member.instrument.bus, source_settings)
        for polls in self._polls:
            polls.add(member.instrument)
        identity = status(member.instrument)[1]
        host.events.publish(
            DeviceAdded(
                name=name,
                port=member.instrument.bus.key,
                model=None if identity is None else identity.model,
                firmware=None if identity is None else identity.firmware,
            )
        )
        return member.instrument

    async def remove(self, name: str) -> None:
        """Take an instrument out: safe, off its bus, and the bus closed after the last one.

        What was added here is driven safe and taken off its bus; one that was given is
        only looked at no more. Calls that are with it are waited for.

        Raises:
            FleetClosedError: The fleet is closed.
            KeyError: There is none of that name.
        """
        self._open_host()
        member = self._find(name)
        # Gone for new calls and recordings from this step on.
        self._forget(member)
        while member.calls:
            member.idle = member.idle or trio.Event()
            try:
                await member.idle.wait()
            except trio.Cancelled:
                self._members[name] = member
                raise
        with trio.CancelScope(shield=True):
            await take_out(member, self._host)
        await trio.lowlevel.checkpoint_if_cancelled()

    async def aclose(self) -> None:
        """Take all out, the last added first; one that fails is reported and strands nobody.

        Closing twice is harmless; cancellation still closes.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        with trio.CancelScope(shield=True):
            for member in reversed(list(self._members.values())):
                self._forget(member)
                try:
                    await take_out(member, self._host)
                except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                    events_of(member, self._host).publish(
                        DeviceCloseFailed(
                            name=member.name,
                            port=member.instrument.bus.key,
                            error=describe(error),
                        )
                    )

    # Asking it.

    async def poll(
        self, names: Sequence[str] | None = None
    ) -> Mapping[str, DeviceResult[Mapping[str, Any]]]:
        """Read all instruments as a whole, or those named; each value is a mapping.

        Raises:
            FleetClosedError: The fleet is closed.
            FleetError: Some failed, and the policy is RAISE.
            KeyError: There is none of one of the names.
        """
        asked = [(member, _poll_plans, member.instrument.polled) for member in self._chosen(names)]
        return await self._ask(asked, "poll")

    async def request(
        self,
        statistics: Sequence[str | int],
        names: Sequence[str] | None = None,
        *,
        averaging_ms: int = 1,
    ) -> Mapping[str, DeviceResult[Mapping[str, float | None]]]:
        """Read statistics that the instruments average over a time.

        Args:
            statistics: Which, by the driver's enumeration or by name.
            names: The instruments; None for all.
            averaging_ms: The time, in milliseconds.

        Raises:
            FleetClosedError: The fleet is closed.
            FleetError: Some failed, and the policy is RAISE.
            KeyError: There is none of one of the names.
        """
        wanted = (statistics,) if isinstance(statistics, (str, int)) else tuple(statistics)

        def plan(instrument: Instrument) -> Sequence[Plan[Any]]:
            return [instrument.statistics_plan(wanted, averaging_ms=averaging_ms)]

        return await self._ask([(each, plan, _only) for each in self._chosen(names)], "request")

    @overload
    async def execute(
        self, action: Setting[T], requests_by_name: Mapping[str, T], *, confirm: bool = False
    ) -> Mapping[str, DeviceResult[T]]: ...
    @overload
    async def execute(
        self, action: Reading[T], requests_by_name: Mapping[str, None], *, confirm: bool = False
    ) -> Mapping[str, DeviceResult[T]]: ...
    @overload
    async def execute(
        self, action: Action, requests_by_name: Mapping[str, None], *, confirm: bool = False
    ) -> Mapping[str, DeviceResult[bool]]: ...
    async def execute(
        self,
        action: Setting[Any] | Reading[Any] | Action,
        requests_by_name: Mapping[str, Any],
        *,
        confirm: bool = False,
    ) -> Mapping[str, DeviceResult[Any]]:
        """Carry out one declared thing on several instruments, each with its own argument.

        A setting is given each value, and the result is that value once the instrument has
        taken it. A reading and an action take None; an action results in True.

        Args:
            action: What to do, as a driver declares it: `FlowController.setpoint`.
            requests_by_name: The arguments by instrument.
            confirm: That what can do harm is meant.

        Raises:
            FleetClosedError: The fleet is closed.
            FleetError: Some failed, and the policy is RAISE.
            KeyError: There is none of one of the names.
            TypeError: `action` is none of what a driver declares.
        """
        _check_declared(action)
        asked: list[tuple[Member, Planner, Callable[[Sequence[Any]], Any]]] = []
        for member in self._chosen(tuple(requests_by_name)):
            argument = requests_by_name[member.name]
            plan = partial(_plan_one, action=action, argument=argument, confirm=confirm)
            match action:
                case Setting():
                    asked.append((member, plan, partial(_constant, argument)))
                case Action():
                    asked.append((member, plan, partial(_constant, True)))
                case Reading():
                    asked.append((member, plan, _only))
        return await self._ask(asked, action.name)

    # Recording it.

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Polls:
        """Return one source per bus for `parameters`; see `recorder.Partitioned`.

        Raises:
            FleetClosedError: The fleet is closed.
            KeyError: There is none of one of the names.
            ValueError: A parameter means nothing here.
        """
        host = self._open_host()
        chosen = None if names is None else [each.instrument.name for each in self._chosen(names)]
        members = [each.instrument for each in self._members.values()]
        made = Polls(members, parameters, host.events, names=chosen, instances=instances)
        self._polls.add(made)
        return made

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read parameters of all instruments that have them, all buses at once.

        What cannot be read is reported as a `ReadFailed` event and left out.

        Raises:
            FleetClosedError: The fleet is closed.
            KeyError: There is none of one of the names.
            ValueError: A parameter means nothing here.
        """
        samples: list[Sample] = []
        polls = self.partitions(parameters, names=names, instances=instances)
        async with trio.open_nursery() as nursery:
            for poll in polls:
                nursery.start_soon(poll.poll, samples.append)
        return samples

    # How asking works.

    async def _ask(
        self,
        wanted: Sequence[tuple[Member, Planner, Callable[[Sequence[Any]], Any]]],
        what: str,
    ) -> Mapping[str, DeviceResult[Any]]:
        # One task is enough: the buses work at once, each in a task of its own.
        asked = [_Asked(member, finish) for member, _, finish in wanted]
        with engaged([each.member for each in asked]):
            try:
                for each, (member, planner, _) in zip(asked, wanted, strict=True):
                    await _submit(each, member.instrument, planner)
                # Whoever was asked last answers last: waiting for that one first wakes this
                # task once, not once for each.
                for each in reversed(asked):
                    each.result = await _gather(each)
            finally:
                for each in asked:
                    for ticket in each.tickets:
                        if not ticket.state.final:
                            ticket.withdraw()
        results = {each.member.name: each.result for each in asked}
        errors = [each.error for each in results.values() if each.error is not None]
        if errors and self._error_policy is ErrorPolicy.RAISE:
            message = f"{what}: {len(errors)} of {len(results)} instruments failed"
            raise FleetError(message, errors, results)
        return results

    def _chosen(self, names: Sequence[str] | None) -> Sequence[Member]:
        self._open_host()
        if names is None:
            return tuple(self._members.values())
        given = (names,) if isinstance(names, str) else names
        return [self._find(name) for name in dict.fromkeys(given)]

    def _find(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members) or "none"
            raise KeyError(f"no instrument is named {name!r}; there are: {known}") from None

    def _open_host(self) -> Host:
        if self._closed:
            raise FleetClosedError("the fleet is closed")
        if self._host is None:
            raise FleetClosedError("the fleet is not open; enter it with `async with`")
        return self._host

    # How coming and going works.

    def _check_series(self, name: str, source: Source) -> None:
        """Refuse a second instrument of one name, whose samples could not be told apart."""
        own_name = source.name if isinstance(source, Instrument) else name
        for each in self._members.values():
            if each.instrument.name == own_name and each.instrument is not source:
                raise ValueError(f"{name}: {each.name} is recorded as {own_name} already")

    async def _prepare(
        self,
        name: str,
        host: Host,
        address: str,
        serial: SerialSettings | None,
    ) -> str:
        """Return the address with its settings, once they agree with the port's."""
        if serial is None:
            return address
        parsed = parse_address(address)
        if parsed.scheme != "serial" or "?" in address:
            raise ValueError(f"{name}: serial= is for serial ports whose address has no settings")
        bus = await host.find_bus(address)
        known = None if bus is None else self._settings.get(bus)
        if known is not None and known != serial:
            raise ValueError(f"{name}: {address} is open with other settings: {known}")
        return with_settings(parsed.path, serial)

    def _forget(self, member: Member) -> None:
        del self._members[member.name]
        for polls in self._polls:
            polls.remove(member.instrument.name)


async def _submit(asked: _Asked, instrument: Instrument, planner: Planner) -> None:
    """Have one instrument accept what it is asked; what it refuses is its result."""
    try:
        for plan in planner(instrument):
            # Nobody waits for room in one lane while others could be asked, nor for one
            # instrument to be read again while the others have answered.
            ticket = await instrument.bus.submit(
                instrument, plan, wait=False, watch_deadline=False, once=not plan.writes
            )
            asked.tickets.append(ticket)
    except RefusedError as refusal:
        asked.refused = refusal


async def _gather(asked: _Asked) -> DeviceResult[Any]:
    error: CommandError | None = asked.refused
    values: list[Any] = []
    for ticket in asked.tickets:
        outcome = await ticket.outcome()
        values.append(outcome.value)
        error = error or outcome.error
    return DeviceResult(error=error) if error else DeviceResult(value=asked.finish(values))


def _check_declared(action: object) -> None:
    if not isinstance(action, (Setting, Reading, Action)):
        raise TypeError(
            f"{action!r} is no setting, reading or action; pass one as its driver declares it, "
            "such as FlowController.setpoint"
        )


def _poll_plans(instrument: Instrument) -> Sequence[Plan[Any]]:
    return instrument.poll_plans()


def _plan_one(
    instrument: Instrument,
    *,
    action: Setting[Any] | Reading[Any] | Action,
    argument: Any,
    confirm: bool,
) -> Sequence[Plan[Any]]:
    directive: Parameter[Any] | Assignment[Any] | Action = action
    if isinstance(action, Setting):
        directive = action.to(argument)
    elif argument is not None:
        refusal = RefusedError(
            f"it takes no argument, {argument!r} was given",
            cause=Cause.VALIDATION,
            instrument=instrument.name,
            command=action.name,
        )
        instrument.bus.note_refused(refusal, writes=isinstance(action, Action))
        raise refusal
    return [instrument.plan(directive, confirm=confirm)]


def _only(values: Sequence[Any]) -> Any:
    return values[0]


def _constant(value: Any, values: Sequence[Any]) -> Any:
    del values
    return value
