"""Simulated Alicat ports for tests: in memory, and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from attrs import define, field

from actors import Event
from actors.instruments.alicat import AlicatLineModel, AlicatUnit, make_line
from benchtree import DeviceGroup, ErrorPolicy, Tree, open_tree
from transports import (
    RS485,
    BusProfile,
    ByteStream,
    Lines,
    MemoryHost,
    SimLine,
    StreamTransport,
)


@define
class Lab:
    """A tree, a fleet on it, and everything that happened.

    Attributes:
        tree: The tree.
        fleet: A view on it.
        seen: Every event so far.
    """

    tree: Tree
    fleet: DeviceGroup
    seen: list[Event] = field(factory=list[Event])

    def line(self, name: str) -> SimLine:
        """Return the simulated line of the bus that a fleet's instrument is on."""
        return self.tree.lines[self.fleet.get(name).bus.name]

    def unit(self, name: str) -> AlicatUnit:
        """Return the simulated device of a fleet's instrument."""
        model = self.line(name).model
        assert isinstance(model, AlicatLineModel)
        return model.units[self.fleet.get(name).unit or "A"]

    def sent(self, name: str) -> int:
        """Return how many pieces the line of an instrument received."""
        return len(self.line(name).requests)


@asynccontextmanager
async def lab(
    *ports: str, policy: ErrorPolicy = ErrorPolicy.RETURN, timeout_s: float = 0.5
) -> AsyncGenerator[Lab]:
    """Run a tree whose fleet has `port0A`, `port0B`, ... for ports given by their units."""
    seen: list[Event] = []
    async with open_tree(observer=seen.append) as tree:
        fleet = tree.fleet(error_policy=policy)
        made = Lab(tree, fleet, seen)
        for number, units in enumerate(ports):
            for unit in units:
                await fleet.add(
                    f"port{number}{unit}",
                    f"sim://port{number}?units={units}",
                    unit_id=unit,
                    timeout_s=timeout_s,
                )
        yield made
        await fleet.aclose()


class CountedPort:
    """A simulated port that counts its openings and closings.

    Attributes:
        line: The line behind it.
        opened: How often it was opened.
        closed: How often it was closed.
        transport: A transport to it that somebody may own.
    """

    def __init__(self, units: str = "A", profile: BusProfile = RS485) -> None:
        """Make a port that nobody has opened."""
        self.line = SimLine(make_line(units))
        self.opened = 0
        self.closed = 0
        self._host = MemoryHost(self.line, keeps_late=True)
        self.transport = StreamTransport(
            f"test://{id(self):x}", self._connect, Lines(b"\r", strip=b"\n"), profile
        )

    async def _connect(self) -> ByteStream:
        self.opened += 1
        return _Counted(await self._host.connect(), self._note_closed)

    def _note_closed(self) -> None:
        self.closed += 1


class _Counted:
    """A stream that tells when it is closed; all else is the stream's."""

    def __init__(self, inner: ByteStream, closed: Callable[[], None]) -> None:
        self._inner = inner
        self._closed = closed
        self.write_nowait = inner.write_nowait
        self.wait_writable = inner.wait_writable
        self.read_nowait = inner.read_nowait
        self.wait_readable = inner.wait_readable
        self.flush_input = inner.flush_input
        self.count_errors = inner.count_errors
        self.wait_lost = inner.wait_lost

    async def aclose(self) -> None:
        self._closed()
        await self._inner.aclose()
