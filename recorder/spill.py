"""Where samples wait on disk while their sink does not take them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from actors import Sample

from .errors import TargetExistsError
from .lines import decode_lines, encode_lines


class Spill:
    """A journal of JSON lines: appended at its end, replayed from its front, then removed.

    Each append waits for the disk. Where the end of a recording or a kill leaves it behind,
    it is an ordinary file of JSON lines: samples that the sink has not acknowledged, preceded
    by those that it took back since the journal was begun.

    Attributes:
        path: The file.
        waiting: How many samples are in it that were not replayed.
    """

    def __init__(self, path: Path) -> None:
        """Make the journal.

        Raises:
            TargetExistsError: The file is already there.
        """
        self.path = path
        self.waiting = 0
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise TargetExistsError(str(path)) from None
        self._end = 0
        self._front = 0
        # Where each piece that was appended ends, and how many samples it holds.
        self._pieces: deque[tuple[int, int]] = deque()

    def append(self, samples: Sequence[Sample]) -> None:
        """Keep all of `samples` at the end, or raise and keep none.

        Raises:
            OSError: The file system refused.
        """
        left = memoryview(encode_lines(samples, raw=True))
        end = self._end
        try:
            while left:
                written = os.pwrite(self._descriptor, left, end)
                left = left[written:]
                end += written
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end = end
        self._pieces.append((end, len(samples)))
        self.waiting += len(samples)

    def front(self) -> Sequence[Sample]:
        """Return the piece that was appended first and is not replayed; empty where none is."""
        if not self._pieces:
            return ()
        end, _ = self._pieces[0]
        return tuple(decode_lines(os.pread(self._descriptor, end - self._front, self._front)))

    def drop_front(self) -> None:
        """Forget that piece: it is acknowledged."""
        self._front, count = self._pieces.popleft()
        self.waiting -= count

    def close(self) -> None:
        """Close the journal, and remove it where everything was replayed."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if not self.waiting:
            self.path.unlink()

    def __repr__(self) -> str:
        """Return the path and how much waits in it."""
        return f"<Spill {self.path} {self.waiting} waiting>"
