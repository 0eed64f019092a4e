"""What every line promises, as checks that run against any kind of host.

A check is an async function of a `LineBench`; `CHECKS` holds them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest
import trio
import trio.testing
from attrs import evolve, frozen

from transports import (
    GATEWAY,
    BusProfile,
    ConnectError,
    DeviceModel,
    EchoModel,
    Exchange,
    ForeignReplyError,
    FrameError,
    LineBusyError,
    LineClosedError,
    LineStaleError,
    LineState,
    PeerLostError,
    Reply,
    ReplyTimeoutError,
    Resync,
    SimLine,
    SimReply,
    Transport,
)

FENCE: Final = Exchange(b"*IDN?\n", accepts=lambda data: data.startswith(b"benchtree,"))

Make = Callable[[BusProfile], Transport]
Serve = Callable[[SimLine, bool], AbstractAsyncContextManager[Make]]


@frozen
class LineBench:
    """One kind of host, for checks to put simulated lines on.

    Attributes:
        serve: Given a line and whether late replies outlive a connection: serves it and
            gives a function that makes a closed transport to it.
        profile: The profile that suits the host.
        keeps_late: Whether late replies outlive a connection by the host's nature.
        without: The checks that say nothing about this kind, each with the reason.
        sees_unasked: Whether bytes that nobody asked for can be seen, and so counted.
        unit: The instrument that is asked, where several share the line.
    """

    serve: Serve
    profile: BusProfile
    keeps_late: bool
    without: Mapping[str, str] = {}
    sees_unasked: bool = True
    unit: str | None = None


class Bench:
    """A simulated line, and a transport to it."""

    def __init__(self, line: SimLine, transport: Transport, kind: LineBench) -> None:
        """Take all."""
        self.line = line
        self.transport = transport
        self.kind = kind
        self.fence = evolve(FENCE, unit=kind.unit)

    async def ask(self, text: str, within_s: float = 5.0) -> str:
        """Exchange one `ECHO`, the line being in step."""
        request = f"ECHO {text}\n".encode()
        reply = await self.exchange(Exchange(request, reply_within_s=within_s))
        return reply.data.decode()

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Exchange with the instrument that is asked."""
        return await self.transport.exchange(evolve(exchange, unit=self.kind.unit), commit=commit)

    async def ask_again(self, text: str) -> str:
        """Resynchronise, then exchange."""
        await self.transport.resync(self.fence)
        return await self.ask(text)

    def heard(self) -> bytes:
        """Return everything that the far end received."""
        return b"".join(data for _, data in self.line.requests)


class Dribble:
    """A device that answers every byte it gets with the same byte, one at a time."""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer slowly."""
        del now_s
        return [SimReply(bytes((byte,)), delay_s=0.002) for byte in data]

    def reset(self, now_s: float) -> None:
        """Have nothing to forget."""


class Lister:
    r"""A device that answers `LIST n\n` with n lines, 20 ms apart, and what else like an echo."""

    def __init__(self) -> None:
        self._echo = EchoModel()

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer a list, or say it back."""
        if not data.startswith(b"LIST "):
            return self._echo.receive(data, now_s)
        count = int(data.removeprefix(b"LIST "))
        return [SimReply(b"item %d\n" % index, delay_s=0.02) for index in range(count)]

    def reset(self, now_s: float) -> None:
        """Have nothing to forget."""


Check = Callable[[Bench], Awaitable[None]]
Adapt = Callable[[BusProfile], BusProfile]


def _same(profile: BusProfile) -> BusProfile:
    return profile


