"""Alicat requests and replies as bytes; pure.

Requests begin with the unit's letter and end in a carriage return. Replies begin with the
letter too, save those to `DV`. The commands are those of the manufacturer's serial primer;
replies are as captured from an MC-500SCCM-D with firmware 10v20 and, for the older layout
table, from firmware 5v12.

Every decoder takes a reply without its terminator and raises `ValueError`, naming what was
expected and the bytes that came, when it is something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from typing import Final, Literal

from attrs import field, frozen

from transports import ForeignReplyError

UNITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The letters a unit can have; `@` is a unit that streams."""

MOST_STATISTICS: Final = 13
"""How many statistics one `DV` request takes."""

LONGEST_AVERAGE_MS: Final = 9_999


class Statistic(IntEnum):
    """What a device can be asked for, by the number that travels on the wire.

    The numbers are those of the primer's appendix on statistics.
    """

    PRESSURE = 2
    TEMPERATURE = 3
    VOLUMETRIC_FLOW = 4
    MASS_FLOW = 5
    GAUGE_PRESSURE = 6
    DIFFERENTIAL_PRESSURE = 7
    TOTAL_VOLUME = 8
    TOTAL_MASS = 9
    VALVE_DRIVE = 13
    BAROMETRIC_PRESSURE = 15
    SETPOINT = 32
    PRESSURE_SETPOINT = 34
    VOLUMETRIC_FLOW_SETPOINT = 36
    MASS_FLOW_SETPOINT = 37
    GAUGE_PRESSURE_SETPOINT = 38
    DIFFERENTIAL_PRESSURE_SETPOINT = 39

    @classmethod
    def named(cls, text: str) -> Statistic:
        """Return the statistic of that name, however it is capitalised or spaced.

        Raises:
            ValueError: There is none.
        """
        wanted = re.sub(r"[\s-]+", "_", text.strip()).upper()
        if wanted not in cls.__members__:
            known = ", ".join(each.name.lower() for each in cls)
            raise ValueError(f"no statistic is named {text!r}; there are: {known}")
        return cls[wanted]


SETPOINT_OF: Final[Mapping[int, Statistic]] = {
    Statistic.PRESSURE_SETPOINT: Statistic.PRESSURE,
    Statistic.VOLUMETRIC_FLOW_SETPOINT: Statistic.VOLUMETRIC_FLOW,
    Statistic.MASS_FLOW_SETPOINT: Statistic.MASS_FLOW,
    Statistic.GAUGE_PRESSURE_SETPOINT: Statistic.GAUGE_PRESSURE,
    Statistic.DIFFERENTIAL_PRESSURE_SETPOINT: Statistic.DIFFERENTIAL_PRESSURE,
}
"""Which statistic a setpoint controls."""

# The layout table of older firmware has no statistic numbers: labels say it.
_BY_LABEL: Final[Mapping[str, int]] = {
    "abs press": Statistic.PRESSURE,
    "flow temp": Statistic.TEMPERATURE,
    "volu flow": Statistic.VOLUMETRIC_FLOW,
    "mass flow": Statistic.MASS_FLOW,
    "gauge press": Statistic.GAUGE_PRESSURE,
    "diff press": Statistic.DIFFERENTIAL_PRESSURE,
    "total mass": Statistic.TOTAL_MASS,
    "mass flow setpt": Statistic.MASS_FLOW_SETPOINT,
    "volu flow setpt": Statistic.VOLUMETRIC_FLOW_SETPOINT,
    "abs press setpt": Statistic.PRESSURE_SETPOINT,
    "gauge press setpt": Statistic.GAUGE_PRESSURE_SETPOINT,
    "diff press setpt": Statistic.DIFFERENTIAL_PRESSURE_SETPOINT,
}

_NUMBER: Final = rb"[+-]?\d+(?:\.\d*)?|-+"
_WORD: Final = rb"[!-~]+"
_REJECTED: Final = rb"(?:%s *)?\?"

_NEW_ROW: Final = re.compile(
    r"D(\d\d)\s+(\d{3})\s+(\S.*?)\s+(s decimal|decimal|s integer|integer|string)\s+([\d/]+)\s*(.*)"
)
_OLD_ROW: Final = re.compile(
    r"D(\d\d)\s+(\S.*?)\s+(signed|unsigned|char|string)\s+(\S+)\s+(\S+)\s+(\S+)"
)
_HEADER_ROW: Final = re.compile(r"D00\s+(?:ID_|NAME)")


