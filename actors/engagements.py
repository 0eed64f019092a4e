"""Lanes held by a command that is not on the line: it waits to be tried again, or goes on.

Rules:
1. An engaged lane gives out nothing but emergencies; the bus is free for the others.
2. What an engagement ends with is told at once; where the device may be left running, the
   lane stays engaged until it was told to stop.
3. Nothing is done for an instrument that is out of service: what was left running there is
   stopped when it is back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .faults import Cause, Fault
from .member import Engagement, Member, Next, Service
from .ticket import Ticket


class Engagements:
    """The engaged lanes of one bus.

    Attributes:
        members: Whose lanes they are; their own.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.members: list[Member] = []

    def __len__(self) -> int:
        """Return how many lanes are engaged."""
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        """Iterate over the members whose lanes are engaged."""
        return iter(tuple(self.members))

    def engage(
        self,
        member: Member,
        ticket: Ticket[Any],
        then: Next,
        due_s: float,
        *,
        fault: Fault | None = None,
        ends_s: float = math.inf,
    ) -> None:
        """Hold a lane for a command."""
        if member.engagement is None:
            self.members.append(member)
        member.engagement = Engagement(ticket, then, due_s, fault, ends_s)
        member.lane.engaged = True

    def release(self, member: Member) -> None:
        """Let the lane go on."""
        if member.engagement is not None:
            member.engagement = None
            member.lane.engaged = False
            self.members.remove(member)

    def next_due_s(self) -> float:
        """Return when the next of them has something to do, in Trio time."""
        return min((due_s for due_s, _ in self._ready()), default=math.inf)

    def due(self, now_s: float) -> Member | None:
        """Return the member whose engagement has waited longest for its turn, or None."""
        due_s, member = min(self._ready(), key=lambda each: each[0], default=(math.inf, None))
        return member if due_s <= now_s else None

    def _ready(self) -> Iterator[tuple[float, Member]]:
        for member in self.members:
            engagement = member.engagement
            in_service = member.service is Service.IN_SERVICE
            if engagement is not None and in_service and not member.lane.busy:
                yield engagement.due_s, member

    def call_off(self, member: Member, now_s: float) -> bool:
        """Have a running operation aborted next; return whether the device can."""
        engagement = member.engagement
        if engagement is None or member.left_running is None:
            return False
        engagement.then, engagement.due_s = Next.ABORT, now_s
        return True


def ending(engagement: Engagement, reason: str) -> tuple[Cause, str]:
    """Return what a command fails with whose instrument went away meanwhile."""
    if engagement.fault is None:
        return Cause.TRANSPORT, f"lost sight of while it went on: {reason}"
    return Cause.TRANSPORT, f"{engagement.fault.text}; not tried again: {reason}"
