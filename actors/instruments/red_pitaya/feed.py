"""What an operation reports, item by item, for `async for`."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import trio

from actors.command import Outcome
from actors.ticket import Ticket

T = TypeVar("T")
R = TypeVar("R")

KEPT: Final = 64
"""How many items wait for a slow reader; then the oldest are dropped, and counted."""


class Feed(Generic[T, R]):
    """The items of one operation, and what came of it; starts with the first item asked for.

    Left before its end, by `break` or otherwise, it ends the operation. Also an async
    context manager, which ends it for sure.

    Attributes:
        dropped: How many items were lost because nobody took them in time.
    """

    def __init__(
        self,
        start: Callable[[Callable[[Any], None]], Awaitable[Ticket[R]]],
        read: Callable[[Any], T],
        kept: int | None = KEPT,
    ) -> None:
        """Start nothing yet; `start` is given where the operation reports to."""
        self.dropped = 0
        self._start = start
        self._read = read
        self._items: deque[T] = deque()
        self._kept = kept
        self._ticket: Ticket[R] | None = None
        self._outcome: Outcome[R] | None = None
        self._more = trio.Event()

    def __aiter__(self) -> Self:
        """Return this feed."""
        return self

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            RefusedError: The operation was not accepted.
            CommandError: It failed.
        """
        if self._ticket is None:
            self._ticket = await self._start(self._taker())
        while not self._items:
            if self._outcome is not None:
                if self._outcome.error is not None:
                    raise self._outcome.error
                raise StopAsyncIteration
            await self._wait(self._ticket)
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._items.popleft()

    async def __aenter__(self) -> Self:
        """Return this feed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the operation."""
        self.withdraw()

    def __del__(self) -> None:
        """End an operation whose items nobody takes any more."""
        self.withdraw()

    def withdraw(self) -> None:
        """End the operation. After its end harmless."""
        if self._ticket is not None and not self._ticket.state.final:
            self._ticket.withdraw()

    async def result(self) -> R:
        """Wait for the end, items left aside, and return what came of it.

        Raises:
            RefusedError: The operation was not accepted.
            CommandError: It failed.
        """
        if self._ticket is None:
            self._ticket = await self._start(self._taker())
        while self._outcome is None:
            await self._wait(self._ticket)
        if self._outcome.error is not None:
            raise self._outcome.error
        value: Any = self._outcome.value
        return value  # type: ignore[no-any-return]  # it is there: there was no error

    def _taker(self) -> Callable[[Any], None]:
        """Return what takes reports for as long as somebody has this feed."""
        feed = weakref.ref(self)

        def take(report: Any) -> None:
            held = feed()
            if held is not None:
                held.take(report)

        return take

    def take(self, report: Any) -> None:
        """Take a report of the operation."""
        self._items.append(self._read(report))
        if self._kept is not None and len(self._items) > self._kept:
            self._items.popleft()
            self.dropped += 1
        self._more.set()

    async def _wait(self, ticket: Ticket[R]) -> None:
        """Wait for an item or the end."""
        self._more = trio.Event()
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                self._outcome = await ticket.outcome()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._more.wait()
            nursery.cancel_scope.cancel()
