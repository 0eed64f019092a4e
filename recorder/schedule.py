"""When the slots of a recording begin. Pure arithmetic, exact after any number of slots.

Slot `n` begins at its target, `n` periods after the first, and ends where the next begins.
Targets are integer nanoseconds, each computed from the rate and none from another target.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

_SECOND_NS: Final = 1_000_000_000


class Schedule:
    """The targets of a rate, in nanoseconds after the first target.

    Attributes:
        rate_hz: Slots per second.
    """

    def __init__(self, rate_hz: float) -> None:
        """Take the rate as its shortest decimal: 0.1 Hz is one slot in exactly ten seconds.

        Raises:
            ValueError: The rate is not a positive number, or above one slot a nanosecond.
        """
        if not (math.isfinite(rate_hz) and 0 < rate_hz <= _SECOND_NS):
            raise ValueError(f"rate_hz must be a positive number, not {rate_hz}")
        self.rate_hz = rate_hz
        period = 1 / Fraction(str(rate_hz))
        self._top = period.numerator * _SECOND_NS
        self._bottom = period.denominator

    @property
    def period_s(self) -> float:
        """The length of a slot, in seconds."""
        return self._top / self._bottom / _SECOND_NS

    def target_ns(self, slot: int) -> int:
        """Return when `slot` begins."""
        return self._top * slot // self._bottom

    def slot_at(self, elapsed_ns: int) -> int:
        """Return the slot in whose span `elapsed_ns` lies; negative before the first."""
        # The last target that is not above: targets are rounded down, hence the + 1.
        return ((elapsed_ns + 1) * self._bottom - 1) // self._top

    def slots_in(self, duration_s: float) -> int:
        """Return how many slots a recording of `duration_s` has: one at least.

        Raises:
            ValueError: The duration is not a positive number.
        """
        if not (math.isfinite(duration_s) and duration_s > 0):
            raise ValueError(f"duration must be a positive number of seconds, not {duration_s}")
        return max(1, round(duration_s * self.rate_hz))

    def __repr__(self) -> str:
        """Return the rate."""
        return f"<Schedule {self.rate_hz} Hz>"
