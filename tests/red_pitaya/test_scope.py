"""Generator and scope of the simulated board."""

from __future__ import annotations

import numpy as np
import pytest

from .board import ARM, ASG, CABLE, CLOCK_HZ, HK, LENGTH, SCOPE, Board, fit


def test_sine_is_seen_as_it_was_set() -> None:
    """A 1 kHz sine of 0.5 V comes back with its frequency and amplitude."""
    board = Board(in1={"cutoff_hz": 20e3, "noise_v": 3e-4})
    board.generate(1000.0, 0.5)
    board.wait(0.1)
    trace = board.single(decimation=64, in1="in1", in2="out1")
    seen, put_out = (fit(trace.times_s, volts, 1000.0) for volts in trace.volts)
    assert abs(put_out) == pytest.approx(0.5, rel=1e-3)
    assert seen / put_out == pytest.approx(1 / (1 + 1000j / 20e3), abs=1e-3)
    spread = trace.volts[0] - np.real(-1j * seen * np.exp(2j * np.pi * 1000.0 * trace.times_s))
    assert np.std(spread) == pytest.approx(3e-4, rel=0.2)


def test_change_of_frequency_in_mid_acquisition_shows_in_the_trace() -> None:
    """The trace holds 100 Hz before the change and 300 Hz after it, without a jump."""
    board = Board(in1=CABLE)
    board.generate(100.0, 0.5)
    board.look(decimation=8192, average=False)
    board.arm(1, LENGTH)
    board.wait(0.5)
    board.frequency(300.0)
    board.wait(0.6)
    assert not board.busy()
    trace = board.trace()
    early, late = trace.times_s < 0.5, trace.times_s > 0.5
    volts = trace.volts[0]
    assert abs(fit(trace.times_s[early], volts[early], 100.0)) == pytest.approx(0.5, rel=0.01)
    assert abs(fit(trace.times_s[late], volts[late], 300.0)) == pytest.approx(0.5, rel=0.01)
    assert np.abs(np.diff(volts)).max() < 0.5 * 2 * np.pi * 300 * 8192 / CLOCK_HZ + 0.001


@pytest.mark.parametrize("reads", [1, 7, 400])
def test_looking_changes_nothing(reads: int) -> None:
    """However often somebody looks meanwhile, a trace is the same: only noise depends on it."""

    def acquire(times: int) -> list[float]:
        board = Board(in1={"cutoff_hz": 300.0, "noise_v": 0.0})
        board.generate(437.0, 0.4, offset=0.1)
        board.look(decimation=1024, average=True)
        board.arm(1, LENGTH)
        for _ in range(times):
            board.wait(0.15 / times)
            board.sample("in1")
            board.read(SCOPE + 0x18)
        return [float(volts) for volts in board.trace().volts[0]]

    assert acquire(reads) == pytest.approx(acquire(2), abs=2 / 8192)


