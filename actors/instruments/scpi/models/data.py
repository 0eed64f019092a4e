"""Blocks of data, and how their numbers are written; pure."""

from __future__ import annotations

from collections.abc import Sequence

from .entries import Choice, Entry, RequestError, expect_one
from .signals import Array


def block(data: bytes) -> str:
    """Return a block of definite length as an answer: a character for each byte."""
    size = str(len(data))
    return f"#{len(size)}{size}{data.decode('latin-1')}"


class RealFormat(Entry):
    """`FORMat:DATA REAL,64` and `REAL,32`, with the order of bytes beside it.

    Attributes:
        border: The entry that says the order of bytes.
    """

    def __init__(self) -> None:
        super().__init__("FORMat[:DATA]")
        self._bits = 64
        self.border = Choice("FORMat:BORDer", {"NORM": "NORMal", "SWAP": "SWAPped"}, quoted=False)

    def write(self, arguments: Sequence[str]) -> None:
        """Choose how many bits a number has."""
        kind, bits = (*(each.upper() for each in arguments), "64", "64")[:2]
        if kind != "REAL" or bits not in ("32", "64"):
            raise RequestError(-224)
        self._bits = int(bits)

    def answer(self, arguments: Sequence[str]) -> str:
        """Return what is chosen."""
        del arguments
        return f"REAL,{self._bits}"

    def restore(self) -> None:
        """Choose 64 bits; the order of bytes restores itself."""
        self._bits = 64

    def block(self, values: Array) -> str:
        """Return numbers as a block."""
        order = ">" if self.border.value == "NORM" else "<"
        return block(values.astype(f"{order}f{self._bits // 8}").tobytes())


def named(argument: str, *names: str) -> str:
    """Return an argument that has to be one of some names.

    Raises:
        RequestError: It is none of them.
    """
    found = expect_one([argument]).upper()
    if found not in names:
        raise RequestError(-224)
    return found
