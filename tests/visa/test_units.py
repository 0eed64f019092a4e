"""On a board each instrument is read by its address, and falls out of step alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
from attrs import evolve

from tests.support.stepwise import ask
from tests.support.visa_sim import plug_into_visa
from transports import (
    GPIB,
    ConnectError,
    EchoModel,
    Exchange,
    Lines,
    LineStaleError,
    LineState,
    PeerLostError,
    ReplyTimeoutError,
    SimLine,
    Transport,
    make_transport,
    parse_address,
)

UNITS = ("5", "7", "9,1")


@asynccontextmanager
async def board(number: int) -> AsyncGenerator[tuple[Transport, dict[str, SimLine]]]:
    """Open a board with three instruments."""
    lines = {unit: SimLine(EchoModel(f"benchtree,echo,{unit},0")) for unit in UNITS}
    with ExitStack() as plugged:
        for unit, line in lines.items():
            name = f"GPIB{number}::{unit.replace(',', '::')}::INSTR"
            plugged.enter_context(plug_into_visa(line, name))
        address = parse_address(f"GPIB{number}?backend=@sim")
        profile = evolve(GPIB, lateness_s=0.2)
        transport = make_transport(address, framing=Lines(), profile=profile)
        await transport.open()
        try:
            yield transport, lines
        finally:
            await transport.aclose()


def _state(transport: Transport) -> LineState:
    return transport.state


async def test_each_instrument_answers_for_itself() -> None:
    """Primary and secondary addresses lead to their own instruments."""
    async with board(20) as (transport, _):
        for unit in UNITS:
            reply = await transport.exchange(Exchange(b"*IDN?\n", unit))
            assert reply.data == f"benchtree,echo,{unit},0".encode()


async def test_one_stale_instrument_keeps_nobody_waiting() -> None:
    """A reply owed by one instrument concerns that one only."""
    async with board(21) as (transport, lines):
        await ask(transport, "ECHO first", unit="5")
        lines["5"].late(0.1)
        with pytest.raises(ReplyTimeoutError):
            await ask(transport, "ECHO late", within_s=0.02, unit="5")
        assert [each.request for each in transport.owed("5")] == [b"ECHO late\n"]
        assert transport.owed("7") == ()
        assert len(transport.owed()) == 1
        assert _state(transport) is LineState.STALE
        reply = await transport.exchange(Exchange(b"ECHO meanwhile\n", "7"))
        assert reply.data == b"meanwhile"
        with pytest.raises(LineStaleError):
            await transport.exchange(Exchange(b"ECHO refused\n", "5"))
        assert await ask(transport, "ECHO next", unit="5") == "next"
        assert _state(transport) is LineState.READY
        assert transport.counters.resyncs == 1


@pytest.mark.parametrize("can_clear", [True, False])
async def test_it_is_cleared_before_it_is_asked_again(
    can_clear: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What owes a reply is cleared, before the fence; where it cannot be, it is opened anew."""
    cleared: list[int] = []
    async with board(25) as (transport, lines):
        if can_clear:

            def clear(*_: object) -> None:
                cleared.append(len(lines["5"].requests))

            monkeypatch.setattr("pyvisa_sim.highlevel.SimVisaLibrary.clear", clear)
        await ask(transport, "ECHO first", unit="7")
        lines["5"].late(0.1)
        with pytest.raises(ReplyTimeoutError):
            await ask(transport, "ECHO late", within_s=0.02, unit="5")
        opened = transport.counters.opened
        assert await ask(transport, "ECHO next", unit="5") == "next"
        assert [data for _, data in lines["5"].requests] == [
            b"ECHO late\n",
            b"*IDN?\n",
            b"ECHO next\n",
        ]
        assert cleared == [1] * can_clear
        assert transport.counters.opened == opened + (not can_clear)


async def test_a_read_given_up_on_one_delays_the_next_on_another() -> None:
    """The library is busy until the call returns; the other's question waits, and is answered."""
    async with board(22) as (transport, _):
        await ask(transport, "ECHO first", unit="5")
        with trio.move_on_after(0.01) as scope:
            await ask(transport, "WAIT 0.1 slow", unit="5")
        assert scope.cancelled_caught
        assert await ask(transport, "ECHO quick", unit="7") == "quick"
        assert await ask(transport, "ECHO next", unit="5") == "next"


async def test_an_instrument_that_is_away_leaves_the_board_open() -> None:
    """Who is switched off is a fault of its own; the others are read, and it comes back."""
    async with board(23) as (transport, lines):
        for unit in ("5", "7"):
            await ask(transport, "ECHO first", unit=unit)
        lines["5"].unplug()
        for _ in range(2):
            with pytest.raises((PeerLostError, ConnectError)) as away:
                await ask(transport, "ECHO gone", unit="5")
            assert "VI_ERROR" in str(away.value)
            assert transport.state is not LineState.CLOSED
            assert await ask(transport, "ECHO here", unit="7") == "here"
        lines["5"].replug()
        assert await ask(transport, "ECHO back", unit="5") == "back"


async def test_a_unit_that_was_never_there() -> None:
    """An address with nobody behind it says so, with VISA's own code."""
    async with board(24) as (transport, _):
        with pytest.raises(ConnectError, match="VI_ERROR_RSRC_NFOUND") as nobody:
            await transport.exchange(Exchange(b"*IDN?\n", "11"))
        assert nobody.value.code == -1073807343
        assert transport.state is LineState.READY