@pytest.mark.parametrize("rising", [True, False])
def test_edge_trigger_is_in_the_middle(rising: bool) -> None:
    """At the trigger the signal passes the threshold in the chosen direction."""
    board = Board(in1=CABLE)
    board.generate(1000.0, 0.5)
    board.look(decimation=64, average=False)
    board.write(SCOPE + 0x8, round(0.2 * 8192))
    board.write(SCOPE + 0x20, round(0.01 * 8192))
    board.write(SCOPE, 2)
    board.write(SCOPE + 0x10, LENGTH // 2)
    board.write(SCOPE, ARM)
    board.wait(0.02)
    assert board.read(SCOPE + 0x16C) == [1]
    board.write(SCOPE + 0x4, 2 if rising else 3)
    assert board.busy()
    board.wait(0.02)
    assert not board.busy()
    trace = board.trace()
    assert trace.at(0.0) == pytest.approx(0.2, abs=0.01)
    assert (trace.at(20e-6) > trace.at(-20e-6)) is rising
    # Everything before the trigger was acquired as well: the sine goes on to the left.
    amplitude = fit(trace.times_s, trace.volts[0], 1000.0)
    assert abs(amplitude) == pytest.approx(0.5, rel=0.01)


def test_no_edge_no_trigger() -> None:
    """A threshold that the signal never reaches leaves the scope armed."""
    board = Board(in1=CABLE)
    board.generate(1000.0, 0.5)
    board.look(decimation=64, average=False)
    board.write(SCOPE + 0x8, round(0.7 * 8192))
    board.arm(2, LENGTH // 2)
    board.wait(1.0)
    assert board.read(SCOPE)[0] & 0b101 == 0b001
    board.generate(1000.0, 0.9)
    board.wait(0.5)
    assert not board.busy()


def test_generator_triggers_the_scope() -> None:
    """With a generator as the source, cycles begin at the trigger."""
    board = Board(in1=CABLE)
    board.generate(2000.0, 0.5, degrees=0.0)
    board.wait(0.12345)
    board.look(decimation=16, average=False)
    board.arm(8, LENGTH // 2)
    board.wait(0.05)
    trace = board.trace()
    late = trace.times_s > 0
    assert np.angle(fit(trace.times_s[late], trace.volts[0][late], 2000.0)) == pytest.approx(
        0.0, abs=0.02
    )


def test_pin_triggers_scope_and_generator() -> None:
    """A rising edge at the first pin starts what waits for it."""
    board = Board(in1=CABLE)
    board.generate(1000.0, 0.5, start=False)
    board.control(0, 2)
    board.look(decimation=64, average=False)
    board.arm(6, LENGTH)
    board.wait(0.01)
    assert board.busy()
    assert board.sample("out1") == 0.0
    board.write(HK + 0x10, 1)
    board.write(HK + 0x18, 1)
    board.wait(0.01)
    assert not board.busy()
    trace = board.trace()
    assert np.angle(fit(trace.times_s, trace.volts[0], 1000.0)) == pytest.approx(0.0, abs=0.02)


def test_rolling_goes_on_until_it_is_stopped() -> None:
    """Without a trigger the newest samples are always there, up to the write pointer."""
    board = Board(in1=CABLE)
    board.generate(10.0, 0.5)
    board.look(decimation=8192, average=False)
    board.arm(0, LENGTH)
    volts = np.zeros(0)
    for _ in range(5):
        board.wait(0.7)
        pointer = board.read(SCOPE + 0x18)[0]
        raw = np.array(board.read(SCOPE + 0x10000, LENGTH), dtype=np.int64)
        raw[raw >= 8192] -= LENGTH
        volts = np.roll(raw, -(pointer + 1)) / 8192
        assert volts[-1] == pytest.approx(board.sample("out1"), abs=0.01)
    assert board.busy()
    assert np.ptp(volts) == pytest.approx(1.0, abs=0.01)


def test_write_pointer_moves_with_time() -> None:
    """The write pointer advances one place per sampling time and wraps round."""
    board = Board()
    board.look(decimation=1024, average=False)
    board.arm(0, LENGTH)
    step_s = 1024 / CLOCK_HZ
    board.wait(100.5 * step_s)
    assert board.read(SCOPE + 0x18) == [99]
    board.wait(LENGTH * step_s)
    assert board.read(SCOPE + 0x18) == [99]
    assert board.read(SCOPE + 0x2C) == [LENGTH + 100]


def test_averaging_takes_out_what_is_faster() -> None:
    """Without averaging a fast signal is aliased; with it nothing is left."""
    board = Board(in1=CABLE)
    board.generate(10.01e6, 0.5)
    aliased = board.single(decimation=1024, average=False)
    averaged = board.single(decimation=1024, average=True)
    assert np.std(aliased.volts[0]) == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert np.abs(averaged.volts[0]).max() < 0.002


def test_filter_forgets_with_its_time_constant() -> None:
    """A step of the generator reaches the input through the low-pass filter, exactly."""
    board = Board(in1={"cutoff_hz": 100.0, "noise_v": 0.0})
    board.look(decimation=128, average=False)
    board.wait(0.1)
    board.arm(1, LENGTH)
    board.wait(0.005)
    board.generate(0.0, 0.0, offset=0.5)
    board.wait(0.02)
    trace = board.trace()
    since = trace.times_s - 0.005
    expected = np.where(since > 0, 0.5 * (1 - np.exp(-2 * np.pi * 100.0 * since)), 0.0)
    assert np.abs(trace.volts[0] - expected).max() < 2 / 8192


@pytest.mark.parametrize("shape", ["square", "ramp"])
def test_filtered_table_matches_numbers_from_small_steps(shape: str) -> None:
    """An arbitrary table through the filter is what stepping the filter in time gives."""
    turns = np.arange(LENGTH) / LENGTH
    table = np.where(turns < 0.5, 0.999, -0.999) if shape == "square" else 2 * turns - 1
    board = Board(in1={"cutoff_hz": 3000.0, "noise_v": 0.0})
    board.generate(1000.0, 0.7, table=table)
    board.wait(0.1)
    trace = board.single(decimation=16, in1="in1", in2="asg0")
    step_s = 1e-8
    value = 0.0
    values: list[float] = []
    for index in range(300_000):
        drive = 0.7 * float(table[int(index * step_s * 1000.0 * LENGTH) % LENGTH])
        value += step_s * 2 * np.pi * 3000.0 * (drive - value)
        values.append(value)
    settled = np.array(values[-100_000:])
    assert trace.volts[0].max() == pytest.approx(settled.max(), abs=2e-3)
    assert trace.volts[0].min() == pytest.approx(settled.min(), abs=2e-3)
    assert np.std(trace.volts[0][:15_625]) == pytest.approx(np.std(settled), abs=1e-3)


def test_burst_ends_and_repeats() -> None:
    """Three bursts of two cycles, with the pause between them, then silence."""
    board = Board(in1=CABLE)
    board.look(decimation=64, average=False)
    board.generate(10_000.0, 0.5, cycles=2, bursts=3, pause_us=800, start=False)
    board.arm(8, LENGTH)
    board.control(0, 1)
    board.wait(0.01)
    trace = board.trace()
    loud = np.abs(trace.volts[0]) > 0.05
    for begin in (0.0, 1e-3, 2e-3):
        within = (trace.times_s > begin) & (trace.times_s < begin + 0.2e-3)
        assert loud[within].mean() > 0.9
        after = (trace.times_s > begin + 0.21e-3) & (trace.times_s < begin + 0.99e-3)
        assert not loud[after].any()
    assert not loud[trace.times_s > 2.21e-3].any()


def test_start_phase_counts_at_the_start() -> None:
    """A generator that starts at 90 degrees starts at its crest."""
    board = Board(in1=CABLE)
    board.generate(100.0, 0.5, degrees=90.0)
    assert board.sample("out1") == pytest.approx(0.5, abs=0.001)
    board.write(ASG + 0xC, 0)
    assert board.sample("out1") == pytest.approx(0.5, abs=0.001)


def test_off_is_zero_and_outputs_saturate() -> None:
    """A generator that is off puts out nothing, its offset included; 1 V is the most."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.8)
    board.generate(0.0, 0.0, offset=0.7, channel=1, to="out1")
    assert board.sample("out1") == pytest.approx(1.0, abs=0.001)
    board.control(1, 1 << 7)
    assert board.sample("out1") == pytest.approx(0.8, abs=0.001)


def test_scope_inputs_are_shown_as_voltages() -> None:
    """The current value of both channels can be read without an acquisition."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=-0.25)
    board.look("in1", "off", decimation=1, average=False)
    first, second = board.read(SCOPE + 0x154, 2)
    assert first == round(-0.25 * 8192) & 0x3FFF
    assert second == 0
