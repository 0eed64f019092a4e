"""A TOML file as values: read, or refused with the line that is wrong; and text for one."""

from __future__ import annotations

import codecs
import json
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeGuard

from .locate import KeyPath, line_of, locate, show_path
from .mistakes import ConfigError, Mistake

_INTEGERS: Final = range(-(2**63), 2**63)
_LONG_NUMBER: Final = re.compile(r"[0-9][0-9_]{4000,}")
_TOML_PLACE: Final = re.compile(r"(?P<text>.*) \(at (?:line (?P<line>\d+), column \d+|end of .*)\)")


def read_text(path: Path) -> str:
    """Return what a file says.

    Raises:
        ConfigError: It cannot be read, or is no text.
    """
    try:
        # Reading from a pipe may never begin, and from a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "a device, pipe or socket"
            raise ConfigError([Mistake(path, None, "", f"cannot be read: it is {kind}, no file")])
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Mistake(path, None, "", f"cannot be read: {reason}")]) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Mistake(path, line, "", wrong)]) from error


def parse_text(path: Path, text: str) -> Mapping[str, object]:
    """Return the values of TOML text; mistakes name `path`.

    Raises:
        ConfigError: It is no valid TOML.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.fullmatch(str(error))
        line = int(place["line"]) if place and place["line"] else max(1, len(text.splitlines()))
        reason = place["text"] if place else str(error)
        mistake = Mistake(path, line, "", f"this is not valid TOML: {reason}")
        raise ConfigError([mistake]) from error
    except RecursionError as error:
        raise ConfigError([Mistake(path, 1, "", "it is nested too deeply")]) from error
    except ValueError as error:
        # The only one that is no TOMLDecodeError: Python reads no number of so many digits.
        number = _LONG_NUMBER.search(text)
        where = text.count("\n", 0, number.start()) + 1 if number else None
        mistake = Mistake(path, where, "", "a whole number has too many digits")
        raise ConfigError([mistake]) from error
    too_long = list(_long_integers(values, ()))
    if too_long:
        lines = locate(text)
        what = "is a whole number of more than 64 bits"
        raise ConfigError(
            [Mistake(path, line_of(lines, where), show_path(where), what) for where in too_long]
        )
    return values


def _long_integers(value: object, path: KeyPath) -> Iterator[KeyPath]:
    """Yield where the numbers are that no TOML file may have, and that floats cannot hold."""
    if is_table(value):
        for key, each in value.items():
            yield from _long_integers(each, (*path, key))
    elif is_list(value):
        for index, each in enumerate(value):
            yield from _long_integers(each, (*path, index))
    elif isinstance(value, int) and value not in _INTEGERS:
        yield path


def quoted(text: str) -> str:
    """Return a TOML string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


def is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether a value is a table."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Return whether a value is a list."""
    return isinstance(value, list)
