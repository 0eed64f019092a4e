"""One thread that makes one blocking call after another, for calls that may hang.

Only `transports.clock` starts threads: a virtual clock has none.
"""

from __future__ import annotations

import queue
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import outcome
import trio

T = TypeVar("T")


class CallThread:
    """A daemon thread with a queue of calls: the end of the program waits for none of them.

    Whoever gives up on a call gets control back at once; the call goes on, and what is
    asked for later comes after it. The thread is started by the first call.
    """

    def __init__(self, name: str) -> None:
        """Make a thread that has nothing to do."""
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._bell = _Bell()
        # How many calls were queued so far.
        self._queued = 0
        weakref.finalize(self, self._bell.close)

    def __repr__(self) -> str:
        """Return the name and how many calls have not returned."""
        return f"<CallThread {self._name} pending={self._queued - self._bell.returned}>"

    @property
    def idle(self) -> bool:
        """Whether every call has returned."""
        return self._queued == self._bell.returned

    async def wait_idle(self) -> None:
        """Wait until every call has returned."""
        await trio.lowlevel.checkpoint()
        while not self.idle:
            await self._bell.heard()

    def start(self, blocking: Callable[[], T]) -> Waiting[T]:
        """Queue a call and return how to wait for it."""
        call = Waiting(blocking, self._bell)
        self.post(call.run)
        return call

    def post(self, blocking: Callable[[], None]) -> None:
        """Queue a call that nobody waits for; it must not raise."""
        self._queued += 1
        self._calls.put(blocking)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_work, args=(self._calls, self._bell), name=self._name, daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the calls that are queued; a later call starts another."""
        if self._thread is not None:
            self._calls.put(None)
            self._calls = queue.SimpleQueue()
            self._thread = None


class Waiting(Generic[T]):
    """A call that was queued, as the task sees it that waits for it."""

    def __init__(self, blocking: Callable[[], T], bell: _Bell) -> None:
        """Wait for a call that rings `bell` when it has returned."""
        self._blocking = blocking
        self._bell = bell
        # What it returned or raised, noted by the thread.
        self._returned: outcome.Outcome[T] | None = None
        # What the task gets instead, whenever the call returns.
        self._failed: outcome.Error | None = None

    async def wait(self) -> T:
        """Wait for the call and return what it returns.

        Cancelling returns at once; the call goes on, and may be waited for again.
        """
        if self._returned is not None:
            await trio.lowlevel.checkpoint()
        while True:
            if self._failed is not None:
                self._failed.unwrap()
            if self._returned is not None:
                return self._returned.unwrap()
            await self._bell.heard()

    def run(self) -> None:
        """Make the call; in the thread."""
        self._returned = outcome.capture(self._blocking)

    def fail(self, error: Exception) -> None:
        """Have whoever waits get an error now; the call goes on."""
        self._failed = outcome.Error(error)
        self._bell.ring()


class _Bell:
    """Wakes Trio's tasks from a thread, in one pass of the scheduler.

    Trio's own way, through its token, takes two: it wakes a task that wakes the others.

    Attributes:
        returned: How many calls have returned.
    """

    def __init__(self) -> None:
        self.returned = 0
        self._lock = threading.Lock()
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        # One task listens; the others are told by it.
        self._listening = False
        self._others = trio.lowlevel.ParkingLot()

    def note_returned(self) -> None:
        """Count a call that has returned; in its thread."""
        with self._lock:
            self.returned += 1
        self.ring()

    def ring(self) -> None:
        """Wake everybody who waits; from any thread."""
        with suppress(OSError):  # it rings already, or nobody is left who could wait
            self._far.send(b"\0")

    async def heard(self) -> None:
        """Wait until it rings; maybe for a call of somebody else."""
        if self._listening:
            await self._others.park()
            return
        self._listening = True
        try:
            await trio.lowlevel.wait_readable(self._near)
            self._near.recv(4_096)
        finally:
            self._listening = False
            self._others.unpark_all()

    def close(self) -> None:
        """Give the descriptors back."""
        self._near.close()
        self._far.close()


def _work(calls: queue.SimpleQueue[Callable[[], None] | None], bell: _Bell) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # what it holds is not kept until the next one comes
        bell.note_returned()
