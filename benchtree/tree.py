"""A running supervision tree: buses, the instruments on them, and your own code."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar, cast
from weakref import WeakSet

import trio

from actors import (
    GRACE_S,
    TTL_S,
    BreakerPolicy,
    Bus,
    BusStatus,
    Cause,
    ChildSpec,
    Events,
    Identity,
    Instrument,
    Lease,
    Leases,
    Ledger,
    MemberPolicy,
    OnReconnect,
    Polls,
    Reads,
    Reconciler,
    RefusedError,
    Restart,
    SafeOutcome,
    SafeStateFailed,
    Sample,
    Started,
    SupervisionError,
    Supervisor,
    Ticket,
    describe,
)
from transports import BusProfile, SimLine, Transport, parse_address

from .buses import Buses, Stage
from .group import DeviceGroup
from .ports import Ports
from .results import ErrorPolicy
from .spec import ActorSpec, BusSpec, ChildName, InstrumentSpec, Kind, TreeSpec
from .subtrees import Subtrees
from .watch import Watch, watching

D = TypeVar("D", bound=Instrument)


class Tree:
    """A running tree. Made by `open_tree`.

    Attributes:
        name: Its name.
        events: Everything that happens in it.
        stop_signal: The signal that stopped it, or None.
    """

    def __init__(
        self,
        spec: TreeSpec,
        *,
        sim: bool,
        stage: Stage | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Make an empty tree; `open_tree` fills and runs it."""
        self.name = spec.name
        self.events = Events()
        self.stop_signal: signal.Signals | None = None
        self._spec = spec
        self._stage = stage
        self._leases = Leases(self.events, self._settle_lease)
        self._buses = Buses(
            spec, self.events, self._leases.book, sim=sim, stage=stage, ledger=ledger
        )
        self._ports = Ports(
            self._buses,
            self._leases,
            self.events,
            partial(self._make_bus_safe, passing=True),
            priority=spec.priority,
            drain_s=spec.drain_s,
        )
        self._instruments: dict[str, Instrument] = {}
        self._subtrees = Subtrees(self.events, self._give_up)
        # Instruments come into the polls that are still in use, and are taken out of them.
        self._polls: WeakSet[Polls] = WeakSet()
        # One addition or removal at a time: two names for one port are one bus.
        self._changing = trio.Lock()
        self._stopping = False
        # Cancelled to stop without waiting for code and commands.
        self._patience = trio.CancelScope()
        self._running = trio.CancelScope(shield=True)
        # Set while the root does not run.
        self._over = trio.Event()
        self._over.set()

    def __repr__(self) -> str:
        """Return the name and what is in it."""
        return f"<Tree {self.name}: {len(self._buses)} buses, {len(self._instruments)} instruments>"

    # Looking at it.

    def __getitem__(self, name: str) -> Instrument:
        """Return an instrument by name.

        Raises:
            KeyError: There is none of that name.
        """
        try:
            return self._instruments[name]
        except KeyError:
            known = ", ".join(self._instruments) or "none"
            raise KeyError(f"no instrument is named {name!r}; there are: {known}") from None

    def __contains__(self, name: object) -> bool:
        """Return whether an instrument of that name exists."""
        return name in self._instruments

    def get(self, name: str, driver: type[D]) -> D:
        """Return an instrument by name, as the driver it is.

        Raises:
            KeyError: There is none of that name.
            TypeError: It has another driver.
        """
        instrument = self[name]
        if not isinstance(instrument, driver):
            raise TypeError(f"{name} is a {type(instrument).__name__}, not a {driver.__name__}")
        return instrument

    @property
    def instruments(self) -> Sequence[Instrument]:
        """The instruments, in the order they were added."""
        return tuple(self._instruments.values())

    @property
    def spec(self) -> TreeSpec:
        """What it was made from."""
        return self._spec

    @property
    def root(self) -> Supervisor:
        """The supervisor of everything."""
        return self._subtrees.root

    @property
    def lines(self) -> Mapping[str, SimLine]:
        """The simulated lines by bus name, where buses are simulated."""
        return self._buses.lines

    def status(self) -> Sequence[BusStatus]:
        """Return where every bus and its instruments stand now."""
        return tuple(bus.status() for bus in self._buses)

    def tickets(self) -> Sequence[Ticket[Any]]:
        """Return the commands that are accepted and not finished, bus by bus."""
        return tuple(ticket for bus in self._buses for ticket in bus.tickets())

    def watch(self) -> AbstractContextManager[Watch]:
        """Return a context in which each step of the tree's commands can be iterated over.

        No bus waits for whoever watches: steps that are not taken are dropped and counted.
        """
        return watching(self.events)

    # Changing it.

    async def add(
        self,
        name: str,
        driver: type[D],
        address: str | Transport,
        *,
        unit_id: str | None = None,
        timeout_s: float | None = None,
        profile: BusProfile | None = None,
        identity: Identity | None = None,
        breaker: BreakerPolicy | None = None,
        on_reconnect: OnReconnect = OnReconnect.RESTORE,
        recovery_s: float = 0.0,
    ) -> D:
        """Add an instrument at an address and return it.

        An address that names a bus of the tree by whatever name is that bus. An opened
        transport is used and never closed; its owner keeps it. `timeout_s` is how long a
        reply may take. Returns once commands are taken; connecting goes on in the
        background.

        Raises:
            AddressError: The address cannot be understood.
            PortOwnedError: Another tree has the bus.
            SupervisionError: The tree is stopping.
            ValueError: The name or unit is taken, or the driver does not fit the bus.
        """
        spec = InstrumentSpec(
            name=name,
            bus=name,
            driver=driver,
            unit_id=parse_address(address).unit_of(unit_id)
            if isinstance(address, str)
            else unit_id,
            identity=identity or Identity(),
            breaker=breaker or BreakerPolicy(),
            on_reconnect=on_reconnect,
            recovery_s=recovery_s,
            timeout_s=timeout_s,
        )
        if isinstance(address, str):
            self._check_free(name)
            # Others can be added while this one waits for its port.
            await self._buses.claim_all([address])
        try:
            return await self._add(spec, driver, address, profile)
        except BaseException:
            if isinstance(address, str):
                with trio.CancelScope(shield=True):
                    await self._buses.unclaim(address)
            raise

    async def _add(
        self,
        spec: InstrumentSpec,
        driver: type[D],
        address: str | Transport,
        profile: BusProfile | None,
    ) -> D:
        name = spec.name
        async with self._changing:
            self._check_open()
            self._check_free(name)
            known = await self.find_bus(address)
            if known is not None:
                return self._offer(self._attach(spec, known, driver))
            bus_spec = BusSpec(
                name=self._buses.free_name(name),
                address=address if isinstance(address, str) else "",
                profile=profile,
                breaker=spec.breaker,
            )
            if isinstance(address, str):
                bus = await self._buses.make(bus_spec, [spec])
            else:
                bus = self._buses.host(bus_spec, address, driver)
            try:
                instrument = self._attach(spec, bus, driver)
                self._check_open()
                await self._subtrees.start_alone((Kind.BUS, bus.name), _bus_child(bus))
                await self._look_after(bus, bus_spec)
                await self._serve_ports()
            except BaseException:
                self._forget(name)
                with trio.CancelScope(shield=True):
                    await self._subtrees.end_bus(bus.name)
                self._buses.forget(bus)
                raise
            return self._offer(instrument)

    async def find_bus(self, address: str | Transport) -> Bus | None:
        """Return the bus at an address, by whatever name it goes there, or None.

        Raises:
            AddressError: The address cannot be understood.
        """
        if isinstance(address, str):
            return await self._buses.find(address)
        return self._buses.find_lent(address)

    def recast(self, instrument: Instrument) -> None:
        """Put an instrument in the place of the one of its name: another driver for a device.

        Raises:
            KeyError: There is none of that name.
            RefusedError: Its safe state holds what it would refuse.
        """
        old = self[instrument.name]
        old.bus.replace(old, instrument)
        self._instruments[instrument.name] = instrument
        for polls in self._polls:
            polls.remove(instrument.name)
        self._offer(instrument)

    async def remove(self, name: str, *, safely: bool = True) -> None:
        """Drive an instrument safe and take it off its bus; the last one closes the bus.

        Without `safely` it is taken off at once, as one that never was in service can be.

        Raises:
            KeyError: There is none of that name.
        """
        async with self._changing:
            instrument = self[name]
            bus = instrument.bus
            parts = [each for each in instrument.made_parts() if each.name in self]
            gone = (instrument, *parts)
            if safely:
                await self._make_safe(gone, f"{name} is removed")
            # From here on it is gone, whoever is cancelled: closing has budgets of its own.
            with trio.CancelScope(shield=True):
                for each in gone:
                    for polls in self._polls:
                        polls.remove(each.name)
                    bus.detach(each.name)
                self._forget(name)
                if not any(each.bus is bus for each in self.instruments):
                    await self._subtrees.end_bus(bus.name)
                    self._buses.forget(bus)

    async def start(
        self,
        name: str,
        function: Callable[[Tree], Awaitable[None]],
        *,
        restart: Restart = Restart.TRANSIENT,
        stop_s: float = 5.0,
    ) -> None:
        """Run an async function of the tree under supervision; return once it runs.

        Raises:
            SupervisionError: The name is taken, or the tree is stopping.
        """
        self._check_open()
        spec = ActorSpec(name=name, start=function, restart=restart, stop_s=stop_s)
        await self._subtrees.start_alone((Kind.ACTOR, name), self._actor_child(spec))

    async def trip(self, name: str, reason: str = "a call of trip") -> SafeOutcome:
        """Let only reads through to an instrument and drive it safe.

        Returns whether it could be reached; if not, it is driven safe as soon as it can.

        Raises:
            KeyError: There is none of that name.
        """
        return (await self[name].bus.make_safe([name], reason))[0]

    def rearm(self, name: str) -> None:
        """Let a tripped instrument take commands again, or one kept out after a reconnect.

        Settings that it would not take back are given up; see `SettingsRefused`.

        Raises:
            KeyError: There is none of that name.
            RefusedError: Driving it safe is still owed.
        """
        self[name].bus.rearm(name)

    # Having some of it to oneself.

    def lease(
        self,
        *patterns: str,
        owner: str,
        ttl_s: float = TTL_S,
        priority: int = 0,
        grace_s: float = GRACE_S,
        reads: Reads = "shared",
        heartbeat: bool = True,
        wait: bool = True,
    ) -> AbstractAsyncContextManager[Lease]:
        """Command some instruments alone for the length of an `async with` block.

        Commands given in the block, and by tasks started in it, are given under the lease;
        those of others are refused. Waits until nobody else holds one on any of the
        instruments; a higher priority has lower ones leave, see `Lease.preempted`.

        When the lease ends before the block, the block is cancelled and raises. Left by an
        error or a cancellation, too, its instruments are driven safe before anybody else
        may command them; left in order, they stay as they are.

        Args:
            patterns: Names, or patterns such as "mfc*", of the instruments there are now.
            owner: Who it is for, in words: others are told.
            ttl_s: How long it outlasts the last sign of life, in seconds; time in which the
                machine sleeps counts.
            priority: A higher one goes first, and preempts lower ones.
            grace_s: How long you need to reach a safe point when you are preempted.
            reads: "exclusive" keeps reads of others out as well, recordings included.
            heartbeat: Whether the event loop's life is yours; without it, call
                `Lease.renew` yourself.
            wait: Whether to wait for others; without it, they are a refusal.

        Raises:
            KeyError: A pattern means no instrument.
            LeaseLostError: At the end of the block: the lease ended before it.
            RefusedError: The task holds one on an instrument already (conflict), or
                somebody does and `wait` is False (lease).
            ValueError: One of the arguments is wrong; it is named with what would be right.
        """
        Leases.check_terms(
            patterns, owner=owner, ttl_s=ttl_s, priority=priority, grace_s=grace_s, reads=reads
        )
        names: dict[str, None] = {}
        for pattern in patterns:
            found = [name for name in self._instruments if fnmatchcase(name, pattern)]
            names.update(dict.fromkeys(found or [self[pattern].name]))
        return self._leases.hold(
            tuple(names),
            owner=owner,
            ttl_s=ttl_s,
            priority=priority,
            grace_s=grace_s,
            reads=reads,
            heartbeat=heartbeat,
            wait=wait,
        )

    def revoke_lease(self, name: str, reason: str = "a call of revoke_lease") -> bool:
        """Take the lease on an instrument away at once; return whether there was one.

        Raises:
            KeyError: There is none of that name.
        """
        return self._leases.revoke(self[name].name, reason)

    def force_open(self, name: str, reason: str = "opened by hand") -> None:
        """Open the breaker of an instrument or bus: it is left alone until it is closed.

        What waits fails. Nothing is driven safe; `trip` does that, and emergencies and trips
        end the opening.

        Raises:
            KeyError: There is neither an instrument nor a bus of that name.
        """
        if name in self._instruments:
            self[name].bus.force_open(reason, instrument=name)
        else:
            self._bus(name).force_open(reason)

    def force_close(self, name: str) -> None:
        """Close the breaker of an instrument or bus, whatever opened it.

        Raises:
            KeyError: There is neither an instrument nor a bus of that name.
        """
        if name in self._instruments:
            self[name].bus.force_close(instrument=name)
        else:
            self._bus(name).force_close()

    def _bus(self, name: str) -> Bus:
        bus = next((each for each in self._buses if each.name == name), None)
        if bus is None:
            known = dict.fromkeys([*self._instruments, *(each.name for each in self._buses)])
            raise KeyError(f"no instrument or bus is named {name!r}; there are: {', '.join(known)}")
        return bus

    # Asking many at once.

    def fleet(
        self, pattern: str = "*", *, error_policy: ErrorPolicy = ErrorPolicy.RAISE
    ) -> DeviceGroup:
        """Return a view on the instruments whose names match, such as "mfc*".

        Their buses stay the tree's; what is added through the view is taken out with it.

        Raises:
            TypeError: `pattern` is not a text.
        """
        _check_pattern(pattern)
        chosen = [each for each in self.instruments if fnmatchcase(each.name, pattern)]
        return DeviceGroup(self, chosen, error_policy=error_policy)

    # Recording it.

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Polls:
        """Return one source per bus for `parameters`; see `recorder.Partitioned`.

        Instruments that are added later and are meant by `parameters` come into it.

        Each parameter is read in those of `instances` that its instrument has.

        Raises:
            ValueError: A parameter, a name or an instance means nothing here.
        """
        made = self._make_polls(parameters, names, instances)
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

        Each parameter is read in those of `instances` that its instrument has. What cannot
        be read is reported as a `ReadFailed` event and left out.

        Raises:
            ValueError: A parameter, a name or an instance means nothing here.
        """
        samples: list[Sample] = []
        made = self._make_polls(parameters, names, instances)
        async with trio.open_nursery() as nursery:
            for poll in made:
                nursery.start_soon(poll.poll, samples.append)
        return samples

    # Building it.

    async def build(self) -> None:
        """Make everything the specification names and start it in order.

        Buses that are in no group come first, your own code that is in none last.

        Raises:
            PortOwnedError: Another tree has one of the buses.
            SupervisionError: A required bus or a child failed to start.
            ValueError: The specification contradicts itself.
        """
        spec = self._spec
        await self._buses.claim_all([each.address for each in spec.buses])
        on_bus: dict[str, list[InstrumentSpec]] = {}
        for each in spec.instruments:
            on_bus.setdefault(each.bus, []).append(each)
        children: dict[ChildName, ChildSpec] = {}
        for bus_spec in spec.buses:
            bus = await self._buses.make(bus_spec, on_bus.get(bus_spec.name, ()))
            children[Kind.BUS, bus.name] = _bus_child(bus)
        for each in spec.instruments:
            if (Kind.BUS, each.bus) not in children:
                raise ValueError(f"{each.name}: there is no bus named {each.bus}")
            self._attach(each, self._buses[each.bus], each.driver)
        for actor in spec.actors:
            if (Kind.ACTOR, actor.name) in children:
                raise ValueError(f"two actors are named {actor.name}")
            children[Kind.ACTOR, actor.name] = self._actor_child(actor)
        grouped = {name for group in spec.supervisors for name in group.children}
        alone = {name: child for name, child in children.items() if name not in grouped}
        for name, child in alone.items():
            if name[0] is Kind.BUS:
                await self._subtrees.start_alone(name, child)
        await self._subtrees.start_groups(spec.supervisors, children)
        for name, child in alone.items():
            if name[0] is Kind.ACTOR:
                await self._subtrees.start_alone(name, child)
        for bus_spec in spec.buses:
            await self._look_after(self._buses[bus_spec.name], bus_spec)
        await self._serve_ports()

    async def _look_after(self, bus: Bus, spec: BusSpec) -> None:
        """Compare what the instruments of a bus say with what they were told, from now on."""
        if spec.reconcile.every_s:
            child = ChildSpec(bus.name, Reconciler(bus, spec.reconcile).run)
            await self._subtrees.start_alone((Kind.RECONCILE, bus.name), child)

    async def _serve_ports(self) -> None:
        """Let other trees ask for the ports of this one, once there is one."""
        name = (Kind.PORTS, "others")
        if self._buses.owned() and name not in self._subtrees:
            await self._subtrees.start_alone(name, ChildSpec("others", self._ports.run))

    def _attach(self, spec: InstrumentSpec, bus: Bus, driver: type[D]) -> D:
        self._check_free(spec.name)
        self._buses.check_fit(bus, spec)
        self._buses.plug(bus, spec)
        staged = driver if self._stage is None else self._stage.driver(driver)
        instrument = staged(spec.name, bus, unit=spec.unit_id)
        policy = MemberPolicy(
            breaker=spec.breaker,
            expect=spec.identity,
            on_reconnect=spec.on_reconnect,
            recovery_s=spec.recovery_s,
        )
        both: Sequence[Instrument] = (instrument, *instrument.made_parts())
        for each in both:
            self._check_free(each.name)
            each.timeout_s = spec.timeout_s
            bus.attach(each, policy)
            self._instruments[each.name] = each
        return instrument

    def _forget(self, name: str) -> None:
        """Know no instrument of that name, nor its parts, any more."""
        instrument = self._instruments.pop(name, None)
        for each in () if instrument is None else instrument.made_parts():
            self._instruments.pop(each.name, None)

    def _offer(self, instrument: D) -> D:
        both: Sequence[Instrument] = (instrument, *instrument.made_parts())
        for polls in self._polls:
            for each in both:
                polls.add(each)
        return instrument

    def _actor_child(self, spec: ActorSpec) -> ChildSpec:
        async def start(started: Started) -> None:
            started()
            try:
                await spec.start(self)
            except SystemExit as leaving:
                # Leaving the program is not for one actor to decide: the others go on.
                raise RuntimeError(f"it called sys.exit({leaving.code!r})") from leaving
            except Exception as error:
                if not (self._stopping and _is_refusal(error)):
                    raise
                # Started again, it would only be refused again, until it is stopped itself.
                await trio.sleep_forever()

        return ChildSpec(spec.name, start, restart=spec.restart, stop_s=spec.stop_s)

    def _check_free(self, name: str) -> None:
        _check_name(name)
        if name in self._instruments:
            raise ValueError(f"an instrument named {name} exists already")

    def _check_open(self) -> None:
        if self._stopping:
            raise SupervisionError("the tree is stopping")

    def _make_polls(
        self, parameters: Sequence[str], names: Sequence[str] | None, instances: Sequence[int]
    ) -> Polls:
        for name in names or ():
            if name not in self._instruments:
                raise ValueError(f"no instrument is named {name!r}")
        return Polls(self.instruments, parameters, self.events, names=names, instances=instances)

    # Safe states.

    async def _give_up(self, subtree: str, buses: Collection[str]) -> None:
        """Drive all instruments of a subtree safe before its children are stopped."""
        lost = [each for each in self.instruments if each.bus.name in buses]
        await self._make_safe(lost, f"{subtree} gave up")

    async def _make_safe(self, instruments: Iterable[Instrument], reason: str) -> None:
        """Drive instruments safe, all buses at once; name what could not be reached."""
        chosen: dict[Bus, list[str]] = {}
        for instrument in instruments:
            chosen.setdefault(instrument.bus, []).append(instrument.name)
        # Each bus shields and bounds its own part.
        async with trio.open_nursery() as nursery:
            for bus, names in chosen.items():
                nursery.start_soon(self._make_bus_safe, bus, names, reason)

    async def _make_bus_safe(
        self, bus: Bus, names: Sequence[str], reason: str, *, passing: bool = False
    ) -> None:
        outcomes: Sequence[SafeOutcome]
        try:
            outcomes = await bus.make_safe(names, reason, passing=passing)
        except Exception as error:  # noqa: BLE001 - whatever a driver does, the others go on
            outcomes = [SafeOutcome(name, describe(error)) for name in names]
        for outcome in outcomes:
            if outcome.error is not None:
                self.events.publish(
                    SafeStateFailed(
                        instrument=outcome.instrument, reason=reason, error=outcome.error
                    )
                )

    async def _settle_lease(self, names: Collection[str], reason: str) -> None:
        """Drive safe what a lost lease was for, and make it usable again."""
        chosen: dict[Bus, list[str]] = {}
        for name in names:
            if name in self._instruments:  # it may have been removed
                chosen.setdefault(self[name].bus, []).append(name)
        async with trio.open_nursery() as nursery:
            for bus, mine in chosen.items():
                nursery.start_soon(self._settle_on, bus, mine, reason)

    async def _settle_on(self, bus: Bus, names: Sequence[str], reason: str) -> None:
        await self._make_bus_safe(bus, names, reason, passing=True)
        if not self._stopping:
            # Whoever lost control is fenced: nothing keeps the next from commanding what is
            # safe. What was out of reach stays tripped, and owed.
            bus.end_trips(names)

    # Running and stopping it; what `open_tree` calls.

    async def run_root(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the supervisors until the tree is stopped."""
        self._over = trio.Event()
        try:
            # Only `stop` ends it: cancelling whoever opened the tree must not close a line
            # before its instruments are safe.
            with self._running:
                await self.root.run(task_status.started)
        finally:
            self._over.set()

    def hurry(self) -> None:
        """Wait no longer for code and commands: stop as soon as everything is safe."""
        self._patience.cancel()

    async def stop(self, reason: str) -> None:
        """Stop everything in order: refuse, stop code and drain, drive safe, close, settle.

        Takes its own time, bounded by the drain, the safe states and the stop budgets;
        shield it from cancellation.
        """
        self._stopping = True
        for bus in self._buses:
            bus.refuse("the tree is stopping")
        try:
            # Outputs wait for this long at most, however many children are slow to stop.
            with self._patience, trio.move_on_after(self._spec.drain_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._subtrees.stop_actors)
                    for bus in self._buses:
                        nursery.start_soon(bus.wait_drained)
            # What never started was never controlled.
            controlled = [
                each for each in self.instruments if (Kind.BUS, each.bus.name) in self._subtrees
            ]
            await self._make_safe(controlled, reason)
        finally:
            self._running.cancel()
            await self._over.wait()

    def release(self) -> None:
        """Give up the owner files; the tree has stopped."""
        for bus in tuple(self._buses):
            self._buses.forget(bus)
        self._buses.release_claimed()


def _is_refusal(error: BaseException) -> bool:
    """Return whether an error says of one command or several that the tree is stopping."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(map(_is_refusal, group.exceptions))
    return isinstance(error, RefusedError) and error.cause is Cause.STOPPED


def _bus_child(bus: Bus) -> ChildSpec:
    # Closing takes its own budget, and an exchange may be cut short before it.
    stop_s = bus.profile.close_within_s + bus.profile.emergency_wait_s
    return ChildSpec(
        bus.name,
        bus.run,
        stop_s=stop_s,
        settle=bus.settle,
        restart_delay_s=bus.restart_delay_s,
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} is no name; it is a text such as 'psu'")
    if not name.isprintable() or "/" in name:
        raise ValueError(f"the name {name!r} has a slash, or what cannot be printed, in it")


def _check_pattern(pattern: object) -> None:
    if not isinstance(pattern, str):
        raise TypeError(f"{pattern!r} is no pattern; it is a text such as 'mfc*'")
