"""Exchanges on a bus's line, one after the other and in step; and what faults they end with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, TypeVar

import trio

from transports import (
    Exchange,
    ForeignReplyError,
    FrameError,
    Reply,
    ReplyTimeoutError,
    Transport,
    TransportError,
    UnsupportedError,
)

from .command import Plan, spell
from .errors import DeviceError
from .events import OperationStopped
from .faults import DISCONNECTED, FOREIGN_REPLY, FRAMING, PARITY_ERROR, REJECTED, TIMEOUT, Fault
from .intake import Intake
from .member import Member, Script, Service

T = TypeVar("T")

ATTEMPTS: Final = 2
"""Asking twice forgives the half request a killed program left in the device's input."""

MISFITS: Final = (ForeignReplyError, FrameError, ValueError)
"""What is raised for a reply that does not fit."""


class Exchanges:
    """Makes exchanges for one bus, on a line that is in step before each of them."""

    def __init__(
        self,
        transport: Transport,
        intake: Intake,
        uncut: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Use `transport`; `uncut` is entered to get into step."""
        self._transport = transport
        self._intake = intake
        self._uncut = uncut
        # How many parity errors the line had counted when one was last looked for.
        self._parity_errors = 0

    def exchange(
        self, exchange: Exchange, commit: Callable[[], None] | None = None
    ) -> Awaitable[Reply]:
        """Bring the line into step if it is not, then make one exchange."""
        if self._transport.owed(exchange.unit):
            return self._exchange_in_step(exchange, commit)
        return self._transport.exchange(exchange, commit=commit)

    async def _exchange_in_step(
        self, exchange: Exchange, commit: Callable[[], None] | None
    ) -> Reply:
        await self.resync(exchange.unit)
        return await self._transport.exchange(exchange, commit=commit)

    async def follow(self, plan: Plan[T], reply: Reply) -> tuple[Plan[T], Reply]:
        """Make the exchanges that a reply leads to; return the last step and its reply."""
        while plan.then is not None and (step := plan.then(reply.data)) is not None:
            plan = step
            reply = await self.exchange(plan.exchange)
        return plan, reply

    async def resync(self, unit: str | None) -> None:
        """Bring a line that owes replies back into step."""
        owed = self._transport.owed(unit)
        debtor = next(
            (each for each in self._intake.members.values() if each.device.unit == owed[0].unit),
            None,
        )
        with self._uncut():
            await self._transport.resync(None if debtor is None else debtor.device.fence(owed))
        # Whoever came meanwhile goes first: not one byte more before that.
        await trio.lowlevel.checkpoint_if_cancelled()

    async def write(self, plan: Plan[object]) -> None:
        """Carry a plan out; raises what its reply is decoded to."""
        step, reply = await self.follow(plan, await self.exchange(plan.exchange))
        step.decode(reply.data)

    async def insist(self, member: Member, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try what is harmless to repeat as often as `ATTEMPTS` says."""
        others_wait = any(
            each.service is Service.IN_SERVICE and each is not member
            for each in self._intake.members.values()
        )
        for _ in range(ATTEMPTS - 1):
            try:
                return await attempt()
            except ReplyTimeoutError:
                # Silence takes line time from those that answer: once has to do.
                if others_wait and not member.breaker.closed:
                    raise
            except MISFITS:
                pass
        return await attempt()

    def fault(self, error: TransportError) -> Fault:
        """Return the fault that ended an exchange; a broken frame may be due to parity."""
        fault = line_fault(error)
        counted = self._transport.counters.parity_errors
        risen, self._parity_errors = counted > self._parity_errors, counted
        if risen and fault.kind in (FRAMING, FOREIGN_REPLY):
            return Fault(PARITY_ERROR, fault.text, fault.raw)
        return fault

    async def stop_left(self, member: Member) -> None:
        """Stop an operation that may have been left running."""
        if member.left_running is not None:
            await self.exchange(member.left_running)
            self.note_stopped(member)

    def note_stopped(self, member: Member) -> None:
        """Note that an instrument was told to stop what was left running."""
        if member.left_running is not None:
            request = spell(member.left_running.request)
            self._intake.events.publish(OperationStopped(instrument=member.name, sent=request))
            member.left_running = None

    async def run_script(self, script: Script[T]) -> T:
        """Make a script's exchanges and return its result; it is told of silence."""
        try:
            exchange = next(script)
            while True:
                try:
                    reply = await self.exchange(exchange)
                except ReplyTimeoutError as silence:
                    exchange = script.throw(silence)
                else:
                    exchange = script.send(reply.data)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            script.close()


def line_fault(error: TransportError) -> Fault:
    """Return the fault that a transport's error is."""
    match error:
        case ReplyTimeoutError():
            kind = TIMEOUT
        case ForeignReplyError():
            kind = FOREIGN_REPLY
        case FrameError():
            kind = FRAMING
        case UnsupportedError():
            kind = REJECTED
        case _:
            kind = DISCONNECTED
    return Fault(kind, error.reason, error.received)


def fault_of(error: TransportError | DeviceError | ValueError) -> Fault:
    """Return the fault that an error of an exchange or of its reply is."""
    match error:
        case DeviceError():
            return error.fault
        case TransportError():
            return line_fault(error)
        case _:
            return Fault(FRAMING, str(error))
