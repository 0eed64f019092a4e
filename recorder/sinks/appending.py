"""A new file that grows by whole pieces."""

from __future__ import annotations

import io
import os
from pathlib import Path

from recorder.errors import TargetExistsError


class GrowingFile:
    """A file to which pieces are appended, each completely or not at all.

    Nothing is buffered: what was appended survives the death of the process, and with
    `power_safe` a power cut.
    """

    def __init__(self, path: Path, *, power_safe: bool) -> None:
        """Make the file.

        Raises:
            TargetExistsError: It is already there.
        """
        try:
            self._file = io.FileIO(path, "xb")
        except FileExistsError:
            raise TargetExistsError(str(path)) from None
        self._power_safe = power_safe
        self._good = 0

    def append(self, data: bytes | memoryview) -> None:
        """Append all of `data`, or raise and append nothing.

        Raises:
            OSError: The file system refused; the file ends after the last whole piece.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
            if self._power_safe:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._good)
            self._file.seek(self._good)
            raise
        self._good += len(data)

    def close(self, *, durably: bool = False) -> None:
        """Close the file; with `durably` wait for the disk first."""
        if durably and not self._file.closed:
            os.fsync(self._file.fileno())
        self._file.close()
