"""A process that gives commands as fast as it can, every other one hazardous, until it is killed.

Its arguments: the folder of the runs, how long its disk takes for a batch at least, in seconds,
and the addresses of the devices. It says how many commands it has given, and the monotonic time
in ns, every tenth of a second.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from actors import JournalRow, current_clock
from benchtree import open_tree
from benchtree.spec import TreeSpec
from recorder import JOURNAL_FILE, Journal, JournalFile, create_run, keep_journal

from .valve import STEP_V, Valve

TREE = "killed"


class SlowFile(JournalFile):
    """A journal on a disk that takes its time: what does not wait for it is far ahead of it."""

    slow_s = 0.0

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Take the time, then write."""
        time.sleep(self.slow_s)
        super().append(rows, durable=durable)


async def main(root: str, slow_s: float, addresses: Sequence[str]) -> None:
    """Run a tree with a journal until killed."""
    run = create_run(root, tree_name=TREE, started_utc_ns=current_clock().utc_ns())
    numbers = itertools.count(1)
    done = 0

    async def command(valve: Valve) -> None:
        nonlocal done
        while True:
            await valve.current_limit.set(1.0)
            done += 1
            await valve.voltage.set(round(next(numbers) % 290_000 * STEP_V, 4), confirm=True)
            done += 1

    file = SlowFile(Path(run.path) / JOURNAL_FILE, tree=TREE, run=run.run_id)
    file.slow_s = slow_s
    file.create()
    async with (
        keep_journal(Journal(file, tree=TREE)) as journal,
        open_tree(TreeSpec(name=TREE), journal=journal) as tree,
        trio.open_nursery() as nursery,
    ):
        for index, address in enumerate(addresses):
            valve = await tree.add(f"valve{index}", Valve, address)
            for _ in range(6):
                nursery.start_soon(command, valve)
        while True:
            await trio.sleep(0.1)
            os.write(1, f"{done} {current_clock().mono_ns()}\n".encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]), sys.argv[3:])
