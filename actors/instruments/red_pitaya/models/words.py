"""Registers of a simulated board: words by offset, and the numbers inside them; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
"""Register words as they travel."""

WORD: Final = 0xFFFF_FFFF


def signed(word: int, bits: int) -> int:
    """Return the low `bits` of a word as a two's complement number."""
    value = word & ((1 << bits) - 1)
    return value - (1 << bits) if value >> (bits - 1) else value


def counts(volts: float) -> int:
    """Return what a 14 bit converter makes of a voltage: saturated, as a 14 bit word."""
    return max(-8192, min(8191, round(volts * 8192))) & 0x3FFF


class Memory:
    """Words that read back as they were written; everything else reads zero."""

    def __init__(self, initial: Mapping[int, int] | None = None) -> None:
        """Hold `initial`, words by offset."""
        self._words = dict(initial or {})

    def __repr__(self) -> str:
        return f"<Memory {len(self._words)} words>"

    def __getitem__(self, offset: int) -> int:
        return self._words.get(offset, 0)

    def __setitem__(self, offset: int, word: int) -> None:
        self._words[offset] = word & WORD

    def read(self, offset: int, count: int) -> Words:
        """Return `count` words from `offset` on."""
        return as_words([self[offset + 4 * index] for index in range(count)])

    def write(self, offset: int, words: Words) -> None:
        """Take words from `offset` on."""
        for index, word in enumerate(words.tolist()):
            self[offset + 4 * index] = word


def as_words(values: Sequence[int]) -> Words:
    """Return integers as words, the low 32 bits of each."""
    return np.array([value & WORD for value in values], dtype=np.uint32)
