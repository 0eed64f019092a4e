"""Faults planted into the real code: the invariants are strong enough if each is caught."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .bench import run_board, run_harsh
from .conftest import CAUGHT
from .planted import BUGS, Bug

SEEDS = 200

TOGETHER = 120
"""How many seeds all planted bugs may take: within two minutes, at a second for each."""

# How many seeds each planted bug took to be caught.
took: dict[str, int] = {}


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
            took[bug.name] = seed + 1
            seeds = f"{seed + 1} seed" + ("s" if seed else "")
            took_s = time.perf_counter() - began_s
            record_property(
                CAUGHT, f"{bug.name:34} {seeds:9} {took_s:5.1f} s  {caught[0].invariant}"
            )
            return
    pytest.fail(f"{bug.name}: not caught in {SEEDS} seeds")


def test_all_within_two_minutes() -> None:
    """All planted bugs together take so few seeds that two minutes are enough.

    Counted, for a machine under load takes as long as it likes.
    """
    assert sum(took.values()) <= TOGETHER


@pytest.mark.parametrize("seed", range(8))
def test_healthy_code_passes(seed: int) -> None:
    """The seeds that catch planted bugs find nothing in the code as it is."""
    assert run_harsh(seed).violations == ()


@pytest.mark.parametrize("seed", range(12))
def test_healthy_board_passes(seed: int) -> None:
    """A bus whose instruments are asked at once keeps the invariants, too."""
    assert run_board(seed).violations == ()
