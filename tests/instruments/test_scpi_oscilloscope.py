"""Oscilloscopes: what was connected is what is seen, and what broke is no waveform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, CommandState, RefusedError
from actors.faults import FOREIGN_REPLY, FRAMING, TIMEOUT
from actors.instruments.scpi import Oscilloscope, OscilloscopeModel, Shape, Signal
from actors.instruments.scpi.blocks import decode_block, last_error
from actors.instruments.scpi.oscilloscope import decode_preamble

from .line import on_line, on_real_line

SINE = Signal(frequency_hz=1e3, amplitude_v=2.0, offset_v=0.5)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["big", "little"])
async def test_the_waveform_is_the_signal(autojump_clock: MockClock, bits: int, order: str) -> None:
    """Volts and seconds are right to a step of the converter, whatever travels."""

    class Ordered(Oscilloscope):
        byte_order = order  # type: ignore[assignment]  # a parameter of the test

    async with on_line(Ordered, OscilloscopeModel(inputs=[SINE])) as (scope, bench):
        await scope.offset.set(0.75)
        await scope.trigger_level.set(1.0)
        await scope.single()
        seen = await scope.waveform(1, bits=8 if bits == 8 else 16)
        assert seen.volts.dtype == seen.t_s.dtype == np.float64
        assert (len(seen.volts), len(seen.t_s)) == (1000, 1000)
        assert (seen.t_s[0], seen.t_s[-1]) == pytest.approx((-1e-3, 1e-3 - 2e-6))
        assert seen.sample_rate_hz == pytest.approx(5e5)
        assert not seen.clipped
        shown = repr(seen)
        assert shown.startswith("ScopeWaveform(channel=1, t_s=<1000: -0.001 to 0.000998>, volts=")
        assert len(shown) < 150
        # The trigger is where the sine goes through 1 V upwards.
        begin = np.arcsin(0.25)
        wanted = 0.5 + 2.0 * np.sin(begin + 2 * np.pi * 1e3 * seen.t_s)
        step_v = 8.0 / 2**bits
        assert np.max(np.abs(seen.volts - wanted)) <= 0.6 * step_v + 1e-3
        assert ("WORD" in bench.sent()[-1]) == (bits == 16)


async def test_channels_have_their_own_settings(autojump_clock: MockClock) -> None:
    """A channel's scale, offset and coupling are its own; a measurement is of its signal."""
    async with on_line(Oscilloscope, OscilloscopeModel(inputs=[SINE, SINE])) as (scope, bench):
        await scope.displayed.set(True, instance=2)
        await scope.coupling.set("AC", instance=2)
        await scope.scale.set(0.8, instance=2)
        assert bench.sent()[-1] == "CHAN2:SCAL 0.8;:SYST:ERR?"
        assert await scope.scale.get(instance=1) == 1.0
        assert await scope.mean.get(instance=1) == pytest.approx(0.5, abs=0.01)
        assert await scope.mean.get(instance=2) == pytest.approx(0.0, abs=0.01)
        assert await scope.peak_to_peak.get(instance=2) == pytest.approx(4.0, abs=0.01)
        assert await scope.frequency.get(instance=2) == pytest.approx(1e3, rel=0.01)
        assert await scope.mean.get(instance=3) is None  # it is not displayed
        assert (await scope.waveform(2)).clipped is False
        await scope.scale.set(0.1, instance=2)
        seen = await scope.waveform(2)
        assert seen.clipped
        assert np.max(seen.volts) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize(("offset_v", "clipped"), [(-10.0, True), (0.0, False), (10.0, True)])
async def test_clipped_at_either_edge(
    autojump_clock: MockClock, offset_v: float, clipped: bool
) -> None:
    """What is below the screen is told as what is above it, by the code that says so."""
    model = OscilloscopeModel(inputs=[Signal(shape=Shape.DC, offset_v=offset_v)])
    async with on_line(Oscilloscope, model) as (scope, _):
        for bits in (8, 16):
            seen = await scope.waveform(1, bits=8 if bits == 8 else 16)
            assert seen.clipped is clipped
            assert not np.any(np.isnan(seen.volts))


