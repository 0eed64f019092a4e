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

    def start(self, blocking: Callable[[], T]) -> Waiting[T]:
        """Queue a call and return how to wait for it."""
        call = Waiting(blocking)
        self.post(call.run, call.deliver)
        return call

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


class Waiting(Generic[T]):
    """A call that was queued, and the task that waits for it, if any does."""

    def __init__(self, blocking: Callable[[], T]) -> None:
        """Wait for nobody yet."""
        self._blocking = blocking
        self._returned: outcome.Outcome[T] | None = None
        # What the waiting task gets, once it is known.
        self._result: outcome.Outcome[T] | None = None
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> T:
        """Wait for the call and return what it returns.

        Cancelling returns at once; the call goes on, and may be waited for again.
        """
        if self._result is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint()
        return self._result.unwrap()  # type: ignore[union-attr]  # set by what rescheduled

    def run(self) -> None:
        """Make the call; in the thread."""
        self._returned = outcome.capture(self._blocking)

    def deliver(self) -> None:
        """Give the task that waits what the call returned or raised."""
        if self._result is None:
            self._result = self._returned
            self._wake()

    def fail(self, error: Exception) -> None:
        """Have whoever waits get an error now; the call goes on."""
        if self._result is None:
            self._result = outcome.Error(error)
            self._wake()

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


def _work(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
