"""The circuit breaker: pure decisions about whether to bother a device.

Rules:
1. CLOSED lets everything through and counts consecutive failures; a success forgets them.
2. `failures` in a row opens it; so does a share of failures within a window, where one is
   given; so does one loss of the connection.
3. OPEN refuses until its time is up; each opening in a row doubles that time, up to a
   bound, and a jitter keeps many breakers from probing in step.
4. HALF_OPEN admits one probe. Its success closes, its failure opens.
5. Every change starts a new epoch; results that belong to an older one are ignored.
6. Opened by hand it stays open until it is closed by hand, or something urgent needs it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

from attrs import field, frozen, validators

_PARTS: Final = 10
"""Of how many parts a window is made: results leave it a part at a time."""


class BreakerState(Enum):
    """Whether a breaker lets commands through."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class BreakerEvent(Enum):
    """What moves a breaker."""

    OPEN = auto()
    PROBE = auto()
    CLOSE = auto()


TRANSITIONS: Final[Mapping[tuple[BreakerState, BreakerEvent], BreakerState]] = {
    (BreakerState.CLOSED, BreakerEvent.OPEN): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.OPEN): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.PROBE): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.CLOSE): BreakerState.CLOSED,
}

# Asked for after every exchange: Python 3.11 takes long to find a member in its class.
_HALF_OPEN: Final = BreakerState.HALF_OPEN


