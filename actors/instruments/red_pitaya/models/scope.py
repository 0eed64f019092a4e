"""The oscilloscope; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .generator import CLOCK_HZ, Generator
from .physics import Physics
from .settings import ASGS, MODULE
from .waves import Floats
from .words import Memory, Words, as_words, counts, signed

LENGTH: Final = 1 << 14

SEARCHED: Final = 4 * LENGTH
"""How many samples are searched for a trigger in one go: the last ones."""

_DATA: Final = (0x10000, 0x20000)

_SETTINGS: Final = (0x8, 0x10, 0x14, 0x20, 0x28, 0x90)

_ARM: Final = 1
_RESET: Final = 2
_KEEP: Final = 8

_IMMEDIATELY: Final = 1
_EDGES: Final = {2: (0, True), 3: (0, False), 4: (1, True), 5: (1, False)}
_PIN: Final = {6: True, 7: False}
_STARTS: Final = (8, 9)
_DSP: Final = 10


class Scope:
    """Writes samples round and round from arming until some time after the trigger.

    Sample number n is taken n sampling times after the samples began, and written behind
    the one before it.

    Args:
        physics: Where the signals come from.
        dsp: The registers of the signal processing modules, which hold the inputs.
        generators: Both signal generators, which can be triggers.
    """

    def __init__(self, physics: Physics, dsp: Memory, generators: Sequence[Generator]) -> None:
        """Write nothing yet."""
        self._physics = physics
        self._dsp = dsp
        self._generators = generators
        self._memory = Memory({0x14: 1})
        self._data: list[NDArray[np.int16]] = [np.zeros(LENGTH, dtype=np.int16) for _ in _DATA]
        self._writing = False
        self._armed = False
        self._source = 0
        # The place of sample 1, the instant before it, and the number of the last one.
        self._place = 0
        self._began_s = 0.0
        self._last = 0
        # Samples since arming, before the samples began anew.
        self._counted = 0
        self._armed_at = 0
        self._trigger_place = 0
        self._trigger_s = 0.0
        self._stops_at: int | None = None
        self._above: list[bool | None] = [None, None]

    def __repr__(self) -> str:
        return f"<Scope writing={self._writing} armed={self._armed} samples={self._last}>"

    @property
    def sampling_s(self) -> float:
        """Return the time from sample to sample."""
        return max(1, self._memory[0x14] & 0x1FFFF) / CLOCK_HZ

    def watch(self, from_s: float, to_s: float) -> None:
        """Take the samples of a stretch of time."""
        if not self._writing:
            return
        upto = self._number(to_s)
        waits = self._armed and self._source in _EDGES
        if self._armed and self._source in _STARTS:
            starts_s = self._generators[_STARTS.index(self._source)].next_cycle_s(from_s)
            if starts_s <= to_s:
                self._trigger(self._number(starts_s), starts_s)
        if self._stops_at is not None:
            upto = min(upto, self._stops_at)
        # What came before `from_s` and was not taken is lost.
        first = max(self._last, self._number(from_s)) + 1
        first = max(first, upto - (SEARCHED if waits else LENGTH) + 1)
        if upto >= first:
            self._take(first, upto, waits=waits)
        self._last = max(self._last, upto)
        if self._stops_at is not None and self._last >= self._stops_at:
            self._stop()

    def read(self, offset: int, count: int) -> Words:
        """Return `count` words from `offset` on."""
        if offset not in _SETTINGS:
            self._physics.catch_up()
        for data, start in zip(self._data, _DATA, strict=True):
            if start <= offset < start + 4 * LENGTH:
                index = (np.arange(count) + (offset - start) // 4) % LENGTH
                return (data[index].astype(np.int32) & 0x3FFF).astype(np.uint32)
        return as_words([self._word(offset + 4 * index) for index in range(count)])

    def write(self, offset: int, words: Words) -> None:
        """Take words from `offset` on."""
        self._physics.catch_up()
        for index, word in enumerate(words.tolist()):
            self._set(offset + 4 * index, word)

    def trigger(self, source: int) -> None:
        """Obey a trigger from elsewhere, now, if it is the chosen one."""
        if self._armed and self._source == source:
            self._trigger(self._last, self._physics.now_s)

    def started(self, channel: int) -> None:
        """Obey the start of a signal generator."""
        self.trigger(_STARTS[channel])

    def flagged(self) -> None:
        """Obey the trigger module."""
        self.trigger(_DSP)

    def pin(self, *, rising: bool) -> None:
        """Obey an edge at the trigger pin."""
        for source, wanted in _PIN.items():
            if wanted is rising:
                self.trigger(source)

    def _number(self, at_s: float) -> int:
        """Return the number of the last sample until an instant."""
        return int(np.floor((at_s - self._began_s) / self.sampling_s + 1e-9))

    def _begin(self) -> None:
        """Begin to count samples anew, where the last one was written."""
        self._place = self._next_place()
        self._counted += self._last
        self._began_s = self._physics.now_s
        self._last = 0

    def _next_place(self) -> int:
        return (self._place + self._last) % LENGTH

    def _word(self, offset: int) -> int:
        match offset:
            case 0x0:
                delayed = self._stops_at is not None
                return int(self._armed) | delayed << 2 | self._memory[0] & _KEEP
            case 0x4:
                return self._source
            case 0x18:
                return (self._next_place() - 1) % LENGTH
            case 0x1C:
                return self._trigger_place
            case 0x2C:
                return self._counted + self._last - self._armed_at
            case 0x154 | 0x158:
                at_s = np.array([self._physics.now_s])
                channel = (offset - 0x154) // 4
                return counts(float(self._physics.sample(self._input(channel), at_s)[0]))
            case 0x15C | 0x160:
                return round(self._physics.now_s * CLOCK_HZ) >> (32 if offset == 0x160 else 0)
            case 0x164 | 0x168:
                return round(self._trigger_s * CLOCK_HZ) >> (32 if offset == 0x168 else 0)
            case 0x16C:
                written = self._counted + self._last - self._armed_at
                return int(written > LENGTH - self._memory[0x10])
            case _:
                return self._memory[offset]

    def _set(self, offset: int, word: int) -> None:
        match offset:
            case 0x0:
                self._memory[0] = word & _KEEP
                if word & _RESET:
                    self._reset()
                if word & _ARM:
                    self._arm()
            case 0x4:
                self._source = word & 0xF
                if self._source == _IMMEDIATELY:
                    self.trigger(_IMMEDIATELY)
            case 0x14:
                self._begin()
                self._memory[offset] = word
            case _:
                self._memory[offset] = word

    def _reset(self) -> None:
        self._stop()
        self._armed = False
        self._place = self._last = self._counted = self._armed_at = 0
        self._trigger_place = 0

    def _arm(self) -> None:
        if not self._writing:
            self._writing = True
            self._begin()
        self._armed_at = self._counted + self._last
        self._armed = True
        self._stops_at = None
        self._above = [None, None]

    def _stop(self) -> None:
        if not self._memory[0] & _KEEP:
            self._writing = False
        self._stops_at = None
        self._source = 0

    def _trigger(self, number: int, at_s: float) -> None:
        self._armed = False
        self._trigger_place = (self._place + number - 1) % LENGTH
        self._trigger_s = at_s
        self._stops_at = number + self._memory[0x10]

    def _input(self, channel: int) -> int:
        return self._dsp[ASGS[channel] * MODULE] & 0xF

    def _take(self, first: int, upto: int, *, waits: bool) -> None:
        """Write samples, up to the end that a trigger among them sets."""
        step_s = self.sampling_s
        averaged = self._memory[0x28] & 1 and step_s * CLOCK_HZ > 1
        at_s = self._began_s + step_s * np.arange(first, upto + 1, dtype=np.float64)
        taken: list[Floats] = []
        for channel in range(len(_DATA)):
            source = self._input(channel)
            taken.append(self._physics.sample(source, at_s, step_s if averaged else 0.0))
        if waits:
            channel, rising = _EDGES[self._source]
            found = self._edge(channel, taken[channel], rising=rising)
            if found is not None:
                self._trigger(first + found, float(at_s[found]))
                upto = min(upto, first + found + self._memory[0x10])
        keep = slice(max(0, upto - first + 1 - LENGTH), upto - first + 1)
        place = (self._place + np.arange(first, first + len(at_s))[keep] - 1) % LENGTH
        for data, volts in zip(self._data, taken, strict=True):
            data[place] = np.rint(volts[keep] * 8192).astype(np.int16)

    def _edge(self, channel: int, volts: Floats, *, rising: bool) -> int | None:
        """Return the index of the first edge. A signal turns low a hysteresis below high."""
        threshold_v = signed(self._memory[0x8], 14) / 8192
        hysteresis_v = abs(signed(self._memory[0x20], 14)) / 8192
        sign = 1.0 if rising else -1.0
        over = sign * (volts - threshold_v)
        found, self._above[channel] = first_edge(over, hysteresis_v, self._above[channel])
        return found


def first_edge(over: Floats, hysteresis: float, above: bool | None) -> tuple[int | None, bool]:
    """Return the index of the first rise through zero, and whether it is above at the end.

    Args:
        over: The signal, seen from the threshold.
        hysteresis: How far below zero it must have been.
        above: Whether it was above before; None counts it as above until it has been below.
    """
    clear = np.where(over >= 0, 1, np.where(over < -hysteresis, -1, 0))
    known = np.flatnonzero(clear)
    start = -1 if above is False else 1
    states = np.concatenate([[start], clear[known]])
    rises = np.flatnonzero((states[1:] == 1) & (states[:-1] == -1))
    end = bool(states[-1] == 1)
    return (int(known[rises[0]]) if len(rises) else None), end
