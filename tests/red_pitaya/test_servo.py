"""PID modules of the simulated board, around simulated plants."""

from __future__ import annotations

import numpy as np
import pytest

from .board import ASG, CABLE, LENGTH, Board, Floats, fit, generated_hz

QUIET = {"cutoff_hz": 1000.0, "noise_v": 0.0}
SYNC = 0xC


def stepped(
    *,
    seconds: float,
    setpoint: float,
    p: float,
    i_hz: float,
    low: float = -1.0,
    high: float = 8191 / 8192,
    cutoff_hz: float = 1000.0,
    push: Floats | None = None,
    step_s: float = 1e-7,
) -> tuple[Floats, Floats]:
    """Return input and integrator of a loop, by small steps: an independent reckoning."""
    count = round(seconds / step_s)
    value = total = 0.0
    inputs, totals = np.zeros(count), np.zeros(count)
    rate = 2 * np.pi * cutoff_hz
    for index in range(count):
        error = value - setpoint
        output = min(max(p * error + total, low), high)
        total = min(max(total + step_s * 2 * np.pi * i_hz * error, -4.0), 4.0)
        sent = output + (0.0 if push is None else float(push[index]))
        value += step_s * rate * (min(max(sent, -1.0), 1.0) - value)
        inputs[index], totals[index] = value, total
    return inputs, totals


def test_loop_settles_at_the_setpoint() -> None:
    """An integrating loop around a low-pass filter ends at its set point and stays there."""
    board = Board(in1=QUIET)
    board.servo(setpoint=0.3, i_hz=-100.0)
    board.wait(0.05)
    assert board.sample("in1") == pytest.approx(0.3, abs=0.001)
    assert board.sample("pid0") == pytest.approx(0.3, abs=0.001)
    assert board.integral() == pytest.approx(0.3, abs=0.001)
    board.wait(3600.0)
    assert board.sample("in1") == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize(
    ("p", "i_hz", "setpoint", "low", "high"),
    [
        (0.0, -300.0, 0.3, -1.0, 0.999),
        (-0.5, -300.0, -0.4, -1.0, 0.999),
        (-5.0, -3000.0, 0.6, -1.0, 0.999),
        (-2.0, -2000.0, 0.5, -0.1, 0.7),
        (-2.0, -200.0, 0.9, -0.1, 0.4),
        (0.0, -5000.0, 0.8, -1.0, 0.999),
    ],
)
def test_transient_is_what_small_steps_give(
    p: float, i_hz: float, setpoint: float, low: float, high: float
) -> None:
    """Rise, overshoot and saturation of a loop agree with stepping it through time."""
    board = Board(in1=QUIET)
    inputs, totals = stepped(seconds=0.01, setpoint=setpoint, p=p, i_hz=i_hz, low=low, high=high)
    board.servo(setpoint=setpoint, p=p, i_hz=i_hz, low=low, high=high)
    for index in range(4_999, len(inputs), 5_000):
        board.wait(500e-6)
        assert board.sample("in1") == pytest.approx(inputs[index], abs=0.003)
        assert board.integral() == pytest.approx(totals[index], abs=0.01)


def test_loop_takes_out_a_disturbance() -> None:
    """A slow sine added to the output is suppressed as the loop's gain says."""
    board = Board(in1=QUIET)
    board.servo(setpoint=0.0, i_hz=-200.0)
    board.generate(20.0, 0.2)
    board.wait(0.5)
    trace = board.single(decimation=1024)
    plant = 1 / (1 + 20j / 1000.0)
    expected = 0.2 * abs(plant / (1 + plant * 200.0 / 20j))
    assert abs(fit(trace.times_s, trace.volts[0], 20.0)) == pytest.approx(expected, rel=0.01)


def test_disturbance_that_saturates_is_what_small_steps_give() -> None:
    """While the output is at its limit, the loop is open, and catches up afterwards."""
    board = Board(in1=QUIET)
    seconds = np.arange(600_000) * 1e-7
    push = 0.7 * np.sin(2 * np.pi * generated_hz(50.0) * seconds)
    inputs, totals = stepped(seconds=0.06, setpoint=0.5, p=-1.0, i_hz=-500.0, push=push)
    board.servo(setpoint=0.5, p=-1.0, i_hz=-500.0)
    board.generate(50.0, 0.7)
    for index in range(9_999, len(inputs), 10_000):
        board.wait(1e-3)
        assert board.sample("in1") == pytest.approx(inputs[index], abs=0.005)
        assert board.integral() == pytest.approx(totals[index], abs=0.02)


