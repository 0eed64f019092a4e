"""Periodic signals, as values and as harmonics; pure."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

FAINT: Final = 2e-5
"""Harmonics weaker than this part of the strongest are left out."""

FEW: Final = 6
"""So many harmonics are added up one by one; more of them go through a table."""

_FINE: Final = 1 << 15


@frozen(eq=False)
class Wave:
    """One cycle of a signal.

    Attributes:
        mean: Its average.
        orders: The numbers of its harmonics, 1 for the fundamental.
        amplitudes: Theirs: the signal is the sum of `Re(a * exp(2j * pi * k * cycles))`.
        table: Its values over the cycle, each held until the next; None for a pure tone.
    """

    mean: float
    orders: Floats
    amplitudes: Complexes
    table: Floats | None = None

    @classmethod
    def of_table(cls, table: Floats) -> Self:
        """Return the signal that steps through `table` once a cycle."""
        orders = np.arange(1, len(table) // 2 + 1, dtype=np.float64)
        spectrum = np.fft.rfft(table) * (2.0 / len(table))
        held = np.sinc(orders / len(table)) * np.exp(-1j * np.pi * orders / len(table))
        amplitudes = spectrum[1:] * held
        strength = np.abs(amplitudes)
        kept = strength > FAINT * max(float(strength.max()), 1e-12)
        return cls(float(spectrum[0].real) / 2, orders[kept], amplitudes[kept], table)

    @classmethod
    def sine(cls) -> Self:
        """Return a sine of amplitude 1."""
        return cls(0.0, np.array([1.0]), np.array([-1j]))


SINE: Final = Wave.sine()


@frozen(eq=False)
class Drive:
    """A wave that runs from an instant on.

    Attributes:
        wave: The wave.
        scale: By how much it is multiplied.
        frequency_hz: Cycles a second, more than none.
        cycles: How many cycles have passed at that instant.
        random: Whether the values come in a random order, which makes white noise.
    """

    wave: Wave
    scale: float
    frequency_hz: float
    cycles: float
    random: bool = False

    def values(self, elapsed_s: Floats, random: np.random.Generator) -> Floats:
        """Return the values at times after the instant."""
        cycles = self.cycles + elapsed_s * self.frequency_hz
        table = self.wave.table
        if table is None:
            return self.scale * add_up(self.wave.amplitudes, self.wave.orders, cycles)
        if self.random:
            return self.scale * random.choice(table, len(elapsed_s))
        index = ((cycles % 1.0) * len(table)).astype(np.int64) % len(table)
        return self.scale * table[index]

    @property
    def mean(self) -> float:
        """Return the average of the signal."""
        return self.scale * self.wave.mean

    @property
    def peak(self) -> float:
        """Return the largest absolute value of the signal."""
        table = self.wave.table
        return abs(self.scale) * (1.0 if table is None else float(np.abs(table).max()))

    @property
    def harmonics(self) -> Complexes:
        """Return the amplitudes of the signal's harmonics; white noise has none."""
        return self.wave.amplitudes * (0.0 if self.random else self.scale)


def add_up(amplitudes: Complexes, orders: Floats, cycles: Floats) -> Floats:
    """Return the sum of harmonics at the given phases, in cycles."""
    if len(orders) <= FEW:
        total = np.zeros(len(cycles))
        for amplitude, order in zip(amplitudes, orders, strict=True):
            total += np.real(amplitude * np.exp(2j * np.pi * ((order * cycles) % 1.0)))
        return total
    spectrum = np.zeros(_FINE // 2 + 1, dtype=np.complex128)
    spectrum[orders.astype(np.int64)] = amplitudes * (_FINE / 2)
    table = np.fft.irfft(spectrum, _FINE)
    place = (cycles % 1.0) * _FINE
    index = place.astype(np.int64)
    part = place - index
    return np.asarray(table[index % _FINE] * (1 - part) + table[(index + 1) % _FINE] * part)
