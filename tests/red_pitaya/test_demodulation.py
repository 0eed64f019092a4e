"""IQ modules of the simulated board: demodulation, modulation, and network analysis."""

from __future__ import annotations

import numpy as np
import pytest

from .board import CABLE, CLOCK_HZ, Board, fit, signed, unsigned

SYNC = 0xC
QUADRATURE, DIRECT = 0, 1


def bandwidth(shift: int) -> tuple[int, float]:
    """Return the setting of a low-pass stage, and its corner."""
    return 0x80 | shift, CLOCK_HZ / (2 * np.pi) * 2.0 ** (shift - 24)


def demodulator(
    board: Board,
    name: str = "iq0",
    *,
    hz: float,
    source: str = "in1",
    to: str = "off",
    amplitude: float = 0.0,
    gain: float = 0.0,
    degrees: float = 0.0,
    stage: int = 0,
    stages: int = 2,
    shows: int = QUADRATURE,
    factor: float = 2.0,
) -> None:
    """Set up an IQ module; the frequency is written last."""
    base = board.module(name)
    board.write(base + 0x104, unsigned(-degrees / 360 * 2**32, 32))
    board.write(base + 0x10C, shows)
    board.write(base + 0x110, unsigned(gain * 2**11, 18), unsigned(amplitude * 2**17, 18))
    board.write(base + 0x118, unsigned(factor, 18))
    board.write(base + 0x124, sum(stage << 8 * index for index in range(stages)))
    board.route(name, source=source, to=to)
    board.write(base + 0x108, round(hz * 2**32 / CLOCK_HZ))


def measure(board: Board, hz: float, *, rest_s: float, average_s: float) -> complex:
    """Return what iq2 finds at a frequency, for an amplitude of 1 V."""
    base = board.module("iq2")
    cycles = round(average_s * CLOCK_HZ)
    board.write(base + 0x130, cycles, round(rest_s * CLOCK_HZ))
    board.write(base + 0x108, round(hz * 2**32 / CLOCK_HZ))
    assert board.read(base + 0x140)[0] >> 31
    board.wait(1.001 * (rest_s + average_s))
    low, high, low_im, high_im = board.read(base + 0x140, 4)
    assert not (low | high | low_im | high_im) >> 31
    amplitude = signed(board.read(base + 0x114)[0], 18) / 2**17
    total = complex(signed(low + (high << 31), 62), signed(low_im + (high_im << 31), 62))
    # Demodulation is three clock cycles late.
    late = np.exp(2j * np.pi * hz * 3 / CLOCK_HZ)
    return total / cycles * 4 / 2**24 / amplitude * complex(late)


def test_modulation_is_a_sine_of_its_amplitude() -> None:
    """An IQ module sends a sine of its frequency and amplitude to an output."""
    board = Board(in1=CABLE)
    demodulator(board, hz=12_345.0, to="out1", amplitude=0.25, source="off")
    trace = board.single(decimation=16)
    assert abs(fit(trace.times_s, trace.volts[0], 12_345.0)) == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 200.0])
def test_quadratures_tell_amplitude_and_phase(degrees: float) -> None:
    """The quadratures of the own modulation are half its amplitude, turned by the phase."""
    board = Board(in1=CABLE)
    setting, _ = bandwidth(8)
    demodulator(
        board,
        "iq2",
        hz=100e3,
        to="out1",
        amplitude=0.4,
        degrees=degrees,
        stage=setting,
        factor=2.0,
    )
    board.wait(0.1)
    seen = complex(board.sample("iq2"), board.sample("iq2_2"))
    expected = 0.4 * np.exp(1j * np.radians(degrees))
    assert seen == pytest.approx(expected, abs=0.002)


def test_quadratures_are_slow() -> None:
    """After the modulation has begun they rise with the bandwidth of their filter."""
    board = Board(in1=CABLE)
    setting, corner = bandwidth(5)
    demodulator(board, hz=100e3, to="out1", stage=setting, stages=1)
    base = board.module("iq0")
    board.wait(0.1)
    board.write(base + 0x114, unsigned(0.4 * 2**17, 18))
    for _ in range(10):
        board.wait(0.3 / (2 * np.pi * corner))
        since = board.now_s - 100.1
        expected = 0.4 * (1 - np.exp(-2 * np.pi * corner * since))
        assert board.sample("iq0") == pytest.approx(expected, abs=0.005)


def test_two_oscillators_beat() -> None:
    """A signal beside the oscillator's frequency turns round at the difference."""
    board = Board(in1=CABLE)
    setting, corner = bandwidth(14)
    board.generate(101_000.0, 0.4)
    demodulator(board, hz=100_000.0, stage=setting, stages=1)
    board.look("iq0", "off", decimation=64, average=False)
    board.wait(0.01)
    trace = board.single(decimation=64, in1="iq0", in2="off")
    expected = 0.4 / abs(1 + 1000j / corner)
    assert abs(fit(trace.times_s, trace.volts[0], 1000.0)) == pytest.approx(expected, rel=0.02)


