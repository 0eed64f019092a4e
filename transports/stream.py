"""The half-duplex line: exchanges over a stream of bytes, kept in step.

What the line promises: a reply is returned for the request it answers, or not at all.
An exchange that ends without its reply leaves the line stale, and a stale line carries
no exchange before it is resynchronised.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, runtime_checkable

import trio

from .base import Exchange, LineCounters, Reply
from .clock import Clock, SystemClock, current_clock
from .errors import (
    ConnectError,
    ConnectProblem,
    ForeignReplyError,
    FrameError,
    LineBusyError,
    LineClosedError,
    LineStaleError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
    UnsupportedError,
)
from .framing import Framing
from .line_state import COMPLETED, READY, SENT, LineEvent, LineState, advance
from .profile import BusProfile, Resync

IDLE_CHECK_S: Final = 0.25
"""How often an idle line looks whether its far end is still there, in seconds."""


class ByteStream(Protocol):
    """An open connection that reads and writes without blocking.

    The split into `..._nowait` and `wait_...` lets a line hand over the first byte in
    the very step that decided to.
    """

    def write_nowait(self, data: bytes) -> int:
        """Hand over as much of `data` as is taken at once and return how much that was.

        Raises:
            PeerLostError: The far end went away.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until more can be written."""
        ...

    def read_nowait(self) -> bytes:
        """Return what has arrived, or b"" when nothing has.

        Raises:
            PeerLostError: The far end went away.
        """
        ...

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived or the far end went away."""
        ...

    def flush_input(self) -> None:
        """Discard what the operating system holds of unread input."""
        ...

    def count_errors(self, counters: LineCounters) -> None:
        """Bring the counters of line errors up to date, where the stream knows any."""
        ...

    async def wait_lost(self, every_s: float) -> None:
        """Return once the far end is gone or the stream is closed.

        Reads nothing that an exchange could want. Looks every `every_s` seconds where
        the operating system does not tell by itself.
        """
        ...

    async def aclose(self) -> None:
        """Close once the output that was handed over has left; twice is harmless.

        Cancellation discards that output and closes at once.
        """
        ...


@runtime_checkable
class TimedStream(ByteStream, Protocol):
    """A stream that ends a wait in time by itself: nobody has to cancel it.

    A simulated one knows what is on the way, and so whether the wait would be too long.
    """

    async def wait_readable_until(self, when_s: float) -> bool:
        """Wait like `wait_readable`, but not beyond Trio's `when_s`; return whether that did."""
        ...


