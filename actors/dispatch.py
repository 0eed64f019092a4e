"""What goes next on a line, and carrying it out.

Rules:
1. One exchange at a time on a half-duplex line, done by the bus's own task; on a
   multiplexed one as many as the transport bears, each in a task of its own, one per lane.
2. Driving an instrument safe goes before everything else, then emergencies.
3. Whatever happens, a command that was taken out of its lane is resolved once.
4. A command that is not done keeps its lane: it is tried again, or followed until it is.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import trio
from attrs import define, field

from transports import BusProfile, Exchange, LineState, Reply, Transport, TransportError

from .command import CommandState, Outcome, Priority
from .engagements import Engagements
from .errors import DeviceError
from .events import AttemptBegun, AttemptFailed, Events
from .exchanges import Exchanges
from .faults import FRAMING, NOT_TAKEN, TIMEOUT, Cause, Fault
from .intake import Intake
from .member import Engagement, Member, Next, Service
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
        ticket: The command it carries out, where it is one.
        urgent: For whom it is urgent: nothing of its own cuts that short.
    """

    scope: trio.CancelScope = field(factory=trio.CancelScope)
    ticket: Ticket[Any] | None = None
    urgent: Member | None = None


class Dispatch:
    """Serves one line for as long as an incarnation of its bus runs.

    Attributes:
        exchanges: Makes exchanges on the line.
        safety: Who has to be driven safe.
        upkeep: The connection and who is on it.
        quiet: Set when nothing is in hand and nothing waits.
        away: Set once the line is closed for somebody else who has the port.
    """

    def __init__(
        self,
        transport: Transport,
        profile: BusProfile,
        intake: Intake,
        *,
        trip: Callable[[str, str], None],
        random: Random,
    ) -> None:
        """Serve nothing yet; `trip` is called where a fault is fatal."""
        self._transport = transport
        self._profile = profile
        self._intake = intake
        self._inbox = intake.inbox
        self._engagements: Engagements = intake.engagements
        self._events: Events = intake.events
        self._trip = trip
        self._random = random
        self._retry = RetryPolicy(
            attempts=profile.attempts,
            wait_s=profile.retry_wait_s,
            jitter=profile.retry_jitter,
        )
        self.exchanges = Exchanges(transport, intake, self._uncut)
        self.safety = Safety(intake, self.exchanges)
        self.upkeep = Upkeep(transport, intake, self.exchanges, self.safety)
        self.quiet = trio.Event()
        self.away = trio.Event()
        # What the bus's own task has in hand; its scope serves many pieces of work.
        self._own = Flight()
        # What tasks beside it have in hand, on a multiplexed line.
        self._aside: dict[Member, Flight] = {}
        # Where those tasks run; None on a half-duplex line.
        self._nursery: trio.Nursery | None = None
        # While connecting or getting into step, which what is urgent needs as well;
        # and whether something urgent came meanwhile.
        self._uncuttable = False
        self._overtaken = False
        self._probed_last = False
        self._continued_last = False
        # What ended the incarnation, once something has.
        self._crash: Exception | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand."""
        return self._own.ticket is None and not self._aside and not self._engagements

    def in_hand(self) -> Iterator[Ticket[Any]]:
        """Yield the commands that left their lanes and are not finished."""
        flights = [self._own, *self._aside.values()]
        tickets = [each.ticket for each in flights if each.ticket is not None]
        held = [each.engagement.ticket for each in self._engagements if each.engagement]
        seen: set[int] = set()
        for ticket in (*tickets, *held):
            if ticket.seq not in seen and not ticket.state.final:
                seen.add(ticket.seq)
                yield ticket

    # Running.

    def begin(self, nursery: trio.Nursery) -> None:
        """Begin an incarnation; `nursery` ends with it."""
        self._nursery = nursery if self._transport.max_in_flight > 1 else None
        self._crash = None

    async def serve(self, reached: Callable[[], None]) -> None:
        """Work until cancelled; `reached` is called whenever the line is up after a step."""
        try:
            while True:
                # One scope serves many pieces of work: it is renewed only once it was used.
                with trio.CancelScope() as self._own.scope:
                    while not self._own.scope.cancel_called:
                        await self._step()
                        if self._crash is not None:
                            await trio.sleep_forever()  # a task beside has ended the incarnation
                        self._own.scope.deadline = math.inf
                        if self.upkeep.up:
                            reached()
        except Exception as crash:
            self._crash = crash
            raise

    def end(self) -> None:
        """Fail what is engaged: no incarnation goes on with it."""
        for member in self._engagements:
            engagement = member.engagement
            self._engagements.release(member)
            if engagement is not None and not engagement.ticket.state.final:
                cause, reason = self._why_over()
                self._intake.fail(engagement.ticket, cause, reason, fault=engagement.fault)

    async def _step(self) -> None:
        """Do the most urgent piece of work, or wait for some."""
        if self._intake.lent is not None:
            await self._stay_away()
            return
        if self._intake.breaker.forced and self._transport.state is not LineState.CLOSED:
            await self.upkeep.lose(self._intake.reason)
            return
        if self._transport.state is LineState.CLOSED:
            if self._aside:
                await self._inbox.wait()  # they meet the loss themselves
            else:
                await self._reach()
            return
        if len(self._aside) >= self._transport.max_in_flight:
            await self._inbox.wait()
        elif not await self._step_urgently():
            await self._step_in_turn()

    async def _step_urgently(self) -> bool:
        """Do what is urgent, and return whether anything is."""
        emergency = self._inbox.next_emergency()
        if emergency is not None:
            member = self._intake.members[emergency.command.instrument]
            # Whoever answers there must be known before it is told anything.
            if member.known:
                await self._carry_out_next()
            else:
                await self._do(member, self.upkeep.bring_up, urgent=True)
            return True
        unsafe = self.safety.next_unsafe()
        if unsafe is not None:
            await self._do(unsafe, self.upkeep.drive_safe, urgent=True)
        return unsafe is not None

    async def _step_in_turn(self) -> None:
        """Probe, go on with something, begin something, or wait: whose turn it is."""
        now_s = trio.current_time()
        # Probing and serving take turns, so that neither starves the other; so do those who
        # go on with something and those who begin.
        if self.upkeep.next_probe_s <= now_s and not self._probed_last:
            self._probed_last = True
            await self._do(self.upkeep.next_probed(), self.upkeep.probe)
            return
        self._probed_last = False
        if self._engagements and not self._continued_last:
            member_due = self._engagements.due(now_s)
            if member_due is not None:
                self._continued_last = True
                await self._do(member_due, self._continue)
                return
        self._continued_last = False
        if await self._carry_out_next():
            return
        await self._rest()

    async def _rest(self) -> None:
        """Wait for work."""
        self.quiet.set()
        next_s = self.upkeep.next_probe_s
        if self._engagements:
            next_s = min(next_s, self._engagements.next_due_s())
        if next_s == math.inf:
            await self._inbox.wait()
        elif next_s > trio.current_time():
            with trio.CancelScope(deadline=next_s):
                await self._inbox.wait()

    async def _do(
        self, member: Member, work: Callable[[Member], Awaitable[None]], *, urgent: bool = False
    ) -> None:
        """Do work for an instrument: here and now, or beside, where the line is multiplexed."""
        if self._nursery is not None:
            self._send_off(self._nursery, member, work, Flight(), urgent=urgent)
        elif urgent:
            await self._urgently(self._own, work, member)
        else:
            await work(member)

    def _send_off(
        self,
        nursery: trio.Nursery,
        member: Member,
        work: Callable[[Member], Awaitable[None]],
        flight: Flight,
        *,
        urgent: bool,
    ) -> None:
        self._aside[member] = flight
        self._occupy(member, busy=True)

        async def fly() -> None:
            try:
                with flight.scope:
                    if urgent:
                        await self._urgently(flight, work, member)
                    else:
                        await work(member)
            except Exception as crash:
                self._crash = self._crash or crash
                raise
            finally:
                del self._aside[member]
                self._occupy(member, busy=False)
                self._inbox.ring()

        nursery.start_soon(fly, name=f"{self._intake.name}: {member.name}")

    def _occupy(self, member: Member, *, busy: bool) -> None:
        member.lane.busy = busy
        if member.service is not Service.IN_SERVICE:
            # Whoever is worked on is not probed beside that.
            self.upkeep.plan_probes()

    # What is urgent.

    def hurry(self, member: Member) -> None:
        """See to it that something urgent waits for one exchange at most."""
        latest_s = trio.current_time() + self._profile.emergency_wait_s
        if self._uncuttable:
            self._overtaken = True
        elif self._nursery is None:
            if self._own.urgent is not member:
                self._cut_at(self._own, latest_s)
        elif (flight := self._aside.get(member)) is not None:
            if flight.urgent is not member:
                self._cut_at(flight, latest_s)
        elif len(self._aside) >= self._transport.max_in_flight:
            # It needs a place: that of whoever has had one for longest.
            other = next((each for each in self._aside.values() if each.urgent is None), None)
            if other is not None:
                self._cut_at(other, latest_s)
        self._inbox.ring()

    def _cut_at(self, flight: Flight, latest_s: float) -> None:
        flight.scope.deadline = min(flight.scope.deadline, latest_s)

    @contextmanager
    def _uncut(self) -> Generator[None]:
        """Keep what is urgent from cutting the block short; end the work after it instead."""
        own = self._own
        self._overtaken = own.scope.deadline != math.inf
        own.scope.deadline = math.inf
        self._uncuttable = True
        try:
            yield
        finally:
            self._uncuttable = False
        if self._overtaken and own.urgent is None:
            own.scope.cancel()
        elif self._overtaken:
            own.scope.deadline = trio.current_time() + self._profile.emergency_wait_s

    async def _urgently(
        self, flight: Flight, work: Callable[[Member], Awaitable[None]], member: Member
    ) -> None:
        """Do urgent work for an instrument; others for whom something is urgent wait briefly."""
        flight.urgent = member
        if self._nursery is None and self.safety.others_unsafe(member):
            flight.scope.deadline = trio.current_time() + self._profile.emergency_wait_s
        try:
            await work(member)
        finally:
            flight.urgent = None

    async def drive_safe_alone(self, member: Member) -> None:
        """Drive an instrument safe though no incarnation runs."""
        self._nursery = None
        with trio.CancelScope() as self._own.scope:
            try:
                await self._urgently(self._own, self.upkeep.drive_safe, member)
            except Exception as crash:  # noqa: BLE001 - must not keep others unsafe
                self.safety.note_unsafe(member, f"its driver failed: {crash!r}")

    # The connection.

    async def _reach(self) -> None:
        """Open the line if it may be tried now, or wait until it may."""
        if self.upkeep.up:
            await self.upkeep.lose("the connection was lost")
            return
        breaker = self._intake.breaker
        now_s = trio.current_time()
        if self._inbox.next_emergency() is not None or self.safety.next_unsafe():
            breaker.hasten(now_s)
        elif self._transport.stuck:
            await self._await_unstuck()
            return
        if breaker.closed or self.upkeep.begin_probe(breaker, now_s, self._intake.name):
            await self.connect()
        else:
            self.quiet.set()
            with trio.CancelScope(deadline=breaker.retry_at_s):
                await self._inbox.wait()

    async def _await_unstuck(self) -> None:
        """Wait until a call that does not return gives the line back: no probe before that."""

        async def ring() -> None:
            await self._transport.wait_unstuck()
            self._intake.breaker.hasten(trio.current_time())
            self._inbox.ring()

        self.quiet.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring)
            await self._inbox.wait()
            nursery.cancel_scope.cancel()

    async def _stay_away(self) -> None:
        """Keep off the port: somebody else has it."""
        if self.upkeep.up or self._transport.state is not LineState.CLOSED:
            self.upkeep.note_closed(f"the port is lent to {self._intake.lent}")
            await self._transport.aclose()
        if not self._aside:
            self.away.set()
            self.quiet.set()
        await self._inbox.wait()

    async def connect(self) -> None:
        """Open the line."""
        epoch = self._intake.breaker.epoch
        try:
            with self._uncut():
                await self.upkeep.connect()
        finally:
            if not self.upkeep.up:
                # Cancelled, it counts as neither; what failed has moved on.
                self.upkeep.cut_probe(self._intake.breaker, epoch, self._intake.name)

    # Commands.

    async def _carry_out_next(self) -> bool:
        ticket = self._inbox.take_nowait()
        if ticket is None:
            return False
        member = self._intake.members[ticket.command.instrument]
        urgent = ticket.command.priority is Priority.EMERGENCY
        if self._nursery is not None:
            flight = Flight(ticket=ticket)
            work = partial(self._attempt, flight, ticket)
            self._send_off(self._nursery, member, work, flight, urgent=urgent)
        elif urgent:
            await self._urgently(self._own, partial(self._attempt, self._own, ticket), member)
        else:
            await self._attempt(self._own, ticket, member)
        return True

    async def _attempt(self, flight: Flight, ticket: Ticket[Any], member: Member) -> None:
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
            if ticket.command.priority is Priority.EMERGENCY:
                # Whatever it wrote, a tripped instrument ends in its safe state.
                self.safety.require_again(member)

    def _why_ended(self, flight: Flight, why: BaseException) -> tuple[Cause, str]:
        if isinstance(why, Exception):
            return Cause.CRASHED, _crashed(why)
        if flight.scope.cancel_called:
            return Cause.TRIPPED, f"cut short for an emergency on the bus {self._intake.name}"
        return self._why_over()

    def _why_over(self) -> tuple[Cause, str]:
        if self._crash is not None:
            return Cause.CRASHED, _crashed(self._crash)
        return Cause.STOPPED, "the bus stopped"

    async def _carry_out(self, member: Member, ticket: Ticket[Any]) -> None:
        plan = ticket.command.plan
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        try:
            commit = partial(self._commit, member, ticket)
            reply = await self.exchanges.exchange(plan.exchange, commit)
            if plan.then is not None:
                plan, reply = await self.exchanges.follow(plan, reply)
        except _NotSentError:
            return
        except TransportError as error:
            fault = self.exchanges.fault(error)
            if not ticket.state.final:
                self._note_failed(member, ticket, Cause.TRANSPORT, error.reason, fault)
            await self.upkeep.note_fault(member, fault, epochs)
            return
        misfit = self._finish(member, ticket, plan.decode, reply, epochs)
        if misfit is not None:
            await self.upkeep.note_fault(member, misfit, epochs)

    def _commit(self, member: Member, ticket: Ticket[Any]) -> None:
        """Take the last look before the first byte."""
        command = ticket.command
        plan = command.plan
        if ticket.state.final:
            raise _NotSentError  # taken back while the line was got ready
        if command.deadline_s <= trio.current_time():
            self._intake.fail(ticket, Cause.EXPIRED, "its deadline passed before its turn")
            raise _NotSentError
        urgent = command.priority is Priority.EMERGENCY
        objection = self._intake.objection(command.instrument, plan, command.lease)
        if objection is not None and not urgent:
            self._intake.fail(ticket, Cause.LEASE, objection[0], retry_after_s=objection[1])
            raise _NotSentError
        if member.tripped is not None and plan.writes and not urgent:
            self._intake.fail(ticket, Cause.TRIPPED, f"tripped by {member.tripped}")
            raise _NotSentError
        overtaken = self._inbox.next_emergency() or self.safety.next_unsafe()
        if overtaken and self._nursery is None and not urgent:
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
            self.upkeep.note_answer(member, epochs)
            if overlap is not None and error.fault.kind in NOT_TAKEN:
                member.left_running = None
            self._note_device_fault(member, ticket, error.fault, reply.data)
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            reason = f"the reply does not fit: {error}"
            self._note_failed(member, ticket, Cause.TRANSPORT, reason, fault, said=reply.data)
            return fault
        else:
            self.upkeep.note_answer(member, epochs)
            if overlap is not None:
                self._follow(member, ticket, overlap, reply)
            else:
                member.intend(plan)
                ticket.acknowledge(reply.data)
                self._complete(ticket, value, reply)
        return None

    def _complete(self, ticket: Ticket[Any], value: object, reply: Reply) -> None:
        ticket.resolve(Outcome(value=value, reply=reply))
        if ticket.command.plan.writes:
            self._intake.report(ticket, None, None)

    def _note_device_fault(
        self, member: Member, ticket: Ticket[Any], fault: Fault, said: bytes
    ) -> None:
        """Note that the device answered with a fault of its own."""
        self._note_failed(
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

    def _note_failed(
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
        barred = member.tripped is not None and plan.writes
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

    # Commands that are not done after their exchange.

    async def _continue(self, member: Member) -> None:
        """Go on with what a lane is engaged with."""
        engagement = member.engagement
        if engagement is None:
            return
        flight = self._aside.get(member, self._own)
        match engagement.then:
            case Next.TRY_AGAIN:
                self._engagements.release(member)
                await self._attempt(flight, engagement.ticket, member)
            case Next.ASK_PROGRESS:
                overlap = engagement.ticket.command.plan.overlap
                if overlap is not None:
                    await self._ask_progress(member, engagement, overlap)
            case Next.ASK_RESULT:
                overlap = engagement.ticket.command.plan.overlap
                if overlap is not None:
                    await self._ask_result(member, engagement, overlap)
            case Next.ABORT:
                await self._abort(member, engagement)

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

    async def _ask_progress(
        self, member: Member, engagement: Engagement, overlap: Overlap[Any]
    ) -> None:
        ticket = engagement.ticket
        now_s = trio.current_time()
        if now_s >= engagement.ends_s:
            await self._run_out(member, engagement, overlap)
            return
        engagement.due_s = now_s + self._profile.status_poll_s
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        reply = await self._ask(member, overlap.poll)
        # It may have been called off while its status was asked.
        if reply is None or ticket.state.final:
            return
        try:
            progress = overlap.judge(reply.data)
        except DeviceError as error:
            self._engagements.release(member)
            member.left_running = None
            self._note_device_fault(member, ticket, error.fault, reply.data)
            return
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            await self.upkeep.note_fault(member, fault, epochs)
            return
        self.upkeep.note_answer(member, epochs)
        ticket.note_progress(progress)
        if not progress.done:
            return
        member.left_running = None
        if overlap.by_status:
            ticket.acknowledge(reply.data)
        if overlap.finish is None:
            self._conclude(member, engagement, overlap, reply)
        else:
            # After others had their turn: nobody waits for more than one exchange.
            engagement.then, engagement.due_s = Next.ASK_RESULT, now_s

    async def _ask_result(
        self, member: Member, engagement: Engagement, overlap: Overlap[Any]
    ) -> None:
        """Ask what came of an operation that is done."""
        if overlap.finish is None or trio.current_time() >= engagement.ends_s:
            await self._run_out(member, engagement, overlap)
            return
        engagement.due_s = trio.current_time() + self._profile.status_poll_s
        reply = await self._ask(member, overlap.finish)
        if reply is not None and not engagement.ticket.state.final:
            self._conclude(member, engagement, overlap, reply)

    def _conclude(
        self, member: Member, engagement: Engagement, overlap: Overlap[Any], reply: Reply
    ) -> None:
        """Resolve the command of an operation that is done."""
        ticket = engagement.ticket
        self._engagements.release(member)
        try:
            value = overlap.result(reply.data)
        except DeviceError as error:
            self._note_device_fault(member, ticket, error.fault, reply.data)
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            reason = f"the reply does not fit: {error}"
            self._intake.fail(ticket, Cause.TRANSPORT, reason, fault=fault)
        else:
            member.intend(ticket.command.plan)
            self._complete(ticket, value, reply)

    async def _run_out(self, member: Member, engagement: Engagement, overlap: Overlap[Any]) -> None:
        """Call off an operation whose time is over."""
        ticket = engagement.ticket
        now_s = trio.current_time()
        if now_s >= ticket.command.deadline_s:
            cause, fault = Cause.EXPIRED, None
            reason = "its deadline passed while it went on"
        else:
            reason = f"not done within {overlap.within_s:g} s"
            cause, fault = Cause.DEVICE, Fault(TIMEOUT, reason)
        stoppable = self._engagements.call_off(member, now_s)
        self._intake.fail(ticket, cause, reason, fault=fault)
        if stoppable:
            await self._abort(member, engagement)
        else:
            self._engagements.release(member)

    async def _abort(self, member: Member, engagement: Engagement) -> None:
        """Tell a device to stop what it may be busy with, and free the lane once it was told."""
        if member.left_running is not None:
            engagement.due_s = trio.current_time() + self._profile.status_poll_s
            if await self._ask(member, member.left_running) is None:
                return
            member.left_running = None
        self._engagements.release(member)

    def _leave(self, member: Member, ticket: Ticket[Any]) -> None:
        """See to it that a command that fails leaves nothing running."""
        overlap = ticket.command.plan.overlap
        if overlap is not None and member.left_running is not None:
            self._engagements.engage(member, ticket, Next.ABORT, trio.current_time())

    async def _ask(self, member: Member, exchange: Exchange) -> Reply | None:
        """Make an exchange that belongs to an operation; None where it failed."""
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        try:
            reply = await self.exchanges.exchange(exchange)
        except TransportError as error:
            await self.upkeep.note_fault(member, self.exchanges.fault(error), epochs)
            return None
        return reply


def _crashed(crash: BaseException) -> str:
    return f"the bus's actor crashed: {crash!r}"
