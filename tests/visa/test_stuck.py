"""A call into the VISA library that does not return keeps its session, and nothing else."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time

import pytest
import trio
from attrs import evolve

from actors import BreakerState, Bus, Cause, CommandError, Events, RefusedError
from actors.breaker import BreakerPolicy
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from tests.support.visa_sim import plug_into_visa
from transports import (
    USBTMC,
    ConnectError,
    EchoModel,
    Exchange,
    Lines,
    LineState,
    PeerLostError,
    SimLine,
    make_transport,
    parse_address,
)

RESOURCE = "USB0::0x1AB1::0x0588::STUCK::INSTR"


class _Sticky(SimLine):
    """A line whose library hangs in writing, whatever time limit it was given."""

    def __init__(self, model: EchoModel | PowerSupplyModel) -> None:
        super().__init__(model)
        self.free = threading.Event()
        self.free.set()

    def receive(self, data: bytes, now_s: float) -> list[tuple[float, bytes]]:
        self.free.wait()
        return super().receive(data, now_s)


async def test_the_line_is_closed_until_the_call_returns() -> None:
    """Past its time limit a call has the session to itself; opening waits until it is back."""
    line = _Sticky(EchoModel())
    address = parse_address(f"{RESOURCE}?backend=@sim")
    profile = evolve(USBTMC, reply_within_s=0.05, close_within_s=0.05)
    transport = make_transport(address, framing=Lines(), profile=profile)
    with plug_into_visa(line, RESOURCE):
        await transport.open()
        line.free.clear()
        try:
            with pytest.raises(PeerLostError, match="does not return from a call"):
                await transport.exchange(Exchange(b"ECHO stuck\n", reply_within_s=0.05))
            assert transport.state is LineState.CLOSED
            assert transport.stuck
            with pytest.raises(ConnectError, match="has not returned"):
                await transport.open()
        finally:
            line.free.set()
        with trio.fail_after(5):
            await transport.wait_unstuck()
        await transport.open()
        assert (await transport.exchange(Exchange(b"ECHO back\n"))).data == b"back"
        await transport.aclose()


async def test_a_stuck_bus_is_refused_and_unprobed_until_the_call_returns() -> None:
    """Commands are refused by the breaker, nothing is tried, and the return is used at once."""
    line = _Sticky(PowerSupplyModel())
    profile = evolve(USBTMC, reply_within_s=0.05, close_within_s=0.05)
    address = parse_address(f"{RESOURCE}?backend=@sim")
    transport = make_transport(address, framing=Lines(), profile=profile)
    bus = Bus(
        "stuck",
        transport,
        profile,
        events=Events(),
        sequence=itertools.count(1),
        breaker=BreakerPolicy(open_s=0.05, max_open_s=60.0),
    )
    psu = PowerSupply("psu", bus)
    psu.timeout_s = 0.2
    bus.attach(psu)
    with plug_into_visa(line, RESOURCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bus.run, lambda: None)
            with trio.fail_after(10):
                while bus.status().instruments[0].identity is None:  # noqa: ASYNC110 - no event
                    await trio.sleep(0.01)
            assert await psu.voltage.get() == 0.0
            line.free.clear()
            try:
                with pytest.raises(CommandError) as failed:
                    await psu.voltage.get()
                assert failed.value.cause is Cause.TRANSPORT
                assert transport.stuck
                await trio.sleep(0.5)  # several times the breaker's opening
                assert transport.counters.opened == 1
                assert bus.status().breaker is BreakerState.OPEN
                with pytest.raises(RefusedError):
                    await psu.voltage.get()
            finally:
                line.free.set()
            with trio.fail_after(10):
                while bus.status().breaker is not BreakerState.CLOSED:  # noqa: ASYNC110 - no event
                    await trio.sleep(0.01)
            assert await psu.voltage.get() == 0.0
            nursery.cancel_scope.cancel()


PROGRAM = f"""
import threading, trio
from tests.support.visa_sim import plug_into_visa
from transports import EchoModel, Exchange, Lines, SimLine, make_transport, parse_address

class Sticky(SimLine):
    def receive(self, data, now_s):
        threading.Event().wait()

async def main():
    with plug_into_visa(Sticky(EchoModel()), {RESOURCE!r}):
        address = parse_address({RESOURCE + "?backend=@sim"!r})
        transport = make_transport(address, framing=Lines())
        await transport.open()
        with trio.move_on_after(0.1):
            await transport.exchange(Exchange(b"ECHO stuck\\n"))
        await transport.aclose()

trio.run(main)
print("over", flush=True)
"""


def test_the_end_of_the_program_waits_for_no_call() -> None:
    """A program ends though a call into the VISA library never returns."""
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "over\n"
    assert ended.stderr == ""
    assert time.monotonic() - began_s < 30
