"""What tests of the line need: calls, and a line to the fake worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

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