async def test_what_was_not_acquired_is_no_voltage(autojump_clock: MockClock) -> None:
    """A hole in the record is NaN, and not what the lowest code would be in volts."""
    preamble = decode_preamble(b"0,0,4,1,1e-6,0,0,0.01,0,128")
    block = decode_block(b"#14\x00\x80\x81\x00;", 1)
    async with on_line(Oscilloscope, OscilloscopeModel()) as (scope, _):
        seen = scope.scaled(1, block, preamble, 8)
    np.testing.assert_allclose(seen.volts, [np.nan, 0.0, 0.01, np.nan])
    assert not seen.clipped


async def test_a_failed_transfer_is_no_fault_of_the_next_write(autojump_clock: MockClock) -> None:
    """Each query of the transfer leaves an error; the write after it is blamed for none."""
    async with on_line(Oscilloscope, OscilloscopeModel()) as (scope, bench):
        with pytest.raises(CommandError, match="-230"):
            await scope.waveform(3)
        await scope.time_scale.set(1e-3)
        assert bench.sent()[-1] == "*CLS;:TIM:SCAL 0.001;:SYST:ERR?"
        await scope.time_scale.set(1e-4)
        assert bench.sent()[-1] == "TIM:SCAL 0.0001;:SYST:ERR?"
        for _ in range(2):
            with pytest.raises(CommandError, match="-230"):
                await scope.waveform(3)
        assert len((await scope.waveform(1)).volts) == 1000


async def test_a_probe_widens_what_a_channel_takes(autojump_clock: MockClock) -> None:
    """The device refuses 50 V a division (-222), and takes them with a probe of 10:1."""
    model = OscilloscopeModel(inputs=[Signal(amplitude_v=150.0)])
    async with on_line(Oscilloscope, model) as (scope, _):
        with pytest.raises(CommandError, match="-222"):
            await scope.scale.set(50.0)
        await scope.probe.set(10.0)
        await scope.scale.set(50.0)
        assert np.ptp((await scope.waveform()).volts) == pytest.approx(300.0, rel=0.01)


async def test_another_probe_moves_what_is_restored(autojump_clock: MockClock) -> None:
    """Volts that were set follow the probe of their channel, in the device and in what is kept."""
    model = OscilloscopeModel()
    async with on_line(Oscilloscope, model) as (scope, bench):
        await scope.trigger_source.set("CHAN2")
        await scope.scale.set(0.5, instance=1)
        await scope.probe.set(100.0, instance=2)
        await scope.scale.set(500.0, instance=2)
        await scope.offset.set(-300.0, instance=2)
        await scope.trigger_level.set(200.0)
        await scope.probe.set(10.0, instance=2)
        kept = {
            name: plan.readback.wanted
            for name, plan in bench.bus.intended("psu").items()
            if plan.readback is not None
        }
        assert kept == {
            "trigger_source": "CHAN2",
            "scale": 0.5,
            "probe[2]": 10.0,
            "scale[2]": 50.0,
            "offset[2]": -30.0,
            "trigger_level": 20.0,
        }
        bench.line.unplug()
        model.reset(trio.current_time())
        await trio.sleep(1.0)
        bench.line.replug()
        await bench.in_service()
        assert [await scope.scale.get(instance=each) for each in (1, 2)] == [0.5, 50.0]
        assert await scope.offset.get(instance=2) == -30.0
        assert await scope.trigger_level.get() == 20.0


async def test_a_first_probe_forgets_what_nobody_knows(autojump_clock: MockClock) -> None:
    """What a channel divided by before is not known: volts set then are not restored."""
    async with on_line(Oscilloscope, OscilloscopeModel()) as (scope, bench):
        await scope.scale.set(0.5)
        await scope.scale.set(0.5, instance=3)
        await scope.trigger_level.set(0.2)
        await scope.probe.set(10.0)
        assert list(bench.bus.intended("psu")) == ["scale[3]", "probe"]
        assert await scope.scale.get() == 5.0


