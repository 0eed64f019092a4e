"""Spectrum analysers: lines where they are, a floor that follows the filter, sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, CommandState, RefusedError
from actors.faults import FRAMING
from actors.instruments.scpi import (
    INPUT_OVERLOAD,
    SpectrumAnalyser,
    SpectrumAnalyserModel,
    Tone,
)
from transports import SimReply

from .line import on_line

TONES = (Tone(100e6, -30.0), Tone(101e6, -50.0))


async def looking(
    analyser: SpectrumAnalyser, *, span_hz: float = 4e6, width_hz: float = 30e3
) -> None:
    """Look at the tones, one sweep at a time."""
    await analyser.continuous.set(False)
    await analyser.center_frequency.set(100e6)
    await analyser.span.set(span_hz)
    await analyser.resolution_bandwidth.set(width_hz)
    await analyser.video_bandwidth.set(width_hz)


async def test_peaks_above_a_floor(autojump_clock: MockClock) -> None:
    """Each tone is a peak of its power at its frequency; the rest is noise."""
    model = SpectrumAnalyserModel(tones=TONES)
    async with on_line(SpectrumAnalyser, model) as (analyser, bench):
        await looking(analyser)
        seen = await analyser.spectrum()
        assert seen.power_dbm.dtype == seen.frequency_hz.dtype == np.float64
        assert len(seen.power_dbm) == len(seen.frequency_hz) == 1001
        assert (seen.frequency_hz[0], seen.frequency_hz[-1]) == (98e6, 102e6)
        assert seen.resolution_bandwidth_hz == 30e3
        assert seen.peak == pytest.approx((100e6, -30.0), abs=4e3)
        assert seen.peak[1] == pytest.approx(-30.0, abs=0.1)
        near = np.abs(seen.frequency_hz - 101e6) < 20e3
        assert np.max(seen.power_dbm[near]) == pytest.approx(-50.0, abs=0.5)
        away = np.abs(seen.frequency_hz - 99e6) < 500e3
        floor_mw = np.mean(10.0 ** (seen.power_dbm[away] / 10.0))
        assert 10.0 * np.log10(floor_mw) == pytest.approx(model.floor_dbm, abs=0.5)
        assert not any("*OPC?" in each for each in bench.sent())


async def test_a_narrower_filter_lowers_the_floor_and_takes_longer(
    autojump_clock: MockClock,
) -> None:
    """A tenth of the bandwidth: 10 dB less noise, and a hundred times the time."""
    model = SpectrumAnalyserModel(tones=())
    async with on_line(SpectrumAnalyser, model) as (analyser, _):
        floors: list[float] = []
        times_s: list[float] = []
        for width_hz in (30e3, 3e3):
            await looking(analyser, width_hz=width_hz)
            found = await analyser.sweep_time.get()
            assert found is not None
            times_s.append(found)
            began_s = trio.current_time()
            floors.append(float(np.mean((await analyser.spectrum()).power_dbm)))
            assert trio.current_time() - began_s >= found
        assert floors[0] - floors[1] == pytest.approx(10.0, abs=0.5)
        assert times_s[1] / times_s[0] == pytest.approx(100.0)


async def test_a_sweep_needs_single_sweeps(autojump_clock: MockClock) -> None:
    """Nothing is started while it is not known that it stands still."""
    async with on_line(SpectrumAnalyser, SpectrumAnalyserModel()) as (analyser, bench):
        for _ in range(2):
            with pytest.raises(RefusedError, match="continuous must be set to False"):
                await analyser.spectrum()
            await analyser.continuous.set(True)
        assert not any("INIT;" in each for each in bench.sent())
        assert len((await analyser.trace()).power_dbm) == 1001


async def test_a_sweep_is_aborted(autojump_clock: MockClock) -> None:
    """Withdrawn amid a long sweep, it stops at the device; there is no trace then."""
    model = SpectrumAnalyserModel(tones=TONES)
    async with on_line(SpectrumAnalyser, model) as (analyser, bench):
        await looking(analyser, width_hz=300.0)
        ticket = await analyser.submit_spectrum()
        await trio.sleep(20.0)
        assert ticket.state is CommandState.ACKNOWLEDGED
        ticket.withdraw()
        with pytest.raises(CommandError, match="-230") as failed:
            await analyser.trace()
        assert failed.value.cause is Cause.DEVICE
        assert "ABOR;:SYST:ERR?" in bench.sent()
        assert not model.sweeping


class Spoiled(SpectrumAnalyserModel):
    """An analyser whose next trace is spoiled on its way.

    Attributes:
        spoils: What becomes of the next ones.
    """

    spoils: Sequence[Callable[[bytes], bytes]] = ()

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer, or spoil the answer."""
        replies = super().receive(data, now_s)
        if b"TRAC?" not in data or not self.spoils:
            return replies
        spoil, *self.spoils = self.spoils
        return [SimReply(spoiled) for each in replies if (spoiled := spoil(each.data))]