@frozen
class Prepared:
    """A check and what it needs.

    Attributes:
        check: The check.
        adapt: Changes the host's profile.
        model: Makes the device.
        gateway: Whether a serial gateway stands in between.
    """

    check: Check
    adapt: Adapt = _same
    model: Callable[[], DeviceModel] = EchoModel
    gateway: bool = False

    async def run(self, kind: LineBench) -> None:
        """Run the check on an open line."""
        line = SimLine(self.model())
        keeps_late = self.gateway or kind.keeps_late
        with trio.fail_after(30):
            async with kind.serve(line, keeps_late) as make:
                transport = make(self.adapt(kind.profile))
                await transport.open()
                try:
                    await self.check(Bench(line, transport, kind))
                finally:
                    await transport.aclose()


CHECKS: Final[dict[str, Prepared]] = {}


def _check(
    adapt: Adapt = _same,
    model: Callable[[], DeviceModel] = EchoModel,
    *,
    gateway: bool = False,
) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        name = getattr(check, "__name__", repr(check))
        CHECKS[name] = Prepared(check, adapt, model, gateway)
        return check

    return register


@_check()
async def opens_and_closes_twice(bench: Bench) -> None:
    """Closing twice is harmless; an open line cannot be opened; a closed one can."""
    with pytest.raises(LineBusyError):
        await bench.transport.open()
    await bench.transport.aclose()
    await bench.transport.aclose()
    assert bench.transport.state is LineState.CLOSED
    with pytest.raises(LineClosedError):
        await bench.ask("nobody")
    with pytest.raises(LineClosedError):
        await bench.transport.resync(bench.fence)
    await bench.transport.open()
    assert await bench.ask("again") == "again"
    assert bench.transport.counters.opened == 2


@_check()
async def exchanges(bench: Bench) -> None:
    """Each request gets its own reply, with instants in order."""
    for index in range(20):
        reply = await bench.exchange(Exchange(f"ECHO {index}\n".encode()))
        assert reply.data == str(index).encode()
        assert reply.sent_ns <= reply.received_ns
    assert bench.transport.counters.exchanges == 20
    assert bench.transport.state is LineState.READY
    assert not bench.transport.owed()


@_check()
async def writes_without_reply(bench: Bench) -> None:
    """A write that has no reply leaves the line ready and arrives before what follows."""
    reply = await bench.exchange(Exchange(b"NOTE\n", reply_within_s=None))
    assert reply.data == b""
    assert bench.transport.state is LineState.READY
    assert await bench.ask("next") == "next"
    assert bench.heard() == b"NOTE\nECHO next\n"


@_check()
async def timeout_makes_stale(bench: Bench) -> None:
    """After a timeout nothing is exchanged before a resynchronisation."""
    bench.line.late(0.1)
    with pytest.raises(ReplyTimeoutError) as silent:
        await bench.ask("late", within_s=0.02)
    assert silent.value.sent == b"ECHO late\n"
    assert bench.transport.state is LineState.STALE
    assert [each.request for each in bench.transport.owed()] == [b"ECHO late\n"]
    with pytest.raises(LineStaleError):
        await bench.ask("refused")
    assert b"refused" not in bench.heard()
    assert await bench.ask_again("next") == "next"
    assert not bench.transport.owed()
    assert bench.transport.counters.timeouts == 1
    assert bench.transport.counters.resyncs == 1


@_check()
async def cancelled_reply_answers_nothing(bench: Bench) -> None:
    """The reply to a cancelled exchange never answers the next one."""
    assert await bench.ask("first") == "first"
    for delay_s in (0.0, 0.01, 0.03):
        with trio.move_on_after(delay_s) as scope:
            await bench.exchange(Exchange(b"WAIT 0.05 old\n"))
        assert scope.cancelled_caught
        assert bench.transport.state is LineState.STALE
        assert await bench.ask_again("new") == "new"
    assert bench.transport.counters.abandoned == 3


@_check()
async def lost_reply(bench: Bench) -> None:
    """A reply that never comes costs its own exchange only."""
    bench.line.lose()
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("lost", within_s=0.02)
    assert await bench.ask_again("next") == "next"


@_check()
async def truncated_reply(bench: Bench) -> None:
    """Half a reply is no reply, and does not spoil the next."""
    bench.line.truncate()
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("truncated", within_s=0.02)
    assert await bench.ask_again("next") == "next"


