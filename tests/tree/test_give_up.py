"""What a tree does about code and buses that keep failing."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Cause,
    ChildEnded,
    ChildStarted,
    CommandError,
    CommandFinished,
    Intensity,
    LaneTripped,
    Parameter,
    Reading,
    RefusedError,
    Restart,
    SafeStateDue,
    SafeStateFailed,
    SafeStateReached,
    Strategy,
    SupervisorGaveUp,
)
from actors.instruments.scpi import Multimeter, PowerSupply
from benchtree import Tree, TreeSpec, open_tree
from benchtree.spec import ActorSpec, BusSpec, InstrumentSpec, Kind, SupervisorSpec
from recorder import record
from tests.tree.kit import Witness, bench_of, refusal, supply, switch_on
from transports import GPIB

T = TypeVar("T")


class CrashingSupply(PowerSupply):
    """A supply whose driver has a mistake in one of its readings."""

    broken = Reading("MEAS:POW")

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Fail like a program with a mistake in it."""
        if parameter.name == "broken":
            raise LookupError("a mistake")
        return super().decode(parameter, raw)


async def _crash(tree: Tree, name: str, times: int = 1) -> None:
    """Let the actor of a bus crash."""
    instrument = tree.get(name, CrashingSupply)
    for _ in range(times):
        with pytest.raises(CommandError) as failed:
            await instrument.broken.get()
        assert failed.value.cause is Cause.CRASHED


class Faulty:
    """Code that switches a supply on, and fails whenever it is told to."""

    def __init__(self, supply_name: str = "psu") -> None:
        """Do nothing yet."""
        self.runs = 0
        self._name = supply_name
        self._order = trio.Event()

    async def __call__(self, tree: Tree) -> None:
        """Run once."""
        self.runs += 1
        self._order = trio.Event()
        await switch_on(tree, self._name)
        await self._order.wait()
        raise BrokenPipeError("a mistake")

    async def fail(self, times: int = 1) -> None:
        """Fail, and again as soon as it runs again."""
        for _ in range(times):
            self._order.set()
            await trio.testing.wait_all_tasks_blocked()


def _heated(code: Faulty, **group: Any) -> TreeSpec:
    """Return a bench with one group, of a supply and code, and a multimeter outside."""
    return TreeSpec(
        buses=[
            BusSpec(name="supply", address="tcp://192.0.2.1:5025"),
            BusSpec(name="meter", address="tcp://192.0.2.2:5025"),
        ],
        instruments=[
            InstrumentSpec(name="psu", bus="supply", driver=CrashingSupply),
            InstrumentSpec(name="dmm", bus="meter", driver=Multimeter),
        ],
        actors=[ActorSpec(name="ramp", start=code)],
        supervisors=[
            SupervisorSpec(
                name="heat", children=[(Kind.BUS, "supply"), (Kind.ACTOR, "ramp")], **group
            )
        ],
    )


def _children(tree: Tree) -> list[str]:
    """Return what is below the root, without what only looks after a bus."""
    names = [child.name for child in tree.root.children]
    return [name for name in names if not name.startswith("reconcile.")]


async def test_code_that_keeps_failing(autojump_clock: MockClock) -> None:
    """Restarted as often as is borne, it takes its subtree down: safe first, then closed."""
    seen, code = Witness(), Faulty()
    async with open_tree(_heated(code), sim=True, observer=seen) as tree:
        device = supply(tree, "psu")
        await trio.testing.wait_all_tasks_blocked()
        await code.fail(times=3)
        assert (code.runs, device.output_on) == (4, True)
        await code.fail()
        assert (code.runs, device.output_on) == (4, False)
        (given_up,) = seen.of(SupervisorGaveUp)
        assert (given_up.supervisor, given_up.child) == ("supervisor.heat", "actor.ramp")
        safe = seen.index(SafeStateReached, lambda each: each.instrument == "psu")
        closed = seen.index(ChildEnded, lambda each: each.child == "bus.supply")
        assert safe < closed
        refused = await refusal(tree.get("psu", CrashingSupply))
        assert refused is not None
        assert refused.cause is Cause.STOPPED
        assert _children(tree) == ["bus.meter"]
        assert await tree.get("dmm", Multimeter).voltage.get() is not None
    # Its loss of control was one; the end of the tree is none for it.
    assert len(seen.of(SafeStateReached)) == 1


async def test_recording_goes_on(autojump_clock: MockClock) -> None:
    """A recording counts what gave up as missing, and misses nothing of the others."""
    code = Faulty()
    async with open_tree(_heated(code), sim=True) as tree:
        await trio.testing.wait_all_tasks_blocked()
        async with record(
            tree, parameters=["psu.current", "dmm.voltage"], rate_hz=10, duration=2.0
        ) as recording:
            batches = 0
            async for _ in recording.stream:
                batches += 1
                if batches == 10:
                    await code.fail(times=4)
        counts = recording.summary.by_device()
    assert (counts["dmm"].read, counts["dmm"].missing) == (20, 0)
    assert (counts["psu"].read, counts["psu"].missing) == (10, 10)


