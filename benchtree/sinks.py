"""Where recordings can be written to, by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from recorder import (
    ArrowSink,
    BlockingSink,
    CsvSink,
    JsonlSink,
    ParquetSink,
    PostgresSink,
    SqliteSink,
    Synchronous,
)

from .spec import RecordingSpec

SinkMaker: TypeAlias = Callable[[Path, RecordingSpec], BlockingSink]
"""Makes the sink of a recording for a file."""


def _sqlite(path: Path, spec: RecordingSpec) -> SqliteSink:
    level = Synchronous.FULL if spec.power_safe else Synchronous.NORMAL
    return SqliteSink(path, synchronous=level)


def _csv(path: Path, spec: RecordingSpec) -> CsvSink:
    return CsvSink(path, power_safe=spec.power_safe)


def _jsonl(path: Path, spec: RecordingSpec) -> JsonlSink:
    return JsonlSink(path, power_safe=spec.power_safe)


def _arrow(path: Path, spec: RecordingSpec) -> ArrowSink:
    return ArrowSink(path, power_safe=spec.power_safe)


def _parquet(path: Path, spec: RecordingSpec) -> ParquetSink:
    return ParquetSink(
        path, rotate_rows=spec.rotate_rows, wide=spec.wide, power_safe=spec.power_safe
    )


def _postgres(path: Path, spec: RecordingSpec) -> PostgresSink:
    # The run's folder names the run; its journal lies in there.
    run = path.parent.name
    return PostgresSink(spec.postgres or "", run=run, table=spec.postgres_table)


SINKS: Final[Mapping[str, SinkMaker]] = {
    "sqlite": _sqlite,
    "csv": _csv,
    "jsonl": _jsonl,
    "arrow": _arrow,
    "parquet": _parquet,
    "postgres": _postgres,
}
"""Each kind of sink; its name is the suffix of its file, where it has one."""