@pytest.mark.parametrize(("source", "to"), [("pid0", "off"), ("in1", "out1")])
@pytest.mark.parametrize(("setpoint", "ends"), [(0.0, 0.0), (0.1, -1.0), (-0.1, 1.0)])
def test_loop_of_gain_one_is_survived(source: str, to: str, setpoint: float, ends: float) -> None:
    """Fed with its own output, at gain one, a controller stays or runs into its limit."""
    board = Board(in1=CABLE)
    board.servo(source=source, to=to, setpoint=setpoint, p=1.0)
    board.wait(0.1)
    assert board.sample("pid0") == pytest.approx(ends, abs=0.001)


def test_integrator_runs_to_its_limit_and_back() -> None:
    """Without feedback the integrator ramps, stops at 4 V, and turns round at once."""
    board = Board(in1=CABLE)
    board.servo(setpoint=-0.1, i_hz=10.0, to="off")
    board.wait(0.1)
    assert board.integral() == pytest.approx(0.1 * 2 * np.pi * 10 * 0.1, rel=0.01)
    assert board.sample("pid0") == pytest.approx(board.integral(), abs=0.001)
    board.wait(10.0)
    assert board.integral() == pytest.approx(4.0, abs=0.001)
    assert board.sample("pid0") == pytest.approx(1.0, abs=0.001)
    board.servo(setpoint=0.1, i_hz=10.0, to="off")
    board.wait(0.1)
    assert board.integral() == pytest.approx(4.0 - 0.1 * 2 * np.pi * 10 * 0.1, rel=0.01)


def test_integrator_can_be_set_and_holds() -> None:
    """Without integral gain the integrator keeps what was written; the output follows it."""
    board = Board(in1=CABLE)
    board.servo(to="out1")
    board.set_integral(0.25)
    board.wait(1000.0)
    assert board.integral() == pytest.approx(0.25, abs=1e-4)
    assert board.sample("in1") == pytest.approx(0.25, abs=0.001)
    board.set_integral(-2.0)
    assert board.integral() == pytest.approx(-2.0, abs=1e-4)
    assert board.sample("out1") == pytest.approx(-1.0, abs=0.001)


def test_proportional_gain_multiplies_the_error() -> None:
    """With gain p the output is p times what the input is beyond the set point."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.3, to="off")
    board.servo(source="asg0", setpoint=0.1, p=2.0, to="off")
    board.wait(0.001)
    assert board.sample("pid0") == pytest.approx(0.4, abs=0.001)
    board.servo(source="asg0", setpoint=0.1, p=2.0, to="off", high=0.25)
    board.wait(0.001)
    assert board.sample("pid0") == pytest.approx(0.25, abs=0.001)
    board.servo(source="asg0", setpoint=0.1, p=-2.0, to="off", low=-0.125)
    board.wait(0.001)
    assert board.sample("pid0") == pytest.approx(-0.125, abs=0.001)


def test_paused_gains_do_nothing() -> None:
    """While a module is paused the chosen gains count as zero; afterwards it goes on."""
    board = Board(in1=QUIET)
    base = board.module("pid0")
    board.servo(setpoint=0.3, i_hz=-100.0)
    board.write(base + 0x12C, 1)
    board.wait(0.002)
    board.write(base + SYNC, board.read(base + SYNC)[0] & ~1)
    held = board.integral()
    board.wait(1.0)
    assert board.integral() == held
    board.write(base + SYNC, board.read(base + SYNC)[0] | 1)
    board.wait(0.1)
    assert board.integral() == pytest.approx(0.3, abs=0.001)


def test_input_filters_low_pass_and_high_pass() -> None:
    """The four stages in front of a PID module filter as their corners say."""
    board = Board(in1=CABLE)
    base = board.module("pid0")
    board.generate(10_000.0, 0.5, to="off")
    board.servo(source="asg0", p=1.0, to="off")
    # Two low-pass stages at 9.7 kHz, one high-pass stage at 4.9 kHz, one stage off.
    low, high = 0x80 | 13, 0x80 | 0x40 | 12
    board.write(base + 0x120, low | low << 8 | high << 16)
    board.wait(0.01)
    trace = board.single(decimation=16, in1="pid0", in2="asg0")
    corner = 125e6 / (2 * np.pi)
    f_low, f_high = corner * 2.0**-11, corner * 2.0**-12
    expected = 1 / (1 + 1j * 1e4 / f_low) ** 2 / (1 - 1j * f_high / 1e4)
    seen, sent = (fit(trace.times_s, volts, 1e4) for volts in trace.volts)
    assert seen / sent == pytest.approx(expected, rel=0.01)


def test_positive_feedback_runs_away_to_the_limit() -> None:
    """A loop with the wrong sign ends at a limit instead of growing for ever."""
    board = Board(in1=QUIET)
    board.servo(setpoint=0.3, p=3.0, i_hz=100.0)
    board.wait(0.5)
    assert board.sample("pid0") == pytest.approx(-1.0, abs=0.001)
    assert board.sample("in1") == pytest.approx(-1.0, abs=0.002)
    board.wait(3600.0)
    assert board.integral() == pytest.approx(-4.0, abs=0.001)


def test_limit_cycle_stays_bounded_and_quick() -> None:
    """A loop that swings between its limits is given up on, not followed for ever."""
    board = Board(in1={"cutoff_hz": 1e6, "noise_v": 0.0})
    board.servo("pid0", source="in1", setpoint=0.1, p=-200.0, i_hz=-30_000.0)
    board.servo("pid1", source="pid0", p=50.0, to="out1")
    for _ in range(50):
        board.wait(0.1)
        assert abs(board.sample("in1")) <= 1.0
    trace = board.single(decimation=1024)
    assert np.abs(trace.volts[0]).max() <= 1.0


def test_two_modules_in_a_row() -> None:
    """One module's output is another's input."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.2, to="off")
    board.servo("pid0", source="asg0", p=2.0, to="off")
    board.servo("pid1", source="pid0", setpoint=0.1, p=-1.0, to="out2")
    board.wait(1e-3)
    assert board.sample("out2") == pytest.approx(-0.3, abs=0.001)


