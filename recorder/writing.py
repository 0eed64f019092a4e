"""Whole files, written beside their place and put there when they are complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from .errors import TargetExistsError
from .extras import need

_ROWS_AT_ONCE: Final = 10_000


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have a file written under another name, and give it its own once it is on the disk.

    Raises:
        TargetExistsError: There is a file of that name already; it is left as it is.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            # Unlike renaming, a link never takes another's place.
            os.link(part, path)
        except FileExistsError:
            raise TargetExistsError(str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_parquet(table: Any, path: Path) -> None:
    """Write an Arrow table as Parquet, complete or not at all.

    Raises:
        TargetExistsError: There is such a file already.
    """
    parquet = need("pyarrow.parquet", "columnar")
    write_whole(path, lambda part: parquet.write_table(table, part, compression="zstd"))


def write_csv(table: Any, path: Path) -> None:
    """Write an Arrow table as comma-separated values, complete or not at all.

    Raises:
        TargetExistsError: There is such a file already.
    """
    csv = need("pyarrow.csv", "columnar")
    write_whole(path, lambda part: csv.write_csv(table, part))


def write_arrow(table: Any, path: Path) -> None:
    """Write an Arrow table as an Arrow stream, complete or not at all.

    Raises:
        TargetExistsError: There is such a file already.
    """
    ipc = need("pyarrow.ipc", "columnar")

    def write(part: Path) -> None:
        with ipc.new_stream(part, table.schema) as writer:
            writer.write_table(table)

    write_whole(path, write)


def write_jsonl(table: Any, path: Path) -> None:
    """Write an Arrow table as lines of JSON, complete or not at all.

    Raises:
        TargetExistsError: There is such a file already.
    """

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    file.write(json.dumps(row, default=_plain, allow_nan=True) + "\n")

    write_whole(path, write)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
