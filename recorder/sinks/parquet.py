"""Samples as Parquet: small, typed, and made from a stream that is safe all the while."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from actors import Sample
from recorder.errors import TargetExistsError
from recorder.tables import arrow
from recorder.wide import to_wide
from recorder.writing import write_parquet

from .arrow import ArrowSink, read_stream
from .base import BlockingSink, closed


class ParquetSink(BlockingSink):
    """Keeps samples in a new Parquet file, made when the sink is closed, or bit by bit.

    A Parquet file that was not closed is lost, so that samples first go to an Arrow stream
    beside it (`<name>.parquet.arrow`), and survive in it what they survive in an `ArrowSink`.
    It is removed once the Parquet file is whole and on the disk. The extra "columnar" is
    needed.

    Attributes:
        path: The file; with `rotate_rows` the parts are `<stem>-0001.parquet` and so on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rotate_rows: int | None = None,
        wide: bool = False,
        power_safe: bool = False,
    ) -> None:
        """Write to `path`.

        Args:
            path: The file.
            rotate_rows: Make a part of its own of every so many samples; None for one file.
            wide: One row per tick, and a column per series.
            power_safe: Wait for the disk after each batch.

        Raises:
            ValueError: `rotate_rows` is less than one.
        """
        super().__init__()
        if rotate_rows is not None and rotate_rows < 1:
            raise ValueError(f"rotate_rows must be at least 1, not {rotate_rows}")
        self.path = Path(path)
        self.name = self.path.name
        self._rotate_rows = rotate_rows
        self._wide = wide
        self._power_safe = power_safe
        self._source: ArrowSink | None = None
        self._part = 0
        self._rows = 0

    def open_blocking(self) -> None:
        """Make the stream.

        Raises:
            TargetExistsError: The Parquet file, its first part or the stream is already there.
            MissingExtraError: Arrow is not installed.
        """
        arrow()
        self._begin()

    def write(self, samples: Sequence[Sample]) -> None:
        """Append the samples to the stream.

        Raises:
            SinkClosedError: The sink is not open.
            OSError: The file system refused; none of the samples is kept.
        """
        source = self._source
        if source is None:
            raise closed(self.name)
        if self._rotate_rows is not None and self._rows >= self._rotate_rows:
            self._convert()
            source = self._begin()
        source.write(samples)
        self._rows += len(samples)

    def close_blocking(self) -> None:
        """Make the Parquet file of what is in the stream."""
        if self._source is not None:
            self._convert()

    @property
    def _target(self) -> Path:
        if self._rotate_rows is None:
            return self.path
        return self.path.with_name(f"{self.path.stem}-{self._part:04}{self.path.suffix}")

    def _begin(self) -> ArrowSink:
        self._part += 1
        self._rows = 0
        target = self._target
        if target.exists():
            raise TargetExistsError(str(target))
        source = ArrowSink(target.with_name(f"{target.name}.arrow"), power_safe=self._power_safe)
        source.open_blocking()
        self._source = source
        return source

    def _convert(self) -> None:
        source, self._source = self._source, None
        if source is None:
            return
        source.close_blocking()
        table = read_stream(source.path)
        write_parquet(to_wide(table) if self._wide else table, self._target)
        if source.waveforms_path.exists():
            waveforms = self._target.with_name(f"{self._target.stem}.waveforms.parquet")
            write_parquet(read_stream(source.waveforms_path), waveforms)
            source.waveforms_path.unlink()
        source.path.unlink()

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        return f"<ParquetSink {self.path} {'closed' if self._source is None else 'open'}>"
