"""A bus whose transport carries several exchanges at once: one in flight per lane."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio
from attrs import evolve, frozen
from trio.testing import MockClock

from actors import (
    Bus,
    Cause,
    ChildSpec,
    Event,
    Events,
    Intensity,
    LaneTripped,
    MemberPolicy,
    Outcome,
    Plan,
    Priority,
    Service,
    Supervisor,
    Ticket,
)
from transports import MULTIPLEXED, MultiplexedSim, SimLine

from .bench import STEADY, Unit, Witness, WitnessModel

PROFILE = evolve(MULTIPLEXED, attempts=1)


@frozen
class Board:
    """A bus with one module per lane.

    Attributes:
        modules: The instruments, by unit.
        lines: Their lines, to arm faults on.
        seen: Every event so far.
    """

    bus: Bus
    transport: MultiplexedSim
    modules: dict[str, Witness]
    lines: dict[str, SimLine]
    seen: list[Event]

    def unit(self, name: str) -> Unit:
        """Return the simulated module."""
        model = self.lines[name].model
        assert isinstance(model, WitnessModel)
        return model.units[name]

    async def start(self, name: str, plan: Plan[object]) -> Ticket[object]:
        """Submit a command to a module."""
        return await self.bus.submit(self.modules[name], plan)

    def services(self) -> set[Service]:
        """Return where the modules stand."""
        return {each.service for each in self.bus.status().instruments}


@asynccontextmanager
async def board(
    *units: str, max_in_flight: int = 16, group: str | None = None
) -> AsyncGenerator[Board]:
    """Run a board with these modules, all of them in service."""
    lines = {unit: SimLine(WitnessModel(unit)) for unit in units}
    transport = MultiplexedSim("sim:board", lines, max_in_flight=max_in_flight)
    events = Events()
    seen: list[Event] = []
    bus = Bus("board", transport, PROFILE, events=events, sequence=count(1), breaker=STEADY)
    modules = {unit: Witness(unit.lower(), unit, group=group) for unit in units}
    for each in modules.values():
        bus.attach(each, MemberPolicy(breaker=STEADY))
    child = ChildSpec(
        "board", bus.run, settle=bus.settle, restart_delay_s=bus.restart_delay_s, stop_s=2.0
    )
    top = Supervisor("top", [child], events=events, intensity=Intensity(5, 60.0))
    with events.observed(seen.append):
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(top.run, up.set)
            await up.wait()
            made = Board(bus, transport, modules, lines, seen)
            await trio.sleep(0.1)
            assert made.services() == {Service.IN_SERVICE}
            yield made
            nursery.cancel_scope.cancel()


async def outcomes(*tickets: Ticket[object]) -> list[Outcome[object]]:
    """Return how commands ended."""
    return [await each.outcome() for each in tickets]


async def test_lanes_in_parallel(autojump_clock: MockClock) -> None:
    """Modules answer at once: four of 0.5 s take 0.5 s; one lane keeps one in flight."""
    async with board("A", "B", "C", "D") as made:
        began_s = trio.current_time()
        first = [
            await made.start(name, made.modules[name].read(name, wait_s=0.5)) for name in "ABCD"
        ]
        second = await made.start("A", made.modules["A"].read("next"))
        ended = await outcomes(*first, second)
        assert [each.value for each in ended] == ["A", "B", "C", "D", "next"]
        assert trio.current_time() - began_s == pytest.approx(0.501, abs=0.01)
        heard = [at_s for at_s, text in made.unit("A").heard if text == "ASK next"]
        assert heard[0] >= began_s + 0.5
        assert made.transport.most_in_flight == 4


async def test_as_many_as_the_transport_bears(autojump_clock: MockClock) -> None:
    """Never more than `max_in_flight`; who has to wait gets a turn."""
    async with board("A", "B", "C", "D", max_in_flight=2) as made:
        began_s = trio.current_time()
        tickets = [
            await made.start(name, made.modules[name].read(name, wait_s=0.5)) for name in "ABCD"
        ]
        assert all(each.ok for each in await outcomes(*tickets))
        assert trio.current_time() - began_s == pytest.approx(1.0, abs=0.01)
        assert made.transport.most_in_flight == 2


async def test_one_silent_module(autojump_clock: MockClock) -> None:
    """A module that does not answer is quarantined alone; the others notice nothing."""
    async with board("A", "B") as made:
        made.lines["A"].hang()
        silent = [await made.start("A", made.modules["A"].read(each)) for each in range(3)]
        for each in range(20):
            ticket = await made.start("B", made.modules["B"].read(each))
            began_s = trio.current_time()
            assert (await ticket.outcome()).value == str(each)
            assert trio.current_time() - began_s < 0.01
        assert {each.cause for each in await outcomes(*silent)} == {Cause.TRANSPORT}
        a, b = made.bus.status().instruments
        assert (a.service, b.service) == (Service.QUARANTINED, Service.IN_SERVICE)
        made.lines["A"].unhang()
        await trio.sleep(5.0)
        assert made.services() == {Service.IN_SERVICE}


async def test_lost_connection(autojump_clock: MockClock) -> None:
    """What is in flight when the board goes away fails at once, and once; it comes back."""
    async with board("A", "B", "C") as made:
        tickets = [
            await made.start(name, made.modules[name].read(name, wait_s=0.9)) for name in "ABC"
        ]
        queued = await made.start("A", made.modules["A"].read("queued"))
        await trio.sleep(0.1)
        made.lines["B"].unplug()
        with trio.fail_after(0.01):
            ended = await outcomes(*tickets, queued)
        assert [each.cause for each in ended] == [Cause.TRANSPORT] * 3 + [Cause.BREAKER]
        assert all(each.may_have_executed for each in ended[:3])
        made.lines["B"].replug()
        await trio.sleep(10.0)
        assert made.services() == {Service.IN_SERVICE}
        assert made.transport.counters.opened == 2


async def test_trip_cuts_its_own_lane(autojump_clock: MockClock) -> None:
    """Tripping cuts short what its module has in hand, and leaves the others alone."""
    async with board("A", "B") as made:
        cut = await made.start("A", made.modules["A"].read("cut", wait_s=0.9))
        other = await made.start("B", made.modules["B"].read("other", wait_s=0.9))
        await trio.sleep(0.01)
        began_s = trio.current_time()
        made.bus.trip("a", "a test")
        assert (await cut.outcome()).cause is Cause.TRIPPED
        assert trio.current_time() - began_s <= PROFILE.emergency_wait_s + 0.01
        (safe,) = await made.bus.make_safe(["a"], "a test")
        assert safe.error is None
        assert made.unit("A").state == {"out": "0"}
        assert (await other.outcome()).ok
        assert made.unit("B").state == {}


async def test_emergency_needs_a_place(autojump_clock: MockClock) -> None:
    """Where all places are taken, an emergency takes that of who has had one longest."""
    async with board("A", "B", "C", max_in_flight=2) as made:
        for name in "AB":
            await made.start(name, made.modules[name].read(name, wait_s=0.95))
        await trio.sleep(0.01)
        began_s = trio.current_time()
        c = made.modules["C"]
        ticket = await made.bus.submit(c, c.write("out 0"), priority=Priority.EMERGENCY)
        assert (await ticket.outcome()).ok
        assert trio.current_time() - began_s <= PROFILE.emergency_wait_s + 0.01


async def test_parts_of_one_board(autojump_clock: MockClock) -> None:
    """A trip takes all lanes of what belongs together, and drives all of it safe."""
    async with board("A", "B", group="board") as made:
        (first, second) = await made.bus.make_safe(["b"], "a test")
        assert (first.instrument, first.error) == ("b", None)
        assert (second.instrument, second.error) == ("a", None)
        assert made.unit("A").state == made.unit("B").state == {"out": "0"}
        tripped = [each.instrument for each in made.seen if isinstance(each, LaneTripped)]
        assert tripped == ["b", "a"]
        made.bus.rearm("a")
        assert all(each.tripped is None for each in made.bus.status().instruments)


async def test_crash_of_one_command(autojump_clock: MockClock) -> None:
    """A driver's failure takes down what is in flight (crashed); what waits survives."""
    async with board("A", "B") as made:
        other = await made.start("B", made.modules["B"].read("other", wait_s=0.9))
        queued = await made.start("B", made.modules["B"].read("queued"))
        broken = await made.start("A", made.modules["A"].failing(RuntimeError("a bug")))
        ended = await outcomes(broken, other, queued)
        assert [each.cause for each in ended] == [Cause.CRASHED, Cause.CRASHED, None]
        assert ended[1].may_have_executed
        assert not made.bus.tickets()


async def test_stopped(autojump_clock: MockClock) -> None:
    """Stopping the bus fails what is in flight (stopped); nothing waits for ever."""
    async with board("A", "B") as made:
        tickets = [
            await made.start(name, made.modules[name].read(name, wait_s=0.9)) for name in "AB"
        ]
        await trio.sleep(0.01)
    assert [each.cause for each in await outcomes(*tickets)] == [Cause.STOPPED] * 2
    assert not made.bus.tickets()
