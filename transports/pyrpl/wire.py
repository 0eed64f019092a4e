"""What travels between a program and its PyRPL worker: frames, and the values in them.

Rules:
1. A frame is its length (four bytes, big endian) and a MessagePack list: what it is, the
   number of the call it belongs to, and a body that only its reader unpacks.
2. Every call gets one REPLY, whatever happens to it, unless it was cancelled: then none.
3. Numbers are never used twice, so a frame whose number is unknown can only be late.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final, cast

import msgpack
import numpy as np
import numpy.typing as npt
from attrs import frozen

MAX_FRAME: Final = 64 << 20
"""A longer frame is none: the pipe is out of step."""

_LONGEST_BODY: Final = MAX_FRAME - 64

# It carries no types.
_msgpack: Final[Any] = msgpack

_PREFIX: Final = 4
_ARRAY: Final = 1
_COMPLEX: Final = 2


class Kind(IntEnum):
    """What a frame is."""

    SETTINGS = 1
    """To the worker, first: where the board is."""
    CALL = 2
    CANCEL = 3
    PING = 4
    READY = 16
    """From the worker, once: the board is reached."""
    FAILED = 17
    """From the worker in place of READY: why it is not."""
    REPLY = 18
    PONG = 19
    PATIENCE = 20
    """From the worker: it cannot answer pings for so many seconds."""
    LOST = 21
    """From the worker: why the board is gone. Nothing follows."""


class BrokenFrameError(ValueError):
    """The bytes are no frame."""


@frozen
class Frame:
    """One message.

    Attributes:
        kind: What it is.
        number: The call it belongs to; 0 where it belongs to none.
        body: What it says, packed.
    """

    kind: Kind
    number: int
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes."""
    packed = _packb([int(frame.kind), frame.number, frame.body])
    return len(packed).to_bytes(_PREFIX, "big") + packed


class FrameReader:
    """Takes bytes as they arrive and gives whole frames."""

    def __init__(self) -> None:
        """Start without bytes."""
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes and return the frames that are whole now.

        Raises:
            BrokenFrameError: What came is no frame; nothing after it can be understood.
        """
        received = self._received
        received += data
        frames: list[Frame] = []
        while len(received) >= _PREFIX:
            size = int.from_bytes(received[:_PREFIX], "big")
            if size > MAX_FRAME:
                raise BrokenFrameError(f"a frame of {size} bytes was announced")
            if len(received) < _PREFIX + size:
                break
            frames.append(_decode(bytes(received[_PREFIX : _PREFIX + size])))
            del received[: _PREFIX + size]
        return iter(frames)


def pack(value: Any) -> bytes:
    """Return a value's bytes: numbers, texts, lists, mappings; arrays as their raw bytes.

    Raises:
        TypeError: It holds something else.
        ValueError: It is more than a frame takes.
    """
    packed = _packb(value)
    if len(packed) > _LONGEST_BODY:
        raise ValueError(f"{len(packed)} bytes are more than the {_LONGEST_BODY} that can travel")
    return packed


def unpack(data: bytes) -> Any:
    """Return the value that was packed. Tuples come back as lists.

    Raises:
        BrokenFrameError: The bytes are no packed value.
    """
    try:
        return _msgpack.unpackb(data, ext_hook=_unpack_extension, strict_map_key=False)
    except Exception as error:
        raise BrokenFrameError(f"no packed value: {error}") from error


def _packb(value: Any) -> bytes:
    packed: bytes = _msgpack.packb(value, default=_pack_extension)
    return packed


def _decode(packed: bytes) -> Frame:
    try:
        kind, number, body = _msgpack.unpackb(packed)
        return Frame(Kind(kind), int(number), bytes(body))
    except Exception as error:
        raise BrokenFrameError(f"no frame: {packed[:40]!r}: {error}") from error


def _pack_extension(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(cast("npt.NDArray[Any]", value))
        if array.dtype.hasobject:
            raise TypeError("an array of objects cannot be packed")
        packed = _packb([array.dtype.str, list(array.shape), array.tobytes()])
        return _msgpack.ExtType(_ARRAY, packed)
    single: Any = cast("Any", value).item() if isinstance(value, np.generic) else value
    if isinstance(single, complex):
        return _msgpack.ExtType(_COMPLEX, _packb([single.real, single.imag]))
    if isinstance(single, (bool, int, float, str, bytes)):
        return single
    raise TypeError(f"{type(cast('object', value)).__name__} cannot be packed")


def _unpack_extension(code: int, data: bytes) -> Any:
    if code == _ARRAY:
        kind, shape, raw = _msgpack.unpackb(data)
        return np.frombuffer(raw, dtype=np.dtype(kind)).reshape(shape)
    if code == _COMPLEX:
        real, imaginary = _msgpack.unpackb(data)
        return complex(real, imaginary)
    raise ValueError(f"extension {code} is not known")
