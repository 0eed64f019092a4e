"""The simulated board as a server: one client at a time, latency, and faults."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio

from actors.instruments.red_pitaya import RedPitayaModel
from transports.sim import RemoteLine, SimLine, SimProcess, SimSpec, serve_tcp

from .board import HEADER, HK

READ_ID = HEADER.pack(b"r", 0, 1, HK)
ID = READ_ID + struct.pack("<I", 1)


class Client:
    """One connection to the board."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def ask(self, request: bytes = READ_ID, answer_bytes: int = len(ID)) -> bytes:
        """Return the answer, or what comes of it before the board closes."""
        await self.stream.send_all(request)
        answer = b""
        while len(answer) < answer_bytes and (data := await self.stream.receive_some()):
            answer += bytes(data)
        return answer


Connect = Callable[[str], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncGenerator[Connect]:
    """Connect to boards; the connections are closed in the end."""
    async with AsyncExitStack() as opened:

        async def connect(address: str) -> Client:
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            stream = await trio.open_tcp_stream(host, int(port))
            return Client(await opened.enter_async_context(stream))

        yield connect


@pytest.fixture
async def line() -> AsyncGenerator[RemoteLine]:
    """Serve a board from a process of its own."""
    model = "actors.instruments.red_pitaya:RedPitayaModel"
    async with SimProcess([SimSpec(model=model, one_client=True)]) as process:
        yield process.lines[0]


async def test_a_new_client_ends_the_one_before(line: RemoteLine, connect: Connect) -> None:
    """The second connection is served from a clean start; the first one is closed."""
    first = await connect(line.address)
    assert await first.ask() == ID
    await first.stream.send_all(READ_ID[:3])
    second = await connect(line.address)
    with trio.fail_after(10):
        assert await second.ask() == ID
        assert await first.stream.receive_some() == b""
    assert await line.ask_model("clients") == 2


async def test_clients_share_a_line_that_has_room_for_them(connect: Connect) -> None:
    """Without `one_client` a new connection leaves the others alone."""
    async with serve_tcp(SimLine(RedPitayaModel())) as address:
        clients = [await connect(address) for _ in range(3)]
        with trio.fail_after(10):
            for client in clients:
                assert await client.ask() == ID


async def test_latency_counts_for_every_access(line: RemoteLine, connect: Connect) -> None:
    """With a latency of 20 ms a register access takes at least that long."""
    await line.set_latency(0.02)
    client = await connect(line.address)
    before_s = trio.current_time()
    for _ in range(5):
        assert await client.ask() == ID
    assert trio.current_time() - before_s >= 0.1


async def test_frozen_board_says_nothing_until_it_thaws(line: RemoteLine, connect: Connect) -> None:
    """A stalled board keeps the connection and is silent; afterwards a new client is served."""
    client = await connect(line.address)
    await line.hang()
    with trio.move_on_after(0.3) as scope:
        await client.ask()
    assert scope.cancelled_caught
    await line.unhang()
    again = await connect(line.address)
    with trio.fail_after(10):
        assert await again.ask() == ID


async def test_dropped_board_is_gone_and_comes_back(line: RemoteLine, connect: Connect) -> None:
    """Unplugged, the board closes its connection and refuses new ones; its registers stay."""
    client = await connect(line.address)
    write = HEADER.pack(b"w", 0, 1, HK + 0x30) + struct.pack("<I", 0x33)
    assert await client.ask(write, 8) == write[:8]
    await line.unplug()
    with trio.fail_after(10):
        assert await client.stream.receive_some() == b""
    with pytest.raises(OSError, match=r"."):
        await connect(line.address)
    await line.replug()
    again = await connect(line.address)
    read = HEADER.pack(b"r", 0, 1, HK + 0x30)
    assert await again.ask(read) == read + struct.pack("<I", 0x33)


async def test_garbage_is_seen_as_garbage(line: RemoteLine, connect: Connect) -> None:
    """A garbled reply differs from the right one; the next one is right again."""
    client = await connect(line.address)
    await line.garble()
    assert await client.ask() != ID
    assert await client.ask() == ID
    await line.foreign(b"\0" * len(ID))
    assert await client.ask() == b"\0" * len(ID)
    assert await client.ask() == ID


async def test_power_cycle_forgets_settings(line: RemoteLine, connect: Connect) -> None:
    """A power cycle sets the registers back."""
    client = await connect(line.address)
    write = HEADER.pack(b"w", 0, 1, HK + 0x30) + struct.pack("<I", 0x33)
    await client.ask(write, 8)
    await line.reset()
    read = HEADER.pack(b"r", 0, 1, HK + 0x30)
    assert await client.ask(read) == read + struct.pack("<I", 0)