async def test_single_waits_for_its_trigger(autojump_clock: MockClock) -> None:
    """No edge, no end: progress says that it waits; forced or aborted it ends."""
    model = OscilloscopeModel(inputs=[Signal(shape=Shape.DC, offset_v=0.5)])
    async with on_line(Oscilloscope, model) as (scope, bench):
        await scope.trigger_mode.set("NORM")
        ticket = await scope.single.submit()
        await trio.sleep(1.0)
        assert ticket.state is CommandState.ACKNOWLEDGED
        assert (await anext(ticket.progress())).fraction == 0.0
        # The edge comes at last.
        model.inputs[0] = SINE
        assert (await ticket.outcome()).ok
        assert not model.running
        assert model.acquisitions == 1
        assert not any("*OPC?" in each for each in bench.sent())


async def test_an_acquisition_is_stopped(autojump_clock: MockClock) -> None:
    """Withdrawing one sends STOP, and what it caught is nothing."""
    model = OscilloscopeModel(inputs=[Signal(shape=Shape.DC)])
    async with on_line(Oscilloscope, model) as (scope, bench):
        await scope.trigger_mode.set("NORM")
        ticket = await scope.single.submit()
        await trio.sleep(0.3)
        ticket.withdraw()
        assert (await ticket.outcome()).cause is Cause.WITHDRAWN
        with pytest.raises(CommandError, match="-230") as failed:
            await scope.waveform(1)
        assert failed.value.cause is Cause.DEVICE
        assert "STOP;:SYST:ERR?" in bench.sent()
        assert not model.running


async def test_run_and_stop(autojump_clock: MockClock) -> None:
    """What was stopped stays; what runs is seen anew."""
    model = OscilloscopeModel(inputs=[SINE], noise_v=0.05)
    async with on_line(Oscilloscope, model) as (scope, _):
        await scope.stop()
        stopped = await scope.waveform()
        model.inputs[0] = Signal(shape=Shape.SQUARE)
        assert np.array_equal((await scope.waveform()).volts, stopped.volts)
        await scope.run()
        assert not np.array_equal((await scope.waveform()).volts, stopped.volts)


async def test_averages_quieten_noise(autojump_clock: MockClock) -> None:
    """The mean of 100 acquisitions has a tenth of the noise, and says so."""
    model = OscilloscopeModel(inputs=[Signal(shape=Shape.DC)], noise_v=0.1)
    async with on_line(Oscilloscope, model) as (scope, _):
        noise_v: list[float] = []
        await scope.averages.set(100)
        for kind, averages in (("NORM", 1), ("AVER", 100)):
            await scope.acquisition.set(kind)
            await scope.single()
            seen = await scope.waveform()
            assert seen.averages == averages
            noise_v.append(float(np.std(seen.volts)))
        assert noise_v[0] / noise_v[1] == pytest.approx(10.0, rel=0.3)


