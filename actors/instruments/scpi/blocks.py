"""Blocks of data as IEEE 488.2 sends them, and what answers came with one; pure.

A request for many values asks for a block first and for what explains it after that, so that
both belong to the same measurement: `TRAC?;:FREQ:STAR?;:FREQ:STOP?`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from .frames import UNAVAILABLE_FROM, is_error_reply

Array = npt.NDArray[np.float64]

REAL: Final = "FORM REAL,64;:FORM:BORD NORM"
"""Has blocks carry numbers of 64 bits, the most significant byte first."""

# A device that keeps numbers of 32 bits sends the mark rounded.
_UNAVAILABLE_FROM: Final = UNAVAILABLE_FROM * (1.0 - 1e-6)

# An entry of the error queue at the end of a line, whose text may hold semicolons.
_LAST_ERROR: Final = re.compile(rb"""(?:\A|;)([+-]?\d{1,6}\s*,\s*(?:"[^"]*"|'[^']*'))\s*\Z""")


def brief(values: npt.NDArray[np.generic]) -> str:
    """Return what is shown of many values where they are printed: how many, first and last."""
    if not values.size:
        return "<none>"
    return f"<{values.size}: {values[0]:g} to {values[-1]:g}>"


def highest(values: Array) -> int:
    """Return where the highest of the values is, those aside that are NaN."""
    return int(np.argmax(np.where(np.isnan(values), -np.inf, values)))


@frozen
class Block:
    """A block of definite length, and the answers that followed it in the same line.

    Attributes:
        data: What it carries.
        answers: The answers, in the order they were asked for.
    """

    data: memoryview
    answers: Sequence[bytes]

    def numbers(self, kind: str) -> npt.NDArray[np.generic]:
        """Return the data as an array of a type of NumPy's, such as ">f8" or ">u2".

        Raises:
            ValueError: It ends within a number.
        """
        size = np.dtype(kind).itemsize
        if len(self.data) % size:
            raise ValueError(
                f"expected numbers of {size} bytes, got a block of {len(self.data)} bytes"
            )
        return np.frombuffer(self.data, dtype=kind)

    def reals(self) -> Array:
        """Return the data as numbers of 64 bits, as `REAL` has them sent; a copy.

        What was out of range or was not measured is NaN.

        Raises:
            ValueError: It ends within a number.
        """
        values = self.numbers(">f8").astype(np.float64)
        values[np.abs(values) >= _UNAVAILABLE_FROM] = np.nan
        return values


def decode_block(frame: bytes, answers: int) -> Block:
    """Read a block of definite length that is followed by so many answers.

    Raises:
        ValueError: The frame is none, its length is wrong, or answers are missing.
    """
    digits = frame[1:2]
    begin = 2 + int(digits) if digits.isdigit() else 0
    size = frame[2:begin]
    if frame[:1] != b"#" or not size.isdigit() or len(size) != begin - 2:
        raise ValueError(f"expected a block of definite length, got {frame[:40]!r}")
    end = begin + int(size)
    if len(frame) < end:
        raise ValueError(f"expected a block of {int(size)} bytes, got {len(frame) - begin}")
    # The last answer may hold semicolons, as texts of errors do.
    _, *found = frame[end:].split(b";", answers) if answers else [frame[end:]]
    if len(found) != answers or not frame[end : end + 1] == (b";" if answers else b""):
        raise ValueError(f"expected {answers} answers behind a block, got {frame[end:][:80]!r}")
    return Block(memoryview(frame)[begin:end], found)


def last_error(frame: bytes) -> bytes | None:
    """Return the error that stands where a block was expected, or None."""
    if frame[:1] == b"#":
        return None
    found = _LAST_ERROR.search(frame)
    return found[1] if found is not None and is_error_reply(found[1]) else None