def test_band_pass_has_its_gain_and_width() -> None:
    """With gain, an IQ module is a band-pass filter around its frequency."""
    board = Board(in1=CABLE)
    setting, corner = bandwidth(9)
    for hz in (100_000.0, 100_000.0 + corner):
        board.generate(hz, 0.2, to="off")
        demodulator(
            board, hz=100_000.0, source="asg0", gain=2.0, stage=setting, stages=1, shows=DIRECT
        )
        board.wait(0.1)
        trace = board.single(decimation=8, in1="iq0", in2="asg0")
        response = fit(trace.times_s, trace.volts[0], hz) / fit(trace.times_s, trace.volts[1], hz)
        assert response == pytest.approx(2.0 / (1 + 1j * (hz - 1e5) / corner), rel=0.02)


@pytest.mark.parametrize("hz", [300.0, 3000.0, 30e3, 3e6])
def test_network_analysis_finds_the_filter(hz: float) -> None:
    """The sums over the demodulated signal give the response of what is connected."""
    board = Board(in1={"cutoff_hz": 5000.0, "gain": 0.8, "noise_v": 0.0})
    setting, _ = bandwidth(5)
    demodulator(board, "iq2", hz=hz, to="out1", amplitude=0.5, stage=setting)
    found = measure(board, hz, rest_s=0.1, average_s=0.1)
    assert found == pytest.approx(0.8 / (1 + 1j * hz / 5000.0), rel=2e-3)


def test_network_analysis_of_a_closed_loop() -> None:
    """With a controller around the plant, the response is that of the closed loop."""
    board = Board(in1={"cutoff_hz": 5000.0, "noise_v": 0.0})
    board.servo(i_hz=-500.0)
    setting, _ = bandwidth(5)
    demodulator(board, "iq2", hz=400.0, to="out1", amplitude=0.1, stage=setting)
    plant = 1 / (1 + 400j / 5000.0)
    expected = plant / (1 + plant * 500.0 / 400j)
    found = measure(board, 400.0, rest_s=0.1, average_s=0.1)
    assert found == pytest.approx(expected, rel=5e-3)


def test_input_filter_is_seen_by_the_analyser() -> None:
    """A high-pass filter in front of the demodulator is part of what is found."""
    board = Board(in1=CABLE)
    setting, _ = bandwidth(5)
    demodulator(board, "iq2", hz=1000.0, to="out1", amplitude=0.5, stage=setting)
    high, corner = 0x80 | 0x40 | 10, CLOCK_HZ / (2 * np.pi) * 2.0**-14
    board.write(board.module("iq2") + 0x120, high)
    found = measure(board, 1000.0, rest_s=0.1, average_s=0.1)
    expected = 1 / (1 - 1j * corner / 1000.0) * np.exp(-2j * np.pi * 1000.0 / CLOCK_HZ)
    assert found == pytest.approx(expected, rel=2e-3)


def test_synchronised_oscillators_agree() -> None:
    """After their bits were cleared and set together, oscillators have one phase."""
    board = Board(in1=CABLE)
    demodulator(board, "iq0", hz=1e5, to="out1", amplitude=0.25, source="off")
    board.wait(1.23456e-3)
    demodulator(board, "iq1", hz=1e5, to="out2", amplitude=0.25, source="off")
    base = board.module("iq0")
    word = board.read(base + SYNC)[0]
    board.write(base + SYNC, word & ~0b110_0000)
    board.wait(1e-5)
    board.write(base + SYNC, word)
    trace = board.single(decimation=8, in1="out1", in2="out2")
    first, second = (fit(trace.times_s, volts, 1e5) for volts in trace.volts)
    assert first == pytest.approx(second, rel=1e-3)


def test_a_quadrature_can_drive_a_controller() -> None:
    """A PID module behind an IQ module integrates the quadrature."""
    board = Board(in1=CABLE)
    setting, _ = bandwidth(8)
    demodulator(board, hz=1e5, to="out1", amplitude=0.25, stage=setting, factor=2.0)
    board.wait(0.1)
    board.servo("pid1", source="iq0", i_hz=1.0, to="off")
    board.wait(0.1)
    assert board.integral("pid1") == pytest.approx(0.25 * 2 * np.pi * 0.1, rel=0.02)


def test_off_is_silent() -> None:
    """A module that is off neither modulates nor demodulates."""
    board = Board(in1=CABLE)
    setting, _ = bandwidth(8)
    demodulator(board, hz=1e5, to="out1", amplitude=0.25, stage=setting)
    board.write(board.module("iq0") + 0x100, 0)
    board.wait(0.1)
    assert np.abs(board.single(decimation=8).volts[1]).max() == 0.0
    assert board.sample("iq0") == 0.0
