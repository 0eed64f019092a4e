"""Every built-in family on its own kind of line: models keep what is checked of real ones."""

from __future__ import annotations

import pytest
from attrs import evolve

from actors import CommandError, RefusedError
from actors.instruments.alicat import AlicatLineModel, FlowController, FlowMeter
from actors.instruments.scpi import PowerSupply, PowerSupplyModel, SourceMeasureUnit
from actors.instruments.watlow import EzZoneModbus, EzZoneStandardBus
from benchtree.exercise import Exercise
from benchtree.faultplan import LEVELS, FaultPlan
from benchtree.repeatable import SimulationError
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from transports import GATEWAY, RS485

DURATION_S = 90.0

FAMILIES = TreeSpec(
    buses=[
        BusSpec(name="board", address="GPIB0"),
        BusSpec(name="gas", address="serial:///dev/ttyUSB0", profile=RS485),
        BusSpec(name="oven", address="serial:///dev/ttyUSB1", profile=RS485),
        BusSpec(name="modbus", address="tcp://192.0.2.9:502", profile=GATEWAY),
    ],
    instruments=[
        InstrumentSpec(name="psu5", bus="board", driver=PowerSupply, unit_id="5"),
        InstrumentSpec(name="psu6", bus="board", driver=PowerSupply, unit_id="6"),
        InstrumentSpec(name="smu", bus="board", driver=SourceMeasureUnit, unit_id="7"),
        InstrumentSpec(name="argon", bus="gas", driver=FlowMeter, unit_id="A"),
        InstrumentSpec(name="oxygen", bus="gas", driver=FlowMeter, unit_id="B"),
        InstrumentSpec(name="helium", bus="gas", driver=FlowController, unit_id="C"),
        InstrumentSpec(name="zone1", bus="oven", driver=EzZoneStandardBus, unit_id="1"),
        InstrumentSpec(name="zone2", bus="oven", driver=EzZoneStandardBus, unit_id="2"),
        InstrumentSpec(name="loop", bus="modbus", driver=EzZoneModbus, unit_id="1"),
    ],
)


@pytest.mark.parametrize("seed", range(3))
def test_families_keep_the_invariants(seed: int) -> None:
    """Nothing is wrong with a board of several addresses, or with units that share a pair.

    A board's requests were taken for questions to nobody, what drives a Watlow safe for a
    hazard, and two Alicats on one line could not be simulated at all.
    """
    plan = FaultPlan.seeded(seed, FAMILIES, duration_s=DURATION_S, rates=LEVELS["heavy"])

    async def main(bench: Bench) -> None:
        await Exercise(bench, DURATION_S).run()

    assert simulate(seed, main, bench=FAMILIES, faults=plan).violations == ()


def test_instruments_that_change_their_addresses() -> None:
    """What was one instrument's letter can become another's, and is that one's to write."""

    async def main(bench: Bench) -> None:
        argon = bench.get("argon", FlowMeter)
        oxygen = bench.get("oxygen", FlowMeter)
        await oxygen.unit_id.set("Z", confirm=True)
        await argon.unit_id.set("B", confirm=True)
        await bench.tree.trip("oxygen")
        await argon.unit_id.set("H", confirm=True)
        bench.unplug("gas", for_s=5.0)
        await Exercise(bench, 10.0).run()

    assert simulate(0, main, bench=FAMILIES).violations == ()


def test_reply_of_several_lines() -> None:
    """A reply whose lines were put together again is the device's own."""

    async def main(bench: Bench) -> None:
        await bench.get("oxygen", FlowMeter).mass_flow_unit.set(12, confirm=True)
        assert await bench.get("oxygen", FlowMeter).mass_flow.get() is not None

    assert simulate(0, main, bench=FAMILIES).violations == ()


def test_devices_of_several_kinds_on_one_line() -> None:
    """Each answers as what it is: all were taken for the kind of the first."""

    async def main(bench: Bench) -> None:
        await bench.get("helium", FlowController).setpoint.set(20.0)
        assert bench.device("helium", AlicatLineModel).setpoints() == {"C": 20.0}
        assert set(bench.device("argon", AlicatLineModel).units) == {"A", "B"}

    assert simulate(0, main, bench=FAMILIES).violations == ()


def test_device_that_is_alone_on_its_line() -> None:
    """A device without an address cannot share a line with others."""
    supply = InstrumentSpec(name="psu", bus="gas", driver=PowerSupply)
    bench = evolve(FAMILIES, instruments=[*FAMILIES.instruments, supply])

    async def main(bench: Bench) -> None:
        raise AssertionError(f"{bench} was simulated")

    with pytest.raises(SimulationError, match="gas: PowerSupply's device model is alone"):
        simulate(0, main, bench=bench)


def test_device_on_a_board() -> None:
    """Behind a board each instrument has a device of its own."""

    async def main(bench: Bench) -> None:
        await bench.get("psu6", PowerSupply).output.set(True, confirm=True)
        models = [bench.device(name, PowerSupplyModel) for name in ("psu5", "psu6")]
        assert [each.output_on for each in models] == [False, True]

    assert simulate(0, main, bench=FAMILIES).violations == ()


def test_a_doubled_reply_is_the_device_s_own() -> None:
    """Put together with its copy, as a reply of several lines is, it was nobody's."""

    async def main(bench: Bench) -> None:
        bench.lines["gas"].duplicate(unit="Z")
        await bench.get("oxygen", FlowMeter).unit_id.set("Z", confirm=True)

    assert simulate(0, main, bench=FAMILIES).violations == ()


def test_a_letter_that_nobody_confirmed_is_kept() -> None:
    """Whoever may go by it is found; to two units of one letter nobody can talk."""

    async def main(bench: Bench) -> None:
        argon, oxygen = bench.get("argon", FlowMeter), bench.get("oxygen", FlowMeter)
        assert await argon.mass_flow.get() is not None  # both are in service
        assert await oxygen.mass_flow.get() is not None
        for unit in "BZ":
            bench.lines["gas"].lose(100, unit)
        with pytest.raises(CommandError):
            await oxygen.unit_id.set("Z", confirm=True)
        with pytest.raises(RefusedError, match="oxygen is unit Z already"):
            await argon.unit_id.set("Z", confirm=True)
        bench.lines["gas"].disarm()
        await Exercise(bench, 10.0).run()

    assert simulate(0, main, bench=FAMILIES).violations == ()
