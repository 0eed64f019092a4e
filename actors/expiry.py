"""Deadlines of commands that nobody waits for."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

import trio

from transports import current_clock

from .ticket import Ticket

_Due: TypeAlias = tuple[float, int, Ticket[Any]]

_FEW: Final = 64


class Expiry:
    """The commands of one bus that nobody waits for, by deadline."""

    def __init__(self) -> None:
        """Watch none yet."""
        self._due: list[_Due] = []
        # Where `watch` waits: a place of its own for each wait, which nothing late wakes.
        self._changed = trio.lowlevel.ParkingLot()
        # How many are borne before those that have ended are looked for.
        self._bound = _FEW

    def add(self, ticket: Ticket[Any]) -> None:
        """Watch a command until it has its outcome."""
        if len(self._due) >= self._bound:
            self._due = [each for each in self._due if not each[2].state.final]
            heapify(self._due)
            self._bound = 2 * len(self._due) + _FEW
        heappush(self._due, (ticket.command.deadline_s, ticket.seq, ticket))
        if self._due[0][2] is ticket:
            self._changed.unpark()

    async def watch(self, expire: Callable[[Ticket[Any]], object]) -> None:
        """Call `expire` with each command whose deadline passes, until cancelled."""
        clock = current_clock()
        while True:
            now_s, due = clock.now_s(), self._due
            while due and (due[0][2].state.final or due[0][0] <= now_s):
                expire(heappop(due)[2])
            next_s = self._due[0][0] if self._due else math.inf
            self._changed = trio.lowlevel.ParkingLot()
            await clock.park_until(self._changed, next_s)
