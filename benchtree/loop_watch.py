"""The health of the event loop: which task held everybody up, and for how long.

All tasks share one thread. A task that computes, or blocks in a call, between two awaits
keeps every bus, recording and deadline waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import trio
from attrs import frozen

from actors import Event

LONGEST_S: Final = 0.01
"""How long one step of a task may take before it is reported, in seconds."""


@frozen(kw_only=True)
class LoopHeldUp(Event):
    """A task kept the event loop for too long between two awaits.

    Attributes:
        task: The task's name.
        took_s: How long, in seconds.
    """

    task: str
    took_s: float


class LoopWatch(trio.abc.Instrument):
    """Times every step of every task of a Trio run."""

    def __init__(self, note: Callable[[str, float], None], longest_s: float = LONGEST_S) -> None:
        """Hand the name of each task whose step takes over `longest_s`, and how long, to `note`."""
        self._note = note
        self._longest_s = longest_s
        # It may be made amid a step.
        self._began_s = time.perf_counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a step begins."""
        self._began_s = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Report a step that took too long."""
        took_s = time.perf_counter() - self._began_s
        if took_s > self._longest_s:
            self._note(task.name, took_s)


@contextmanager
def watching_loop(publish: Callable[[Event], None]) -> Generator[None]:
    """Publish a `LoopHeldUp` for each step that takes too long, for the block's length."""

    def note(task: str, took_s: float) -> None:
        publish(LoopHeldUp(task=task, took_s=took_s))

    watch = LoopWatch(note)
    trio.lowlevel.add_instrument(watch)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(watch)
