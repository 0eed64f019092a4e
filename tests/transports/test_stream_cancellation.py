"""A line, cancelled at each of its checkpoints: in step, stale and saying so, or closed."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Final

import trio
from attrs import evolve

from tests.support.cancellation import Ending, Hits, sweep, unhit
from transports import (
    GATEWAY,
    SERIAL,
    TCP,
    BusProfile,
    ByteStream,
    EchoModel,
    Exchange,
    LineCounters,
    Lines,
    LineState,
    MemoryHost,
    Resync,
    SimLine,
    StreamTransport,
    TransportError,
    stream,
)

FENCE: Final = Exchange(b"*IDN?\n", accepts=lambda data: data.startswith(b"benchtree,"))

PROFILES: Final = {
    "fence": evolve(SERIAL, lateness_s=0.2, pacing_s=0.01),
    "drain": evolve(SERIAL, lateness_s=0.2, resync=Resync.DRAIN),
    "reopen": evolve(TCP, lateness_s=0.2),
    "reopen and fence": evolve(GATEWAY, lateness_s=0.2),
}


class Narrow:
    """A stream that takes one byte at a time."""

    def __init__(self, wide: ByteStream) -> None:
        self._wide = wide

    def write_nowait(self, data: bytes) -> int:
        """Take one byte."""
        return self._wide.write_nowait(data[:1])

    async def wait_writable(self) -> None:
        """Wait a little."""
        await trio.sleep(0.001)

    def read_nowait(self) -> bytes:
        """Return what has arrived."""
        return self._wide.read_nowait()

    async def wait_readable(self) -> None:
        """Wait for more."""
        await self._wide.wait_readable()

    def flush_input(self) -> None:
        """Discard unread input."""
        self._wide.flush_input()

    def count_errors(self, counters: LineCounters) -> None:
        """Count nothing."""

    async def wait_lost(self, every_s: float) -> None:
        """Wait until it is lost."""
        await self._wide.wait_lost(every_s)

    async def aclose(self) -> None:
        """Close."""
        await self._wide.aclose()


class Use:
    """Somebody who uses a line for everything there is, and gets cancelled."""

    def __init__(self, profile: BusProfile, *, narrow: bool = False) -> None:
        self.line = SimLine(EchoModel(), latency_s=0.001)
        host = MemoryHost(self.line, keeps_late=profile.resync is not Resync.REOPEN)

        async def connect() -> ByteStream:
            wide = await host.connect()
            return Narrow(wide) if narrow else wide

        async def locate() -> str:
            await trio.lowlevel.checkpoint()
            return "sim:line"

        self.transport = StreamTransport("sim:line", connect, Lines(b"\n"), profile, locate=locate)
        self.in_step = False

    async def ask(self, text: str, within_s: float = 0.1) -> None:
        """Ask for an echo, and be content with nothing else."""
        request = f"ECHO {text}\n".encode()
        reply = await self.transport.exchange(Exchange(request, reply_within_s=within_s))
        assert reply.data == text.encode()

    async def victim(self) -> None:
        """Use the line; whatever happens, it can be used again."""
        try:
            with suppress(TransportError):
                await self.use()
        finally:
            with trio.CancelScope(shield=True):
                await self.use_again()

    async def use(self) -> None:
        """Open, ask, fall out of step and in again, lose the line and reopen it."""
        transport = self.transport
        await transport.open()
        await self.ask("first")
        await self.ask("second")
        await transport.exchange(Exchange(b"SILENT\n", reply_within_s=None))
        for fence in (FENCE, None):
            self.line.late(0.25)
            with suppress(TransportError):
                await self.ask("late")
            await transport.resync(fence)
            await self.ask("in step")
        for unplugged in (False, True):
            self.line.late(0.25)
            with suppress(TransportError):
                await self.ask("late")
            await transport.aclose()
            async with trio.open_nursery() as nursery:
                if unplugged:
                    nursery.start_soon(self.unplug_later, 0.05)
                with suppress(TransportError):
                    await transport.open()
        self.line.replug()
        if transport.state is LineState.CLOSED:
            await transport.open()
        await transport.resync(FENCE)
        parts = Exchange(b"ECHO a\nECHO b\n", reply_within_s=0.1, quiet_s=0.05)
        assert (await transport.exchange(parts)).data == b"a\nb"
        self.line.unplug()
        with suppress(TransportError):
            await self.ask("lost")
        self.line.replug()
        await transport.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.unplug_later, 0.05)
            with suppress(TransportError):
                self.line.late(0.09)
                await self.ask("lost while waiting", within_s=0.2)
        self.line.replug()
        await transport.open()
        self.line.late(0.25)
        with suppress(TransportError):
            await self.ask("late")
        self.line.unplug()
        with suppress(TransportError):
            await transport.resync(FENCE)
        self.line.replug()
        await transport.aclose()

    async def unplug_later(self, after_s: float) -> None:
        """Pull the plug in the middle of something."""
        await trio.sleep(after_s)
        self.line.unplug()

    async def forgive(self) -> None:
        """Use up the half request that may be left in the device's input."""
        with suppress(TransportError):
            await self.transport.exchange(Exchange(b"ECHO forgiven\n"))
        await self.transport.resync(FENCE)

    async def use_again(self) -> None:
        """Bring the line into step, if it says that it is not, and ask again."""
        transport = self.transport
        self.line.unplug()
        self.line.replug()
        if transport.state is not LineState.CLOSED:
            await transport.aclose()
        await transport.open()
        await self.forgive()
        for number in range(3):
            await self.ask(f"again {number}", within_s=1.0)
        await transport.aclose()
        self.in_step = True

    async def beside(self) -> None:
        """Leave it alone."""
        await trio.sleep_forever()

    def check(self, ending: Ending) -> None:
        """Check that it was usable."""
        assert ending.error is None
        assert self.in_step


