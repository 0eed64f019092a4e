"""Watching the commands of a whole tree, without holding anybody up."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import trio

from actors import CommandMoved, Event, Events

KEPT = 10_000
"""How many steps are kept for who is slow to take them."""


class Watch:
    """The steps of a tree's commands, as they are taken. Made by `Tree.watch`.

    Attributes:
        missed: How many steps were dropped, the oldest first, because nobody took them.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """Keep at most `kept` steps."""
        self.missed = 0
        self._kept = kept
        self._moves: deque[CommandMoved] = deque()
        self._waiting = trio.lowlevel.ParkingLot()

    def __aiter__(self) -> AsyncIterator[CommandMoved]:
        """Iterate over the steps from now on; it never ends by itself."""
        return self

    async def __anext__(self) -> CommandMoved:
        """Return the next step."""
        await trio.lowlevel.checkpoint()
        while not self._moves:
            await self._waiting.park()
        return self._moves.popleft()

    def note(self, event: Event) -> None:
        """Take an event of the tree."""
        if isinstance(event, CommandMoved):
            self._moves.append(event)
            if len(self._moves) > self._kept:
                self._moves.popleft()
                self.missed += 1
            if self._waiting:
                self._waiting.unpark()


@contextmanager
def watching(events: Events) -> Generator[Watch]:
    """Watch the commands that are accepted within the block."""
    watch = Watch()
    with events.observed(watch.note, commands=True):
        yield watch
