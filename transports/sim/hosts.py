"""Simulated lines on real sockets and pseudo-terminals."""

from __future__ import annotations

import os
import socket
import tty
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import trio

from .line import SimLine, TimedBytes

READ_SIZE: Final = 16_384


@asynccontextmanager
async def serve_tcp(
    line: SimLine,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    keeps_late: bool = False,
    one_client: bool = False,
) -> AsyncGenerator[str]:
    """Serve a line that is plugged in over TCP and yield its address, `tcp://host:port`.

    Unplugging closes all connections and stops listening; plugging in listens on the
    same port again. New connections notice at once.

    Args:
        line: The device and its line.
        host: Where to listen.
        port: Where to listen; 0 takes a free one.
        keeps_late: Whether replies outlive the connection that asked for them, as behind
            a serial gateway that serves one client, the newest.
        one_client: Whether a new connection ends the one before it.
    """
    kept = _Replies()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    chosen = port

    def plug() -> _Socket:
        nonlocal chosen
        listening = socket.create_server((host, chosen), family=family)
        chosen = int(listening.getsockname()[1])
        return _Socket(line, listening, kept if keeps_late else None, one_client=one_client)

    async with _plugged(line, kept, plug):
        yield f"tcp://{f'[{host}]' if ':' in host else host}:{chosen}"


@asynccontextmanager
async def serve_pty(line: SimLine, *, link: Path) -> AsyncGenerator[str]:
    """Serve a line that is plugged in as a serial port and yield its address.

    `link` becomes a symbolic link to a pseudo-terminal; the address is `serial://<link>`.
    Unplugging hangs the terminal up and removes the link; plugging in makes a new
    terminal behind the same link.
    """
    replies = _Replies()

    def plug() -> _Terminal:
        return _Terminal(line, link, replies)

    async with _plugged(line, replies, plug):
        yield _serial_address(link)


def _serial_address(link: Path) -> str:
    return f"serial://{quote(str(link.absolute()))}"


class _Plug(Protocol):
    """What is there while the line is plugged in."""

    @property
    def closed(self) -> bool:
        """Whether it has vanished."""
        ...

    async def serve(self) -> None:
        """Serve for ever."""
        ...

    def close(self) -> None:
        """Vanish at once. Twice is harmless."""
        ...


class _Pipe(Protocol):
    """What both a connection and a terminal can do."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray: ...

    async def send_all(self, data: bytes) -> None: ...


@asynccontextmanager
async def _plugged(
    line: SimLine, replies: _Replies, plug: Callable[[], _Plug]
) -> AsyncGenerator[None]:
    """Serve whenever `line` is plugged in."""
    changed = trio.lowlevel.ParkingLot()
    scope = trio.CancelScope()
    current = plug()

    def note() -> None:
        nonlocal current
        if line.plugged:
            if current.closed:
                current = plug()
            replies.add_nowait(line.collect(trio.current_time()))
        else:
            replies.clear()
            # Cancelled first: a task that waits on what is closed would fail.
            scope.cancel()
            current.close()
        changed.unpark_all()

    async def serve() -> None:
        nonlocal scope
        while True:
            if current.closed:
                await changed.park()
            else:
                with trio.CancelScope() as scope:
                    await current.serve()

    unwatch = line.watch(note)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield
            nursery.cancel_scope.cancel()
    finally:
        unwatch()
        current.close()


class _Replies:
    """Replies on their way, sent in order when they are due, to whoever is connected."""

    def __init__(self) -> None:
        self._due: deque[TimedBytes] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        # Two tasks send: the one that reads requests, and `send_due`.
        self._sending = trio.Lock()

    def clear(self) -> None:
        self._due.clear()

    def add_nowait(self, replies: list[TimedBytes]) -> None:
        if replies:
            self._due.extend(replies)
            self._changed.unpark_all()

    async def add(self, replies: list[TimedBytes], pipe: _Pipe) -> None:
        """Send what is due at once; leave the rest to `send_due`."""
        now_s = trio.current_time()
        while replies and not self._due and replies[0][0] <= now_s:
            async with self._sending:
                await pipe.send_all(replies.pop(0)[1])
        self.add_nowait(replies)

    async def send_due(self, pipe: _Pipe) -> None:
        """Send for ever, each reply at its time."""
        while True:
            if not self._due:
                await self._changed.park()
                continue
            await trio.sleep_until(self._due[0][0])
            async with self._sending:
                if self._due and self._due[0][0] <= trio.current_time():
                    await pipe.send_all(self._due.popleft()[1])


async def _serve(line: SimLine, pipe: _Pipe, replies: _Replies) -> None:
    """Carry bytes between `line` and `pipe` until either side ends."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replies.send_due, pipe)
            while data := await pipe.receive_some(READ_SIZE):
                await replies.add(line.receive(bytes(data), trio.current_time()), pipe)
            nursery.cancel_scope.cancel()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the other side left; it may come back


class _Socket:
    """A listening socket and its connections."""

    def __init__(
        self, line: SimLine, listening: socket.socket, kept: _Replies | None, *, one_client: bool
    ) -> None:
        self._line = line
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        # The replies that outlive a connection, where they do.
        self._kept = kept
        self._one_client = one_client or kept is not None
        self._newest = trio.CancelScope()
        # Set while the newest connection is not served.
        self._gone = trio.Event()
        self._gone.set()
        self.closed = False

    async def serve(self) -> None:
        await trio.serve_listeners(self._serve_one, [self._listener])

    def close(self) -> None:
        self.closed = True
        self._listener.socket.close()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        async with stream:
            # What the one before has sent must not mix with what this one sends.
            while self._one_client and not self._gone.is_set():
                self._newest.cancel()
                await self._gone.wait()
            gone = self._gone = trio.Event()
            try:
                with trio.CancelScope() as self._newest:
                    self._line.connect(trio.current_time())
                    replies = _Replies() if self._kept is None else self._kept
                    await _serve(self._line, stream, replies)
            finally:
                gone.set()


class _Terminal:
    """A pseudo-terminal behind a symbolic link."""

    def __init__(self, line: SimLine, link: Path, replies: _Replies) -> None:
        self._line = line
        self._link = link
        self._replies = replies
        # The far end is held open, so that nobody else's closing hangs the terminal up.
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._master = trio.lowlevel.FdStream(master)
        self._name = os.ttyname(self._slave)
        self.closed = False
        beside = link.with_name(f"{link.name}.{os.getpid()}.new")
        beside.symlink_to(self._name)
        beside.replace(link)

    async def serve(self) -> None:
        await _serve(self._line, self._master, self._replies)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._link.is_symlink() and str(self._link.readlink()) == self._name:
            self._link.unlink()
        self._master.close()
        os.close(self._slave)
