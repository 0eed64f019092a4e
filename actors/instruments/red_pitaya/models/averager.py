"""The sums of the network analyser, one set in each IQ module; pure."""

from __future__ import annotations

import cmath
from typing import Final

from .generator import CLOCK_HZ
from .physics import Physics
from .settings import MODULE, read_iq
from .words import Memory

SUMS: Final = (0x140, 0x144, 0x148, 0x14C)
"""Real part and imaginary part, 31 bits a word, low word first."""

_BUSY: Final = 1 << 31
_HALF: Final = (1 << 31) - 1

# So much a clock cycle for an amplitude of 1 V.
_UNIT: Final = 1 << 22


class Averager:
    """Adds up what an IQ module demodulates, for a while after its frequency is written.

    Args:
        physics: Where the signals come from.
        dsp: The registers of the signal processing modules.
        number: Of the IQ module.
    """

    def __init__(self, physics: Physics, dsp: Memory, number: int) -> None:
        """Be done, with nothing added."""
        self._physics = physics
        self._dsp = dsp
        self._number = number
        self._from_s = self._to_s = 0.0
        self._total = 0j

    def __repr__(self) -> str:
        return f"<Averager of module {self._number} until {self._to_s:.6f} s>"

    def start(self) -> None:
        """Start over."""
        base = self._number * MODULE
        self._from_s = self._physics.now_s + self._dsp[base + 0x134] / CLOCK_HZ
        self._to_s = self._from_s + self._dsp[base + 0x130] / CLOCK_HZ
        self._total = 0j

    def watch(self, from_s: float, to_s: float) -> None:
        """Add what a stretch of time gives."""
        begin, end = max(from_s, self._from_s), min(to_s, self._to_s)
        if begin < end:
            self._total += self._physics.demodulated(self._number, begin, end)

    def word(self, offset: int) -> int:
        """Return one word of the sums."""
        if self._physics.now_s < self._to_s:
            return _BUSY
        iq = read_iq(self._dsp, self._number)
        turned = self._total * cmath.exp(-2j * cmath.pi * iq.frequency_hz * iq.delay_s)
        part = turned.real if offset < SUMS[2] else turned.imag
        total = round(part * CLOCK_HZ * _UNIT)
        return (total >> (31 if offset in SUMS[1::2] else 0)) & _HALF
