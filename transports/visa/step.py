"""Keeping the instruments of one VISA line in step.

Rules:
1. An exchange that ends without its reply leaves its instrument STALE; READY again it is
   only once what is owed was cleared, answered before a fence, or died with its session.
2. On a board each instrument is stale, and away, by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from transports.base import Exchange, LineCounters
from transports.clock import current_clock
from transports.errors import (
    ConnectError,
    ForeignReplyError,
    LineClosedError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
    UnsupportedError,
)
from transports.line_state import LineEvent, LineState, advance
from transports.profile import BusProfile, Resync

from .units import Unit, Units

_SECOND_NS: Final = 1_000_000_000


class Step:
    """Notes how exchanges go, and brings instruments back into step.

    Args:
        units: The instruments.
        profile: The numbers of the bus.
        counters: Where to count.
        addressed: Whether the line is a board with several instruments.
        close: Closes the line, once it is of no use any more.
    """

    def __init__(
        self,
        units: Units,
        profile: BusProfile,
        counters: LineCounters,
        *,
        addressed: bool,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Start with a line on which nothing was said."""
        self._units = units
        self._profile = profile
        self._counters = counters
        self._addressed = addressed
        self._close = close
        self._quiet_since_s = float("-inf")

    def start_over(self) -> None:
        """Note that the line was opened anew."""
        self._quiet_since_s = float("-inf")

    async def pace(self) -> None:
        """Wait until the line has been silent for as long as its profile says."""
        next_write_s = self._quiet_since_s + self._profile.pacing_s
        if next_write_s > trio.current_time():
            await trio.sleep_until(next_write_s)

    def note_sent(self, unit: Unit, event: LineEvent) -> float:
        """Note that a request is handed over now; return when that is."""
        unit.state = advance(unit.state, event)
        unit.last_sent_s = trio.current_time()
        return unit.last_sent_s

    def note_completed(self, unit: Unit) -> None:
        """Note that the reply has come."""
        unit.state = advance(unit.state, LineEvent.COMPLETED)
        self._quiet_since_s = trio.current_time()

    async def abandon(self, unit: Unit, exchange: Exchange, why: BaseException) -> None:
        """Note that `exchange` ended without its reply."""
        match why:
            case ReplyTimeoutError():
                self._counters.timeouts += 1
            case ForeignReplyError():
                self._counters.foreign += 1
            case trio.Cancelled():
                self._counters.abandoned += 1
            case PeerLostError() if not self._addressed or self._units.stuck:
                await self._close()
            case _:
                pass
        if isinstance(why, TransportError):
            why.address, why.sent = self._units.key, exchange.request
        if self._units.calls is None or unit.state is not LineState.WAITING:
            return
        if isinstance(why, UnsupportedError):
            unit.state = advance(unit.state, LineEvent.COMPLETED)
            return
        unit.state = advance(unit.state, LineEvent.ABANDONED)
        unit.owed.append(exchange)
        self._quiet_since_s = trio.current_time()
        late_s = (exchange.reply_within_s or 0.0) + self._profile.lateness_s
        unit.late_until_s = max(unit.late_until_s, unit.last_sent_s + late_s)

    async def resync(self, unit: Unit, fence: Exchange | None) -> None:
        """Bring one instrument back into step, as the profile says."""
        self._counters.resyncs += 1
        # A late answer to an owed request equal to the fence would be taken for the fence's.
        if fence is not None and (
            fence.accepts is None or any(each.request == fence.request for each in unit.owed)
        ):
            fence = None
        try:
            interrupted = await self._take_back(unit)
            await self._get_rid(unit, fence, interrupted=interrupted)
            if fence is not None and self._profile.resync not in (Resync.REOPEN, Resync.DRAIN):
                await self._cross(unit, fence)
        except (ConnectError, PeerLostError) as lost:
            if not self._addressed or self._units.stuck:
                lost.address = self._units.key
                await self._close()
                raise
            # One instrument of several is away. Its session is opened anew when it is asked
            # next, and cleared before that.
            await self._units.drop(unit)
        if unit.state is LineState.STALE:
            unit.state = advance(unit.state, LineEvent.RESYNCED)
        unit.owed.clear()
        self._quiet_since_s = trio.current_time()

    async def _take_back(self, unit: Unit) -> bool:
        """Get the thread back from a call that was given up; return whether by force."""
        session = unit.session
        if self._units.ready_calls().idle:
            return False
        interrupted = session is not None and session.inside.interrupt()
        await self._units.wait_due()
        return interrupted

    async def _get_rid(self, unit: Unit, fence: Exchange | None, *, interrupted: bool) -> None:
        """Get rid of what is owed, as far as that goes before a fence."""
        how = self._profile.resync
        drained = how is not Resync.REOPEN and (fence is None or how is Resync.DRAIN)
        if how in (Resync.FENCE, Resync.DRAIN) and interrupted:
            await self._units.reopen(unit)
        if drained:
            await trio.sleep_until(unit.late_until_s)
        match how:
            case Resync.REOPEN | Resync.REOPEN_AND_FENCE:
                await self._units.reopen(unit)
            case Resync.CLEAR_AND_FENCE:
                await self._units.clear(unit, reopen=interrupted)
            case Resync.FENCE | Resync.DRAIN:
                session = unit.session
                if drained and session is not None:
                    calls = self._units.ready_calls()
                    await calls.make(session.drop_input, self._profile.reply_within_s)

    async def _cross(self, unit: Unit, fence: Exchange) -> None:
        """Ask `fence` and discard everything up to its answer, or until all is too late."""
        await self.pace()
        session = unit.session
        if session is None:
            raise LineClosedError("the line was closed meanwhile", address=self._units.key)
        calls = self._units.ready_calls()
        sent_s = self.note_sent(unit, LineEvent.FENCED)
        # In order, the fence's answer comes after the last reply owed, however late that is.
        deadline_s = max(unit.late_until_s, sent_s + self._profile.lateness_s)
        within_s = deadline_s - sent_s + (fence.reply_within_s or self._profile.reply_within_s)
        by_ns = current_clock().mono_ns() + round(within_s * _SECOND_NS)
        try:
            answered = await calls.make(partial(session.ask_fence, fence, by_ns), within_s)
        except BaseException as why:
            await self.abandon(unit, fence, why)
            raise
        unit.state = advance(unit.state, LineEvent.COMPLETED)
        if not answered:
            # It was a drain then; but a session in which a read timed out is not trusted.
            await self._units.clear(unit, reopen=False)
