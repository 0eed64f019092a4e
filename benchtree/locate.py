"""Where things are in a TOML file: from the path of a key or element to its line.

The standard library's reader gives values without lines. This one gives lines without
values, for text that the reader has accepted; so it need not find mistakes itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where something is: keys of tables, and indexes of arrays from 0."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
# Up to two quotes may stand before the three that end a multi-line string.
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


def locate(text: str) -> Mapping[KeyPath, int]:
    """Return the line, from 1, on which each key and array element of valid TOML begins.

    A table's line is that of its header or, where it has none, of its first key.
    """
    found = _Scanner(text)
    found.scan()
    return found.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of the innermost thing around it that is in the file."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return None


def show_path(path: KeyPath) -> str:
    """Return a path as it is written: `bus.furnace.breaker`, `children[2]`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            key = step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else f'"{step}"'
            shown += f".{key}" if shown else key
    return shown


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        # Counting from the last place asked for keeps a long file linear.
        self._line = 1
        self._counted_to = 0
        # How many elements each array of tables has so far.
        self._elements: dict[KeyPath, int] = {}

    def scan(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)

    def _header(self) -> KeyPath:
        line = self._current_line()
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        path: KeyPath = ()
        keys = self._keys()
        for position, key in enumerate(keys, start=1):
            path = _below(path, key)
            self.lines.setdefault(path, line)
            if many and position == len(keys):
                self._elements[path] = self._elements.get(path, 0) + 1
            if path in self._elements:
                # A header below an array of tables speaks of its last element.
                path = _below(path, self._elements[path] - 1)
                self.lines.setdefault(path, line)
        if not many:
            # A table that was mentioned before, by a deeper header, is where its own is.
            self.lines[path] = line
        self._at += 2 if many else 1
        return path

    def _assignment(self, table: KeyPath) -> None:
        line = self._current_line()
        path = table
        for key in self._keys():
            path = _below(path, key)
            self.lines.setdefault(path, line)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        """Read a dotted key, and the space around it."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            part = self._skip(_KEY_PART)
            keys.append(_unquoted(part))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_PLAIN)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while not self._closed("]"):
            element = _below(path, index)
            self.lines[element] = self._current_line()
            self._value(element)
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._closed("}"):
            self._assignment(path)

    def _closed(self, end: str) -> bool:
        """Skip to the next element, or over the end; return whether it was the end."""
        self._skip(_BLANK)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK)
        if self._text.startswith(end, self._at):
            self._at += 1
            return True
        return False

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"line {self._current_line()}: this is not valid TOML")
        self._at = match.end()
        return match[0]

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line


def _below(path: KeyPath, step: str | int) -> KeyPath:
    return (*path, step)


def _unquoted(part: str) -> str:
    if part[0] not in "\"'":
        return part
    (key,) = tomllib.loads(f"{part} = 0")
    return key
