"""Additions, removals, polls and failures in any order, against a model of who owns what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import CommandError
from benchtree import DeviceGroup, ErrorPolicy, FleetClosedError, Tree, open_tree
from tests.fleet.bench import CountedPort
from transports import LineState, SimLine

PORTS = 3
UNITS = "AB"

Name: TypeAlias = tuple[int, str]
"""A port and a unit."""

Kind = Literal["address", "transport"]

Step: TypeAlias = tuple[str, int, str]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "add", "lend", "remove", "poll", "cancel", "hang", "unhang", "unplug", "replug"]
        ),
        st.integers(0, PORTS - 1),
        st.sampled_from(UNITS),
    ),
    max_size=14,
)


@define
class Model:
    """What must be true of the fleet.

    Attributes:
        members: Who is in it, in order, and how each came.
        hung: The units that are silent, by how they came and where.
        unplugged: The ports that are gone.
    """

    members: dict[str, tuple[Kind, int, str]] = field(factory=dict[str, tuple[Kind, int, str]])
    hung: set[tuple[Kind, int]] = field(factory=set[tuple[Kind, int]])
    unplugged: set[tuple[Kind, int]] = field(factory=set[tuple[Kind, int]])

    def well(self, kind: Kind, port: int) -> bool:
        """Return whether a port answers."""
        return (kind, port) not in self.hung | self.unplugged


class Bench:
    """The fleet, its ports and the model."""

    def __init__(self, tree: Tree, fleet: DeviceGroup, lent: Sequence[CountedPort]) -> None:
        """Start with nothing in the fleet."""
        self.tree = tree
        self.fleet = fleet
        self.lent = lent
        self.model = Model()

    async def take(self, step: Step) -> None:
        """Take one step with the fleet and with the model."""
        what, port, unit = step
        match what:
            case "add":
                await self.add("address", port, unit)
            case "lend":
                await self.add("transport", port, unit)
            case "remove":
                await self.remove(port)
            case "poll":
                await self.poll()
            case "cancel":
                with trio.move_on_after(0.01):
                    await self.fleet.poll()
            case _:
                self.disturb(what, port)
        self.check()

    async def add(self, kind: Kind, port: int, unit: str) -> None:
        """Add a unit; it must come exactly when it is well and its name is free."""
        model = self.model
        name = f"{kind}{port}{unit}"
        source = self.lent[port].transport if kind == "transport" else f"sim://{port}?units=AB"
        fresh = kind == "address" and not any(
            each[:2] == (kind, port) for each in model.members.values()
        )
        if fresh:  # a new line comes with a new device
            model.hung.discard((kind, port))
            model.unplugged.discard((kind, port))
        failure: Exception | None = None
        try:
            await self.fleet.add(name, source, unit_id=unit, timeout_s=0.1)
        except (ValueError, CommandError) as error:
            failure = error
        assert isinstance(failure, ValueError) is (name in model.members)
        if failure is None:
            model.members[name] = (kind, port, unit)
        elif isinstance(failure, CommandError):
            assert not model.well(kind, port) or self.away(kind, port)

    def away(self, kind: Kind, port: int) -> bool:
        """Return whether the bus of a port waits for its breaker."""
        return any(
            self.fleet.get(name).bus.status().retry_after_s is not None
            for name, each in self.model.members.items()
            if each[:2] == (kind, port)
        ) or (kind == "transport" and self.lent[port].transport.state is LineState.CLOSED)

    async def remove(self, index: int) -> None:
        """Remove one of those there, if any."""
        names = list(self.model.members)
        if names:
            name = names[index % len(names)]
            await self.fleet.remove(name)
            del self.model.members[name]

    async def poll(self) -> None:
        """Poll all: whoever is not well fails, and no value is another's."""
        results = await self.fleet.poll()
        assert tuple(results) == tuple(self.model.members)
        for name, (kind, port, unit) in self.model.members.items():
            if not self.model.well(kind, port):
                assert not results[name].ok
            elif (frame := results[name].value) is not None:
                assert frame["pressure"] == 14.0 + UNITS.index(unit)

    def disturb(self, what: str, port: int) -> None:
        """Do something to a given port, or to one of the fleet's own if it is there."""
        lines: dict[tuple[Kind, int], SimLine] = {("transport", port): self.lent[port].line}
        for name, (kind, where, _) in self.model.members.items():
            if kind == "address" and where == port:
                lines["address", port] = self.tree.lines[self.fleet.get(name).bus.name]
        for key, line in lines.items():
            match what:
                case "hang":
                    line.hang()
                    self.model.hung.add(key)
                case "unhang":
                    line.unhang()
                    self.model.hung.discard(key)
                case "unplug":
                    line.unplug()
                    self.model.unplugged.add(key)
                case _:
                    line.replug()
                    self.model.unplugged.discard(key)

    def check(self) -> None:
        """Check the fleet against the model."""
        assert self.fleet.names == tuple(self.model.members)
        assert len(self.tree.instruments) == len(self.model.members)
        buses = {each[:2] for each in self.model.members.values()}
        assert len(self.tree.status()) == len(buses)
        for port in self.lent:
            assert port.closed in (0, port.opened) or port.opened == 1


@settings(max_examples=500, deadline=None)
@given(steps=STEPS)
def test_any_sequence(steps: list[Step]) -> None:
    """After any 500 sequences no port is open, and what was given was never closed."""
    trio.run(_run, steps, clock=MockClock(autojump_threshold=0))


async def _run(steps: list[Step]) -> None:
    lent = [CountedPort(UNITS) for _ in range(PORTS)]
    for port in lent:
        await port.transport.open()
    async with open_tree() as tree:
        fleet = tree.fleet(error_policy=ErrorPolicy.RETURN)
        bench = Bench(tree, fleet, lent)
        for step in steps:
            await bench.take(step)
        own = [
            fleet.get(name).bus.transport
            for name, (kind, _, _) in bench.model.members.items()
            if kind == "address"
        ]
        await fleet.aclose()
        assert all(each.state is LineState.CLOSED for each in own)
        assert not tree.status()
        assert not tree.instruments
        with pytest.raises(FleetClosedError):
            await fleet.poll()
    for number, port in enumerate(lent):
        gone = ("transport", number) in bench.model.unplugged
        # Only what was unplugged was ever closed, and by the transport itself.
        assert port.opened == 1
        assert port.closed == 0 or gone or port.transport.state is LineState.CLOSED
        await port.transport.aclose()
