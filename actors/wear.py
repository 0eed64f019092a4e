"""Writes that wear out a device's memory, counted; pure."""

from __future__ import annotations

from collections import deque
from typing import Final

OFTEN: Final = 10
"""More writes than these within a minute are worth a warning: 100 000 last a week."""

MINUTE_NS: Final = 60_000_000_000


class Wear:
    """Counts writes to one device's memory.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._recent: deque[int] = deque()
        self._warned_ns: int | None = None

    def note(self, now_ns: int) -> int | None:
        """Count a write; return how many the last minute saw, where that is worth a warning.

        At most one warning a minute.
        """
        self.count += 1
        self._recent.append(now_ns)
        while self._recent[0] <= now_ns - MINUTE_NS:
            self._recent.popleft()
        if len(self._recent) <= OFTEN:
            return None
        if self._warned_ns is not None and now_ns - self._warned_ns < MINUTE_NS:
            return None
        self._warned_ns = now_ns
        return len(self._recent)
