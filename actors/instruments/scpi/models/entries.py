"""The entries of a simulated instrument's command table; pure.

A header is declared as manuals print it: `[SOURce:]VOLTage[:LEVel]` has a short form
in capitals, a long form, and optional nodes in brackets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

# SCPI-1999, volume 2, chapter 21.
ERROR_TEXTS: Final[Mapping[int, str]] = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -131: "Invalid suffix",
    -151: "Invalid string data",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}

_NODE: Final = re.compile(r"(\[)?:?([A-Z]+)([a-z]*)(\d*):?(\])?")
_NUMBER: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)\s*([A-Z/]*)", re.ASCII | re.IGNORECASE
)
_PREFIXES: Final[Mapping[str, float]] = {
    "": 1.0,
    "N": 1e-9,
    "U": 1e-6,
    "M": 1e-3,
    "K": 1e3,
    "MA": 1e6,
    "G": 1e9,
}


class RequestError(Exception):
    """A request that a simulated instrument answers with an entry in its error queue.

    Attributes:
        number: The SCPI error number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"{number}, {ERROR_TEXTS[number]}")
        self.number = number


def compile_header(header: str) -> re.Pattern[str]:
    """Return what matches every spelling of a header, each node led by a colon.

    A node may carry the channel number 1, as `OUTPut1` does on instruments with one
    channel; one that is declared with another number must carry that. Common commands such as
    `*IDN` are themselves.
    """
    if header.startswith("*"):
        return re.compile(re.escape(header))
    pattern = ""
    for opening, short, rest, number, _closing in _NODE.findall(header):
        channel = number if number not in ("", "1") else "1?"
        node = f":{short}(?:{rest.upper()})?{channel}" if rest else f":{short}{channel}"
        pattern += f"(?:{node})?" if opening else node
    return re.compile(pattern, re.IGNORECASE)


def format_value(value: float | bool | str) -> str:
    """Write a value as instruments answer it: nine digits for a real number."""
    match value:
        case bool() | int():
            return str(int(value))
        case float():
            return f"{value:+.8E}"
        case str():
            return value


class Entry:
    """One header of the table; what it does not define is an undefined header."""

    def __init__(self, header: str) -> None:
        self.header: Final = header
        self._pattern = compile_header(header)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.header}>"

    def matches(self, header: str) -> bool:
        """Tell whether a header, written from the root with a leading colon, is this one."""
        return self._pattern.fullmatch(header) is not None

    def write(self, arguments: Sequence[str]) -> None:
        """Carry out the command form.

        Raises:
            RequestError: The instrument refuses it; nothing has changed.
        """
        raise RequestError(-113)

    def answer(self, arguments: Sequence[str]) -> str:
        """Return the answer of the query form.

        Raises:
            RequestError: The instrument refuses it.
        """
        raise RequestError(-113)

    def restore(self) -> None:
        """Go back to the value after a reset."""


class Query(Entry):
    """A question without arguments."""

    def __init__(self, header: str, read: Callable[[], float | bool | str]) -> None:
        super().__init__(header)
        self._read = read

    def answer(self, arguments: Sequence[str]) -> str:
        """Return what `read` returns."""
        expect_at_most(arguments, 0)
        return format_value(self._read())


class About(Entry):
    """A question about something that it names."""

    def __init__(self, header: str, read: Callable[[str], float | bool | str]) -> None:
        super().__init__(header)
        self._read = read

    def answer(self, arguments: Sequence[str]) -> str:
        """Return what `read` returns for it."""
        return format_value(self._read(expect_one(arguments).upper()))


class Action(Entry):
    """A command without arguments."""

    def __init__(self, header: str, run: Callable[[], None]) -> None:
        super().__init__(header)
        self._run = run

    def write(self, arguments: Sequence[str]) -> None:
        """Run it."""
        expect_at_most(arguments, 0)
        self._run()


