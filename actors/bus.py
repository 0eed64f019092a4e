"""The bus actor: one task that owns one line and everything that waits for it.

Rules:
1. Whatever happens, every accepted command is resolved once.
2. Line faults feed the breakers; exceptions in code leave `run` and are crashes.
3. What is part of one thing is tripped, driven safe and rearmed together.
"""

from __future__ import annotations

from collections.abc import (
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from random import Random
from typing import Any, TypeVar

import trio

from transports import BusProfile, LineState, RequestsService, Transport

from .breaker import Breaker, BreakerPolicy
from .bus_status import BusStatus, status_of
from .command import EMERGENCY, Plan, Priority
from .dispatch import Dispatch
from .errors import RefusedError
from .events import Events
from .faults import OPENED_BY_HAND, Cause, Fault
from .intake import Intake
from .lease import LeaseBook
from .ledger import Ledger
from .member import Device, Member, MemberPolicy, SafeOutcome
from .reply import ReplyChannel
from .supervisor import Started
from .ticket import Ticket
from .trips import Trips

T = TypeVar("T")


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
        self._dispatch = Dispatch(
            transport, profile, self._intake, trip=self.trip, random=self._random
        )
        self._trips = Trips(self._intake, self._dispatch)
        # Why commands are refused though the bus runs, or None.
        self._refusing: str | None = None
        self._reached_once = False
        # Set while no incarnation runs: the line is closed.
        self._ended = trio.Event()
        self._ended.set()
        # Set when driving safe without a running actor has ended, while that goes on.
        self._alone: trio.Event | None = None

    def __repr__(self) -> str:
        """Return the name, the line, the breaker and the load."""
        return (
            f"<Bus {self.name} {self.transport.key} {self.transport.state.name} "
            f"breaker={self._intake.breaker.state.name} waiting={len(self._intake.inbox)}>"
        )

    @property
    def members(self) -> Sequence[Member]:
        """The notes on the instruments; for those who look after them."""
        return tuple(self._intake.members.values())

    @property
    def leases(self) -> LeaseBook:
        """Who may command what."""
        return self._intake.leases

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
            if device.unit in (other.device.unit, *other.may_be):
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
        if self._dispatch.upkeep.up:
            self._dispatch.upkeep.expect(member)
            self._intake.inbox.ring()

    def detach(self, name: str) -> None:
        """Take an instrument off the bus; what waits for it fails (stopped)."""
        member = self._intake.members.pop(name)
        self._intake.fail_all(member, Cause.STOPPED, "the instrument was removed")
        self._intake.inbox.remove_lane(member.lane)
        self._dispatch.safety.note_unsafe(member, "the instrument was removed")
        self._dispatch.upkeep.plan_probes()

    def replace(self, old: Device, new: Device) -> None:
        """Put another driver in the place of one; the device stays identified and in service.

        Raises:
            RefusedError: Its safe state holds what it would refuse.
        """
        new.safe_plans()
        self._intake.members[old.name].device = new

    def intended(self, name: str) -> Mapping[str, Plan[object]]:
        """Return by name the settings that an instrument was told to hold, as last written.

        Empty while it was away and they were not written again since.
        """
        member = self._intake.members[name]
        return {} if member.unrestored else dict(member.intended)

    def forget_settings(self, name: str) -> None:
        """Restore no settings made so far: what they were written for has changed."""
        self._intake.members[name].intended.clear()

    def units(self) -> Mapping[str | None, str]:
        """Return which units are taken, or may be, and by which instruments."""
        members = self._intake.members.values()
        doubtful: dict[str | None, str] = {
            unit: each.name for each in members for unit in each.may_be
        }
        return doubtful | {each.device.unit: each.name for each in members}

    def keep_units(self, name: str, units: Sequence[str]) -> None:
        """Keep for an instrument the units that it may go by beside its own."""
        self._intake.members[name].may_be = tuple(units)

    def refuse(self, reason: str) -> None:
        """Accept no more commands; those accepted go on."""
        self._refusing = self._intake.down = reason

    async def wait_drained(self) -> None:
        """Wait until nothing waits and nothing is in flight."""
        while len(self._intake.inbox) or not self._dispatch.idle:
            if self._dispatch.quiet.is_set():
                self._dispatch.quiet = trio.Event()
            await self._dispatch.quiet.wait()

    def settle(self, reason: str, *, for_good: bool) -> None:
        """Fail everything that waits; accept no more if `for_good`."""
        if for_good:
            self._intake.down = reason
        for member in self._intake.members.values():
            self._intake.fail_all(member, Cause.STOPPED, reason)
            if for_good:
                self._dispatch.safety.name_unsaid(member, reason)
        self._dispatch.quiet.set()

    def restart_delay_s(self) -> float:
        """Return how long a restart has to wait: not at all.

        The next incarnation itself waits for the breaker, with an ear for what is urgent.
        """
        return 0.0

    def status(self) -> BusStatus:
        """Return where the bus and its instruments stand now."""
        return status_of(self._intake, self.transport)

    def tickets(self) -> Sequence[Ticket[Any]]:
        """Return the commands accepted and not finished: in hand first, then waiting."""
        waiting = [ticket for member in self._intake.members.values() for ticket in member.lane]
        return [*self._dispatch.in_hand(), *waiting]

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
        """Accept a command and return its ticket; see `Intake.submit`.

        An emergency trips the instrument.
        """
        ticket = await self._intake.submit(
            device,
            plan,
            priority=priority,
            wait=wait,
            watch_deadline=watch_deadline,
            once=once,
            after=after,
            caller=caller,
            deadline_s=deadline_s,
        )
        if priority is EMERGENCY:
            self.trip(device.name, f"emergency {plan.name}")
        return ticket

    def note_refused(self, refusal: RefusedError, *, writes: bool) -> None:
        """Tell the ledger and observers of a command that was refused before it came here."""
        if trio.lowlevel.in_trio_task():
            caller = trio.lowlevel.current_task().name
            self._intake.records.note_refused(refusal, writes=writes, caller=caller)

    def trip(self, name: str, reason: str) -> None:
        """Let only reads pass from now on, and drive the instrument safe.

        What it is a part of is tripped as a whole; see `Device.group`.
        """
        self._trips.trip(name, reason)

    def rearm(self, name: str) -> None:
        """Let a tripped instrument take commands again, or one kept after a reconnect.

        Settings that kept it out because it would not take them back are given up.
        What it is a part of is rearmed as a whole; see `Device.group`.

        Raises:
            RefusedError: Driving it safe is still owed, or an emergency has not ended yet.
        """
        self._trips.rearm(name, self.tickets())

    def end_trips(self, names: Collection[str]) -> None:
        """Rearm what was tripped only until it is safe, and is; what is not stays tripped."""
        self._trips.end(names)

    def force_open(self, reason: str, *, instrument: str | None = None) -> None:
        """Open the bus's breaker by hand, or an instrument's: it stays open until closed.

        What waits fails (breaker); what is in flight goes on. Nothing is driven safe: trip
        it for that. An emergency, or driving an instrument safe, ends it.
        """
        if instrument is not None:
            self._dispatch.upkeep.bar(self._intake.members[instrument], reason)
            return
        self._intake.breaker.force_open()
        self._dispatch.upkeep.note_breaker(reason)
        fault = Fault(OPENED_BY_HAND, reason)
        for member in self._intake.members.values():
            away = f"the bus {self.name} is away: {reason}"
            self._intake.fail_away(member, away, fault, None)
        self._intake.inbox.ring()

    def force_close(self, *, instrument: str | None = None) -> None:
        """Close the bus's breaker by hand, or an instrument's, whatever opened it.

        Whoever is reached then is identified before anything else, as always.
        """
        if instrument is not None:
            self._dispatch.upkeep.let_in(self._intake.members[instrument])
        elif not self._intake.breaker.closed:
            self._intake.breaker.force_close()
            self._dispatch.upkeep.note_breaker("closed by hand")
        self._intake.inbox.ring()

    def _cut_probe(self) -> None:
        breaker = self._intake.breaker
        self._dispatch.upkeep.cut_probe(breaker, breaker.epoch, self.name)

    async def make_safe(
        self, names: Collection[str], reason: str, *, passing: bool = False
    ) -> Sequence[SafeOutcome]:
        """Trip instruments and drive them safe; say which could not be reached.

        Takes at most the profile's `safe_s`, whatever is cancelled meanwhile. What could
        not be done stays owed: it comes first once the instrument is reached again. What
        is a part of the same thing as one of them is driven safe with it. With `passing`,
        `end_trips` rearms them unless somebody trips them meanwhile.
        """
        if self._intake.lent is not None:
            return [SafeOutcome(name, None) for name in names]  # they are in others' hands
        waiting: dict[str, ReplyChannel[str | None]] = {}
        concerned = dict.fromkeys(
            each.name for first in names for each in self._trips.together(first)
        )
        names = [*names, *(each for each in concerned if each not in names)]
        for name in names:
            member = self._intake.members[name]
            self._trips.trip_one(member, reason, passing=passing)
            if member.safe_reason is not None:
                self._dispatch.safety.require_now(member)
                waiting[name] = member.safe_told
                self._dispatch.hurry(member)
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
        for name in names:
            if name in self._intake.members:
                self._intake.members[name].safe_unsaid = False  # it is said now
        return [SafeOutcome(name, error) for name, error in errors.items()]

    async def lend(self, to: str) -> None:
        """Close the line and leave the port to somebody else until `take_back`.

        What waits fails (lease). Drive the instruments safe first. Cancelled, it is lent
        all the same.
        """
        self._intake.lent = to
        self._dispatch.away = trio.Event()
        for member in self._intake.members.values():
            self._intake.fail_all(member, Cause.LEASE, f"the port is lent to {to}")
        self._intake.inbox.ring()
        if not self._ended.is_set():
            await self._dispatch.away.wait()

    def take_back(self) -> None:
        """Use the port again: it is opened, and everybody on it identified."""
        self._intake.lent = None
        self.end_trips(tuple(self._intake.members))
        self._intake.inbox.ring()

    @trio.lowlevel.enable_ki_protection
    async def run(self, started: Started) -> None:
        """Serve the bus until cancelled; what a `ChildSpec` starts."""
        while self._alone is not None:
            await self._alone.wait()
        self._ended = trio.Event()
        self._intake.down = self._refusing
        try:
            async with trio.open_nursery() as nursery:
                self._dispatch.begin(nursery)
                nursery.start_soon(self._watch_line)
                nursery.start_soon(self._intake.watch_deadlines)
                if isinstance(self.transport, RequestsService):
                    nursery.start_soon(self._dispatch.watch_service, self.transport)
                if self._reached_once or not self.required:
                    started()

                def reached() -> None:
                    if not self._reached_once:
                        self._reached_once = True
                        started()

                await self._dispatch.serve(reached)
        except Exception as crash:
            self._crashed(crash)
            raise
        finally:
            self._dispatch.end()
            self._dispatch.quiet.set()
            self._cut_probe()
            self._dispatch.upkeep.note_closed("the bus stopped")
            try:
                await self.transport.aclose()
            finally:
                self._ended.set()
                self._dispatch.away.set()

    def _crashed(self, crash: Exception) -> None:
        now_s = trio.current_time()
        reason = f"its actor crashed: {crash!r}"
        if self._intake.breaker.fail(self._intake.breaker.epoch, now_s):
            self._dispatch.upkeep.note_breaker(reason)
        retry_after_s = self._intake.breaker.retry_after_s(now_s)
        if retry_after_s is None:
            return
        for member in self._intake.members.values():
            for ticket in tuple(member.lane):
                # An emergency waits for no breaker: it is the next incarnation's first work.
                if ticket.command.priority is not EMERGENCY:
                    self._intake.take_back(
                        ticket, Cause.BREAKER, reason, retry_after_s=retry_after_s
                    )

    async def _watch_line(self) -> None:
        """Wake the actor when the line is lost while idle."""
        while True:
            await self._dispatch.upkeep.opened.wait()
            await self.transport.wait_lost()
            if self.transport.state is LineState.CLOSED:
                self._dispatch.upkeep.opened = trio.Event()
                self._intake.inbox.ring()

    async def _stand_in(self) -> None:
        """Drive safe what must be whenever no incarnation runs."""
        while True:
            await self._ended.wait()
            if not self._ended.is_set():
                continue  # the next incarnation was quicker
            if self._alone is not None:
                await self._alone.wait()
            elif self._dispatch.safety.next_unsafe() is not None:
                await self._safe_alone()
            else:
                return

    async def _safe_alone(self) -> None:
        """Drive safe what must be, though no incarnation runs: open, write, close."""
        self._alone = trio.Event()
        self._dispatch.upkeep.alone = True
        try:
            self._intake.breaker.hasten(trio.current_time())
            self._dispatch.upkeep.begin_probe(self._intake.breaker, trio.current_time(), self.name)
            safety = self._dispatch.safety
            try:
                await self._dispatch.connect()
            except Exception as crash:  # noqa: BLE001 - is not the failure of who wants it safe
                while (member := safety.next_unsafe()) is not None:
                    safety.note_unsafe(member, f"opening its bus failed: {crash!r}")
            while (member := safety.next_unsafe()) is not None:
                await self._dispatch.drive_safe_alone(member)
        finally:
            self._cut_probe()
            self._dispatch.upkeep.note_closed("the bus is down")
            try:
                await self.transport.aclose()
            finally:
                self._dispatch.upkeep.alone = False
                self._alone.set()
                self._alone = None
