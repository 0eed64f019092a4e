"""A HiSLIP instrument in a process of its own, run as `python -m`, that prints its port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module

import trio

from tests.support.hislip import serve_hislip
from transports import SimLine


@asynccontextmanager
async def hislip_process(model: str) -> AsyncGenerator[int]:
    """Start a process that serves a device model, given as `module:name`; yield its port."""
    command = [sys.executable, "-m", "tests.support.hislip_process", model]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(30):
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stdout.receive_some()
        yield int(said)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                await pipe.aclose()


async def _main(model: str) -> None:
    module, _, name = model.partition(":")
    line = SimLine(getattr(import_module(module), name)())
    async with serve_hislip(line) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
