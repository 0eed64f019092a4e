"""Spectrometers: light that grows with the exposure, dark, saturation, progress."""

from __future__ import annotations

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, CommandState
from actors.faults import FRAMING
from actors.instruments.scpi import SATURATED, Line, Spectrometer, SpectrometerModel

from .line import on_line

LINE = Line(546.1, 100e3)


async def test_lines_grow_with_the_exposure(autojump_clock: MockClock) -> None:
    """A line is where it is; ten times the exposure is ten times the light."""
    async with on_line(Spectrometer, SpectrometerModel(lines=[LINE])) as (spectrometer, _):
        above: list[float] = []
        for exposure_s in (0.05, 0.5):
            await spectrometer.integration_time.set(exposure_s)
            seen = await spectrometer.spectrum()
            assert seen.counts.dtype == seen.wavelength_nm.dtype == np.float64
            assert len(seen.counts) == len(seen.wavelength_nm) == 2048
            assert seen.exposure_s == exposure_s
            assert seen.peak[0] == pytest.approx(546.1, abs=0.3)
            assert seen.saturated_pixels == 0
            assert np.all(np.diff(seen.wavelength_nm) > 0)
            above.append(seen.peak[1] - float(np.median(seen.counts)))
        assert above[1] / above[0] == pytest.approx(10.0, rel=0.05)


async def test_full_pixels_are_told(autojump_clock: MockClock) -> None:
    """Beyond full scale counts stand still; how many pixels do so comes with the spectrum."""
    async with on_line(Spectrometer, SpectrometerModel(lines=[LINE])) as (spectrometer, _):
        await spectrometer.integration_time.set(2.0)
        seen = await spectrometer.spectrum()
        assert seen.peak[1] == 65535.0
        assert seen.saturated_pixels == np.count_nonzero(seen.counts == 65535.0) > 2
        plan = spectrometer.status_plan()
        assert plan is not None
        (fault,) = await spectrometer.ask_plan(plan)
        assert fault.kind is SATURATED


async def test_a_failed_transfer_is_no_fault_of_the_instrument(autojump_clock: MockClock) -> None:
    """What each of its queries left in the error queue is not told as a condition later."""
    async with on_line(Spectrometer, SpectrometerModel()) as (spectrometer, bench):
        with pytest.raises(CommandError, match="-230"):
            await spectrometer.fetched()
        for prefix in ("*CLS;:", ""):
            plan = spectrometer.status_plan()
            assert plan is not None
            assert await spectrometer.ask_plan(plan) == []
            assert bench.sent()[-1] == f"{prefix}STAT:QUES:COND?;:SYST:ERR?"


async def test_the_dark_is_subtracted(autojump_clock: MockClock) -> None:
    """Without the dark there is an offset; with it the ground is zero, the lines stay."""
    async with on_line(Spectrometer, SpectrometerModel(lines=[LINE])) as (spectrometer, _):
        await spectrometer.averages.set(50)
        with_offset = await spectrometer.spectrum()
        assert np.median(with_offset.counts) > 1000.0
        await spectrometer.subtract_dark.set(True)
        with pytest.raises(CommandError, match="-221") as failed:
            await spectrometer.spectrum()
        assert failed.value.cause is Cause.DEVICE
        await spectrometer.take_dark()
        corrected = await spectrometer.spectrum()
        assert abs(float(np.median(corrected.counts))) < 2.0
        assert corrected.peak[1] == pytest.approx(10e3, rel=0.02)
        await spectrometer.integration_time.set(0.2)  # the dark was taken with another
        with pytest.raises(CommandError, match="-221"):
            await spectrometer.spectrum()
        await spectrometer.shutter.set(False)
        await spectrometer.subtract_dark.set(False)
        assert np.ptp((await spectrometer.spectrum()).counts) < 100.0


async def test_averages_take_their_time_and_tell_how_far(autojump_clock: MockClock) -> None:
    """Ten exposures of 0.3 s: progress rises over 3 s, and noise falls."""
    model = SpectrometerModel(lines=[])
    async with on_line(Spectrometer, model) as (spectrometer, _):
        await spectrometer.integration_time.set(0.3)
        noise: list[float] = [float(np.std((await spectrometer.spectrum()).counts))]
        await spectrometer.averages.set(10)
        began_s = trio.current_time()
        ticket = await spectrometer.submit_spectrum()
        fractions = [each.fraction or 0.0 async for each in ticket.progress()]
        assert fractions == sorted(fractions)
        assert len(fractions) > 10
        assert fractions[-1] == 1.0
        seen = await spectrometer.finish(ticket)
        assert trio.current_time() - began_s >= 3.0
        noise.append(float(np.std(seen.counts)))
        assert noise[0] / noise[1] == pytest.approx(10**0.5, rel=0.2)


async def test_a_measurement_is_stopped(autojump_clock: MockClock) -> None:
    """Withdrawn amid its exposures, it stops at the device and leaves what was there before."""
    model = SpectrometerModel(lines=[LINE])
    async with on_line(Spectrometer, model) as (spectrometer, bench):
        with pytest.raises(CommandError, match="-230"):
            await spectrometer.fetched()
        first = await spectrometer.spectrum()
        await spectrometer.integration_time.set(10.0)
        ticket = await spectrometer.submit_spectrum()
        await trio.sleep(1.0)
        assert ticket.state is CommandState.ACKNOWLEDGED
        ticket.withdraw()
        fetched = await spectrometer.fetched()
        assert np.array_equal(fetched.counts, first.counts)
        assert fetched.exposure_s == 0.1
        assert "ABOR;:SYST:ERR?" in bench.sent()
        assert not model.measuring


@pytest.mark.parametrize("answers", [b"a,b;0.1;0", b"1,2;9.91E37;0", b"1,2;0.1;x"])
async def test_broken_spectra_are_faults(autojump_clock: MockClock, answers: bytes) -> None:
    """A spectrum without its wavelengths or exposure is a typed fault."""
    async with on_line(Spectrometer, SpectrometerModel()) as (spectrometer, bench):
        bench.line.foreign(b"#18" + b"\0" * 8 + b";" + answers + b';+0,"No error"\n')
        with pytest.raises(CommandError) as failed:
            await spectrometer.fetched()
        assert failed.value.fault is not None
        assert failed.value.fault.kind is FRAMING
