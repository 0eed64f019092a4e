"""Source-measure units: what the load lets through, compliance, and curves."""

from __future__ import annotations

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, CommandState, RefusedError
from actors.faults import FRAMING, OVER_TEMPERATURE
from actors.instruments.scpi import Diode, Resistor, SourceMeasureModel, SourceMeasureUnit
from actors.instruments.scpi.blocks import decode_block, highest
from actors.instruments.scpi.spectrometer import OpticalSpectrum
from tests.actors.bench import Bench

from .line import on_line


async def switched_on(smu: SourceMeasureUnit, limit_a: float = 0.1, limit_v: float = 10.0) -> None:
    """Set the limits and switch the output on."""
    await smu.current_limit.set(limit_a)
    await smu.voltage_limit.set(limit_v)
    await smu.output.set(True, confirm=True)


def test_what_was_out_of_range_is_no_number() -> None:
    """The marks that stand for an overload in a block are NaN, as a single reading is None."""
    rounded = float(np.float32(9.9e37))
    sent = np.array([1.0, 9.9e37, -9.9e37, 9.91e37, rounded, np.inf, np.nan, -2.0])
    data = sent.astype(">f8").tobytes()
    found = decode_block(b"#2%d%s" % (len(data), data), 0).reals()
    np.testing.assert_array_equal(found, [1.0, *[np.nan] * 6, -2.0])
    assert highest(found) == 0
    assert OpticalSpectrum(np.arange(8.0), found, 0.1, 0).peak == (0.0, 1.0)


async def test_a_resistor_follows_ohm(autojump_clock: MockClock) -> None:
    """Sourced volts give amperes, sourced amperes give volts."""
    async with on_line(SourceMeasureUnit, SourceMeasureModel(load=Resistor(100.0))) as (smu, _):
        await switched_on(smu)
        await smu.voltage.set(5.0)
        assert await smu.measured_voltage.get() == pytest.approx(5.0)
        assert await smu.measured_current.get() == pytest.approx(0.05)
        assert await smu.current_limited.get() is False
        await smu.function.set("CURR")
        await smu.current.set(0.02)
        assert await smu.measured_voltage.get() == pytest.approx(2.0)
        assert await smu.voltage_limited.get() is False


async def test_compliance_holds_the_limit(autojump_clock: MockClock) -> None:
    """What would exceed a limit stays at it, in both functions, and says so."""
    async with on_line(SourceMeasureUnit, SourceMeasureModel(load=Resistor(100.0))) as (smu, _):
        await switched_on(smu, 0.01, 0.5)
        await smu.voltage.set(-5.0)
        assert await smu.measured_current.get() == pytest.approx(-0.01)
        assert await smu.measured_voltage.get() == pytest.approx(-1.0)
        assert (await smu.current_limited.get(), await smu.voltage_limited.get()) == (True, False)
        await smu.function.set("CURR")
        await smu.current.set(0.02)
        assert await smu.measured_voltage.get() == pytest.approx(0.5)
        assert (await smu.current_limited.get(), await smu.voltage_limited.get()) == (False, True)


async def test_output_needs_its_limits(autojump_clock: MockClock) -> None:
    """It is not switched on before both limits were set, and never without confirmation."""
    model = SourceMeasureModel()
    async with on_line(SourceMeasureUnit, model) as (smu, bench):
        with pytest.raises(RefusedError, match="voltage_limit must be set") as refused:
            await smu.output.set(True, confirm=True)
        assert refused.value.cause is Cause.DEPENDENCY
        await smu.voltage_limit.set(2.0)
        with pytest.raises(RefusedError, match="current_limit must be set"):
            await smu.output.set(True, confirm=True)
        await smu.current_limit.set(0.1)
        with pytest.raises(RefusedError, match="confirm=True"):
            await smu.output.set(True)
        assert await smu.output.get() is False
        await smu.output.set(False)
        await smu.output.set(True, confirm=True)
        assert await smu.output.get() is True
        (safe,) = await bench.bus.make_safe(["psu"], "a test")
        assert safe.error is None
        assert not model.output_on