@frozen
class LayoutField:
    """One column of the data frame.

    Attributes:
        name: Its name here: that of its statistic, "setpoint" or "gas", else its label.
        label: Its name in the device.
        statistic: Its number on the wire, where there is one.
        decimal: Whether it is a number; else it is a word.
        unit: The physical unit, or None.
    """

    name: str
    label: str
    statistic: int | None
    decimal: bool
    unit: str | None

    @property
    def reader(self) -> Callable[[bytes], float | str | None]:
        """What returns the value of what stands in the column; None for dashes."""
        return _number if self.decimal else _word


@frozen
class DataFrame(Mapping[str, "float | str | None"]):
    """One poll: values by name, and the status the device flagged.

    A value is None where the device shows dashes.

    Attributes:
        unit: Who sent it.
        columns: The values, by the layout's names, in the order of the frame.
        status: The flags that are up, such as "HLD" or "MOV", in the order of the frame.
        units: The physical units by name, where there are any.
    """

    unit: str
    columns: Mapping[str, float | str | None]
    status: Sequence[str]
    units: Mapping[str, str | None] = field(repr=False)

    def __getitem__(self, name: str) -> float | str | None:
        """Return a value by name."""
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.columns)

    def __len__(self) -> int:
        """Return how many values there are."""
        return len(self.columns)


@frozen
class Layout:
    """What the data frame of a device holds, as the device's `??D*` table tells.

    Attributes:
        fields: The columns after the unit's letter that are always there.
        flags: The words that may follow them.
    """

    fields: Sequence[LayoutField]
    flags: frozenset[str]

    @cached_property
    def units(self) -> Mapping[str, str | None]:
        """The physical units by name, where there are any."""
        return {each.name: each.unit for each in self.fields}

    def find(self, name: str) -> LayoutField | None:
        """Return a column by name, or None."""
        return self._by_name.get(name)

    def pattern(self, unit: str) -> re.Pattern[bytes]:
        """Return what a data frame of that unit looks like, a group for each column."""
        columns = b"".join(
            rb" +(%s)" % (_NUMBER if each.decimal else _WORD) for each in self.fields
        )
        flags = b"|".join(re.escape(each.encode()) for each in sorted(self.flags)) or b"(?!)"
        return re.compile(rb"%s%s((?: +(?:%s))*) *" % (unit.encode(), columns, flags))

    def decode(self, pattern: re.Pattern[bytes], raw: bytes) -> DataFrame:
        """Read a data frame with the pattern that `pattern` made.

        Raises:
            ValueError: The frame does not have this layout.
        """
        return self.read(pattern.fullmatch(raw), raw)

    def read(self, found: re.Match[bytes] | None, raw: bytes) -> DataFrame:
        """Read a data frame that was matched with the pattern that `pattern` made.

        Raises:
            ValueError: The frame does not have this layout: nothing was found.
        """
        if found is None:
            raise _unexpected_frame(raw)
        *columns, flags = found.groups()
        values = {
            name: read(text) for (name, read), text in zip(self._readers, columns, strict=True)
        }
        status = flags.decode("ascii").split() if flags else ()
        return DataFrame(raw[:1].decode(), values, status, self.units)

    def read_one(self, found: re.Match[bytes] | None, raw: bytes, name: str) -> float | str | None:
        """Read one column of a data frame that was matched as for `read`.

        Raises:
            ValueError: The frame does not have this layout: nothing was found.
            KeyError: There is no such column.
        """
        if found is None:
            raise _unexpected_frame(raw)
        group, read = self._groups[name]
        return read(found[group])

    @cached_property
    def _by_name(self) -> Mapping[str, LayoutField]:
        return {each.name: each for each in reversed(self.fields)}

    @cached_property
    def _readers(self) -> Sequence[tuple[str, Callable[[bytes], float | str | None]]]:
        return tuple((each.name, each.reader) for each in self.fields)

    @cached_property
    def _groups(self) -> Mapping[str, tuple[int, Callable[[bytes], float | str | None]]]:
        return {name: (group, read) for group, (name, read) in enumerate(self._readers, 1)}


@frozen
class Gas:
    """A gas a device knows: its number and its short name."""

    number: int
    name: str


