"""What goes next on a line, and carrying it out.

Rules:
1. One exchange at a time on a half-duplex line, done by the bus's own task; on a
   multiplexed one as many as the transport bears, each in a task of its own, one per lane.
2. Driving an instrument safe goes before everything else, then emergencies.
3. A command that is not done keeps its lane, and those take turns with what begins.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import trio

from transports import BusProfile, LineState, RequestsService, Transport

from .attempts import Attempts, Flight
from .command import EMERGENCY
from .engagements import Engagements
from .events import Events
from .exchanges import Exchanges
from .following import Following
from .intake import Intake
from .member import Member, Next, Service
from .safety import Safety
from .ticket import Ticket
from .upkeep import Upkeep


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
        self.exchanges = Exchanges(transport, intake, self._uncut)
        self.safety = Safety(intake, self.exchanges)
        self.upkeep = Upkeep(transport, intake, self.exchanges, self.safety)
        self._attempts = Attempts(
            transport,
            profile,
            intake,
            exchanges=self.exchanges,
            safety=self.safety,
            upkeep=self.upkeep,
            trip=trip,
            random=random,
        )
        self._following = Following(
            transport,
            profile,
            intake,
            self._attempts,
            exchanges=self.exchanges,
            upkeep=self.upkeep,
        )
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
        self._attempts.alone = self._nursery is None
        self._attempts.crash = None

    async def serve(self, reached: Callable[[], None]) -> None:
        """Work until cancelled; `reached` is called once the line is up after a step."""
        own, told = self._own, False
        try:
            while True:
                # One scope serves many pieces of work: it is renewed only once it was used.
                own.bounded = False
                with trio.CancelScope() as own.scope:
                    while not own.bounded:
                        work = self._next_work()
                        if work is not None:
                            await work
                        if self._attempts.crash is not None:
                            await trio.sleep_forever()  # a task beside has ended the incarnation
                        if self.upkeep.up and not told:
                            told = True
                            reached()
        except Exception as crash:
            self._attempts.crash = crash
            raise

    async def watch_service(self, line: RequestsService) -> None:
        """Ask at once how far an operation has come whose device requests service."""
        while True:
            unit = await line.service_requested()
            for member in self._engagements:
                engagement = member.engagement
                overlap = engagement and engagement.ticket.command.plan.overlap
                # Who has no unit is alone on the line.
                its_own = unit is None or member.device.unit in (unit, None)
                if engagement and overlap and overlap.on_request and its_own:
                    engagement.due_s = min(engagement.due_s, trio.current_time())
            self._inbox.ring()

    def end(self) -> None:
        """Fail what is engaged: no incarnation goes on with it."""
        for member in self._engagements:
            engagement = member.engagement
            self._engagements.release(member)
            if engagement is not None and not engagement.ticket.state.final:
                cause, reason = self._attempts.why_over()
                self._intake.fail(engagement.ticket, cause, reason, fault=engagement.fault)

    # What comes next is looked up here, and awaited by `serve`; None is begun beside it.

    def _next_work(self) -> Awaitable[None] | None:
        """Return the most urgent piece of work, or the wait for some."""
        if self._intake.lent is not None:
            return self._stay_away()
        if self._transport.state is LineState.CLOSED:
            # Whoever is beside meets the loss himself.
            return self._inbox.wait() if self._aside else self._reach()
        if self._intake.breaker.forced:
            return self.upkeep.lose(self._intake.reason)
        if len(self._aside) >= self._transport.max_in_flight:
            return self._inbox.wait()
        if self._inbox.emergencies and (emergency := self._inbox.next_emergency()) is not None:
            member = self._intake.members[emergency.command.instrument]
            # Whoever answers there must be known before it is told anything.
            if member.known:
                return self._next_command()
            return self._work_on(member, self.upkeep.bring_up, urgent=True)
        if self.safety.due and (unsafe := self.safety.next_unsafe()) is not None:
            return self._work_on(unsafe, self.upkeep.drive_safe, urgent=True)
        return self._next_in_turn()

    def _next_in_turn(self) -> Awaitable[None] | None:
        """Return a probe, going on with something, beginning something: whose turn it is."""
        # Probing and serving take turns, so that neither starves the other; so do those who
        # go on with something and those who begin.
        if not self._probed_last and self.upkeep.probe_due:
            self._probed_last = True
            return self._work_on(self.upkeep.next_probed(), self.upkeep.probe)
        self._probed_last = False
        if self._engagements.members and not self._continued_last:
            member_due = self._engagements.due(trio.current_time())
            if member_due is not None:
                self._continued_last = True
                return self._work_on(member_due, self._continue)
        self._continued_last = False
        return self._next_command()

    def _next_command(self) -> Awaitable[None] | None:
        """Return carrying out the next command, or the wait for one."""
        ticket = self._inbox.take_nowait()
        if ticket is None:
            return self._rest()
        member = self._intake.members[ticket.command.instrument]
        urgent = ticket.command.priority is EMERGENCY
        if self._nursery is not None:
            flight = Flight(ticket=ticket)
            work = partial(self._attempts.attempt, flight, ticket)
            self._send_off(self._nursery, member, work, flight, urgent=urgent)
            return None
        if urgent:
            work = partial(self._attempts.attempt, self._own, ticket)
            return self._urgently(self._own, work, member)
        return self._attempts.attempt(self._own, ticket, member)

    def _rest(self) -> Awaitable[None] | None:
        """Return the wait for work; None where some has become due."""
        self.quiet.set()
        next_s = self.upkeep.next_probe_s
        if self._engagements.members:
            next_s = min(next_s, self._engagements.next_due_s())
        if next_s == math.inf:
            return self._inbox.wait()
        return self._inbox.wait_until(next_s) if next_s > trio.current_time() else None

    def _work_on(
        self, member: Member, work: Callable[[Member], Awaitable[None]], *, urgent: bool = False
    ) -> Awaitable[None] | None:
        """Return work for an instrument; begin it beside where the line is multiplexed."""
        if self._nursery is not None:
            self._send_off(self._nursery, member, work, Flight(), urgent=urgent)
            return None
        return self._urgently(self._own, work, member) if urgent else work(member)

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
                self._attempts.crash = self._attempts.crash or crash
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
                self._own.end_by(latest_s)
        elif (flight := self._aside.get(member)) is not None:
            if flight.urgent is not member:
                flight.end_by(latest_s)
        elif len(self._aside) >= self._transport.max_in_flight:
            # It needs a place: that of whoever has had one for longest.
            other = next((each for each in self._aside.values() if each.urgent is None), None)
            if other is not None:
                other.end_by(latest_s)
        self._inbox.ring()

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
            own.end()
        elif self._overtaken:
            own.end_by(trio.current_time() + self._profile.emergency_wait_s)

    async def _urgently(
        self, flight: Flight, work: Callable[[Member], Awaitable[None]], member: Member
    ) -> None:
        """Do urgent work for an instrument; others for whom something is urgent wait briefly."""
        flight.urgent = member
        if self._nursery is None and self.safety.others_unsafe(member):
            flight.end_by(trio.current_time() + self._profile.emergency_wait_s)
        try:
            await work(member)
        finally:
            flight.urgent = None

    async def drive_safe_alone(self, member: Member) -> None:
        """Drive an instrument safe though no incarnation runs."""
        self._nursery, self._attempts.alone = None, True
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
            await self._inbox.wait_until(breaker.retry_at_s)

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

    async def _continue(self, member: Member) -> None:
        """Go on with what a lane is engaged with."""
        engagement = member.engagement
        if engagement is None:
            return
        if engagement.then is Next.TRY_AGAIN:
            self._engagements.release(member)
            flight = self._aside.get(member, self._own)
            await self._attempts.attempt(flight, engagement.ticket, member)
        else:
            await self._following.go_on(member, engagement)