async def test_bus_that_keeps_crashing(autojump_clock: MockClock) -> None:
    """A bus in no group gives up alone; its instrument is driven safe all the same."""
    seen = Witness()
    async with open_tree(
        bench_of("a", "b", driver=CrashingSupply), sim=True, observer=seen
    ) as tree:
        first, second = await switch_on(tree, "a", "b")
        await _crash(tree, "a", times=3)
        assert first.output_on
        await trio.sleep(2.5)  # the third crash opened the breaker
        await _crash(tree, "a")
        await trio.testing.wait_all_tasks_blocked()
        assert [device.output_on for device in (first, second)] == [False, True]
        assert [each.supervisor for each in seen.of(SupervisorGaveUp)] == ["bus.a"]
        with pytest.raises(RefusedError):
            await tree.get("a", CrashingSupply).voltage.get()
        # What is down can still be removed, and comes back as a new one.
        await tree.remove("a")
        again = await tree.add("a", CrashingSupply, "tcp://192.0.2.1:5025")
        await again.voltage.set(1.0)


async def test_what_is_down_and_safe_stays_safe(autojump_clock: MockClock) -> None:
    """Trying in vain to reach one instrument of a bus that is down unsettles no other on it."""
    seen = Witness()
    spec = TreeSpec(
        buses=[BusSpec(name="board", address="GPIB0", profile=evolve(GPIB, safe_s=10.0))],
        instruments=[
            InstrumentSpec(name=name, bus="board", driver=CrashingSupply, unit_id=unit)
            for name, unit in (("a", "1"), ("b", "2"))
        ],
        supervisors=[
            SupervisorSpec(
                name="cell",
                children=[(Kind.BUS, "board")],
                intensity=Intensity(max_restarts=0, window_s=60.0),
            )
        ],
    )
    async with open_tree(spec, sim=True, observer=seen) as tree:
        for name in ("a", "b"):
            await tree.get(name, PowerSupply).output.set(True, confirm=True)
        tree.lines["board"].hang(unit="1")
        with trio.move_on_after(60):
            await _crash(tree, "b")
            await trio.sleep_forever()
        assert {each.instrument for each in seen.of(SafeStateReached)} == {"b"}
        assert {each.instrument for each in seen.of(SafeStateFailed)} == {"a"}
        tree.lines["board"].unplug()
        assert (await tree.trip("a", "a test")).error is not None
        owed = {each.name: each.safe_owed for each in tree["b"].bus.status().instruments}
        assert owed == {"a": True, "b": False}
        assert not seen.of(SafeStateDue)


async def test_lost_while_the_rest_gives_up(autojump_clock: MockClock) -> None:
    """An instrument that is lost once safe, while its group goes down, is named."""
    seen = Witness()
    names = ("a", "b", "c")
    group = SupervisorSpec(
        name="cell",
        children=[(Kind.BUS, each) for each in names],
        intensity=Intensity(max_restarts=0, window_s=60.0),
    )
    spec = evolve(bench_of(*names, driver=CrashingSupply), supervisors=[group])
    async with open_tree(spec, sim=True, observer=seen) as tree:
        await switch_on(tree, *names)
        tree.lines["a"].hang()  # that keeps the others waiting
        await _crash(tree, "c")
        await trio.sleep(0.3)
        assert {each.instrument for each in seen.of(SafeStateReached)} == {"b", "c"}
        tree.lines["b"].unplug()
        await trio.sleep(10.0)
        named = {each.instrument: each.error for each in seen.of(SafeStateFailed)}
        assert named == {
            "a": "TIMEOUT: no reply",
            "b": "it may have left it since, and its supervisor stopped",
        }


def _nested(code: Faulty) -> TreeSpec:
    """Return a bench with a group of one supply and code inside another group."""
    return TreeSpec(
        buses=[BusSpec(name="supply", address="tcp://192.0.2.1:5025")],
        instruments=[InstrumentSpec(name="psu", bus="supply", driver=CrashingSupply)],
        actors=[ActorSpec(name="ramp", start=code)],
        supervisors=[
            SupervisorSpec(
                name="outer",
                children=[(Kind.SUPERVISOR, "inner")],
                intensity=Intensity(max_restarts=1, window_s=60.0),
            ),
            SupervisorSpec(
                name="inner",
                children=[(Kind.BUS, "supply"), (Kind.ACTOR, "ramp")],
                intensity=Intensity(max_restarts=1, window_s=60.0),
            ),
        ],
    )


