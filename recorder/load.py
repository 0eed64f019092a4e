"""Reading recordings back: whatever format they are in, as one Arrow table."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from csv import DictReader
from pathlib import Path
from typing import Any, Final

from .errors import NoSamplesError
from .extras import need
from .lines import decode_lines
from .run import METADATA_FILE, read_run
from .sinks import read_stream
from .tables import arrow, schema, split_value, to_batch
from .wide import to_wide

_ROWS_AT_ONCE: Final = 100_000

Progress = Callable[[int], None]
"""Told how many more rows were read."""


def load(
    run: str | os.PathLike[str],
    *,
    recording: str | None = None,
    wide: bool = False,
    rate_hz: float | None = None,
    progress: Progress | None = None,
) -> Any:
    """Return the samples of a run, or of one file, as an Arrow table in the order of time.

    It has one row per sample: the columns of the tables that the Arrow sink writes, `t_s` (the
    time since the first sample, in seconds) and `latency_s`. A run that still goes on, or
    was killed, is read as far as it is written. The extra "columnar" is needed.

    Args:
        run: The run's folder, or a file of any sink.
        recording: The recording of that name; None for the first.
        wide: Return one row per tick and one column per series instead.
        rate_hz: Ticks per second, for `wide`; None for the run's own rate.
        progress: Told about rows as they are read.

    Raises:
        NoSamplesError: There is nothing there that could be read.
        MissingExtraError: Arrow is not installed.
    """
    path = Path(run)
    file = find_samples(path, recording) if path.is_dir() else path
    if not file.exists():
        raise NoSamplesError(f"{file} does not exist")
    read = _READERS.get(file.suffix)
    if read is None:
        raise NoSamplesError(f"{file}: only {', '.join(_READERS)} files are known")
    table = _with_times(read(file, progress or _silent))
    if not wide:
        return table
    return to_wide(table, rate_hz=rate_hz or _rate_of(path, recording))


def find_samples(folder: Path, recording: str | None = None) -> Path:
    """Return the best file of a recording in a run's folder.

    Raises:
        NoSamplesError: There is none.
    """
    files = _files_of(folder, recording)
    for suffix in _READERS:
        for file in files:
            if file.suffix == suffix:
                return file
    what = "samples" if recording is None else f"samples of a recording named {recording}"
    raise NoSamplesError(f"{folder} holds no {what}")


def _files_of(folder: Path, recording: str | None) -> Sequence[Path]:
    known = _recordings_of(folder)
    if known:
        entry: Mapping[str, Any] = known.get(recording or next(iter(known)), {})
        names: Sequence[str] = entry.get("files", ())
        if recording is not None or names:
            return [folder / name for name in names if (folder / name).exists()]
    stems = ["samples", "samples-*"] if recording is None else [f"samples-{recording}", "samples"]
    return [
        file
        for stem in stems
        for file in sorted(folder.glob(f"{stem}.*"))
        if ".waveforms." not in file.name and ".spill." not in file.name
    ]


def _rate_of(path: Path, recording: str | None) -> float | None:
    """Return the rate that the run's metadata gives, or None."""
    known = _recordings_of(path if path.is_dir() else path.parent)
    rate: float | None = known.get(recording or next(iter(known), ""), {}).get("rate_hz")
    return rate


