"""Standard Bus frames as bytes; pure.

The outer frame is that of BACnet MS/TP (ASHRAE 135, clause 9): preamble, type,
destination, source, length and a CRC-8 over those; then the payload and its CRC-16, low
byte first. The payload reads or writes one attribute, named by class, member, instance.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from attrs import frozen

from actors.instruments.watlow.crc import check_sum, make_table
from actors.instruments.watlow.entries import Kind, WireValue

PREAMBLE: Final = b"\x55\xff"
REQUEST: Final = 0x05
RESPONSE: Final = 0x06
HOST: Final = 0x00
FIRST_UNIT: Final = 0x10
MAX_ADDRESS: Final = 16

READ: Final = 0x03
WRITE: Final = 0x04
# Selects reading one attribute.
_SINGLE: Final = 0x01

ACCESS_DENIED: Final = 0x80
NO_OBJECT: Final = 0x81
NO_ATTRIBUTE: Final = 0x83
NO_INSTANCE: Final = 0x84
ERRORS: Final[Mapping[int, str]] = {
    ACCESS_DENIED: "access denied",
    NO_OBJECT: "no such object",
    NO_ATTRIBUTE: "no such attribute",
    NO_INSTANCE: "no such instance",
}

_HEADER_TABLE: Final = make_table(0x81)
_DATA_TABLE: Final = make_table(0x8408)

# Preamble, type, two addresses, length and its CRC.
_HEADER_BYTES: Final = 8
_NUMBERS: Final[Mapping[int, str]] = {0x01: ">B", 0x03: ">H", 0x05: ">I", 0x06: ">i", 0x08: ">f"}
_TEXT: Final = 0x09
_WORDS: Final = 0x0F


@frozen
class ValueReply:
    """A controller's answer with the value it read or was given.

    Attributes:
        address: Who answers, from 1.
        service: `READ` or `WRITE`.
        parameter: Class times 1000 plus member.
        instance: Of which loop or alarm, from 1.
        value: The value.
    """

    address: int
    service: int
    parameter: int
    instance: int
    value: WireValue


@frozen
class ErrorReply:
    """A controller's refusal; it does not say of what.

    Attributes:
        address: Who answers, from 1.
        code: Why.
    """

    address: int
    code: int

    @property
    def text(self) -> str:
        """Why, in words."""
        return ERRORS.get(self.code, f"error 0x{self.code:02X}")


Reply: TypeAlias = ValueReply | ErrorReply
"""What a controller can answer."""


@frozen
class Request:
    """What a controller is asked.

    Attributes:
        address: Who is asked, from 1.
        parameter: Class times 1000 plus member.
        instance: Of which loop or alarm, from 1.
        value: What to write; None to read.
    """

    address: int
    parameter: int
    instance: int
    value: WireValue | None = None


def header_crc(header: bytes) -> int:
    """Return the CRC-8 over type, addresses and length."""
    return check_sum(header, _HEADER_TABLE, 0xFF) ^ 0xFF


def data_crc(data: bytes) -> int:
    """Return the CRC-16 over a payload; its low byte travels first."""
    return check_sum(data, _DATA_TABLE, 0xFFFF) ^ 0xFFFF


def frame_length(held: bytes) -> int | None:
    """Return how long the frame is that begins here, None while that cannot be told.

    Zero where its header is damaged, so that no length can be believed.
    """
    if len(held) < _HEADER_BYTES:
        return None
    if header_crc(held[2:7]) != held[7]:
        return 0
    count = int.from_bytes(held[5:7], "big")
    return _HEADER_BYTES + (count + 2 if count else 0)


def encode_request(request: Request, kind: Kind) -> bytes:
    """Write a request; `kind` says how a value travels.

    Raises:
        ValueError: The address, the parameter or the value cannot be written.
    """
    selector = _selector(request.parameter, request.instance)
    if request.value is None:
        payload = bytes((0x01, READ, _SINGLE)) + selector
    else:
        payload = bytes((0x01, WRITE)) + selector + encode_value(kind, request.value)
    return _frame(REQUEST, _station(request.address), HOST, payload)


def decode_request(frame: bytes) -> Request | None:
    """Read a request; None where it is none or is damaged, which controllers ignore."""
    try:
        destination, _, payload = _unframe(frame, REQUEST)
        if payload[:3] == bytes((0x01, READ, _SINGLE)) and len(payload) == 6:
            selector, value = payload[3:6], None
        elif payload[:2] == bytes((0x01, WRITE)) and len(payload) > 5:
            selector, value = payload[2:5], decode_value(payload[5:])
        else:
            return None
    except ValueError:
        return None
    parameter = selector[0] * 1000 + selector[1]
    return Request(destination - FIRST_UNIT + 1, parameter, selector[2], value)


def encode_reply(reply: Reply, kind: Kind = Kind.FLOAT) -> bytes:
    """Write a controller's answer; `kind` says how its value travels."""
    match reply:
        case ErrorReply(address, code):
            return _frame(RESPONSE, HOST, _station(address), bytes((0x02, code)))
        case ValueReply(address, service, parameter, instance, value):
            mode = bytes((_SINGLE,)) if service == READ else b""
            payload = bytes((0x02, service)) + mode + _selector(parameter, instance)
            payload += encode_value(kind, value)
            return _frame(RESPONSE, HOST, _station(address), payload)