@frozen
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        failures: How many failures in a row open it.
        open_s: How long it stays open the first time, in seconds.
        max_open_s: The longest it stays open, in seconds.
        jitter: The largest share by which an opening is lengthened, at random.
        ratio: Which share of failures within the window opens it; None for no such rule.
        window_s: How far the window reaches back, in seconds.
        minimum: How many results the window has to hold before the share counts.
    """

    failures: int = field(default=3, validator=validators.ge(1))
    open_s: float = field(default=2.0, validator=validators.gt(0.0))
    max_open_s: float = field(default=120.0, validator=validators.gt(0.0))
    jitter: float = field(
        default=0.1, validator=validators.and_(validators.ge(0.0), validators.le(1.0))
    )

    ratio: float | None = field(
        default=None,
        validator=validators.optional(validators.and_(validators.gt(0.0), validators.le(1.0))),
    )
    window_s: float = field(default=60.0, validator=validators.gt(0.0))
    minimum: int = field(default=10, validator=validators.ge(1))

    def __attrs_post_init__(self) -> None:
        """Check that the bounds fit together."""
        if self.max_open_s < self.open_s:
            raise ValueError(f"max_open_s = {self.max_open_s} is less than open_s = {self.open_s}")


class Breaker:
    """One breaker; told of results, asked for permission. Time comes in as an argument.

    Attributes:
        policy: When it opens, and for how long.
        closed: Whether commands pass.
        forced: Whether it was opened by hand and is kept open.
        epoch: The number of changes so far; hand it back with a result.
    """

    def __init__(self, policy: BreakerPolicy, random: Callable[[], float]) -> None:
        """Start closed; `random` gives numbers from 0 to 1 for the jitter."""
        self.policy = policy
        self.closed = True
        self.forced = False
        self.epoch = 0
        self._random = random
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._openings = 0
        self._retry_at_s = 0.0
        # Parts of the window: its number, and how many successes and failures fell into it.
        self._parts: deque[list[int]] = deque(maxlen=_PARTS)

    def __repr__(self) -> str:
        """Return the state and what led to it."""
        return f"<Breaker {self._state.name} failures={self._failures} epoch={self.epoch}>"

    @property
    def state(self) -> BreakerState:
        """Whether commands pass."""
        return self._state

    @property
    def retry_at_s(self) -> float:
        """When the next probe is due; meaningful while not closed."""
        return self._retry_at_s

    def retry_after_s(self, now_s: float) -> float | None:
        """Return how long commands are refused yet, in seconds; None when they pass.

        Infinite where it was opened by hand.
        """
        if self._state is BreakerState.CLOSED:
            return None
        return max(0.0, self._retry_at_s - now_s)

    def probe(self, now_s: float) -> bool:
        """Become HALF_OPEN if a probe is due now, and return whether it is."""
        if self._state is not BreakerState.OPEN or now_s < self._retry_at_s:
            return False
        self._move(BreakerEvent.PROBE)
        return True

    def succeed(self, epoch: int, now_s: float) -> bool:
        """Note a success that began in `epoch`; return whether the breaker closed by it."""
        if epoch != self.epoch:
            return False
        self._failures = 0
        if self.policy.ratio is not None:
            self._count(now_s, failed=False)
        if self._state is not _HALF_OPEN:
            return False
        self._openings = 0
        self._parts.clear()
        self._move(BreakerEvent.CLOSE)
        return True

    def fail(self, epoch: int, now_s: float) -> bool:
        """Note a failure that began in `epoch`; return whether the breaker opened by it."""
        if epoch != self.epoch:
            return False
        self._failures += 1
        too_many = self._failures >= self.policy.failures
        if self.policy.ratio is not None and self._count(now_s, failed=True):
            too_many = True
        if self._state is BreakerState.CLOSED and not too_many:
            return False
        return self.open(now_s)

    def miss(self, epoch: int, now_s: float) -> bool:
        """Note a failure that is none in a row; return whether too many in the window are failures.

        For what several share: one of them that fails alone is not to open it.
        """
        if epoch != self.epoch or self.policy.ratio is None:
            return False
        return self._count(now_s, failed=True)

    def _count(self, now_s: float, *, failed: bool) -> bool:
        """Count a result in the window; return whether its share of failures is too large."""
        number = int(now_s / self.policy.window_s * _PARTS)
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append([number, 0, 0])
        self._parts[-1][2 if failed else 1] += 1
        recent = [part for part in self._parts if part[0] > number - _PARTS]
        failures = sum(part[2] for part in recent)
        total = failures + sum(part[1] for part in recent)
        return total >= self.policy.minimum and failures >= (self.policy.ratio or 1.0) * total

    def open(self, now_s: float) -> bool:
        """Open at once, as after a lost connection; return whether it was not open yet."""
        if self._state is BreakerState.OPEN:
            return False
        # Capped so that years of failed probes cannot overflow the power.
        longest = self.policy.open_s * 2.0 ** min(self._openings, 60)
        open_s = min(longest, self.policy.max_open_s)
        self._openings += 1
        self._failures = 0
        self._parts.clear()
        self._retry_at_s = now_s + open_s * (1.0 + self.policy.jitter * self._random())
        self._move(BreakerEvent.OPEN)
        return True

    def cancel_probe(self, epoch: int) -> bool:
        """Forget a probe that was cut short: it counts as neither success nor failure.

        Returns whether there was one.
        """
        if epoch != self.epoch or self._state is not _HALF_OPEN:
            return False
        self._move(BreakerEvent.OPEN)
        return True

    def force_open(self) -> None:
        """Open and stay open, until `force_close` or `hasten`."""
        self.forced = True
        self._failures = 0
        self._parts.clear()
        self._retry_at_s = math.inf
        if self._state is BreakerState.OPEN:
            self.epoch += 1
        else:
            self._move(BreakerEvent.OPEN)

    def force_close(self) -> None:
        """Close, and forget what opened it; do nothing to one that is closed."""
        self.forced = False
        self._openings = self._failures = 0
        self._parts.clear()
        if self._state is BreakerState.OPEN:
            self._move(BreakerEvent.PROBE)
        if self._state is _HALF_OPEN:
            self._move(BreakerEvent.CLOSE)

    def postpone(self, until_s: float) -> None:
        """Probe no earlier than `until_s`."""
        self._retry_at_s = max(self._retry_at_s, until_s)

    def hasten(self, now_s: float) -> None:
        """Let the next probe be due now, even where it was opened by hand."""
        self.forced = False
        self._retry_at_s = min(self._retry_at_s, now_s)

    def _move(self, event: BreakerEvent) -> None:
        self._state = TRANSITIONS[self._state, event]
        self.closed = self._state is BreakerState.CLOSED
        self.epoch += 1
