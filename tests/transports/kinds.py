"""The kinds of host that the conformance checks run against."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import serial
import trio
from attrs import evolve, frozen
from trio.testing import MockClock

from tests.transports.conformance import Connect, LineBench
from transports import (
    READ_WITHIN_S,
    SERIAL,
    TCP,
    Address,
    ByteStream,
    ConnectError,
    MemoryHost,
    SerialSettings,
    SimLine,
    ThreadedSerialStream,
    connect_serial,
    connect_tcp,
    parse_address,
    serve_pty,
    serve_tcp,
)


@asynccontextmanager
async def _serve_memory(line: SimLine, keeps_late: bool) -> AsyncGenerator[Connect]:
    yield MemoryHost(line, keeps_late=keeps_late).connect


@asynccontextmanager
async def _serve_pty(line: SimLine, keeps_late: bool) -> AsyncGenerator[Connect]:
    del keeps_late  # a terminal always does
    with tempfile.TemporaryDirectory() as folder:
        async with serve_pty(line, link=Path(folder) / "tty") as text:
            address = parse_address(text)

            async def connect() -> ByteStream:
                return await connect_serial(address.path, address.options or SerialSettings())

            yield connect


@asynccontextmanager
async def _serve_threaded(line: SimLine, keeps_late: bool) -> AsyncGenerator[Connect]:
    """Read a pseudo-terminal as ports are read on Windows."""
    del keeps_late  # a terminal always does
    with tempfile.TemporaryDirectory() as folder:
        async with serve_pty(line, link=Path(folder) / "tty") as text:
            path = parse_address(text).path

            async def connect() -> ByteStream:
                try:
                    port = serial.Serial(
                        path, timeout=READ_WITHIN_S, write_timeout=0, exclusive=True
                    )
                except OSError as error:
                    raise ConnectError(str(error)) from error
                return ThreadedSerialStream(port)

            yield connect


@asynccontextmanager
async def _serve_tcp(line: SimLine, keeps_late: bool) -> AsyncGenerator[Connect]:
    async with serve_tcp(line, keeps_late=keeps_late) as text:
        address: Address = parse_address(text)

        async def connect() -> ByteStream:
            return await connect_tcp(address.host, address.port)

        yield connect


@frozen
class Kind:
    """A kind of host.

    Attributes:
        bench: What the checks get.
        virtual: Whether it runs under a virtual clock.
    """

    bench: LineBench
    virtual: bool

    def run(self, main: Callable[[LineBench], Coroutine[object, object, None]]) -> None:
        """Run `main` on this kind of host."""
        trio.run(main, self.bench, clock=MockClock(autojump_threshold=0) if self.virtual else None)


_SERIAL: Final = evolve(SERIAL, lateness_s=0.2)
_TCP: Final = evolve(TCP, lateness_s=0.2)

KINDS: Final = {
    "memory": Kind(LineBench(_serve_memory, _SERIAL, keeps_late=True), virtual=True),
    "memory-reopened": Kind(LineBench(_serve_memory, _TCP, keeps_late=False), virtual=True),
    "pty": Kind(LineBench(_serve_pty, _SERIAL, keeps_late=True), virtual=False),
    "pty-threaded": Kind(LineBench(_serve_threaded, _SERIAL, keeps_late=True), virtual=False),
    "tcp": Kind(LineBench(_serve_tcp, _TCP, keeps_late=False), virtual=False),
}