async def test_the_curve_of_a_diode(autojump_clock: MockClock) -> None:
    """A sweep returns volts, amperes and instants; beyond the limit it is in compliance."""
    diode = Diode()
    async with on_line(SourceMeasureUnit, SourceMeasureModel(load=diode)) as (smu, bench):
        await switched_on(smu, limit_a=1e-3)
        began_s = trio.current_time()
        curve = await smu.sweep(-0.5, 1.0, 31, confirm=True)
        assert trio.current_time() - began_s >= 31 * 0.021
        assert curve.volts.dtype == curve.amperes.dtype == np.float64
        assert len(curve.volts) == len(curve.amperes) == len(curve.t_s) == 31
        assert np.all(np.diff(curve.t_s) > 0)
        free = ~curve.limited
        assert curve.volts[free] == pytest.approx(np.linspace(-0.5, 1.0, 31)[free], abs=1e-9)
        wanted = [diode.current_a(float(volts)) for volts in curve.volts]
        assert curve.amperes == pytest.approx(wanted, rel=1e-6)
        assert np.max(curve.amperes) == pytest.approx(1e-3)
        assert np.max(curve.volts) == pytest.approx(diode.voltage_v(1e-3))
        assert curve.limited.sum() > 5
        assert not any("*OPC?" in each for each in bench.sent())
        assert (await smu.fetched()).volts == pytest.approx(curve.volts)


async def test_a_sweep_is_refused_before_anything_is_set(autojump_clock: MockClock) -> None:
    """Unconfirmed, with the output off, or out of range: nothing drives the load."""
    model = SourceMeasureModel()
    async with on_line(SourceMeasureUnit, model) as (smu, bench):
        with pytest.raises(RefusedError, match="confirm=True"):
            await smu.sweep(0.0, 1.0, 11)
        with pytest.raises(RefusedError, match="output must be set to True"):
            await smu.sweep(0.0, 1.0, 11, confirm=True)
        assert bench.sent() == []
        await switched_on(smu)
        bench.line.requests.clear()
        with pytest.raises(RefusedError, match="out of range"):
            await smu.sweep(0.0, 1000.0, 11, confirm=True)
        assert not any("INIT" in each for each in bench.sent())


async def test_a_sweep_is_aborted(autojump_clock: MockClock) -> None:
    """Withdrawn amid its points it stops at the device; what it had is there."""
    model = SourceMeasureModel()
    async with on_line(SourceMeasureUnit, model) as (smu, bench):
        await switched_on(smu)
        ticket = await smu.submit_sweep(0.0, 1.0, 101, confirm=True)
        await trio.sleep(1.0)
        assert ticket.state is CommandState.ACKNOWLEDGED
        ticket.withdraw()
        assert (await ticket.outcome()).cause is Cause.WITHDRAWN
        curve = await smu.fetched()
        assert 40 < len(curve.volts) < 60
        assert "ABOR;:SYST:ERR?" in bench.sent()
        assert model.output_on


async def test_heat_trips_it(autojump_clock: MockClock) -> None:
    """Over-temperature is a condition of its status register, and fatal."""
    model = SourceMeasureModel()
    async with on_line(SourceMeasureUnit, model) as (smu, _):
        await switched_on(smu)
        model.hot = True
        plan = smu.status_plan()
        assert plan is not None
        (fault,) = await smu.ask_plan(plan)
        assert fault.kind is OVER_TEMPERATURE
        assert fault.kind.fatal
        assert not model.output_on
        with pytest.raises(CommandError, match="-221"):
            await smu.output.set(True, confirm=True)


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (b"#18" + b"\x3f" + b"\0" * 7, FRAMING),  # one number is no point
        (b"#232" + b"\0" * 24 + b"\x7f\xf8" + b"\0" * 6, FRAMING),  # its status is no number
        (b"#15abcde", FRAMING),
    ],
)
async def test_broken_curves_are_faults(
    autojump_clock: MockClock, block: bytes, kind: object
) -> None:
    """Points that are cut short are a typed fault, never a curve."""
    async with on_line(SourceMeasureUnit, SourceMeasureModel()) as (smu, bench):
        bench.line.foreign(block + b';+0,"No error"\n')
        with pytest.raises(CommandError) as failed:
            await smu.fetched()
        assert failed.value.fault is not None
        assert failed.value.fault.kind is kind
        with pytest.raises(CommandError, match="-230") as failed:
            await smu.fetched()
        assert failed.value.cause is Cause.DEVICE


async def test_the_output_is_not_restored(autojump_clock: MockClock) -> None:
    """After a power cycle settings come back, the output stays off."""
    model = SourceMeasureModel()
    async with on_line(SourceMeasureUnit, model) as (smu, bench):
        await switched_on(smu)
        await smu.voltage.set(3.0)
        await _power_cycle(bench, model)
        assert await smu.voltage.get() == 3.0
        assert await smu.output.get() is False


async def _power_cycle(bench: Bench, model: SourceMeasureModel) -> None:
    bench.line.unplug()
    model.reset(trio.current_time())
    await trio.sleep(1.0)
    bench.line.replug()
    await bench.in_service()
