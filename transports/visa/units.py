"""The instruments of one VISA line, and their sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import trio
from attrs import define, field

from transports.address import Address
from transports.base import Exchange, LineCounters
from transports.clock import current_clock
from transports.errors import LineClosedError, TransportError, UnsupportedError
from transports.framing import Framing
from transports.line_state import LineState
from transports.profile import BusProfile
from transports.resource import Resource

from .calls import Calls
from .library import Library, borrow
from .session import Session, Settings, open_session


@define(eq=False)
class Unit:
    """One instrument of the bus, or all of it where there is one only.

    Attributes:
        name: Its address on the board; None where there is one only.
        session: Open, or None where it was not needed yet. The bus's thread makes and
            closes it.
        state: READY, WAITING or STALE.
        owed: The exchanges whose replies may still arrive; non-empty exactly when STALE.
        dirty: Whether what was asked before may still be answered in a new session.
        last_sent_s: When the last request went out. Trio time.
        late_until_s: When the last of the replies owed is too late even for the profile.
        tells: Whether the library tells when the instrument requests service.
    """

    name: str | None
    session: Session | None = None
    state: LineState = LineState.READY
    owed: list[Exchange] = field(factory=list[Exchange])
    dirty: bool = False
    last_sent_s: float = float("-inf")
    late_until_s: float = float("-inf")
    tells: bool = False


class Units:
    """All instruments of one line: opens and closes their sessions.

    Attributes:
        key: The canonical name of the bus.
        calls: The calls of the line while it is open, else None.
        last_calls: Those of the line when it was open last: one may not have returned.
        reopening: Whether a session is closed only to be opened again.
    """

    def __init__(
        self,
        key: str,
        address: Address,
        resource: Resource,
        framing: Framing,
        profile: BusProfile,
        counters: LineCounters,
    ) -> None:
        """Know nobody yet."""
        self.key = key
        self.calls: Calls | None = None
        self.last_calls: Calls | None = None
        self.reopening = False
        self._address = address
        self._resource = resource
        self._framing = framing
        self._profile = profile
        self._counters = counters
        self._library: Library | None = None
        self._units: dict[str | None, Unit] = {}
        self._bell, self._door = trio.open_memory_channel[str | None](math.inf)

    def __repr__(self) -> str:
        """Return the bus and who was asked so far."""
        return f"<Units {self.key} {[each.name for each in self._units.values()]}>"

    @property
    def state(self) -> LineState:
        """READY, WAITING while any of them is, or else STALE while any is."""
        state = LineState.READY
        for unit in self._units.values():
            if unit.state is LineState.WAITING:
                return unit.state
            if unit.state is LineState.STALE:
                state = unit.state
        return state

    @property
    def stuck(self) -> bool:
        """Whether a call that was given up has not returned."""
        return self.last_calls is not None and not self.last_calls.idle

    def all(self) -> Sequence[Unit]:
        """Return everybody who was asked since the line was opened."""
        return tuple(self._units.values())

    def find(self, name: str | None) -> Unit:
        """Return an instrument by its address."""
        key = self._key(name)
        unit = self._units.get(key)
        if unit is None:
            unit = self._units[key] = Unit(key)
        return unit

    def owed(self, name: str | None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive and disturb an instrument.

        Instruments on a board are read by their addresses: each disturbs itself only.
        """
        if self._resource.addressed and name is not None:
            found = self._units.get(name)
            return () if found is None else tuple(found.owed)
        return tuple(each for found in self._units.values() for each in found.owed)

    def tells_requests(self, name: str | None) -> bool:
        """Return whether the library tells that an instrument requests service."""
        found = self._units.get(self._key(name))
        return found is not None and found.tells

    async def service_requested(self) -> str | None:
        """Wait for the next request, and return the unit that makes it."""
        return await self._door.receive()

    def is_lost(self) -> bool:
        """Return whether anybody's far end is seen to be gone."""
        return any(
            each.session is not None and each.session.inside.lost() for each in self._units.values()
        )

    def ready_calls(self) -> Calls:
        """Return how calls are made.

        Raises:
            LineClosedError: The line was closed meanwhile.
        """
        if self.calls is None:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        return self.calls

    async def wait_due(self) -> None:
        """Wait until a call that was given up has returned.

        Raises:
            LineClosedError: The line was closed meanwhile.
            PeerLostError: It has not by its time limit.
        """
        try:
            await self.ready_calls().wait_due()
        finally:
            self.ready_calls()

    # Opening and closing.

    async def begin(self) -> None:
        """Load the VISA library, and open the session where there is one instrument only."""
        self.calls = self.last_calls = Calls(self.key, self.is_lost)
        await self.calls.make(self._borrow, self._profile.connect_within_s)
        if not self._resource.addressed:
            await self.open(self.find(None))

    async def end(self) -> None:
        """Close all sessions; a call that goes on keeps its session until it returns."""
        calls, self.calls = self.calls, None
        self.reopening = False
        if calls is None:
            return
        calls.give_up(LineClosedError("the line was closed meanwhile", address=self.key))
        units = self.all()
        self._units.clear()
        if not calls.idle:
            for unit in units:
                if unit.session is not None:
                    unit.session.inside.interrupt()

        def close() -> None:
            # In the thread, after whatever was opened for somebody who gave up.
            for unit in units:
                if unit.session is not None:
                    unit.session.close()
            library, self._library = self._library, None
            if library is not None:
                library.give_back()

        await calls.end(close, self._profile.close_within_s)

    async def open(self, unit: Unit) -> Session:
        """Open an instrument's session."""
        calls, library = self.ready_calls(), self._library
        if library is None:
            raise LineClosedError("the line was closed meanwhile", address=self.key)
        within_s = self._profile.connect_within_s
        name = self._resource.name(unit.name)
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
                token.run_sync_soon(self._note_request, unit)

        def open_it() -> Session:
            # In the thread: whoever gave up meanwhile finds it there to be closed.
            unit.session = open_session(library, name, settings, within_s)
            unit.tells = unit.session.tell_requests(note)
            return unit.session

        session = await calls.make(open_it, within_s)
        if unit.dirty:
            with suppress(UnsupportedError):
                await calls.make(session.clear, self._profile.reply_within_s)
            unit.dirty = False
        return session

    async def drop(self, unit: Unit) -> None:
        """Close an instrument's session; what it is asked next is asked in a new one."""
        calls = self.ready_calls()
        session, unit.session = unit.session, None
        unit.dirty = True
        if session is not None:
            await calls.make(session.close, self._profile.close_within_s)

    async def reopen(self, unit: Unit) -> None:
        """Close an instrument's session and open it anew: what is late dies with it."""
        self.reopening = True
        try:
            await self.drop(unit)
            # What is owed is asked after at once, by a fence or a clear.
            unit.dirty = self._resource.addressed
            await self.open(unit)
            self._counters.opened += 1
        finally:
            self.reopening = False

    async def clear(self, unit: Unit, *, reopen: bool) -> None:
        """Clear the device, or open its session anew where it cannot be cleared."""
        session = unit.session
        if session is not None and not reopen:
            try:
                await self.ready_calls().make(session.clear, self._profile.reply_within_s)
            except TransportError:
                if self.stuck:
                    raise
            else:
                return
        await self.reopen(unit)

    def _borrow(self) -> None:
        # In the thread: whoever gave up meanwhile finds it there to be given back.
        self._library = borrow(self._address.backend)

    def _key(self, name: str | None) -> str | None:
        """Return under which name a unit is kept: one for all where there is one only."""
        if not self._resource.addressed:
            return None
        return self._resource.unit if name is None else name

    def _note_request(self, unit: Unit) -> None:
        self._bell.send_nowait(unit.name)
        if self.calls is not None and unit.session is not None:
            # It comes after the call that goes on, and before the next.
            self.calls.post(unit.session.take_request, self._profile.reply_within_s)
