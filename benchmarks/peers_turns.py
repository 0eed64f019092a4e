"""What the processes of all compared libraries do alike: time calls, and do as they are told.

It imports nothing but Trio, as any of their interpreters has it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio

WARM: Final = 5
"""How many calls go before those that are timed."""


async def timed(call: Callable[[], Awaitable[object]], count: int) -> Sequence[float]:
    """Return how long each of `count` calls takes, in seconds."""
    for _ in range(WARM):
        await call()
    times_s: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        await call()
        times_s.append(time.perf_counter() - began_s)
    return times_s


async def serve(measures: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
    """Say with an empty line that all is ready, then measure what each line of input names."""
    _say("")
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        measure, *words = json.loads(line)
        _say(json.dumps(await measures[measure](*words)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
