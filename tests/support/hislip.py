"""A small HiSLIP server (IVI-6.1) in front of a simulated line."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import define, field

from transports import SimLine

_HEADER: Final = struct.Struct("!2sBBIQ")
_ANY_VERSION: Final = 0x0100_0000

# Message types of IVI-6.1, table 4.
_INITIALIZE, _INITIALIZE_RESPONSE = 0, 1
_LOCK, _LOCK_RESPONSE = 4, 5
_DATA, _DATA_END = 6, 7
_CLEAR_COMPLETE, _CLEAR_ACKNOWLEDGE = 8, 9
_TRIGGER = 12
_MAX_SIZE, _MAX_SIZE_RESPONSE = 15, 16
_ASYNC_INITIALIZE, _ASYNC_INITIALIZE_RESPONSE = 17, 18
_ASYNC_CLEAR, _ASYNC_CLEAR_ACKNOWLEDGE = 19, 23
_STATUS, _STATUS_RESPONSE = 21, 22

LARGEST: Final = 1 << 18
"""The longest message that the server sends in one piece."""


@define
class _Client:
    """One session: two connections.

    Attributes:
        message_id: The number of the last request; its replies carry it.
        held: The part of a request that has come.
        changed: Notified when replies are due.
    """

    stream: trio.SocketStream
    message_id: int = 0
    held: bytearray = field(factory=bytearray)
    due: list[tuple[float, int, bytes]] = field(factory=list[tuple[float, int, bytes]])
    changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    output: bytearray = field(factory=bytearray)


class _Server:
    def __init__(self, line: SimLine, status: Callable[[], int]) -> None:
        self._line = line
        self._status = status
        self._clients: dict[int, _Client] = {}
        self._numbers = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                kind, _, parameter, _ = await _receive(stream)
                if kind == _INITIALIZE:
                    await self._serve_data(stream)
                elif kind == _ASYNC_INITIALIZE:
                    await _send(stream, _ASYNC_INITIALIZE_RESPONSE)
                    await self._serve_control(stream, self._clients[parameter])
        except* (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass  # the client left

    def collect(self) -> None:
        """Send what the line released."""
        for client in self._clients.values():
            self._add(client, self._line.collect(trio.current_time()))

    async def _serve_data(self, stream: trio.SocketStream) -> None:
        self._numbers += 1
        client = self._clients[self._numbers] = _Client(stream)
        try:
            await _send(stream, _INITIALIZE_RESPONSE, parameter=_ANY_VERSION | self._numbers)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_due, client)
                while True:
                    kind, _, parameter, payload = await _receive(stream)
                    if kind in (_DATA, _DATA_END):
                        client.message_id = parameter
                        client.held += payload
                    if kind == _DATA_END:
                        request = bytes(client.held)
                        client.held.clear()
                        client.output.clear()
                        self._add(client, self._line.receive(request, trio.current_time()))
                    elif kind == _TRIGGER:
                        client.message_id = parameter
                        self._line.receive(b"*TRG\n", trio.current_time())
                    elif kind == _CLEAR_COMPLETE:
                        await _send(stream, _CLEAR_ACKNOWLEDGE)
        finally:
            del self._clients[self._numbers]

    async def _serve_control(self, stream: trio.SocketStream, client: _Client) -> None:
        while True:
            kind, _, _, _ = await _receive(stream)
            if kind == _STATUS:
                await _send(stream, _STATUS_RESPONSE, control=self._status())
            elif kind == _ASYNC_CLEAR:
                client.due.clear()
                client.held.clear()
                client.output.clear()
                await _send(stream, _ASYNC_CLEAR_ACKNOWLEDGE)
            elif kind == _MAX_SIZE:
                await _send(stream, _MAX_SIZE_RESPONSE, payload=struct.pack("!Q", LARGEST))
            elif kind == _LOCK:
                await _send(stream, _LOCK_RESPONSE, control=1)

    def _add(self, client: _Client, replies: list[tuple[float, bytes]]) -> None:
        client.due += [(due_s, client.message_id, data) for due_s, data in replies]
        client.changed.unpark_all()

    async def _send_due(self, client: _Client) -> None:
        while True:
            if not client.due:
                await client.changed.park()
                continue
            await trio.sleep_until(client.due[0][0])
            if not client.due:
                continue
            _, message_id, data = client.due.pop(0)
            client.output += data
            # A message ends where a line does; what is left waits for its end.
            end = client.output.rfind(b"\n") + 1
            message = bytes(client.output[:end])
            del client.output[:end]
            for start in range(0, len(message), LARGEST):
                part = message[start : start + LARGEST]
                last = start + LARGEST >= len(message)
                kind = _DATA_END if last else _DATA
                await _send(client.stream, kind, parameter=message_id, payload=part)


@asynccontextmanager
async def serve_hislip(
    line: SimLine, *, status: Callable[[], int] = lambda: 0
) -> AsyncGenerator[int]:
    """Serve a line as a HiSLIP instrument on the loopback and yield its port.

    Unplugging closes all connections and stops listening; plugging in listens again.
    """
    changed = trio.lowlevel.ParkingLot()
    scope = trio.CancelScope()
    server = _Server(line, status)
    listener, port = _listen(0)
    plugged = True

    def note() -> None:
        nonlocal listener, plugged
        if not line.plugged:
            scope.cancel()
            listener.socket.close()
        elif not plugged:
            listener, _ = _listen(port)
        else:
            server.collect()
        plugged = line.plugged
        changed.unpark_all()

    async def serve() -> None:
        nonlocal scope
        while True:
            if plugged:
                with trio.CancelScope() as scope:
                    await trio.serve_listeners(server.serve, [listener])
            else:
                await changed.park()

    unwatch = line.watch(note)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield port
            nursery.cancel_scope.cancel()
    finally:
        unwatch()
        listener.socket.close()


def _listen(port: int) -> tuple[trio.SocketListener, int]:
    listening = socket.create_server(("127.0.0.1", port))
    chosen = int(listening.getsockname()[1])
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening)), chosen


async def _receive(stream: trio.SocketStream) -> tuple[int, int, int, bytes]:
    _, kind, control, parameter, size = _HEADER.unpack(await _exactly(stream, _HEADER.size))
    return kind, control, parameter, await _exactly(stream, size)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    held = bytearray()
    while len(held) < size:
        data = await stream.receive_some(size - len(held))
        if not data:
            raise EOFError
        held += data
    return bytes(held)


async def _send(
    stream: trio.SocketStream,
    kind: int,
    *,
    control: int = 0,
    parameter: int = 0,
    payload: bytes = b"",
) -> None:
    await stream.send_all(_HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload)