async def test_nested_groups(autojump_clock: MockClock) -> None:
    """A group inside another restarts in place; only the outermost drives safe."""
    seen, code = Witness(), Faulty()
    async with open_tree(_nested(code), sim=True, observer=seen) as tree:
        device = supply(tree, "psu")
        await trio.testing.wait_all_tasks_blocked()
        await code.fail(times=2)
        assert [each.supervisor for each in seen.of(SupervisorGaveUp)] == ["supervisor.inner"]
        assert (code.runs, device.output_on) == (3, True)
        assert not seen.of(LaneTripped)
        await code.fail(times=2)
        assert [each.supervisor for each in seen.of(SupervisorGaveUp)] == [
            "supervisor.inner",
            "supervisor.inner",
            "supervisor.outer",
        ]
        assert (code.runs, device.output_on) == (4, False)
        assert [each.reason for each in seen.of(SafeStateReached)] == ["supervisor.outer gave up"]
        assert _children(tree) == []


async def test_removed_bus_stays_removed(autojump_clock: MockClock) -> None:
    """A group that restarts does not bring a removed bus back."""
    seen, code = Witness(), Faulty("other")
    spec = _nested(code)
    spec = evolve(
        spec,
        buses=[*spec.buses, BusSpec(name="other", address="tcp://192.0.2.2:5025")],
        instruments=[
            *spec.instruments,
            InstrumentSpec(name="other", bus="other", driver=PowerSupply),
        ],
    )
    async with open_tree(spec, sim=True, observer=seen) as tree:
        await trio.testing.wait_all_tasks_blocked()
        await tree.remove("psu")
        await code.fail(times=2)
        assert len(seen.of(SupervisorGaveUp)) == 1
        started = [each.child for each in seen.of(ChildStarted) if each.child == "bus.supply"]
        assert len(started) == 1
        assert [each.name for each in tree.status()] == ["other"]


@pytest.mark.parametrize(
    ("strategy", "runs"),
    [(Strategy.ONE_FOR_ONE, 1), (Strategy.REST_FOR_ONE, 2), (Strategy.ONE_FOR_ALL, 2)],
)
async def test_bus_that_crashes_in_a_group(
    strategy: Strategy, runs: int, autojump_clock: MockClock
) -> None:
    """What its code shares with a crashed bus is up to the strategy; the output stays on."""
    code = Faulty()
    async with open_tree(_heated(code, strategy=strategy), sim=True) as tree:
        await trio.testing.wait_all_tasks_blocked()
        await _crash(tree, "psu")
        await trio.testing.wait_all_tasks_blocked()
        assert code.runs == runs
        assert supply(tree, "psu").output_on
        await tree.get("psu", CrashingSupply).voltage.set(1.0)


@pytest.mark.parametrize(
    ("strategy", "connections"),
    [(Strategy.ONE_FOR_ONE, 1), (Strategy.REST_FOR_ONE, 1), (Strategy.ONE_FOR_ALL, 2)],
)
async def test_code_that_fails_in_a_group(
    strategy: Strategy, connections: int, autojump_clock: MockClock
) -> None:
    """Code that fails after its bus was started takes it along with one_for_all only."""
    seen, code = Witness(), Faulty()
    spec = _heated(code, strategy=strategy)
    async with open_tree(spec, sim=True, observer=seen):
        await trio.testing.wait_all_tasks_blocked()
        await code.fail()
        started = [each for each in seen.of(ChildStarted) if each.child == "bus.supply"]
        assert (code.runs, len(started)) == (2, connections)


async def test_restart_with_a_sibling_empties_the_lanes(autojump_clock: MockClock) -> None:
    """What waits for a bus that restarts with a sibling fails at once, and is never sent."""
    seen, code = Witness(), Faulty()
    spec = _heated(code, strategy=Strategy.ONE_FOR_ALL)
    async with open_tree(spec, sim=True, observer=seen) as tree:
        await trio.testing.wait_all_tasks_blocked()
        psu = tree.get("psu", CrashingSupply)
        tree.lines["supply"].latency_s = 0.5
        tickets = [await psu.voltage.submit(float(volts)) for volts in range(1, 6)]
        await trio.sleep(0.1)
        began_s = trio.current_time()
        await code.fail()
        outcomes = [await ticket.outcome() for ticket in tickets]
        assert trio.current_time() == began_s
        assert {outcome.cause for outcome in outcomes} == {Cause.STOPPED}
        assert [outcome.may_have_executed for outcome in outcomes] == [True] + [False] * 4
        await trio.sleep(5.0)
        assert supply(tree, "psu").setpoint_v <= 1.0
        assert len([each for each in seen.of(CommandFinished) if each.error]) == 5


async def test_code_in_no_group_gives_up_alone(autojump_clock: MockClock) -> None:
    """Code that keeps failing is left down; no instrument is touched."""
    seen, code = Witness(), Faulty("a")
    async with open_tree(bench_of("a"), sim=True, observer=seen) as tree:
        await tree.start("ramp", code)
        await trio.testing.wait_all_tasks_blocked()
        await code.fail(times=4)
        assert code.runs == 4
        assert supply(tree, "a").output_on
        assert not seen.of(LaneTripped)
        await tree.start("ramp", code, restart=Restart.TEMPORARY)
        await trio.testing.wait_all_tasks_blocked()
        await code.fail()
        assert code.runs == 5
        assert _children(tree) == ["bus.a"]
