"""SCPI requests and replies as bytes; pure.

Every decoder takes a frame without its terminator and raises `ValueError`, naming
what was expected and the bytes that came, when the frame is something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from attrs import frozen

from actors.operation import Acknowledge, Progress

# SCPI-1999, volume 1, 7.2.1.4 and 7.2.1.5: infinity is 9.9E37, not-a-number 9.91E37.
UNAVAILABLE_FROM: Final = 9.9e37

# IEEE 488.2, 11.5.1: operation complete, and query, device, execution and command errors.
_EVENTS: Final = 1 | 4 | 8 | 16 | 32
# IEEE 488.2, 11.2.1.2: the summary of the event status register in the status byte.
_EVENT_SUMMARY: Final = 32

CLEAR: Final = "*CLS"
"""Empties the error queue, and forgets what the status tells of the past."""

PREPARE: Final[Mapping[Acknowledge, str]] = {
    Acknowledge.EVENT_STATUS: CLEAR,
    Acknowledge.STATUS_BYTE: f"{CLEAR};*ESE {_EVENTS}",
    Acknowledge.SERVICE_REQUEST: f"{CLEAR};*ESE {_EVENTS};*SRE {_EVENT_SUMMARY}",
}
"""What goes before a command, so that the status tells of it and of nothing before it."""

_HEADER: Final = re.compile(r"\*[A-Za-z]+|:?[A-Za-z]\w*(?::[A-Za-z]\w*)*", re.ASCII)
_ARGUMENT: Final = re.compile(r"""(?:[^;"']|"[^"]*"|'[^']*')+""")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(?:NAN|INF|NINF|INFINITY)", re.IGNORECASE)
_QUOTED: Final = re.compile(r""""(?:[^"]|"")*"|'(?:[^']|'')*'""")
_ERROR: Final = re.compile(r"([+-]?\d{1,6})\s*,\s*(.*)", re.ASCII)


class ErrorKind(Enum):
    """Whom an entry of the error queue blames."""

    NONE = "none"
    COMMAND = "command"
    EXECUTION = "execution"
    DEVICE = "device"
    QUERY = "query"
    EVENT = "event"


@frozen
class ScpiError:
    """One entry of an instrument's error queue.

    Attributes:
        number: Zero for an empty queue, negative as SCPI defines, positive as the maker does.
        text: What the instrument says about it.
    """

    number: int
    text: str

    @property
    def kind(self) -> ErrorKind:
        """The class of the number; a maker's own positive numbers are device errors."""
        if self.number == 0:
            return ErrorKind.NONE
        if self.number > -100:
            return ErrorKind.DEVICE
        match -self.number // 100:
            case 1:
                return ErrorKind.COMMAND
            case 2:
                return ErrorKind.EXECUTION
            case 3:
                return ErrorKind.DEVICE
            case 4:
                return ErrorKind.QUERY
            case _:
                return ErrorKind.EVENT


def encode_value(value: float | bool | str) -> str:
    """Write a value as a SCPI argument: 1 or 0, a decimal number, or the text itself.

    A float is written with the fewest digits that read back equal. Text that SCPI wants
    quoted comes with its quotes.

    Raises:
        ValueError: The number is not finite, or the text would end the request early.
    """
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable() and _ARGUMENT.fullmatch(value)):
            raise ValueError(f"expected one printable ASCII argument, got {value!r}")
        return value
    if isinstance(value, int):
        return str(int(value))
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    # A subclass of float, such as NumPy's, may print itself differently.
    return repr(float(value))


def query(*headers: str, argument: str = "") -> bytes:
    """Write the questions for `headers`, given without their question marks, in one line.

    What follows the question mark of the first one is its `argument`.

    Raises:
        ValueError: A header is not one SCPI can read, or the argument is not one argument.
    """
    first, *others = headers
    asked = f"{_checked(first)}?" + (f" {encode_value(argument)}" if argument else "")
    text = asked + "".join(f";{_from_root(each)}?" for each in others)
    return f"{text}\n".encode("ascii")


def set_command(
    header: str,
    value: float | bool | str | None,
    *,
    check_errors: bool,
    before: str = "",
    clear: bool = False,
) -> bytes:
    """Write a setting, or an action when `value` is None.

    With `check_errors` the same request asks for the oldest entry of the error queue,
    so that one exchange carries the write and its answer. With `clear` the queue is emptied
    first. Where something goes `before`, which empties it too, `*OPC` follows, so that the
    status tells when the write was carried out.

    Raises:
        ValueError: The header or the value cannot be written in SCPI.
    """
    argument = "" if value is None else f" {encode_value(value)}"
    if before:
        text = f"{before};{_from_root(header)}{argument};*OPC"
    elif clear:
        text = f"{CLEAR};{_from_root(header)}{argument}"
    else:
        text = _checked(header) + argument
    check = ";:SYST:ERR?" if check_errors else ""
    return f"{text}{check}\n".encode("ascii")


def decode_status(how: Acknowledge, frame: bytes) -> Progress:
    """Read a status, and how much is done where that was asked for too.

    The event status register tells by its own bit that an operation is complete, and by
    others that it failed; the status byte tells by its summary of that register.

    Raises:
        ValueError: The frame is not one whole number, or not followed by one number.
    """
    first, *rest = frame.split(b";")
    status = decode_int(first)
    mask = _EVENTS if how is Acknowledge.EVENT_STATUS else _EVENT_SUMMARY
    if len(rest) > 1:
        raise _unexpected("a status and a number", frame)
    fraction = decode_float(rest[0]) if rest else None
    return Progress(done=bool(status & mask), fraction=fraction, said=frame)


def fits(decode: Callable[[bytes], object], frame: bytes) -> bool:
    """Tell whether a frame can be decoded."""
    try:
        decode(frame)
    except ValueError:
        return False
    return True


def is_echo(request: bytes, frame: bytes) -> bool:
    """Tell whether a device sent back what it was sent."""
    return frame.strip() == request.strip()


def decode_float(frame: bytes) -> float | None:
    """Read a number; None when the instrument reports an overload or no number.

    Raises:
        ValueError: The frame is not exactly one number.
    """
    text = _decode(frame, "a number")
    if not _NUMBER.fullmatch(text):
        if _NOT_FINITE.fullmatch(text):
            return None
        raise _unexpected("a number", frame)
    number = float(text)
    return None if abs(number) >= UNAVAILABLE_FROM else number


def decode_int(frame: bytes) -> int:
    """Read a whole number, also one written with a point or an exponent.

    Raises:
        ValueError: The frame is not exactly one whole number below the overload mark.
    """
    text = _decode(frame, "a whole number")
    if re.fullmatch(r"[+-]?\d{1,38}", text, re.ASCII):
        return int(text)
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not (abs(number) < UNAVAILABLE_FROM and number.is_integer()):
        raise _unexpected("a whole number", frame)
    return int(number)


def decode_bool(frame: bytes) -> bool:
    """Read 1, 0, ON or OFF.

    Raises:
        ValueError: The frame is none of them.
    """
    match _decode(frame, "1, 0, ON or OFF").upper():
        case "1" | "+1" | "ON":
            return True
        case "0" | "+0" | "OFF":
            return False
        case _:
            raise _unexpected("1, 0, ON or OFF", frame)


def decode_text(frame: bytes) -> str:
    """Read text, without its quotes where it has them.

    Raises:
        ValueError: The frame is empty, not printable ASCII, or its quotes do not match.
    """
    text = _decode(frame, "text")
    if text[0] not in "\"'":
        return text
    if not _QUOTED.fullmatch(text):
        raise _unexpected("text", frame)
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


def decode_error(reply: bytes) -> ScpiError:
    """Read an answer of `SYST:ERR?`; number zero means that the queue is empty.

    Raises:
        ValueError: The reply is not a number, a comma and a text.
    """
    expected = "an error number and its text"
    found = _ERROR.fullmatch(_decode(reply, expected))
    # Some instruments leave out the quotes; a list of numbers is still no error.
    if found is None or _NUMBER.match(found[2]) or not found[2]:
        raise _unexpected(expected, reply)
    return ScpiError(int(found[1]), decode_text(found[2].encode("ascii")))


def is_error_reply(frame: bytes) -> bool:
    """Tell whether a frame can be an answer of `SYST:ERR?`."""
    try:
        decode_error(frame)
    except ValueError:
        return False
    return True


def decode_condition(frame: bytes) -> tuple[int | None, ScpiError | None]:
    """Read a condition register, and the oldest entry of the error queue if that was asked for.

    A device that does not know the register answers with the entry alone.

    Raises:
        ValueError: The frame is neither.
    """
    first, separator, rest = frame.partition(b";")
    if fits(decode_int, first):
        return decode_int(first), decode_error(rest) if separator else None
    return None, decode_error(frame)


def is_identity_reply(frame: bytes) -> bool:
    """Tell whether a frame can be an answer of `*IDN?`."""
    try:
        decode_identity(frame)
    except ValueError:
        return False
    return True


def decode_identity(frame: bytes) -> tuple[str, str, str, str]:
    """Read an answer of `*IDN?`: maker, model, serial number and firmware.

    Raises:
        ValueError: The frame has not four fields, or starts with a number, as four
            readings would, or with nothing.
    """
    expected = "maker, model, serial number and firmware"
    fields = [field.strip() for field in _decode(frame, expected).split(",")]
    if len(fields) != 4 or not fields[0] or not fields[1] or _NUMBER.fullmatch(fields[0]):
        raise _unexpected(expected, frame)
    maker, model, serial, firmware = fields
    return maker, model, serial, firmware


def _from_root(header: str) -> str:
    return _checked(header) if header[:1] in ("*", ":") else f":{_checked(header)}"


def _checked(header: str) -> str:
    if not _HEADER.fullmatch(header):
        raise ValueError(f"expected a SCPI header such as 'SOUR:VOLT', got {header!r}")
    return header


def _decode(frame: bytes, expected: str) -> str:
    try:
        text = frame.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise _unexpected(expected, frame) from error
    if not text or not text.isprintable():
        raise _unexpected(expected, frame)
    return text


def _unexpected(expected: str, frame: bytes) -> ValueError:
    return ValueError(f"expected {expected}, got {frame!r}")
