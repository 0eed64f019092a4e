"""Restart decisions and the restart budget, which are pure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Intensity, Restart, Strategy
from actors.restart import Child, Decision, RestartBudget, decide

NAMES = ("a", "b", "c", "d")
GROUPS: dict[Strategy, Callable[[int], set[int]]] = {
    Strategy.ONE_FOR_ONE: lambda index: {index},
    Strategy.ONE_FOR_ALL: lambda _: set(range(len(NAMES))),
    Strategy.REST_FOR_ONE: lambda index: set(range(index, len(NAMES))),
}


def siblings(ended: int, restart: Restart, others: Restart = Restart.PERMANENT) -> list[Child]:
    """Return children that run, save the one at index `ended`."""
    return [
        Child(name, restart if index == ended else others, index != ended)
        for index, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize(
    ("strategy", "restart", "others", "failed", "ended"),
    [*product(Strategy, Restart, Restart, [True, False], range(len(NAMES)))],
)
def test_every_end_is_decided_by_class_strategy_and_failure(
    strategy: Strategy, restart: Restart, others: Restart, failed: bool, ended: int
) -> None:
    """The class says whether, the strategy whom; temporary siblings are dropped."""
    decision = decide(strategy, siblings(ended, restart, others), NAMES[ended], failed=failed)
    if restart is Restart.TEMPORARY:
        assert decision == Decision(drop=(NAMES[ended],))
    elif restart is Restart.TRANSIENT and not failed:
        assert decision == Decision()
    else:
        group = GROUPS[strategy](ended)
        stopped = [NAMES[index] for index in sorted(group - {ended}, reverse=True)]
        kept = group if others is not Restart.TEMPORARY else {ended}
        assert decision == Decision(
            restarts=True,
            stop=tuple(stopped),
            drop=tuple(NAMES[index] for index in sorted(group - kept)),
            start=tuple(NAMES[index] for index in sorted(kept)),
        )


@given(
    strategy=st.sampled_from(Strategy),
    children=st.lists(st.tuples(st.sampled_from(Restart), st.booleans()), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_decision_stops_in_reverse_and_starts_in_order(
    strategy: Strategy, children: list[tuple[Restart, bool]], data: st.DataObject
) -> None:
    """Only running children stop, in reverse; nothing is both dropped and started."""
    ended = data.draw(st.integers(0, len(children) - 1))
    family = [
        Child(str(index), restart, running and index != ended)
        for index, (restart, running) in enumerate(children)
    ]
    order = [child.name for child in family]
    decision = decide(strategy, family, str(ended), failed=data.draw(st.booleans()))
    assert list(decision.stop) == sorted(decision.stop, key=order.index, reverse=True)
    assert list(decision.start) == sorted(decision.start, key=order.index)
    assert not set(decision.start) & set(decision.drop)
    for child in family:
        if child.name in decision.stop:
            assert child.running
            assert child.name in decision.start + decision.drop
        if child.name in decision.start:
            assert child.restart is not Restart.TEMPORARY
            assert child.running == (child.name in decision.stop)


def test_the_budget_bears_exactly_max_restarts_within_the_window() -> None:
    """The restarts allowed are borne; one more within the window is refused."""
    budget = RestartBudget(Intensity(max_restarts=3, window_s=5.0))
    assert [budget.spend(at_s) for at_s in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]


def test_a_budget_of_none_refuses_the_first_restart() -> None:
    """An intensity of zero bears no restart at all."""
    assert not RestartBudget(Intensity(max_restarts=0)).spend(0.0)


@pytest.mark.parametrize(("at_s", "borne"), [(5.0, False), (5.001, True)])
def test_the_window_includes_its_edge(at_s: float, borne: bool) -> None:
    """A restart exactly one window ago still counts; an older one is forgotten."""
    budget = RestartBudget(Intensity(max_restarts=1, window_s=5.0))
    assert budget.spend(0.0)
    assert budget.spend(at_s) is borne


def test_the_window_slides() -> None:
    """Old restarts leave one by one, so a steady rate below the limit is borne for ever."""
    budget = RestartBudget(Intensity(max_restarts=2, window_s=5.0))
    assert all(budget.spend(3.0 * count) for count in range(1000))


@given(
    steps=st.lists(st.integers(0, 4), max_size=30),
    most=st.integers(0, 4),
    window=st.integers(1, 8),
)
def test_the_budget_counts_like_its_definition(steps: list[int], most: int, window: int) -> None:
    """A restart is borne exactly while no more than the most lie within the last window."""
    budget = RestartBudget(Intensity(max_restarts=most, window_s=float(window)))
    seen: list[int] = []
    now = 0
    for step in steps:
        now += step
        seen.append(now)
        recent = sum(at >= now - window for at in seen)
        assert budget.spend(float(now)) is (recent <= most)


@pytest.mark.parametrize(("most", "window_s"), [(-1, 5.0), (3, 0.0)])
def test_an_impossible_intensity_is_refused(most: int, window_s: float) -> None:
    """A negative number of restarts and an empty window are errors of the caller."""
    with pytest.raises(ValueError, match="must be"):
        Intensity(max_restarts=most, window_s=window_s)
