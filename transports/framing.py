"""Bytes into frames, without waiting.

A framer holds what has arrived and hands out whole frames; every framer has a bound,
so that a device that never ends its reply cannot fill the memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final, Protocol

from attrs import field, frozen, validators

from .errors import FrameError

MAX_BLOCK: Final = 1 << 28
"""The longest block of data that a line takes unless told otherwise, in bytes."""


class Framer(Protocol):
    """Collects bytes and hands out frames."""

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        ...

    def next_frame(self) -> bytes | None:
        """Return the next whole frame, or None when more bytes are needed.

        Raises:
            FrameError: What has arrived can be no frame; the bytes are discarded.
        """
        ...

    def missing(self) -> int:
        """Return how many bytes the next frame needs yet at least; 1 where nothing tells.

        Raises:
            FrameError: What has arrived can be no frame; the bytes are discarded.
        """
        ...

    def end_message(self) -> bytes | None:
        """Return the frame that ends here because the line itself says so, if there is one.

        What follows it in the same message stays held.

        Raises:
            FrameError: Half a frame is held; the bytes are discarded.
        """
        ...

    def clear(self) -> int:
        """Discard everything held and return how many bytes that was."""
        ...


class Framing(Protocol):
    """How frames look on a bus: a value from which each line makes its own framer."""

    def framer(self, max_frame: int) -> Framer:
        """Return a new framer that holds at most `max_frame` bytes of one frame."""
        ...


@frozen
class Lines:
    """Frames end in a terminator, which is not part of the frame.

    A frame that begins as a block of IEEE 488.2 (`#`, a digit n, n digits of a length)
    holds so many bytes whatever they are, and ends in the terminator after them. A block
    without a length (`#0`) ends where the line itself marks the end of a message; where no
    line does, it ends like any other frame.

    Attributes:
        terminator: The bytes that end a reply.
        strip: Bytes removed from both ends of a frame, such as a carriage return
            before the line feed; from blocks only at their end.
        max_block: The longest block, in bytes; 0 where a frame may begin like a block
            and is none.
    """

    terminator: bytes = field(default=b"\n", validator=validators.min_len(1))
    strip: bytes = b"\r"
    max_block: int = field(default=MAX_BLOCK, validator=validators.ge(0))

    def framer(self, max_frame: int) -> Framer:
        """Return a new framer for terminated lines."""
        return _LineFramer(self, max_frame)


@frozen
class Measured:
    """Frames whose first bytes tell their length.

    Attributes:
        length: Given the bytes so far, from the frame's first on: the whole frame's
            length, or None while that cannot be told.
        start: The bytes that begin every frame; anything before them is discarded.
    """

    length: Callable[[bytes], int | None]
    start: bytes = b""

    def framer(self, max_frame: int) -> Framer:
        """Return a new framer for frames that tell their length."""
        return _MeasuredFramer(self.length, self.start, max_frame)


class _Buffer:
    """The bytes that both framers hold."""

    def __init__(self, max_frame: int) -> None:
        self._held = bytearray()
        self._max_frame = max_frame

    def feed(self, data: bytes) -> None:
        self._held += data

    def clear(self) -> int:
        count = len(self._held)
        self._held.clear()
        return count

    def __repr__(self) -> str:
        return f"<{type(self).__name__} holding {len(self._held)} of {self._max_frame} bytes>"

    def _too_long(self, limit: int | None = None) -> FrameError:
        received = bytes(self._held)
        self.clear()
        return FrameError(
            f"no frame ends within {limit or self._max_frame} bytes", received=received
        )


class _LineFramer(_Buffer):
    def __init__(self, framing: Lines, max_frame: int) -> None:
        super().__init__(max_frame)
        self._terminator = framing.terminator
        self._strip = framing.strip
        self._max_block = framing.max_block
        # Everything before this index is known to hold no terminator.
        self._searched = 0
        # The block that the frame begins with, once its length is known. It grows without
        # being copied, and becomes the frame without being copied.
        self._block: io.BytesIO | None = None
        self._block_left = 0

    def feed(self, data: bytes) -> None:
        if self._block is None or not self._block_left:
            self._held += data
            return
        taken = min(self._block_left, len(data))
        view = memoryview(data)
        self._block.write(view[:taken])
        self._block_left -= taken
        self._held += view[taken:]

    def next_frame(self) -> bytes | None:
        self._begin_block()
        if self._block_left:
            return None
        end = self._held.find(self._terminator, self._searched)
        if end < 0:
            if len(self._held) > self._max_frame:
                raise self._too_long()
            self._searched = max(0, len(self._held) - len(self._terminator) + 1)
            return None
        return self._take(end, len(self._terminator))

    def missing(self) -> int:
        self._begin_block()
        if not self._block_left:
            limit = self._max_block if self._is_open_block() else self._max_frame
            if len(self._held) > limit + len(self._terminator):
                raise self._too_long()
        return self._block_left or 1

    def end_message(self) -> bytes | None:
        self._begin_block()
        if self._block_left:
            left = self._block_left
            self.clear()
            raise FrameError(f"a block ends {left} bytes too early")
        if self._is_open_block():
            ended = self._held.endswith(self._terminator)
            end = len(self._held) - (len(self._terminator) if ended else 0)
            # One copy, not two: blocks are large.
            frame = bytes(memoryview(self._held)[:end])
            self._held = bytearray()
            self._searched = 0
            return frame
        if (frame_or_none := self.next_frame()) is not None:
            return frame_or_none
        if self._block is None and not self._held:
            return None
        return self._take(len(self._held), 0)

    def clear(self) -> int:
        self._searched = 0
        if not self._held and self._block is None:
            return 0
        count = super().clear()
        if self._block is not None:
            count += self._block.tell()
            self._block, self._block_left = None, 0
        return count

    def _begin_block(self) -> None:
        """Look whether the frame begins with a block whose length it tells."""
        if not (self._max_block and self._block is None and self._held.startswith(b"#")):
            return
        digits = bytes(self._held[1:2])
        if not (digits.isdigit() and digits != b"0") or len(self._held) < 2 + int(digits):
            return
        size = self._held[2 : 2 + int(digits)]
        if not size.isdigit():
            return
        if int(size) > self._max_block:
            raise self._too_long(self._max_block)
        whole = 2 + int(digits) + int(size)
        self._block = io.BytesIO()
        with memoryview(self._held) as held:
            taken = self._block.write(held[:whole])
        self._block_left = whole - taken
        del self._held[:taken]
        self._searched = 0

    def _is_open_block(self) -> bool:
        return self._block is None and bool(self._max_block) and self._held.startswith(b"#0")

    def _take(self, end: int, terminator: int) -> bytes:
        """Return the frame that ends at index `end` of what is held."""
        held, block = self._held, self._block
        rest = bytes(held[:end])
        del held[: end + terminator]
        self._searched = 0
        if len(rest) > self._max_frame:
            self._block = None
            raise FrameError(f"a frame of {len(rest)} bytes is too long", received=rest)
        if block is None:
            return rest.strip(self._strip) if self._strip else rest
        self._block = None
        block.write(rest.rstrip(self._strip) if self._strip else rest)
        return block.getvalue()


class _MeasuredFramer(_Buffer):
    def __init__(self, length: Callable[[bytes], int | None], start: bytes, max_frame: int) -> None:
        super().__init__(max_frame)
        self._length = length
        self._start = start

    def next_frame(self) -> bytes | None:
        self._skip_to_start()
        held = bytes(self._held)
        if not held or not held.startswith(self._start):
            return None
        length = self._length(held)
        if length is None:
            if len(held) > self._max_frame:
                raise self._too_long()
            return None
        if not len(self._start) <= length <= self._max_frame or length == 0:
            raise self._too_long()
        if len(held) < length:
            return None
        del self._held[:length]
        return held[:length]

    def missing(self) -> int:
        self._skip_to_start()
        length = self._length(bytes(self._held)) if self._held.startswith(self._start) else None
        return max(1, (length or 0) - len(self._held))

    def end_message(self) -> bytes | None:
        frame = self.next_frame()
        if frame is None and self._held:
            received = bytes(self._held)
            self.clear()
            raise FrameError("a message ends in half a frame", received=received)
        return frame

    def _skip_to_start(self) -> None:
        if not self._start or self._held.startswith(self._start):
            return
        found = self._held.find(self._start)
        if found >= 0:
            del self._held[:found]
            return
        # The last bytes may be the beginning of a start mark.
        keep = len(self._start) - 1
        del self._held[: max(0, len(self._held) - keep)]
