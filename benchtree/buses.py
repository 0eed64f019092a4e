"""The buses of a tree: made from specifications, owned by the tree, real or simulated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

import trio
from attrs import define

from actors import (
    BreakerPolicy,
    Bus,
    BusAwaited,
    Events,
    Instrument,
    LeaseBook,
    Ledger,
    current_clock,
)
from transports import (
    MULTIPLEXED,
    SERIAL,
    Address,
    AddressError,
    BoardModel,
    BoardTransport,
    BorrowedTransport,
    BusProfile,
    ByteStream,
    DeviceModel,
    Framing,
    HostedTransport,
    MemoryHost,
    MultiplexedSim,
    Owner,
    PyrplTransport,
    Resync,
    SimLine,
    StreamTransport,
    TimedStream,
    Transport,
    Waiting,
    await_port,
    canonical_key,
    claim,
    make_board_transport,
    make_transport,
    parse_address,
    resolve_key,
)

from .emulator import BoardEmulator
from .lines import LinePlan, plan_line
from .spec import BusSpec, InstrumentSpec, TreeSpec
from .standins import model_of_line

D = TypeVar("D", bound=Instrument)

_WORKER_BREAKER: Final = BreakerPolicy(open_s=0.2)
"""Of a bus behind a worker process, unless its specification says something else.

A process that was killed is replaced at once; one that cannot start is left alone soon.
"""


class Stage(Protocol):
    """Where the simulated buses of a tree come from, when not from the tree itself."""

    def driver(self, driver: type[D]) -> type[D]:
        """Return what is used in place of an instrument's driver."""
        ...

    def line(self, bus: str, model: DeviceModel) -> SimLine:
        """Return the line that stands in for a bus."""
        ...

    def wrap(self, bus: str, stream: TimedStream) -> TimedStream:
        """Return what the bus's transport uses in place of a new connection."""
        ...

    def board(self, bus: str, key: str, units: Sequence[str]) -> MultiplexedSim:
        """Return the transport of a bus whose units are asked at once, over its line."""
        ...


@define(eq=False)
class _Entry:
    bus: Bus
    # The canonical name with the host looked up, which tells whether two names are one port.
    # It changes when the instrument is plugged in elsewhere and its address says so.
    key: str
    framing: Framing
    # The right to use the port; None where it is simulated.
    owner: Owner | None = None
    # Whether other processes can ask for the port.
    shared: bool = False


