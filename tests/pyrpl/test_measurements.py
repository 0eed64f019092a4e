"""What an emulated board measures is what theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trio

from actors import CommandError
from tests.pyrpl.boards import Floats, bench, strongest

pytestmark = pytest.mark.heavy


async def test_a_loop_back_shows_what_was_put_out() -> None:
    """A sine of 1 kHz and 0.5 V is seen with its frequency and its amplitude."""
    async with bench() as b:
        rp = b.rp
        await rp.asg0.setup(waveform="sin", frequency=1e3, amplitude=0.5, output="out1")
        trace = await rp.scope.single(input1="in1", input2="asg0", duration=0.1)
        assert trace.time.dtype == trace.ch1.dtype == np.float64
        for volts in (trace.ch1, trace.ch2):
            frequency, amplitude = _sine(trace.time, volts)
            assert frequency == pytest.approx(1e3, rel=1e-3)
            assert amplitude == pytest.approx(0.5, rel=1e-2)
        statistics = await rp.sampler.statistics("asg0", 0.1)
        assert -0.51 < statistics.low < statistics.mean < statistics.high < 0.51


def _sine(time: Floats, volts: Floats) -> tuple[float, float]:
    """Return the frequency and the amplitude of the sine that fits best."""
    around = strongest(time, volts)
    best = (math.inf, 0.0, 0.0)
    for offset in range(-200, 201):
        frequency = around + 0.05 * offset
        phase = 2 * np.pi * frequency * time
        waves: Floats = np.stack([np.sin(phase), np.cos(phase), np.ones_like(phase)], axis=1)
        factors = np.linalg.lstsq(waves, volts, rcond=None)[0].astype(np.float64)
        rest = float(np.sum((volts - waves @ factors) ** 2))
        best = min(best, (rest, frequency, math.hypot(float(factors[0]), float(factors[1]))))
    return best[1], best[2]


async def test_a_sweep_of_a_filter_matches_theory() -> None:
    """The transfer function of a low-pass filter of 10 kHz, point by point as it is measured."""
    corner_hz = 10e3
    async with bench({"cutoff_hz": corner_hz}) as b:
        sweep = b.rp.network_analyzer.sweep(
            1e3, 100e3, 11, amplitude=0.5, input="in1", output="out1", bandwidth_hz=100.0
        )
        points = [point async for point in sweep]
        whole = await sweep.result()
        assert [each.index for each in points] == list(range(11))
        assert np.array_equal([each.response for each in points], whole.response)
        theory = 1 / (1 + 1j * whole.frequency_hz / corner_hz)
        assert np.abs(whole.response / theory) == pytest.approx(1.0, abs=0.01)


async def test_a_control_loop_settles() -> None:
    """A controller brings what it controls to its set point; the error is gone."""
    async with bench({"cutoff_hz": 100.0}) as b:
        pid = b.rp.pid0
        await pid.input.set("in1")
        await pid.setpoint.set(0.3)
        await pid.p.set(-0.1)
        await pid.i.set(-50.0)
        await pid.output.set("out1")
        with trio.fail_after(20.0):
            settled = await pid.wait_stable(0.01, 0.3)
        assert abs(settled.error) < 0.01
        assert await b.rp.sampler.in1.get() == pytest.approx(0.3, abs=0.02)
        await pid.output.set("off")
        # What PyRPL's own modules are called as inputs has an error, too.
        for source in ("networkanalyzer", "lockbox.inputs.input1"):
            await pid.input.set(source)
            error = await pid.error.get()
            assert error is not None
            assert abs(error) <= 2.0
        await pid.input.set("in1")
        with trio.move_on_after(0.5) as waited:
            await pid.wait_stable(0.01, 0.2)
        assert waited.cancelled_caught


async def test_a_demodulated_signal_has_both_quadratures() -> None:
    """A lock-in amplifier finds the amplitude that comes back through a cable."""
    async with bench() as b:
        iq = b.rp.iq0
        await iq.frequency.set(20e3)
        await iq.bandwidth.set([100.0])
        await iq.input.set("in1")
        await iq.output_signal.set("quadrature")
        await iq.quadrature_factor.set(2.0)
        await iq.amplitude.set(0.4)
        await iq.output.set("out1")
        await trio.sleep(0.1)
        await iq.output_signal.set("output_direct")
        with pytest.raises(CommandError, match=r"iq0\.output_signal is 'output_direct': its quad"):
            await iq.quadratures(average_s=0.05)
        await iq.output_signal.set("quadrature")
        found = await iq.quadratures(average_s=0.05)
        assert found.amplitude == pytest.approx(0.4, rel=0.05)
        assert await iq.phase.get() == pytest.approx(0.0, abs=0.01)


async def test_lamps_pins_and_slow_outputs() -> None:
    """Lamps, pins and slow outputs are set and read back."""
    async with bench() as b:
        rp = b.rp
        await rp.hk.led.set(0b1010)
        assert b.register(0x4000_0030) == 0b1010
        await rp.hk.drives_p.set(True, instance=3)
        await rp.hk.pin_p.set(True, instance=3)
        assert b.register(0x4000_0018) & 0b100
        await rp.ams.dac2.set(0.9)
        assert await rp.ams.dac2.get() == pytest.approx(0.9, abs=0.01)
        await rp.pwm0.input.set("pid0")
        assert await rp.pwm0.input.get() == "pid0"
        await rp.trigger.threshold.set(0.25)
        assert await rp.trigger.threshold.get() == pytest.approx(0.25)
