"""The bus actor: one task that owns one line and everything that waits for it.

Rules:
1. One exchange at a time, whoever asks; lanes take turns.
2. Driving an instrument safe goes before everything else.
3. Whatever happens, every accepted command is resolved once.
4. Line faults feed the breakers; exceptions in code leave `run` and are crashes.
"""

from __future__ import annotations

import math
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, TypeVar

import trio
from attrs import frozen

from transports import BusProfile, LineState, Reply, Transport, TransportError

from .breaker import Breaker, BreakerPolicy, BreakerState
from .command import Outcome, Plan, Priority
from .errors import DeviceError, RefusedError
from .events import Events, LaneRearmed, LaneTripped
from .exchanges import Exchanges, line_fault
from .faults import FRAMING, REJECTED, Cause, Fault
from .intake import Intake
from .lease import LeaseBook
from .ledger import Ledger
from .member import Device, InstrumentStatus, Member, MemberPolicy, SafeOutcome, Service
from .reply import ReplyChannel
from .safety import Safety
from .supervisor import Started
from .ticket import Ticket
from .upkeep import Upkeep

T = TypeVar("T")


class _NotSentError(Exception):
    """The command was resolved or put back before its first byte; there is nothing to do."""


@frozen(kw_only=True)
class BusStatus:
    """A bus as seen from outside.

    Attributes:
        name: Its name in the tree.
        key: Its canonical name.
        line: The state of its line.
        breaker: The state of its breaker.
        retry_after_s: How long it refuses commands yet, in seconds; None when it takes them.
        reason: Why its breaker opened last, or "".
        instruments: The instruments on it.
        lent: Who has the port now instead, or None.
    """

    name: str
    key: str
    line: LineState
    breaker: BreakerState
    retry_after_s: float | None
    reason: str
    instruments: Sequence[InstrumentStatus]
    lent: str | None = None