class InStep(Use):
    """Who goes on with the very connection that the cancelled one left."""

    async def use(self) -> None:
        """Ask until cancelled."""
        await self.transport.open()
        await self.ask("first")
        for fence in (FENCE, None):
            self.line.late(0.15)
            with suppress(TransportError):
                await self.ask("late")
            await self.transport.resync(fence)
            await self.ask("in step")

    async def use_again(self) -> None:
        """Resynchronise where that is owed; open where it is closed; then ask."""
        transport = self.transport
        if transport.state is LineState.CLOSED:
            await transport.open()
        assert transport.state is not LineState.WAITING
        assert bool(transport.owed()) == (transport.state is LineState.STALE)
        await transport.resync(FENCE)
        await self.forgive()
        for number in range(3):
            await self.ask(f"again {number}", within_s=1.0)
        await transport.aclose()
        self.in_step = True


class Watcher(Use):
    """Who waits for the loss of a line is the victim."""

    async def victim(self) -> None:
        """Wait for the loss; no call was given up that could keep the line."""
        await self.transport.open()
        await self.transport.wait_unstuck()
        await self.transport.wait_lost()
        assert self.transport.state is LineState.CLOSED
        self.in_step = True

    async def beside(self) -> None:
        """Fall out of step, reopen, exchange, and lose the line."""
        await trio.sleep(0.01)
        self.line.late(0.25)
        with suppress(TransportError):
            await self.ask("late")
        await self.transport.resync(FENCE)
        await self.ask("in step", within_s=1.0)
        await trio.sleep(1)
        self.line.unplug()
        await trio.sleep_forever()

    def check(self, ending: Ending) -> None:
        """Check that it saw the loss unless it was cancelled."""
        assert ending.error is None
        assert self.in_step == ending.returned


def test_every_await_of_a_line_can_be_cancelled() -> None:
    """Cancelled anywhere, the next question gets its own answer."""
    hits = Hits()
    for profile in PROFILES.values():
        hits |= sweep(partial(Use, profile), stream)
        hits |= sweep(partial(InStep, profile), stream)
        hits |= sweep(partial(InStep, profile, narrow=True), stream)
        hits |= sweep(partial(Watcher, profile), stream)
    hits |= sweep(partial(Use, PROFILES["fence"], narrow=True), stream)
    closing = "closing shields itself"
    line = "StreamTransport."
    excused = {
        f"{line}exchange: await self._lose(lost)": closing,
        f"{line}exchange: await self._abandon(exchange, why)": closing,
        f"{line}wait_lost: await self.aclose()": closing,
        f"{line}wait_lost: await self._flush(stream)": closing,
        f"{line}_flush": closing,
        f"{line}_lose": closing,
        f"{line}_send_rest: await self.aclose()": closing,
        f"{line}_abandon": closing,
        f"{line}_reopen: await self.aclose()": closing,
        f"{line}_cross: await self._lose(lost)": closing,
        f"{line}_cross: await self._abandon(fence, why)": closing,
        f"{line}_drain: await self._lose(lost)": closing,
        f"{line}_receive: await trio.lowlevel.cancel_shielded_checkpoint()": "shielded",
    }
    assert unhit(stream, hits, excused) == []
