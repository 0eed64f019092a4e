"""Runs as files that others read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from recorder import load, write_arrow, write_csv, write_jsonl, write_parquet

Writer = Callable[[Any, Path], None]

WRITERS: Final[Mapping[str, Writer]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "arrow": write_arrow,
}
"""What writes each format."""


def export(
    run: Path,
    to: str,
    output: Path | None,
    *,
    recording: str | None,
    wide: bool,
    progress: Callable[[int], None],
) -> tuple[Path, int]:
    """Write a run's samples in another format; return the file and its number of rows.

    Raises:
        NoSamplesError: The run holds nothing that could be read.
        TargetExistsError: The file is already there.
        MissingExtraError: Arrow is not installed.
    """
    table = load(run, recording=recording, wide=wide, progress=progress)
    folder = run if run.is_dir() else run.parent
    stem = "export" if recording is None else f"export-{recording}"
    path = output or folder / f"{stem}{'-wide' if wide else ''}.{to}"
    WRITERS[to](table, path)
    return path, len(table)
