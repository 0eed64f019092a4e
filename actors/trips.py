"""Tripped lanes: writes end, the instrument is driven safe, and only reads pass until rearmed.

Rules:
1. A trip empties the lane of writes in the same step, and calls off what goes on there.
2. What is part of one thing is tripped and rearmed together.
3. Nothing is rearmed that is not known to be safe.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .command import Priority
from .dispatch import Dispatch
from .errors import RefusedError
from .events import LaneRearmed, LaneTripped
from .faults import Cause
from .intake import Intake
from .member import Member
from .ticket import Ticket


class Trips:
    """Trips and rearms the instruments of one bus."""

    def __init__(self, intake: Intake, dispatch: Dispatch) -> None:
        """Trip nobody yet."""
        self._intake = intake
        self._dispatch = dispatch

    def trip(self, name: str, reason: str) -> None:
        """Trip an instrument, and what it is a part of."""
        for member in self.together(name):
            self.trip_one(member, reason)

    def together(self, name: str) -> Sequence[Member]:
        """Return an instrument, and after it those that are parts of the same thing."""
        first = self._intake.members[name]
        group = first.device.group
        if group is None:
            return (first,)
        others = [each for each in self._intake.members.values() if each is not first]
        return (first, *(each for each in others if each.device.group == group))

    def trip_one(self, member: Member, reason: str, *, passing: bool = False) -> None:
        """Trip one instrument; with `passing`, only until it has been driven safe."""
        if member.tripped is not None:
            if member.passing and not passing:
                # Somebody means it: what would have passed stays.
                member.tripped, member.passing = reason, False
            self._dispatch.safety.require_again(member)
            return
        member.tripped, member.passing = reason, passing
        name, failed = member.name, 0
        engagement = member.engagement
        if engagement is not None and engagement.ticket.command.plan.writes:
            failed += not engagement.ticket.state.final
            self._intake.call_off(member, Cause.TRIPPED, f"tripped by {reason}", at_all=True)
        for ticket in tuple(member.lane):
            command = ticket.command
            if command.plan.writes and command.priority is not Priority.EMERGENCY:
                failed += self._intake.take_back(ticket, Cause.TRIPPED, f"tripped by {reason}")
        self._intake.events.publish(LaneTripped(instrument=name, reason=reason, failed=failed))
        self._dispatch.safety.require(member, reason)
        self._dispatch.hurry(member)

    def rearm(self, name: str, tickets: Sequence[Ticket[Any]]) -> None:
        """Let an instrument, and what it is a part of, take commands again.

        Args:
            name: The instrument.
            tickets: The commands of the bus that are not finished.

        Raises:
            RefusedError: Driving it safe is still owed, or an emergency has not ended yet.
        """
        members = self.together(name)
        alarmed = {
            ticket.command.instrument
            for ticket in tickets
            if ticket.command.priority is Priority.EMERGENCY
        }
        for member in members:
            reason = None
            if member.safe_reason is not None:
                reason = f"it has not been driven safe yet after {member.safe_reason}"
            elif member.name in alarmed:
                reason = "an emergency command to it has not ended yet"
            if reason is not None:
                raise RefusedError(
                    reason, cause=Cause.TRIPPED, instrument=member.name, command="rearm"
                )
        for member in members:
            self._rearm(member)

    def _rearm(self, member: Member) -> None:
        if member.tripped is not None:
            # What it would not take back is tried once more before it is given up.
            self._end_trip(member)
        else:
            member.waive()
        if member.answered and (not member.confirmed or member.unrestored):
            self._dispatch.upkeep.readmit(member)
            self._intake.inbox.ring()
        member.confirmed = True

    def _end_trip(self, member: Member) -> None:
        member.tripped, member.passing = None, False
        self._intake.events.publish(LaneRearmed(instrument=member.name))

    def end(self, names: Collection[str]) -> None:
        """Rearm what was tripped only until it is safe, and is; what is not stays tripped."""
        for name in names:
            # It may have been removed.
            for member in self.together(name) if name in self._intake.members else ():
                if member.passing and member.safe_reason is None:
                    self._end_trip(member)
                member.passing = False
