"""Samples as lines of JSON, one object per sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from actors import Sample
from recorder.lines import encode_lines

from .appending import GrowingFile
from .base import BlockingSink, closed


class JsonlSink(BlockingSink):
    """Keeps samples in a new file of JSON lines, in the order they come.

    An acknowledged sample survives the death of the process, and with `power_safe` a power
    cut. A waveform is in the line of its sample.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str], *, power_safe: bool = False) -> None:
        """Write to `path`; with `power_safe` wait for the disk after each batch."""
        super().__init__()
        self.path = Path(path)
        self.name = self.path.name
        self._power_safe = power_safe
        self._file: GrowingFile | None = None

    def open_blocking(self) -> None:
        """Make the file.

        Raises:
            TargetExistsError: The file is already there.
        """
        self._file = GrowingFile(self.path, power_safe=self._power_safe)

    def write(self, samples: Sequence[Sample]) -> None:
        """Append one line per sample.

        Raises:
            SinkClosedError: The sink is not open.
            OSError: The file system refused; the file ends after the last whole batch.
        """
        if self._file is None:
            raise closed(self.name)
        self._file.append(encode_lines(samples))

    def close_blocking(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        return f"<JsonlSink {self.path} {'closed' if self._file is None else 'open'}>"