def decode_reply(frame: bytes) -> Reply:
    """Read a controller's answer.

    Raises:
        ValueError: The frame is damaged or is no answer.
    """
    destination, source, payload = _unframe(frame, RESPONSE)
    address = source - FIRST_UNIT + 1
    if destination != HOST or not 1 <= address <= MAX_ADDRESS:
        raise _unexpected("an answer of a controller to the host", frame)
    if len(payload) == 2 and payload[0] == 0x02 and payload[1] & 0x80:
        return ErrorReply(address, payload[1])
    if payload[:3] == bytes((0x02, READ, _SINGLE)):
        service, rest = READ, payload[3:]
    elif payload[:2] == bytes((0x02, WRITE)):
        service, rest = WRITE, payload[2:]
    else:
        raise _unexpected("an answer to a read or a write", frame)
    if len(rest) < 4:
        raise _unexpected("class, member, instance and a value", frame)
    return ValueReply(address, service, rest[0] * 1000 + rest[1], rest[2], decode_value(rest[3:]))


def encode_value(kind: Kind, value: WireValue) -> bytes:
    """Write a value with the tag of its kind.

    Raises:
        ValueError: It does not fit.
    """
    try:
        if isinstance(value, str):
            text = value.encode("ascii")
            return bytes((_TEXT, len(text))) + text
        match kind:
            case Kind.FLOAT:
                return b"\x08" + struct.pack(">f", value)
            case Kind.INTEGER:
                return b"\x06" + struct.pack(">i", int(value))
            case Kind.CODE:
                return bytes((_WORDS, 1)) + struct.pack(">H", int(value))
            case Kind.TEXT:
                raise ValueError(f"expected a text, got {value!r}")
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"{value!r} cannot travel as a {kind.value}") from error


def decode_value(data: bytes) -> WireValue:
    """Read a tagged value: a number, a text, or one code.

    Raises:
        ValueError: It is something else, too short or too long.
    """
    tag, rest = data[:1], data[1:]
    number = _NUMBERS.get(tag[0]) if tag else None
    if number is not None and len(rest) == struct.calcsize(number):
        value: int | float = struct.unpack(number, rest)[0]
        return value
    if tag == bytes((_TEXT,)) and rest and len(rest) == 1 + rest[0]:
        text = rest[1:].rstrip(b"\0")
        if text.isascii():
            return text.decode("ascii")
    if tag == bytes((_WORDS,)) and rest[:1] == b"\x01" and len(rest) == 3:
        return int.from_bytes(rest[1:], "big")
    raise _unexpected("a tagged value", data)


def _selector(parameter: int, instance: int) -> bytes:
    return bytes((*divmod(parameter, 1000), instance))


def _station(address: int) -> int:
    if not 1 <= address <= MAX_ADDRESS:
        raise ValueError(f"expected an address from 1 to {MAX_ADDRESS}, got {address}")
    return FIRST_UNIT + address - 1


def _frame(kind: int, destination: int, source: int, payload: bytes) -> bytes:
    header = bytes((kind, destination, source)) + len(payload).to_bytes(2, "big")
    crc = data_crc(payload).to_bytes(2, "little")
    return PREAMBLE + header + bytes((header_crc(header),)) + payload + crc


def _unframe(frame: bytes, kind: int) -> tuple[int, int, bytes]:
    """Return destination, source and payload of a whole frame of a kind."""
    if not frame.startswith(PREAMBLE) or frame_length(frame) != len(frame):
        raise _unexpected("one whole frame", frame)
    payload, crc = frame[_HEADER_BYTES:-2], frame[-2:]
    if len(frame) == _HEADER_BYTES or data_crc(payload) != int.from_bytes(crc, "little"):
        raise _unexpected("a payload and its CRC", frame)
    if frame[2] != kind:
        raise _unexpected(f"a frame of type {kind}", frame)
    return frame[3], frame[4], payload


def _unexpected(expected: str, data: bytes) -> ValueError:
    return ValueError(f"expected {expected}, got {data.hex(' ') or 'nothing'}")
