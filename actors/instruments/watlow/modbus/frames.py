"""Modbus RTU frames as bytes, as far as EZ-ZONE controllers use them; pure.

A reply to a read does not say which registers it holds: only its sender, its function
and its length can be checked. So reads that must be told apart differ in length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from actors.instruments.watlow.crc import check_sum, make_table

MAX_UNIT: Final = 247
READ: Final = 0x03
WRITE: Final = 0x10
_ERROR: Final = 0x80

ILLEGAL_FUNCTION: Final = 0x01
ILLEGAL_ADDRESS: Final = 0x02
ILLEGAL_VALUE: Final = 0x03
DEVICE_FAILURE: Final = 0x04
DEVICE_BUSY: Final = 0x06
ERRORS: Final[Mapping[int, str]] = {
    ILLEGAL_FUNCTION: "illegal function",
    ILLEGAL_ADDRESS: "illegal data address",
    ILLEGAL_VALUE: "illegal data value",
    DEVICE_FAILURE: "device failure",
    DEVICE_BUSY: "device busy",
}

_TABLE: Final = make_table(0xA001)

# Modbus application protocol 1.1b3, 6.3 and 6.12.
MAX_READ: Final = 125
MAX_WRITE: Final = 123


@frozen
class ReadRequest:
    """A question for consecutive registers."""

    unit: int
    register: int
    count: int


@frozen
class WriteRequest:
    """An order to set consecutive registers."""

    unit: int
    register: int
    words: Sequence[int]


@frozen
class ReadReply:
    """The content of registers; it does not say of which."""

    unit: int
    words: Sequence[int]


@frozen
class WriteReply:
    """The confirmation that registers were taken."""

    unit: int
    register: int
    count: int


@frozen
class ErrorReply:
    """A refusal of one function."""

    unit: int
    function: int
    code: int

    @property
    def text(self) -> str:
        """Why, in words."""
        return ERRORS.get(self.code, f"exception {self.code}")


Request: TypeAlias = ReadRequest | WriteRequest
"""What a controller can be asked."""

Reply: TypeAlias = ReadReply | WriteReply | ErrorReply
"""What a controller can answer."""


def crc16(data: bytes) -> int:
    """Return the CRC-16 over a frame; its low byte travels first."""
    return check_sum(data, _TABLE, 0xFFFF)


def reply_length(held: bytes) -> int | None:
    """Return how long the reply is that begins here, None while that cannot be told.

    Zero where it begins with a function that nobody asks for.
    """
    if len(held) < 3:
        return None
    match held[1]:
        case 0x03:
            return 5 + held[2]
        case 0x10:
            return 8
        case 0x83 | 0x90:
            return 5
        case _:
            return 0


def request_length(held: bytes) -> int | None:
    """Return how long the request is that begins here, None while that cannot be told.

    Zero where it begins with a function that these controllers do not have.
    """
    if len(held) < 2:
        return None
    match held[1]:
        case 0x03:
            return 8
        case 0x10:
            return 9 + held[6] if len(held) > 6 else None
        case _:
            return 0


def encode_request(request: Request) -> bytes:
    """Write a request.

    Raises:
        ValueError: The unit, the registers or their contents cannot be written.
    """
    if not 1 <= request.unit <= MAX_UNIT:
        raise ValueError(f"expected a unit from 1 to {MAX_UNIT}, got {request.unit}")
    match request:
        case ReadRequest(unit, register, count):
            if not 1 <= count <= MAX_READ:
                raise ValueError(f"expected 1 to {MAX_READ} registers, got {count}")
            return _with_crc(struct.pack(">BBHH", unit, READ, register, count))
        case WriteRequest(unit, register, words):
            count = len(words)
            if not 1 <= count <= MAX_WRITE:
                raise ValueError(f"expected 1 to {MAX_WRITE} registers, got {count}")
            head = struct.pack(">BBHHB", unit, WRITE, register, count, 2 * count)
            return _with_crc(head + _pack(words))


def decode_request(frame: bytes) -> Request | None:
    """Read a request; None where it is none or is damaged, which controllers ignore."""
    if request_length(frame) != len(frame) or not _crc_fits(frame):
        return None
    unit, function, register, count = struct.unpack(">BBHH", frame[:6])
    if function == READ:
        return ReadRequest(unit, register, count)
    words = _unpack(frame[7:-2])
    return WriteRequest(unit, register, words) if len(words) == count else None


def encode_reply(reply: Reply) -> bytes:
    """Write a controller's answer."""
    match reply:
        case ReadReply(unit, words):
            return _with_crc(bytes((unit, READ, 2 * len(words))) + _pack(words))
        case WriteReply(unit, register, count):
            return _with_crc(struct.pack(">BBHH", unit, WRITE, register, count))
        case ErrorReply(unit, function, code):
            return _with_crc(bytes((unit, function | _ERROR, code)))


def decode_reply(frame: bytes) -> Reply:
    """Read a controller's answer.

    Raises:
        ValueError: The frame is damaged or is no answer.
    """
    if reply_length(frame) != len(frame) or not _crc_fits(frame):
        raise ValueError(f"expected one whole reply, got {frame.hex(' ') or 'nothing'}")
    unit, function = frame[0], frame[1]
    if function & _ERROR:
        return ErrorReply(unit, function & ~_ERROR, frame[2])
    if function == READ:
        if frame[2] % 2:
            raise ValueError(f"expected whole registers, got {frame.hex(' ')}")
        return ReadReply(unit, _unpack(frame[3:-2]))
    register, count = struct.unpack(">HH", frame[2:6])
    return WriteReply(unit, register, count)


def words_of_float(value: float, *, low_first: bool = True) -> tuple[int, int]:
    """Return the two registers of a number.

    Raises:
        ValueError: It is too large for 32 bits.
    """
    try:
        return _ordered(struct.pack(">f", value), low_first)
    except OverflowError as error:
        raise ValueError(f"{value!r} does not fit in 32 bits") from error


def float_of_words(words: Sequence[int], *, low_first: bool = True) -> float:
    """Return the number in two registers."""
    value: float = struct.unpack(">f", _joined(words, low_first))[0]
    return value


def words_of_int(value: int, *, low_first: bool = True) -> tuple[int, int]:
    """Return the two registers of a signed whole number.

    Raises:
        ValueError: It is too large for 32 bits.
    """
    try:
        return _ordered(struct.pack(">i", value), low_first)
    except struct.error as error:
        raise ValueError(f"{value!r} does not fit in 32 bits") from error


def int_of_words(words: Sequence[int], *, low_first: bool = True) -> int:
    """Return the signed whole number in two registers."""
    value: int = struct.unpack(">i", _joined(words, low_first))[0]
    return value


def _ordered(data: bytes, low_first: bool) -> tuple[int, int]:
    high, low = _unpack(data)
    return (low, high) if low_first else (high, low)


def _joined(words: Sequence[int], low_first: bool) -> bytes:
    first, second = words
    return _pack((second, first) if low_first else (first, second))


def _pack(words: Sequence[int]) -> bytes:
    try:
        return struct.pack(f">{len(words)}H", *words)
    except struct.error as error:
        raise ValueError(f"expected registers of 16 bits, got {words!r}") from error


def _unpack(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


def _with_crc(frame: bytes) -> bytes:
    return frame + crc16(frame).to_bytes(2, "little")


def _crc_fits(frame: bytes) -> bool:
    return crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")
