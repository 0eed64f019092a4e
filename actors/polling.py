"""Reading many parameters at once: periodic polls for recorders and views."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, ClassVar, Protocol, overload

import trio
from attrs import define, evolve

from transports import Reply, current_clock

from .bus import Bus
from .command import LOW, Outcome, Plan
from .errors import DeviceError, RefusedError
from .events import (
    BusLost,
    Event,
    Events,
    InstrumentIdentified,
    InstrumentQuarantined,
    ReadFailed,
)
from .faults import Cause
from .member import Device, Service
from .parameter import Parameter
from .sample import Sample, SampleKey, Value
from .ticket import Ticket


class Readable(Device, Protocol):
    """An instrument, as far as polls need to know it; `Instrument` says what each means."""

    bus: Bus
    protocol: ClassVar[str]
    parameters: ClassVar[Mapping[str, Parameter[Any]]]

    @classmethod
    def find_parameter(cls, text: str) -> Parameter[Any] | None:
        """Return the parameter that users call `text`, or None."""
        ...

    @classmethod
    def instances_of(cls, parameter: Parameter[Any]) -> int:
        """Return how many of a parameter there are."""
        ...

    def read_plan(self, parameter: Parameter[Any], instance: int = 1) -> Plan[Any]:
        """Return what to send to read a parameter."""
        ...

    def unit_of(self, parameter: Parameter[Any]) -> str | None:
        """Return a parameter's physical unit."""
        ...


@define(eq=False)
class _Group:
    """Readings that one exchange answers.

    Attributes:
        instrument: Whose they are.
        plan: What is sent for them.
        wanted: Each reading, and how it is decoded.
    """

    instrument: Readable
    plan: Plan[Any]
    wanted: list[tuple[SampleKey, Plan[Any]]]


def _undecoded(raw: bytes) -> bytes:
    return raw