@frozen
class Quantity:
    """A value with the unit that the device gave.

    Attributes:
        value: The value; None for dashes.
        code: The number of the unit in the device.
        unit: The unit.
        decimals: How many decimals the device gives.
    """

    value: float | None
    code: int
    unit: str
    decimals: int


# Requests.


def poll(unit: str) -> bytes:
    """Ask for the data frame: the letter alone. Primer, "Polling"."""
    return f"{unit}\r".encode()


def command(unit: str, words: str) -> bytes:
    """Write a command for a unit: its letter, then the words."""
    return f"{unit}{words}\r".encode("ascii")


def statistics(unit: str, wanted: Sequence[Statistic], averaging_ms: int) -> bytes:
    """Ask `DV` for statistics averaged over a time. Primer, "Requesting live data".

    Raises:
        ValueError: None or too many are wanted, or the time is out of range.
    """
    if not 1 <= len(wanted) <= MOST_STATISTICS:
        raise ValueError(f"{len(wanted)} statistics; a request takes 1 to {MOST_STATISTICS}")
    if averaging_ms not in range(1, LONGEST_AVERAGE_MS + 1):
        raise ValueError(f"averaging_ms is {averaging_ms}; it takes 1 to {LONGEST_AVERAGE_MS}")
    return command(unit, f"DV {averaging_ms} " + " ".join(str(int(each)) for each in wanted))


def decimal(value: float) -> str:
    """Write a number as the device reads it: no exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


# What replies look like.

Accept = Callable[[bytes], bool]


def accepting(unit: str, pattern: bytes, *, rejection: bool = True) -> Accept:
    """Return the check that a reply has a shape, or says that the request was rejected."""
    shapes = [pattern, _REJECTED % unit.encode()] if rejection else [pattern]
    return accepting_pattern(re.compile(b"|".join(rb"(?:%s)" % each for each in shapes)))


def accepting_pattern(pattern: re.Pattern[bytes]) -> Accept:
    """Return the check that a reply has the shape of a pattern."""
    matches = pattern.fullmatch

    def accepts(frame: bytes) -> bool:
        if matches(frame) is not None:
            return True
        if frame.startswith(b"@"):
            # Primer, "Streaming mode": the letter of a unit that streams becomes `@`.
            raise ForeignReplyError(
                "a unit on this line streams, and answers nothing; stop it with `@@ <its letter>`",
                received=frame,
            )
        return False

    return accepts


def is_rejected(raw: bytes) -> bool:
    """Tell whether a reply says that the request was rejected."""
    return raw.endswith(b"?") and len(raw.rstrip(b"? ")) <= 1


def frame_or_rejection(layout: Layout, unit: str) -> Accept:
    """Return the check for a data frame of this layout, or a rejection."""
    return accepting(unit, layout.pattern(unit).pattern)


def firmware_shape(unit: str) -> bytes:
    """Return what a reply to `VE` looks like: `A   10v20.0-R24 Jan  9 2025,15:04:07`."""
    return rb"%s +(?:GP|\d+v\d+)[ -~]*" % unit.encode()


def table_shape(unit: str, letter: Literal["M", "D", "G"]) -> bytes:
    """Return what a row of a table looks like: `A D01 ...`."""
    return rb"%s +%s\d+ *[ -~]*" % (unit.encode(), letter.encode())


def quantity_shape(unit: str, values: int) -> bytes:
    """Return what one or more values with the number and name of their unit look like."""
    columns = rb" +(?:%s)" % _NUMBER
    return rb"%s%s +\d+ +%s" % (unit.encode(), columns * values, _WORD)


def numbers_shape(count: int) -> bytes:
    """Return what a reply to `DV` looks like: numbers, and nobody's letter."""
    return rb" *" + rb" +".join([rb"(?:%s)" % _NUMBER] * count) + rb" *"


# Decoders.


def decode_firmware(raw: bytes) -> str:
    """Read a reply to `VE`: the version, without its date."""
    words = _text(raw).split()
    if len(words) < 2:
        raise _unexpected("a firmware version", raw)
    return words[1]


def decode_maker_table(raw: bytes) -> Mapping[str, str]:
    """Read a `??M*` table: texts by row, such as "M04" for the model."""
    rows: dict[str, str] = {}
    for line in _text(raw).split("\n"):
        words = line.split(maxsplit=2)
        if len(words) >= 2 and re.fullmatch(r"M\d\d", words[1]):
            rows[words[1]] = words[2].strip() if len(words) == 3 else ""
    return rows


