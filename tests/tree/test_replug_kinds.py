"""Unplugged, away and back again, or somebody else: the same on the network and under VISA."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
import trio

from actors import (
    BusLost,
    Cause,
    CommandError,
    IdentityMismatch,
    InstrumentIdentified,
    OnReconnect,
    RefusedError,
    Service,
)
from actors.instruments.scpi.models import PowerSupplyModel
from tests.support.hislip import serve_hislip
from tests.support.visa_sim import plug_into_visa
from tests.tree.test_replug import NOTICED_S, bench, quarantine, service, until
from transports import SimLine, parse_address, serve_pty, serve_tcp

Serve = Callable[[SimLine], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def _visa_socket(line: SimLine) -> AsyncGenerator[str]:
    async with serve_tcp(line) as address:
        yield f"visa://TCPIP::127.0.0.1::{parse_address(address).port}::SOCKET?backend=@py"


@asynccontextmanager
async def _visa_serial(line: SimLine) -> AsyncGenerator[str]:
    with TemporaryDirectory() as folder:
        link = Path(folder) / "tty"
        async with serve_pty(line, link=link):
            yield f"ASRL{link}::INSTR?backend=@py"


@asynccontextmanager
async def _visa_hislip(line: SimLine) -> AsyncGenerator[str]:
    async with serve_hislip(line) as port:
        yield f"TCPIP::127.0.0.1::hislip0,{port}::INSTR?backend=@py"


@asynccontextmanager
async def _visa_usbtmc(line: SimLine) -> AsyncGenerator[str]:
    resource = "USB0::0x1AB1::0x0588::REPLUG::INSTR"
    with plug_into_visa(line, resource):
        yield f"{resource}?backend=@sim"


SERVED: Final[dict[str, Serve]] = {
    "tcp": serve_tcp,
    "visa-socket": _visa_socket,
    "visa-serial": _visa_serial,
    "visa-hislip": _visa_hislip,
    "visa-usbtmc": _visa_usbtmc,
}
SEEN_IDLE: Final = ("tcp", "visa-socket", "visa-serial", "visa-hislip")
"""Where a loss shows though nobody asks; elsewhere the next exchange meets it."""


@pytest.mark.parametrize("kind", SERVED)
async def test_unplugged_and_back(kind: str) -> None:
    """One fault, refusals while it is away, then identity and settings as before."""
    line = SimLine(PowerSupplyModel())
    async with SERVED[kind](line) as address, bench(address) as (tree, psu, seen):
        known = len(seen.of(InstrumentIdentified))
        began_s = trio.current_time()
        line.unplug()
        if kind in SEEN_IDLE:
            await until(lambda: seen.of(BusLost))
        else:
            with pytest.raises(CommandError) as failed:
                await psu.voltage.get()
            assert failed.value.fault is not None
            assert failed.value.fault.kind.name == "DISCONNECTED"
        # A machine with other things to do is given three times as long.
        assert trio.current_time() - began_s < 3 * NOTICED_S
        with pytest.raises(RefusedError) as refused:
            await psu.voltage.get()
        assert refused.value.cause is Cause.BREAKER
        assert refused.value.retry_after_s is not None
        line.reset()
        line.replug()
        await until(lambda: service(tree) is Service.IN_SERVICE)
        assert await psu.voltage.get() == 5.0
        assert len(seen.of(BusLost)) == 1
        assert len(seen.of(InstrumentIdentified)) == known + 1


@pytest.mark.parametrize("kind", SERVED)
async def test_swapped(kind: str) -> None:
    """Another instrument at the same address is told nothing; the right one serves again."""
    line = SimLine(PowerSupplyModel(serial="RIGHT"))
    right = line.model
    async with SERVED[kind](line) as address, bench(address) as (tree, psu, seen):
        line.unplug()
        with pytest.raises(CommandError):
            await psu.voltage.get()
        line.model = PowerSupplyModel(serial="WRONG")
        line.requests.clear()
        line.replug()
        await until(lambda: seen.of(IdentityMismatch))
        with pytest.raises(RefusedError, match=r"IDENTITY_MISMATCH.*'WRONG', expected 'RIGHT'"):
            await psu.voltage.set(7.0)
        assert "IDENTITY_MISMATCH" in quarantine(tree)
        assert not any(b"VOLT" in data for _, data in line.requests)
        line.unplug()
        line.model = right
        line.replug()
        await until(lambda: service(tree) is Service.IN_SERVICE)
        assert await psu.voltage.get() == 5.0


@pytest.mark.parametrize("kind", ["tcp", "visa-socket"])
async def test_kept_out_until_rearmed(kind: str) -> None:
    """With on_reconnect = "quarantine" nothing is written, and nobody served, before `rearm`."""
    line = SimLine(PowerSupplyModel())
    async with (
        SERVED[kind](line) as address,
        bench(address, OnReconnect.QUARANTINE) as (tree, psu, seen),
    ):
        line.unplug()
        await until(lambda: seen.of(BusLost))
        line.reset()
        line.requests.clear()
        line.replug()
        await until(lambda: "waits to be rearmed" in quarantine(tree))
        with pytest.raises(RefusedError, match="rearmed"):
            await psu.voltage.get()
        assert not any(b"VOLT 5" in data for _, data in line.requests)
        tree.rearm("psu")
        await until(lambda: service(tree) is Service.IN_SERVICE)
        assert await psu.voltage.get() == 5.0
