"""A process that writes one sample now and one for each line it is sent, into a database."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from recorder import SqliteSink
from tests.recorder.sources import make_sample


async def main(path: str) -> None:
    """Write until the input ends."""
    async with SqliteSink(Path(path)) as sink:
        sink.write([make_sample(value=20.5)])
        sys.stdout.write("1\n")
        sys.stdout.flush()
        while await trio.to_thread.run_sync(sys.stdin.readline):
            sink.write([make_sample(value=21.5)])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
