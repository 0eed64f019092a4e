"""Waveforms of many megabytes arrive whole, and leave the event loop free meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define

from tests.support.hislip_process import hislip_process
from tests.transports.kinds import KINDS
from transports import (
    Exchange,
    Lines,
    SimLine,
    SimProcess,
    SimReply,
    SimSpec,
    Transport,
    make_transport,
    parse_address,
)

SIZE = 16_000_000
HELD_S = 0.010


class Scope:
    """Answers `DATA?` with a block, and `OPEN?` with one that does not tell its length."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer."""
        del now_s
        if data.startswith(b"OPEN?"):
            return [SimReply(b"#0" + self.data + b"\n")]
        size = str(len(self.data)).encode()
        return [SimReply(b"#%d%s%s\n" % (len(size), size, self.data))]

    def reset(self, now_s: float) -> None:
        """Have nothing to forget."""


@define
class Pulse:
    """How long the event loop was away from a task that only wants its turn.

    Attributes:
        gaps_s: Every turn's lateness, in seconds.
    """

    gaps_s: list[float]

    async def beat(self) -> None:
        """Take a turn every millisecond."""
        while True:
            due_s = trio.current_time() + 0.001
            used_s = time.process_time()
            await trio.sleep_until(due_s)
            # What other programs took of the machine does not count.
            self.gaps_s.append(min(trio.current_time() - due_s, time.process_time() - used_s))


async def _fetch(transport: Transport, request: bytes) -> bytes:
    exchange = Exchange(request, reply_within_s=60.0)
    return (await transport.exchange(exchange)).data


def make_scope() -> Scope:
    """Return the instrument that another process serves."""
    return Scope(_waveform(SIZE))


def _waveform(size: int) -> bytes:
    # With terminators, block marks and everything else inside.
    return random.Random(size).randbytes(size)


@asynccontextmanager
async def _elsewhere(kind: str) -> AsyncGenerator[Transport]:
    """Serve a scope in another process, so that only the reading is measured here."""
    model = f"{__name__}:make_scope"
    if kind == "visa-hislip":
        async with hislip_process(model) as port:
            yield _line(f"TCPIP::127.0.0.1::hislip0,{port}::INSTR?backend=@py")
    else:
        async with SimProcess([SimSpec(model=model, host="tcp")]) as process:
            address = process.lines[0].address
            port = parse_address(address).port
            visa = f"visa://TCPIP::127.0.0.1::{port}::SOCKET?backend=@py"
            yield _line(visa if kind == "visa-socket" else address)


def _line(text: str) -> Transport:
    return make_transport(parse_address(text), framing=Lines())


async def _fetch_watched(transport: Transport) -> tuple[bytes, float]:
    """Return a block, and the longest time that the event loop was held meanwhile."""
    pulse = Pulse([])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.beat)
        await trio.sleep(0.05)
        pulse.gaps_s.clear()
        block = await _fetch(transport, b"DATA?\n")
        await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    return block, max(pulse.gaps_s)


@pytest.mark.parametrize("kind", ["visa-hislip", "visa-socket", "tcp"])
async def test_sixteen_megabytes(kind: str) -> None:
    """A definite block of 16 MB is intact, and the event loop is never held for 10 ms.

    The calmest of some fetches counts: a collection of garbage is nobody's fault.
    """
    expected = b"#816000000" + _waveform(SIZE)
    held_s: list[float] = []
    async with _elsewhere(kind) as transport:
        await transport.open()
        try:
            while not held_s or (min(held_s) >= HELD_S and len(held_s) < 5):
                block, longest_s = await _fetch_watched(transport)
                assert block == expected
                held_s.append(longest_s)
        finally:
            await transport.aclose()
    assert min(held_s) < HELD_S


@pytest.mark.parametrize("kind", ["visa-hislip", "visa-gpib", "visa-usbtmc"])
async def test_a_block_without_a_length(kind: str) -> None:
    """An indefinite block ends where its message does, whatever it holds."""
    bench = KINDS[kind].bench
    # Longer than what is read at once where that takes no time; pyvisa-sim reads byte by byte,
    # and marks the end of a message by a line feed.
    long = kind == "visa-hislip"
    data = _waveform(300_000) if long else _waveform(3_000).replace(b"\n", b"x")
    async with bench.serve(SimLine(Scope(data)), False) as make:
        transport = make(bench.profile)
        await transport.open()
        try:
            exchange = Exchange(b"OPEN?\n", bench.unit, 30.0)
            assert (await transport.exchange(exchange)).data == b"#0" + data
        finally:
            await transport.aclose()