def _recordings_of(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return what a run's metadata says of each recording; nothing before the run's end."""
    if not (folder / METADATA_FILE).exists():
        return {}
    found: Any = read_run(folder).metadata.get("recordings")
    return found or {}


def _read_sqlite(path: Path, progress: Progress) -> Any:
    pa = arrow()
    query = (
        "SELECT device, address, protocol, parameter, parameter_id, instance, value, value_type,"
        " unit, requested_ns, received_ns, received_utc_ns, t_midpoint_mono_ns"
        " FROM samples ORDER BY rowid"
    )
    batches: list[Any] = []
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        try:
            cursor = database.execute(query)
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                batches.append(_batch(rows))
                progress(len(rows))
        except sqlite3.DatabaseError as error:
            raise NoSamplesError(f"{path} is damaged, or no recording: {error}") from error
    return pa.Table.from_batches(batches, schema=schema())


def _read_csv(path: Path, progress: Progress) -> Any:
    pa = arrow()
    batches: list[Any] = []
    rows: list[Sequence[Any]] = []

    def flush() -> None:
        batches.append(_batch(rows))
        progress(len(rows))
        rows.clear()

    with path.open(newline="", encoding="utf-8") as file:
        for row in DictReader(file):
            if row["t_midpoint_mono_ns"] is None:
                break  # cut short
            mono, received = int(row["t_mono_ns"]), int(row["received_ns"])
            rows.append(
                (
                    row["device"],
                    row["address"],
                    row["protocol"],
                    row["parameter"],
                    row["parameter_id"],
                    int(row["instance"]),
                    _FROM_TEXT[row["value_type"]](row["value"]),
                    row["value_type"],
                    row["unit"] or None,
                    int(row["requested_ns"]),
                    received,
                    int(row["t_utc_ns"]) + received - mono,
                    int(row["t_midpoint_mono_ns"]) if row["t_midpoint_mono_ns"] else None,
                )
            )
            if len(rows) == _ROWS_AT_ONCE:
                flush()
    if rows:
        flush()
    return pa.Table.from_batches(batches, schema=schema())


_FROM_TEXT: Final[Mapping[str, Callable[[str], object]]] = {
    "float": float,
    "int": int,
    "bool": lambda text: text == "True",
    "text": str,
    "none": lambda text: None,
}


def _read_jsonl(path: Path, progress: Progress) -> Any:
    samples = list(decode_lines(path.read_bytes()))
    progress(len(samples))
    return arrow().Table.from_batches([to_batch(samples)], schema=schema())


def _read_arrow(path: Path, progress: Progress) -> Any:
    table = read_stream(path)
    progress(len(table))
    return table


def _read_parquet(path: Path, progress: Progress) -> Any:
    table = need("pyarrow.parquet", "columnar").read_table(path)
    progress(len(table))
    if "value_type" not in table.column_names:
        raise NoSamplesError(f"{path} has one row per tick; read it with pyarrow.parquet")
    return table


def _batch(rows: Sequence[Sequence[Any]]) -> Any:
    """Return rows as one Arrow record batch; their values are as the database gives them."""
    pa = arrow()
    columns = [list(column) for column in zip(*rows, strict=True)]
    (
        device, address, protocol, parameter, parameter_id, instance, value, kinds, unit,
        requested, received, received_utc, middle,
    ) = columns  # fmt: skip
    split = [_split(each, kind) for each, kind in zip(value, kinds, strict=True)]
    numbers, wholes, texts = zip(*split, strict=True)
    mono = [(begin + end) // 2 for begin, end in zip(requested, received, strict=True)]
    stamps = zip(received_utc, received, mono, strict=True)
    utc = [utc_ns - (end - middle_ns) for utc_ns, end, middle_ns in stamps]
    arrays = [
        device, list(map(str, address)), protocol, parameter, list(map(str, parameter_id)),
        instance, numbers, wholes, texts, kinds, unit, [ns // 1000 for ns in utc], utc,
        mono, requested, received, received_utc, middle,
    ]  # fmt: skip
    fields = schema()
    return pa.RecordBatch.from_arrays(
        [pa.array(each, field.type) for each, field in zip(arrays, fields, strict=True)],
        schema=fields,
    )


def _split(value: object, kind: str) -> tuple[float | None, int | None, str | None]:
    match kind, value:
        case "float", None:
            return float("nan"), None, None  # a database has no word for it
        case "int", str():
            return split_value(int(value), kind)
        case _:
            return split_value(value, kind)


def _with_times(table: Any) -> Any:
    pc = need("pyarrow.compute", "columnar")
    table = table.sort_by("t_mono_ns")
    mono = table["t_mono_ns"]
    first = pc.min(mono)
    second = arrow().scalar(1e9)
    since = pc.divide(pc.subtract(mono, first).cast("float64"), second)
    latency = pc.subtract(table["received_ns"], table["requested_ns"]).cast("float64")
    return table.append_column("t_s", since).append_column("latency_s", pc.divide(latency, second))


def _silent(rows: int) -> None:
    del rows


_READERS: Final[Mapping[str, Callable[[Path, Progress], Any]]] = {
    ".sqlite": _read_sqlite,
    ".arrow": _read_arrow,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}
