"""A simulated board whose modules are asked at once: one model behind each unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import trio

from transports.base import Exchange, LineCounters, Reply
from transports.clock import current_clock
from transports.errors import (
    ConnectError,
    ForeignReplyError,
    LineBusyError,
    LineClosedError,
    PeerLostError,
    ReplyTimeoutError,
)
from transports.line_state import LineEvent, LineState, advance

from .line import SimLine, TimedBytes


class MultiplexedSim:
    """Drives simulated modules at once, one exchange each; late replies are dropped.

    Unplugging any of the lines loses the whole board.

    Args:
        key: The canonical name.
        lines: The module of each unit, with its faults.
        max_in_flight: How many exchanges may be in flight.
        strip: What ends a reply, and is taken off it.

    Attributes:
        most_in_flight: How many exchanges were in flight at once so far.
    """

    def __init__(
        self,
        key: str,
        lines: Mapping[str, SimLine],
        *,
        max_in_flight: int = 16,
        strip: bytes = b"\n",
    ) -> None:
        """Make a closed board."""
        self.key = key
        self.max_in_flight = max_in_flight
        self.counters = LineCounters()
        self.most_in_flight = 0
        self._lines = dict(lines)
        self._strip = strip
        self._state = LineState.CLOSED
        self._in_flight: set[str | None] = set()
        self._lost = trio.Event()
        self._bell, self._door = trio.open_memory_channel[str | None](math.inf)
        for line in self._lines.values():
            line.watch(self._note_change)

    def __repr__(self) -> str:
        """Return the key, the state and the load."""
        return f"<MultiplexedSim {self.key} {self._state.name} {len(self._in_flight)} in flight>"

    @property
    def state(self) -> LineState:
        """The state of the connection to the board."""
        return self._state

    @property
    def stuck(self) -> bool:
        """Whether a call keeps the line: never."""
        return False

    async def wait_unstuck(self) -> None:
        """Return: nothing is stuck."""
        await trio.lowlevel.checkpoint()

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return nothing: replies are matched by number."""
        del unit
        return ()

    async def open(self) -> None:
        """Connect to the board.

        Raises:
            ConnectError: A module is unplugged.
        """
        await trio.lowlevel.checkpoint()
        if not all(line.plugged for line in self._lines.values()):
            raise ConnectError("the simulated board is unplugged", address=self.key)
        self._state = advance(self._state, LineEvent.OPENED)
        self._lost = trio.Event()
        self.counters.opened += 1

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Ask one module. See `Transport.exchange` for the errors."""
        unit = exchange.unit
        if self._state is LineState.CLOSED:
            raise LineClosedError("the board is not connected", address=self.key)
        if unit in self._in_flight or len(self._in_flight) >= self.max_in_flight:
            raise LineBusyError(f"{unit} is busy", address=self.key)
        if commit is not None:
            commit()
        clock = current_clock()
        sent_ns = clock.mono_ns()
        self.counters.exchanges += 1
        self._in_flight.add(unit)
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
        try:
            replies = self._lines[unit or ""].receive(exchange.request, trio.current_time())
            data = await self._reply(exchange, replies)
        except trio.Cancelled:
            self.counters.abandoned += 1
            raise
        finally:
            self._in_flight.discard(unit)
        return Reply(data, sent_ns, clock.mono_ns())

    async def _reply(self, exchange: Exchange, replies: Sequence[TimedBytes]) -> bytes:
        if exchange.reply_within_s is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return b""
        lost = self._lost
        latest_s = trio.current_time() + exchange.reply_within_s
        due_s, data = replies[0] if replies else (float("inf"), b"")
        with trio.CancelScope(deadline=min(due_s, latest_s)):
            await lost.wait()
            raise PeerLostError("the board went away", address=self.key)
        if due_s > latest_s:
            self.counters.timeouts += 1
            raise ReplyTimeoutError("no reply", waited_s=exchange.reply_within_s)
        data = data.removesuffix(self._strip)
        if exchange.accepts is not None and not exchange.accepts(data):
            self.counters.foreign += 1
            raise ForeignReplyError("the reply answers something else", received=data)
        return data

    async def resync(self, fence: Exchange | None = None) -> None:
        """Do nothing: the board is always in step."""
        del fence
        await trio.lowlevel.checkpoint()

    def request_service(self, unit: str | None) -> None:
        """Let the device of a unit request service."""
        self._bell.send_nowait(unit)

    def tells_requests(self, unit: str | None) -> bool:
        """Return that they are: by `request_service`."""
        return unit in self._lines

    async def service_requested(self) -> str | None:
        """Wait for the next request, and return the unit that makes it."""
        return await self._door.receive()

    async def wait_lost(self) -> None:
        """Return once the board is gone."""
        await self._lost.wait()

    async def aclose(self) -> None:
        """Disconnect; what is in flight fails."""
        self._state = advance(self._state, LineEvent.CLOSE)
        self._lost.set()
        await trio.lowlevel.checkpoint()

    def _note_change(self) -> None:
        if self._state is LineState.CLOSED or all(each.plugged for each in self._lines.values()):
            return
        self._state = advance(self._state, LineEvent.CLOSE)
        self._lost.set()
