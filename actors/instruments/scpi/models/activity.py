"""Something a simulated instrument goes on with; pure."""

from __future__ import annotations

import math

from .entries import RequestError


class Activity:
    """One thing at a time that takes a while: a sweep, an acquisition.

    Attributes:
        running: Whether it goes on.
        begun: How often it was begun.
        began_s: When it was begun last.
        ends_s: When it will be over; infinite while nothing says so.
        aborted_at_s: When it was aborted last, or None.
    """

    def __init__(self) -> None:
        """Do nothing yet."""
        self.running = False
        self.begun = 0
        self.began_s = -math.inf
        self.ends_s = -math.inf
        self.aborted_at_s: float | None = None

    def __repr__(self) -> str:
        return f"<Activity begun={self.begun} running={self.running}>"

    def begin(self, now_s: float, duration_s: float) -> None:
        """Begin.

        Raises:
            RequestError: It goes on already.
        """
        if self.running:
            raise RequestError(-213)
        self.begun += 1
        self.running = True
        self.began_s, self.ends_s = now_s, now_s + duration_s

    def ended(self, now_s: float) -> bool:
        """Return whether it came to its end just now."""
        if not (self.running and now_s >= self.ends_s):
            return False
        self.running = False
        return True

    def abort(self, now_s: float) -> bool:
        """End it before its time; return whether it went on."""
        if not self.running:
            return False
        self.running = False
        self.aborted_at_s = now_s
        return True

    def fraction(self, now_s: float) -> float:
        """Return how much of it is done, from 0 to 1."""
        if not self.running:
            return 0.0 if self.begun == 0 else 1.0
        return min(1.0, (now_s - self.began_s) / max(self.ends_s - self.began_s, 1e-12))

    def forget(self) -> None:
        """Lose the power."""
        self.running = False
