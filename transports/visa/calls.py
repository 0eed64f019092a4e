"""The calls into the VISA library that one open line makes, each with its time limit.

Rules:
1. One call at a time, in a thread of the line's own, and never abandoned in its session.
2. Who gives up on a call gets control back at once; the next call waits until it is over.
3. A call that is not back by its time limit is stuck: whoever comes is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio

from transports.clock import current_clock
from transports.errors import PeerLostError
from transports.thread import Waiting

T = TypeVar("T")

OVERDUE_S: Final = 1.0
"""How long after its time limit a call may return before it counts as stuck, in seconds."""

CHECK_S: Final = 0.25
"""How often a line looks whether its far end is still there, in seconds."""


class Calls:
    """Makes calls into the VISA library, one after the other.

    Args:
        name: The line's, for the name of the thread.
        is_lost: Whether the far end is seen to be gone.
    """

    def __init__(self, name: str, is_lost: Callable[[], bool]) -> None:
        """Have a thread that has nothing to do."""
        self._thread = current_clock().make_thread(f"VISA {name}")
        self._is_lost = is_lost
        # What somebody waits for, and when the last call must be back. Trio time.
        self._waiting: Waiting[Any] | None = None
        self._due_s = float("-inf")

    def __repr__(self) -> str:
        """Return the thread and what it has to do."""
        return f"<Calls {self._thread}>"

    @property
    def idle(self) -> bool:
        """Whether every call has returned."""
        return self._thread.idle

    async def wait_idle(self) -> None:
        """Wait until every call has returned, however long that takes."""
        await self._thread.wait_idle()

    async def wait_due(self) -> None:
        """Wait until a call that was given up has returned.

        Raises:
            PeerLostError: It has not by its time limit.
        """
        if self.idle:
            return
        with trio.move_on_at(self._due_s):
            await self._thread.wait_idle()
        if not self.idle:
            raise PeerLostError("the VISA library does not return from a call")

    async def make(self, blocking: Callable[[], T], within_s: float) -> T:
        """Make a call and return what it returns; watch the far end and the time meanwhile.

        Raises:
            PeerLostError: The far end went away, or the call has not returned by its time
                limit: the session stays the thread's.
        """
        call: Waiting[T] = self._thread.start(blocking)
        now_s = trio.current_time()
        self._due_s = overdue_s = now_s + within_s + OVERDUE_S
        self._waiting = call
        try:
            while True:
                with trio.CancelScope(deadline=min(now_s + CHECK_S, overdue_s)):
                    return await call.wait()
                if self._is_lost():
                    raise PeerLostError("the far end closed the connection")
                now_s = trio.current_time()
                if now_s >= overdue_s:
                    raise PeerLostError(
                        "the VISA library does not return from a call", waited_s=within_s
                    )
        finally:
            if self._waiting is call:
                self._waiting = None

    def post(self, blocking: Callable[[], None], within_s: float) -> None:
        """Have a call made that nobody waits for, after the one that goes on."""
        self._due_s = max(self._due_s, trio.current_time() + within_s + OVERDUE_S)
        self._thread.post(blocking)

    def give_up(self, error: Exception) -> None:
        """Have whoever waits for a call get an error now."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.fail(error)

    async def end(self, last: Callable[[], None], within_s: float) -> None:
        """Make one last call, wait for it so long, and end the thread after it."""
        self._thread.post(last)
        with trio.move_on_after(within_s, shield=True):
            await self._thread.wait_idle()
        self._thread.stop()
