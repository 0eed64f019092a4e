"""The signal paths of a board as one linear system; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from attrs import frozen

from .settings import (
    ASGS,
    FASTEST_HZ,
    IIR,
    INPUTS,
    IQ2_SECOND,
    IQS,
    OUTPUTS,
    PIDS,
    TRIG,
    IqSettings,
    PidSettings,
)
from .waves import Drive, Floats

IVAL_V: Final = 4.0
"""Where an integrator stops."""

# An IIR filter answers late; one pole stands for it.
_LAG_PER_S: Final = 125e6 / 3

# Three states stand for the delay of a PID module: `1 / (1 + x + x**2 / 2 + x**3 / 6)`.
_DELAY: Final = ("", ".speed", ".bend")

# Integrators leak a little, so that every system has a rest position.
_LEAK_PER_S: Final = 1e-7


@frozen(kw_only=True)
class Plant:
    """What connects an analog output to the input of the same number.

    Attributes:
        gain: At low frequencies.
        cutoff_hz: Corner of its first-order low-pass filter; None for a plain cable.
        offset_v: What the input shows without a signal.
        noise_v: White noise of the input, root mean square.
    """

    gain: float = 1.0
    cutoff_hz: float | None = 20e3
    offset_v: float = 0.0
    noise_v: float = 3e-4


@frozen(kw_only=True)
class Settings:
    """What the circuit is made of.

    Attributes:
        pids: The PID modules.
        iqs: The IQ modules.
        iir_source: The input of the IIR filter, None while it lets nothing through.
        iir_directs: Where the IIR filter goes besides.
        asg_directs: Where each signal generator goes besides.
        plants: What is connected to the board.
        outputs: A wave and a constant: of the signal generators and of the oscillators.
        held: Signals that hold still: integrators by name, quadratures and flags by number.
        clamps: What is at its limit, and whether at the upper one.
    """

    pids: Sequence[PidSettings]
    iqs: Sequence[IqSettings]
    iir_source: int | None
    iir_directs: int
    asg_directs: Sequence[int]
    plants: Sequence[Plant]
    outputs: Mapping[int, tuple[Drive | None, float]]
    held: Mapping[str, float]
    clamps: Mapping[str, bool]


@frozen(eq=False)
class Limit:
    """A signal that can be at its limit.

    Attributes:
        name: Which.
        row: The signal, as it would be without the limit.
        low: The lower limit, in volts.
        high: The upper limit, in volts.
        rate: For an integrator, what it integrates; it leaves a limit when this turns round.
    """

    name: str
    row: Floats
    low: float
    high: float
    rate: Floats | None = None


class Circuit:
    """Rows for all signals, and the equations of all states.

    Attributes:
        names: The states.
        drives: The periodic signals that drive it.
        limits: What can reach a limit.
        envelopes: By IQ module, its demodulated signal at the oscillator's frequency: the
            real and the imaginary part.
        holds: Whether a signal that is held really moves.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect everything."""
        self.names: list[str] = []
        self.drives: list[Drive] = []
        self.limits: list[Limit] = []
        self.envelopes: dict[int, tuple[Floats, Floats]] = {}
        self.holds = False
        self._settings = settings
        self._driven: dict[int, int] = {}
        self._allocate()
        self._index = {name: index for index, name in enumerate(self.names)}
        self._width = len(self.names) + len(self.drives) + 1
        self._rates = np.zeros((len(self.names), self._width))
        self._demodulate()
        self._outs = [self._out(number) for number in range(len(OUTPUTS))]
        for number in PIDS:
            self._control(number)
        self._connect()

    def __repr__(self) -> str:
        return f"<Circuit {len(self.names)} states, {len(self.drives)} drives>"

    @property
    def matrix(self) -> Floats:
        """Return how the states act on each other."""
        return self._rates[:, : len(self.names)]

    @property
    def inputs(self) -> Floats:
        """Return how the drives act on the states."""
        return self._rates[:, len(self.names) : -1]

    @property
    def constant(self) -> Floats:
        """Return what acts on the states besides."""
        return self._rates[:, -1]

    def signal(self, number: int) -> Floats:
        """Return the signal of a module, as other modules see it."""
        settings = self._settings
        if number in PIDS:
            return self._pid_output(number)
        if number in IQS:
            iq = settings.iqs[number - IQS[0]]
            if iq.puts_out_modulation:
                return self._modulation(number)
            return self._held(str(number)) if iq.puts_out_quadrature else self._none()
        if number in ASGS:
            return self._output(number)
        if number in INPUTS:
            return self._input(number - INPUTS[0])
        if number in OUTPUTS:
            return self._outs[number - OUTPUTS[0]]
        if number == IIR and settings.iir_source is not None:
            return self._state("iir")
        return self._held(str(number)) if number in (IQ2_SECOND, TRIG) else self._none()

    def _allocate(self) -> None:
        settings = self._settings
        for index, plant in enumerate(settings.plants):
            if plant.cutoff_hz is not None:
                self.names.append(f"plant{index}")
        for number, pid in zip(PIDS, settings.pids, strict=True):
            if pid.idle:
                continue
            stages = [index for index, hz in enumerate(pid.filters_hz) if hz]
            self.names += [f"pid{number}.filter{index}" for index in stages]
            if pid.i_per_s and f"pid{number}.integral" not in settings.clamps:
                self.names.append(f"pid{number}.integral")
            self.names += [f"pid{number}{part}" for part in _DELAY]
        for number, iq in zip(IQS, settings.iqs, strict=True):
            if not iq.works:
                continue
            if iq.filter_hz:
                self.names.append(f"iq{number}.filter")
            for index in range(len(_bandwidths(iq))):
                self.names += [f"iq{number}.re{index}", f"iq{number}.im{index}"]
        if settings.iir_source is not None:
            self.names.append("iir")
        for number, (drive, _) in settings.outputs.items():
            if drive is not None:
                self._driven[number] = len(self.drives)
                self.drives.append(drive)

    def _none(self) -> Floats:
        return np.zeros(self._width)

    def _constant(self, value: float) -> Floats:
        row = self._none()
        row[-1] = value
        return row

    def _state(self, name: str) -> Floats:
        row = self._none()
        row[self._index[name]] = 1.0
        return row

    def _held(self, name: str) -> Floats:
        return self._constant(self._settings.held.get(name, 0.0))

    def _output(self, number: int) -> Floats:
        row = self._constant(self._settings.outputs[number][1])
        if number in self._driven:
            row[len(self.names) + self._driven[number]] = 1.0
        return row

    def _modulation(self, number: int) -> Floats:
        iq = self._settings.iqs[number - IQS[0]]
        row = self._output(number)
        if number in self.envelopes and iq.gain:
            real, imaginary = self.envelopes[number]
            phase = iq.phase - 2 * np.pi * iq.frequency_hz * iq.delay_s
            turned = np.cos(phase) * real - np.sin(phase) * imaginary
            row = row + 2 * iq.gain * turned
        return row

    def _input(self, index: int) -> Floats:
        plant = self._settings.plants[index]
        if plant.cutoff_hz is None:
            return plant.gain * self._outs[index] + self._constant(plant.offset_v)
        return self._state(f"plant{index}") + self._constant(plant.offset_v)

    def _out(self, index: int) -> Floats:
        settings = self._settings
        bit = 1 << index
        total = self._none()
        for number, pid in zip(PIDS, settings.pids, strict=True):
            if pid.directs & bit:
                total = total + self._pid_output(number)
        for number, iq in zip(IQS, settings.iqs, strict=True):
            if iq.directs & bit:
                total = total + self._modulation(number)
        for number, directs in zip(ASGS, settings.asg_directs, strict=True):
            if directs & bit:
                total = total + self._output(number)
        if settings.iir_source is not None and settings.iir_directs & bit:
            total = total + self._state("iir")
        return self._limited(Limit(f"out{index}", total, -1.0, 1.0))

    def _limited(self, limit: Limit) -> Floats:
        """Return the signal, or the limit that it is at."""
        self.limits.append(limit)
        clamp = self._settings.clamps.get(limit.name)
        if clamp is None:
            return limit.row
        return self._constant(limit.high if clamp else limit.low)

    def _pid_output(self, number: int) -> Floats:
        pid = self._settings.pids[number]
        if not pid.idle:
            return self._state(f"pid{number}")
        held = self._settings.held.get(f"pid{number}.integral", 0.0)
        return self._constant(min(max(held, pid.low_v), pid.high_v))

    def _source(self, number: int) -> Floats:
        """Return the signal that a module takes in."""
        held = number == IQ2_SECOND or (
            number in IQS and self._settings.iqs[number - IQS[0]].puts_out_quadrature
        )
        self.holds |= held
        return self.signal(number)

    def _filtered(self, name: str, corner_hz: float, source: Floats) -> Floats:
        """Send a signal through one filter stage."""
        state = self._state(name)
        rate = 2 * np.pi * abs(corner_hz)
        self._rates[self._index[name]] = rate * (source - state)
        return state if corner_hz > 0 else source - state

    def _control(self, number: int) -> None:
        settings = self._settings
        pid = settings.pids[number]
        name = f"pid{number}"
        if pid.idle:
            return
        source = self._source(pid.source)
        for index, corner_hz in enumerate(pid.filters_hz):
            if corner_hz:
                source = self._filtered(f"{name}.filter{index}", corner_hz, source)
        partner = {0: 1, 1: 0}.get(number)
        if pid.differential and partner is not None:
            error = source - self._source(settings.pids[partner].source)
        else:
            error = source - self._constant(pid.setpoint_v)
        integral = self._integrated(f"{name}.integral", pid.i_per_s, error)
        target = self._limited(Limit(name, pid.p * error + integral, pid.low_v, pid.high_v))
        value, speed, bend = (self._state(f"{name}{part}") for part in _DELAY)
        moves = (speed, bend, 6 * (target - value - speed - bend / 2))
        for part, move in zip(_DELAY, moves, strict=True):
            self._rates[self._index[f"{name}{part}"]] = move / pid.delay_s

    def _integrated(self, name: str, i_per_s: float, error: Floats) -> Floats:
        if not i_per_s:
            return self._held(name)
        clamp = self._settings.clamps.get(name)
        rate = i_per_s * error
        if clamp is None:
            row = self._state(name)
            self._rates[self._index[name]] = rate - _LEAK_PER_S * row
        else:
            row = self._constant(IVAL_V if clamp else -IVAL_V)
        self.limits.append(Limit(name, row, -IVAL_V, IVAL_V, rate))
        return row

    def _demodulate(self) -> None:
        """Say where each IQ module's envelope is; `_connect` says what moves it."""
        for number, iq in zip(IQS, self._settings.iqs, strict=True):
            if iq.works:
                last = len(_bandwidths(iq)) - 1
                self.envelopes[number] = (
                    self._state(f"iq{number}.re{last}"),
                    self._state(f"iq{number}.im{last}"),
                )

    def _connect(self) -> None:
        settings = self._settings
        for index, plant in enumerate(settings.plants):
            if plant.cutoff_hz is not None:
                name = f"plant{index}"
                self._filtered(name, plant.cutoff_hz, plant.gain * self._outs[index])
        if settings.iir_source is not None:
            source = self._source(settings.iir_source)
            self._rates[self._index["iir"]] = _LAG_PER_S * (source - self._state("iir"))
        for number, iq in zip(IQS, settings.iqs, strict=True):
            if iq.works:
                self._mix(number, iq)

    def _mix(self, number: int, iq: IqSettings) -> None:
        """Filter around the oscillator's frequency: mixing down, filtering and mixing back.

        Both quadratures pass the same filters, so that all of it is one linear filter.
        """
        source = self._source(iq.source)
        if iq.filter_hz:
            source = self._filtered(f"iq{number}.filter", iq.filter_hz, source)
        turn = 2 * np.pi * iq.frequency_hz * iq.demodulates
        real, imaginary = source, self._none()
        for index, bandwidth_hz in enumerate(_bandwidths(iq)):
            names = f"iq{number}.re{index}", f"iq{number}.im{index}"
            re, im = self._state(names[0]), self._state(names[1])
            rate = 2 * np.pi * abs(bandwidth_hz)
            self._rates[self._index[names[0]]] = rate * (real - re) - turn * im
            self._rates[self._index[names[1]]] = rate * (imaginary - im) + turn * re
            if bandwidth_hz > 0:
                real, imaginary = re, im
            else:
                real, imaginary = real - re, imaginary - im
        self.envelopes[number] = (real, imaginary)


def _bandwidths(iq: IqSettings) -> list[float]:
    """Return the filters of the quadratures; one very wide one stands for none."""
    return [hz for hz in iq.bandwidths_hz if hz] or [FASTEST_HZ]