class Number(Entry):
    """A number that can be set and asked for; also with MIN, MAX or DEF.

    Attributes:
        value: What is set, from `low` to `high`; a whole number when `default` is an int.
    """

    def __init__(
        self,
        header: str,
        *,
        low: float,
        high: float,
        default: float,
        unit: str = "",
        accept: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(header)
        self._limits: Mapping[str, float] = {
            **dict.fromkeys(("MIN", "MINIMUM"), low),
            **dict.fromkeys(("MAX", "MAXIMUM"), high),
            **dict.fromkeys(("DEF", "DEFAULT"), default),
        }
        self._low = low
        self._high = high
        self._default = default
        self._unit = unit
        self._accept = accept
        self.value: float = default

    def parse(self, argument: str) -> float:
        """Return the number an argument stands for.

        Raises:
            RequestError: It is no number, has a foreign unit or is out of range.
        """
        limit = self._limits.get(argument.upper())
        number = parse_number(argument, self._unit) if limit is None else limit
        if isinstance(self._default, int):
            number = round(number)
        if not self._low <= number <= self._high:
            raise RequestError(-222)
        return number

    def write(self, arguments: Sequence[str]) -> None:
        """Set the value; one that is refused leaves it unchanged."""
        number = self.parse(expect_one(arguments))
        if self._accept is not None:
            self._accept(number)
        self.value = number

    def answer(self, arguments: Sequence[str]) -> str:
        """Return the value, or the limit asked for."""
        expect_at_most(arguments, 1)
        if not arguments:
            return format_value(self.value)
        limit = self._limits.get(arguments[0].upper())
        if limit is None:
            raise RequestError(-224)
        return format_value(limit)

    def restore(self) -> None:
        """Set the default."""
        self.value = self._default


class Switch(Entry):
    """Something that is on or off.

    Attributes:
        on: Whether it is on.
    """

    def __init__(
        self,
        header: str,
        *,
        default: bool = False,
        accept: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__(header)
        self._default = default
        self._accept = accept
        self.on = default

    def write(self, arguments: Sequence[str]) -> None:
        """Switch on or off; what is refused changes nothing."""
        argument = expect_one(arguments).upper()
        on = argument == "ON" or (argument != "OFF" and round(parse_number(argument)) != 0)
        if self._accept is not None:
            self._accept(on)
        self.on = on

    def answer(self, arguments: Sequence[str]) -> str:
        """Return 1 or 0."""
        expect_at_most(arguments, 0)
        return format_value(self.on)

    def restore(self) -> None:
        """Set the default."""
        self.on = self._default


class Choice(Entry):
    """One of several names, sent and answered in quotes, or as a word.

    Attributes:
        value: The name chosen, in the short form.
    """

    def __init__(self, header: str, options: Mapping[str, str], *, quoted: bool = True) -> None:
        """Declare the options: short form to the header notation of every spelling."""
        super().__init__(header)
        self._options = {name: compile_header(notation) for name, notation in options.items()}
        self._default = next(iter(options))
        self._quoted = quoted
        self.value = self._default

    def write(self, arguments: Sequence[str]) -> None:
        """Choose one; an unknown name changes nothing."""
        argument = expect_one(arguments)
        if self._quoted:
            if len(argument) < 2 or argument[0] not in "\"'" or argument[-1] != argument[0]:
                raise RequestError(-151)
            argument = argument[1:-1].strip()
        for name, pattern in self._options.items():
            if pattern.fullmatch(":" + argument):
                self.value = name
                return
        raise RequestError(-224)

    def answer(self, arguments: Sequence[str]) -> str:
        """Return the name, in quotes where it was sent so."""
        expect_at_most(arguments, 0)
        return f'"{self.value}"' if self._quoted else self.value

    def restore(self) -> None:
        """Choose the first option."""
        self.value = self._default


def expect_at_most(arguments: Sequence[str], most: int) -> None:
    """Refuse more arguments than a header takes.

    Raises:
        RequestError: There are more.
    """
    if len(arguments) > most:
        raise RequestError(-108)


def expect_one(arguments: Sequence[str]) -> str:
    """Return the only argument.

    Raises:
        RequestError: It is missing, or not alone.
    """
    if not arguments or not arguments[0]:
        raise RequestError(-109)
    expect_at_most(arguments, 1)
    return arguments[0]


def parse_number(argument: str, unit: str = "") -> float:
    """Return a number in `unit`, from an argument with or without a suffix.

    Raises:
        RequestError: It is no number, too large for one, or its suffix is another unit.
    """
    found = _NUMBER.fullmatch(argument)
    if found is None:
        raise RequestError(-104)
    number = float(found[1])
    if math.isinf(number):
        raise RequestError(-222)
    suffix = found[2].upper()
    if not suffix:
        return number
    prefix = suffix.removesuffix(unit.upper())
    if not unit or not suffix.endswith(unit.upper()) or prefix not in _PREFIXES:
        raise RequestError(-131)
    # SCPI-1999, volume 1, 7.1: M is milli, but MOHM and MHZ are mega.
    mega = prefix == "M" and unit.upper() in {"OHM", "HZ"}
    return number * (1e6 if mega else _PREFIXES[prefix])
