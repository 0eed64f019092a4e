"""Who may command what: leases, as a book that knows no clock.

    WAITING -> HELD <-> PREEMPTED -> OVER, or from the middle two LOST -> OVER

Rules:
1. An instrument has at most one lease. A lease is granted for all of its instruments or
   for none.
2. Who waits is served by priority, then by arrival; nobody is served before one who came
   first in that order and waits for the same instrument.
3. A lease of lower priority that is in the way is preempted: it has its grace, then it
   is lost. It is reprieved when nobody more important waits for it any more.
4. A lost lease is fenced at once: its token opens nothing any more. Its instruments go to
   the next only once they are settled.
5. Times are on one scale that goes on while the machine sleeps.
"""

from __future__ import annotations

import math
from bisect import insort_right
from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from itertools import count
from typing import Final

from attrs import define, field

from .errors import IllegalLeaseStepError


class LeaseState(Enum):
    """How far a lease has come."""

    WAITING = auto()
    HELD = auto()
    PREEMPTED = auto()
    """Held for its grace period yet."""
    LOST = auto()
    """Fenced; its instruments are being driven safe."""
    OVER = auto()


class LeaseStep(Enum):
    """What can happen to a lease."""

    GRANT = auto()
    PREEMPT = auto()
    REPRIEVE = auto()
    LOSE = auto()
    END = auto()
    """Given back, given up while waiting, or settled after it was lost."""


TRANSITIONS: Final[Mapping[tuple[LeaseState, LeaseStep], LeaseState]] = {
    (LeaseState.WAITING, LeaseStep.GRANT): LeaseState.HELD,
    (LeaseState.WAITING, LeaseStep.END): LeaseState.OVER,
    (LeaseState.HELD, LeaseStep.PREEMPT): LeaseState.PREEMPTED,
    (LeaseState.HELD, LeaseStep.LOSE): LeaseState.LOST,
    (LeaseState.HELD, LeaseStep.END): LeaseState.OVER,
    (LeaseState.PREEMPTED, LeaseStep.REPRIEVE): LeaseState.HELD,
    (LeaseState.PREEMPTED, LeaseStep.LOSE): LeaseState.LOST,
    (LeaseState.PREEMPTED, LeaseStep.END): LeaseState.OVER,
    (LeaseState.LOST, LeaseStep.END): LeaseState.OVER,
}


