"""Operations that go on: asked how far they have come, concluded, called off.

Rules:
1. Each turn is one exchange at most, so that nobody else on the bus waits for longer.
2. What is over is not asked for again; its result is, until it is told.
3. A lane is free again once the device is done, or was told to stop.
"""

from __future__ import annotations

from typing import Any

import trio

from transports import (
    BusProfile,
    Exchange,
    Reply,
    RequestsService,
    Transport,
    TransportError,
    UnsupportedError,
)

from .attempts import Attempts
from .command import CommandState
from .engagements import Engagements
from .errors import DeviceError
from .events import ServiceRequestsUntold
from .exchanges import Exchanges
from .faults import FRAMING, TIMEOUT, Cause, Fault
from .intake import Intake
from .member import Engagement, Member, Next
from .operation import Overlap
from .ticket import Ticket
from .upkeep import Upkeep


class Following:
    """Goes on with operations on one line."""

    def __init__(
        self,
        transport: Transport,
        profile: BusProfile,
        intake: Intake,
        attempts: Attempts,
        *,
        exchanges: Exchanges,
        upkeep: Upkeep,
    ) -> None:
        """Follow nothing yet."""
        self._transport = transport
        # Of whom it was said that no service requests of theirs are told.
        self._untold: set[str] = set()
        self._profile = profile
        self._intake = intake
        self._attempts = attempts
        self._engagements: Engagements = intake.engagements
        self._exchanges = exchanges
        self._upkeep = upkeep

    async def go_on(self, member: Member, engagement: Engagement) -> None:
        """Take the next step with what an instrument goes on with."""
        overlap = engagement.ticket.command.plan.overlap
        if engagement.then is Next.ABORT or overlap is None:
            await self._abort(member, engagement)
        elif engagement.then is Next.ASK_RESULT:
            await self._ask_result(member, engagement, overlap)
        else:
            await self._ask_progress(member, engagement, overlap)

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
            self._attempts.note_device_fault(member, ticket, error.fault, reply.data)
            return
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            await self._upkeep.note_fault(member, fault, epochs)
            return
        self._upkeep.note_answer(member, epochs)
        if overlap.on_request and not progress.done:
            self._say_if_untold(member, ticket)
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

    def _say_if_untold(self, member: Member, ticket: Ticket[Any]) -> None:
        """Say once of an instrument that nothing tells when it requests service."""
        line = self._transport
        told = isinstance(line, RequestsService) and line.tells_requests(member.device.unit)
        if not told and member.name not in self._untold:
            self._untold.add(member.name)
            self._intake.events.publish(
                ServiceRequestsUntold(
                    bus=self._intake.name,
                    instrument=member.name,
                    command=ticket.command.plan.name,
                    poll_s=self._profile.status_poll_s,
                )
            )

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
            self._attempts.note_device_fault(member, ticket, error.fault, reply.data)
        except ValueError as error:
            fault = Fault(FRAMING, str(error), reply.data)
            reason = f"the reply does not fit: {error}"
            self._intake.fail(ticket, Cause.TRANSPORT, reason, fault=fault)
        else:
            member.intend(ticket.command.plan)
            self._attempts.complete(ticket, value, reply)

    async def _run_out(self, member: Member, engagement: Engagement, overlap: Overlap[Any]) -> None:
        """Call off an operation whose time is over."""
        ticket = engagement.ticket
        now_s = trio.current_time()
        if now_s >= ticket.command.deadline_s:
            cause, fault = Cause.EXPIRED, None
            reason = "its deadline passed while it went on"
        else:
            done = "acknowledged" if overlap.by_status else "done"
            reason = f"not {done} within {overlap.within_s:g} s"
            cause, fault = Cause.DEVICE, Fault(TIMEOUT, reason)
            if ticket.state is CommandState.DISPATCHED and member.left_running is None:
                # A write that was not acknowledged in time, with nothing to stop.
                self._engagements.release(member)
                self._attempts.note_failed(member, ticket, cause, reason, fault)
                return
        if ticket.doing:
            reason += f": {ticket.doing}"
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
            self._exchanges.note_stopped(member)
        self._engagements.release(member)

    async def _ask(self, member: Member, exchange: Exchange) -> Reply | None:
        """Make an exchange that belongs to an operation; None where it failed."""
        epochs = self._intake.breaker.epoch, member.breaker.epoch
        try:
            reply = await self._exchanges.exchange(exchange)
        except UnsupportedError:
            # The line is well: no breaker counts what it cannot do, and it cannot next time.
            if exchange is member.left_running:
                member.left_running = None
            return None
        except TransportError as error:
            await self._upkeep.note_fault(member, self._exchanges.fault(error), epochs)
            return None
        return reply
