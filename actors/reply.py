"""The one-shot channel that carries an answer back to whoever waits for it."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio
from attrs import frozen

T = TypeVar("T")


@frozen
class _Value(Generic[T]):
    value: T


@frozen
class _Error:
    error: BaseException


class ReplyChannel(Generic[T]):
    """A place for one answer, waited for by any number of tasks.

    Waiting costs one task step; nothing is allocated beyond this object. The answer is
    given once; giving it again is an error of the program.
    """

    __slots__ = ("_answer", "_waiting", "abandoned")

    def __init__(self) -> None:
        """Start without an answer."""
        self._answer: _Value[T] | _Error | None = None
        self._waiting: list[trio.lowlevel.Task] = []
        #: Whether a task that waited was cancelled: nobody may want the answer any more.
        self.abandoned = False

    @property
    def answered(self) -> bool:
        """Whether the answer was given."""
        return self._answer is not None

    def send(self, value: T) -> None:
        """Answer with a value and wake those who wait."""
        self._give(_Value(value))

    def send_error(self, error: BaseException) -> None:
        """Answer with an exception, raised in those who wait."""
        self._give(_Error(error))

    async def receive(self) -> T:
        """Wait for the answer and return it, or raise what it holds.

        Cancelling leaves the channel usable by others and sets `abandoned`.
        """
        if self._answer is None:
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
        match self._answer:
            case _Value(value):
                return value
            case _Error(error):
                raise error
            case None:
                raise RuntimeError("woken without an answer")

    def _give(self, answer: _Value[T] | _Error) -> None:
        if self._answer is not None:
            raise RuntimeError("an answer was given twice")
        self._answer = answer
        for task in self._waiting:
            trio.lowlevel.reschedule(task)
        self._waiting.clear()