@_check()
async def garbled_reply(bench: Bench) -> None:
    """A reply that `accepts` refuses is an error, never a value."""
    bench.line.garble()
    exchange = Exchange(b"ECHO word\n", accepts=lambda data: data == b"word")
    with pytest.raises(ForeignReplyError) as wrong:
        await bench.exchange(exchange)
    assert wrong.value.received not in {b"", b"word"}
    assert await bench.ask_again("next") == "next"


@_check()
async def foreign_reply(bench: Bench) -> None:
    """A reply from somebody else leaves the line stale: the right one may still come."""
    bench.line.foreign(b"B 20.0\n")
    exchange = Exchange(b"ECHO A 10.0\n", accepts=lambda data: data.startswith(b"A "))
    with pytest.raises(ForeignReplyError) as wrong:
        await bench.exchange(exchange)
    assert wrong.value.reason == "the reply answers something else: b'B 20.0'"
    assert str(wrong.value).count("B 20.0") == 1
    assert bench.transport.state is LineState.STALE
    assert bench.transport.counters.foreign == 1
    await bench.transport.resync(bench.fence)
    assert (await bench.exchange(exchange)).data == b"A 10.0"


@_check()
async def duplicated_reply(bench: Bench) -> None:
    """A second copy of a reply answers no later question."""
    bench.line.duplicate()
    assert await bench.ask("first") == "first"
    assert await bench.ask("second") == "second"
    if bench.kind.sees_unasked:
        assert bench.transport.counters.unsolicited_bytes == len(b"first\n")


@_check(model=Dribble)
async def reply_in_parts(bench: Bench) -> None:
    """A reply that comes byte by byte is one frame."""
    reply = await bench.exchange(Exchange(b"slowly\r\n"))
    assert reply.data == b"slowly"


def _is_item(frame: bytes) -> bool:
    return frame.startswith(b"item ")


@_check(model=Lister)
async def reply_of_several_frames(bench: Bench) -> None:
    """A reply that ends in silence is all of its frames, and the line is in step after it."""
    listed = Exchange(b"LIST 4\n", accepts=_is_item, quiet_s=0.15)
    reply = await bench.exchange(listed)
    assert reply.data == b"item 0\nitem 1\nitem 2\nitem 3"
    assert bench.transport.state is LineState.READY
    assert await bench.ask("next") == "next"


@_check(model=Lister)
async def silence_instead_of_several_frames(bench: Bench) -> None:
    """A reply of several frames that does not begin is a timeout."""
    bench.line.lose()
    with pytest.raises(ReplyTimeoutError):
        await bench.exchange(Exchange(b"LIST 1\n", None, 0.05, _is_item, quiet_s=0.05))
    assert await bench.ask_again("next") == "next"


@_check(model=Lister)
async def foreign_among_several_frames(bench: Bench) -> None:
    """One foreign frame among several spoils the reply, and no later one."""
    bench.line.foreign(b"B 20.0\n")
    with pytest.raises(ForeignReplyError):
        await bench.exchange(Exchange(b"LIST 3\n", accepts=_is_item, quiet_s=0.15))
    assert bench.transport.state is LineState.STALE
    assert await bench.ask_again("next") == "next"


@_check(model=Lister)
async def cut_last_of_several_frames(bench: Bench) -> None:
    """Half a frame at the end of several is a fault, not left out."""
    bench.line.late(0.001)
    bench.line.truncate()
    with pytest.raises(FrameError):
        await bench.exchange(Exchange(b"LIST 2\n", accepts=_is_item, quiet_s=0.15))
    assert await bench.ask_again("next") == "next"