def test_differential_mode_takes_the_partners_input() -> None:
    """In differential mode the set point is the input of the partner module."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.5, to="off")
    board.generate(0.0, 0.0, offset=0.2, channel=1, to="off")
    board.servo("pid1", source="asg1", to="off")
    board.servo("pid0", source="asg0", p=1.0, to="off")
    board.write(board.module("pid0") + 0x12C, 8)
    board.wait(1e-3)
    assert board.sample("pid0") == pytest.approx(0.3, abs=0.001)


def test_plant_can_be_exchanged() -> None:
    """What lies between output and input can be changed while everything runs."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.4)
    assert board.sample("in1") == pytest.approx(0.4, abs=0.001)
    board.model.connect_input(1, {"gain": 0.5, "offset_v": 0.1, "noise_v": 0.0}, board.now_s)
    board.wait(0.01)
    assert board.sample("in1") == pytest.approx(0.3, abs=0.001)


def test_iir_passes_through_only_when_bypassed() -> None:
    """The IIR filter itself is not simulated: bypassed it is a wire, else it is silent."""
    board = Board(in1=CABLE)
    board.generate(0.0, 0.0, offset=0.4, to="off")
    board.route("iir", source="asg0", to="out2")
    board.write(board.module("iir") + 0x104, 0b11)
    board.wait(1e-3)
    assert board.sample("out2") == pytest.approx(0.4, abs=0.001)
    board.write(board.module("iir") + 0x104, 0b01)
    board.wait(1e-3)
    assert board.sample("out2") == 0.0


def test_trigger_module_sees_a_crossing() -> None:
    """Armed, it waits for its input to cross the threshold, remembers when, and disarms."""
    board = Board(in1=CABLE)
    base = board.module("trig")
    board.generate(100.0, 0.5)
    board.wait(0.0101)
    board.route("trig", source="out1")
    board.write(base + 0x118, round(0.25 * 8192))
    board.write(base + 0x11C, round(0.01 * 8192))
    board.write(base + 0x108, 1)
    board.write(base + 0x100, 1)
    board.look("out1", "off", decimation=64, average=False)
    board.arm(10, LENGTH)
    armed_s = board.now_s
    board.wait(0.02)
    assert board.read(base + 0x100) == [0]
    low, high = board.read(base + 0x164, 2)
    now_low, now_high = board.read(base + 0x15C, 2)
    ago_s = ((now_low + (now_high << 32)) - (low + (high << 32))) / 125e6
    # The sine passes a quarter of a volt upwards a twelfth of a period after zero.
    assert armed_s + 0.02 - ago_s == pytest.approx(100.01 + 0.01 / 12, abs=1e-6)
    assert board.sample("trig") == pytest.approx(1.0, abs=0.001)
    board.wait(0.02)
    assert not board.busy()
    assert board.read(ASG)
