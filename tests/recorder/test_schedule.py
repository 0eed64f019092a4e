"""The targets of slots, and the memory of durations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import Schedule
from recorder.sketch import DurationSketch

RATES = st.one_of(
    st.floats(min_value=1e-4, max_value=1e5),
    st.sampled_from([0.1, 1 / 3, 3, 7, 10, 100, 1000, 2048]),
)


@pytest.mark.parametrize("rate_hz", [0, -1, float("nan"), float("inf"), 2e9])
def test_rate_must_be_a_positive_number(rate_hz: float) -> None:
    """A rate that schedules nothing is refused."""
    with pytest.raises(ValueError, match="rate_hz"):
        Schedule(rate_hz)


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_duration_must_be_a_positive_number(duration: float) -> None:
    """A duration without slots is refused."""
    with pytest.raises(ValueError, match="duration"):
        Schedule(10).slots_in(duration)


def test_targets_are_exact_after_days() -> None:
    """Thirty days at 0.1, 10 and 100 Hz end on the nanosecond: no error adds up."""
    month_s = 30 * 86_400
    for rate_hz, slots in ((0.1, month_s // 10), (10, month_s * 10), (100, month_s * 100)):
        assert Schedule(rate_hz).target_ns(slots) == month_s * 1_000_000_000


def test_third_of_a_hertz_repeats_without_drift() -> None:
    """Where a period is no whole number of nanoseconds, targets are rounded one by one."""
    schedule = Schedule(3)
    assert schedule.target_ns(1) == 333_333_333
    assert schedule.target_ns(3_000_000) == 1_000_000 * 1_000_000_000


@pytest.mark.parametrize(
    ("duration", "rate_hz", "slots"), [(30, 10, 300), (0.01, 1, 1), (1.26, 10, 13), (5, 0.1, 1)]
)
def test_duration_gives_the_nearest_number_of_slots(
    duration: float, rate_hz: float, slots: int
) -> None:
    """A duration is rounded to whole slots, and to one at least."""
    assert Schedule(rate_hz).slots_in(duration) == slots


@given(RATES, st.integers(min_value=0, max_value=10**10))
def test_a_slot_lasts_from_its_target_to_the_next(rate_hz: float, slot: int) -> None:
    """A target lies in its own slot, the nanosecond before it in the one before."""
    schedule = Schedule(rate_hz)
    target_ns = schedule.target_ns(slot)
    assert schedule.slot_at(target_ns) == slot
    assert schedule.slot_at(target_ns - 1) == slot - 1


@given(st.lists(st.floats(min_value=1e-6, max_value=1e4), min_size=1), st.floats(0, 1))
def test_quantiles_are_known_to_one_percent(durations: list[float], share: float) -> None:
    """Every quantile of the sketch is within 1 % of the true one."""
    sketch = DurationSketch()
    for duration_s in durations:
        sketch.add(duration_s)
    true_s = sorted(durations)[max(0, math.ceil(share * len(durations)) - 1)]
    estimate_s = sketch.quantile_s(share)
    assert estimate_s is not None
    assert estimate_s == pytest.approx(true_s, rel=0.0101)
    assert len(sketch) == len(durations)


def test_empty_sketch_knows_no_quantile() -> None:
    """Before the first duration there is no median."""
    assert DurationSketch().quantile_s(0.5) is None


def test_durations_outside_the_range_count_as_its_bounds() -> None:
    """Nothing is too short or too long to be counted."""
    sketch = DurationSketch()
    sketch.add(0.0)
    sketch.add(1e9)
    low_s, high_s = sketch.quantile_s(0), sketch.quantile_s(1)
    assert low_s is not None
    assert high_s is not None
    assert low_s <= 1e-6
    assert high_s >= 9e4
