"""The front desk of a bus: what is accepted, what is refused, and how it ends.

Rules:
1. What is accepted gets exactly one outcome, given by `fail` or by the bus's own task.
2. What is refused never entered a lane.
3. Nothing here waits for a device; only `submit` waits, for room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar, cast

import trio
from attrs import evolve

from transports import current_clock

from .breaker import Breaker
from .command import EMERGENCY, LOW, QUEUED, Command, CommandState, Outcome, Plan, Priority
from .engagements import Engagements, ending
from .errors import RefusedError
from .events import Events
from .expiry import Expiry
from .faults import Cause, Fault
from .inbox import Inbox, InboxFullError
from .lease import Hold, LeaseBook
from .leasing import carried
from .ledger import Ledger, LedgerError
from .member import Device, Engagement, Member, Next, Service
from .predecessors import Predecessors
from .records import Records
from .ticket import Ticket

T = TypeVar("T")

WITHDRAWN: Final = "withdrawn by its caller"


class Intake:
    """Takes commands in for one bus. It outlives the incarnations of the bus's task.

    Attributes:
        name: The bus's name.
        events: Where to report.
        breaker: The bus's breaker.
        leases: Who may command what, for now.
        members: The instruments on the bus, by name.
        inbox: What waits for the bus's task.
        engagements: What has a lane while it is not on the line.
        records: What the ledger and observers are told of commands.
        down: Why nothing is accepted, or None.
        lent: Who has the port now instead, or None.
        reason: Why the breaker opened last, or "".
    """

    def __init__(
        self,
        name: str,
        *,
        events: Events,
        sequence: Iterator[int],
        tree: str,
        breaker: Breaker,
        ledger: Ledger | None = None,
        leases: LeaseBook,
    ) -> None:
        """Start closed: nothing is accepted before the bus runs."""
        self.name = name
        self.events = events
        self.breaker = breaker
        self.leases = leases
        self.members: dict[str, Member] = {}
        self.inbox: Inbox[Ticket[Any]] = Inbox()
        self.engagements = Engagements()
        self.down: str | None = "the bus has not been started"
        self.lent: str | None = None
        self.reason = ""
        self.records = Records(name, events, ledger, tree)
        self._ledger = ledger
        self._sequence = sequence
        self._expiry = Expiry()
        self._predecessors = Predecessors(self.inbox, self.take_back)

    async def submit(
        self,
        device: Device,
        plan: Plan[T],
        *,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        watch_deadline: bool = True,
        once: bool = False,
        after: Sequence[Ticket[Any]] = (),
        caller: str | None = None,
        deadline_s: float | None = None,
    ) -> Ticket[T]:
        """Accept a command and return its ticket.

        Waits for room in the lane, unless `wait` is False, and for the ledger where the
        command can do harm, and for nothing else. The caller's scope is the command's
        deadline; `watch_deadline` is False where the caller withdraws the command itself.
        The commands of `after`, here or elsewhere, have to complete before it is sent, and
        it fails when one of them does (dependency); what is behind it waits with it.
        `once` is for what comes around by itself: it is not tried again. `caller` is the
        name of the task that calls, and `deadline_s` the deadline of its scope, where they
        are not given: whoever submits many at once need not have it looked up for each.

        Raises:
            RefusedError: The bus is stopping (stopped), the instrument or its bus is away
                (breaker), tripped (tripped), somebody else's (lease), the ledger cannot be
                written (journal), or `wait` is False and the lane is full (full) or the
                instrument is in its recovery window (breaker).
        """
        ledger = self._ledger
        entered = False
        if caller is None:
            caller = trio.lowlevel.current_task().name
        hold = carried(device.name)
        try:
            _check_order(device, plan, priority, after)
            member = self.admit(device, plan, priority, wait=wait, hold=hold)
            if after:
                self._predecessors.check(device, plan, priority, after)
            if deadline_s is None:
                deadline_s = trio.current_effective_deadline()
            command = Command(
                next(self._sequence),
                self.records.target(device.name, plan.name),
                device.name,
                priority,
                deadline_s,
                plan,
                caller,
                hold,
                once or priority is EMERGENCY,
            )
            steps = self.records.steps()
            moved = None if steps is None else steps.moved
            ticket: Ticket[T] = Ticket(command, self.withdraw, moved)
            if ledger is not None and plan.hazardous and priority is not EMERGENCY:
                entered = True
                await self._put_written(ledger, device, ticket, wait=wait)
            else:
                await self._put(device, member, ticket, wait=wait)
        except RefusedError as refusal:
            self.records.note_refused(refusal, writes=plan.writes, caller=caller, entered=entered)
            raise
        if moved is not None:
            moved(ticket, None)
        if watch_deadline and deadline_s != math.inf:
            self._expiry.add(ticket)
        if after:
            self._predecessors.wait_for(member, ticket, after)
        return ticket

    async def _put(
        self, device: Device, member: Member, ticket: Ticket[Any], *, wait: bool
    ) -> None:
        """Put a command into its lane, waiting for room if `wait`."""
        plan, priority, hold = ticket.command.plan, ticket.command.priority, ticket.command.lease
        try:
            self.inbox.put_nowait(member.lane, ticket, priority)
        except InboxFullError:
            if not wait:
                raise RefusedError(
                    f"{len(member.lane)} commands wait already",
                    cause=Cause.FULL,
                    instrument=device.name,
                    command=plan.name,
                ) from None
            await self.inbox.put(
                member.lane,
                ticket,
                priority,
                check=lambda: self.admit(device, plan, priority, hold=hold),
            )

    async def _put_written(
        self, ledger: Ledger, device: Device, ticket: Ticket[Any], *, wait: bool
    ) -> None:
        """Have a hazardous command written down, then put it into its lane."""
        command = ticket.command
        plan = command.plan
        try:
            try:
                await ledger.enter(self.records.move_of(ticket))
            except LedgerError as full:
                raise RefusedError(
                    f"it can do harm, and the journal cannot be written: {full}",
                    cause=Cause.JOURNAL,
                    instrument=command.instrument,
                    command=plan.name,
                ) from full
            # Much may have happened meanwhile.
            member = self.admit(device, plan, command.priority, wait=wait, hold=command.lease)
            await self._put(device, member, ticket, wait=wait)
        except BaseException as why:
            error = ticket.error(*_why_not_entered(why))
            failed = self.records.move_of(ticket, Outcome(error=error))
            ledger.strike(evolve(failed, state=CommandState.FAILED))
            raise

    def admit(
        self,
        device: Device,
        plan: Plan[object],
        priority: Priority,
        *,
        wait: bool = True,
        hold: Hold | None = None,
    ) -> Member:
        """Return the instrument's notes if a command would be accepted now.

        Raises:
            RefusedError: It would not.
        """
        member = self.members.get(device.name)
        cause, reason, retry_after_s = Cause.STOPPED, "", None
        if member is not None and member.device is not device:
            member = None  # another has taken its name
        if member is None:
            reason = "the instrument was removed"
        elif self.down is not None:
            reason = self.down
        elif self.lent is not None:
            cause, reason = Cause.LEASE, f"the port of the bus {self.name} is lent to {self.lent}"
        elif priority is not EMERGENCY:
            objection = self.objection(device.name, plan, hold)
            if objection is not None:
                cause, reason, retry_after_s = Cause.LEASE, *objection
            elif member.tripped is not None and plan.writes:
                cause = Cause.TRIPPED
                reason = f"tripped by {member.tripped}; only reads pass until it is rearmed"
            elif not self.breaker.closed:
                cause, reason = Cause.BREAKER, f"the bus {self.name} is away: {self.reason}"
                retry_after_s = self.breaker.retry_after_s(trio.current_time())
            elif not member.breaker.closed or (
                not member.confirmed and member.service is Service.QUARANTINED
            ):
                cause, reason = Cause.BREAKER, f"quarantined: {member.reason}"
                retry_after_s = member.breaker.retry_after_s(trio.current_time())
            elif not wait and priority is LOW and member.engagement is not None:
                cause, reason = Cause.CONFLICT, _busy(member.engagement)
            elif not wait and member.recovering:
                cause, reason = Cause.BREAKER, "it has its recovery window before it"
                retry_after_s = max(0.0, member.probe_at_s - trio.current_time())
        if member is None or reason:
            raise RefusedError(
                reason,
                cause=cause,
                instrument=device.name,
                command=plan.name,
                retry_after_s=retry_after_s,
            )
        return member

    def objection(
        self, instrument: str, plan: Plan[object], hold: Hold | None
    ) -> tuple[str, float | None] | None:
        """Return why a lease keeps a command out, and when it surely ends; None if none does."""
        holder = self.leases.holder(instrument)
        if holder is None and hold is None:
            return None
        now_s = current_clock().boot_s()
        why = self.leases.objection(instrument, hold, writes=plan.writes, now_s=now_s)
        if why is None:
            return None
        return why, None if holder is None else holder.ends_within_s(now_s)

    def withdraw(self, ticket: Ticket[Any]) -> bool:
        """Take a command back for its caller and return whether it still waited.

        An operation whose start is on the line is called off once that is answered.
        """
        reason = WITHDRAWN
        if self.take_back(ticket, Cause.WITHDRAWN, reason):
            return True
        member = self.members.get(ticket.command.instrument)
        engagement = None if member is None else member.engagement
        if member is not None and engagement is not None and engagement.ticket is ticket:
            self.call_off(member, Cause.WITHDRAWN, reason)
        else:
            ticket.unwanted = True
        return False

    def shed_polls(self, member: Member) -> None:
        """Fail what was to be read now from an instrument whose lane has become engaged.

        It comes around by itself; to wait for it would hold up what is read from others.
        """
        engagement = member.engagement
        if engagement is None:
            return
        for ticket in tuple(member.lane):
            if ticket.command.once and ticket.command.priority is LOW:
                self.take_back(ticket, Cause.CONFLICT, _busy(engagement))

    def call_off(self, member: Member, cause: Cause, reason: str, *, at_all: bool = False) -> None:
        """End what a lane is engaged with: nothing is tried again, an operation is aborted.

        An operation that the device cannot abort goes on, unless its end is wanted `at_all`.
        """
        engagement = member.engagement
        if engagement is None or engagement.ticket.state.final:
            return
        ticket, fault = engagement.ticket, engagement.fault
        if engagement.then is not Next.TRY_AGAIN:
            if self.engagements.call_off(member, trio.current_time()):
                self.inbox.ring()
            elif at_all:
                self.engagements.release(member)
            else:
                return
        else:
            self.engagements.release(member)
            self.inbox.ring()
        self.fail(ticket, cause, reason, fault=fault)

    def take_back(
        self,
        ticket: Ticket[Any],
        cause: Cause,
        reason: str,
        *,
        retry_after_s: float | None = None,
    ) -> bool:
        """Fail a command whose first byte was not handed over yet; return whether that is so."""
        if ticket.state is not QUEUED:
            return False
        member = self.members.get(ticket.command.instrument)
        if member is not None:
            # Where it is not in its lane, the bus's task has it in hand, and looks at it once
            # more before the first byte.
            self.inbox.discard(member.lane, ticket, ticket.command.priority)
            if member.engagement is not None and member.engagement.ticket is ticket:
                self.engagements.release(member)
        self.fail(ticket, cause, reason, retry_after_s=retry_after_s)
        return True

    def fail(
        self,
        ticket: Ticket[Any],
        cause: Cause,
        reason: str,
        *,
        fault: Fault | None = None,
        retry_after_s: float | None = None,
        may_have_executed: bool | None = None,
    ) -> None:
        """Give a command its outcome: a failure."""
        error = ticket.error(
            cause,
            reason,
            fault=fault,
            retry_after_s=retry_after_s,
            may_have_executed=may_have_executed,
        )
        ticket.resolve(Outcome(error=error))
        plan, member = ticket.command.plan, self.members.get(ticket.command.instrument)
        if error.may_have_executed and member is not None:
            member.doubt(plan)
        self.records.note_finished(ticket, str(error), cause)

    def fail_all(self, member: Member, cause: Cause, reason: str) -> None:
        """Fail everything that waits for an instrument."""
        engagement = member.engagement
        if engagement is not None:
            self.engagements.release(member)
            if not engagement.ticket.state.final:
                self.fail(engagement.ticket, cause, reason, fault=engagement.fault)
        for ticket in self.inbox.empty(member.lane):
            self.fail(ticket, cause, reason)

    def fail_away(
        self, member: Member, reason: str, fault: Fault, retry_after_s: float | None
    ) -> None:
        """Fail everything that waits for an instrument that is away, or is not done there."""
        self._fail_engaged(member, reason, fault, retry_after_s)
        for ticket in self.inbox.empty(member.lane):
            # An emergency asked no breaker; it had its one attempt.
            urgent = ticket.command.priority is EMERGENCY
            self.fail(
                ticket,
                Cause.TRANSPORT if urgent else Cause.BREAKER,
                reason,
                fault=fault,
                retry_after_s=retry_after_s,
            )

    def fail_kept_out(self, member: Member, reason: str, fault: Fault) -> None:
        """Fail what waits for an instrument that answers and is to be rearmed first.

        An emergency is not kept from it.
        """
        self._fail_engaged(member, reason, fault, None)
        for ticket in tuple(member.lane):
            if ticket.command.priority is not EMERGENCY:
                self.take_back(ticket, Cause.BREAKER, reason)

    def _fail_engaged(
        self, member: Member, reason: str, fault: Fault, retry_after_s: float | None
    ) -> None:
        engagement = member.engagement
        if engagement is None:
            return
        self.engagements.release(member)
        if not engagement.ticket.state.final:
            cause, text = ending(engagement, reason)
            self.fail(
                engagement.ticket,
                cause,
                text,
                fault=engagement.fault or fault,
                retry_after_s=retry_after_s,
            )

    async def watch_deadlines(self) -> None:
        """Fail waiting commands whose deadline passes and that nobody waits for."""
        await self._expiry.watch(self._expire)

    def _expire(self, ticket: Ticket[Any]) -> None:
        self.take_back(ticket, Cause.EXPIRED, "its deadline passed in the queue")


def _check_order(device: Device, plan: Plan[object], priority: object, after: object) -> None:
    """Refuse what says in no way when it is to be sent."""
    problem = None
    if not isinstance(priority, Priority):
        known = ", ".join(f"Priority.{each.name}" for each in Priority)
        problem = f"priority is {priority!r}; it is one of {known}"
    elif isinstance(after, Ticket):
        problem = f"after is {after!r}; it is a list of tickets: after=[ticket]"
    elif after and not _are_tickets(after):
        problem = f"after is {after!r}; it is a list of tickets, as `submit` returns them"
    if problem is not None:
        raise RefusedError(
            problem, cause=Cause.VALIDATION, instrument=device.name, command=plan.name
        )


def _are_tickets(given: object) -> bool:
    if not isinstance(given, Sequence):
        return False
    return all(isinstance(each, Ticket) for each in cast("Sequence[object]", given))


def _why_not_entered(why: BaseException) -> tuple[Cause, str]:
    """Return what kept a command from its lane, in the journal's words."""
    match why:
        case RefusedError():
            return why.cause, why.reason
        case trio.Cancelled():
            return Cause.WITHDRAWN, "its caller was cancelled"
        case _:
            return Cause.CRASHED, f"accepting it failed: {why!r}"


def _busy(engagement: Engagement) -> str:
    return f"it is busy with {engagement.ticket.command.plan.name}"
