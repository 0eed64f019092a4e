"""What is told of commands: to the ledger, and to observers that ask for it."""

from __future__ import annotations

import math
from typing import Any

from transports import Clock, current_clock

from .command import EMERGENCY, QUEUED, Outcome
from .errors import RefusedError
from .events import CommandFinished, CommandMoved, CommandRefused, Events
from .faults import Cause
from .ledger import Ledger
from .ticket import Ticket


class Records:
    """Tells of the commands of one bus.

    Args:
        bus: Its name.
        events: Where observers are.
        ledger: Where commands are written down, if anywhere.
        tree: The tree's name, for resource URIs.
    """

    def __init__(self, bus: str, events: Events, ledger: Ledger | None, tree: str) -> None:
        """Tell nothing yet."""
        self._bus = bus
        self._events = events
        self._ledger = ledger
        self._tree = tree

    def steps(self) -> Steps | None:
        """Return what is to be told of each step of one command; None where nobody asks."""
        if self._ledger is None and not self._events.detailed:
            return None
        return Steps(self, self._events, self._ledger)

    def target(self, instrument: str, command: str) -> str:
        """Return the resource that a command is for, as a URI."""
        return f"benchtree://{self._tree}/{instrument}/{command}"

    def note_refused(
        self, refusal: RefusedError, *, writes: bool, caller: str, entered: bool = False
    ) -> None:
        """Tell the ledger, unless it has the command `entered`, and observers of a refusal."""
        ledger = None if entered else self._ledger
        if ledger is None and not self._events.detailed:
            return
        refused = CommandRefused(
            bus=self._bus,
            instrument=refusal.instrument,
            command=refusal.command,
            cause=refusal.cause,
            writes=writes,
            target=self.target(refusal.instrument, refusal.command),
            caller=caller,
            error=str(refusal),
        )
        if ledger is not None:
            ledger.note_refused(refused)
        self._events.publish_step(refused)

    def move_of(self, ticket: Ticket[Any], outcome: Outcome[Any] | None = None) -> CommandMoved:
        """Return a command's latest step as an event."""
        return self.step_of(ticket, outcome, current_clock())

    def step_of(
        self, ticket: Ticket[Any], outcome: Outcome[Any] | None, clock: Clock
    ) -> CommandMoved:
        """Return a command's latest step as an event, with the time of a clock."""
        command = ticket.command
        plan = command.plan
        queued = CommandMoved(
            mono_ns=clock.mono_ns(),
            utc_ns=clock.utc_ns(),
            bus=self._bus,
            instrument=command.instrument,
            command=plan.name,
            seq=command.seq,
            state=QUEUED,
            writes=plan.writes,
            urgent=command.priority is EMERGENCY,
            target=command.target,
            caller=command.caller,
            lease=None if command.lease is None else command.lease.token,
            hazardous=plan.hazardous,
            request=plan.exchange.request,
            deadline_s=None if command.deadline_s == math.inf else command.deadline_s,
        )
        if outcome is None and ticket.state is QUEUED:
            return queued
        return _later(queued, ticket, outcome, clock)

    def note_finished(self, ticket: Ticket[Any], error: str | None, cause: Cause | None) -> None:
        """Tell observers how a command ended."""
        command = ticket.command
        self._events.publish(
            CommandFinished(
                instrument=command.instrument,
                command=command.plan.name,
                seq=command.seq,
                error=error,
                cause=cause,
            )
        )


class Steps:
    """Tells of the steps of one command. Made by `Records.steps`."""

    __slots__ = ("_clock", "_events", "_first", "_ledger", "_records")

    def __init__(self, records: Records, events: Events, ledger: Ledger | None) -> None:
        """Tell nothing yet."""
        self._records = records
        self._events = events
        self._ledger = ledger
        self._clock = current_clock()
        # The first event, which says what stays the same.
        self._first: CommandMoved | None = None

    def moved(self, ticket: Ticket[Any], outcome: Outcome[Any] | None) -> None:
        """Tell the ledger of a step of the command, and observers that ask for it."""
        ledger, events = self._ledger, self._events
        event = self._move_of(ticket, outcome) if events.detailed else None
        if ledger is not None:
            plan = ticket.command.plan
            if plan.writes or plan.hazardous or ledger.everything:
                ledger.note(event or self._move_of(ticket, outcome))
            elif outcome is not None and outcome.error is not None:
                ledger.note_failed_read(event or self._move_of(ticket, outcome))
            elif outcome is not None:
                ledger.count_read(ticket.command.instrument)
        if event is not None:
            events.publish_step(event)
        if outcome is not None:
            self._first = None  # the ticket may be kept for long

    def _move_of(self, ticket: Ticket[Any], outcome: Outcome[Any] | None) -> CommandMoved:
        if self._first is None:
            self._first = self._records.step_of(ticket, outcome, self._clock)
            return self._first
        return _later(self._first, ticket, outcome, self._clock)


def _later(
    before: CommandMoved, ticket: Ticket[Any], outcome: Outcome[Any] | None, clock: Clock
) -> CommandMoved:
    """Return a command's latest step as an event; `before` is an earlier one."""
    reply = error = None
    if outcome is not None:
        reply, error = outcome.reply, outcome.error
    sent = ticket.state is not QUEUED
    return before.later(
        mono_ns=clock.mono_ns(),
        utc_ns=clock.utc_ns(),
        state=ticket.state,
        attempt=ticket.attempts,
        acknowledgement=ticket.acknowledgement,
        sent_ns=None if reply is None else reply.sent_ns,
        reply=b"" if reply is None else reply.data,
        cause=None if error is None else error.cause,
        error=None if error is None else str(error),
        may_have_executed=sent if error is None else error.may_have_executed,
    )
