"""What devices hold against what they were told: found, and handled as the policy says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Assignment,
    FaultClass,
    Instrument,
    LaneTripped,
    OnDrift,
    ReconcilePolicy,
    StateDrifted,
    StateUnchecked,
    StatusFault,
    WriteResolved,
)
from actors.instruments.scpi import (
    HIGH_IMPEDANCE,
    FunctionGenerator,
    PowerSupply,
    SignalGenerator,
)
from benchtree import ConfigError, Tree, TreeSpec, load_config, open_tree
from benchtree.spec import BusSpec, InstrumentSpec
from tests.tree.kit import Witness, bench_of, supply

EVERY_S = 10.0
SOON_S = EVERY_S + 0.5
"""One period and what looking takes."""

OVERVOLTAGE = FaultClass("OVERVOLTAGE", fatal=True)


class Watched(PowerSupply):
    """A supply whose status is looked at."""

    conditions: ClassVar = {9: OVERVOLTAGE}


def _reconciled(name: str, driver: type[Instrument], policy: ReconcilePolicy) -> TreeSpec:
    """Return a tree with one instrument, whose bus is looked after like that."""
    spec = bench_of(name, driver=driver)
    return evolve(spec, buses=[evolve(each, reconcile=policy) for each in spec.buses])


@asynccontextmanager
async def _tree(
    on_drift: OnDrift = OnDrift.REPORT,
    *,
    every_s: float = EVERY_S,
    driver: type[Instrument] = PowerSupply,
) -> AsyncGenerator[tuple[Tree, PowerSupply, Witness]]:
    """Open a tree whose supply holds 5 V, switched on."""
    witness = Witness()
    policy = ReconcilePolicy(every_s=every_s, on_drift=on_drift)
    spec = _reconciled("psu", driver, policy)
    async with open_tree(spec, sim=True, observer=witness) as tree:
        psu = tree.get("psu", PowerSupply)
        await psu.voltage.set(5.0)
        await psu.output.set(True, confirm=True)
        yield tree, psu, witness


def _turn(tree: Tree, text: str) -> None:
    """Change something at the device itself."""
    supply(tree, "psu").receive(text.encode() + b"\n", trio.current_time())


@pytest.mark.parametrize("on_drift", OnDrift)
async def test_knob_is_turned(on_drift: OnDrift, autojump_clock: MockClock) -> None:
    """A knob turned at the device is found within one period, and handled by the policy."""
    async with _tree(on_drift) as (tree, psu, witness):
        await trio.sleep(25)
        assert not witness.of(StateDrifted)
        _turn(tree, "VOLT 7")
        await trio.sleep(SOON_S)
        (drift,) = witness.of(StateDrifted)
        assert (drift.instrument, drift.setting) == ("psu", "voltage")
        assert (drift.wanted, drift.found) == (5.0, 7.0)
        match on_drift:
            case OnDrift.REPORT:
                assert drift.action == "reported"
                assert await psu.voltage.get() == 7.0
                assert supply(tree, "psu").output_on
            case OnDrift.REAPPLY:
                assert drift.action == "reapplied"
                assert await psu.voltage.get() == 5.0
                assert supply(tree, "psu").output_on
            case OnDrift.TRIP:
                assert drift.action == "tripped"
                assert not supply(tree, "psu").output_on
                (tripped,) = witness.of(LaneTripped)
                assert tripped.reason == "voltage is 7.0 at the device, not 5.0"


@pytest.mark.parametrize("on_drift", OnDrift)
async def test_power_cycle(on_drift: OnDrift, autojump_clock: MockClock) -> None:
    """A power cycle that no connection was lost over is found, and nothing is switched on."""
    async with _tree(on_drift) as (tree, psu, witness):
        tree.lines["psu"].reset()
        await trio.sleep(SOON_S)
        found = {each.setting: each.action for each in witness.of(StateDrifted)}
        match on_drift:
            case OnDrift.REPORT:
                assert found == {"voltage": "reported", "output": "reported"}
                assert await psu.voltage.get() == 0.0
            case OnDrift.REAPPLY:
                assert found == {
                    "voltage": "reapplied",
                    "output": "only reported: it can do harm",
                }
                assert await psu.voltage.get() == 5.0
            case OnDrift.TRIP:
                assert found["voltage"] == "tripped"
                assert len(witness.of(LaneTripped)) == 1
        assert not supply(tree, "psu").output_on
        assert not any(
            data.startswith(b"OUTP 1") for _, data in list(tree.lines["psu"].requests)[9:]
        )


async def test_told_once(autojump_clock: MockClock) -> None:
    """What stays as it is is no news; what changes again, or comes back and goes, is."""
    async with _tree() as (tree, _, witness):
        for text in ("VOLT 7", "VOLT 8", "VOLT 5", "VOLT 8"):
            _turn(tree, text)
            await trio.sleep(5 * EVERY_S)
        assert [each.found for each in witness.of(StateDrifted)] == [7.0, 8.0, 8.0]


async def test_told_again_after_it_was_written(autojump_clock: MockClock) -> None:
    """Whoever writes a setting is told when it is turned away again, to the same value even."""
    async with _tree() as (tree, psu, witness):
        for _ in range(3):
            await psu.voltage.set(5.0)
            _turn(tree, "VOLT 7")
            await trio.sleep(SOON_S)
        assert [each.found for each in witness.of(StateDrifted)] == [7.0] * 3


async def test_leased(autojump_clock: MockClock) -> None:
    """Nothing is written into what somebody has leased; it is reported, naming them."""
    async with _tree(OnDrift.REAPPLY) as (tree, psu, witness):
        async with tree.lease("psu", owner="annealing"):
            _turn(tree, "VOLT 7")
            await trio.sleep(SOON_S)
            (drift,) = witness.of(StateDrifted)
            assert drift.action == "only reported: 'annealing' has leased it"
            assert await psu.voltage.get() == 7.0
        await trio.sleep(SOON_S)
        assert await psu.voltage.get() == 5.0


async def test_rounding(autojump_clock: MockClock) -> None:
    """What a device rounds is what it was told."""
    async with _tree(OnDrift.TRIP) as (tree, _, witness):
        _turn(tree, "VOLT 5.004")
        await trio.sleep(2 * EVERY_S)
        _turn(tree, "VOLT 4.996")
        await trio.sleep(2 * EVERY_S)
        assert not witness.of(StateDrifted)


async def test_written_meanwhile(autojump_clock: MockClock) -> None:
    """A setting that is written all the time is never taken for one that drifts."""
    async with _tree(OnDrift.TRIP) as (tree, psu, witness):
        tree.lines["psu"].latency_s = 0.3
        with trio.move_on_after(100):
            for number in range(10_000):
                await psu.voltage.set(number % 20)
        assert not witness.of(StateDrifted)


@pytest.mark.parametrize("executed", [True, False])
async def test_write_without_answer(executed: bool, autojump_clock: MockClock) -> None:
    """A write whose answer never came is found out about, and intended if it was carried out."""
    async with _tree(OnDrift.REAPPLY) as (tree, psu, witness):
        line = tree.lines["psu"]
        if executed:
            line.lose()
        else:
            line.hang()
        # There is no time for a second attempt.
        with trio.fail_after(1.5):
            ticket = await psu.voltage.submit(9.0)
        outcome = await ticket.outcome()
        assert outcome.may_have_executed
        line.unhang()
        await trio.sleep(SOON_S)
        (resolved,) = witness.of(WriteResolved)
        assert (resolved.command, resolved.executed) == ("voltage.set", executed)
        assert await psu.voltage.get() == (9.0 if executed else 5.0)


async def test_status(autojump_clock: MockClock) -> None:
    """A fault that the device finds by itself is told once, and a fatal one trips."""
    async with _tree(driver=Watched) as (tree, _, witness):
        _turn(tree, "VOLT:PROT 4")
        await trio.sleep(3 * EVERY_S)
        (fault,) = witness.of(StatusFault)
        assert (fault.instrument, fault.fault) == ("psu", "OVERVOLTAGE")
        assert len(witness.of(LaneTripped)) == 1


async def test_beside_an_operation(autojump_clock: MockClock) -> None:
    """Who sweeps is not looked at before it is done; its neighbour is, and the sweep goes on."""
    seen = Witness()
    policy = ReconcilePolicy(every_s=1.0, on_drift=OnDrift.REAPPLY)
    spec = TreeSpec(
        buses=[BusSpec(name="board", address="GPIB0", reconcile=policy)],
        instruments=[
            InstrumentSpec(name="generator", bus="board", driver=SignalGenerator, unit_id="1"),
            InstrumentSpec(name="psu", bus="board", driver=PowerSupply, unit_id="2"),
        ],
    )
    async with open_tree(spec, sim=True, observer=seen) as tree:
        generator = tree.get("generator", SignalGenerator)
        psu = tree.get("psu", PowerSupply)
        await generator.start_frequency.set(2e6)
        await generator.sweep_time.set(10.0)
        await psu.voltage.set(5.0)
        ticket = await generator.sweep.submit()
        began_s, asked_s = trio.current_time(), [trio.current_time()]
        line = tree.lines[generator.bus.name]
        line.requests.clear()
        models: Any = line.model
        model: Any = models.devices["1"]
        model.receive(b"FREQ:STAR 3e6\n", trio.current_time())
        models.devices["2"].receive(b"VOLT 7\n", trio.current_time())
        async for progress in ticket.progress():
            asked_s.append(trio.current_time())
            assert progress.said
        assert (await ticket.outcome()).ok
        assert trio.current_time() - began_s == pytest.approx(10.0, abs=0.2)
        # Progress came as often as ever, and the neighbour was looked at and mended.
        assert max(later - earlier for earlier, later in pairwise(asked_s)) <= 0.1
        assert [(each.instrument, each.found) for each in seen.of(StateDrifted)] == [("psu", 7.0)]
        assert await psu.voltage.get() == 5.0
        assert not any(b"FREQ" in data or b"ABOR" in data for _, data in line.requests)
        await trio.sleep(1.5)
        assert seen.of(StateDrifted)[-1].instrument == "generator"
        assert await generator.start_frequency.get() == 2e6


@asynccontextmanager
async def _hammered(
    *, at_once: int, on_drift: OnDrift = OnDrift.REPORT, latency_s: float = 0.2
) -> AsyncGenerator[tuple[Tree, list[Any], Witness]]:
    """Open a board of two supplies, the first of which is read without end by many tasks."""
    seen = Witness()
    policy = ReconcilePolicy(every_s=EVERY_S, on_drift=on_drift)
    spec = TreeSpec(
        buses=[BusSpec(name="board", address="GPIB0", reconcile=policy)],
        instruments=[
            InstrumentSpec(name=name, bus="board", driver=Watched, unit_id=unit)
            for name, unit in (("busy", "1"), ("idle", "2"))
        ],
    )
    async with open_tree(spec, sim=True, observer=seen) as tree:
        busy = tree.get("busy", PowerSupply)
        for psu in (busy, tree.get("idle", PowerSupply)):
            await psu.voltage.set(5.0)
            await psu.current_limit.set(1.0)
            await psu.output.set(True, confirm=True)
        line = tree.lines[busy.bus.name]
        line.latency_s = latency_s
        devices: Any = line.model

        async def read() -> None:
            while True:
                await busy.voltage.get()

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(read)
            yield tree, [devices.devices["1"], devices.devices["2"]], seen
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("at_once", [2, 100])
async def test_lane_never_empty(at_once: int, autojump_clock: MockClock) -> None:
    """However much an instrument is asked, it and its neighbour are looked at in each period."""
    async with _hammered(at_once=at_once) as (_, (busy, idle), seen):
        await trio.sleep(1.5 * EVERY_S)
        for number in range(2):
            for each in (busy, idle):
                each.receive(f"VOLT {7 + number}\n".encode(), trio.current_time())
            await trio.sleep(SOON_S)
            found = {(each.instrument, each.found) for each in seen.of(StateDrifted)}
            # Where a hundred wait, many for room, they go first: the board needs 20 s for them.
            if at_once < 100:
                assert found >= {("busy", 7 + number), ("idle", 7 + number)}
            assert ("idle", 7 + number) in found
        assert at_once == 100 or not seen.of(StateUnchecked)


async def test_fault_of_a_busy_device(autojump_clock: MockClock) -> None:
    """A fatal status bit trips within one period, however much the device is asked."""
    async with _hammered(at_once=2) as (_, (busy, _), seen):
        await trio.sleep(1.5 * EVERY_S)
        busy.receive(b"VOLT:PROT 4\n", trio.current_time())
        await trio.sleep(SOON_S)
        assert [each.fault for each in seen.of(StatusFault)] == ["OVERVOLTAGE"]
        (tripped,) = seen.of(LaneTripped)
        assert tripped.instrument == "busy"
        assert not busy.output_on


async def test_reapplied_under_load(autojump_clock: MockClock) -> None:
    """What has drifted is written again though the lane is never empty."""
    async with _hammered(at_once=3, on_drift=OnDrift.REAPPLY) as (tree, (busy, _), seen):
        await trio.sleep(1.5 * EVERY_S)
        busy.receive(b"VOLT 7\n", trio.current_time())
        await trio.sleep(SOON_S)
        assert [each.action for each in seen.of(StateDrifted)] == ["reapplied"]
        assert await tree.get("busy", PowerSupply).voltage.get() == 5.0


async def test_not_looked_at(autojump_clock: MockClock) -> None:
    """Whoever cannot be looked at for two periods is named once, with the reason."""
    async with _tree() as (tree, _, witness):
        async with tree.lease("psu", owner="annealing", reads="exclusive"):
            await trio.sleep(5.5 * EVERY_S)
            (unchecked,) = witness.of(StateUnchecked)
            assert (unchecked.instrument, unchecked.for_s) == ("psu", 2 * EVERY_S)
            assert "'annealing'" in unchecked.reason
        await trio.sleep(1.5 * EVERY_S)
        async with tree.lease("psu", owner="again", reads="exclusive"):
            await trio.sleep(3 * EVERY_S)
            assert len(witness.of(StateUnchecked)) == 2


async def test_away(autojump_clock: MockClock) -> None:
    """What is away is not asked, and what came back is as intended before it is looked at."""
    async with _tree(OnDrift.TRIP) as (tree, psu, witness):
        line = tree.lines["psu"]
        line.unplug()
        await trio.sleep(60)
        line.reset()
        line.replug()
        await trio.sleep(200)
        assert await psu.voltage.get() == 5.0
        # Its output is off, and was on when it left: that is for its owner to decide.
        assert [each.setting for each in witness.of(StateDrifted)] == ["output"]


async def test_never(autojump_clock: MockClock) -> None:
    """A period of 0 means that nothing is asked."""
    async with _tree(every_s=0.0) as (tree, _, _):
        asked = len(tree.lines["psu"].requests)
        await trio.sleep(600)
        assert len(tree.lines["psu"].requests) == asked


def test_keys(tmp_path: Path) -> None:
    """The keys are understood, and mistakes in them are named."""
    path = tmp_path / "bench.toml"
    bench = (
        '[bus.supply]\naddress = "tcp://192.0.2.1:1"\nreconcile = %s\n'
        '[instrument.psu]\nbus = "supply"\ndriver = "scpi.power_supply"\n'
    )
    path.write_text(bench % '{ every_s = 3, on_drift = "trip" }')
    (bus,) = load_config(path).tree.buses
    assert bus.reconcile == ReconcilePolicy(every_s=3.0, on_drift=OnDrift.TRIP)
    path.write_text(bench % '{ every_s = -1, on_drift = "mend" }')
    with pytest.raises(ConfigError) as wrong:
        load_config(path)
    assert "bus.supply.reconcile.every_s: " in str(wrong.value)
    assert "it must be one of report, reapply, trip" in str(wrong.value)


Unanswered: TypeAlias = Callable[[Assignment[Any]], Awaitable[None]]
"""Carries out a write whose answer never comes."""


@asynccontextmanager
async def _generator(
    on_drift: OnDrift,
) -> AsyncGenerator[tuple[FunctionGenerator, Unanswered, Witness]]:
    """Open a tree with a generator, nothing of which is ever taken for drifted."""
    witness = Witness()
    policy = ReconcilePolicy(every_s=EVERY_S, on_drift=on_drift)
    spec = _reconciled("generator", FunctionGenerator, policy)
    async with open_tree(spec, sim=True, observer=witness) as tree:
        generator = tree.get("generator", FunctionGenerator)

        async def write(assignment: Assignment[Any]) -> None:
            tree.lines["generator"].lose()
            # There is no time for a second attempt.
            with trio.fail_after(1.5):
                ticket = await generator.submit(assignment)
            assert (await ticket.outcome()).may_have_executed

        yield generator, write, witness
        await trio.sleep(3 * EVERY_S)
        assert not witness.of(StateDrifted)
        assert not witness.of(LaneTripped)


@pytest.mark.parametrize("on_drift", OnDrift)
async def test_what_a_doubtful_write_may_have_moved(
    on_drift: OnDrift, autojump_clock: MockClock
) -> None:
    """Volts have not drifted where a load that may have been taken has moved them."""
    async with _generator(on_drift) as (generator, unanswered, witness):
        await generator.amplitude.set(2.0)
        await unanswered(FunctionGenerator.load.to(HIGH_IMPEDANCE))
        await trio.sleep(SOON_S)
        assert [each.executed for each in witness.of(WriteResolved)] == [True]
        assert await generator.amplitude.get() == 4.0


@pytest.mark.parametrize("on_drift", OnDrift)
async def test_what_was_written_after_a_doubtful_write(
    on_drift: OnDrift, autojump_clock: MockClock
) -> None:
    """Found to have been taken, a load moves what was set before it, and nothing set since."""
    async with _generator(on_drift) as (generator, unanswered, _):
        await generator.load.set(50.0)
        await generator.amplitude.set(2.0)
        await generator.offset.set(1.0)
        await unanswered(FunctionGenerator.load.to(HIGH_IMPEDANCE))
        await generator.amplitude.set(3.0)
        await trio.sleep(SOON_S)
        assert await generator.amplitude.get() == 3.0
        kept = generator.bus.intended("generator")
        # The load first: it moves the others once more when they are restored.
        assert list(kept) == ["load", "amplitude", "offset"]
        wanted = [each.readback.wanted for each in kept.values() if each.readback is not None]
        assert wanted == [HIGH_IMPEDANCE, 3.0, 2.0]


async def test_a_doubtful_write_is_settled_by_another(autojump_clock: MockClock) -> None:
    """What was set between two loads, the first of them in doubt, nobody knows any more."""
    async with _generator(OnDrift.REAPPLY) as (generator, unanswered, _):
        await generator.load.set(50.0)
        await generator.amplitude.set(2.0)
        await generator.offset.set(1.0)
        await unanswered(FunctionGenerator.load.to(HIGH_IMPEDANCE))
        await generator.amplitude.set(3.0)
        await generator.load.set(50.0)
        assert list(generator.bus.intended("generator")) == ["load", "offset"]
        await trio.sleep(SOON_S)
        assert await generator.amplitude.get() == 1.5
        assert await generator.offset.get() == 1.0


async def test_doubtful_volts_are_moved(autojump_clock: MockClock) -> None:
    """Volts of which it is in doubt which they were are not known once another load moved them."""
    async with _generator(OnDrift.REAPPLY) as (generator, unanswered, _):
        await generator.load.set(50.0)
        await generator.amplitude.set(2.0)
        await unanswered(FunctionGenerator.amplitude.to(3.0))
        await generator.load.set(HIGH_IMPEDANCE)
        await trio.sleep(SOON_S)
        assert await generator.amplitude.get() == 6.0
