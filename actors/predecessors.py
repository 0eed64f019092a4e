"""Commands that wait for others, on whatever bus, and fail with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .command import CommandState, Plan, Priority
from .errors import RefusedError
from .faults import Cause
from .inbox import Inbox
from .member import Device, Member
from .ticket import Ticket


class Predecessors:
    """Keeps commands of one bus in their lanes until others are over.

    Args:
        inbox: Where they wait.
        fail: Fails one that waits.
    """

    def __init__(
        self, inbox: Inbox[Ticket[Any]], fail: Callable[[Ticket[Any], Cause, str], object]
    ) -> None:
        """Keep none yet."""
        self._inbox = inbox
        self._fail = fail
        # What lost a predecessor, while those are failed one after the other: a chain of
        # dependants may be long.
        self._orphans: deque[tuple[Ticket[Any], Ticket[Any]]] = deque()
        self._failing = False

    def check(
        self, device: Device, plan: Plan[object], priority: Priority, after: Sequence[Ticket[Any]]
    ) -> None:
        """Refuse what follows a command that has failed already.

        Raises:
            RefusedError: One has (dependency), or it is an emergency (validation).
        """
        failed = next((each for each in after if each.state is CommandState.FAILED), None)
        if failed is None and priority is not Priority.EMERGENCY:
            return
        raise RefusedError(
            "an emergency waits for no other command" if failed is None else _unmet(failed),
            cause=Cause.VALIDATION if failed is None else Cause.DEPENDENCY,
            instrument=device.name,
            command=plan.name,
        )

    def wait_for(self, member: Member, ticket: Ticket[Any], after: Sequence[Ticket[Any]]) -> None:
        """Keep a command in its lane until all of `after` are over; fail it if one fails."""
        # By identity: commands of two trees may have the same number.
        waits_for = {id(each): each for each in after if not each.state.final}

        def note(over: Ticket[Any]) -> None:
            waits_for.pop(id(over), None)
            if over.state is CommandState.FAILED:
                self._orphan(ticket, over)
            elif not waits_for and not ticket.state.final:
                self._inbox.unblock(member.lane, ticket)

        if waits_for:
            self._inbox.block(member.lane, ticket)
        for each in after:
            if not each.state.final:
                each.follow(note)
            elif each.state is CommandState.FAILED:
                self._orphan(ticket, each)  # it failed while there was no room

    def _orphan(self, ticket: Ticket[Any], failed: Ticket[Any]) -> None:
        """Fail a command whose predecessor failed, and in turn those that follow it."""
        self._orphans.append((ticket, failed))
        if self._failing:
            return
        self._failing = True
        try:
            while self._orphans:
                follower, lost = self._orphans.popleft()
                self._fail(follower, Cause.DEPENDENCY, _unmet(lost))
        finally:
            self._failing = False


def _unmet(failed: Ticket[Any]) -> str:
    command = failed.command
    return (
        f"command {failed.seq}, {command.instrument}: {command.plan.name}, had to come first "
        "and failed"
    )
