"""Alicat drivers on their device models, under a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from actors import Cause, CommandError, Event, MemoryWorn, RefusedError
from actors.instruments.alicat import (
    Alicat,
    AlicatLineModel,
    AlicatUnit,
    FlowController,
    FlowMeter,
    PressureController,
    PressureMeter,
)
from actors.instruments.alicat.models import GASES
from benchtree import Tree, open_tree
from transports import SimLine


@frozen
class Desk:
    """One instrument, its device and its line."""

    tree: Tree
    unit: AlicatUnit
    line: SimLine
    seen: list[Event]


@asynccontextmanager
async def desk(driver: type[Alicat]) -> AsyncGenerator[Desk]:
    """Run one instrument of a kind as `dut`."""
    seen: list[Event] = []
    async with open_tree(observer=seen.append) as tree:
        added = await tree.add("dut", driver, "sim://line")
        await added.pressure.get()  # once it is identified
        (line,) = tree.lines.values()
        assert isinstance(line.model, AlicatLineModel)
        yield Desk(tree, line.model.units["A"], line, seen)


async def test_flow_follows_the_setpoint(autojump_clock: MockClock) -> None:
    """A setpoint is taken, read back, and flow follows it."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        await mfc.setpoint.set(100.0)
        assert bench.unit.setpoint == 100.0
        await trio.sleep(2)
        assert await mfc.mass_flow.get() == pytest.approx(100.0, abs=0.1)
        assert await mfc.setpoint.get() == 100.0
        assert await mfc.valve_drive.get() == 20.0
        assert await mfc.gas.get() == "N2"
        await mfc.hold_closed(confirm=True)
        await trio.sleep(2)
        assert await mfc.status.get() == "HLD"
        assert await mfc.mass_flow.get() == 0.0
        await mfc.cancel_hold()
        await trio.sleep(2)
        assert await mfc.mass_flow.get() == pytest.approx(100.0, abs=0.1)
        await mfc.exhaust(confirm=True)
        assert "EXH" in (await mfc.status.get() or "")


async def test_setpoint_that_is_not_taken(autojump_clock: MockClock) -> None:
    """A device that another source controls says yes and does nothing: that is an error."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        with pytest.raises(RefusedError, match="pass confirm=True"):
            await mfc.setpoint_source.set("A")
        await mfc.setpoint_source.set("A", confirm=True)
        with pytest.raises(CommandError, match="it holds a setpoint of 0") as refused:
            await mfc.setpoint.set(10.0)
        assert refused.value.cause is Cause.DEVICE
        assert not refused.value.may_have_executed


async def test_safe_whoever_sets_the_setpoint(autojump_clock: MockClock) -> None:
    """Driven safe, a device takes no setpoint from its analogue input any more."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        await mfc.setpoint.set(100.0)
        await mfc.setpoint_source.set("A", confirm=True)
        await bench.tree.trip("dut")
        assert (bench.unit.source, bench.unit.setpoint) == ("S", 0.0)


async def test_wrong_gas_reads_wrong(autojump_clock: MockClock) -> None:
    """A laminar element set to another gas shows a flow in proportion to the viscosities."""
    async with desk(FlowMeter) as bench:
        meter = bench.tree.get("dut", FlowMeter)
        bench.unit.inlet, bench.unit.true_gas = 100.0, GASES["He"]
        await trio.sleep(2)
        await meter.gas.set("He")
        assert await meter.mass_flow.get() == pytest.approx(100.0, abs=0.1)
        await meter.gas.set("N2")
        assert await meter.mass_flow.get() == pytest.approx(100.0 * 198.5 / 178.1, abs=0.1)
        bench.unit.inlet = 900.0
        await trio.sleep(2)
        assert await meter.status.get() == "MOV"


async def test_tare_and_totaliser(autojump_clock: MockClock) -> None:
    """A tare takes the flow for zero; resetting the totaliser does not tare."""
    async with desk(FlowMeter) as bench:
        meter = bench.tree.get("dut", FlowMeter)
        bench.unit.inlet = 60.0
        await trio.sleep(60)
        await meter.mass_flow.get()
        assert 30.0 <= bench.unit.total <= 60.5
        await meter.reset_totalizer(confirm=True)
        assert bench.unit.total == 0.0
        assert await meter.mass_flow.get() == pytest.approx(60.0, abs=0.1)
        with pytest.raises(RefusedError, match="pass confirm=True"):
            await meter.tare_flow()
        await meter.tare_flow(confirm=True)
        assert await meter.mass_flow.get() == pytest.approx(0.0, abs=0.1)
        assert b"AT 1\r" in [data for _, data in bench.line.requests]


