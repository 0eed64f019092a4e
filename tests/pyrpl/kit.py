"""What tests of the line need: calls, and a line to the fake worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define

from transports.base import Exchange
from transports.board import BoardSettings
from transports.pyrpl import PyrplTransport, pack, unpack

FAKE = (sys.executable, "-m", "tests.pyrpl.fake_worker")


class CallError(Exception):
    """The worker said no."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def call(name: str, arguments: Mapping[str, Any] | None = None, *, wait: bool = True) -> bytes:
    """Return the request of a call."""
    return pack([name, dict(arguments or {}), wait])


def value_of(body: bytes) -> Any:
    """Return what a reply says, or raise."""
    done, *rest = unpack(body)
    if not done:
        raise CallError(*rest)
    return rest[0]


async def ask(
    line: PyrplTransport,
    name: str,
    /,
    *,
    wait: bool = True,
    within_s: float = 10.0,
    **arguments: Any,
) -> Any:
    """Make a call and return its value."""
    request = call(name, arguments, wait=wait)
    reply = await line.exchange(Exchange(request, reply_within_s=within_s))
    return value_of(reply.data)


@asynccontextmanager
async def fake_line(host: str = "fake", **options: Any) -> AsyncGenerator[PyrplTransport]:
    """Run a line to the fake worker."""
    line = PyrplTransport(f"redpitaya://{host}", BoardSettings(host=host), command=FAKE, **options)
    await line.open()
    try:
        yield line
    finally:
        with trio.CancelScope(shield=True):
            await line.aclose()


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - no file, a view on a process
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@define
class Lateness:
    """How late this program's tasks ran, for as long as it was looked at.

    Attributes:
        worst_s: The latest that one ran, in seconds.
    """

    worst_s: float = 0.0


@asynccontextmanager
async def lateness() -> AsyncGenerator[Lateness]:
    """Look how late tasks run meanwhile: by so much a measured time may be too long."""
    late = Lateness()

    async def look() -> None:
        while True:
            due_s = trio.current_time() + 0.002
            await trio.sleep_until(due_s)
            late.worst_s = max(late.worst_s, trio.current_time() - due_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield late
        nursery.cancel_scope.cancel()


async def soon(measure: Callable[[], Awaitable[float]], within_s: float, turns: int = 3) -> None:
    """Take a time that a loaded machine can only lengthen; once it must be short enough.

    The lateness of this program's own tasks is not counted.
    """
    taken: list[float] = []
    for _ in range(turns):
        async with lateness() as late:
            taken.append(await measure())
        if taken[-1] < within_s + late.worst_s:
            return
    raise AssertionError(f"not once within {within_s} s: {taken}")
