"""One thread that makes one blocking call after another, for calls that may hang.

Only `transports.clock` starts threads: a virtual clock has none.
"""

from __future__ import annotations

import queue
import threading
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
        # Calls that were queued and have not returned. Trio's thread alone touches it.
        self._pending = 0
        self._idle = trio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        """Return the name and how many calls have not returned."""
        return f"<CallThread {self._name} pending={self._pending}>"

    @property
    def idle(self) -> bool:
        """Whether every call has returned."""
        return self._pending == 0

    async def wait_idle(self) -> None:
        """Wait until every call has returned."""
        await self._idle.wait()

    async def call(self, blocking: Callable[[], T]) -> T:
        """Make a call and return what it returns.

        It is queued in this very step. Cancelling returns at once: the call goes on, and
        what it returns or raises is forgotten.
        """
        call = _Call(blocking, trio.lowlevel.current_task())
        self.post(call.run, call.deliver)

        def abort(_: object) -> trio.lowlevel.Abort:
            call.waiting = None
            return trio.lowlevel.Abort.SUCCEEDED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def post(self, blocking: Callable[[], None], done: Callable[[], None] | None = None) -> None:
        """Queue a call that nobody waits for; it must not raise.

        `done` is called in Trio's thread once it has returned.
        """
        token = trio.lowlevel.current_trio_token()

        def note_returned() -> None:
            self._pending -= 1
            if self._pending == 0:
                self._idle.set()
            if done is not None:
                done()

        def carry_out() -> None:
            blocking()
            with suppress(trio.RunFinishedError):  # the program need not have waited
                token.run_sync_soon(note_returned)

        if self._pending == 0:
            self._idle = trio.Event()
        self._pending += 1
        self._calls.put(carry_out)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_work, args=(self._calls,), name=self._name, daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the calls that are queued; a later call starts another."""
        if self._thread is not None:
            self._calls.put(None)
            self._calls = queue.SimpleQueue()
            self._thread = None


class _Call(Generic[T]):
    """One call, and the task that waits for it."""

    def __init__(self, blocking: Callable[[], T], waiting: trio.lowlevel.Task) -> None:
        self._blocking = blocking
        self._result: outcome.Outcome[T] | None = None
        self.waiting: trio.lowlevel.Task | None = waiting

    def run(self) -> None:
        self._result = outcome.capture(self._blocking)

    def deliver(self) -> None:
        task, self.waiting = self.waiting, None
        if task is not None and self._result is not None:
            trio.lowlevel.reschedule(task, self._result)


def _work(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
