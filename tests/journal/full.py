"""A process whose files cannot grow for a while, as on a full disk, and what it can still do.

Its arguments: the folder of the runs, and the address of the device. It writes what it saw as
one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import trio

from actors import CommandError, Event, Priority, current_clock
from benchtree import open_tree
from benchtree.spec import TreeSpec
from recorder import JOURNAL_FILE, JournalFailed, JournalRestored, create_run, open_journal

from .valve import Valve


async def main(root: str, address: str) -> None:
    """Fill the disk, try what can be done, and make room again."""
    said: dict[str, object] = {}
    failed, restored = trio.Event(), trio.Event()

    def observe(event: Event) -> None:
        match event:
            case JournalFailed(reason=reason):
                said["failed"] = reason
                failed.set()
            case JournalRestored(lost=lost):
                said["lost"] = lost
                restored.set()
            case _:
                pass

    run = create_run(root, tree_name="full", started_utc_ns=current_clock().utc_ns())
    path = Path(run.path) / JOURNAL_FILE
    async with (
        open_journal(path, tree="full", run=run.run_id) as journal,
        open_tree(TreeSpec(name="full"), journal=journal, observer=observe) as tree,
    ):
        supply = await tree.add("supply", Valve, address)
        await supply.output.set(True, confirm=True)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        full = run.path.joinpath(f"{JOURNAL_FILE}-wal").stat().st_size + 20_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, unlimited[1]))
        writes = 0
        with trio.fail_after(30.0):
            while not failed.is_set():
                await supply.current_limit.set(1.0)
                writes += 1
        said["writes"] = writes
        try:
            await supply.output.set(True, confirm=True)
        except CommandError as refused:
            said["refused"] = [refused.cause.value, str(refused)]
        began_s = trio.current_time()
        await supply.output.set(False)
        said["off"] = await supply.output.get()
        await supply.ask(supply.output.to(False), priority=Priority.EMERGENCY)
        said["took_s"] = trio.current_time() - began_s
        said["safe"] = (await tree.trip("supply")).error
        tree.rearm("supply")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        with trio.fail_after(30.0):
            await restored.wait()
        await supply.output.set(True, confirm=True)
        said["on"] = await supply.output.get()
    said["head"] = journal.head
    os.write(1, json.dumps(said).encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
