"""A process that writes numbered samples as fast as it can, until it is killed.

Its arguments: the kind of sink, and the file. After each acknowledged write it tells how many
samples were acknowledged so far.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import trio

from recorder import ArrowSink, BlockingSink, CsvSink, JsonlSink, ParquetSink, SqliteSink

from .sources import make_sample


def _parquet(path: Path) -> ParquetSink:
    return ParquetSink(path, rotate_rows=20_000)


SINKS: Mapping[str, Callable[[Path], BlockingSink]] = {
    "sqlite": SqliteSink,
    "csv": CsvSink,
    "jsonl": JsonlSink,
    "arrow": ArrowSink,
    "parquet": _parquet,
}


async def main(kind: str, path: str) -> None:
    """Write batches of all sizes for ever."""
    random = Random(1)
    count = 0
    async with SINKS[kind](Path(path)) as sink:
        while True:
            size = random.choice([1, 10, 500, 3000])
            batch = [
                make_sample(
                    value=count + index, requested_ns=count + index, received_ns=count + index
                )
                for index in range(size)
            ]
            sink.write(batch)
            count += size
            os.write(1, f"{count}\n".encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
