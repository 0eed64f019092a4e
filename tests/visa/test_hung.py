"""Buses that hang, each in a thread of its own, delay no other."""

from __future__ import annotations

import statistics
from contextlib import AsyncExitStack
from itertools import pairwise

import trio

from transports import (
    TCP,
    EchoModel,
    Exchange,
    Lines,
    ReplyTimeoutError,
    SimLine,
    Transport,
    make_transport,
    parse_address,
    serve_tcp,
)

HUNG = 40
EXCHANGES = 150


async def _open(stack: AsyncExitStack, line: SimLine) -> Transport:
    address = await stack.enter_async_context(serve_tcp(line))
    resource = f"visa://TCPIP::127.0.0.1::{parse_address(address).port}::SOCKET?backend=@py"
    transport = make_transport(parse_address(resource), framing=Lines(), profile=TCP)
    await transport.open()
    stack.push_async_callback(transport.aclose)
    return transport


async def _hang(transport: Transport, hanging: list[Transport]) -> None:
    hanging.append(transport)
    try:
        await transport.exchange(Exchange(b"WAIT 60 never\n", reply_within_s=30.0))
    except ReplyTimeoutError:
        raise AssertionError("it has to hang for the whole test") from None


async def _time(transport: Transport) -> list[float]:
    """Return how long exchanges take, in seconds."""
    stamps = [trio.current_time()]
    for index in range(EXCHANGES):
        word = str(index).encode()
        reply = await transport.exchange(Exchange(b"ECHO " + word + b"\n"))
        assert reply.data == word
        stamps.append(trio.current_time())
    return [after - before for before, after in pairwise(stamps)]


async def test_forty_hung_buses_delay_a_healthy_one_by_nothing_much() -> None:
    """With 40 calls hanging in VISA, a healthy bus is less than 10 ms slower than without."""
    async with AsyncExitStack() as stack:
        healthy = await _open(stack, SimLine(EchoModel()))
        hung = [await _open(stack, SimLine(EchoModel())) for _ in range(HUNG)]
        before = await _time(healthy)
        hanging: list[Transport] = []
        async with trio.open_nursery() as nursery:
            for each in hung:
                nursery.start_soon(_hang, each, hanging)
            await trio.sleep(0.2)
            assert len(hanging) == HUNG
            during = await _time(healthy)
            nursery.cancel_scope.cancel()
        assert statistics.median(during) - statistics.median(before) < 0.010
