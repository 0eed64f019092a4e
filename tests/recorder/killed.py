"""A process that records at 100 Hz and says what was acknowledged, until it is killed.

Its arguments: the folder of the runs, and how many samples to record (0 for no end).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import trio

from actors import Sample, SampleKey, current_clock
from recorder import Run, SqliteSink, create_run, pipe, record

from .sources import Bench, read


class Counter:
    """A bus whose values number its samples."""

    name = "counter"
    keys: Sequence[SampleKey] = tuple(SampleKey(f"meter{index}", "volt") for index in range(8))

    def __init__(self) -> None:
        """Start at zero."""
        self.count = 0

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Read each key."""
        for key in self.keys:
            deliver(await read(key, 0.0, self.count))
            self.count += 1


class Telling(SqliteSink):
    """Tells how many samples it has acknowledged, after each write."""

    acknowledged = 0

    def write(self, samples: Sequence[Sample]) -> None:
        """Write, then tell."""
        super().write(samples)
        self.acknowledged += len(samples)
        os.write(1, f"{self.acknowledged}\n".encode())


async def main(root: str, samples: int) -> None:
    """Make a run and record into it."""
    run: Run = create_run(
        root,
        tree_name="killed",
        started_utc_ns=current_clock().utc_ns(),
        config_text="[tree]\n",
    )
    duration = samples / 800 if samples else None
    async with (
        Telling(run.samples_path) as sink,
        record(Bench(Counter()), parameters=["volt"], rate_hz=100, duration=duration) as recording,
    ):
        await pipe(recording.stream, sink, batch_size=8)
    run.finish(
        exit_status=0,
        finished_utc_ns=current_clock().utc_ns(),
        recordings={"main": recording.summary.as_dict()},
    )


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
