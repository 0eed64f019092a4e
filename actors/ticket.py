"""The receipt for an accepted command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

import trio

from .command import (
    ACKNOWLEDGE,
    COMPLETE,
    DISPATCH,
    QUEUED,
    Command,
    CommandEvent,
    CommandState,
    Outcome,
    advance,
)
from .errors import CommandError, IllegalCommandStepError
from .faults import Cause, Fault
from .operation import Progress
from .reply import ReplyChannel

T = TypeVar("T")


class _Told:
    """Iterates over what is told of an operation. No generator: one that is left warns."""

    def __init__(
        self, news: trio.lowlevel.ParkingLot, look: Callable[[], tuple[Progress | None, bool]]
    ) -> None:
        self._news = news
        self._look = look
        self._seen: Progress | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        while True:
            told, over = self._look()
            if told is not None and told is not self._seen:
                self._seen = told
                return told
            if over:
                raise StopAsyncIteration
            await self._news.park()


class Ticket(Generic[T]):
    """Follows one accepted command to its outcome. Reading it never waits for the bus."""

    __slots__ = (
        "_channel",
        "_followers",
        "_moved",
        "_progress",
        "_progressed",
        "_withdraw",
        "acknowledgement",
        "attempts",
        "command",
        "failures",
        "fault",
        "state",
        "unwanted",
    )

    def __init__(
        self,
        command: Command[T],
        withdraw: Callable[[Ticket[T]], bool],
        moved: Callable[[Ticket[T], Outcome[T] | None], None] | None = None,
    ) -> None:
        """Make a ticket for a command that was just accepted; `moved` is told of each step."""
        self.command = command
        #: How far the command has come.
        self.state = QUEUED
        #: How often its first byte was handed over.
        self.attempts = 0
        #: How many attempts have failed so far.
        self.failures = 0
        #: What the last of them failed with, or None.
        self.fault: Fault | None = None
        #: Whether it was taken back while its start was on the line.
        self.unwanted = False
        #: What the hardware said when it acknowledged; empty before, or where it says nothing.
        self.acknowledgement = b""
        self._withdraw = withdraw
        self._moved = moved
        self._channel: ReplyChannel[Outcome[T]] = ReplyChannel()
        self._followers: list[Callable[[Ticket[T]], None]] = []
        self._progress: Progress | None = None
        # Made for the first who wants to see progress.
        self._progressed: trio.lowlevel.ParkingLot | None = None

    def __repr__(self) -> str:
        """Return the number, the command and its state."""
        command = self.command
        return f"<Ticket {command.seq} {command.instrument}: {command.plan.name} {self.state.name}>"

    @property
    def seq(self) -> int:
        """The command's number."""
        return self.command.seq

    def outcome(self) -> Coroutine[Any, Any, Outcome[T]]:
        """Wait for the outcome and return it; a failure is returned, not raised.

        Cancelling leaves the command as it is: call `withdraw` to take it back.
        """
        return self._channel.receive()

    def progress(self) -> AsyncIterator[Progress]:
        """Iterate over how far an operation has come, as the device says it, until it is over.

        Whoever is slow sees the latest only. Ends at once for a command that is over, and
        without anything for one that does not go on after its exchange. It may be left at
        any time.
        """
        if self._progressed is None:
            self._progressed = trio.lowlevel.ParkingLot()
        return _Told(self._progressed, lambda: (self._progress, self.state.final))

    def withdraw(self) -> bool:
        """Take the command back and return whether it will never reach the wire.

        An operation that is under way is called off with the device's own abort, where it
        has one; what waits to be tried again is not.
        """
        return self._withdraw(self)

    # For the bus alone.

    def dispatch(self) -> None:
        """Note that the first byte is handed over now."""
        self.state = advance(self.state, DISPATCH)
        self.attempts += 1
        if self._moved is not None:
            self._moved(self, None)

    def dispatch_again(self) -> None:
        """Note that the first byte of another attempt is handed over now."""
        if self.state is not CommandState.DISPATCHED:
            raise IllegalCommandStepError(f"{self.state.name} is no state to try again in")
        self.attempts += 1

    def acknowledge(self, said: bytes) -> None:
        """Note that the hardware has answered, and what it said."""
        self.state = advance(self.state, ACKNOWLEDGE)
        self.acknowledgement = said
        if self._moved is not None:
            self._moved(self, None)

    @property
    def doing(self) -> str:
        """What the operation said last that it is at, in words; "" where it does not say."""
        return "" if self._progress is None else self._progress.doing

    def note_progress(self, progress: Progress) -> None:
        """Note how far the operation has come."""
        self._progress = progress
        if self._progressed is not None:
            self._progressed.unpark_all()

    def resolve(self, outcome: Outcome[T]) -> None:
        """Give the command its one outcome."""
        event = COMPLETE if outcome.error is None else CommandEvent.FAIL
        self.state = advance(self.state, event)
        if self._moved is not None:
            self._moved(self, outcome)
        self._channel.send(outcome)
        if self._progressed is not None:
            self._progressed.unpark_all()
        if self._followers:
            followers, self._followers = self._followers, []
            for follow in followers:
                follow(self)

    def follow(self, then: Callable[[Ticket[T]], None]) -> None:
        """Have `then` called once the command has its outcome."""
        self._followers.append(then)

    def error(
        self,
        cause: Cause,
        reason: str,
        *,
        fault: Fault | None = None,
        retry_after_s: float | None = None,
        may_have_executed: bool | None = None,
    ) -> CommandError:
        """Return the error for a failure now; by default it may have executed once sent."""
        command = self.command
        if may_have_executed is None:
            may_have_executed = self.state is not QUEUED
        return CommandError(
            reason,
            cause=cause,
            instrument=command.instrument,
            command=command.plan.name,
            may_have_executed=may_have_executed,
            retry_after_s=retry_after_s,
            fault=fault,
        )
