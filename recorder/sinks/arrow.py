"""Samples as an Arrow stream: columns with types, readable while it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from actors import Sample
from recorder.tables import arrow, schema, to_batch, waveform_schema, waveforms_to_batch

from .appending import GrowingFile
from .base import BlockingSink, closed

_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""What ends a stream that was closed."""


class ArrowSink(BlockingSink):
    """Keeps samples in a new Arrow stream file; the extra "columnar" is needed.

    An acknowledged sample survives the death of the process, and with `power_safe` a power
    cut. Waveforms go to `<name>.waveforms.arrow` beside it.

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
        self._traces: GrowingFile | None = None

    @property
    def waveforms_path(self) -> Path:
        """Where waveforms go."""
        return self.path.with_name(f"{self.path.stem}.waveforms.arrow")

    def open_blocking(self) -> None:
        """Make the file.

        Raises:
            TargetExistsError: The file is already there.
            MissingExtraError: Arrow is not installed.
        """
        head = schema().serialize()
        self._file = GrowingFile(self.path, power_safe=self._power_safe)
        self._file.append(memoryview(head))

    def write(self, samples: Sequence[Sample]) -> None:
        """Append the samples as one batch.

        Raises:
            SinkClosedError: The sink is not open.
            OSError: The file system refused; the file ends after the last whole batch.
        """
        if self._file is None:
            raise closed(self.name)
        data = memoryview(to_batch(samples).serialize())
        traces = [sample for sample in samples if sample.waveform is not None]
        if traces:
            if self._traces is None:
                self._traces = GrowingFile(self.waveforms_path, power_safe=self._power_safe)
                self._traces.append(memoryview(waveform_schema().serialize()))
            self._traces.append(memoryview(waveforms_to_batch(traces).serialize()))
        self._file.append(data)

    def close_blocking(self) -> None:
        """End the stream and close the file."""
        files, self._file, self._traces = (self._file, self._traces), None, None
        for file in files:
            if file is not None:
                try:
                    file.append(_END)
                finally:
                    file.close()

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        return f"<ArrowSink {self.path} {'closed' if self._file is None else 'open'}>"


def read_stream(path: Path) -> Any:
    """Return the Arrow table in a stream file, up to the last whole batch."""
    pa = arrow()
    batches: list[Any] = []
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_stream(source)
        # It may be cut short: whoever wrote it was killed, or still writes.
        with suppress(OSError, pa.ArrowInvalid):
            batches.extend(iter(reader))
        return pa.Table.from_batches(batches, schema=reader.schema)
