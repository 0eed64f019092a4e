"""The address space of a board; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from .averager import SUMS, Averager
from .circuit import Plant
from .generator import TABLE, Generator
from .physics import Physics
from .scope import Scope
from .settings import ASGS, IQS, MODULE, PIDS, SYNC, TRIG
from .trigger import Trigger
from .words import Memory, Words, as_words, counts, signed

_WINDOW: Final = 1 << 20

_PIN: Final = 1
_FILTERS: Final = {0x224: 5, 0x228: 10}
_PID: Final = {
    0x100: 0,
    0x124: 0x2000,
    0x128: 0x1FFF,
    0x200: 12,
    0x204: 32,
    0x208: 10,
    0x20C: 24,
    0x220: 4,
    **_FILTERS,
}
_IQ: Final = {
    0x100: 1,
    0x200: 11,
    0x204: 17,
    0x208: 32,
    0x20C: 18,
    0x210: 14,
    0x214: 24,
    0x218: 8,
    0x220: 1,
    0x230: 2,
    0x234: 5,
    0x238: 10,
    **_FILTERS,
}
_IIR: Final = {0x200: 32, 0x204: 29, 0x208: 14, 0x220: 1, **_FILTERS}
_INITIAL: Final = {
    **dict.fromkeys(PIDS, _PID),
    TRIG: {0x220: 1, **_FILTERS},
    4: _IIR,
    **dict.fromkeys(IQS, _IQ),
}


class Block(Protocol):
    """A part of the address space."""

    def read(self, offset: int, count: int) -> Words:
        """Return `count` words from `offset` on."""
        ...

    def write(self, offset: int, words: Words) -> None:
        """Take words from `offset` on."""
        ...


class Gateware:
    """All modules behind their addresses."""

    def __init__(self, plants: Sequence[Plant], seed: int) -> None:
        """Start with everything off."""
        asg, dsp = Memory(), Memory(_initial())
        generators = [Generator(asg, channel) for channel in range(len(ASGS))]
        self._physics = Physics(dsp, generators, plants, seed)
        scope = Scope(self._physics, dsp, generators)
        averagers = {number: Averager(self._physics, dsp, number) for number in IQS}
        trigger = Trigger(self._physics, dsp, generators[0], scope.flagged)
        self._physics.watchers += [trigger, scope, *averagers.values()]
        self._blocks: dict[int, Block] = {
            0x400: _Housekeeping(self._physics, scope, generators),
            0x401: scope,
            0x402: _Generators(self._physics, asg, scope, generators),
            0x403: _Processing(self._physics, dsp, averagers, trigger),
            0x404: _Analog(self._physics),
        }

    def __repr__(self) -> str:
        return f"<Gateware {self._physics!r}>"

    def advance(self, now_s: float) -> None:
        """Let it be `now_s` after power on; signals are looked at when somebody asks."""
        self._physics.clock_s = now_s

    def connect(self, plants: Sequence[Plant]) -> None:
        """Connect something else to the inputs."""
        self._physics.change()
        self._physics.plants = list(plants)

    def read(self, address: int, count: int) -> Words:
        """Return `count` words; where nothing is they are zero."""
        block = self._blocks.get(address // _WINDOW)
        if block is None:
            return np.zeros(count, dtype=np.uint32)
        return block.read(address % _WINDOW, count)

    def write(self, address: int, words: Words) -> None:
        """Take words."""
        block = self._blocks.get(address // _WINDOW)
        if block is not None:
            block.write(address % _WINDOW, words)


class _Housekeeping(Memory):
    """Identity, LEDs and the pins of the extension connector, which read what is put out."""

    def __init__(self, physics: Physics, scope: Scope, generators: Sequence[Generator]) -> None:
        super().__init__({0x0: 1, 0x4: 0x5EED, 0x8: 0x1})
        self._physics = physics
        self._scope = scope
        self._generators = generators

    def write(self, offset: int, words: Words) -> None:
        """Take words; an edge at the first pin is a trigger."""
        before = self._pins(0)
        super().write(offset, words)
        for inputs, bank in ((0x20, 0), (0x24, 4)):
            self[inputs] = self._pins(bank)
        after = self._pins(0)
        if (before ^ after) & _PIN:
            rising = bool(after & _PIN)
            self._physics.change()
            for generator in self._generators:
                if generator.edge(rising=rising):
                    self._scope.started(generator.channel)
            self._scope.pin(rising=rising)

    def _pins(self, bank: int) -> int:
        return self[0x18 + bank] & self[0x10 + bank]


class _Generators:
    """The registers and tables of both signal generators."""

    def __init__(
        self, physics: Physics, memory: Memory, scope: Scope, generators: Sequence[Generator]
    ) -> None:
        self._physics = physics
        self._memory = memory
        self._scope = scope
        self._generators = generators

    def read(self, offset: int, count: int) -> Words:
        """Return registers; tables cannot be read."""
        return self._memory.read(offset, count)

    def write(self, offset: int, words: Words) -> None:
        """Take registers or values of a table."""
        self._physics.change()
        channel, place = divmod(offset - MODULE, 4 * TABLE)
        if channel >= 0:
            if channel < len(self._generators):
                self._generators[channel].load(place // 4, words)
            return
        self._memory.write(offset, words)
        if offset == 0:
            for generator in self._generators:
                if generator.controlled():
                    self._scope.started(generator.channel)


class _Processing:
    """The registers of the signal processing modules."""

    def __init__(
        self, physics: Physics, memory: Memory, averagers: dict[int, Averager], trigger: Trigger
    ) -> None:
        self._physics = physics
        self._memory = memory
        self._averagers = averagers
        self._trigger = trigger

    def read(self, offset: int, count: int) -> Words:
        """Return registers, and what the signals are now."""
        return as_words([self._word(offset + 4 * index) for index in range(count)])

    def write(self, offset: int, words: Words) -> None:
        """Take registers."""
        self._physics.change()
        for index, word in enumerate(words.tolist()):
            self._set(offset + 4 * index, word)

    def _word(self, offset: int) -> int:
        number, place = divmod(offset, MODULE)
        if place == SYNC:
            return self._memory[SYNC]
        if place == 0x10:
            self._physics.catch_up()
            at_s = np.array([self._physics.now_s])
            return counts(float(self._physics.sample(number, at_s)[0]))
        if number in PIDS and place == 0x100:
            self._physics.catch_up()
            return min(round(self._physics.integral(number) * 8192), 0x7FFF) & 0xFFFF
        if number in self._averagers and place in SUMS:
            self._physics.catch_up()
            return self._averagers[number].word(place)
        if number == TRIG:
            self._physics.catch_up()
            return self._trigger.word(place)
        return self._memory[offset]

    def _set(self, offset: int, word: int) -> None:
        number, place = divmod(offset, MODULE)
        if place == SYNC:
            self._memory[SYNC] = word & 0xFFFF
            return
        self._memory[offset] = word
        if number in PIDS and place == 0x100:
            self._physics.set_integral(number, signed(word, 16) / 8192)
        elif number in self._averagers and place == 0x108:
            self._averagers[number].start()
        elif number == TRIG and place == 0x100:
            self._trigger.arm(armed=bool(word & 1))


class _Analog(Memory):
    """Slow outputs, supply voltages and the temperature of the chip."""

    def __init__(self, physics: Physics) -> None:
        super().__init__({0x34: 0x57F, 0x38: 0x99C, 0x3C: 0x57F, 0x40: 0x57F, 0x44: 0x99C})
        self._physics = physics

    def read(self, offset: int, count: int) -> Words:
        """Return registers; the chip warms up from 30 to 55 degrees within minutes."""
        celsius = 55.0 - 25.0 * float(np.exp(-self._physics.clock_s / 120.0))
        self[0x30] = round((celsius + 273.15) / 503.975 * 4096)
        return super().read(offset, count)


def _initial() -> dict[int, int]:
    initial = {
        number * MODULE + offset: value
        for number, values in _INITIAL.items()
        for offset, value in values.items()
    }
    initial[SYNC] = 0xFFFF
    return initial