async def test_a_channel_that_is_not_there(autojump_clock: MockClock) -> None:
    """Nothing is sent for a fifth channel, or for none; a dark one has nothing."""
    async with on_line(Oscilloscope, OscilloscopeModel()) as (scope, bench):
        wrong: list[Any] = [5, 0, "1", 1.0, None]
        for channel in wrong:
            with pytest.raises(RefusedError, match=f"no channel {channel!r} of 16 bits"):
                await scope.waveform(channel)
        assert bench.sent() == []
        numbered: Any = np.int64(1)
        assert (await scope.waveform(numbered)).channel == 1
        with pytest.raises(CommandError, match="-230"):
            await scope.waveform(4)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"#800001000" + b"x" * 40 + b"\n", TIMEOUT),  # the rest never comes
        (b"#3abc" + b"x" * 40 + b"\n", FOREIGN_REPLY),
        (b"+1.0,+2.0\n", FOREIGN_REPLY),
        (b'#14abcd;0,0,2,1,1,0,0,1,0,0;+0,"No error"\n', None),
        (b'#13abc;0,0,2,1,1,0,0,1,0,0;+0,"No error"\n', FRAMING),
        (b'#14abcd;0,0,2,1,-1,0,0,1,0,0;+0,"No error"\n', FRAMING),
        (b'#14abcd;0,0,2;+0,"No error"\n', FRAMING),
        (b"#14abcd;0,0,2,1,1,0,0,1,0,0\n", FOREIGN_REPLY),
    ],
)
async def test_broken_blocks_are_faults(
    autojump_clock: MockClock, reply: bytes, kind: object
) -> None:
    """Truncated, garbled, without its preamble: a typed fault, and the next one is right."""
    async with on_line(Oscilloscope, OscilloscopeModel(inputs=[SINE])) as (scope, bench):
        bench.line.foreign(reply)
        if kind is None:
            assert len((await scope.waveform()).volts) == 2
        else:
            with pytest.raises(CommandError) as failed:
                await scope.waveform()
            assert failed.value.cause is Cause.TRANSPORT
            assert failed.value.fault is not None
            assert failed.value.fault.kind is kind
        assert len((await scope.waveform()).volts) == 1000


async def test_an_error_behind_a_block_is_an_error(autojump_clock: MockClock) -> None:
    """A block that the device itself does not vouch for is no waveform."""
    async with on_line(Oscilloscope, OscilloscopeModel()) as (scope, bench):
        bench.line.foreign(b'#14abcd;0,0,2,1,1,0,0,1,0,0;-230,"Data corrupt; or stale"\n')
        with pytest.raises(CommandError, match="-230") as failed:
            await scope.waveform()
        assert failed.value.cause is Cause.DEVICE
        assert bench.transport.counters.resyncs == 0


@pytest.mark.heavy
@pytest.mark.parametrize("points", [1000, 1_000_000])
async def test_the_waveform_under_visa(points: int) -> None:
    """Through PyVISA on a socket it is the same, two megabytes of it too."""
    model = OscilloscopeModel(inputs=[SINE])
    async with on_real_line(Oscilloscope, model, "visa") as (scope, _):
        await scope.points.set(points)
        await scope.single()
        seen = await scope.waveform()
        assert len(seen.volts) == points
        assert np.ptp(seen.volts) == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("frame", [b"", b"#", b"#1", b"#15abc", b"#0abc", b"#2 3abc", b"12", b"##"])
def test_what_is_no_block(frame: bytes) -> None:
    """Nothing but a whole block of definite length is taken for one."""
    with pytest.raises(ValueError, match="expected"):
        decode_block(frame, 0)


def test_blocks_hold_anything() -> None:
    """Line feeds, semicolons and marks are data; behind it are answers, texts whole."""
    found = decode_block(b'#18\n;#1;"\r\n;1;-1,"a;b"', 2)
    assert bytes(found.data) == b'\n;#1;"\r\n'
    assert found.answers == [b"1", b'-1,"a;b"']
    assert bytes(decode_block(b"#10", 0).data) == b""
    with pytest.raises(ValueError, match="8 bytes"):
        decode_block(b"#13abc", 0).reals()


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b'-230,"Data corrupt; or stale"', b'-230,"Data corrupt; or stale"'),
        (b'1,2,3;-222,"x"', b'-222,"x"'),
        (b'#13abc;-1,"x"', None),
        (b"1.0;2.0", None),
    ],
)
def test_errors_in_place_of_a_block(frame: bytes, error: bytes | None) -> None:
    """An error where a block was asked for is found, and nothing else taken for one."""
    assert last_error(frame) == error


@pytest.mark.parametrize("answer", [b"", b"1,2", b"0,0,a,1,1,0,0,1,0,0", b"0,0,2,1,0,0,0,1,0,0"])
def test_what_is_no_preamble(answer: bytes) -> None:
    """Ten numbers with an interval above zero, or a ValueError."""
    with pytest.raises(ValueError, match="expected"):
        decode_preamble(answer)
