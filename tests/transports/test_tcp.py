"""TCP connections, over the loopback."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from typing import Final

import pytest
import trio
import trio.testing
from attrs import evolve

from transports import (
    TCP,
    ConnectError,
    Exchange,
    LineClosedError,
    Lines,
    LineState,
    PeerLostError,
    Transport,
    connect_tcp,
    make_transport,
    parse_address,
    tcp,
)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Return a socket that listens and never accepts by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _transport(listener: socket.socket) -> Transport:
    address = parse_address(f"tcp://127.0.0.1:{_port(listener)}")
    return make_transport(address, framing=Lines())


async def test_nobody_listens(listener: socket.socket) -> None:
    """A refused connection says so, with the address."""
    port = _port(listener)
    listener.close()
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: .*refused"):
        await connect_tcp("127.0.0.1", port)


async def test_unknown_host() -> None:
    """A host that does not exist is said to be unknown."""
    with pytest.raises(ConnectError, match="host is not known"):
        await connect_tcp("nobody.invalid", 5025)


async def test_far_end_closes(listener: socket.socket) -> None:
    """An orderly close by the far end is a loss, noticed while idle and when reading."""
    stream = await connect_tcp("127.0.0.1", _port(listener))
    far, _ = listener.accept()
    far.sendall(b"last words")
    far.close()
    with trio.fail_after(5):
        await stream.wait_lost(0.01)
        await stream.wait_readable()
    assert stream.read_nowait() == b"last words"
    with pytest.raises(PeerLostError, match="closed"):
        stream.read_nowait()
    await stream.aclose()


async def test_far_end_resets(listener: socket.socket) -> None:
    """A reset is a loss, for readers and writers."""
    stream = await connect_tcp("127.0.0.1", _port(listener))
    far, _ = listener.accept()
    # Lingering for zero seconds turns the close into a reset.
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with trio.fail_after(5):
        await stream.wait_readable()
    with pytest.raises(PeerLostError, match="broke"):
        stream.read_nowait()
    with pytest.raises(PeerLostError):
        stream.write_nowait(b"x")
    await stream.aclose()


async def test_closed_stream(listener: socket.socket) -> None:
    """A closed stream refuses everything and has nothing to wait for."""
    stream = await connect_tcp("127.0.0.1", _port(listener))
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(LineClosedError):
        stream.write_nowait(b"x")
    with pytest.raises(LineClosedError):
        stream.read_nowait()
    with pytest.raises(LineClosedError):
        await stream.wait_readable()
    with pytest.raises(LineClosedError):
        await stream.wait_writable()
    await stream.wait_lost(1.0)


async def test_half_a_request_costs_the_connection(listener: socket.socket) -> None:
    """A request that was cancelled half sent closes the line: the far end has half of it."""
    transport = _transport(listener)
    await transport.open()
    with trio.move_on_after(0.05) as scope:
        await transport.exchange(Exchange(b"x" * 50_000_000, reply_within_s=None))
    assert scope.cancelled_caught
    assert transport.state is LineState.CLOSED


async def test_bytes_that_nobody_asked_for(listener: socket.socket) -> None:
    """What arrives while nothing is asked is counted and answers no question."""
    transport = _transport(listener)
    await transport.open()
    far, _ = listener.accept()
    with far:
        far.sendall(b"hello, I am your instrument\n")
        await trio.testing.wait_all_tasks_blocked(0.02)

        async def answer() -> None:
            await trio.lowlevel.wait_readable(far)
            far.sendall(b"right\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            reply = await transport.exchange(Exchange(b"ASK\n"))
    assert reply.data == b"right"
    assert transport.counters.unsolicited_bytes == 28
    await transport.aclose()


@pytest.mark.parametrize("every_s", [0.02, 0.0])
async def test_idle_line_is_flushed(every_s: float, listener: socket.socket) -> None:
    """What arrives unasked on an idle line is thrown away meanwhile, if the profile says so."""
    address = parse_address(f"tcp://127.0.0.1:{_port(listener)}")
    profile = evolve(TCP, flush_every_s=every_s)
    transport = make_transport(address, framing=Lines(), profile=profile)
    await transport.open()
    far, _ = listener.accept()
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_lost)
            far.setblocking(False)
            talk, sent = b"I have much to say\n" * 10_000, 0
            with trio.move_on_after(5.0 if every_s else 0.3):
                # More than the buffers of both ends hold: only who is heard can go on.
                while sent < 8_000_000:
                    await trio.lowlevel.wait_writable(far)
                    sent += far.send(talk)
                while transport.counters.unsolicited_bytes < sent:  # noqa: ASYNC110 - no event
                    await trio.sleep(every_s)
            assert transport.counters.unsolicited_bytes == (sent if every_s else 0)
            assert sent > 8_000_000 or not every_s
            # The end of the connection is found as well.
            far.close()
            with trio.fail_after(5.0):
                while every_s and transport.state is LineState.READY:  # noqa: ASYNC110 - no event
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    await transport.aclose()


async def test_flushing_leaves_replies_alone(listener: socket.socket) -> None:
    """A line that waits for a reply, or owes one, is not flushed."""
    address = parse_address(f"tcp://127.0.0.1:{_port(listener)}")
    profile = evolve(TCP, flush_every_s=0.005)
    transport = make_transport(address, framing=Lines(), profile=profile)
    await transport.open()
    far, _ = listener.accept()

    async def answer() -> None:
        await trio.lowlevel.wait_readable(far)
        for each in b"in pieces\n":
            far.send(bytes((each,)))
            await trio.sleep(0.01)

    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_lost)
            nursery.start_soon(answer)
            reply = await transport.exchange(Exchange(b"ASK\n", reply_within_s=5.0))
            assert reply.data == b"in pieces"
            nursery.cancel_scope.cancel()
    assert transport.counters.unsolicited_bytes == 0
    await transport.aclose()


async def test_no_connection_in_time() -> None:
    """A connection that does not come within the profile's time fails."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        filler = [socket.socket() for _ in range(4)]
        for each in filler:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        address = parse_address(f"tcp://127.0.0.1:{_port(full)}")
        hurried = evolve(TCP, connect_within_s=0.1)
        transport = make_transport(address, framing=Lines(), profile=hurried)
        with pytest.raises(ConnectError, match=r"waited 0.1 s"):
            await transport.open()
        assert transport.state is LineState.CLOSED
        for each in filler:
            each.close()


# Linux classic BPF: one instruction, "return 0": every packet to the socket is dropped.
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
_SO_ATTACH_FILTER: Final = 26


def go_deaf(sock: socket.socket) -> None:
    """Let a socket hear nothing more, nor answer: as if its cable were pulled."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    head = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)  # the kernel keeps a copy


@pytest.mark.parametrize("output", [b"", b"OUTP OFF\n"])
async def test_half_open_connection(output: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A far end that vanishes without a word is missed, whether or not output waits for it."""
    monkeypatch.setattr(tcp, "KEEPALIVE_IDLE_S", 1)
    monkeypatch.setattr(tcp, "KEEPALIVE_EVERY_S", 1)
    monkeypatch.setattr(tcp, "KEEPALIVE_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stream = await connect_tcp("127.0.0.1", listening.getsockname()[1])
        far, _ = listening.accept()
        with far:
            go_deaf(far)
            assert stream.write_nowait(output) == len(output)
            with trio.fail_after(10.0):
                await stream.wait_lost(0.05)
        await stream.aclose()
