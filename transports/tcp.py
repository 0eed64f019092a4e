"""Byte streams over TCP."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from typing import Final, cast

import trio

from .base import LineCounters
from .errors import ConnectError, ConnectProblem, LineClosedError, PeerLostError

READ_SIZE: Final = 16_384
KEEPALIVE_IDLE_S: Final = 10
"""How long a connection is quiet before the operating system asks whether it still is one."""

KEEPALIVE_EVERY_S: Final = 5
"""How long it waits for an answer before it asks again, in seconds."""

KEEPALIVE_TRIES: Final = 3
"""How often it asks in vain before the connection is taken for lost."""

# Seen without reading: the far end's close, and errors such as a reset.
_GONE: Final = (
    select.POLLRDHUP | select.POLLHUP | select.POLLERR if hasattr(select, "POLLRDHUP") else 0
)


class TcpStream:
    """A TCP connection, as a line needs it. Made by `connect_tcp`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Own `stream` and prepare its socket."""
        self._stream = stream
        self._fd = stream.socket.fileno()
        # A second object over the same descriptor: Trio's socket has no calls that
        # return at once. It is detached, never closed.
        self._socket = socket.socket(fileno=self._fd)
        self._socket.setblocking(False)
        self._closed = False
        _keep_alive(self._socket)

    def __repr__(self) -> str:
        """Return whether the connection is open."""
        return f"<TcpStream {'closed' if self._closed else 'open'}>"

    def write_nowait(self, data: bytes) -> int:
        """Hand over as much of `data` as is taken at once."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from error

    async def wait_writable(self) -> None:
        """Wait until more can be written."""
        self._check_open()
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except trio.ClosedResourceError as error:
            raise LineClosedError("the line was closed meanwhile") from error

    def read_nowait(self) -> bytes:
        """Return what has arrived, or b"" when nothing has."""
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise PeerLostError("the far end closed the connection")
        return data

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived or the far end went away."""
        if self._closed:
            self._check_open()
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError as error:
            raise LineClosedError("the line was closed meanwhile") from error

    def flush_input(self) -> None:
        """Discard unread input."""
        while self.read_nowait():
            pass

    def count_errors(self, counters: LineCounters) -> None:
        """Count nothing: TCP repairs its own errors."""

    async def wait_lost(self, every_s: float) -> None:
        """Return once the far end is gone or the stream is closed."""
        while not (self._closed or self._is_gone()):  # noqa: ASYNC110 - no event tells
            await trio.sleep(every_s)

    async def aclose(self) -> None:
        """Close; the operating system delivers what was handed over."""
        if self._closed:
            return
        self._closed = True
        self._socket.detach()
        await self._stream.aclose()

    def _is_gone(self) -> bool:
        if _GONE:
            poll = select.poll()
            poll.register(self._fd, _GONE)
            return bool(poll.poll(0))
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _check_open(self) -> None:
        if self._closed:
            raise LineClosedError("the line is closed")

    def _lost(self, error: OSError) -> LineClosedError | PeerLostError:
        if self._closed:
            return LineClosedError("the line is closed")
        return PeerLostError(f"the connection broke: {_strerror(error)}")


async def connect_tcp(host: str, port: int) -> TcpStream:
    """Connect to `host` (a name, IPv4 or IPv6 address), trying all its addresses.

    Raises:
        ConnectError: Nobody answers there; the message says why.
    """
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        reason, problem = _in_words(error)
        raise ConnectError(reason, address=f"tcp://{host}:{port}", problem=problem) from error
    return TcpStream(stream)


def _keep_alive(sock: socket.socket) -> None:
    """Have the operating system notice a far end that vanished without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    lost_after_s = KEEPALIVE_IDLE_S + KEEPALIVE_EVERY_S * KEEPALIVE_TRIES
    for option, value in (
        # Nothing is asked while output waits to be taken: that has a limit of its own.
        ("TCP_USER_TIMEOUT", lost_after_s * 1000),
        ("TCP_KEEPALIVE", KEEPALIVE_IDLE_S),  # as macOS calls the next one
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_TRIES),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _in_words(error: OSError) -> tuple[str, ConnectProblem]:
    if isinstance(error, socket.gaierror):
        return f"the host is not known: {error.strerror}", ConnectProblem.UNKNOWN_HOST
    cause = error.__cause__
    attempts: Sequence[Exception] = [error]
    if isinstance(cause, ExceptionGroup):
        attempts = cast("ExceptionGroup[Exception]", cause).exceptions
    refused = any(isinstance(attempt, ConnectionRefusedError) for attempt in attempts)
    words = {_strerror(attempt) for attempt in attempts}
    return (
        f"no connection: {'; '.join(sorted(words))}",
        ConnectProblem.REFUSED if refused else ConnectProblem.UNREACHABLE,
    )


def _strerror(error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code) if code else str(error)
