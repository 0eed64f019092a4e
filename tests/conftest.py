"""What every test run shares: it says which tests it left out, and why."""

import inspect
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappush, heappushpop
from typing import Any

import pytest
import trio

from benchtree.loop_watch import LONGEST_S, LoopWatch

REASONS = {
    "heavy": "need an extra or a Debian package; `make test-all` runs them",
    "soak": "run for many minutes; `make soak` runs them",
    "hardware": "need a real instrument; select them with `pytest -m hardware`",
    "peer": "need Python 3.13 and another library; select them with `pytest -m peer`",
}


SHOWN = 3
"""How many of the slowest steps of the event loop a report names."""


class LeftOut:
    """Counts deselected tests by the marker that explains them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count the tests that the run's selection drops."""
        for item in items:
            for marker in REASONS:
                if item.get_closest_marker(marker) is not None:
                    self._counts[marker] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was left out, just above the closing line."""
        for marker, reason in REASONS.items():
            if count := self._counts[marker]:
                terminalreporter.write_line(f"left out: {count} marked {marker}: {reason}")


class LoopHealth:
    """Watches the event loop of every test; what is slow is reported, and fails nothing."""

    def __init__(self) -> None:
        # Only the slowest: a long test counts how much memory is held, and would count these.
        self._slowest: list[tuple[float, str, str]] = []
        self._count = 0

    def run(
        self,
        test: str,
        function: Callable[..., Any],
        instruments: Iterable[trio.abc.Instrument] = (),
        **more: Any,
    ) -> object:
        """Run a test as `trio.run` does, watched."""

        def note(task: str, took_s: float) -> None:
            self._count += 1
            if len(self._slowest) < SHOWN:
                heappush(self._slowest, (took_s, task, test))
            else:
                heappushpop(self._slowest, (took_s, task, test))

        return trio.run(function, instruments=[*instruments, LoopWatch(note)], **more)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Have each async test run under watch."""
        for item in items:
            if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
                run = partial(self.run, item.nodeid)
                item.add_marker(pytest.mark.trio(run=run), append=False)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the tasks that held the event loop up for longest."""
        for took_s, task, test in sorted(self._slowest, reverse=True):
            terminalreporter.write_line(f"event loop held up for {took_s:.3f} s: {task} ({test})")
        if self._count > SHOWN:
            rest = self._count - SHOWN
            terminalreporter.write_line(f"and {rest} times more for over {LONGEST_S:g} s")


def pytest_configure(config: pytest.Config) -> None:
    """Count the deselected tests of this run, and keep its ports from other runs' owners."""
    # The system gives the names of closed pseudo-terminals to others, other runs among them.
    owners = tempfile.TemporaryDirectory(prefix="owners-")
    config.add_cleanup(owners.cleanup)
    os.environ["BENCHTREE_OWNER_DIR"] = owners.name
    config.pluginmanager.register(LeftOut(), "left-out")
    config.pluginmanager.register(LoopHealth(), "loop-health")
