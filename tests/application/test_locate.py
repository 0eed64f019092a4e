"""Lines of keys in TOML files, nasty ones included."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchtree.locate import KeyPath, line_of, locate, show_path

PLAIN = "[]{}=#'., "

NASTY = '''\
# [not.a.table]
[ bus . "front door" ]          # spaces and quotes
"address" = "tcp://host:1" # = not a key
'back\\slash' = 'C:\\'
text = """
[also.not]
key = "quoted \\""" and = more
"""
raw = \'\'\'
[nor.this]
'\'\'\'
breaker = { failures = 3, deep = { open_s = 2.0 }, list = [ 1, { x = 1 } ] }
children = [
  "a",   # "b", ]
  "c]",

  [ "d",
    "e" ],
]
when = 1979-05-27 07:32:00
dotted.key."with.dot" = 1
"\\u00e5" = 5
[[many]]
x = 1
[[many]]
x = 2
[many.below]
y = 3
[[many.inner]]
z = [[], [1]]
[a.b.c]
[a]
d = 1
'''

LINES: Mapping[KeyPath, int] = {
    ("bus",): 2,
    ("bus", "front door"): 2,
    ("bus", "front door", "address"): 3,
    ("bus", "front door", "back\\slash"): 4,
    ("bus", "front door", "text"): 5,
    ("bus", "front door", "raw"): 9,
    ("bus", "front door", "breaker"): 12,
    ("bus", "front door", "breaker", "deep", "open_s"): 12,
    ("bus", "front door", "breaker", "list", 1, "x"): 12,
    ("bus", "front door", "children"): 13,
    ("bus", "front door", "children", 0): 14,
    ("bus", "front door", "children", 1): 15,
    ("bus", "front door", "children", 2): 17,
    ("bus", "front door", "children", 2, 1): 18,
    ("bus", "front door", "when"): 20,
    ("bus", "front door", "dotted", "key", "with.dot"): 21,
    ("bus", "front door", "å"): 22,
    ("many", 0, "x"): 24,
    ("many", 1, "x"): 26,
    ("many", 1, "below", "y"): 28,
    ("many", 1, "inner", 0, "z", 1, 0): 30,
    ("a", "b", "c"): 31,
    ("a",): 32,
    ("a", "d"): 33,
}


def paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of everything in a file's values."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in cast("dict[str, object]", value).items():
            yield from paths(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(cast("list[object]", value)):
            yield from paths(each, (*path, index))


@pytest.mark.parametrize(("path", "line"), LINES.items(), ids=str)
def test_nasty_file(path: KeyPath, line: int) -> None:
    """Quotes, dots, comments, multi-line values and arrays of tables do not mislead."""
    assert locate(NASTY)[path] == line


def test_everything_in_the_nasty_file_has_a_line() -> None:
    """What the standard library's reader finds has a line, and nothing else has one."""
    assert set(locate(NASTY)) == set(paths(tomllib.loads(NASTY)))


def test_windows_line_ends() -> None:
    """A file with carriage returns has the same lines."""
    assert locate(NASTY.replace("\n", "\r\n")) == locate(NASTY)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "a = 1", '[a]\n"" = ""'])
def test_small_files(text: str) -> None:
    """Files without much in them are read to their end."""
    assert set(locate(text)) == set(paths(tomllib.loads(text)))


@pytest.mark.parametrize(
    "string", ['""', "''", '"""a"""', "'''a'''", '"""a"""""', "'''a'''''", '"""\\""""', '"\\\\"']
)
def test_strings_end_where_they_end(string: str) -> None:
    """Quotes inside and at the end of a string hide no key after it."""
    assert locate(f"a = {string}\nb = 1")["b",] == 2


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.dictionaries(st.text(max_size=8), st.text() | st.integers(), max_size=3),
        max_size=4,
    )
)
def test_any_text_in_keys_and_values(tables: dict[str, dict[str, str | int]]) -> None:
    """Whatever keys and strings hold, each key is found where it was written."""
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}
    for name, table in tables.items():
        lines.append(f"[{quoted(name)}]")
        expected[name,] = len(lines)
        for key, value in table.items():
            shown = quoted(value) if isinstance(value, str) else f"{value}"
            lines.append(f"{quoted(key)} = {shown}")
            expected[name, key] = len(lines)
    text = "\n".join(lines)
    tomllib.loads(text)
    assert locate(text) == expected


def quoted(text: str) -> str:
    """Return a basic string of TOML, every unusual character escaped."""
    escaped = "".join(
        each if (each.isascii() and each.isalnum()) or each in PLAIN else f"\\U{ord(each):08x}"
        for each in text
    )
    return f'"{escaped}"'


def test_the_nearest_line_is_given() -> None:
    """What is not in the file has the line of what is around it."""
    lines = locate("[bus.a]\n\naddress = 1\n")
    assert line_of(lines, ("bus", "a", "profile", "name")) == 1
    assert line_of(lines, ("bus", "a", "address", 3)) == 3
    assert line_of(lines, ("nothing",)) is None


def test_paths_are_shown_as_they_are_written() -> None:
    """Keys that need quotes have them, and indexes have brackets."""
    assert show_path(("bus", "front door", "children", 2)) == 'bus."front door".children[2]'
