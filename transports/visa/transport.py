"""A bus under VISA: exchanges in a thread of its own, kept in step for each instrument.

What the line promises beyond `Transport`: a call into the VISA library is never abandoned
in its session. Who gives up on an exchange gets control back at once; the next one waits
until the call has returned, and until what it left behind is cleared away. A call that
does not even return by its time limit keeps the session to itself: the line is CLOSED and
stays so until the call is back.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import trio
from attrs import define, field

from transports.address import Address, canonical_key
from transports.base import Exchange, LineCounters, Reply
from transports.clock import current_clock
from transports.errors import (
    AddressError,
    ConnectError,
    ConnectProblem,
    ForeignReplyError,
    LineBusyError,
    LineClosedError,
    LineStaleError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
    UnsupportedError,
)
from transports.framing import Framing
from transports.line_state import LineEvent, LineState, advance
from transports.profile import BusProfile, Resync
from transports.resource import Resource
from transports.thread import CallThread, Waiting

from .library import Library, borrow
from .session import Session, Settings, open_session

T = TypeVar("T")

OVERDUE_S: Final = 1.0
"""How long after its time limit a call may return before it counts as stuck, in seconds."""

CHECK_S: Final = 0.25
"""How often a line looks whether its far end is still there, in seconds."""

_SECOND_NS: Final = 1_000_000_000


@define
class _Unit:
    """One instrument of the bus, or all of it where there is one only.

    Attributes:
        session: Open, or None where it was not needed yet. The bus's thread makes and
            closes it.
        state: READY, WAITING or STALE.
        owed: The exchanges whose replies may still arrive; non-empty exactly when STALE.
        dirty: Whether what was asked before may still be answered in a new session.
        last_sent_s: When the last request went out. Trio time.
        late_until_s: When the last of the replies owed is too late even for the profile.
        tells: Whether the library tells when the instrument requests service.
    """

    session: Session | None = None
    state: LineState = LineState.READY
    owed: list[Exchange] = field(factory=list[Exchange])
    dirty: bool = False
    last_sent_s: float = float("-inf")
    late_until_s: float = float("-inf")
    tells: bool = False


class VisaTransport:
    """The line to a VISA resource, or to all instruments of a GPIB board.

    Args:
        address: A `visa` address; where it names a board, each exchange names its unit.
        framing: How replies are told apart.
        profile: The numbers of the bus.
        locate: Finds the canonical name of the bus anew, and becomes its owner; called
            by `open` before it connects. None where the name never changes.

    Attributes:
        key: The canonical name of the bus, as it was when the line was opened last.
    """

    max_in_flight: int = 1

    def __init__(
        self,
        address: Address,
        framing: Framing,
        profile: BusProfile,
        *,
        locate: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """Make a closed line; nothing is touched, and nothing imported, before `open`."""
        if address.resource is None:
            raise AddressError("no VISA resource", address=address.text)
        self.key = canonical_key(address)
        self._address = address
        self._locate = locate
        self._resource: Resource = address.resource
        self._framing = framing
        self._profile = profile
        self._counters = LineCounters()
        self._open = False
        # Set while a stale session is closed only to be opened again.
        self._reopening = False
        self._library: Library | None = None
        self._units: dict[str | None, _Unit] = {}
        self._thread: CallThread | None = None
        # The call that somebody waits for, and when the last call must be back. Trio time.
        self._waiting: Waiting[Any] | None = None
        self._due_s = float("-inf")
        self._quiet_since_s = float("-inf")
        self._bell, self._door = trio.open_memory_channel[str | None](math.inf)

    def __repr__(self) -> str:
        """Return the key, the state and the counts."""
        return f"<VisaTransport {self.key} {self.state.name} {self._counters}>"

    @property
    def state(self) -> LineState:
        """The state of the line: STALE while any unit is."""
        if not self._open:
            return LineState.CLOSED
        states = {each.state for each in self._units.values()}
        return next(
            (each for each in (LineState.WAITING, LineState.STALE) if each in states),
            LineState.READY,
        )

    @property
    def counters(self) -> LineCounters:
        """What happened on the line so far."""
        return self._counters

    @property
    def stuck(self) -> bool:
        """Whether a call that was given up keeps the line from being opened."""
        return not self._open and self._thread is not None and not self._thread.idle

    async def wait_unstuck(self) -> None:
        """Return once no call that was given up keeps the line from being opened."""
        while self.stuck and self._thread is not None:
            await self._thread.wait_idle()

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive and disturb `unit`.

        Instruments on a board are read by their addresses: each disturbs itself only.
        """
        if self._resource.addressed and unit is not None:
            found = self._units.get(unit)
            return () if found is None else tuple(found.owed)
        return tuple(each for found in self._units.values() for each in found.owed)

    async def open(self) -> None:
        """Load the VISA library and open the resource.

        The instruments of a board are opened when they are first asked.

        Raises:
            ConnectError: The resource, the library or PyVISA is missing or refuses; or a
                call that was given up has not returned.
        """
        if self._open:
            raise LineBusyError("the line is open already", address=self.key)
        if current_clock().virtual:
            reason = "VISA needs real time; simulate the bench with --sim, or write sim://name"
            raise ConnectError(reason, address=self.key)
        if self.stuck:
            reason = "a call into the VISA library that was given up has not returned yet"
            raise ConnectError(reason, address=self.key)
        within_s = self._profile.connect_within_s
        if self._locate is not None:
            with trio.move_on_after(within_s):
                self.key = await self._locate()
        self._thread = current_clock().make_thread(f"VISA {self.key}")
        try:
            await self._call(self._borrow, within_s)
            self._open = True
            if not self._resource.addressed:
                await self._session(None)
        except BaseException as why:
            self._open = True  # for what was opened to be closed
            await self.aclose()
            if isinstance(why, ReplyTimeoutError | PeerLostError):
                raise ConnectError(
                    "no connection",
                    address=self.key,
                    waited_s=within_s,
                    problem=ConnectProblem.UNREACHABLE,
                ) from why
            if isinstance(why, TransportError):
                why.address = self.key
            raise
        self._quiet_since_s = float("-inf")
        self._counters.opened += 1

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Send one request and return the matching reply, unframed.

        Cancelling after the request was handed to the thread returns at once and leaves
        the unit stale. See `Transport.exchange` for the errors.
        """
        unit = self._ready_unit(exchange.unit)
        try:
            await self._get_ready(unit, exchange.unit)
        except PeerLostError:
            await self.aclose()
            raise
        session = unit.session
        if session is None:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        if commit is not None:
            commit()
        unit.state = advance(unit.state, LineEvent.SENT)
        unit.last_sent_s = trio.current_time()
        self._counters.exchanges += 1
        within_s = exchange.reply_within_s
        limit_s = self._profile.reply_within_s + (within_s or 0.0)
        try:
            reply, unasked = await self._call(partial(session.converse, exchange), limit_s)
        except BaseException as why:
            await self._abandon(unit, exchange, why)
            raise
        self._counters.unsolicited_bytes += unasked
        unit.state = advance(unit.state, LineEvent.COMPLETED)
        self._quiet_since_s = trio.current_time()
        return reply

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale unit back into step, as the profile says. See `Transport.resync`.

        The one that the fence is for; all of them without a fence.
        """
        if not self._open:
            raise LineClosedError("the line is closed", address=self.key)
        wanted = None if fence is None else self._unit_key(fence.unit)
        for key, unit in tuple(self._units.items()):
            if unit.state is LineState.STALE and (fence is None or key == wanted):
                await self._resync(unit, key, fence)

    async def wait_lost(self) -> None:
        """Return when the far end is found gone while the line is idle, or was closed.

        Only some libraries let a loss be seen: it shows at the next exchange otherwise.
        """
        while self._open or self._reopening:
            if self._is_lost() and self.state is not LineState.WAITING and not self._reopening:
                await self.aclose()
                return
            await trio.sleep(CHECK_S)

    async def aclose(self) -> None:
        """Close the line; a call that goes on keeps its session until it returns."""
        if not self._open or self._thread is None:
            await trio.lowlevel.checkpoint()
            return
        self._open = False
        self._reopening = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.fail(LineClosedError("the line was closed meanwhile", address=self.key))
        units = tuple(self._units.values())
        self._units.clear()
        if not self._thread.idle:
            for unit in units:
                if unit.session is not None:
                    unit.session.inside.interrupt()
        self._thread.post(partial(self._close, units))
        with trio.move_on_after(self._profile.close_within_s, shield=True):
            await self._thread.wait_idle()
        self._thread.stop()

    def _borrow(self) -> None:
        # In the thread: whoever gave up meanwhile finds it there to be given back.
        self._library = borrow(self._address.backend)

    def _close(self, units: Sequence[_Unit]) -> None:
        """Close sessions, then give the library back; in the thread."""
        for unit in units:
            if unit.session is not None:
                unit.session.close()
        library, self._library = self._library, None
        if library is not None:
            library.give_back()

    def _unit_key(self, unit: str | None) -> str | None:
        """Return under which name a unit is kept: one for all where there is one only."""
        if not self._resource.addressed:
            return None
        return self._resource.unit if unit is None else unit

    def _ready_unit(self, name: str | None) -> _Unit:
        if not self._open:
            raise LineClosedError("the line is closed", address=self.key)
        if any(each.state is LineState.WAITING for each in self._units.values()):
            raise LineBusyError("another exchange is in flight", address=self.key)
        unit = self._units.setdefault(self._unit_key(name), _Unit())
        if unit.state is LineState.STALE:
            raise LineStaleError("an abandoned exchange owes its reply", address=self.key)
        return unit

    async def _get_ready(self, unit: _Unit, name: str | None) -> None:
        """Wait until the thread, the line and the unit's session are ready."""
        await self._wait_idle()
        if self._profile.pacing_s:
            next_write_s = self._quiet_since_s + self._profile.pacing_s
            if next_write_s > trio.current_time():
                await trio.sleep_until(next_write_s)
        if unit.session is None:
            await self._session(self._unit_key(name))
        if self._is_lost():
            raise PeerLostError("the far end closed the connection", address=self.key)
        if unit.state is not LineState.READY:
            raise LineBusyError("another exchange is in flight", address=self.key)

    async def _session(self, key: str | None) -> Session:
        """Open the session of a unit."""
        library, unit = self._library, self._units.setdefault(key, _Unit())
        if library is None:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        within_s = self._profile.connect_within_s
        name = self._resource.name(key)
        settings = Settings(
            medium=self._resource.medium,
            framing=self._framing,
            max_frame=self._profile.max_frame,
            chunk_size=self._address.chunk_size,
            serial=self._address.options,
            write_within_s=self._profile.reply_within_s,
            mono_ns=current_clock().mono_ns,
        )

        token = trio.lowlevel.current_trio_token()

        def note() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._note_request, key, unit)

        def open_it() -> Session:
            # In the thread: whoever gave up meanwhile finds it there to be closed.
            unit.session = open_session(library, name, settings, within_s)
            unit.tells = unit.session.tell_requests(note)
            return unit.session

        session = await self._call(open_it, within_s)
        if unit.dirty:
            with suppress(UnsupportedError):
                await self._call(session.clear, self._profile.reply_within_s)
            unit.dirty = False
        return session

    def tells_requests(self, unit: str | None) -> bool:
        """Return whether the library tells that this instrument requests service.

        NI's and Keysight's do; pyvisa-py does not.
        """
        found = self._units.get(self._unit_key(unit))
        return found is not None and found.tells

    async def service_requested(self) -> str | None:
        """Wait for the next request, and return the unit that makes it."""
        return await self._door.receive()

    def _note_request(self, key: str | None, unit: _Unit) -> None:
        self._bell.send_nowait(key)
        session = unit.session
        if self._open and self._thread is not None and session is not None:
            # It comes after the call that goes on, and before the next.
            limit_s = self._profile.reply_within_s + OVERDUE_S
            self._due_s = max(self._due_s, trio.current_time() + limit_s)
            self._thread.post(session.take_request)

    async def _call(self, blocking: Callable[[], T], within_s: float) -> T:
        """Have the thread make a call; watch the far end and the time limit meanwhile.

        Raises:
            PeerLostError: The far end went away, or the call has not returned by its time
                limit: the session stays the thread's.
        """
        thread = self._thread
        if thread is None:
            raise LineClosedError("the line is closed", address=self.key)
        overdue_s = trio.current_time() + within_s + OVERDUE_S
        self._due_s = overdue_s
        call: Waiting[T] = thread.start(blocking)
        self._waiting = call
        try:
            while True:
                now_s = trio.current_time()
                with trio.CancelScope(deadline=min(now_s + CHECK_S, overdue_s)):
                    return await call.wait()
                if self._is_lost():
                    raise PeerLostError("the far end closed the connection")
                if trio.current_time() >= overdue_s:
                    raise PeerLostError(
                        "the VISA library does not return from a call", waited_s=within_s
                    )
        finally:
            if self._waiting is call:
                self._waiting = None

    async def _wait_idle(self) -> None:
        """Wait until a call that was given up has returned.

        Raises:
            PeerLostError: It has not by its time limit.
        """
        thread = self._thread
        if thread is None or thread.idle:
            return
        with trio.move_on_at(self._due_s):
            await thread.wait_idle()
        if not self._open:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        if not thread.idle:
            raise PeerLostError("the VISA library does not return from a call", address=self.key)

    def _is_lost(self) -> bool:
        return any(
            each.session is not None and each.session.inside.lost() for each in self._units.values()
        )

    async def _abandon(self, unit: _Unit, exchange: Exchange, why: BaseException) -> None:
        """Note that `exchange` ended without its reply."""
        match why:
            case ReplyTimeoutError():
                self._counters.timeouts += 1
            case ForeignReplyError():
                self._counters.foreign += 1
            case trio.Cancelled():
                self._counters.abandoned += 1
            case PeerLostError() if not self._resource.addressed or self._is_stuck():
                await self.aclose()
            case _:
                pass
        if isinstance(why, TransportError):
            why.address, why.sent = self.key, exchange.request
        if not self._open or unit.state is not LineState.WAITING:
            return
        if isinstance(why, UnsupportedError):
            unit.state = advance(unit.state, LineEvent.COMPLETED)
            return
        unit.state = advance(unit.state, LineEvent.ABANDONED)
        unit.owed.append(exchange)
        self._quiet_since_s = trio.current_time()
        late_s = (exchange.reply_within_s or 0.0) + self._profile.lateness_s
        unit.late_until_s = max(unit.late_until_s, unit.last_sent_s + late_s)

    def _is_stuck(self) -> bool:
        return self._thread is not None and not self._thread.idle

    async def _resync(self, unit: _Unit, key: str | None, fence: Exchange | None) -> None:
        self._counters.resyncs += 1
        # A late answer to an owed request equal to the fence would be taken for the fence's.
        if fence is not None and (
            fence.accepts is None or any(each.request == fence.request for each in unit.owed)
        ):
            fence = None
        try:
            interrupted = await self._take_back(unit)
            await self._get_rid(unit, key, fence, interrupted=interrupted)
            if fence is not None and self._profile.resync not in (Resync.REOPEN, Resync.DRAIN):
                await self._cross(unit, key, fence)
        except (ConnectError, PeerLostError) as lost:
            if not self._resource.addressed or self._is_stuck():
                lost.address = self.key
                await self.aclose()
                raise
            # One instrument of several is away. Its session is opened anew when it is asked
            # next, and cleared before that.
            await self._drop(unit)
        if unit.state is LineState.STALE:
            unit.state = advance(unit.state, LineEvent.RESYNCED)
        unit.owed.clear()
        self._quiet_since_s = trio.current_time()

    async def _get_rid(
        self, unit: _Unit, key: str | None, fence: Exchange | None, *, interrupted: bool
    ) -> None:
        """Get rid of what is owed, as far as that goes before a fence."""
        how = self._profile.resync
        drained = how is not Resync.REOPEN and (fence is None or how is Resync.DRAIN)
        if how in (Resync.FENCE, Resync.DRAIN) and interrupted:
            await self._reopen(unit, key)
        if drained:
            await trio.sleep_until(unit.late_until_s)
        match how:
            case Resync.REOPEN | Resync.REOPEN_AND_FENCE:
                await self._reopen(unit, key)
            case Resync.CLEAR_AND_FENCE:
                await self._clear(unit, key, reopen=interrupted)
            case Resync.FENCE | Resync.DRAIN:
                session = unit.session
                if drained and session is not None:
                    await self._call(session.drop_input, self._profile.reply_within_s)

    async def _drop(self, unit: _Unit) -> None:
        session, unit.session = unit.session, None
        unit.dirty = True
        if session is not None:
            await self._call(session.close, self._profile.close_within_s)

    async def _take_back(self, unit: _Unit) -> bool:
        """Get the thread back from a call that was given up; return whether by force."""
        thread, session = self._thread, unit.session
        if thread is None or thread.idle:
            return False
        interrupted = session is not None and session.inside.interrupt()
        await self._wait_idle()
        return interrupted

    async def _reopen(self, unit: _Unit, key: str | None) -> None:
        """Close the unit's session and open it anew: what is late dies with it."""
        self._reopening = True
        try:
            await self._drop(unit)
            # What is owed is asked after at once, by a fence or a clear.
            unit.dirty = self._resource.addressed
            await self._session(key)
            self._counters.opened += 1
        finally:
            self._reopening = False

    async def _clear(self, unit: _Unit, key: str | None, *, reopen: bool) -> None:
        """Clear the device, or open its session anew where it cannot be cleared."""
        session = unit.session
        if session is not None and not reopen:
            try:
                await self._call(session.clear, self._profile.reply_within_s)
            except TransportError:
                if self._is_stuck():
                    raise
            else:
                return
        await self._reopen(unit, key)

    async def _cross(self, unit: _Unit, key: str | None, fence: Exchange) -> None:
        """Ask `fence` and discard everything up to its answer, or until all is too late."""
        session = unit.session
        if session is None:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        if self._profile.pacing_s:
            await trio.sleep_until(self._quiet_since_s + self._profile.pacing_s)
        now_s = trio.current_time()
        unit.state = advance(unit.state, LineEvent.FENCED)
        unit.last_sent_s = now_s
        # In order, the fence's answer comes after the last reply owed, however late that is.
        deadline_s = max(unit.late_until_s, now_s + self._profile.lateness_s)
        within_s = deadline_s - now_s + (fence.reply_within_s or self._profile.reply_within_s)
        by_ns = current_clock().mono_ns() + round(within_s * _SECOND_NS)
        try:
            answered = await self._call(partial(session.ask_fence, fence, by_ns), within_s)
        except BaseException as why:
            await self._abandon(unit, fence, why)
            raise
        unit.state = advance(unit.state, LineEvent.COMPLETED)
        if not answered:
            # It was a drain then; but a session in which a read timed out is not trusted.
            await self._clear(unit, key, reopen=False)
