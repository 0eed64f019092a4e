"""What every test run shares: it says which tests it left out, and why."""

from collections import Counter
from collections.abc import Sequence

import pytest

REASONS = {
    "heavy": "need an extra or a Debian package; `make test-all` runs them",
    "soak": "run for many minutes; `make soak` runs them",
    "hardware": "need a real instrument; select them with `pytest -m hardware`",
}


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


def pytest_configure(config: pytest.Config) -> None:
    """Count the deselected tests of this run."""
    config.pluginmanager.register(LeftOut(), "left-out")
