"""The signals of a board through time; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from .circuit import Circuit, Limit, Plant, Settings
from .generator import CLOCK_HZ, Generator
from .linear import Modes, Piece, decompose
from .settings import (
    ASGS,
    IIR,
    INPUTS,
    IQ2_SECOND,
    IQS,
    MODULE,
    PIDS,
    SYNC,
    TRIG,
    IqSettings,
    read_iq,
    read_pid,
)
from .waves import SINE, Complexes, Drive, Floats
from .words import Memory

SWITCHES: Final = 24
"""How often signals reach or leave limits in one go before the rest goes without."""

HOLD_S: Final = 1e-3
"""For how long a quadrature that drives another module is held, at least."""

_TOLERANCE_V: Final = 1e-6
_SYSTEMS_KEPT: Final = 32
_GROWTH: Final = 30.0
_LONGEST_GRID: Final = 2048
_FULL_SCALE: Final = 8191 / 8192


class Watcher(Protocol):
    """What looks at the signals while time passes."""

    def watch(self, from_s: float, to_s: float) -> None:
        """See what happens after one instant and until another, under one configuration."""
        ...


@frozen(eq=False)
class Reached:
    """A signal that reaches or leaves its limit."""

    limit: Limit
    at_s: float
    upwards: bool


class Physics:
    """Integrates what the registers describe, exactly and only when it is looked at.

    Between two changes of the registers everything is linear, up to the limits of outputs
    and integrators; each stretch between changes and limits is solved in one step.

    Args:
        dsp: The registers of the signal processing modules.
        generators: Both signal generators.
        plants: What connects the outputs to the inputs.
        seed: For the noise.

    Attributes:
        clock_s: What time it is.
        now_s: Up to when everything is known; `catch_up` brings it up to the time.
        plants: What connects the outputs to the inputs; `change` before it is replaced.
        watchers: They see every stretch of time.
    """

    def __init__(
        self, dsp: Memory, generators: Sequence[Generator], plants: Sequence[Plant], seed: int
    ) -> None:
        """Start at rest."""
        self.clock_s = self.now_s = 0.0
        self.plants: Sequence[Plant] = plants
        self.watchers: list[Watcher] = []
        self._dsp = dsp
        self._generators = generators
        self._random = np.random.default_rng(seed)
        self._flag = 0.0
        self._flagged = False
        # A loop that has swung too often is followed less far each time.
        self._patience = SWITCHES
        self._values: dict[str, float] = {}
        self._clamps: dict[str, bool] = {}
        self._cycles: dict[int, float] = dict.fromkeys(IQS, 0.0)
        self._cycles_at_s = 0.0
        self._systems: dict[bytes, Modes] = {}
        self._piece: Piece | None = None
        self._circuit: Circuit | None = None
        self._iqs: Sequence[IqSettings] = ()
        self._growth_per_s = -np.inf

    def __repr__(self) -> str:
        return f"<Physics at {self.now_s:.6f} s: {self._circuit}>"

    def catch_up(self) -> None:
        """Let time pass up to now, because somebody looks."""
        self._advance(self.clock_s)

    def change(self) -> None:
        """Let time pass up to now, where settings are about to change."""
        self.catch_up()
        self._settle()

    def _advance(self, to_s: float) -> None:
        asked_s = self.now_s
        switches = 0
        while self.now_s < to_s:
            _, circuit = self._current()
            end_s = min(to_s, *(each.next_event_s for each in self._generators))
            end_s = max(end_s, self.now_s)
            if circuit.holds:
                end_s = min(end_s, self.now_s + max(HOLD_S, (to_s - asked_s) / SWITCHES))
            reached = None
            if switches < self._patience:
                if self._growth_per_s > 0:
                    end_s = min(end_s, self.now_s + _GROWTH / self._growth_per_s)
                reached = self._first_reached(end_s)
                end_s = reached.at_s if reached is not None else end_s
            elif self._growth_per_s > 0:
                self._skip(to_s)
                break
            for watcher in self.watchers:
                watcher.watch(self.now_s, end_s)
            self.now_s = end_s
            if reached is not None:
                switches += 1
                self._settle()
                self._switch(reached)
            elif end_s < to_s or self._flagged:
                self._flagged = False
                switches += self._growth_per_s > 0
                self._settle()
        swings = switches >= self._patience
        self._patience = max(self._patience // 2, 2) if swings else SWITCHES

    def sample(self, number: int, at_s: Floats, width_s: float = 0.0) -> Floats:
        """Return a signal in volts at increasing instants, which no change separates from now.

        Args:
            number: Whose signal.
            at_s: When.
            width_s: Over how long before each instant it is averaged.
        """
        piece, circuit = self._current()
        if number == TRIG:
            return np.full(len(at_s), min(self._flag, _FULL_SCALE))
        if self._shows_quadrature(number):
            return np.clip(self._quadrature(number, at_s), -1.0, _FULL_SCALE)
        values = piece.values(circuit.signal(number), at_s, width_s)
        if number in INPUTS:
            noise_v = self.plants[number - INPUTS[0]].noise_v
            if noise_v:
                noise_v /= max(1.0, width_s * CLOCK_HZ) ** 0.5
                values += self._random.normal(0.0, noise_v, len(at_s))
        return np.clip(values, -1.0, _FULL_SCALE)

    def integral(self, number: int) -> float:
        """Return the integrator of a PID module, in volts."""
        name = f"pid{number}.integral"
        piece, circuit = self._current()
        if name in circuit.names:
            return float(piece.state(self.now_s)[circuit.names.index(name)])
        return self._values.get(name, 0.0)

    def set_integral(self, number: int, volts: float) -> None:
        """Set the integrator of a PID module; `change` comes before."""
        self._values[f"pid{number}.integral"] = volts
        self._clamps.pop(f"pid{number}.integral", None)

    def set_flag(self, volts: float) -> None:
        """Set what the trigger module puts out; others see it after the stretch of time."""
        self._flagged = volts != self._flag
        self._flag = volts

    def demodulated(self, number: int, from_s: float, to_s: float) -> complex:
        """Return the integral of an IQ module's amplitude over time, in V s.

        For an input `A * sin(oscillator + phase)` that has lasted, the amplitude is
        `A * exp(1j * phase)`.
        """
        piece, circuit = self._current()
        if number not in circuit.envelopes:
            return 0j
        iq = self._iqs[number - IQS[0]]
        speed_hz = iq.frequency_hz * iq.demodulates
        cycles = self._cycles[number] * iq.demodulates
        real, imaginary = (
            piece.integral(row, speed_hz, cycles, from_s, to_s) for row in circuit.envelopes[number]
        )
        return 2j * (real + 1j * imaginary) * complex(np.exp(1j * iq.phase))

    def _shows_quadrature(self, number: int) -> bool:
        if number == IQ2_SECOND:
            return True
        return number in IQS and self._iqs[number - IQS[0]].puts_out_quadrature

    def _quadrature(self, number: int, at_s: Floats) -> Floats:
        piece, circuit = self._current()
        module = IQS[-1] if number == IQ2_SECOND else number
        if module not in circuit.envelopes:
            return np.zeros(len(at_s))
        iq = self._iqs[module - IQS[0]]
        real, imaginary = (piece.values(row, at_s) for row in circuit.envelopes[module])
        cycles = self._cycles[module] + iq.frequency_hz * (at_s - piece.start_s)
        turned: Complexes = np.exp(-2j * np.pi * ((iq.demodulates * cycles) % 1.0) + 1j * iq.phase)
        amplitude = 1j * iq.factor * (real + 1j * imaginary) * turned
        return np.asarray(amplitude.imag if number == IQ2_SECOND else amplitude.real)

    def _current(self) -> tuple[Piece, Circuit]:
        """Return the solution for now, made anew after a change."""
        if self._piece is not None and self._circuit is not None:
            return self._piece, self._circuit
        piece, circuit = self._build()
        if not circuit.holds:
            return piece, circuit
        # What is held is known only once the states have their places.
        for number in (*IQS, IQ2_SECOND):
            if self._shows_quadrature(number):
                held = self._quadrature(number, np.array([self.now_s]))
                self._values[str(number)] = float(held[0])
        return self._build()

    def _build(self) -> tuple[Piece, Circuit]:
        self._circuit = circuit = Circuit(self._settings())
        modes = self._solved(circuit)
        self._growth_per_s = modes.growth_per_s
        self._piece = piece = Piece(
            modes,
            circuit.inputs,
            circuit.constant,
            circuit.drives,
            start_s=self.now_s,
            state=np.array([self._values.get(name, 0.0) for name in circuit.names]),
            random=self._random,
        )
        return piece, circuit

    def _solved(self, circuit: Circuit) -> Modes:
        key = circuit.matrix.tobytes()
        if key not in self._systems:
            if len(self._systems) >= _SYSTEMS_KEPT:
                self._systems.clear()
            self._systems[key] = decompose(circuit.matrix)
        return self._systems[key]

    def _settings(self) -> Settings:
        dsp = self._dsp
        self._iqs = [read_iq(dsp, number) for number in IQS]
        outputs: dict[int, tuple[Drive | None, float]] = {
            number: generator.drive(self.now_s)
            for number, generator in zip(ASGS, self._generators, strict=True)
        }
        for number, iq in zip(IQS, self._iqs, strict=True):
            drive = None
            if iq.on and iq.amplitude_v and iq.frequency_hz:
                cycles = self._cycles[number] * iq.modulates
                drive = Drive(SINE, iq.amplitude_v, iq.frequency_hz * iq.modulates, cycles)
            outputs[number] = (drive, 0.0)
        iir = IIR * MODULE
        return Settings(
            pids=[read_pid(dsp, number) for number in PIDS],
            iqs=self._iqs,
            iir_source=dsp[iir] & 0xF if dsp[iir + 0x104] & 0x3 == 0x3 else None,
            iir_directs=dsp[iir + 0x4],
            asg_directs=[dsp[number * MODULE + 0x4] for number in ASGS],
            plants=self.plants,
            outputs=outputs,
            held={**self._values, str(TRIG): self._flag},
            clamps=self._clamps,
        )

    def _settle(self) -> None:
        """Take the state of now as the one to go on from."""
        piece, circuit = self._piece, self._circuit
        if piece is not None and circuit is not None:
            state = np.clip(piece.state(self.now_s), -1e6, 1e6)
            self._values.update(zip(circuit.names, state.tolist(), strict=True))
        # An oscillator whose bit is cleared waits at phase zero.
        for number, iq in zip(IQS, self._iqs, strict=False):
            running = self._dsp[SYNC] >> number & 1
            passed = iq.frequency_hz * (self.now_s - self._cycles_at_s)
            self._cycles[number] = self._cycles[number] + passed if running else 0.0
        self._cycles_at_s = self.now_s
        for generator in self._generators:
            generator.settle(self.now_s)
        self._piece = self._circuit = None

    def _skip(self, to_s: float) -> None:
        """Let time pass over a loop that swings between its limits too often to follow."""
        self._settle()
        self.now_s = to_s
        self._settle()
        for watcher in self.watchers:
            watcher.watch(to_s, to_s)

    def _switch(self, reached: Reached) -> None:
        """Put a signal at its limit, or let it go."""
        limit = reached.limit
        if limit.name in self._clamps:
            high = self._clamps.pop(limit.name)
        else:
            high = self._clamps[limit.name] = reached.upwards
        if limit.rate is not None:
            self._values[limit.name] = limit.high if high else limit.low

    def _first_reached(self, end_s: float) -> Reached | None:
        """Return what first reaches or leaves a limit until `end_s`."""
        piece, circuit = self._current()
        first = None
        for limit in circuit.limits:
            clamp = self._clamps.get(limit.name)
            row, low, high = limit.row, limit.low, limit.high
            if clamp is not None:
                # It leaves on the inner side; an integrator as soon as it would turn back.
                inner_v = 2 * _TOLERANCE_V
                if limit.rate is not None:
                    row, low, high, inner_v = limit.rate, 0.0, 0.0, 0.0
                low, high = (high - inner_v, np.inf) if clamp else (-np.inf, low + inner_v)
            lowest, highest = piece.span(row, self.now_s, end_s)
            if lowest >= low - _TOLERANCE_V and highest <= high + _TOLERANCE_V:
                continue
            found = self._crossing(row, low, high, end_s)
            if found is not None:
                end_s, upwards = found
                first = Reached(limit, end_s, upwards)
        return first

    def _crossing(
        self, row: Floats, low: float, high: float, end_s: float
    ) -> tuple[float, bool] | None:
        """Return when a signal first leaves a range, and whether upwards."""
        piece, _ = self._current()

        def outside(at_s: Floats) -> NDArray[np.bool_]:
            values = piece.values(row, at_s)
            return (values > high + _TOLERANCE_V) | (values < low - _TOLERANCE_V)

        span_s = end_s - self.now_s
        points = int(min(_LONGEST_GRID, max(64, 32 * piece.fastest_hz(row) * span_s)))
        early = np.geomspace(min(1e-9, span_s), span_s, 64) if span_s > 0 else np.zeros(0)
        grid = self.now_s + np.unique(np.concatenate([early, np.linspace(0.0, span_s, points)]))
        grid[-1] = end_s
        hits = np.flatnonzero(outside(grid))
        if not len(hits):
            return None
        after_s = float(grid[hits[0]])
        before_s = float(grid[max(int(hits[0]) - 1, 0)])
        while after_s - before_s > 1e-10:
            finer = np.linspace(before_s, after_s, 33)
            beyond = outside(finer)
            beyond[-1] = True
            index = int(np.flatnonzero(beyond)[0])
            if not index or (before_s, after_s) == (finer[index - 1], finer[index]):
                break
            before_s, after_s = float(finer[index - 1]), float(finer[index])
        return after_s, bool(piece.values(row, np.array([after_s]))[0] > high)
