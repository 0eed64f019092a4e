"""Fault plans: seeded, printed, read back, and refused when wrong."""

from __future__ import annotations

import pytest

from benchtree.faultplan import LEVELS, FaultKind, FaultPlan, FaultRate, PlannedFault

from .bench import SPEC, heavy


def test_same_seed_same_plan() -> None:
    """A plan depends on its seed alone."""
    assert heavy(3, 600.0) == heavy(3, 600.0)
    assert heavy(3, 600.0) != heavy(4, 600.0)


def test_toml_reads_back() -> None:
    """What a plan prints is read back as the same plan."""
    plan = heavy(5, 3600.0)
    assert {each.kind for each in plan.faults} == set(FaultKind)
    assert FaultPlan.from_toml(plan.to_toml()) == plan
    assert FaultPlan.from_toml(FaultPlan().to_toml()) == FaultPlan()


def test_rates_are_kept() -> None:
    """Each target meets each kind as often as its rate says, about."""
    rates = {FaultKind.LOST: FaultRate(per_hour=60, count=(2, 3))}
    plan = FaultPlan.seeded(1, SPEC, duration_s=36_000.0, rates=rates)
    assert len(plan.faults) == pytest.approx(60 * 10 * len(SPEC.buses), rel=0.1)
    assert {each.count for each in plan.faults} == {2, 3}
    assert {each.target for each in plan.faults} == {each.name for each in SPEC.buses}


def test_shared_bus_loses_units() -> None:
    """On a shared line faults of replies concern one unit or all of them."""
    on_line = [each for each in heavy(0, 36_000.0).faults if each.target == "line"]
    units = {each.unit for each in on_line if each.kind is FaultKind.LATE}
    assert units == {"", *(str(unit) for unit in range(1, 9))}
    assert {each.unit for each in on_line if each.kind is FaultKind.UNPLUG} == {""}


def test_no_faults() -> None:
    """The level "none" plans nothing."""
    assert FaultPlan.seeded(0, SPEC, duration_s=1e6, rates=LEVELS["none"]) == FaultPlan()
    assert FaultPlan().ends_s == 0.0


def test_ends_with_the_longest() -> None:
    """A plan is over when its last outage is."""
    plan = FaultPlan(
        (
            PlannedFault(at_s=1.0, kind=FaultKind.UNPLUG, target="supply", for_s=30.0),
            PlannedFault(at_s=9.0, kind=FaultKind.RESET, target="supply"),
        )
    )
    assert plan.ends_s == 31.0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[[fault]]\nat_s = 1.0", "kind"),
        ('[[fault]]\nat_s = 1.0\nkind = "sabotage"', "a kind among late"),
        ('[[fault]]\nat_s = -1.0\nkind = "late"', "fault 1"),
        ('[[fault]]\nat_s = 1.0\nkind = "late"\nwhen = 2', "when"),
        ('[[fault]]\nat_s = 1.0\nkind = "late"\ncount = 0', "fault 1"),
        ("[[fault]", "(?i)expected"),
        ('[[faults]]\nat_s = 1.0\nkind = "late"', "faults: .*fault"),
        ('[fault]\nat_s = 1.0\nkind = "late"', "below"),
        ('[[fault]]\nat_s = inf\nkind = "late"', "'at_s' must be < inf"),
        ('[[fault]]\nat_s = 1.0\nkind = "late"\nby_s = "3"', "'3' is no number @ fault 1.by_s"),
        ('[[fault]]\nat_s = 1.0\nkind = "late"\ncount = 1.5', "1.5 is no whole number"),
    ],
    ids=[
        "no-kind",
        "unknown-kind",
        "before-the-start",
        "unknown-key",
        "no-replies",
        "no-toml",
        "other-table",
        "one-table",
        "never",
        "text",
        "part-of-one",
    ],
)
def test_wrong_plan(text: str, wrong: str) -> None:
    """A wrong plan is refused with what is wrong in which fault."""
    with pytest.raises(ValueError, match=wrong):
        FaultPlan.from_toml(text)
