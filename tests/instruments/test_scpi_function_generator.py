"""Function generators: what is programmed is at the terminals, and on an oscilloscope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Assignment, Cause, CommandError, RefusedError
from actors.instruments.scpi import (
    HIGH_IMPEDANCE,
    FunctionGenerator,
    FunctionGeneratorModel,
    Oscilloscope,
    OscilloscopeModel,
    Shape,
)

from .line import on_line


@pytest.mark.parametrize(
    ("load_ohm", "connected_ohm", "peak_v"),
    [
        (50.0, 50.0, 1.0),
        (50.0, math.inf, 2.0),  # set for 50 ohm, and nothing there: twice the voltage
        (HIGH_IMPEDANCE, math.inf, 1.0),
        (HIGH_IMPEDANCE, 50.0, 0.5),
    ],
)
async def test_the_load_divides_the_voltage(
    autojump_clock: MockClock, load_ohm: float, connected_ohm: float, peak_v: float
) -> None:
    """Amplitude is what the load that was set gets; another one gets another voltage."""
    model = FunctionGeneratorModel(connected_ohm=connected_ohm)
    async with on_line(FunctionGenerator, model) as (generator, _):
        await generator.load.set(load_ohm)
        await generator.amplitude.set(2.0)
        await generator.output.set(True, confirm=True)
        assert model.terminal.amplitude_v == pytest.approx(peak_v)
        assert await generator.load.get() == load_ohm


async def test_an_oscilloscope_shows_what_is_programmed(autojump_clock: MockClock) -> None:
    """Shape, frequency, amplitude and offset arrive at the input they are connected to."""
    model = FunctionGeneratorModel()
    async with (
        on_line(FunctionGenerator, model) as (generator, _),
        on_line(Oscilloscope, OscilloscopeModel(inputs=[lambda: model.terminal])) as (scope, _),
    ):
        await generator.load.set(HIGH_IMPEDANCE)
        await generator.function.set("SQU")
        await generator.frequency.set(5e3)
        await generator.amplitude.set(3.0)
        await generator.offset.set(0.5)
        await generator.duty_cycle.set(25.0)
        await generator.output.set(True, confirm=True)
        await scope.single()
        seen = await scope.waveform()
        assert np.unique(np.round(seen.volts, 2)) == pytest.approx([-1.0, 2.0])
        assert float(np.mean(seen.volts > 0.5)) == pytest.approx(0.25, abs=0.01)
        assert await scope.frequency.get() == pytest.approx(5e3, rel=0.01)
        await generator.output.set(False)
        await scope.single()
        assert np.ptp((await scope.waveform()).volts) == 0.0


async def test_what_the_load_cannot_get_is_refused(autojump_clock: MockClock) -> None:
    """Amplitude and offset together have a limit that the device knows (-221)."""
    async with on_line(FunctionGenerator, FunctionGeneratorModel()) as (generator, _):
        await generator.load.set(50.0)
        await generator.amplitude.set(10.0)
        with pytest.raises(CommandError, match="-221") as failed:
            await generator.offset.set(0.1)
        assert failed.value.cause is Cause.DEVICE
        assert not failed.value.may_have_executed
        await generator.load.set(HIGH_IMPEDANCE)
        assert await generator.amplitude.get() == 20.0
        await generator.amplitude.set(19.8)
        await generator.offset.set(0.1)


async def test_another_load_moves_what_is_restored(autojump_clock: MockClock) -> None:
    """The numbers follow the load, in the device and in what is kept; a first one forgets them."""
    async with on_line(FunctionGenerator, FunctionGeneratorModel()) as (generator, bench):

        def kept() -> dict[str, object]:
            return {
                name: plan.readback.wanted
                for name, plan in bench.bus.intended("psu").items()
                if plan.readback is not None
            }

        await generator.amplitude.set(1.0)
        await generator.load.set(50.0)
        assert kept() == {"load": 50.0}
        await generator.amplitude.set(4.0)
        await generator.offset.set(-1.0)
        await generator.load.set(HIGH_IMPEDANCE)
        assert kept() == {"load": HIGH_IMPEDANCE, "amplitude": 8.0, "offset": -2.0}
        assert await generator.amplitude.get() == 8.0
        assert await generator.offset.get() == -2.0
        # Less than its driver knows of is not kept.
        await generator.amplitude.set(1e-3)
        await generator.load.set(1.0)
        assert list(kept()) == ["load", "offset"]


class Forgetful(FunctionGenerator):
    """A generator that gives its phase up with another frequency, if it was set."""

    def moved(
        self, assignment: Assignment[Any], held: Mapping[str, Any]
    ) -> Sequence[Assignment[Any]]:
        """Return the phase that it held."""
        loses = assignment.setting is type(self).frequency and "phase" in held
        return [Assignment[Any](type(self).phase, None)] if loses else []


async def test_what_moves_may_depend_on_what_is_held(autojump_clock: MockClock) -> None:
    """A driver is asked with what is held, and not only whether anything can move at all."""
    async with on_line(Forgetful, FunctionGeneratorModel()) as (generator, bench):
        await generator.phase.set(90.0)
        await generator.frequency.set(1e3)
        assert list(bench.bus.intended("psu")) == ["frequency"]


async def test_a_limit_is_one_again_on_the_way_back(autojump_clock: MockClock) -> None:
    """Loads that come and go do not carry the largest amplitude past its limit by rounding."""
    async with on_line(FunctionGenerator, FunctionGeneratorModel()) as (generator, bench):
        await generator.load.set(HIGH_IMPEDANCE)
        await generator.amplitude.set(20.0)
        for load_ohm in (238, 245, 251, 253, 293):
            await generator.load.set(float(load_ohm))
            await generator.load.set(HIGH_IMPEDANCE)
        readback = bench.bus.intended("psu")["amplitude"].readback
        assert readback is not None
        assert readback.wanted == 20.0


async def test_output_needs_a_load_and_confirmation(autojump_clock: MockClock) -> None:
    """Without knowing the load nobody knows the voltage: it stays off."""
    model = FunctionGeneratorModel()
    async with on_line(FunctionGenerator, model) as (generator, bench):
        with pytest.raises(RefusedError, match="load must be set"):
            await generator.output.set(True, confirm=True)
        await generator.load.set(50.0)
        with pytest.raises(RefusedError, match="confirm=True"):
            await generator.output.set(True)
        assert not any("OUTP 1" in each for each in bench.sent())


async def test_a_burst_is_an_operation(autojump_clock: MockClock) -> None:
    """It takes its cycles, is silent before and after, and can be stopped."""
    model = FunctionGeneratorModel()
    async with on_line(FunctionGenerator, model) as (generator, bench):
        with pytest.raises(RefusedError, match="burst_mode must be set to True"):
            await generator.burst()
        await generator.load.set(50.0)
        await generator.frequency.set(10.0)
        await generator.burst_cycles.set(20)
        await generator.burst_mode.set(True)
        await generator.trigger_source.set("BUS")
        await generator.output.set(True, confirm=True)
        shapes = [model.terminal.shape]
        began_s = trio.current_time()
        ticket = await generator.burst.submit()
        await trio.sleep(1.0)
        shapes.append(model.terminal.shape)
        assert shapes == [Shape.DC, Shape.SINE]
        assert (await ticket.outcome()).ok
        assert 2.0 <= trio.current_time() - began_s < 2.2
        ticket = await generator.burst.submit()
        await trio.sleep(0.5)
        ticket.withdraw()
        await generator.burst_cycles.set(1)
        assert "ABOR;:SYST:ERR?" in bench.sent()
        assert model.bursts == 2
        assert not model.pending()


def test_an_impossible_load() -> None:
    """What is connected is above 0 ohm."""
    with pytest.raises(ValueError, match="above 0 ohm"):
        FunctionGeneratorModel(connected_ohm=0.0)
