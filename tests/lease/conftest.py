"""What the tests of leases share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the owner files of a test to itself, those of its child processes included."""
    chosen = tmp_path / "owners"
    monkeypatch.setenv("BENCHTREE_OWNER_DIR", str(chosen))
    return chosen
