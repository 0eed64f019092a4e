"""Attempts at commands: the last look, the exchange, and what follows from how it went.

Rules:
1. Nothing is awaited between the last look and the first byte.
2. Whatever happens, a command that was taken out of its lane is resolved once, or keeps it.
3. Whether a failed attempt is repeated is decided by `retry`; what goes on is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NoReturn

import trio
from attrs import define, field

from transports import (
    BusProfile,
    LineState,
    Reply,
    Transport,
    TransportError,
    UnsupportedError,
)

from .command import EMERGENCY, CommandState, Outcome
from .engagements import Engagements
from .errors import DeviceError
from .events import AttemptBegun, AttemptFailed, Events
from .exchanges import Exchanges
from .faults import FRAMING, NOT_TAKEN, Cause, Fault
from .intake import WITHDRAWN, Intake
from .member import Member, Next
from .operation import Overlap
from .retry import ONCE, RetryPolicy, next_attempt_s
from .safety import Safety
from .ticket import Ticket
from .upkeep import Upkeep


class _NotSentError(Exception):
    """The command was resolved or put back before its first byte; there is nothing to do."""


@define(eq=False)
class Flight:
    """Work in hand on the line.

    Attributes:
        scope: Ends it when something urgent cannot wait for it.
        bounded: Whether the scope was given an end, and does for no other work after this.
        ticket: The command it carries out, where it is one.
        urgent: For whom it is urgent: nothing of its own cuts that short.
    """

    scope: trio.CancelScope = field(factory=trio.CancelScope)
    bounded: bool = False
    ticket: Ticket[Any] | None = None
    urgent: Member | None = None

    def end_by(self, latest_s: float) -> None:
        """End the work at `latest_s`, in Trio time, unless it ends before that anyway."""
        self.bounded = True
        self.scope.deadline = min(self.scope.deadline, latest_s)

    def end(self) -> None:
        """End the work now."""
        self.bounded = True
        self.scope.cancel()


class Attempts:
    """Carries commands out on one line.

    Attributes:
        crash: What ended the incarnation of the bus's task, once something has.
        alone: Whether one exchange at a time is made, as on a half-duplex line.
    """

    def __init__(
        self,
        transport: Transport,
        profile: BusProfile,
        intake: Intake,
        *,
        exchanges: Exchanges,
        safety: Safety,
        upkeep: Upkeep,
        trip: Callable[[str, str], None],
        random: Random,
    ) -> None:
        """Carry out nothing yet; `trip` is called where a fault is fatal."""
        self.crash: Exception | None = None
        self.alone = True
        self._transport = transport
        self._profile = profile
        self._intake = intake
        self._inbox = intake.inbox
        self._engagements: Engagements = intake.engagements
        self._events: Events = intake.events
        self._exchanges = exchanges
        self._safety = safety
        self._upkeep = upkeep
        self._trip = trip
        self._random = random
        self._retry = RetryPolicy(
            attempts=profile.attempts,
            wait_s=profile.retry_wait_s,
            jitter=profile.retry_jitter,
        )

    async def attempt(self, flight: Flight, ticket: Ticket[Any], member: Member) -> None:
        """Carry a command out, for the first time or again; resolve it whatever happens."""
        flight.ticket = ticket
        try:
            await self._carry_out(member, ticket)
        except BaseException as why:
            engaged = member.engagement is not None and member.engagement.ticket is ticket
            if not (engaged or ticket.state.final):
                self._leave(member, ticket)
                self._intake.fail(ticket, *self._why_ended(flight, why))
            raise
        finally:
            flight.ticket = None
            if ticket.command.priority is EMERGENCY:
                # Whatever it wrote, a tripped instrument ends in its safe state.
                self._safety.require_again(member)

    def _why_ended(self, flight: Flight, why: BaseException) -> tuple[Cause, str]:
        if isinstance(why, Exception):
            return Cause.CRASHED, _crashed(why)
        if flight.scope.cancel_called:
            return Cause.TRIPPED, f"cut short for an emergency on the bus {self._intake.name}"
        return self.why_over()

    def why_over(self) -> tuple[Cause, str]:
        """Return why what was not done when the incarnation ended has failed."""
        if self.crash is not None:
            return Cause.CRASHED, _crashed(self.crash)
        return Cause.STOPPED, "the bus stopped"

    async def _carry_out(self, member: Member, ticket: Ticket[Any]) -> None:
        plan = ticket.command.plan
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        try:
            commit = partial(self._commit, member, ticket)
            reply = await self._exchanges.exchange(plan.exchange, commit)
            if plan.then is not None:
                plan, reply = await self._exchanges.follow(plan, reply)
        except _NotSentError:
            return
        except UnsupportedError as error:
            # The line is well, and says so: no breaker counts what it cannot do.
            fault = self._exchanges.fault(error)
            self.note_failed(
                member, ticket, Cause.VALIDATION, error.reason, fault, may_have_executed=False
            )
            return
        except TransportError as error:
            fault = self._exchanges.fault(error)
            if not ticket.state.final:
                self.note_failed(member, ticket, Cause.TRANSPORT, error.reason, fault)
            await self._upkeep.note_fault(member, fault, epochs)
            return
        misfit = self._finish(member, ticket, plan.decode, reply, epochs)
        if misfit is not None:
            await self._upkeep.note_fault(member, misfit, epochs)

    def _commit(self, member: Member, ticket: Ticket[Any]) -> None:
        """Take the last look before the first byte."""
        command = ticket.command
        plan = command.plan
        if ticket.state.final:
            raise _NotSentError  # taken back while the line was got ready
        if ticket.unwanted:
            # Taken back while the line was got ready to try it again.
            self._drop(member, ticket, Cause.WITHDRAWN, WITHDRAWN)
        if command.deadline_s != math.inf and command.deadline_s <= trio.current_time():
            self._drop(member, ticket, Cause.EXPIRED, "its deadline passed before its turn")
        if command.priority is not EMERGENCY:
            objection = self._intake.objection(command.instrument, plan, command.lease)
            if objection is not None:
                self._drop(member, ticket, Cause.LEASE, *objection)
            if member.tripped is not None and plan.writes:
                self._drop(member, ticket, Cause.TRIPPED, f"tripped by {member.tripped}")
            unmet = None if plan.unmet is None else plan.unmet()
            if unmet is not None:
                self._drop(member, ticket, Cause.DEPENDENCY, unmet)
            if self.alone and (
                (self._inbox.emergencies and self._inbox.next_emergency())
                or (self._safety.due and self._safety.next_unsafe())
            ):
                # It came while the line was got ready, and goes before what is not sent yet.
                self._put_back(member, ticket)
                raise _NotSentError
        member.touched = member.touched or plan.writes
        if plan.overlap is not None:
            member.left_running = plan.overlap.abort
        if ticket.attempts == 0:
            ticket.dispatch()
            return
        ticket.dispatch_again()
        if self._events.detailed:
            self._events.publish_step(
                AttemptBegun(
                    bus=self._intake.name,
                    instrument=command.instrument,
                    command=plan.name,
                    seq=command.seq,
                    attempt=ticket.attempts,
                )
            )

    def _drop(
        self,
        member: Member,
        ticket: Ticket[Any],
        cause: Cause,
        reason: str,
        retry_after_s: float | None = None,
    ) -> NoReturn:
        """Fail a command that is not sent, or not again."""
        self._leave(member, ticket)
        self._intake.fail(ticket, cause, reason, fault=ticket.fault, retry_after_s=retry_after_s)
        raise _NotSentError

    def _put_back(self, member: Member, ticket: Ticket[Any]) -> None:
        """Have a command that was taken out wait for its turn once more."""
        if ticket.failures:
            self._engagements.engage(
                member, ticket, Next.TRY_AGAIN, trio.current_time(), fault=ticket.fault
            )
        else:
            self._inbox.put_back(member.lane, ticket, ticket.command.priority)

    def _finish(
        self,
        member: Member,
        ticket: Ticket[Any],
        decode: Callable[[bytes], object],
        reply: Reply,
        epochs: tuple[int, int],
    ) -> Fault | None:
        """Resolve an answered command; return the fault if the reply does not fit."""
        plan = ticket.command.plan
        overlap = plan.overlap
        try:
            value = decode(reply.data)
        except DeviceError as error:
            # The device answered: the line is well.
            self._upkeep.note_answer(member, epochs)
            if overlap is not None and error.fault.kind in NOT_TAKEN:
                member.left_running = None
            self.note_device_fault(member, ticket, error.fault, reply.data)
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            reason = f"the reply does not fit: {error}"
            self.note_failed(member, ticket, Cause.TRANSPORT, reason, fault, said=reply.data)
            return fault
        else:
            self._upkeep.note_answer(member, epochs)
            if overlap is not None:
                for brought in plan.brings:
                    member.intend(brought)
                self._follow(member, ticket, overlap, reply)
            else:
                member.intend(plan)
                ticket.acknowledge(reply.data)
                self.complete(ticket, value, reply)
        return None

    def complete(self, ticket: Ticket[Any], value: object, reply: Reply) -> None:
        """Resolve a command that is done."""
        ticket.resolve(Outcome(value=value, reply=reply))
        if ticket.command.plan.writes:
            self._intake.records.note_finished(ticket, None, None)

    def note_device_fault(
        self, member: Member, ticket: Ticket[Any], fault: Fault, said: bytes
    ) -> None:
        """Note that the device answered with a fault of its own."""
        self.note_failed(
            member,
            ticket,
            Cause.DEVICE,
            fault.text,
            fault,
            said=said,
            may_have_executed=ticket.command.plan.writes and fault.kind not in NOT_TAKEN,
        )
        if fault.kind.fatal:
            self._trip(member.name, str(fault))

    def note_failed(
        self,
        member: Member,
        ticket: Ticket[Any],
        cause: Cause,
        reason: str,
        fault: Fault,
        *,
        said: bytes | None = None,
        may_have_executed: bool | None = None,
    ) -> None:
        """Have a command tried again, or fail it, once an attempt has failed."""
        command = ticket.command
        plan = command.plan
        now_s = trio.current_time()
        policy = ONCE if command.once else (plan.retry or self._retry)
        ticket.failures += 1
        ticket.fault = fault
        barred = ticket.unwanted or (member.tripped is not None and plan.writes)
        begun = ticket.state is CommandState.ACKNOWLEDGED
        again_s = None
        if not (barred or begun or self._transport.state is LineState.CLOSED):
            again_s = next_attempt_s(
                policy,
                fault,
                failures=ticket.failures,
                sent=ticket.attempts > 0,
                idempotent=plan.idempotent,
                now_s=now_s,
                deadline_s=command.deadline_s,
                chance=self._random.random() if policy.attempts > 1 else 0.0,
            )
        if again_s is not None:
            self._engagements.engage(member, ticket, Next.TRY_AGAIN, again_s, fault=fault)
            self._intake.shed_polls(member)
            self._events.publish(
                AttemptFailed(
                    bus=self._intake.name,
                    instrument=command.instrument,
                    command=plan.name,
                    seq=command.seq,
                    attempt=ticket.failures,
                    fault=str(fault),
                    again_in_s=again_s - now_s,
                )
            )
            return
        if ticket.failures > 1 and ticket.failures >= policy.attempts:
            cause, reason = Cause.RETRIES_EXHAUSTED, f"{reason}, {ticket.failures} times"
        if said is not None and not begun:
            ticket.acknowledge(said)
        self._leave(member, ticket)
        self._intake.fail(ticket, cause, reason, fault=fault, may_have_executed=may_have_executed)

    def _follow(
        self, member: Member, ticket: Ticket[Any], overlap: Overlap[Any], reply: Reply
    ) -> None:
        """Begin to ask how far an operation has come."""
        if not overlap.by_status:
            ticket.acknowledge(reply.data)
        now_s = trio.current_time()
        self._engagements.engage(
            member,
            ticket,
            Next.ASK_PROGRESS,
            now_s + self._profile.status_poll_s,
            ends_s=min(now_s + overlap.within_s, ticket.command.deadline_s),
        )
        self._intake.shed_polls(member)
        if ticket.unwanted:
            self._intake.call_off(member, Cause.WITHDRAWN, WITHDRAWN)

    def _leave(self, member: Member, ticket: Ticket[Any]) -> None:
        """See to it that a command that fails leaves nothing running."""
        overlap = ticket.command.plan.overlap
        if overlap is not None and member.left_running is not None:
            self._engagements.engage(member, ticket, Next.ABORT, trio.current_time())


def _crashed(crash: BaseException) -> str:
    return f"the bus's actor crashed: {crash!r}"
