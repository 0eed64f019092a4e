"""What is wrong with a configuration file, each thing with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from attrs import frozen


@frozen
class Mistake:
    """One thing that is wrong.

    Attributes:
        file: The file, as it was named.
        line: The line, from 1; None where the file could not be read.
        path: What it is about, such as `bus.furnace.breaker`; "" for the whole file.
        text: What is wrong, and what would be right.
    """

    file: Path
    line: int | None
    path: str
    text: str

    def __str__(self) -> str:
        """Return `file:line: path: text`, without what is not known."""
        where = f"{self.file}:{self.line}" if self.line is not None else f"{self.file}"
        return ": ".join(part for part in (where, self.path, self.text) if part)


class ConfigError(Exception):
    """A configuration file has mistakes; its text has one line for each.

    Attributes:
        mistakes: All of them, in the order of the file.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """Store the mistakes."""
        super().__init__("\n".join(str(each) for each in mistakes))
        self.mistakes = tuple(mistakes)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a half sentence that says which of the known names could be meant."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none"
