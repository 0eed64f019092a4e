"""Linear systems under periodic signals, solved exactly at any instant; pure.

A system is `x' = A x + B u + c`. Under constant `c` and periodic `u` its solution is a rest
position, harmonics, and modes that die away: each is known for all times at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from attrs import frozen

from .waves import FEW, Complexes, Drive, Floats, add_up

NEGLIGIBLE: Final = 1e-7
"""Parts of a signal smaller than this, in volts, are left out."""

_SLOWEST_PER_S: Final = 1e-7
"""A mode that would stay for ever, as in a loop of gain one, dies away this slowly."""

_ENTANGLED: Final = 1e9
_APART: Final = 1e-4

NOTICEABLE: Final = 1e-3
"""Drives that contribute less than this, in volts, do not set the pace."""

_FORGOTTEN: Final = 40.0
"""A mode is gone after so many of its time constants."""


@frozen(eq=False)
class Modes:
    """The eigenvalues of a system, and its vectors both ways."""

    rates: Complexes
    vectors: Complexes
    inverse: Complexes

    @property
    def growth_per_s(self) -> float:
        """Return how fast the fastest growing mode grows; negative when none does."""
        return float(self.rates.real.max()) if len(self.rates) else -np.inf


def decompose(matrix: Floats) -> Modes:
    """Return the modes of a system.

    Two equal stages in a row have too few vectors between them: they are made to differ.
    """
    if not len(matrix):
        empty = np.zeros((0, 0), dtype=np.complex128)
        return Modes(np.zeros(0, dtype=np.complex128), empty, empty)
    rates, vectors = np.linalg.eig(matrix)
    if np.linalg.cond(vectors) > _ENTANGLED:
        apart = _APART * np.arange(len(matrix)) * np.diag(matrix)
        rates, vectors = np.linalg.eig(matrix + np.diag(apart))
    lasting = np.abs(rates) < _SLOWEST_PER_S
    return Modes(
        np.where(lasting, -_SLOWEST_PER_S, rates).astype(np.complex128),
        vectors.astype(np.complex128),
        np.linalg.inv(vectors).astype(np.complex128),
    )


class Piece:
    """A stretch of time under one configuration.

    A signal is a row: its weights of the states, of the drives, and of 1.

    Args:
        modes: The system.
        inputs: How the drives act on the states, a column each.
        constant: What acts on the states besides.
        drives: The periodic signals, from the start on.
        start_s: When it starts.
        state: The states then.
        random: Where white noise comes from.
    """

    def __init__(
        self,
        modes: Modes,
        inputs: Floats,
        constant: Floats,
        drives: Sequence[Drive],
        *,
        start_s: float,
        state: Floats,
        random: np.random.Generator,
    ) -> None:
        """Solve the system."""
        self.start_s: Final = start_s
        self.drives: Final = drives
        self._random = random
        self._modes = modes
        pushed = constant + inputs @ np.array([drive.mean for drive in drives])
        self._rest: Floats = -np.real(modes.vectors @ ((modes.inverse @ pushed) / modes.rates))
        self._responses: list[Complexes] = []
        away = state - self._rest
        for index, drive in enumerate(drives):
            column = modes.inverse @ inputs[:, index]
            orders = drive.wave.orders
            poles = 2j * np.pi * drive.frequency_hz * orders[None, :] - modes.rates[:, None]
            response = (
                modes.vectors @ (column[:, None] / poles * drive.harmonics[None, :])
                if np.any(inputs[:, index])
                else np.zeros((len(state), 0), dtype=np.complex128)
            )
            self._responses.append(response)
            if response.shape[1]:
                away = away - np.real(response @ np.exp(2j * np.pi * orders * drive.cycles))
        self._modal: Complexes = modes.inverse @ away

    def __repr__(self) -> str:
        return f"<Piece from {self.start_s} s, {len(self._rest)} states, {len(self.drives)} drives>"

    def state(self, at_s: float) -> Floats:
        """Return the states at an instant."""
        elapsed_s = at_s - self.start_s
        decayed = self._modal * np.exp(self._modes.rates * elapsed_s)
        state = self._rest + np.real(self._modes.vectors @ decayed)
        for drive, response in zip(self.drives, self._responses, strict=True):
            if response.shape[1]:
                cycles = drive.cycles + drive.frequency_hz * elapsed_s
                turned = np.exp(2j * np.pi * ((drive.wave.orders * cycles) % 1.0))
                state = state + np.real(response @ turned)
        return np.asarray(state)

    def values(self, row: Floats, at_s: Floats, width_s: float = 0.0) -> Floats:
        """Return a signal at increasing instants, each averaged over `width_s` before it."""
        count = len(self._rest)
        weights = row[:count]
        elapsed_s = at_s - self.start_s
        total = np.full(len(at_s), float(row[-1] + weights @ self._rest))
        self._add_modes(total, weights, elapsed_s, width_s)
        for index, drive in enumerate(self.drives):
            direct = float(row[count + index])
            harmonics, orders = self._harmonics(weights, index)
            if width_s:
                total += direct * drive.mean
                turns = orders * (drive.frequency_hz * width_s)
                averaged = np.sinc(turns) * np.exp(-1j * np.pi * turns)
                harmonics = (harmonics + direct * drive.harmonics) * averaged
            elif direct:
                total += direct * drive.values(elapsed_s, self._random)
            kept = np.abs(harmonics) > NEGLIGIBLE
            if np.any(kept):
                cycles = drive.cycles + elapsed_s * drive.frequency_hz
                total += add_up(harmonics[kept], orders[kept], cycles)
        return total

    def span(self, row: Floats, from_s: float, to_s: float) -> tuple[float, float]:
        """Return what a signal stays between from one instant to another; it may use less."""
        count = len(self._rest)
        weights = row[:count]
        parts = (weights @ self._modes.vectors) * self._modal
        first = parts * np.exp(self._modes.rates * (from_s - self.start_s))
        last = parts * np.exp(self._modes.rates * (to_s - self.start_s))
        # A mode without oscillation goes straight from one value to the other.
        straight = self._modes.rates.imag == 0
        swing = float(np.where(straight, 0.0, np.maximum(np.abs(first), np.abs(last))).sum())
        begins, ends = first.real * straight, last.real * straight
        steady = float(row[-1] + weights @ self._rest)
        for index, drive in enumerate(self.drives):
            direct = float(row[count + index])
            harmonics = self._harmonics(weights, index)[0]
            if len(harmonics) <= FEW and not drive.random:
                steady += direct * drive.mean
                swing += float(np.abs(harmonics + direct * drive.harmonics).sum())
            else:
                swing += float(np.abs(harmonics).sum()) + abs(direct) * drive.peak
        low = steady + float(np.minimum(begins, ends).sum())
        high = steady + float(np.maximum(begins, ends).sum())
        return low - swing, high + swing

    def fastest_hz(self, row: Floats) -> float:
        """Return the highest frequency of a drive that matters to a signal, 0 without one."""
        count = len(self._rest)
        fastest_hz = 0.0
        for index, drive in enumerate(self.drives):
            direct = float(row[count + index])
            harmonics = self._harmonics(row[:count], index)[0] + direct * drive.harmonics
            if drive.frequency_hz > fastest_hz and np.abs(harmonics).sum() > NOTICEABLE:
                fastest_hz = drive.frequency_hz
        return fastest_hz

    def integral(
        self, row: Floats, frequency_hz: float, cycles: float, from_s: float, to_s: float
    ) -> complex:
        """Return the integral of a signal times `exp(-2j * pi * phase)`.

        The phase is `cycles` at the start and grows by `frequency_hz`. The signal is made of
        states only.
        """
        weights = row[: len(self._rest)]
        down = -2j * np.pi * frequency_hz
        begin, end = from_s - self.start_s, to_s - self.start_s
        amplitudes = [
            np.array([float(row[-1] + weights @ self._rest)], dtype=np.complex128),
            (weights @ self._modes.vectors) * self._modal,
        ]
        rates = [np.array([down]), self._modes.rates + down]
        for index, drive in enumerate(self.drives):
            harmonics, orders = self._harmonics(weights, index)
            if len(harmonics):
                turned = harmonics * np.exp(2j * np.pi * orders * drive.cycles) / 2
                speed = 2j * np.pi * drive.frequency_hz * orders
                amplitudes += [turned, turned.conj()]
                rates += [speed + down, -speed + down]
        total = np.sum(np.concatenate(amplitudes) * _integrals(np.concatenate(rates), begin, end))
        return complex(total * np.exp(-2j * np.pi * cycles))

    def _harmonics(self, weights: Floats, index: int) -> tuple[Complexes, Floats]:
        response = self._responses[index]
        orders = self.drives[index].wave.orders
        if not response.shape[1]:
            return np.zeros(len(orders), dtype=np.complex128), orders
        return weights @ response, orders

    def _add_modes(self, total: Floats, weights: Floats, elapsed_s: Floats, width_s: float) -> None:
        parts = (weights @ self._modes.vectors) * self._modal
        for part, rate in zip(parts, self._modes.rates, strict=True):
            if abs(part) <= NEGLIGIBLE or not len(elapsed_s):
                continue
            weight = part * _average(rate, width_s)
            lasts_s = _FORGOTTEN / -rate.real if rate.real < 0 else np.inf
            upto = int(np.searchsorted(elapsed_s, lasts_s))
            total[:upto] += np.real(weight * np.exp(rate * elapsed_s[:upto]))


def _average(rate: complex, width_s: float) -> complex:
    """Return the average of `exp(rate * t)` over the `width_s` before now, relative to now."""
    turned = rate * width_s
    # What changes within one average is not averaged: it would reach back to before it began.
    return complex((1 - np.exp(-turned)) / turned) if NEGLIGIBLE < abs(turned) < 1 else 1.0


def _integrals(rates: Complexes, begin: float, end: float) -> Complexes:
    """Return the integrals of `exp(rate * t)`."""
    slow = np.abs(rates) * max(abs(begin), abs(end)) < NEGLIGIBLE
    divisor = np.where(slow, 1.0, rates)
    fast = (np.exp(rates * end) - np.exp(rates * begin)) / divisor
    return np.asarray(np.where(slow, end - begin, fast))
