"""Programs that use a tree, run as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import Signals
from typing import Final

import trio

HOLD: Final = """
import sys
from functools import partial
import trio
from actors.instruments.scpi import PowerSupply
from benchtree import TreeSpec, open_tree

async def main(drain_s: float, *addresses: str) -> None:
    async with open_tree(TreeSpec(name="held", drain_s=drain_s)) as tree:
        supplies = []
        for number, address in enumerate(addresses):
            supplies.append(await tree.add(f"psu{number}", PowerSupply, address))
        for psu in supplies:
            await psu.voltage.set(5.0)
            await psu.output.set(True, confirm=True)
        print("on", flush=True)
        try:
            await trio.sleep_forever()
        finally:
            print("stopping", flush=True)

trio.run(main, 2.0, *sys.argv[1:])
"""
"""Switches supplies on and holds them so until it is stopped."""

BUSY: Final = HOLD.replace(
    'print("on", flush=True)',
    """for _ in range(500):
            await supplies[0].voltage.submit(5.0)
        print("on", flush=True)""",
).replace("main, 2.0", "main, 60.0")
"""The same with much to do for the first of them, and a minute of patience to do it."""


class Script:
    """A program that runs."""

    def __init__(self, process: trio.Process) -> None:
        """Listen to `process`."""
        self._process = process
        self._heard = b""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def hear(self, word: str) -> None:
        """Wait until it has printed a line."""
        assert self._process.stdout is not None
        while word.encode() not in self._heard.split(b"\n")[:-1]:
            data = await self._process.stdout.receive_some()
            assert data, f"it ended before it said {word!r}: {self._heard!r}"
            self._heard += data

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def end(self, number: Signals) -> int:
        """Send it a signal and return its exit code."""
        self.signal(number)
        return await self._process.wait()


@asynccontextmanager
async def run_script(program: str, *arguments: str) -> AsyncGenerator[Script]:
    """Run a program; it must have said nothing on standard error when it ends."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    complaints = bytearray()

    async def listen() -> None:
        assert process.stderr is not None
        async for data in process.stderr:
            complaints.extend(data)

    try:
        with trio.fail_after(30.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                yield Script(process)
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    await pipe.aclose()
    assert complaints.decode() == ""