@_check(lambda profile: evolve(profile, max_frame=40), model=Lister)
async def endless_reply_of_several_frames(bench: Bench) -> None:
    """Frames that go on without a silence are an error once they pass the bound."""
    with pytest.raises(FrameError):
        await bench.exchange(Exchange(b"LIST 9\n", accepts=_is_item, quiet_s=0.15))
    assert await bench.ask_again("next") == "next"


@_check(model=Lister)
async def cancelled_among_several_frames(bench: Bench) -> None:
    """What is left of a cancelled reply of several frames answers nothing."""
    with trio.move_on_after(0.05) as scope:
        await bench.exchange(Exchange(b"LIST 5\n", accepts=_is_item, quiet_s=0.15))
    assert scope.cancelled_caught
    assert bench.transport.state is LineState.STALE
    assert await bench.ask_again("next") == "next"


@_check(lambda profile: evolve(profile, max_frame=40))
async def frame_too_long(bench: Bench) -> None:
    """A reply longer than the bound is an error, and the line recovers."""
    with pytest.raises(FrameError):
        await bench.ask("x" * 200)
    assert bench.transport.state is LineState.STALE
    assert await bench.ask_again("next") == "next"


@_check()
async def unplugged_while_idle(bench: Bench) -> None:
    """A lost far end is noticed without any exchange."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.transport.wait_lost)
        await trio.testing.wait_all_tasks_blocked()
        bench.line.unplug()
    assert bench.transport.state is LineState.CLOSED


@_check()
async def unplugged_in_flight(bench: Bench) -> None:
    """A far end lost during an exchange is said at once, and the line is closed."""

    async def unplug_soon() -> None:
        await trio.sleep(0.02)
        bench.line.unplug()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unplug_soon)
        with pytest.raises(PeerLostError) as lost:
            await bench.exchange(Exchange(b"WAIT 9 x\n", reply_within_s=20))
    assert lost.value.address == bench.transport.key
    assert bench.transport.state is LineState.CLOSED


@_check()
async def unplugged_then_asked(bench: Bench) -> None:
    """An exchange on a line whose far end went away fails as lost and closes the line."""
    bench.line.unplug()
    with pytest.raises(PeerLostError):
        await bench.ask("nobody")
    assert bench.transport.state is LineState.CLOSED


@_check()
async def replugged(bench: Bench) -> None:
    """What is plugged in again can be opened again; until then opening fails."""
    bench.line.unplug()
    with pytest.raises(PeerLostError):
        await bench.ask("nobody")
    with pytest.raises(ConnectError):
        await bench.transport.open()
    bench.line.replug()
    await bench.transport.open()
    assert await bench.ask("back") == "back"


@_check()
async def commit_refuses(bench: Bench) -> None:
    """When `commit` raises, nothing is sent and the line stays ready."""

    def refuse() -> None:
        raise KeyError("withdrawn")

    with pytest.raises(KeyError):
        await bench.exchange(Exchange(b"ECHO withdrawn\n"), commit=refuse)
    assert bench.transport.state is LineState.READY
    assert await bench.ask("next") == "next"
    assert bench.heard() == b"ECHO next\n"


@_check()
async def commit_comes_with_the_first_byte(bench: Bench) -> None:
    """`commit` is called once, before the far end has anything."""
    heard: list[bytes] = []
    await bench.exchange(Exchange(b"ECHO x\n"), commit=lambda: heard.append(bench.heard()))
    assert heard == [b""]


@_check(lambda profile: evolve(profile, pacing_s=0.05))
async def paces(bench: Bench) -> None:
    """Between an exchange and the next write the line is left silent."""
    first = await bench.exchange(Exchange(b"ECHO 1\n"))
    second = await bench.exchange(Exchange(b"ECHO 2\n"))
    assert second.sent_ns - first.received_ns >= 49_000_000


@_check(lambda profile: evolve(profile, pacing_s=0.5))
async def cancelled_while_pacing(bench: Bench) -> None:
    """A caller that gives up before the first byte sends nothing."""
    await bench.ask("first")
    with trio.move_on_after(0.02) as scope:
        await bench.ask("second")
    assert scope.cancelled_caught
    assert bench.transport.state is LineState.READY
    assert bench.heard() == b"ECHO first\n"


@_check()
async def one_at_a_time(bench: Bench) -> None:
    """A second task is refused while an exchange is in flight, and disturbs nothing."""
    answers: list[bytes] = []

    async def first() -> None:
        answers.append((await bench.exchange(Exchange(b"WAIT 0.05 a\n"))).data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.sleep(0.01)
        with pytest.raises(LineBusyError):
            await bench.ask("b")
    assert answers == [b"a"]


@_check()
async def closed_under_a_waiter(bench: Bench) -> None:
    """Closing the line ends an exchange in flight with an error, at once."""

    async def close_soon() -> None:
        await trio.sleep(0.01)
        await bench.transport.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_soon)
        with pytest.raises(LineClosedError):
            await bench.exchange(Exchange(b"WAIT 9 x\n", reply_within_s=20))
    assert bench.transport.state is LineState.CLOSED


@_check()
async def fence_equal_to_the_abandoned(bench: Bench) -> None:
    """A fence that was itself abandoned is not sent: its late answer would deceive."""
    bench.line.late(0.1)
    with pytest.raises(ReplyTimeoutError):
        await bench.exchange(evolve(bench.fence, reply_within_s=0.02))
    assert await bench.ask_again("next") == "next"
    assert bench.heard().count(FENCE.request) == 1


@_check()
async def silent_fence(bench: Bench) -> None:
    """A far end that does not answer the fence either is waited out, then asked anew."""
    bench.line.lose()
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("lost", within_s=0.02)
    bench.line.hang()
    await bench.transport.resync(evolve(bench.fence, reply_within_s=0.05))
    assert bench.transport.state is LineState.READY
    bench.line.unhang()
    assert await bench.ask("next") == "next"


@_check()
async def resync_cancelled(bench: Bench) -> None:
    """A cancelled resynchronisation leaves a line that can be brought back."""
    bench.line.late(0.2)
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("late", within_s=0.01)
    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.transport.resync(bench.fence)
    assert bench.transport.state in {LineState.STALE, LineState.CLOSED}
    if bench.transport.state is LineState.CLOSED:
        await bench.transport.open()
    assert await bench.ask_again("next") == "next"


@_check()
async def resync_in_step(bench: Bench) -> None:
    """Resynchronising a line that is in step sends nothing."""
    await bench.transport.resync(bench.fence)
    assert bench.heard() == b""
    assert bench.transport.counters.resyncs == 0


@_check(lambda profile: evolve(profile, resync=Resync.DRAIN))
async def drains(bench: Bench) -> None:
    """A drain outlasts every reply that is late within the profile, even a cancelled one's."""
    bench.line.late(0.1)
    with trio.move_on_after(0.01):
        await bench.ask("late", within_s=0.05)
    assert await bench.ask_again("next") == "next"
    assert FENCE.request not in bench.heard()


@_check(lambda profile: evolve(GATEWAY, lateness_s=profile.lateness_s), gateway=True)
async def gateway(bench: Bench) -> None:
    """A gateway hands late bytes to the next connection; the fence tells them apart."""
    bench.line.late(0.1)
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("late", within_s=0.02)
    assert await bench.ask_again("next") == "next"
    assert bench.transport.counters.opened == 2
    bench.line.late(0.1)
    with pytest.raises(ReplyTimeoutError):
        await bench.exchange(evolve(bench.fence, reply_within_s=0.02))
    assert await bench.ask_again("last") == "last"


@_check()
async def hung_device(bench: Bench) -> None:
    """A device that answers what it swallowed, all at once, answers nobody else."""
    bench.line.hang()
    with pytest.raises(ReplyTimeoutError):
        await bench.ask("swallowed", within_s=0.02)
    bench.line.unhang(answer=True)
    assert await bench.ask_again("next") == "next"