class BusPoll:
    """The readings to take from the instruments of one bus, once per slot.

    Polls are of low priority, are never retried, and do not wait for room: what cannot
    be read now is missing.
    """

    def __init__(self, bus: Bus, events: Events) -> None:
        """Start without readings."""
        self.bus = bus
        self._events = events
        self._wanted: dict[SampleKey, tuple[Readable, Parameter[Any]]] = {}
        self._keys: Sequence[SampleKey] = ()
        # What was sent last, made of these plans.
        self._groups: Collection[_Group] = ()
        self._plans: Sequence[Plan[Any]] = ()

    def __repr__(self) -> str:
        """Return the bus and how many readings are taken."""
        return f"<BusPoll {self.bus.name} {len(self._wanted)} readings>"

    @property
    def name(self) -> str:
        """The bus's name."""
        return self.bus.name

    @property
    def keys(self) -> Sequence[SampleKey]:
        """What one poll is expected to deliver."""
        return self._keys

    @property
    def devices(self) -> tuple[str, ...]:
        """The instruments that are read."""
        return tuple(dict.fromkeys(key.device for key in self._keys))

    def add(self, instrument: Readable, parameter: str, instance: int = 1) -> None:
        """Read a parameter from now on, of one loop or channel.

        Raises:
            ValueError: The driver has no such parameter, or not that many of it.
        """
        declared = instrument.find_parameter(parameter)
        if declared is None:
            known = ", ".join(instrument.parameters) or "none"
            raise ValueError(f"{instrument.name}: no parameter {parameter}; there are: {known}")
        key = SampleKey(instrument.name, declared.name, instance)
        if not 1 <= instance <= instrument.instances_of(declared):
            raise ValueError(f"there is no {key}")
        self._wanted[key] = instrument, declared
        self._note_wanted()

    def remove(self, instrument: str) -> None:
        """Read nothing more from an instrument."""
        self._wanted = {key: each for key, each in self._wanted.items() if key.device != instrument}
        self._note_wanted()

    @contextmanager
    def watch(
        self,
        lost: Callable[[Sequence[str], str], None],
        back: Callable[[Sequence[str]], None],
    ) -> Generator[None]:
        """Report, for the block's length, which instruments were lost, why, and which came back.

        One is lost when its bus is, or when it is quarantined, and back once identified.
        """
        away = {
            each.name
            for each in self.bus.status().instruments
            if each.service is not Service.IN_SERVICE
        }

        def observe(event: Event) -> None:
            match event:
                case BusLost(bus=self.name, reason=reason):
                    gone = [name for name in self.devices if name not in away]
                case InstrumentQuarantined(instrument=name, reason=reason):
                    gone = [name] if name in self.devices and name not in away else []
                case InstrumentIdentified(instrument=name) if name in away:
                    away.discard(name)
                    if name in self.devices:
                        back([name])
                    return
                case _:
                    return
            if gone:
                away.update(gone)
                lost(gone, reason)

        with self._events.observed(observe):
            yield

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Read everything once and hand over each sample as it arrives.

        Cancelling takes back what was not yet sent.
        """
        tickets: list[tuple[_Group, Ticket[Any]]] = []
        caller = trio.lowlevel.current_task().name
        deadline_s = trio.current_effective_deadline()
        try:
            for group in self._grouped():
                try:
                    ticket = await self.bus.submit(
                        group.instrument,
                        group.plan,
                        priority=LOW,
                        wait=False,
                        watch_deadline=False,
                        once=True,
                        caller=caller,
                        deadline_s=deadline_s,
                    )
                except RefusedError as refusal:
                    for key, _ in group.wanted:
                        self._note(key, refusal.cause, str(refusal))
                else:
                    tickets.append((group, ticket))
            for group, ticket in tickets:
                self._hand_over(group, await ticket.outcome(), deliver)
        finally:
            for _, ticket in tickets:
                if not ticket.state.final:
                    ticket.withdraw()

    def _note_wanted(self) -> None:
        self._keys = tuple(self._wanted)
        self._groups = self._plans = ()

    def _grouped(self) -> Iterable[_Group]:
        """Return what to send: readings that one exchange answers share it."""
        # A driver may plan anew once it has identified its device; it hardly ever does.
        plans = [
            instrument.read_plan(declared, key.instance)
            for key, (instrument, declared) in self._wanted.items()
        ]
        if len(plans) != len(self._plans) or not all(map(is_, plans, self._plans)):
            self._groups, self._plans = self._group(plans), plans
        return self._groups

    def _group(self, plans: Sequence[Plan[Any]]) -> Collection[_Group]:
        groups: dict[int, _Group] = {}
        for (key, (instrument, _)), plan in zip(self._wanted.items(), plans, strict=True):
            # What takes several steps shares none of them.
            same = id(plan.exchange) if plan.then is None else id(plan)
            group = groups.get(same)
            if group is None:
                groups[same] = _Group(instrument, plan, [(key, plan)])
            else:
                group.wanted.append((key, plan))
                # Whether one value can be read must not decide about the others.
                group.plan = evolve(group.plan, decode=_undecoded)
        return groups.values()

    def _hand_over(
        self, group: _Group, outcome: Outcome[Any], deliver: Callable[[Sample], None]
    ) -> None:
        if outcome.error is not None:
            for key, _ in group.wanted:
                self._note(key, outcome.error.cause, str(outcome.error))
            return
        reply = outcome.reply
        if reply is None:
            raise ValueError(f"{group.plan.name}: the read did not complete")
        clock = current_clock()
        # The wall clock now, less what has passed since the reply.
        received_utc_ns = clock.utc_ns() - (clock.mono_ns() - reply.received_ns)
        for key, plan in group.wanted:
            try:
                value = outcome.value if len(group.wanted) == 1 else plan.decode(reply.data)
            except DeviceError as error:
                self._note(key, Cause.DEVICE, str(error))
            except ValueError as error:
                self._note(key, Cause.TRANSPORT, f"the reply does not fit: {error}")
            else:
                deliver(_sample_of(group.instrument, key, value, reply, received_utc_ns))

    def _note(self, key: SampleKey, cause: Cause, error: str) -> None:
        self._events.publish(
            ReadFailed(instrument=key.device, parameter=key.parameter, cause=cause, error=error)
        )


def _sample_of(
    instrument: Readable, key: SampleKey, value: Value, reply: Reply, received_utc_ns: int
) -> Sample:
    declared = instrument.parameters[key.parameter]
    return Sample(
        device=key.device,
        address=instrument.unit if instrument.unit is not None else instrument.bus.key,
        protocol=instrument.protocol,
        parameter=key.parameter,
        parameter_id=declared.header,
        instance=key.instance,
        value=value,
        unit=instrument.unit_of(declared),
        requested_ns=reply.sent_ns,
        received_ns=reply.received_ns,
        received_utc_ns=received_utc_ns,
        raw=reply.data,
    )


class Polls(Sequence[BusPoll]):
    """One poll per bus for some parameters; instruments may come and go.

    Attributes:
        revision: How often a bus has joined or left.
    """

    def __init__(
        self,
        instruments: Iterable[Readable],
        parameters: Sequence[str],
        events: Events,
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> None:
        """Read `parameters` of these instruments.

        Args:
            instruments: Those that are there already.
            parameters: A plain name means every instrument that has it, `instrument.name`
                that one.
            events: Where failed reads are told.
            names: The instruments to read, now and later; None for all.
            instances: Each parameter is read in those of these that its instrument has.

        Raises:
            ValueError: A parameter names nothing that exists in any of `instances`, or there
                is nothing to read in one of them.
        """
        self._parameters = tuple(parameters)
        self._names = None if names is None else frozenset(names)
        self._instances = tuple(instances)
        self._events = events
        self.revision = 0
        self._polls: list[BusPoll] = []
        known = tuple(instruments)
        for instrument in known:
            self.add(instrument)
        chosen = [each for each in known if self._means(each)]
        for parameter in self._parameters:
            having = [count for each in chosen if (count := _count(each, parameter))]
            if not having:
                raise ValueError(f"no instrument has {parameter}")
            if all(instance > max(having) for instance in self._instances):
                raise ValueError(_too_few(parameter, max(having)))
        read = {key.instance for poll in self._polls for key in poll.keys}
        for instance in self._instances:
            if instance not in read:
                raise ValueError(f"nothing that is to be read has an instance {instance}")

    def __len__(self) -> int:
        """Return how many buses there are."""
        return len(self._polls)

    @overload
    def __getitem__(self, index: int) -> BusPoll: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[BusPoll]: ...

    def __getitem__(self, index: int | slice) -> BusPoll | Sequence[BusPoll]:
        """Return one bus's poll, or several."""
        return self._polls[index]

    def __iter__(self) -> Iterator[BusPoll]:
        """Iterate over the polls, in the order in which the buses came."""
        return iter(self._polls)

    def add(self, instrument: Readable) -> None:
        """Read from now on what the parameters mean of an instrument."""
        if not self._means(instrument):
            return
        for parameter in self._parameters:
            for instance in self._instances:
                if instance <= _count(instrument, parameter):
                    name = parameter.rpartition(".")[2]
                    self._of(instrument.bus).add(instrument, name, instance)

    def remove(self, instrument: str) -> None:
        """Read nothing more from an instrument, and drop a bus that has nothing left."""
        for poll in self._polls:
            poll.remove(instrument)
        left = [poll for poll in self._polls if poll.keys]
        if len(left) < len(self._polls):
            self._polls = left
            self.revision += 1

    def _means(self, instrument: Readable) -> bool:
        return self._names is None or instrument.name in self._names

    def _of(self, bus: Bus) -> BusPoll:
        poll = next((each for each in self._polls if each.bus is bus), None)
        if poll is None:
            poll = BusPoll(bus, self._events)
            self._polls.append(poll)
            self.revision += 1
        return poll


def _count(instrument: Readable, parameter: str) -> int:
    """Return how many instances of what `parameter` means an instrument has."""
    device, _, name = parameter.rpartition(".")
    declared = instrument.find_parameter(name)
    if declared is None or device not in ("", instrument.name):
        return 0
    return instrument.instances_of(declared)


def _too_few(parameter: str, count: int) -> str:
    known = "one instance" if count == 1 else f"{count} instances"
    return f"no instrument has more than {known} of {parameter}"
