"""Leases as tasks live with them: waited for, carried, renewed, preempted, lost.

Rules:
1. A task that entered a lease carries it, and so do the tasks it starts.
2. A lease that is lost is fenced first, then its block is cancelled and its instruments are
   driven safe; only then does it go to the next.
3. Whoever leaves the block by an error or a cancellation has lost control.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, TypeAlias, get_args

import trio
from attrs import define, field

from transports import current_clock

from .errors import LeaseLostError, RefusedError
from .events import (
    Events,
    LeaseExpired,
    LeaseGranted,
    LeasePreempted,
    LeaseQueued,
    LeaseReleased,
    LeaseReprieved,
    LeaseRevoked,
)
from .faults import Cause
from .lease import Hold, LeaseBook, LeaseState

Reads: TypeAlias = Literal["shared", "exclusive"]
"""Whether others may read what is leased."""

DriveSafe: TypeAlias = Callable[[Collection[str], str], Awaitable[None]]
"""Drives instruments safe for a reason, in bounded time, whatever is cancelled meanwhile."""

GRACE_S: Final = 10.0
"""How long a preempted holder has to reach a safe point unless it says otherwise."""

TTL_S: Final = 30.0
"""How long a lease outlasts the last sign of life unless its holder says otherwise."""

_LOOK_S: Final = 1.0
"""Timers stand still while the machine sleeps: the time is looked at this often."""


_carried: Final[ContextVar[tuple[Lease, ...]]] = ContextVar("leases of this task", default=())


class Lease:
    """The right to command some instruments alone. Made by `Tree.lease`.

    Attributes:
        preempted: Set once somebody more important waits: reach a safe point and leave
            the block within `remaining_s`. Another event once nobody does any more.
        lost: Set once it has ended before its block: commands under it are refused.
    """

    def __init__(self, book: LeaseBook, hold: Hold) -> None:
        """Show one lease of a book."""
        self.preempted = trio.Event()
        self.lost = trio.Event()
        self._book = book
        self._hold = hold

    def __repr__(self) -> str:
        """Return the number, the owner, the instruments and the state."""
        names = ", ".join(self.instruments)
        return f"<Lease {self.token} of {self.owner!r} on {names} {self._hold.state.name}>"

    @property
    def owner(self) -> str:
        """Who holds it, in words."""
        return self._hold.owner

    @property
    def token(self) -> int:
        """Its number, which rises with every lease of the tree."""
        return self._hold.token

    @property
    def instruments(self) -> tuple[str, ...]:
        """What it is for."""
        return tuple(sorted(self._hold.instruments))

    @property
    def hold(self) -> Hold:
        """What the book says of it; for the bus alone."""
        return self._hold

    @property
    def held(self) -> bool:
        """Whether commands under it are taken."""
        return self.remaining_s > 0.0

    @property
    def remaining_s(self) -> float:
        """How long it lasts unless it is renewed, in seconds; 0 once it is over."""
        if not self._hold.held:
            return 0.0
        ends_s = min(self._hold.expires_s, self._hold.grace_ends_s)
        return max(0.0, ends_s - current_clock().boot_s())

    @contextmanager
    def carried(self) -> Generator[None]:
        """Give the commands of the block under this lease, in a task that does not carry it."""
        before = _carried.set((*_carried.get(), self))
        try:
            yield
        finally:
            _carried.reset(before)

    def renew(self) -> None:
        """Give a sign of life: the lease lasts for its `ttl_s` from now.

        Raises:
            LeaseLostError: It is over.
        """
        now_s = current_clock().boot_s()
        if not self._book.renew(self._hold, now_s):
            why = self._hold.overdue(now_s) or self._hold.why or "it was given back"
            raise LeaseLostError(self.owner, self.token, self.instruments, why)


def carried(instrument: str) -> Hold | None:
    """Return the lease of this task that covers an instrument: the innermost one, or None.

    One that was given back is none; one that was lost still is what its holder believes in.
    """
    for lease in reversed(_carried.get()):
        hold = lease.hold
        if instrument in hold.instruments and (hold.held or hold.fenced):
            return hold
    return None


def _is_time(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and value >= 0.0


@define(eq=False)
class _Holder:
    """One who holds a lease, or waits for it."""

    lease: Lease
    granted: trio.Event = field(factory=trio.Event)
    # Where its watcher waits for something new to look at: a place of its own for each wait.
    changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    body: trio.CancelScope = field(factory=trio.CancelScope)


class Leases:
    """The leases of one tree.

    Attributes:
        book: What buses look into before each command.
    """

    def __init__(self, events: Events, drive_safe: DriveSafe) -> None:
        """Start without leases; what a lost lease leaves behind goes to `drive_safe`."""
        self.book = LeaseBook()
        self._events = events
        self._drive_safe = drive_safe
        self._holders: dict[Hold, _Holder] = {}

    def __repr__(self) -> str:
        """Return how many are held or waited for."""
        return f"<Leases {len(self._holders)}>"

    def revoke(self, instrument: str, reason: str) -> bool:
        """Take the lease on an instrument away now; return whether there was one."""
        hold = self.book.holder(instrument)
        if hold is None or not hold.held:
            return False
        self._lose(self._holders[hold], reason, expired=False)
        self._holders[hold].changed.unpark()
        return True

    @staticmethod
    def check_terms(
        patterns: Collection[object],
        *,
        owner: object,
        ttl_s: object,
        priority: object,
        grace_s: object,
        reads: object,
    ) -> None:
        """Check what a lease is asked for with.

        Raises:
            ValueError: Something of it is wrong; it is named, with what would be right.
        """
        if not patterns:
            raise ValueError("a lease is on at least one instrument")
        named = next((each for each in patterns if not isinstance(each, str)), None)
        if named is not None:
            raise ValueError(
                f"{named!r} is no name; a lease takes names or patterns, such as 'psu'"
            )
        if not isinstance(owner, str) or not owner:
            raise ValueError(f"owner is {owner!r}; it says in words whose the lease is")
        if not _is_time(ttl_s) or not ttl_s:
            raise ValueError(f"ttl_s is {ttl_s!r}; it is a time in seconds, above 0")
        if not _is_time(grace_s):
            raise ValueError(f"grace_s is {grace_s!r}; it is a time in seconds, 0 or more")
        whole = isinstance(priority, int) and not isinstance(priority, bool)
        if not whole:
            raise ValueError(f"priority is {priority!r}; it is an integer, a higher one goes first")
        if reads not in get_args(Reads):
            raise ValueError(f"reads is {reads!r}; it is 'shared' or 'exclusive'")

    @asynccontextmanager
    async def hold(
        self,
        instruments: Collection[str],
        *,
        owner: str,
        ttl_s: float = TTL_S,
        priority: int = 0,
        grace_s: float = GRACE_S,
        reads: Reads = "shared",
        heartbeat: bool = True,
        wait: bool = True,
    ) -> AsyncGenerator[Lease, None]:
        """Hold a lease on instruments for the length of the block; see `Tree.lease`."""
        for name in instruments:
            mine = carried(name)
            if mine is not None and mine.held:
                raise RefusedError(
                    f"this task holds the lease {mine.token} of {mine.owner!r} on it already",
                    cause=Cause.CONFLICT,
                    instrument=name,
                    command="lease",
                )
        hold = self.book.ask(
            instruments,
            owner=owner,
            priority=priority,
            ttl_s=ttl_s,
            grace_s=grace_s,
            reads=reads == "exclusive",
        )
        holder = self._holders[hold] = _Holder(Lease(self.book, hold))
        failure: BaseException | None = None
        try:
            await self._wait(holder, wait=wait)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, holder, heartbeat)
                try:
                    with holder.lease.carried(), holder.body:
                        yield holder.lease
                except BaseException as error:  # noqa: BLE001 - raised again below
                    failure = error
                now_s = current_clock().boot_s()
                if hold.held and (why := hold.overdue(now_s)) is not None:
                    self._lose(holder, why, expired=hold.grace_ends_s > now_s)
                elif hold.held and failure is not None:
                    self._lose(holder, f"its holder failed: {_named(failure)}", expired=False)
                elif hold.held:
                    self.book.end(hold)
                    self._events.publish(LeaseReleased(**_facts(hold)))
                holder.changed.unpark()
                # Settling takes its own, bounded time.
                nursery.cancel_scope.shield = True
        finally:
            del self._holders[hold]
            if hold.state is LeaseState.WAITING:
                self.book.end(hold)
            self._move_on()
        refused = isinstance(failure, RefusedError) and failure.cause is Cause.LEASE
        if hold.fenced and (failure is None or refused):
            lost = LeaseLostError(owner, hold.token, holder.lease.instruments, hold.why)
            raise lost from failure
        if failure is not None:
            raise failure

    async def _wait(self, holder: _Holder, *, wait: bool) -> None:
        """Wait until a lease is granted."""
        hold = holder.lease.hold
        self._move_on()
        if not holder.granted.is_set():
            now_s = current_clock().boot_s()
            first = self.book.blockers(hold)[0]
            if not wait:
                self.book.end(hold)
                raise RefusedError(
                    first.describe(now_s),
                    cause=Cause.LEASE,
                    instrument=min(first.instruments & hold.instruments),
                    command="lease",
                    retry_after_s=first.ends_within_s(now_s),
                )
            self._events.publish(LeaseQueued(waits_for=first.describe(now_s), **_facts(hold)))
        await holder.granted.wait()

    def _move_on(self) -> None:
        """Grant what can be granted, and tell who has to give way."""
        now_s = current_clock().boot_s()
        for hold in self.book.grant(now_s):
            self._events.publish(LeaseGranted(**_facts(hold)))
            self._holders[hold].granted.set()
        for hold in self.book.reprieve():
            self._holders[hold].lease.preempted = trio.Event()
            self._events.publish(LeaseReprieved(**_facts(hold)))
        for hold in self.book.preempt(now_s):
            self._events.publish(LeasePreempted(by=hold.why, grace_s=hold.grace_s, **_facts(hold)))
            self._holders[hold].lease.preempted.set()
            self._holders[hold].changed.unpark()

    async def _watch(self, holder: _Holder, heartbeat: bool) -> None:
        """Renew a lease, lose it in time, and settle it once it was lost."""
        hold = holder.lease.hold
        clock = current_clock()
        with trio.CancelScope(shield=True):
            while hold.held:
                now_s = clock.boot_s()
                if (why := hold.overdue(now_s)) is not None:
                    self._lose(holder, why, expired=hold.grace_ends_s > now_s)
                    break
                if heartbeat:
                    self.book.renew(hold, now_s)
                left_s = min(hold.expires_s, hold.grace_ends_s) - now_s
                look_s = clock.now_s() + min(left_s, hold.ttl_s / 3.0, _LOOK_S)
                holder.changed = trio.lowlevel.ParkingLot()
                await clock.park_until(holder.changed, look_s)
            if hold.state is LeaseState.LOST:
                try:
                    await self._drive_safe(
                        sorted(hold.instruments), f"the lease of {hold.owner!r}: {hold.why}"
                    )
                finally:
                    self.book.end(hold)
                    self._move_on()

    def _lose(self, holder: _Holder, why: str, *, expired: bool) -> None:
        """Fence a lease; its watcher drives its instruments safe."""
        hold = holder.lease.hold
        self.book.lose(hold, why)
        kind = LeaseExpired if expired else LeaseRevoked
        self._events.publish(kind(reason=why, **_facts(hold)))
        holder.lease.lost.set()
        holder.body.cancel()


def _facts(hold: Hold) -> dict[str, Any]:
    return {
        "token": hold.token,
        "owner": hold.owner,
        "instruments": tuple(sorted(hold.instruments)),
    }


def _named(failure: BaseException) -> str:
    if isinstance(failure, trio.Cancelled):
        return "it was cancelled"
    return f"{type(failure).__name__}: {failure}".rstrip(": ")