class StreamTransport:
    """A line over a `ByteStream`.

    Args:
        key: The canonical name of the bus.
        connect: Opens the stream; called by `open` and to reopen.
        framing: How replies are told apart.
        profile: The numbers of the bus.
        locate: Finds the canonical name of the bus anew, and becomes its owner; called
            by `open` before it connects. None where the name never changes.

    Attributes:
        key: The canonical name of the bus, as it was when the line was opened last.
        state: The state of the line; only the line itself sets it.
    """

    max_in_flight: int = 1
    #: Nothing here blocks in a call that cannot be ended.
    stuck: bool = False

    def __init__(
        self,
        key: str,
        connect: Callable[[], Awaitable[ByteStream]],
        framing: Framing,
        profile: BusProfile,
        *,
        locate: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """Make a closed line; nothing is touched before `open`."""
        self.key = key
        self._counters = LineCounters()
        self._connect = connect
        self._locate = locate
        self._framer = framing.framer(profile.max_frame)
        self._profile = profile
        self._clock: Clock = SystemClock()  # the run's own from `open` on
        self.state = LineState.CLOSED
        # Open exactly when the state is not CLOSED.
        self._stream: ByteStream | None = None
        # The same stream, where it ends its waits by itself.
        self._timed: TimedStream | None = None
        # The exchanges whose replies may still arrive; non-empty exactly when STALE.
        self._owed: list[Exchange] = []
        # Set while a stale line is closed only to be opened again.
        self._reopening = False
        # When the line last fell silent: pacing counts from here. Trio time.
        self._quiet_since_s = float("-inf")
        # When the last request went out. Trio time.
        self._last_sent_s = float("-inf")
        # When the last of the replies owed is too late even for the profile. Trio time.
        self._late_until_s = float("-inf")
        # What was read last since the last request went out.
        self._heard = b""

    def __repr__(self) -> str:
        """Return the key, the state and the counts."""
        return f"<{type(self).__name__} {self.key} {self.state.name} {self._counters}>"

    @property
    def counters(self) -> LineCounters:
        """What happened on the line so far, the driver's own counts included."""
        if self._stream is not None:
            self._stream.count_errors(self._counters)
        return self._counters

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive, oldest first.

        On a shared stream they disturb every unit alike.
        """
        del unit
        return tuple(self._owed)

    async def open(self) -> None:
        """Open the line, discarding what had been buffered before.

        Where late replies outlive a connection, they are waited for and discarded too.

        Raises:
            ConnectError: It cannot be opened now, or not within `connect_within_s`.
            PortOwnedError: Somebody else has it.
        """
        if self.state is not LineState.CLOSED:
            raise LineBusyError("the line is open already", address=self.key)
        within_s = self._profile.connect_within_s
        stream: ByteStream | None = None
        with trio.move_on_after(within_s):
            if self._locate is not None and not self._reopening:
                self.key = await self._locate()
            stream = await self._connect()
        if stream is None:
            raise ConnectError(
                "no connection",
                address=self.key,
                waited_s=within_s,
                problem=ConnectProblem.UNREACHABLE,
            )
        try:
            if self._profile.resync is not Resync.REOPEN and not self._reopening:
                await self._outwait(stream)
            stream.flush_input()
        except BaseException as why:
            await stream.aclose()
            if isinstance(why, PeerLostError):
                raise ConnectError(why.reason, address=self.key) from why
            raise
        self._framer.clear()
        self._clock = current_clock()
        self._stream = stream
        self._timed = stream if isinstance(stream, TimedStream) else None
        self.state = advance(self.state, LineEvent.OPENED)
        self._quiet_since_s = float("-inf")
        self._counters.opened += 1

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Send one request and return the matching reply, unframed.

        Cancelling after the first byte leaves the line stale. See `Transport.exchange`
        for the errors.
        """
        if exchange.signal is not None:
            raise UnsupportedError(f"the line has no {exchange.signal.value}", address=self.key)
        stream = self._ready_stream()
        if self._profile.pacing_s:
            await self._pace()
            stream = self._ready_stream()
        try:
            self._discard_input(stream)
        except PeerLostError as lost:
            await self._lose(lost)
            raise
        if commit is not None:
            commit()
        clock = self._clock
        sent_ns = clock.mono_ns()
        sent_s = self._note_sent(SENT)
        self._counters.exchanges += 1
        try:
            frame = await self._converse(stream, exchange, sent_s)
        except BaseException as why:
            await self._abandon(exchange, why)
            raise
        received_ns = clock.mono_ns()
        self._note_completed()
        return Reply(frame, sent_ns, received_ns)

    async def _converse(self, stream: ByteStream, exchange: Exchange, sent_s: float) -> bytes:
        """Hand over the request and return its reply; what is hosted does it in its own way."""
        self._heard = b""
        taken = stream.write_nowait(exchange.request)
        if taken < len(exchange.request):
            await self._send_rest(stream, exchange.request, taken)
            sent_s = self._last_sent_s = self._clock.now_s()
        return await self._receive(stream, exchange, sent_s)

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale line back into step, as the profile says. See `Transport.resync`."""
        if self.state is LineState.CLOSED:
            raise LineClosedError("the line is closed", address=self.key)
        if self.state is not LineState.STALE:
            return
        self._counters.resyncs += 1
        # A late answer to an owed request equal to the fence would be taken for the fence's.
        usable = (
            fence is not None
            and fence.accepts is not None
            and all(each.request != fence.request for each in self._owed)
        )
        match self._profile.resync:
            case Resync.REOPEN:
                await self._reopen()
            case Resync.REOPEN_AND_FENCE:
                if fence is not None and usable:
                    await self._reopen()
                    await self._cross(fence)
                else:
                    await self._drain()
                    await self._reopen()
            case Resync.FENCE | Resync.CLEAR_AND_FENCE if fence is not None and usable:
                await self._cross(fence)
            case Resync.FENCE | Resync.CLEAR_AND_FENCE | Resync.DRAIN:
                await self._drain()

    async def wait_unstuck(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def wait_lost(self) -> None:
        """Return when the far end is found gone while the line is idle.

        Meanwhile what arrives unasked is thrown away, as often as the profile says.
        """
        flush_s = self._profile.flush_every_s or math.inf
        while True:
            stream = self._stream
            if stream is not None:
                with trio.CancelScope(deadline=self._clock.now_s() + flush_s) as flush:
                    await stream.wait_lost(IDLE_CHECK_S)
                if flush.cancelled_caught:
                    await self._flush(stream)
                    continue
            elif not self._reopening:
                return
            # An exchange in flight meets the loss itself, and says so.
            if stream is self._stream is not None and self.state is not LineState.WAITING:
                await self.aclose()
                return
            await trio.sleep(IDLE_CHECK_S)

    async def aclose(self) -> None:
        """Close the line; what was owed on it is forgotten."""
        stream, self._stream, self._timed = self._stream, None, None
        self.state = advance(self.state, LineEvent.CLOSE)
        self._owed.clear()
        self._framer.clear()
        if stream is not None:
            stream.count_errors(self._counters)
            with trio.move_on_after(self._profile.close_within_s, shield=True):
                await stream.aclose()

    def _ready_stream(self) -> ByteStream:
        stream = self._open_stream()
        if self.state is READY:
            return stream
        if self.state is LineState.WAITING:
            raise LineBusyError("another exchange is in flight", address=self.key)
        raise LineStaleError("an abandoned exchange owes its reply", address=self.key)

    def _open_stream(self) -> ByteStream:
        if self._stream is None:
            raise LineClosedError("the line is closed", address=self.key)
        return self._stream

    def _note_sent(self, event: LineEvent) -> float:
        self.state = advance(self.state, event)
        self._last_sent_s = self._clock.now_s()
        return self._last_sent_s

    def _note_completed(self) -> None:
        self.state = advance(self.state, COMPLETED)
        if self._profile.pacing_s:
            self._quiet_since_s = self._clock.now_s()
        self._owed.clear()

    async def _pace(self) -> None:
        next_write_s = self._quiet_since_s + self._profile.pacing_s
        if next_write_s > self._clock.now_s():
            await self._clock.sleep_until(next_write_s)

    def _discard_input(self, stream: ByteStream) -> None:
        """Discard what answers no question; count it unless a reply is owed."""
        count = self._framer.clear()
        while data := stream.read_nowait():
            count += len(data)
        if count and self.state is not LineState.STALE:
            self._counters.unsolicited_bytes += count

    async def _flush(self, stream: ByteStream) -> None:
        """Discard what arrived unasked, unless somebody waits for what arrives."""
        if stream is not self._stream or self.state is not READY:
            return
        try:
            self._discard_input(stream)
        except PeerLostError as lost:
            await self._lose(lost)

    async def _lose(self, lost: PeerLostError) -> None:
        lost.address = self.key
        await self.aclose()

    async def _send_rest(self, stream: ByteStream, request: bytes, taken: int) -> None:
        within_s = self._profile.reply_within_s
        try:
            while taken < len(request):
                with trio.CancelScope(deadline=self._clock.now_s() + within_s) as stalled:
                    await stream.wait_writable()
                if stalled.cancelled_caught:
                    raise PeerLostError("the far end takes no more bytes", waited_s=within_s)
                taken += stream.write_nowait(request[taken:])
        except BaseException:
            # Half a request stays in the far end's input: only a new connection helps.
            await self.aclose()
            raise

    async def _receive(self, stream: ByteStream, exchange: Exchange, sent_s: float) -> bytes:
        if exchange.reply_within_s is None:
            # Others get their turn, but what is sent is sent: no cancellation here.
            await trio.lowlevel.cancel_shielded_checkpoint()
            return b""
        deadline_s = sent_s + exchange.reply_within_s
        frame: bytes | None = None
        if self._timed is not None:
            frame = await self._next_frame_until(self._timed, deadline_s)
        else:
            with trio.CancelScope(deadline=deadline_s):
                frame = await self._next_frame(stream)
        if frame is None:
            heard = self._heard
            reason = "no whole reply" if heard else "no reply"
            raise ReplyTimeoutError(reason, received=heard, waited_s=exchange.reply_within_s)
        if exchange.accepts is not None and not exchange.accepts(frame):
            raise ForeignReplyError("the reply answers something else", received=frame)
        if exchange.quiet_s is None:
            return frame
        return await self._receive_rest(stream, exchange, frame, exchange.quiet_s)

    async def _receive_rest(
        self, stream: ByteStream, exchange: Exchange, first: bytes, quiet_s: float
    ) -> bytes:
        """Return `first` and the frames that follow it without a silence of `quiet_s`."""
        frames = [first]
        room = self._profile.max_frame - len(first)
        while True:
            frame: bytes | None = None
            with trio.move_on_after(quiet_s):
                frame = await self._next_frame(stream)
            if frame is None:
                break
            if exchange.accepts is not None and not exchange.accepts(frame):
                raise ForeignReplyError(
                    "a part of the reply answers something else", received=frame
                )
            room -= len(frame) + 1
            if room < 0:
                limit = self._profile.max_frame
                raise FrameError(f"no silence within {limit} bytes", received=frame)
            frames.append(frame)
        if self._framer.clear():
            raise FrameError("the last part of the reply has no end", received=frames[-1])
        return b"\n".join(frames)

    async def _next_frame(self, stream: ByteStream) -> bytes:
        framer = self._framer
        while (frame := framer.next_frame()) is None:
            await stream.wait_readable()
            self._heard = stream.read_nowait()
            framer.feed(self._heard)
        return frame

    async def _next_frame_until(self, stream: TimedStream, when_s: float) -> bytes | None:
        """Return the next frame that arrives, or None where it is not whole by then."""
        framer = self._framer
        while await stream.wait_readable_until(when_s):
            self._heard = stream.read_nowait()
            framer.feed(self._heard)
            if (frame := framer.next_frame()) is not None:
                return frame
        return None

    async def _abandon(self, exchange: Exchange, why: BaseException) -> None:
        """Note that `exchange` ended without its reply."""
        match why:
            case ReplyTimeoutError():
                self._counters.timeouts += 1
            case ForeignReplyError():
                self._counters.foreign += 1
            case PeerLostError():
                await self.aclose()
            case trio.Cancelled():
                self._counters.abandoned += 1
            case _:
                pass
        if isinstance(why, TransportError):
            why.address, why.sent = self.key, exchange.request
        if self.state is LineState.WAITING:
            self.state = advance(self.state, LineEvent.ABANDONED)
            self._owed.append(exchange)
            self._quiet_since_s = self._clock.now_s()
            late_s = (exchange.reply_within_s or 0.0) + self._profile.lateness_s
            self._late_until_s = max(self._late_until_s, self._last_sent_s + late_s)

    async def _reopen(self) -> None:
        self._reopening = True
        try:
            await self.aclose()
            await self.open()
        finally:
            self._reopening = False

    async def _cross(self, fence: Exchange) -> None:
        """Send `fence` and discard everything up to its answer, or until all is too late."""
        await self._pace()
        stream = self._open_stream()
        try:
            self._discard_input(stream)
        except PeerLostError as lost:
            await self._lose(lost)
            raise
        stale = self.state is LineState.STALE
        sent_s = self._note_sent(LineEvent.FENCED if stale else SENT)
        # In order, the fence's answer comes after the last reply owed, however late that is.
        deadline_s = max(self._late_until_s, sent_s + self._profile.lateness_s)
        deadline_s += fence.reply_within_s or self._profile.reply_within_s
        try:
            taken = stream.write_nowait(fence.request)
            await self._send_rest(stream, fence.request, taken)
            # Without an answer this was a drain: nothing sent before can still arrive.
            with trio.CancelScope(deadline=deadline_s):
                await self._find_answer(stream, fence)
            self._note_completed()
        except BaseException as why:
            await self._abandon(fence, why)
            raise

    async def _find_answer(self, stream: ByteStream, fence: Exchange) -> None:
        while True:
            try:
                frame = await self._next_frame(stream)
            except FrameError:
                continue  # garbage is discarded like any other late reply
            if fence.accepts is None or fence.accepts(frame):
                return

    async def _outwait(self, stream: ByteStream) -> None:
        """Discard what arrives until no reply to anything sent before can."""
        if self._late_until_s <= self._clock.now_s():
            return
        with trio.CancelScope(deadline=self._late_until_s):
            while True:
                await stream.wait_readable()
                stream.read_nowait()

    async def _drain(self) -> None:
        """Discard until no reply owed can arrive any more."""
        stream = self._open_stream()
        try:
            await self._outwait(stream)
            self._discard_input(stream)
        except PeerLostError as lost:
            await self._lose(lost)
            raise
        if self.state is LineState.STALE:
            self.state = advance(self.state, LineEvent.RESYNCED)
            self._owed.clear()