async def test_pressure_instruments(autojump_clock: MockClock) -> None:
    """A pressure controller controls pressure within its full scale; a meter has no setpoint."""
    async with desk(PressureController) as bench:
        controller = bench.tree.get("dut", PressureController)
        await controller.setpoint.set(50.0)
        await trio.sleep(2)
        assert await controller.pressure.get() == pytest.approx(50.0, abs=0.1)
        with pytest.raises(RefusedError, match="a number from 0 to 100 PSIA"):
            await controller.setpoint.set(100.5)
    async with desk(PressureMeter) as bench:
        meter = bench.tree.get("dut", PressureMeter)
        assert await meter.pressure.get() == 14.0
        with pytest.raises(CommandError, match="its data frame has no temperature"):
            await meter.temperature.get()


async def test_unit_of_flow(autojump_clock: MockClock) -> None:
    """After a change of unit, layout and full scale are read anew and earlier setpoints dropped."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        await mfc.setpoint.set(100.0)
        await mfc.mass_flow_unit.set(7, confirm=True)
        with pytest.raises(RefusedError, match=r"a number from 0 to 0\.5 SLPM"):
            await mfc.setpoint.set(100.0)
        (sample,) = await bench.tree.poll_many(["setpoint"])
        assert (sample.value, sample.unit) == (0.1, "SLPM")
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await trio.sleep(60)
        # Restored, 100 would be 100 standard litres a minute.
        assert await mfc.setpoint.get() == 0.0
        with pytest.raises(CommandError, match="rejected"):
            await mfc.mass_flow_unit.set(99, confirm=True)
        await mfc.setpoint.set(0.25)
        assert bench.unit.setpoint == 250.0


async def test_change_of_unit_id(autojump_clock: MockClock) -> None:
    """A unit that was given another letter answers under it, and is the same instrument."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        await mfc.setpoint.set(10.0)
        await mfc.unit_id.set("K", confirm=True)
        assert mfc.unit == bench.unit.letter == "K"
        assert await mfc.setpoint.get() == 10.0
        assert await mfc.unit_id.get() == "K"
        await mfc.setpoint.set(20.0)
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.replug()
        await trio.sleep(60)
        assert await mfc.setpoint.get() == 20.0


async def test_lost_change_of_unit_id(autojump_clock: MockClock) -> None:
    """A change of letter that nobody confirms is an error, and may have happened."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        bench.line.hang()
        with pytest.raises(CommandError) as lost:
            await mfc.unit_id.set("K", confirm=True)
        assert lost.value.may_have_executed
        bench.line.unhang()
        assert mfc.unit == "A"
        await trio.sleep(60)
        assert await mfc.setpoint.get() == 0.0


async def test_change_of_unit_id_that_nobody_confirmed(autojump_clock: MockClock) -> None:
    """A unit that took another letter and could not say so is found under it.

    It was asked by its old letter for ever. Until it is found, nobody else is given either.
    """
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        bench.line.lose(100)
        with pytest.raises(CommandError) as lost:
            await mfc.unit_id.set("K", confirm=True)
        assert lost.value.may_have_executed
        assert (mfc.unit or "A", bench.unit.letter) == ("A", "K")
        with pytest.raises(ValueError, match="unit K"):
            mfc.bus.attach(FlowMeter("other", mfc.bus, unit="K"))
        bench.line.disarm()
        await trio.sleep(60)
        assert await mfc.setpoint.get() == 0.0
        assert mfc.unit == "K"
        assert list(mfc.bus.units()) == ["K"]


async def test_wear_is_counted(autojump_clock: MockClock) -> None:
    """Writes to the device's memory are counted; more than ten a minute are warned of, once."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        for index in range(30):
            await mfc.gas.set(("Ar", "N2")[index % 2])
            await mfc.setpoint.set(float(index))
        assert mfc.wear == 30
        warned = [each for each in bench.seen if isinstance(each, MemoryWorn)]
        assert [(each.instrument, each.writes, each.last_minute) for each in warned] == [
            ("dut", 11, 11)
        ]
        for _ in range(20):
            await trio.sleep(30)
            await mfc.gas.set("Ar")
        assert mfc.wear == 50
        assert len([each for each in bench.seen if isinstance(each, MemoryWorn)]) == 1


async def test_one_exchange_for_all_columns(autojump_clock: MockClock) -> None:
    """Many columns of a recording cost one exchange; a column that is missing costs no other."""
    async with desk(FlowController) as bench:
        before = len(bench.line.requests)
        names = ["mass_flow", "pressure", "temperature", "setpoint", "gas", "status", "total_mass"]
        samples = await bench.tree.poll_many(names)
        assert len(bench.line.requests) == before + 1
        assert {each.parameter for each in samples} == set(names) - {"total_mass"}
        assert len({(each.requested_ns, each.received_ns) for each in samples}) == 1
        assert {each.parameter: each.unit for each in samples}["temperature"] == "degC"


async def test_old_firmware(autojump_clock: MockClock) -> None:
    """A device without `VE` and with the older table is identified and polled."""
    async with desk(FlowController) as bench:
        mfc = bench.tree.get("dut", FlowController)
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.replug(AlicatLineModel([AlicatUnit("A", old=True)]))
        await trio.sleep(60)
        assert await mfc.pressure.get() == 14.0
        assert mfc.firmware == "5v12"
        assert mfc.full_scale is None
