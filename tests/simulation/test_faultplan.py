"""Fault plans: seeded, printed, read back, and refused when wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchtree import ConfigError
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


def test_any_name_reads_back() -> None:
    """Names and addresses that TOML has to escape are printed so that they read back."""
    odd = 'a"b\\c \u00e9'
    plan = FaultPlan((PlannedFault(at_s=1.0, kind=FaultKind.LOST, target=odd, unit=odd),))
    assert FaultPlan.from_toml(plan.to_toml()) == plan


def test_endless_rate_is_refused() -> None:
    """A rate that would plan without an end is refused."""
    with pytest.raises(ValueError, match="per_hour"):
        FaultRate(per_hour=float("inf"))


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


PLAIN = "[[fault]]\nat_s = 1.0\n"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (PLAIN, "1: fault[0].kind: is missing"),
        (
            PLAIN + 'kind = "sabotage"',
            "3: fault[0].kind: 'sabotage' is not known; it must be one of late",
        ),
        (
            '[[fault]]\nat_s = -1.0\nkind = "late"',
            "2: fault[0].at_s: is -1.0; it must be >= 0.0",
        ),
        (PLAIN + 'kind = "lost"\ntargt = "line"', "4: fault[0].targt: is not known; did you mean"),
        (PLAIN + 'kind = "lost"\ncount = 0', "4: fault[0].count: is 0; it must be >= 1"),
        ("[[fault]", "1: this is not valid TOML"),
        ('[[faults]]\nkind = "lost"', "1: faults: is not known; did you mean 'fault'?"),
        ('[fault]\nkind = "lost"', "1: fault: each fault is a table of its own, below [[fault]]"),
        ('[[fault]]\nat_s = inf\nkind = "lost"', "2: fault[0].at_s: must be a finite number"),
        (PLAIN + 'kind = "late"\nby_s = "3"', "4: fault[0].by_s: must be a number, not the text"),
        (PLAIN + 'kind = "lost"\ncount = 1.5', "4: fault[0].count: must be a whole number"),
        (
            PLAIN + 'kind = "unplug"\ntarget = "line"',
            "1: fault[0].for_s: unplug needs for_s above 0, how long",
        ),
        (
            PLAIN + 'kind = "hang"\ntarget = "line"',
            "1: fault[0].for_s: hang needs for_s above 0, how long",
        ),
        (
            PLAIN + 'kind = "slow"\ntarget = "line"\nby_s = 1',
            "1: fault[0].for_s: slow needs for_s above 0, how long it lasts",
        ),
        (
            PLAIN + 'kind = "slow"\ntarget = "line"\nfor_s = 1',
            "1: fault[0].by_s: slow needs by_s above 0, the delay, in seconds; it is missing or 0",
        ),
        (
            PLAIN + 'kind = "late"\ntarget = "line"',
            "1: fault[0].by_s: late needs by_s above 0, the delay, in seconds; it is missing or 0",
        ),
        (
            PLAIN + 'kind = "late"\ntarget = "line"\nby_s = -1',
            "5: fault[0].by_s: late needs by_s above 0, the delay, in seconds; it is -1",
        ),
        (PLAIN + 'kind = "clock_step"', "1: fault[0].by_s: clock_step needs by_s, how far"),
        (
            PLAIN + 'kind = "clock_step"\nby_s = 9\ntarget = "line"',
            "5: fault[0].target: clock_step: it names nothing; leave target out, which is 'line'",
        ),
        (
            PLAIN + 'kind = "lost"',
            "1: fault[0].target: lost names a bus as its target; it is missing",
        ),
        (
            PLAIN + 'kind = "disk_full"\nfor_s = 1',
            "1: fault[0].target: disk_full names a recording as its target; it is missing",
        ),
        (
            PLAIN + 'kind = "lost"\ntarget = "lime"',
            "4: fault[0].target: no bus is named 'lime'; did you mean 'line'?",
        ),
        (
            PLAIN + 'kind = "disk_full"\nfor_s = 1\ntarget = "line"',
            "5: fault[0].target: no recording is named 'line'; there are: main",
        ),
        (
            PLAIN + 'kind = "lost"\ntarget = "line"\nunit = "9"',
            "5: fault[0].unit: no unit_id on line is '9'; there are: 1, 2",
        ),
        (
            PLAIN + 'kind = "lost"\ntarget = "supply"\nunit = "1"',
            "5: fault[0].unit: no unit_id on supply is '1'; leave it out",
        ),
        (
            PLAIN + 'kind = "unplug"\ntarget = "line"\nfor_s = 1\nunit = "1"',
            "6: fault[0].unit: unplug: it concerns all units alike; leave unit out, which is '1'",
        ),
        (
            PLAIN + 'kind = "lost"\ntarget = "line"\nfor_s = 1',
            "5: fault[0].for_s: lost: it does not last; leave for_s out, which is 1.0",
        ),
        (
            PLAIN + 'kind = "lost"\ntarget = "line"\nby_s = 1',
            "5: fault[0].by_s: lost: it delays nothing; leave by_s out, which is 1.0",
        ),
        (
            PLAIN + 'kind = "reset"\ntarget = "line"\ncount = 2',
            "5: fault[0].count: reset: it happens once; leave count out, which is 2",
        ),
        (
            PLAIN + 'kind = "cancelled"\ntarget = "line"\nby_s = -1',
            "5: fault[0].by_s: cancelled needs by_s of 0 or more",
        ),
    ],
)
def test_wrong_plan(text: str, wrong: str) -> None:
    """A wrong plan is refused with its line, what is wrong, and what would be right."""
    with pytest.raises(ConfigError) as refused:
        FaultPlan.from_toml(text, file=Path("my.toml"), tree=SPEC)
    first = str(refused.value).splitlines()[0]
    assert first.startswith(f"my.toml:{wrong}")


def test_all_mistakes_at_once() -> None:
    """Each mistake of a plan has its line."""
    text = PLAIN + 'kind = "unplug"\ntarget = "line"\n\n' + PLAIN + 'kind = "reset"\n'
    with pytest.raises(ConfigError) as refused:
        FaultPlan.from_toml(text)
    assert [each.line for each in refused.value.mistakes] == [1, 6]


def test_missing_and_damaged_file(tmp_path: Path) -> None:
    """A plan that cannot be read is named."""
    damaged = tmp_path / "damaged.toml"
    damaged.write_bytes(b'[[fault]]\nkind = "\xff"\n')
    with pytest.raises(ConfigError, match=r"absent.toml: cannot be read: No such file"):
        FaultPlan.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"damaged.toml:2: the byte 0xff is not UTF-8"):
        FaultPlan.load(damaged)
