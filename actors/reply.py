"""The one-shot channel that carries an answer back to whoever waits for it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")


class ReplyChannel(Generic[T]):
    """A place for one answer, waited for by any number of tasks.

    Waiting costs one task step; nothing is allocated beyond this object. The answer is
    given once; giving it again is an error of the program.
    """

    __slots__ = ("_error", "_value", "_waiting", "abandoned", "answered")

    def __init__(self) -> None:
        """Start without an answer."""
        #: Whether the answer was given.
        self.answered = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[trio.lowlevel.Task] = []
        #: Whether a task that waited was cancelled: nobody may want the answer any more.
        self.abandoned = False

    def send(self, value: T) -> None:
        """Answer with a value and wake those who wait."""
        self._give(value, None)

    def send_error(self, error: BaseException) -> None:
        """Answer with an exception, raised in those who wait."""
        self._give(None, error)

    async def receive(self) -> T:
        """Wait for the answer and return it, or raise what it holds.

        Cancelling leaves the channel usable by others and sets `abandoned`.
        """
        if not self.answered:
            waiting = self._waiting
            task = trio.lowlevel.current_task()
            waiting.append(task)

            def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                waiting.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            except BaseException:
                self.abandoned = True
                raise
        else:
            await trio.lowlevel.checkpoint()
        if not self.answered:
            raise RuntimeError("woken without an answer")
        if self._error is not None:
            raise self._error
        value: Any = self._value
        return value  # type: ignore[no-any-return]  # it is there: there was no error

    def _give(self, value: T | None, error: BaseException | None) -> None:
        if self.answered:
            raise RuntimeError("an answer was given twice")
        self.answered = True
        self._value = value
        self._error = error
        for task in self._waiting:
            trio.lowlevel.reschedule(task)
        self._waiting.clear()
