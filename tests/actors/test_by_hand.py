"""Breakers opened and closed by hand, and every change of them told."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors import BreakerChanged, BreakerState, BusOpened, Cause, Priority, RefusedError, Service

from .bench import SHARED, Parts, Witness, WitnessModel, running


async def test_an_instrument_opened_by_hand(autojump_clock: MockClock) -> None:
    """It is left alone until it is closed, and identified first then; others go on."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        waiting = await bench.bus.submit(b, b.read("slow", wait_s=0.5))
        queued = await bench.bus.submit(a, a.read("queued"))
        bench.bus.force_open("being mended", instrument="a")
        error = (await queued.outcome()).error
        assert error is not None
        assert error.cause is Cause.BREAKER
        assert error.retry_after_s is None
        assert "retry" not in str(error)
        with pytest.raises(RefusedError, match="being mended") as refused:
            await bench.bus.submit(a, a.read("no"))
        assert refused.value.retry_after_s is None
        assert (await waiting.outcome()).ok
        before = len(bench.sent())
        await trio.sleep(3600.0)
        assert len(bench.sent()) == before
        assert bench.status("a").service is Service.QUARANTINED
        bench.bus.force_close(instrument="a")
        ticket = await bench.bus.submit(a, a.read("yes"))
        assert (await ticket.outcome()).value == "yes"
        assert bench.sent()[before:] == ["A:ID", "A:ASK yes"]


async def test_a_bus_opened_by_hand(autojump_clock: MockClock) -> None:
    """Its line is closed and stays so; closed by hand it is opened anew."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        bench.bus.force_open("the cable is moved")
        with pytest.raises(RefusedError, match="the cable is moved"):
            await bench.bus.submit(a, a.read("no"))
        await trio.sleep(3600.0)
        assert bench.bus.status().line.name == "CLOSED"
        bench.bus.force_close()
        ticket = await bench.bus.submit(a, a.read("yes"))
        assert (await ticket.outcome()).value == "yes"
        assert len(bench.of(BusOpened)) == 2
        changes = [(each.name, each.state) for each in bench.of(BreakerChanged)]
        assert changes == [("bus", BreakerState.OPEN), ("bus", BreakerState.CLOSED)]


async def test_an_emergency_needs_no_hand(autojump_clock: MockClock) -> None:
    """What was opened by hand is reached by an emergency and driven safe all the same."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        bench.bus.force_open("the cable is moved")
        await trio.sleep(10.0)
        ticket = await bench.bus.submit(a, a.write("out 0"), priority=Priority.EMERGENCY)
        assert (await ticket.outcome()).ok


async def test_every_change_is_told(autojump_clock: MockClock) -> None:
    """Opening, probing, opening again and closing are events, in this order."""
    a = Witness("a", within_s=0.1)
    async with running(WitnessModel(), a) as bench:
        bench.line.unplug()
        await trio.sleep(3.0)
        bench.line.replug()
        await bench.in_service()
        changes = [each.state for each in bench.of(BreakerChanged) if each.name == "bus"]
        assert changes == [
            BreakerState.OPEN,
            BreakerState.HALF_OPEN,
            BreakerState.OPEN,
            BreakerState.HALF_OPEN,
            BreakerState.CLOSED,
        ]
