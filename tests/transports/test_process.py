"""Simulated instruments in a process of their own."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from transports import (
    BlockingSimProcess,
    ConnectError,
    EchoModel,
    Exchange,
    ForeignReplyError,
    Lines,
    PeerLostError,
    RemoteLine,
    ReplyTimeoutError,
    SimProcess,
    SimSpec,
    Transport,
    TransportError,
    make_transport,
    parse_address,
)

MODEL = "transports:EchoModel"


async def _open(line: RemoteLine) -> Transport:
    transport = make_transport(parse_address(line.address), framing=Lines())
    await transport.open()
    return transport


async def _ask(transport: Transport, text: str, within_s: float = 5.0) -> bytes:
    exchange = Exchange(
        f"ECHO {text}\n".encode(),
        reply_within_s=within_s,
        accepts=lambda data: data == text.encode(),
    )
    return (await transport.exchange(exchange)).data


@pytest.mark.parametrize("host", ["tcp", "pty"])
async def test_life(tmp_path: Path, host: str) -> None:
    """A line can be used, unplugged, plugged in again at the same address, and looked into."""
    spec = SimSpec(
        model=MODEL,
        arguments={"identity": "me"},
        host="pty" if host == "pty" else "tcp",
        link=str(tmp_path / "port"),
    )
    with trio.fail_after(20):
        async with SimProcess([spec]) as process:
            (line,) = process.lines
            transport = await _open(line)
            assert await _ask(transport, "1") == b"1"
            assert await line.ask_model("heard") == 1
            assert await line.ask_model("identity.upper") == "ME"
            await line.unplug()
            with pytest.raises(PeerLostError):
                await _ask(transport, "2")
            with pytest.raises(ConnectError):
                await transport.open()
            await line.replug()
            await transport.open()
            assert await _ask(transport, "3") == b"3"
            await line.reset()
            assert await line.ask_model("resets") == 1
            await transport.aclose()


async def test_faults() -> None:
    """Every fault reaches the line in the other process."""
    with trio.fail_after(20):
        async with SimProcess([SimSpec(model=MODEL, latency_s=0.001)]) as process:
            (line,) = process.lines
            faults: list[Callable[[], Awaitable[None]]] = [
                partial(line.late, 0.2),
                line.lose,
                line.truncate,
                line.garble,
                partial(line.foreign, b"\xffother\n"),
                line.hang,
            ]
            for arm in faults:
                transport = await _open(line)
                await arm()
                with pytest.raises((ReplyTimeoutError, ForeignReplyError)):
                    await _ask(transport, "x", within_s=0.05)
                await transport.aclose()
            await line.unhang(answer=True)
            await line.duplicate()
            await line.set_latency(0.0)
            transport = await _open(line)
            assert await _ask(transport, "y") == b"y"
            assert await _ask(transport, "z") == b"z"
            await transport.aclose()


class SparedModel(EchoModel):
    """Tells how many objects the collector of its process leaves alone."""

    @property
    def spared(self) -> int:
        """The count."""
        return gc.get_freeze_count()


async def test_spared_collector() -> None:
    """What was imported is left alone by the collector: a device does not pause for it."""
    with trio.fail_after(20):
        async with SimProcess([SimSpec(model=f"{__name__}:SparedModel")]) as process:
            spared = await process.lines[0].ask_model("spared")
            assert isinstance(spared, int)
            assert spared > 10_000


async def test_killed() -> None:
    """A killed process is an error for whoever calls it, and no trouble to leave."""
    with trio.fail_after(20):
        async with SimProcess([SimSpec(model=MODEL)]) as process:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(TransportError, match="ended"):
                await process.lines[0].lose()


@pytest.mark.parametrize(
    ("model", "says"),
    [("transports:Nothing", "Nothing"), ("no_such_module:Model", "no_such_module")],
)
async def test_unknown_model(model: str, says: str) -> None:
    """A model that cannot be made is an error that says what is missing."""
    with trio.fail_after(20), pytest.raises(TransportError, match=says):
        async with SimProcess([SimSpec(model=model)]):
            pass


def test_without_trio(tmp_path: Path) -> None:
    """A program without Trio can run and steer simulated lines, too."""
    link = tmp_path / "port"
    specs = [SimSpec(model=MODEL), SimSpec(model=MODEL, host="pty", link=str(link))]
    with BlockingSimProcess(specs) as process:
        assert process.addresses[0].startswith("tcp://127.0.0.1:")
        assert process.addresses[1] == f"serial://{link}"
        assert process.call(0, "ask_model", {"name": "heard"}) == 0
        with pytest.raises(TransportError, match="no such call"):
            process.call(0, "explode", {})
    assert not link.is_symlink()
