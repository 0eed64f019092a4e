"""Many seeds of the whole bench: heavy faults, users at work, and not one violation."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable

import pytest
from attrs import frozen

from benchtree.faultplan import LEVELS

from .bench import run_seed

PROCESSES = 2
MINUTES_10_S = 600.0
HOUR_S = 3600.0
SEEDS = 200
WITHIN_S = 300.0


@frozen
class Told:
    """What one seed came to, as it travels between processes."""

    seed: int
    simulated_s: float
    violations: tuple[str, ...]
    checked: Counter[str]
    faults: Counter[str]


def tell(job: tuple[int, float]) -> Told:
    """Simulate one seed; every fourth one ends amid work."""
    seed, duration_s = job
    report = run_seed(seed, duration_s, abrupt=seed % 4 == 3)
    return Told(
        seed,
        report.simulated_s,
        tuple(str(each) for each in report.violations[:5]),
        Counter(report.checked),
        Counter(report.faults),
    )


def check_seeds(
    seeds: int, duration_s: float, note: Callable[[str, object], None], processes: int = PROCESSES
) -> float:
    """Simulate that many seeds and expect no violation; return how long it took."""
    began_s = time.perf_counter()
    jobs = [(seed, duration_s) for seed in range(seeds)]
    if processes == 1:
        told = [tell(job) for job in jobs]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            told = pool.map(tell, jobs, chunksize=1)
    took_s = time.perf_counter() - began_s
    checked = sum((each.checked for each in told), Counter[str]())
    faults = sum((each.faults for each in told), Counter[str]())
    hours = sum(each.simulated_s for each in told) / 3600
    note("seeds", f"{seeds} seeds, {hours:.1f} simulated hours in {took_s:.0f} s")
    assert {each.seed: each.violations for each in told if each.violations} == {}
    assert len(faults) == len(LEVELS["heavy"])
    assert all(count > 0 for count in checked.values())
    assert len(checked) >= 25
    return took_s


def test_ten_seeds(record_property: Callable[[str, object], None]) -> None:
    """Ten seeds of two minutes, in this process."""
    began_s = time.perf_counter()
    for seed in range(10):
        report = run_seed(seed, 120.0, abrupt=seed % 4 == 3)
        assert report.violations == ()
    record_property("seeds", f"10 seeds in {time.perf_counter() - began_s:.0f} s")


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_two_hundred_seeds(record_property: Callable[[str, object], None]) -> None:
    """200 seeds of ten minutes, in under five minutes on two cores."""
    assert check_seeds(SEEDS, MINUTES_10_S, record_property) < WITHIN_S


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_two_hundred_hours(record_property: Callable[[str, object], None]) -> None:
    """200 seeds of an hour."""
    check_seeds(SEEDS, HOUR_S, record_property)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_day() -> None:
    """One seed of 24 hours."""
    assert run_seed(0, 24 * HOUR_S).violations == ()