def step(state: LeaseState, event: LeaseStep) -> LeaseState:
    """Return the state that follows `event` in `state`.

    Raises:
        IllegalLeaseStepError: The table has no such step.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalLeaseStepError(f"{event.name} is not legal in {state.name}") from None


@define(eq=False, kw_only=True)
class Hold:
    """One lease in the book.

    Attributes:
        token: Its number, which rises with every lease asked for: the fencing token.
        owner: Who holds it, in words.
        instruments: What it is for.
        priority: A higher one preempts a lower one.
        ttl_s: How long it lasts after a sign of life, in seconds; may be infinite.
        grace_s: How long it goes on once it is preempted, in seconds.
        reads: Whether reads of others are kept out as well.
        state: How far it has come.
        since_s: Since when it has been held.
        expires_s: When it expires unless it is renewed.
        grace_ends_s: When its grace ends; infinite before it is preempted.
        why: Why it was preempted or lost, in words.
    """

    token: int
    owner: str
    instruments: frozenset[str]
    priority: int
    ttl_s: float
    grace_s: float
    reads: bool = False
    state: LeaseState = LeaseState.WAITING
    since_s: float = 0.0
    expires_s: float = math.inf
    grace_ends_s: float = math.inf
    why: str = ""
    # Whether it was ever fenced: a lease that is over may have been given back.
    fenced: bool = False

    @property
    def held(self) -> bool:
        """Whether it gives its owner the right to command."""
        return self.state is LeaseState.HELD or self.state is LeaseState.PREEMPTED

    def advance(self, event: LeaseStep) -> None:
        """Take a step along the table."""
        self.state = step(self.state, event)

    def overdue(self, now_s: float) -> str | None:
        """Return why a held lease has to be lost now, or None."""
        if self.grace_ends_s <= now_s:
            return f"{self.why}, and its grace of {self.grace_s:g} s is over"
        if self.expires_s <= now_s:
            return f"it gave no sign of life for {self.ttl_s:g} s"
        return None

    def describe(self, now_s: float) -> str:
        """Return who holds it and how long that may last."""
        who = f"{self.owner!r} (lease {self.token}, priority {self.priority}"
        held_s = max(0.0, now_s - self.since_s)
        if self.state is LeaseState.LOST:
            return f"{who}) lost its lease ({self.why}) and it is being driven safe"
        text = f"{who}, for {held_s:.3g} s so far) holds it"
        if self.grace_ends_s < math.inf:
            return f"{text} for {max(0.0, self.grace_ends_s - now_s):.3g} s more at most"
        if self.ttl_s == math.inf:
            return f"{text} until it gives it back"
        return f"{text} until it gives it back or shows no sign of life for {self.ttl_s:g} s"

    def ends_within_s(self, now_s: float) -> float | None:
        """Return when it surely ends, in seconds from now; None where that is not known."""
        return max(0.0, self.grace_ends_s - now_s) if self.grace_ends_s < math.inf else None


@define(eq=False)
class LeaseBook:
    """All leases of one tree."""

    _held: dict[str, Hold] = field(factory=dict[str, Hold])
    # In the order in which they are served.
    _waiting: list[Hold] = field(factory=list[Hold])
    _tokens: count[int] = field(factory=lambda: count(1))

    def holder(self, instrument: str) -> Hold | None:
        """Return the lease that an instrument is under, one being settled included."""
        return self._held.get(instrument)

    @property
    def waiting(self) -> Sequence[Hold]:
        """Who waits, first served first."""
        return tuple(self._waiting)

    def ask(
        self,
        instruments: Collection[str],
        *,
        owner: str,
        priority: int,
        ttl_s: float,
        grace_s: float,
        reads: bool,
    ) -> Hold:
        """Queue a lease; `grant` decides when it is held."""
        hold = Hold(
            token=next(self._tokens),
            owner=owner,
            instruments=frozenset(instruments),
            priority=priority,
            ttl_s=ttl_s,
            grace_s=grace_s,
            reads=reads,
        )
        # Equals stay in the order of arrival.
        insort_right(self._waiting, hold, key=lambda each: -each.priority)
        return hold

    def grant(self, now_s: float) -> Sequence[Hold]:
        """Let everybody have a lease whose turn it is; return the new ones."""
        granted: list[Hold] = []
        taken = set(self._held)
        for hold in tuple(self._waiting):
            if taken.isdisjoint(hold.instruments):
                self._waiting.remove(hold)
                hold.advance(LeaseStep.GRANT)
                hold.since_s = now_s
                hold.expires_s = now_s + hold.ttl_s
                self._held.update(dict.fromkeys(hold.instruments, hold))
                granted.append(hold)
            taken |= hold.instruments
        return granted

    def preempt(self, now_s: float) -> Sequence[Hold]:
        """Begin the grace of those who are in the way of a higher priority; return them."""
        preempted: list[Hold] = []
        wanted: set[str] = set()
        for hold in self._waiting:
            if wanted.isdisjoint(hold.instruments):
                in_the_way = self._in_the_way_of(hold)
                if all(each.priority < hold.priority or not each.held for each in in_the_way):
                    for each in in_the_way:
                        if each.state is LeaseState.HELD:
                            each.advance(LeaseStep.PREEMPT)
                            each.grace_ends_s = now_s + each.grace_s
                            each.why = f"preempted by {hold.owner!r} (priority {hold.priority})"
                            preempted.append(each)
            wanted |= hold.instruments
        return preempted

    def reprieve(self) -> Sequence[Hold]:
        """End the grace of those whom nobody more important waits for any more; return them."""
        reprieved: list[Hold] = []
        for hold in dict.fromkeys(self._held.values()):
            wanted = any(
                each.priority > hold.priority and not each.instruments.isdisjoint(hold.instruments)
                for each in self._waiting
            )
            if hold.state is LeaseState.PREEMPTED and not wanted:
                hold.advance(LeaseStep.REPRIEVE)
                hold.grace_ends_s = math.inf
                hold.why = ""
                reprieved.append(hold)
        return reprieved

    def renew(self, hold: Hold, now_s: float) -> bool:
        """Note a sign of life; return whether the lease is held on."""
        if not hold.held or hold.overdue(now_s) is not None:
            return False
        hold.expires_s = now_s + hold.ttl_s
        return True

    def lose(self, hold: Hold, why: str) -> None:
        """Fence a lease; its instruments stay with nobody until `end`."""
        hold.advance(LeaseStep.LOSE)
        hold.why = why
        hold.fenced = True

    def end(self, hold: Hold) -> None:
        """Give a lease back, give up waiting for it, or settle a lost one."""
        hold.advance(LeaseStep.END)
        if hold in self._waiting:
            self._waiting.remove(hold)
        for name in hold.instruments:
            if self._held.get(name) is hold:
                del self._held[name]

    def objection(
        self, instrument: str, mine: Hold | None, *, writes: bool, now_s: float
    ) -> str | None:
        """Return why a command may not pass, or None.

        Args:
            instrument: Whom it goes to.
            mine: The lease of the caller that covers the instrument, if there is one.
            writes: Whether it changes the instrument.
            now_s: The time, on the scale of the book.
        """
        if mine is not None and mine.fenced and writes:
            return f"the lease {mine.token} of {mine.owner!r} was lost: {mine.why}"
        holder = self._held.get(instrument)
        if holder is None:
            return None
        if holder is not mine:
            return holder.describe(now_s) if writes or holder.reads else None
        overdue = holder.overdue(now_s) if writes else None
        return None if overdue is None else f"its lease {holder.token} is over: {overdue}"

    def blockers(self, hold: Hold) -> Sequence[Hold]:
        """Return who a waiting lease waits for: holders, and those who are served first."""
        ahead = self._waiting[: self._waiting.index(hold)] if hold in self._waiting else []
        first = [each for each in ahead if not each.instruments.isdisjoint(hold.instruments)]
        return [*self._in_the_way_of(hold), *first]

    def _in_the_way_of(self, hold: Hold) -> Sequence[Hold]:
        found = (self._held.get(name) for name in sorted(hold.instruments))
        return list(dict.fromkeys(each for each in found if each is not None))
