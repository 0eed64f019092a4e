"""Bytes into frames, without waiting.

A framer holds what has arrived and hands out whole frames; every framer has a bound,
so that a device that never ends its reply cannot fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import field, frozen, validators

from .errors import FrameError


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

    Attributes:
        terminator: The bytes that end a reply.
        strip: Bytes removed from both ends of a frame, such as a carriage return
            before the line feed.
    """

    terminator: bytes = field(default=b"\n", validator=validators.min_len(1))
    strip: bytes = b"\r"

    def framer(self, max_frame: int) -> Framer:
        """Return a new framer for terminated lines."""
        return _LineFramer(self.terminator, self.strip, max_frame)


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

    def _too_long(self) -> FrameError:
        received = bytes(self._held)
        self._held.clear()
        return FrameError(f"no frame ends within {self._max_frame} bytes", received=received)


class _LineFramer(_Buffer):
    def __init__(self, terminator: bytes, strip: bytes, max_frame: int) -> None:
        super().__init__(max_frame)
        self._terminator = terminator
        self._strip = strip
        # Everything before this index is known to hold no terminator.
        self._searched = 0

    def next_frame(self) -> bytes | None:
        end = self._held.find(self._terminator, self._searched)
        if end < 0:
            if len(self._held) > self._max_frame:
                self._searched = 0
                raise self._too_long()
            self._searched = max(0, len(self._held) - len(self._terminator) + 1)
            return None
        frame = bytes(self._held[:end])
        del self._held[: end + len(self._terminator)]
        self._searched = 0
        if len(frame) > self._max_frame:
            raise FrameError(f"a frame of {len(frame)} bytes is too long", received=frame)
        return frame.strip(self._strip) if self._strip else frame

    def clear(self) -> int:
        self._searched = 0
        return super().clear()


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