class Bus:
    """One physical bus and the instruments on it. Its inbox outlives its incarnations.

    Args:
        name: Its name in the tree.
        transport: Drives the line; owned by the running incarnation.
        profile: The numbers of the line.
        events: Where to report.
        sequence: Gives each accepted command its number.
        tree: The tree's name, for resource URIs.
        breaker: When the bus is left alone, and for how long.
        required: Whether being connected is part of starting.
        ledger: Where hazardous commands are written down before they may go, if anywhere.
        leases: Who may command what in the tree; without it, everybody.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        profile: BusProfile,
        *,
        events: Events,
        sequence: Iterator[int],
        tree: str = "bench",
        breaker: BreakerPolicy | None = None,
        required: bool = False,
        ledger: Ledger | None = None,
        leases: LeaseBook | None = None,
    ) -> None:
        """Make a bus that does not run yet."""
        self.name = name
        self.transport = transport
        self.profile = profile
        self.required = required
        self.events = events
        # Seeded by the name: repeatable, and different for each bus.
        self._random = Random(f"{tree}/{name}")  # noqa: S311 - jitter is no secret
        self._intake = Intake(
            name,
            events=events,
            sequence=sequence,
            tree=tree,
            breaker=Breaker(breaker or BreakerPolicy(), self._random.random),
            ledger=ledger,
            leases=leases or LeaseBook(),
        )
        self._exchanges = Exchanges(transport, self._intake, self._uncut)
        self._safety = Safety(self._intake, self._exchanges)
        self._upkeep = Upkeep(transport, self._intake, self._exchanges, self._safety)
        # Why commands are refused though the bus runs, or None.
        self._refusing: str | None = None
        # What the task works on now, while it works on a command.
        self._flight: Ticket[Any] | None = None
        # Ends the work in hand when something urgent cannot wait for it.
        self._cut = trio.CancelScope()
        # For whom the work in hand is urgent: nothing of its own cuts that short.
        self._urgent: Member | None = None
        # While connecting or getting into step, which what is urgent needs as well;
        # and whether something urgent came meanwhile.
        self._uncuttable = False
        self._overtaken = False
        self._reached_once = False
        self._probed_last = False
        self._quiet = trio.Event()
        # Set while no incarnation runs: the line is closed.
        self._ended = trio.Event()
        self._ended.set()
        # Set once the line is closed for somebody else.
        self._away = trio.Event()
        # Set when driving safe without a running actor has ended, while that goes on.
        self._alone: trio.Event | None = None

    def __repr__(self) -> str:
        """Return the name, the line, the breaker and the load."""
        return (
            f"<Bus {self.name} {self.transport.key} {self.transport.state.name} "
            f"breaker={self._intake.breaker.state.name} waiting={len(self._intake.inbox)}>"
        )

    @property
    def key(self) -> str:
        """The canonical name of the physical bus."""
        return self.transport.key

    def attach(self, device: Device, policy: MemberPolicy | None = None) -> None:
        """Put an instrument on the bus; it is identified before its first command.

        Raises:
            ValueError: Its name or unit is taken, or it names no unit on a shared bus.
            RefusedError: Its safe state holds what it would refuse.
        """
        policy = policy or MemberPolicy()
        if self.profile.shared and device.unit is None:
            raise ValueError(f"{device.name}: a unit id is needed on the shared bus {self.name}")
        for other in self._intake.members.values():
            if other.name == device.name:
                raise ValueError(f"{self.name}: an instrument named {device.name} exists already")
            if other.device.unit == device.unit:
                raise ValueError(
                    f"{device.name}: {other.name} is already "
                    + ("on this bus" if device.unit is None else f"unit {device.unit}")
                )
        device.safe_plans()  # a wrong one must show now, not when it is needed
        lane = self._intake.inbox.add_lane(device.name, self.profile.queue_depth)
        lane.held = True
        breaker = Breaker(policy.breaker, self._random.random)
        member = Member(device, policy, lane, breaker, policy.expect)
        self._intake.members[device.name] = member
        if self._upkeep.up:
            self._upkeep.expect(member)
            self._intake.inbox.ring()

    def detach(self, name: str) -> None:
        """Take an instrument off the bus; what waits for it fails (stopped)."""
        member = self._intake.members.pop(name)
        self._intake.fail_all(member, Cause.STOPPED, "the instrument was removed")
        self._intake.inbox.remove_lane(member.lane)
        self._safety.note_unsafe(member, "the instrument was removed")
        self._upkeep.plan_probes()

    def replace(self, old: Device, new: Device) -> None:
        """Put another driver in the place of one; the device stays identified and in service.

        Raises:
            RefusedError: Its safe state holds what it would refuse.
        """
        new.safe_plans()
        self._intake.members[old.name].device = new

    def forget_settings(self, name: str) -> None:
        """Restore no settings made so far: what they were written for has changed."""
        self._intake.members[name].intended.clear()

    def units(self) -> Mapping[str | None, str]:
        """Return which units are taken, and by which instruments."""
        return {each.device.unit: each.name for each in self._intake.members.values()}

    def refuse(self, reason: str) -> None:
        """Accept no more commands; those accepted go on."""
        self._refusing = self._intake.down = reason

    async def wait_drained(self) -> None:
        """Wait until nothing waits and nothing is in flight."""
        while len(self._intake.inbox) or self._flight is not None:
            if self._quiet.is_set():
                self._quiet = trio.Event()
            await self._quiet.wait()

    def settle(self, reason: str, *, for_good: bool) -> None:
        """Fail everything that waits; accept no more if `for_good`."""
        if for_good:
            self._intake.down = reason
        for member in self._intake.members.values():
            self._intake.fail_all(member, Cause.STOPPED, reason)
        self._quiet.set()

    def restart_delay_s(self) -> float:
        """Return how long a restart has to wait: not at all.

        The next incarnation itself waits for the breaker, with an ear for what is urgent.
        """
        return 0.0

    def status(self) -> BusStatus:
        """Return where the bus and its instruments stand now."""
        now_s = trio.current_time()
        retry_after_s = self._intake.breaker.retry_after_s(now_s)
        return BusStatus(
            name=self.name,
            key=self.transport.key,
            line=self.transport.state,
            breaker=self._intake.breaker.state,
            retry_after_s=retry_after_s,
            reason=self._intake.reason,
            instruments=tuple(
                InstrumentStatus(
                    name=member.name,
                    service=member.service,
                    tripped=member.tripped,
                    identity=member.identity,
                    reason="" if member.service is Service.IN_SERVICE else member.reason,
                    retry_after_s=retry_after_s
                    if retry_after_s is not None
                    else member.breaker.retry_after_s(now_s),
                    waiting=len(member.lane),
                    safe_owed=member.safe_reason is not None,
                )
                for member in self._intake.members.values()
            ),
            lent=self._intake.lent,
        )

    def tickets(self) -> Sequence[Ticket[Any]]:
        """Return the commands accepted and not finished: in flight first, then waiting."""
        waiting = [ticket for member in self._intake.members.values() for ticket in member.lane]
        return waiting if self._flight is None else [self._flight, *waiting]

    async def submit(
        self,
        device: Device,
        plan: Plan[T],
        *,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        watch_deadline: bool = True,
        caller: str | None = None,
    ) -> Ticket[T]:
        """Accept a command and return its ticket; see `Intake.submit`.

        An emergency trips the instrument.
        """
        ticket = await self._intake.submit(
            device,
            plan,
            priority=priority,
            wait=wait,
            watch_deadline=watch_deadline,
            caller=caller,
        )
        if priority is Priority.EMERGENCY:
            self.trip(device.name, f"emergency {plan.name}")
        return ticket

    def trip(self, name: str, reason: str) -> None:
        """Let only reads pass from now on, and drive the instrument safe."""
        member = self._intake.members[name]
        if member.tripped is not None:
            self._safety.require_again(member)
            return
        member.tripped = reason
        failed = 0
        for ticket in tuple(member.lane):
            command = ticket.command
            if command.plan.writes and command.priority is not Priority.EMERGENCY:
                failed += self._intake.take_back(ticket, Cause.TRIPPED, f"tripped by {reason}")
        self.events.publish(LaneTripped(instrument=name, reason=reason, failed=failed))
        self._safety.require(member, reason)
        self._hurry(member)

    def rearm(self, name: str) -> None:
        """Let a tripped instrument take commands again, or one kept after a reconnect.

        Raises:
            RefusedError: Driving it safe is still owed.
        """
        member = self._intake.members[name]
        if member.safe_reason is not None:
            raise RefusedError(
                f"it has not been driven safe yet after {member.safe_reason}",
                cause=Cause.TRIPPED,
                instrument=name,
                command="rearm",
            )
        if member.tripped is not None:
            member.tripped = None
            self.events.publish(LaneRearmed(instrument=name))
        if member.answered and (not member.confirmed or member.unrestored):
            self._upkeep.readmit(member)
            self._intake.inbox.ring()
        member.confirmed = True

    async def make_safe(self, names: Collection[str], reason: str) -> Sequence[SafeOutcome]:
        """Trip instruments and drive them safe; say which could not be reached.

        Takes at most the profile's `safe_s`, whatever is cancelled meanwhile. What could
        not be done stays owed: it comes first once the instrument is reached again.
        """
        if self._intake.lent is not None:
            return [SafeOutcome(name, None) for name in names]  # they are in others' hands
        waiting: dict[str, ReplyChannel[str | None]] = {}
        for name in names:
            member = self._intake.members[name]
            self.trip(name, reason)
            if member.safe_reason is not None:
                member.safe_due = True
                waiting[name] = member.safe_told
                self._hurry(member)
        errors: dict[str, str | None] = dict.fromkeys(names)
        errors.update(dict.fromkeys(waiting, f"not within {self.profile.safe_s:g} s"))

        async def hear(name: str, told: ReplyChannel[str | None]) -> None:
            errors[name] = await told.receive()

        if waiting:
            with trio.move_on_after(self.profile.safe_s, shield=True):
                async with trio.open_nursery() as beside:
                    beside.start_soon(self._stand_in)
                    async with trio.open_nursery() as nursery:
                        for name, told in waiting.items():
                            nursery.start_soon(hear, name, told)
                    beside.cancel_scope.cancel()
        return [SafeOutcome(name, error) for name, error in errors.items()]

    async def lend(self, to: str) -> None:
        """Close the line and leave the port to somebody else until `take_back`.

        What waits fails (lease). Drive the instruments safe first. Cancelled, it is lent
        all the same.
        """
        self._intake.lent = to
        self._away = trio.Event()
        for member in self._intake.members.values():
            self._intake.fail_all(member, Cause.LEASE, f"the port is lent to {to}")
        self._intake.inbox.ring()
        if not self._ended.is_set():
            await self._away.wait()

    def take_back(self, rearm: Collection[str] = ()) -> None:
        """Use the port again: it is opened, and everybody on it identified.

        `rearm` names instruments that were tripped for lending it.
        """
        self._intake.lent = None
        for name in rearm:
            member = self._intake.members.get(name)
            if member is not None and member.tripped is not None and member.safe_reason is None:
                member.tripped = None
                self.events.publish(LaneRearmed(instrument=name))
        self._intake.inbox.ring()

    async def _stay_away(self) -> None:
        """Keep off the port."""
        if self._upkeep.up or self.transport.state is not LineState.CLOSED:
            self._upkeep.note_closed(f"the port is lent to {self._intake.lent}")
            await self.transport.aclose()
        self._away.set()
        self._quiet.set()
        await self._intake.inbox.wait()

    def _hurry(self, member: Member) -> None:
        """See to it that something urgent waits for one exchange at most."""
        if self._uncuttable:
            self._overtaken = True
        elif self._urgent is not member:
            latest = trio.current_time() + self.profile.emergency_wait_s
            self._cut.deadline = min(self._cut.deadline, latest)
        self._intake.inbox.ring()

    @contextmanager
    def _uncut(self) -> Generator[None]:
        """Keep what is urgent from cutting the block short; end the work after it instead."""
        self._overtaken = self._cut.deadline != math.inf
        self._cut.deadline = math.inf
        self._uncuttable = True
        try:
            yield
        finally:
            self._uncuttable = False
        if self._overtaken and self._urgent is None:
            self._cut.cancel()
        elif self._overtaken:
            self._cut.deadline = trio.current_time() + self.profile.emergency_wait_s

    @trio.lowlevel.enable_ki_protection
    async def run(self, started: Started) -> None:
        """Serve the bus until cancelled; what a `ChildSpec` starts."""
        while self._alone is not None:
            await self._alone.wait()
        self._ended = trio.Event()
        self._intake.down = self._refusing
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_line)
                nursery.start_soon(self._intake.watch_deadlines)
                if self._reached_once or not self.required:
                    started()
                await self._serve(started)
        except Exception as crash:
            self._crashed(crash)
            raise
        finally:
            self._quiet.set()
            self._intake.breaker.cancel_probe(self._intake.breaker.epoch)
            self._upkeep.note_closed("the bus stopped")
            try:
                await self.transport.aclose()
            finally:
                self._ended.set()
                self._away.set()

    def _crashed(self, crash: Exception) -> None:
        now_s = trio.current_time()
        reason = f"its actor crashed: {crash!r}"
        if self._intake.breaker.fail(self._intake.breaker.epoch, now_s):
            self._upkeep.note_breaker(reason)
        retry_after_s = self._intake.breaker.retry_after_s(now_s)
        if retry_after_s is None:
            return
        for member in self._intake.members.values():
            for ticket in tuple(member.lane):
                # An emergency waits for no breaker: it is the next incarnation's first work.
                if ticket.command.priority is not Priority.EMERGENCY:
                    self._intake.take_back(
                        ticket, Cause.BREAKER, reason, retry_after_s=retry_after_s
                    )

    async def _watch_line(self) -> None:
        """Wake the actor when the line is lost while idle."""
        while True:
            await self._upkeep.opened.wait()
            await self.transport.wait_lost()
            if self.transport.state is LineState.CLOSED:
                self._upkeep.opened = trio.Event()
                self._intake.inbox.ring()

    async def _serve(self, started: Started) -> None:
        while True:
            # One scope serves many pieces of work: it is renewed only once it was used.
            with trio.CancelScope() as self._cut:
                while not self._cut.cancel_called:
                    await self._step()
                    self._cut.deadline = math.inf
                    if self._upkeep.up and not self._reached_once:
                        self._reached_once = True
                        started()

    async def _step(self) -> None:
        """Do the most urgent piece of work, or wait for some."""
        if self._intake.lent is not None:
            await self._stay_away()
            return
        if self.transport.state is LineState.CLOSED:
            await self._reach()
            return
        emergency = self._intake.inbox.next_emergency()
        if emergency is not None:
            member = self._intake.members[emergency.command.instrument]
            # Whoever answers there must be known before it is told anything.
            if member.known:
                await self._carry_out_next()
            else:
                await self._urgently(self._upkeep.bring_up, member)
            return
        unsafe = self._safety.next_unsafe()
        if unsafe is not None:
            await self._urgently(self._upkeep.drive_safe, unsafe)
            return
        # Probing and serving take turns, so that neither starves the other.
        if self._upkeep.next_probe_s <= trio.current_time() and not self._probed_last:
            self._probed_last = True
            await self._upkeep.probe_next()
            return
        self._probed_last = False
        if await self._carry_out_next():
            return
        self._quiet.set()
        if self._upkeep.next_probe_s == math.inf:
            await self._intake.inbox.wait()
        else:
            with trio.CancelScope(deadline=self._upkeep.next_probe_s):
                await self._intake.inbox.wait()

    async def _carry_out_next(self) -> bool:
        ticket = self._intake.inbox.take_nowait()
        if ticket is None:
            return False
        member = self._intake.members[ticket.command.instrument]
        self._flight = ticket
        try:
            if ticket.command.priority is Priority.EMERGENCY:
                await self._urgently(partial(self._carry_out, ticket=ticket), member)
            else:
                await self._carry_out(member, ticket)
        except BaseException as why:
            if not ticket.state.final:
                self._intake.fail(ticket, *self._why_ended(why))
            raise
        finally:
            self._flight = None
            if ticket.command.priority is Priority.EMERGENCY:
                # Whatever it wrote, a tripped instrument ends in its safe state.
                self._safety.require_again(member)
        return True

    async def _urgently(self, work: Callable[[Member], Awaitable[None]], member: Member) -> None:
        """Do urgent work for an instrument; others for whom something is urgent wait briefly."""
        self._urgent = member
        if self._safety.others_unsafe(member):
            self._cut.deadline = trio.current_time() + self.profile.emergency_wait_s
        try:
            await work(member)
        finally:
            self._urgent = None

    def _why_ended(self, why: BaseException) -> tuple[Cause, str]:
        if isinstance(why, Exception):
            return Cause.CRASHED, f"the bus's actor crashed: {why!r}"
        if self._cut.cancel_called:
            return Cause.TRIPPED, f"cut short for an emergency on the bus {self.name}"
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
        except TransportError as error:
            fault = line_fault(error)
            if not ticket.state.final:
                self._intake.fail(ticket, Cause.TRANSPORT, error.reason, fault=fault)
            await self._upkeep.note_fault(member, fault, epochs)
            return
        ticket.acknowledge(reply.data)
        misfit = self._finish(member, ticket, plan.decode, reply, epochs)
        if misfit is not None:
            await self._upkeep.note_fault(member, misfit, epochs)

    def _commit(self, member: Member, ticket: Ticket[Any]) -> None:
        """Take the last look before the first byte."""
        command = ticket.command
        if ticket.state.final:
            raise _NotSentError  # taken back while the line was got ready
        if command.deadline_s <= trio.current_time():
            self._intake.fail(ticket, Cause.EXPIRED, "its deadline passed before its turn")
            raise _NotSentError
        urgent = command.priority is Priority.EMERGENCY
        objection = self._intake.objection(command.instrument, command.plan, command.lease)
        if objection is not None and not urgent:
            self._intake.fail(ticket, Cause.LEASE, objection[0], retry_after_s=objection[1])
            raise _NotSentError
        if member.tripped is not None and command.plan.writes and not urgent:
            self._intake.fail(ticket, Cause.TRIPPED, f"tripped by {member.tripped}")
            raise _NotSentError
        if not urgent and (self._intake.inbox.next_emergency() or self._safety.next_unsafe()):
            # It came while the line was got ready, and goes before what is not sent yet.
            self._intake.inbox.put_back(member.lane, ticket, command.priority)
            raise _NotSentError
        member.touched = member.touched or command.plan.writes
        ticket.dispatch()

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
        try:
            value = decode(reply.data)
        except DeviceError as error:
            # The device answered: the line is well.
            self._upkeep.note_answer(member, epochs)
            fault = error.fault
            if fault.kind.fatal:
                self.trip(member.name, str(fault))
            self._intake.fail(
                ticket,
                Cause.DEVICE,
                fault.text,
                fault=fault,
                may_have_executed=plan.writes and fault.kind is not REJECTED,
            )
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            self._intake.fail(
                ticket, Cause.TRANSPORT, f"the reply does not fit: {error}", fault=fault
            )
            return fault
        else:
            self._upkeep.note_answer(member, epochs)
            member.intend(plan)
            ticket.resolve(Outcome(value=value, reply=reply))
            if plan.writes:
                self._intake.report(ticket, None, None)
        return None

    async def _reach(self) -> None:
        """Open the line if it may be tried now, or wait until it may."""
        if self._upkeep.up:
            await self._upkeep.lose("the connection was lost")
            return
        now_s = trio.current_time()
        if self._intake.inbox.next_emergency() is not None or self._safety.next_unsafe():
            self._intake.breaker.hasten(now_s)
        elif self.transport.stuck:
            await self._await_unstuck()
            return
        if self._intake.breaker.closed or self._intake.breaker.probe(now_s):
            await self._connect()
        else:
            self._quiet.set()
            with trio.CancelScope(deadline=self._intake.breaker.retry_at_s):
                await self._intake.inbox.wait()

    async def _await_unstuck(self) -> None:
        """Wait until a call that does not return gives the line back: no probe before that."""

        async def ring() -> None:
            await self.transport.wait_unstuck()
            self._intake.breaker.hasten(trio.current_time())
            self._intake.inbox.ring()

        self._quiet.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring)
            await self._intake.inbox.wait()
            nursery.cancel_scope.cancel()

    async def _connect(self) -> None:
        epoch = self._intake.breaker.epoch
        try:
            with self._uncut():
                await self._upkeep.connect()
        finally:
            if not self._upkeep.up:
                # Cancelled, it counts as neither; what failed has moved on.
                self._intake.breaker.cancel_probe(epoch)

    async def _stand_in(self) -> None:
        """Drive safe what must be whenever no incarnation runs."""
        while True:
            await self._ended.wait()
            if not self._ended.is_set():
                continue  # the next incarnation was quicker
            if self._alone is not None:
                await self._alone.wait()
            elif self._safety.next_unsafe() is not None:
                await self._safe_alone()
            else:
                return

    async def _safe_alone(self) -> None:
        """Drive safe what must be, though no incarnation runs: open, write, close."""
        self._alone = trio.Event()
        try:
            self._intake.breaker.hasten(trio.current_time())
            self._intake.breaker.probe(trio.current_time())
            await self._connect()
            while (member := self._safety.next_unsafe()) is not None:
                with trio.CancelScope() as self._cut:
                    try:
                        await self._urgently(self._upkeep.drive_safe, member)
                    except Exception as crash:  # noqa: BLE001 - must not keep others unsafe
                        self._safety.note_unsafe(member, f"its driver failed: {crash!r}")
        finally:
            self._intake.breaker.cancel_probe(self._intake.breaker.epoch)
            self._upkeep.note_closed("the bus is down")
            try:
                await self.transport.aclose()
            finally:
                self._alone.set()
                self._alone = None
