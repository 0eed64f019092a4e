"""A bus under VISA: exchanges in a thread of its own, kept in step for each instrument.

What the line promises beyond `Transport`: a call into the VISA library is never abandoned
in its session. Who gives up on an exchange gets control back at once; the next one waits
until the call has returned, and until what it left behind is cleared away. A call that
does not even return by its time limit keeps the session to itself: the line is CLOSED and
stays so until the call is back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from transports.address import Address, canonical_key
from transports.base import Exchange, LineCounters, Reply
from transports.clock import current_clock
from transports.errors import (
    AddressError,
    ConnectError,
    ConnectProblem,
    LineBusyError,
    LineClosedError,
    LineStaleError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
)
from transports.framing import Framing
from transports.line_state import LineEvent, LineState
from transports.profile import BusProfile

from .calls import CHECK_S
from .session import Session
from .step import Step
from .units import Unit, Units


class VisaTransport:
    """The line to a VISA resource, or to all instruments of a GPIB board.

    Args:
        address: A `visa` address; where it names a board, each exchange names its unit.
        framing: How replies are told apart.
        profile: The numbers of the bus.
        locate: Finds the canonical name of the bus anew, and becomes its owner; called
            by `open` before it connects. None where the name never changes.
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
        resource = address.resource
        if resource is None:
            raise AddressError("no VISA resource", address=address.text)
        self._locate = locate
        self._profile = profile
        self._counters = LineCounters()
        self._units = Units(
            canonical_key(address), address, resource, framing, profile, self._counters
        )
        self._step = Step(
            self._units,
            profile,
            self._counters,
            addressed=resource.addressed,
            close=self.aclose,
        )

    def __repr__(self) -> str:
        """Return the key, the state and the counts."""
        return f"<VisaTransport {self.key} {self.state.name} {self._counters}>"

    @property
    def key(self) -> str:
        """The canonical name of the bus, as it was when the line was opened last."""
        return self._units.key

    @property
    def state(self) -> LineState:
        """The state of the line: STALE while any unit is."""
        return LineState.CLOSED if self._units.calls is None else self._units.state

    @property
    def counters(self) -> LineCounters:
        """What happened on the line so far."""
        return self._counters

    @property
    def stuck(self) -> bool:
        """Whether a call that was given up keeps the line from being opened."""
        return self._units.calls is None and self._units.stuck

    async def wait_unstuck(self) -> None:
        """Return once no call that was given up keeps the line from being opened."""
        while self.stuck and self._units.last_calls is not None:
            await self._units.last_calls.wait_idle()

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive and disturb `unit`."""
        return self._units.owed(unit)

    async def open(self) -> None:
        """Load the VISA library and open the resource.

        The instruments of a board are opened when they are first asked.

        Raises:
            ConnectError: The resource, the library or PyVISA is missing or refuses; or a
                call that was given up has not returned.
        """
        if self._units.calls is not None:
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
                self._units.key = await self._locate()
        try:
            await self._units.begin()
        except BaseException as why:
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
        self._step.start_over()
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
            session = await self._get_ready(unit)
        except PeerLostError as lost:
            lost.address = self.key
            await self.aclose()
            raise
        calls = self._units.ready_calls()
        if commit is not None:
            commit()
        self._step.note_sent(unit, LineEvent.SENT)
        self._counters.exchanges += 1
        limit_s = self._profile.reply_within_s + (exchange.reply_within_s or 0.0)
        try:
            reply, unasked = await calls.make(partial(session.converse, exchange), limit_s)
        except BaseException as why:
            await self._step.abandon(unit, exchange, why)
            raise
        self._counters.unsolicited_bytes += unasked
        self._step.note_completed(unit)
        return reply

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale unit back into step, as the profile says. See `Transport.resync`.

        The one that the fence is for; all of them without a fence.
        """
        if self._units.calls is None:
            raise LineClosedError("the line is closed", address=self.key)
        units = self._units.all() if fence is None else (self._units.find(fence.unit),)
        for unit in units:
            if unit.state is LineState.STALE:
                await self._step.resync(unit, fence)

    def tells_requests(self, unit: str | None) -> bool:
        """Return whether the library tells that this instrument requests service.

        NI's and Keysight's do; pyvisa-py does not.
        """
        return self._units.tells_requests(unit)

    async def service_requested(self) -> str | None:
        """Wait for the next request, and return the unit that makes it."""
        return await self._units.service_requested()

    async def wait_lost(self) -> None:
        """Return when the far end is found gone while the line is idle, or was closed.

        Only some libraries let a loss be seen: it shows at the next exchange otherwise.
        """
        units = self._units
        while units.calls is not None or units.reopening:
            if units.is_lost() and self.state is not LineState.WAITING and not units.reopening:
                await self.aclose()
                return
            await trio.sleep(CHECK_S)

    async def aclose(self) -> None:
        """Close the line; a call that goes on keeps its session until it returns."""
        if self._units.calls is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._units.end()

    def _ready_unit(self, name: str | None) -> Unit:
        if self._units.calls is None:
            raise LineClosedError("the line is closed", address=self.key)
        if self._units.state is LineState.WAITING:
            raise LineBusyError("another exchange is in flight", address=self.key)
        unit = self._units.find(name)
        if unit.state is LineState.STALE:
            raise LineStaleError("an abandoned exchange owes its reply", address=self.key)
        return unit

    async def _get_ready(self, unit: Unit) -> Session:
        """Return the unit's session once the thread, the line and the session are ready."""
        if not self._units.ready_calls().idle:
            await self._units.wait_due()
        if self._profile.pacing_s:
            await self._step.pace()
        session = unit.session
        if session is None:
            session = await self._units.open(unit)
        if session.inside.lost():
            raise PeerLostError("the far end closed the connection")
        if unit.state is not LineState.READY:
            raise LineBusyError("another exchange is in flight", address=self.key)
        return session
