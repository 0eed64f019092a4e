"""What a user of PyRPL does, as a program: `python -m tests.red_pitaya.session NAME PORT`.

Prints what it saw as one line of JSON. PyRPL is used as it is; only its way to log in to the
board is replaced, because the simulated board has no operating system.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

Seen = dict[str, Any]

SETTLED_S: Final = 5.0


class NoShell:
    """Stands in for the shell on the board."""

    hostname = "simulated"

    def __init__(self, **_: Any) -> None:
        self.channel = self

    def ask(self, text: str = "") -> str:
        """Answer nothing."""
        del text
        return ""

    def startscp(self) -> None:
        """Copy nothing."""

    def close(self) -> None:
        """Do nothing."""


def loop_back(pyrpl: Any) -> Seen:
    """Show a sine of the generator on the scope."""
    board = pyrpl.rp
    board.asg0.setup(
        waveform="sin",
        frequency=1000.0,
        amplitude=0.5,
        offset=0.0,
        trigger_source="immediately",
        output_direct="out1",
    )
    scope = board.scope
    scope.input1, scope.input2 = "in1", "out1"
    scope.rolling_mode = False
    scope.trigger_source = "immediately"
    scope.duration = 0.1
    volts = scope.single(timeout=10)
    return {"times_s": scope.times.tolist(), "volts": volts.tolist()}


def triggered(pyrpl: Any) -> Seen:
    """Trigger on a rising edge, with arbitrary data on the generator."""
    board = pyrpl.rp
    board.asg1.setup(
        waveform="sin",
        frequency=5000.0,
        amplitude=0.8,
        trigger_source="immediately",
        output_direct="out2",
    )
    board.asg1.data = np.linspace(-1.0, 1.0, 1 << 14, endpoint=False)
    scope = board.scope
    scope.input1, scope.input2 = "in2", "asg1"
    scope.rolling_mode = False
    scope.duration = 0.001
    scope.threshold, scope.hysteresis = 0.2, 0.01
    scope.trigger_source = "ch2_positive_edge"
    scope.trigger_delay = 0.0
    volts = scope.single(timeout=10)
    return {"times_s": scope.times.tolist(), "volts": volts.tolist()}


def rolling(pyrpl: Any) -> Seen:
    """Let the scope roll."""
    board = pyrpl.rp
    board.asg0.setup(
        waveform="square",
        frequency=5.0,
        amplitude=0.5,
        trigger_source="immediately",
        output_direct="out1",
    )
    scope = board.scope
    scope.input1 = "in1"
    scope.duration = 1.0
    scope.rolling_mode = True
    scope._start_acquisition_rolling_mode()  # noqa: SLF001 - what PyRPL's own window calls
    time.sleep(1.3)
    times_s, volts = scope._get_rolling_curve()  # noqa: SLF001 - as above
    known = ~np.isnan(volts[0])
    return {"times_s": times_s[known].tolist(), "volts": volts[0][known].tolist()}


def sweep(pyrpl: Any) -> Seen:
    """Measure what lies between an output and an input."""
    analyser = pyrpl.networkanalyzer
    analyser.setup(
        start_freq=1e3,
        stop_freq=1e6,
        points=101,
        rbw=300,
        average_per_point=1,
        trace_average=1,
        amplitude=0.5,
        input="in1",
        output_direct="out1",
        acbandwidth=0,
        logscale=True,
    )
    response = analyser.single(timeout=30)
    return {
        "hz": analyser.frequencies.tolist(),
        "real": response.real.tolist(),
        "imaginary": response.imag.tolist(),
    }


def control(pyrpl: Any) -> Seen:
    """Close a loop around the plant, move its set point, and disturb it."""
    board = pyrpl.rp
    pid = board.pid0
    pid.setup(input="in1", output_direct="off", setpoint=0.25, p=0.0, i=0.0)
    pid.ival = 0.0
    pid.i = -200.0
    pid.output_direct = "out1"
    before = _settled(lambda: board.sampler.in1, 0.25)
    pid.setpoint = -0.4
    after = _settled(lambda: board.sampler.in1, -0.4)
    integral = pid.ival
    pid.paused, pid.pause_gains = True, "i"
    pid.setpoint = 0.1
    time.sleep(0.05)
    paused = board.sampler.in1
    pid.paused = False
    resumed = _settled(lambda: board.sampler.in1, 0.1)
    return {
        "before": before,
        "after": after,
        "integral": integral,
        "paused": paused,
        "resumed": resumed,
    }


def quadratures(pyrpl: Any) -> Seen:
    """Demodulate the own modulation."""
    board = pyrpl.rp
    iq = board.iq2
    iq.setup(
        frequency=100e3,
        bandwidth=[100, 100],
        gain=0.0,
        phase=40.0,
        acbandwidth=500.0,
        amplitude=0.25,
        input="in2",
        output_direct="out2",
        output_signal="quadrature",
        quadrature_factor=2.0,
    )
    time.sleep(0.1)
    return {"i": board.sampler.iq2, "q": board.sampler.iq2_2}


def housekeeping(pyrpl: Any) -> Seen:
    """Use LEDs, pins, slow outputs and time stamps."""
    board = pyrpl.rp
    board.hk.led = 0x5A
    board.hk.expansion_P3_output = True
    board.hk.expansion_P3 = True
    board.ams.dac2 = 0.9
    first = board.scope.current_timestamp
    time.sleep(0.2)
    later = board.scope.current_timestamp
    return {
        "led": board.hk.led,
        "pin": board.hk.expansion_P3,
        "dac": board.ams.dac2,
        "passed_s": (later - first) / 125e6,
    }


def spectrum(pyrpl: Any) -> Seen:
    """Find a line with the spectrum analyser, which works with a demodulator and the scope."""
    board = pyrpl.rp
    board.asg0.setup(
        waveform="sin",
        frequency=200e3,
        amplitude=0.1,
        trigger_source="immediately",
        output_direct="out2",
    )
    analyser = pyrpl.spectrumanalyzer
    analyser.setup(baseband=True, span=1e6, input1_baseband="out2", trace_average=1)
    curves = analyser.single(timeout=10)
    hz = analyser.frequencies
    return {"hz": float(hz[int(np.argmax(curves[0]))])}


def _settled(look: Callable[[], float], goal: float) -> float:
    """Return what is seen once it has arrived, or what was seen last."""
    give_up_s = time.monotonic() + SETTLED_S
    seen = look()
    while abs(seen - goal) > 0.002 and time.monotonic() < give_up_s:
        time.sleep(0.01)
        seen = look()
    return seen


STEPS: Final[dict[str, Callable[[Any], Seen]]] = {
    step.__name__: step
    for step in (
        loop_back,
        triggered,
        rolling,
        sweep,
        control,
        quadratures,
        housekeeping,
        spectrum,
    )
}


def connect(port: int) -> Any:
    """Return a PyRPL that is connected to the simulated board."""
    import pyrpl.redpitaya

    pyrpl.redpitaya.SshShell = NoShell
    return pyrpl.Pyrpl(
        config="",
        hostname="127.0.0.1",
        port=port,
        gui=False,
        reloadfpga=False,
        reloadserver=False,
        leds_off=False,
        delay=0.0,
    )


def main(name: str, port: str) -> None:
    """Connect, take one step, and print what was seen."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with tempfile.TemporaryDirectory() as folder, answers:
        os.environ["PYRPL_USER_DIR"] = folder
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        connected = connect(int(port))
        try:
            json.dump(STEPS[name](connected), answers)
        finally:
            connected._clear()  # noqa: SLF001 - PyRPL has no other way to close


if __name__ == "__main__":
    main(*sys.argv[1:])
