"""Samples as comma-separated values, one row per sample."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from actors import Sample
from recorder.lines import encode_lines
from recorder.values import VALUE_TYPES

from .appending import GrowingFile
from .base import BlockingSink, closed

COLUMNS: Final = (
    "t_utc",
    "device",
    "address",
    "protocol",
    "parameter",
    "parameter_id",
    "instance",
    "value",
    "value_type",
    "unit",
    "t_utc_ns",
    "t_mono_ns",
    "requested_ns",
    "received_ns",
    "t_midpoint_mono_ns",
)
"""The header; `t_utc` is the midpoint of the sample's own exchange."""


class CsvSink(BlockingSink):
    """Keeps samples in a new CSV file, header first, in the order they come.

    An acknowledged sample survives the death of the process, and with `power_safe` a power
    cut. A batch that could not be written completely is taken back. Waveforms go to
    `<name>.waveforms.jsonl` beside it.

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

    def open_blocking(self) -> None:
        """Make the file and write its header.

        Raises:
            TargetExistsError: The file is already there.
        """
        self._file = GrowingFile(self.path, power_safe=self._power_safe)
        self._file.append((",".join(COLUMNS) + "\r\n").encode())

    def write(self, samples: Sequence[Sample]) -> None:
        """Append one row per sample; waveforms go to the file beside it.

        Raises:
            SinkClosedError: The sink is not open.
            OSError: The file system refused; the file ends after the last whole batch.
        """
        file = self._file
        if file is None:
            raise closed(self.name)
        # A text decoded from a garbled reply may hold half of a pair of code points.
        file.append("".join(_rows(samples)).encode(errors="backslashreplace"))
        traces = [sample for sample in samples if sample.waveform is not None]
        if traces:
            if self._traces is None:
                path = self.path.with_name(f"{self.path.stem}.waveforms.jsonl")
                self._traces = GrowingFile(path, power_safe=self._power_safe)
            self._traces.append(encode_lines(traces))

    def close_blocking(self) -> None:
        """Close the files."""
        files, self._file, self._traces = (self._file, self._traces), None, None
        for file in files:
            if file is not None:
                file.close()

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        return f"<CsvSink {self.path} {'closed' if self._file is None else 'open'}>"


def _rows(samples: Sequence[Sample]) -> Iterator[str]:
    second = -1
    prefix = ""
    for sample in samples:
        value = sample.value
        kind = VALUE_TYPES[type(value)]
        requested_ns, received_ns = sample.requested_ns, sample.received_ns
        mono_ns = (requested_ns + received_ns) // 2
        utc_ns = sample.received_utc_ns - (received_ns - mono_ns)
        if utc_ns // _SECOND_NS != second:
            second = utc_ns // _SECOND_NS
            prefix = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        middle_ns = sample.t_midpoint_mono_ns
        head, unit = _SERIES[
            sample.device,
            sample.address,
            sample.protocol,
            sample.parameter,
            sample.parameter_id,
            sample.instance,
            sample.unit,
        ]
        match kind:
            case "none":
                text = ""
            case "text":
                text = _cell(value)
            case _:
                text = str(value)
        yield (
            f"{prefix}{utc_ns % _SECOND_NS // 1000:06d}Z,{head},{text},{kind},{unit},"
            f"{utc_ns},{mono_ns},{requested_ns},{received_ns},"
            f"{'' if middle_ns is None else middle_ns}\r\n"
        )


def _cell(value: object) -> str:
    """Return one value as it stands between two commas."""
    text = "" if value is None else str(value)
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


_Series: TypeAlias = tuple[str, str | int, str, str, str | int, int, str | None]


class _Cells(dict[_Series, tuple[str, str]]):
    """What all rows of one series have in common, made once: before its value, and the unit."""

    def __missing__(self, series: _Series) -> tuple[str, str]:
        if len(self) > _MOST_SERIES:
            self.clear()
        *head, unit = map(_cell, series)
        self[series] = cells = ",".join(head), unit
        return cells


_SECOND_NS: Final = 1_000_000_000
_MOST_SERIES: Final = 10_000
_SERIES: Final = _Cells()
