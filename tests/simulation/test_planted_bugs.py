"""Faults planted into the real code: the invariants are strong enough if each is caught."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .bench import run_board, run_harsh
from .conftest import CAUGHT
from .planted import BUGS, Bug

SEEDS = 200

WITHIN_S = 120.0

# How long each planted bug took to be caught, in seconds.
took_s: dict[str, float] = {}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_planted_bug_is_caught(
    bug: Bug, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Each planted bug violates an invariant that is about it, within 200 seeds."""
    bug.plant(monkeypatch)
    began_s = time.perf_counter()
    for seed in range(SEEDS):
        caught = [each for each in bug.run(seed).violations if each.invariant in bug.caught_by]
        if caught:
            seeds = f"{seed + 1} seed" + ("s" if seed else "")
            took = took_s[bug.name] = time.perf_counter() - began_s
            record_property(CAUGHT, f"{bug.name:34} {seeds:9} {took:5.1f} s  {caught[0].invariant}")
            return
    pytest.fail(f"{bug.name}: not caught in {SEEDS} seeds")


def test_all_within_two_minutes() -> None:
    """All planted bugs together are caught within two minutes."""
    assert sum(took_s.values()) < WITHIN_S


@pytest.mark.parametrize("seed", range(8))
def test_healthy_code_passes(seed: int) -> None:
    """The seeds that catch planted bugs find nothing in the code as it is."""
    assert run_harsh(seed).violations == ()


@pytest.mark.parametrize("seed", range(12))
def test_healthy_board_passes(seed: int) -> None:
    """A bus whose instruments are asked at once keeps the invariants, too."""
    assert run_board(seed).violations == ()