def lost(data: bytes) -> bytes:
    """Lose it."""
    return data[:0]


def cut(data: bytes) -> bytes:
    """Lose its second half."""
    return data[: len(data) // 2]


def garbled(data: bytes) -> bytes:
    """Invert the high bit of its first byte."""
    return bytes((data[0] ^ 0x80,)) + data[1:]


@pytest.mark.parametrize("spoil", [lost, cut, garbled])
async def test_a_trace_that_is_spoiled_is_asked_for_again(
    autojump_clock: MockClock, spoil: Callable[[bytes], bytes]
) -> None:
    """After its sweep it is not measured again: it is sent again, and comes whole."""
    model = Spoiled(tones=TONES)
    async with on_line(SpectrumAnalyser, model) as (analyser, bench):
        await looking(analyser)
        model.spoils = [spoil]
        seen = await analyser.spectrum()
        assert seen.peak == pytest.approx((100e6, -30.0), abs=4e3)
        assert len(seen.power_dbm) == 1001
        assert model.sweeps == 1
        assert bench.transport.counters.resyncs == 1


async def test_an_overload_is_a_condition(autojump_clock: MockClock) -> None:
    """A tone far above the reference level is cut off, and the status says so."""
    model = SpectrumAnalyserModel(tones=[Tone(100e6, 15.0)])
    async with on_line(SpectrumAnalyser, model) as (analyser, _):
        await looking(analyser)
        assert (await analyser.spectrum()).peak[1] == pytest.approx(10.0)
        plan = analyser.status_plan()
        assert plan is not None
        (fault,) = await analyser.ask_plan(plan)
        assert fault.kind is INPUT_OVERLOAD
        await analyser.reference_level.set(20.0)
        assert await analyser.ask_plan(plan) == []


async def test_the_marker_finds_the_peak(autojump_clock: MockClock) -> None:
    """Without a search there is no marker; after it, it is on the strongest tone."""
    model = SpectrumAnalyserModel(tones=TONES)
    async with on_line(SpectrumAnalyser, model) as (analyser, _):
        assert await analyser.marker_power.get() is None
        await looking(analyser)
        await analyser.sweep()
        await analyser.peak_search()
        assert await analyser.marker_frequency.get() == pytest.approx(100e6, abs=4e3)
        assert await analyser.marker_power.get() == pytest.approx(-30.0, abs=0.1)


@pytest.mark.parametrize("answers", [b"1;x;3", b"9.91E37;2;3"])
async def test_broken_traces_are_faults(autojump_clock: MockClock, answers: bytes) -> None:
    """A trace without its frequencies is a typed fault, never a spectrum."""
    async with on_line(SpectrumAnalyser, SpectrumAnalyserModel()) as (analyser, bench):
        bench.line.foreign(b"#18" + b"\0" * 8 + b";" + answers + b';+0,"No error"\n')
        with pytest.raises(CommandError) as failed:
            await analyser.trace()
        assert failed.value.fault is not None
        assert failed.value.fault.kind is FRAMING
        assert len((await analyser.trace()).power_dbm) == 1001