def last_word(text: str | None, raw: bytes) -> str:
    """Return the last word of a table's row, its value.

    Raises:
        ValueError: The row is missing or empty.
    """
    words = (text or "").split()
    if not words:
        raise _unexpected("a table with the model and the serial number", raw)
    return words[-1]


def decode_layout(raw: bytes) -> Layout:
    """Read a `??D*` table, of either kind.

    Raises:
        ValueError: A row is missing, or is not understood.
    """
    fields: list[LayoutField] = []
    flags: set[str] = set()
    for number, line in enumerate(_text(raw).split("\n")):
        row = line[1:].strip()
        if _HEADER_ROW.match(row):
            if number:
                raise _unexpected("one header in the layout table", line.encode())
            continue
        if (new := _NEW_ROW.fullmatch(row)) is not None:
            index, code, label, kind, _, notes = new.groups()
            words = notes.split()
            conditional = label.startswith("*")
            statistic: int | None = int(code)
        elif (old := _OLD_ROW.fullmatch(row)) is not None:
            index, label, kind, _, greatest, unit = old.groups()
            conditional = label in ("Status", "Error")
            words = [greatest] if conditional else [] if unit == "na" else [unit]
            statistic = _BY_LABEL.get(label.lower())
        else:
            raise _unexpected("a row of the layout table", line.encode())
        if int(index) != number:
            raise ValueError(f"row {number} of the layout table is missing: {raw!r}")
        if conditional:
            flags.update(words)
        elif label.lower() != "unit id":
            is_decimal = kind not in {"string", "char"}
            unit_name = words[-1] if is_decimal and words else None
            fields.append(_layout_field(label, statistic, unit_name, is_decimal=is_decimal))
    if not fields:
        raise _unexpected("a layout table", raw)
    return Layout(tuple(fields), frozenset(flags))


def decode_gases(raw: bytes) -> Mapping[str, Gas]:
    """Read a `??G*` table: gases by their short names."""
    gases: dict[str, Gas] = {}
    for line in _text(raw).split("\n"):
        found = re.fullmatch(r".\s+G(\d+)\s+(\S+)\s*", line)
        if found is None:
            raise _unexpected("a row of the gas table", line.encode())
        gases[found[2]] = Gas(int(found[1]), found[2])
    return gases


def decode_quantities(raw: bytes) -> Sequence[Quantity]:
    """Read values with their unit: replies to `LS` (two values) and `FPF` (one)."""
    words = _text(raw).split()
    if len(words) < 4 or not words[-2].isdigit():
        raise _unexpected("a value, the number of its unit, and the unit", raw)
    *values, code, unit = words[1:]
    return [
        Quantity(_number(each.encode()), int(code), unit, len(each.partition(".")[2]))
        for each in values
    ]


def decode_numbers(raw: bytes) -> Sequence[float | None]:
    """Read plain numbers; None for dashes. Replies to `DV`, and to `VD` past the letter."""
    return [_number(each) for each in raw.split()]


def decode_words(raw: bytes) -> Sequence[str]:
    """Read the words after the unit's letter."""
    words = _text(raw).split()
    if len(words) < 2:
        raise _unexpected("a reply of at least one word", raw)
    return words[1:]


def _layout_field(
    label: str, statistic: int | None, unit: str | None, *, is_decimal: bool
) -> LayoutField:
    if statistic in SETPOINT_OF or statistic == Statistic.SETPOINT:
        name = "setpoint"
    elif statistic is not None and statistic in Statistic.__members__.values():
        name = Statistic(statistic).name.lower()
    else:
        name = re.sub(r"\W+", "_", label.strip().lower()).strip("_")
    return LayoutField(name, label, statistic, is_decimal, "degC" if unit == "`C" else unit)


def _number(text: bytes) -> float | None:
    # Dashes alone are no number; a number has one sign at most.
    return None if text.endswith(b"-") else float(text)


def _word(text: bytes) -> str:
    return text.decode("ascii")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise _unexpected("ASCII text", raw) from error


def _unexpected_frame(raw: bytes) -> ValueError:
    return _unexpected("a data frame of the device's own layout", raw)


def _unexpected(expected: str, raw: bytes) -> ValueError:
    return ValueError(f"expected {expected}, got {raw!r}")