class Buses:
    """The buses of one tree.

    Attributes:
        lines: The simulated lines by bus name, where buses are simulated.
        changed: Set when a port was made the tree's own or was given up; see `renew`.
    """

    def __init__(
        self,
        spec: TreeSpec,
        events: Events,
        leases: LeaseBook,
        *,
        sim: bool,
        stage: Stage | None,
        ledger: Ledger | None = None,
    ) -> None:
        """Start without buses; `leases` says who may command what."""
        self.lines: dict[str, SimLine] = {}
        self.changed = trio.Event()
        self._tree: Final = spec.name
        self._wait = spec.wait
        self._priority = spec.priority
        # The right to use ports whose buses are not made yet, by key.
        self._claimed: dict[str, Owner] = {}
        # What is being waited for, and what says that this is over.
        self._claiming: dict[str, trio.Event] = {}
        self._events = events
        self._leases = leases
        self._ledger = ledger
        self._sim = sim
        self._stage = stage
        self._entries: dict[str, _Entry] = {}
        self._sequence = itertools.count(1)

    def __iter__(self) -> Iterator[Bus]:
        """Iterate over the buses in the order they were made."""
        return iter([entry.bus for entry in self._entries.values()])

    def __getitem__(self, name: str) -> Bus:
        """Return a bus by name."""
        return self._entries[name].bus

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    def free_name(self, wanted: str) -> str:
        """Return the name wanted, with a number where it is taken."""
        names = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in self._entries)

    async def find(self, address: str) -> Bus | None:
        """Return the bus at an address, by whatever name it goes there, or None.

        Raises:
            AddressError: The address cannot be understood.
        """
        entry = self._at(await self._key(parse_address(address)))
        return None if entry is None else entry.bus

    def find_lent(self, lent: Transport) -> Bus | None:
        """Return the bus that uses this very transport, or None."""
        entry = self._at(_lent_key(lent))
        return None if entry is None else entry.bus

    def host(self, spec: BusSpec, lent: Transport, driver: type[Instrument]) -> Bus:
        """Make a bus of a transport that its owner opens and closes."""
        key = _lent_key(lent)
        profile = spec.profile or driver.profiles.get("serial", SERIAL)
        return self._add(spec, BorrowedTransport(lent, key), profile, key, driver.framing, None)

    def check_fit(self, bus: Bus, spec: InstrumentSpec) -> None:
        """Check that an instrument can join a bus.

        Raises:
            ValueError: Its driver tells replies apart differently from the others'.
        """
        if self._entries[bus.name].framing != spec.driver.framing:
            raise ValueError(f"{spec.name}: {spec.driver.__name__} cannot share the bus {bus.name}")

    def plug(self, bus: Bus, spec: InstrumentSpec) -> None:
        """Put a device of its own behind a simulated board for an instrument that joins it.

        Raises:
            ValueError: Its driver has no device model.
        """
        line = self.lines.get(bus.name)
        board = None if line is None else line.model
        if isinstance(board, BoardModel) and (unit := spec.unit_id or "") not in board.devices:
            board.devices[unit] = spec.driver.simulate([None])

    async def make(self, spec: BusSpec, instruments: Sequence[InstrumentSpec]) -> Bus:
        """Make a bus for these instruments, and become its owner.

        Raises:
            AddressError: The address cannot be understood.
            PortOwnedError: Another tree has the bus.
            ValueError: The name or the port is taken here, or the drivers do not fit.
        """
        if spec.name in self._entries:
            raise ValueError(f"a bus named {spec.name} exists already")
        drivers = [each.driver for each in instruments]
        plan = plan_line(spec, drivers)
        address, profile, framing, hosting = plan.address, plan.profile, plan.framing, plan.hosting
        key = await self._key(address)
        if (other := self._at(key)) is not None:
            raise ValueError(f"{spec.name}: {spec.address} is the port of {other.bus.name} already")
        transport: Transport
        owner: Owner | None = None
        if address.board is not None:
            emulated = self._simulated(address)
            transport = self._board_transport(address, drivers, profile, emulated=emulated)
            if not emulated:
                owner = self._claimed.pop(key, None) or await self._claim(key)
        elif self._simulated(address):
            transport = self._simulate(spec.name, key, plan, instruments)
        else:
            transport = make_transport(
                address,
                framing=framing,
                profile=profile,
                hosting=hosting,
                locate=lambda: self._follow(spec.name, address),
            )
            owner = self._claimed.pop(key, None) or await self._claim(key)
        return self._add(spec, transport, profile, key, framing, owner)

    def _board_transport(
        self,
        address: Address,
        drivers: Sequence[type[Instrument]],
        profile: BusProfile,
        *,
        emulated: bool,
    ) -> Transport:
        """Return the line to a Red Pitaya, or to an emulator of it."""
        if current_clock().virtual:
            what = "it needs a real process, which virtual time cannot wait for"
            instead = "use redpitaya://sim in real time instead"
            raise AddressError(f"{what}; {instead}", address=address.text)
        if not emulated:
            return make_board_transport(address, profile=profile)
        if not drivers:
            raise ValueError(f"{address}: nothing says what is to be emulated there")
        emulator = BoardEmulator(drivers[0])
        return make_board_transport(address, profile=profile, emulator=emulator)

    async def _follow(self, name: str, address: Address) -> str:
        """Find out which port an address names now, own it, and return its canonical name.

        A symbolic link may point to another node after its instrument was plugged in again.
        The port that it named before is given up first: where two adapters changed places,
        each must let go of what the other needs.

        Raises:
            PortOwnedError: Somebody else owns the port.
        """
        entry = self._entries[name]
        key = await resolve_key(address)
        if address.host and key == canonical_key(address):
            key = entry.key  # no name server knows it now: it is where it was
        if key != entry.key:
            entry.key = key
            if entry.owner is not None:
                entry.owner.release()
                entry.owner = None
        if entry.owner is None:
            entry.owner = await current_clock().run_sync(lambda: claim(key, tree=self._tree))
            self.changed.set()
        return key

    async def claim_all(self, addresses: Sequence[str]) -> None:
        """Become the owner of all ports at these addresses, if it may take a while.

        Always in the same order: of two trees that wait for one another's ports, one has all.

        Raises:
            AddressError: An address cannot be understood.
        """
        if not self._wait:
            return
        parsed = [parse_address(each) for each in addresses]
        keys = {await self._key(each) for each in parsed if not self._simulated(each)}
        for key in sorted(keys):
            while key not in self._claimed and self._at(key) is None:
                claiming = self._claiming.get(key)
                if claiming is not None:
                    await claiming.wait()
                    continue
                claiming = self._claiming[key] = trio.Event()
                try:
                    self._claimed[key] = await self._claim(key)
                finally:
                    del self._claiming[key]
                    claiming.set()

    async def unclaim(self, address: str) -> None:
        """Give up a port that was claimed for a bus that is not made."""
        parsed = parse_address(address)
        owner = (
            None if self._simulated(parsed) else self._claimed.pop(await self._key(parsed), None)
        )
        if owner is not None:
            owner.release()

    async def _claim(self, key: str) -> Owner:
        if not self._wait:
            return await current_clock().run_sync(lambda: claim(key, tree=self._tree))
        return await self.await_port(key, lambda: self._priority)

    async def await_port(
        self,
        key: str,
        priority: Callable[[], int],
        changed: Callable[[], trio.Event] | None = None,
    ) -> Owner:
        """Wait for a port; tell observers who has it."""

        def tell(waiting: Waiting) -> None:
            self._events.publish(BusAwaited(key=key, text=waiting.describe()))

        return await await_port(key, tree=self._tree, priority=priority, told=tell, changed=changed)

    def renew(self) -> None:
        """Have `changed` wait for the next change."""
        self.changed = trio.Event()

    def owned(self) -> Sequence[Bus]:
        """Return the buses whose ports this process owns, or gets back."""
        return [entry.bus for entry in self._entries.values() if entry.shared]

    def key(self, bus: Bus) -> str:
        """Return the canonical name of the port that a bus uses now."""
        return self._entries[bus.name].key

    def owner(self, bus: Bus) -> Owner | None:
        """Return the right to use a bus's port; None while others have it."""
        entry = self._entries.get(bus.name)
        return None if entry is None else entry.owner

    def set_owner(self, bus: Bus, owner: Owner | None) -> None:
        """Note who owns a bus's port; what comes back for a bus that is gone is released."""
        entry = self._entries.get(bus.name)
        if entry is not None and entry.bus is bus:
            entry.owner = owner
        elif owner is not None:
            owner.release()

    def release_claimed(self) -> None:
        """Give up ports whose buses were never made."""
        for owner in self._claimed.values():
            owner.release()
        self._claimed.clear()

    def _add(
        self,
        spec: BusSpec,
        transport: Transport,
        profile: BusProfile,
        key: str,
        framing: Framing,
        owner: Owner | None,
    ) -> Bus:
        breaker = spec.breaker
        if isinstance(transport, PyrplTransport) and breaker == BreakerPolicy():
            breaker = _WORKER_BREAKER
        bus = Bus(
            spec.name,
            transport,
            profile,
            events=self._events,
            sequence=self._sequence,
            tree=self._tree,
            breaker=breaker,
            required=spec.required,
            leases=self._leases,
            ledger=self._ledger,
        )
        self._entries[spec.name] = _Entry(bus, key, framing, owner, owner is not None)
        self.changed.set()
        return bus

    def forget(self, bus: Bus) -> None:
        """Give up a bus that does not run any more: others may own it."""
        entry = self._entries.pop(bus.name)
        self.lines.pop(bus.name, None)
        self.changed.set()
        if entry.owner is not None:
            entry.owner.release()

    def _at(self, key: str) -> _Entry | None:
        return next((entry for entry in self._entries.values() if entry.key == key), None)

    def _simulated(self, address: Address) -> bool:
        emulated = address.board is not None and address.board.emulated
        return self._sim or emulated or address.scheme == "sim"

    async def _key(self, address: Address) -> str:
        if self._simulated(address):
            return f"sim:{canonical_key(address).removeprefix('sim:')}"
        return await resolve_key(address)

    def _simulate(
        self,
        name: str,
        key: str,
        plan: LinePlan,
        instruments: Sequence[InstrumentSpec],
    ) -> Transport:
        """Return the line to simulated devices that stand in for these instruments."""
        address, profile = plan.address, plan.profile
        model = model_of_line(instruments, addressed=address.addressed, units=address.units)
        stage = self._stage
        line = self.lines[name] = SimLine(model) if stage is None else stage.line(name, model)
        if profile.name == MULTIPLEXED.name:
            asked = [each.unit_id or each.driver.default_unit for each in instruments]
            modules = [each or "" for each in address.units or asked]
            if stage is not None:
                return stage.board(name, key, modules)
            return MultiplexedSim(key, dict.fromkeys(modules, line))
        # Only a network connection takes what is late with it when it is closed.
        host = MemoryHost(line, keeps_late=profile.resync is not Resync.REOPEN)

        async def connect() -> ByteStream:
            stream = await host.connect()
            return stream if stage is None else stage.wrap(name, stream)

        if plan.hosting is not None:
            return HostedTransport(key, connect, plan.hosting, profile)
        if address.addressed:
            return BoardTransport(key, connect, plan.framing, profile)
        return StreamTransport(key, connect, plan.framing, profile)


def _lent_key(lent: Transport) -> str:
    # Two transports may name one port; that they are one object is what counts.
    return f"object:{id(lent):x}"
