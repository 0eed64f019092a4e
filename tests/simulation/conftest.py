"""What the simulation tests tell at the end: seeds, hours, and how planted bugs were caught."""

from __future__ import annotations

import pytest

CAUGHT = "caught"
SEEDS = "seeds"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write what passing tests have noted."""
    noted = [
        each
        for report in terminalreporter.stats.get("passed", [])
        for each in getattr(report, "user_properties", [])
    ]
    for name, title in ((CAUGHT, "planted bugs"), (SEEDS, "simulated seeds")):
        rows = [str(text) for noted_name, text in noted if noted_name == name]
        if rows:
            terminalreporter.section(title)
        for row in rows:
            terminalreporter.write_line(row)
