"""Runs that depend on their seed alone: no chance, no threads, no processes, no waiting.

Trio has no public interface for that. It shuffles the order of runnable tasks with a random
generator of its own, which two private names of `trio._core._run` make repeatable (as of
Trio 0.35), it keeps idle threads for later in a cache, and only its runner knows whether a
task is to be run, and that somebody waits until none is. A test fails loudly should these
change.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partialmethod
from heapq import heappop, heappush
from importlib import import_module
from typing import Any, Final, NoReturn

import trio


class SimulationError(Exception):
    """The simulation cannot be run as asked, or does what would spoil it."""


class JumpingClock(trio.abc.Clock):
    """Virtual time that jumps to the next deadline as soon as nothing else is to be done.

    What Trio's own virtual clock does, in half the time: it needs no pass of the event loop
    to find out that all tasks wait, and no look at the real clock. And who only waits for
    time needs no cancel scope.

    Attributes:
        now_s: The virtual time, in seconds.
        now_ns: The same in whole nanoseconds: for stamps only.
    """

    def __init__(self) -> None:
        """Start at 0 s."""
        self.now_s = 0.0
        self.now_ns = 0
        # What is called when, in order.
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._context: Any = vars(import_module("trio._core._run"))["GLOBAL_RUN_CONTEXT"]

    def __repr__(self) -> str:
        """Return the time."""
        return f"<JumpingClock {self.now_s:.6f} s>"

    def start_clock(self) -> None:
        """Do nothing: time starts with the clock."""

    def current_time(self) -> float:
        """Return the virtual time, in seconds."""
        return self.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to `deadline` or to what comes before; wait for no real time.

        Somebody may wait until all others do: that is to be told before time moves.
        """
        runner = self._context.runner
        if runner.waiting_for_idle:
            return math.inf
        alarms = self._alarms
        while True:
            next_s = deadline
            if alarms and alarms[0][0] < deadline:
                next_s = alarms[0][0]
            if next_s == math.inf:
                return math.inf
            if next_s > self.now_s:
                self._move_to(next_s)
            while alarms and alarms[0][0] <= self.now_s:
                heappop(alarms)[2]()
            # What wakes nobody any more is worth no pass of the event loop.
            if runner.runq or next_s == deadline:
                return 0.0

    def call_at(self, when_s: float, wake: Callable[[], object]) -> None:
        """Call `wake`, which may wake tasks and no more, when it is `when_s`."""
        heappush(self._alarms, (when_s, next(self._numbers), wake))

    def jump(self, seconds: float) -> None:
        """Move time forwards by hand, as Trio's own virtual clock lets tests do."""
        if seconds < 0.0:
            raise ValueError(f"time cannot go back by {-seconds:g} s")
        self._move_to(self.now_s + seconds)

    def _move_to(self, now_s: float) -> None:
        self.now_s = now_s
        self.now_ns = round(now_s * 1e9)


_PROCESSES: Final = frozenset({
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
})  # fmt: skip

# The thread that is simulating now, or 0.
_simulating = 0
_watching = False


@contextmanager
def repeatable(seed: int) -> Generator[None]:
    """Make Trio's scheduling depend on `seed` alone, for the length of the block.

    Starting a thread or a process within it raises SimulationError where it is tried: under
    virtual time nobody would wait for it.
    """
    global _simulating  # noqa: PLW0603 - an audit hook has no other way to know
    if _simulating:
        raise SimulationError("a simulation cannot run inside another one")
    _watch_processes()
    scheduler = vars(import_module("trio._core._run"))
    threads = vars(import_module("trio._core._thread_cache"))
    generator: random.Random = scheduler["_r"]
    before = scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"], generator.getstate()
    cache = threads["THREAD_CACHE"]
    start = threading.Thread.start
    scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    generator.seed(seed)
    threads["THREAD_CACHE"] = _NoThreads()
    type.__setattr__(threading.Thread, "start", partialmethod(_start, start))
    _simulating = threading.get_ident()
    try:
        yield
    finally:
        _simulating = 0
        type.__setattr__(threading.Thread, "start", start)
        threads["THREAD_CACHE"] = cache
        scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = before[0]
        generator.setstate(before[1])


class _NoThreads:
    """Stands for Trio's cache of threads, where idle ones would wait to be used."""

    def start_thread_soon(self, *_: object) -> NoReturn:
        """Refuse."""
        raise _refusal("using a thread")


def _start(thread: threading.Thread, start: Callable[[threading.Thread], None]) -> None:
    # Other threads of the program may start some of theirs meanwhile.
    if threading.get_ident() == _simulating:
        raise _refusal("starting a thread")
    start(thread)


def _watch_processes() -> None:
    """See every process that is started from now on."""
    global _watching  # noqa: PLW0603 - an audit hook cannot be taken back
    if not _watching:
        _watching = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: object) -> None:
    del arguments
    if event in _PROCESSES and _simulating and threading.get_ident() == _simulating:
        raise _refusal(f"starting a process ({event})")


def _refusal(what: str) -> SimulationError:
    return SimulationError(
        f"{what} inside a simulation: no thread or process keeps virtual time; "
        "pass blocking calls through the clock's run_sync"
    )
