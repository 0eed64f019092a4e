"""One channel of the arbitrary signal generator; pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from .waves import Drive, Floats, Wave
from .words import Memory, Words, signed

CLOCK_HZ: Final = 125e6
TABLE: Final = 1 << 14

_PHASE: Final = 1 << 30
_IMMEDIATELY: Final = 1
_RESET_BIT: Final = 6
_ZERO_BIT: Final = 7
_RANDOM_BIT: Final = 12

# Just before the end of the last cycle: where a finished burst stays.
_SHORT: Final = 1e-9


class Generator:
    """Steps through its table while it runs, and holds its last value after a burst.

    Args:
        memory: The registers of both channels.
        channel: 0 or 1.
    """

    def __init__(self, memory: Memory, channel: int) -> None:
        """Hold still, with an empty table."""
        self.channel: Final = channel
        self._memory = memory
        self._table: Floats = np.zeros(TABLE)
        self._wave: Wave | None = None
        self.running = False
        # The phase `_cycles` at `_at_s`, of which `_began` at the start of the burst.
        self._at_s = 0.0
        self._cycles = 0.0
        self._began = 0.0
        self._bursts_left = 0
        self._resumes_s = np.inf

    def __repr__(self) -> str:
        return f"<Generator asg{self.channel} {self.frequency_hz:.6g} Hz running={self.running}>"

    @property
    def frequency_hz(self) -> float:
        """Return how often a second the table is stepped through."""
        return (self._register(0x10) % _PHASE) * CLOCK_HZ / _PHASE

    @property
    def next_event_s(self) -> float:
        """Return when a burst ends or the next one begins; infinity if never."""
        per_burst = self._register(0x18)
        if not self.running or not per_burst or not self.frequency_hz:
            return self._resumes_s
        left = per_burst - (self._cycles - self._began)
        return self._at_s + max(left, 0.0) / self.frequency_hz

    def next_cycle_s(self, after_s: float) -> float:
        """Return when the next cycle of the table begins; infinity while it holds still."""
        if not self.running or not self.frequency_hz:
            return np.inf
        since = self.phase(after_s) - self._began
        return after_s + (math.floor(since) + 1 - since) / self.frequency_hz

    def drive(self, now_s: float) -> tuple[Drive | None, float]:
        """Return what it puts out from now on: a wave, and a constant beside it."""
        if self._control & (1 << _ZERO_BIT):
            return None, 0.0
        word = self._register(0x4)
        scale = (word & 0x3FFF) / 8192
        offset = signed(word >> 16, 14) / 8192
        cycles = self.phase(now_s)
        if not (self.running and self.frequency_hz and scale):
            return None, offset + scale * float(self._table[int(cycles * TABLE) % TABLE])
        if self._wave is None:
            self._wave = Wave.of_table(self._table)
        random = bool(self._control & (1 << _RANDOM_BIT))
        return Drive(self._wave, scale, self.frequency_hz, cycles, random), offset

    def settle(self, now_s: float) -> None:
        """Pass a due event, and take the phase of now as the one to go on from."""
        self._cycles = self.phase(now_s)
        self._at_s = now_s
        if now_s < self.next_event_s:
            return
        if self.running:
            self.running = False
            self._cycles = self._began + self._register(0x18) - _SHORT
            self._bursts_left -= 1
            if self._bursts_left > 0:
                self._resumes_s = now_s + self._register(0x20) * 1e-6
        else:
            self._start()

    def load(self, first: int, words: Words) -> None:
        """Take values of the table from number `first` on."""
        values = (words.astype(np.int64) & 0x3FFF).astype(np.int64)
        values[values >= 8192] -= 16384
        upto = min(first + len(values), TABLE)
        # A wave on its way keeps the table that it was made of.
        self._table = self._table.copy()
        self._table[first:upto] = values[: upto - first] / 8192
        self._wave = None

    def controlled(self) -> bool:
        """Obey the control register, which was just written; return whether it started."""
        if self._control & (1 << _RESET_BIT):
            self.running = False
            self._resumes_s = np.inf
            self._cycles = self._began = self._register(0xC) % _PHASE / _PHASE
            return False
        if self._control & 0x7 != _IMMEDIATELY or self.running:
            return False
        return self.trigger()

    def edge(self, *, rising: bool) -> bool:
        """Obey an edge at the trigger pin; return whether it started."""
        wanted = {2: True, 3: False}.get(self._control & 0x7)
        return wanted is rising and not self.running and self.trigger()

    def trigger(self) -> bool:
        """Start at the start phase, at the instant last settled; return that it did."""
        self._bursts_left = max(1, self._register(0x1C))
        self._start()
        return True

    def _start(self) -> None:
        self.running = True
        self._resumes_s = np.inf
        self._cycles = self._began = self._register(0xC) % _PHASE / _PHASE

    def phase(self, now_s: float) -> float:
        """Return how many cycles of the table have passed."""
        speed_hz = self.frequency_hz if self.running else 0.0
        return self._cycles + (now_s - self._at_s) * speed_hz

    @property
    def _control(self) -> int:
        return self._memory[0x0] >> (16 * self.channel)

    def _register(self, offset: int) -> int:
        return self._memory[0x20 * self.channel + offset]
