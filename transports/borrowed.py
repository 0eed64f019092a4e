"""A line that belongs to somebody else, used without closing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from .base import Exchange, LineCounters, Reply, Transport
from .errors import ConnectError, LineClosedError
from .line_state import LineState


class BorrowedTransport:
    """Uses a transport that its owner opens and closes.

    To whoever borrows it, it opens and closes like any other; the transport itself does
    neither. Once lost, it is back when its owner has opened it again.
    """

    def __init__(self, lent: Transport, key: str) -> None:
        """Borrow `lent` under a name of its own."""
        self.key = key
        self.lent = lent
        self._open = False
        self._closed = trio.Event()

    def __repr__(self) -> str:
        """Return what is borrowed."""
        return f"<BorrowedTransport {self.lent!r}>"

    @property
    def max_in_flight(self) -> int:
        """How many exchanges may be in flight."""
        return self.lent.max_in_flight

    @property
    def state(self) -> LineState:
        """The state of the line; CLOSED while it is not in use here."""
        return self.lent.state if self._open else LineState.CLOSED

    @property
    def counters(self) -> LineCounters:
        """What happened on the line, before it was lent too."""
        return self.lent.counters

    @property
    def stuck(self) -> bool:
        """Whether a blocking call keeps the line from being opened."""
        return self.lent.stuck

    async def wait_unstuck(self) -> None:
        """Return once nothing of that kind keeps the line from being opened."""
        await self.lent.wait_unstuck()

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive and disturb `unit`."""
        return self.lent.owed(unit)

    async def open(self) -> None:
        """Begin to use the line.

        Raises:
            ConnectError: Its owner has not opened it, or it was lost.
        """
        await trio.lowlevel.checkpoint()
        if self.lent.state is LineState.CLOSED:
            raise ConnectError(
                "the transport is closed; whoever made it opens it", address=self.key
            )
        self._open = True
        self._closed = trio.Event()

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Send one request and return the matching reply. See `Transport.exchange`."""
        self._check()
        return await self.lent.exchange(exchange, commit=commit)

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale line back into step. See `Transport.resync`."""
        self._check()
        await self.lent.resync(fence)

    async def wait_lost(self) -> None:
        """Return when the far end is found gone, or the line is no longer used here."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self.lent.wait_lost()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._closed.wait()
            nursery.cancel_scope.cancel()

    async def aclose(self) -> None:
        """End the use; the transport stays as it is."""
        self._open = False
        self._closed.set()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if not self._open:
            raise LineClosedError("the line is not in use", address=self.key)
