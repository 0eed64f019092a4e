"""Quantiles of durations in constant memory.

Durations are counted in buckets whose bounds grow by a constant ratio, so that every
quantile is known to within that ratio however long the recording.
"""

from __future__ import annotations

import math
from typing import Final

_SHORTEST_S: Final = 1e-6
_GROWTH: Final = 1.02
_LOG_GROWTH: Final = math.log(_GROWTH)
_BUCKETS: Final = math.ceil(math.log(1e5 / _SHORTEST_S) / _LOG_GROWTH)
"""From a microsecond to about a day; anything outside counts as the nearest bound."""


class DurationSketch:
    """Counts durations; its quantiles are within 1 % of the true ones."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts = [0] * (_BUCKETS + 1)
        self._total = 0

    def __len__(self) -> int:
        """Return how many durations were added."""
        return self._total

    def add(self, duration_s: float) -> None:
        """Count one duration, in seconds."""
        bucket = 0
        if duration_s > _SHORTEST_S:
            bucket = min(math.ceil(math.log(duration_s / _SHORTEST_S) / _LOG_GROWTH), _BUCKETS)
        self._counts[bucket] += 1
        self._total += 1

    def quantile_s(self, share: float) -> float | None:
        """Return the duration that a `share` of all does not exceed; None while empty.

        Args:
            share: From 0 to 1; 0.5 is the median.
        """
        if not self._total:
            return None
        wanted = max(1, math.ceil(share * self._total))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                # The middle of the bucket, in the sense of its ratio.
                return _SHORTEST_S * _GROWTH ** (bucket - 0.5) if bucket else _SHORTEST_S
        raise AssertionError("the counts add up to the total")
