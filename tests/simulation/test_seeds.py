"""Many seeds of the whole bench: heavy faults, users at work, and not one violation."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from benchtree.exercise import PAUSE_S
from benchtree.faultplan import LEVELS

from .bench import heavy, run_seed

MINUTES_10_S = 600.0
HOUR_S = 3600.0
SEEDS = 200
WITHIN_S = 300.0

UNHURRIED_S = 5.0
"""How long users think in the many short seeds: most of what goes on is the recording."""

SHOWN = 5


@frozen
class Job:
    """One seed to simulate, as it travels to a process."""

    seed: int
    duration_s: float
    pause_s: float


@frozen
class Told:
    """What one seed came to, as it travels back."""

    job: Job
    simulated_s: float
    violations: tuple[str, ...]
    last: tuple[str, ...]
    checked: Counter[str]
    faults: Counter[str]


def tell(job: Job) -> Told:
    """Simulate one seed; every fourth one ends amid work."""
    report = run_seed(job.seed, job.duration_s, abrupt=job.seed % 4 == 3, pause_s=job.pause_s)
    return Told(
        job,
        report.simulated_s,
        tuple(str(each) for each in report.violations),
        tuple(report.last),
        Counter(report.checked),
        Counter(report.faults),
    )


def complain(told: Told, folder: Path) -> str:
    """Return all that is needed to see a violation again; its plan is written to a file."""
    seed, duration_s = told.job.seed, told.job.duration_s
    plan = folder / f"seed-{seed}.toml"
    plan.write_text(heavy(seed, duration_s).to_toml(), encoding="utf-8")
    abrupt, pause_s = seed % 4 == 3, told.job.pause_s
    replay = f"run_seed({seed}, {duration_s}, abrupt={abrupt}, pause_s={pause_s})"
    lines = [
        *told.violations[:SHOWN],
        f"seed {seed}, planned faults in {plan}, the last of its trace:",
        *told.last,
        f"replay it with: {replay}",
    ]
    return "\n".join(lines)


def check_seeds(
    seeds: range,
    duration_s: float,
    note: Callable[[str, object], None],
    folder: Path,
    *,
    pause_s: float = PAUSE_S,
    processes: int | None = None,
) -> float:
    """Simulate seeds on all processors and expect no violation; return how long it took."""
    began_s = time.perf_counter()
    jobs = [Job(seed, duration_s, pause_s) for seed in seeds]
    count = processes or min(len(os.sched_getaffinity(0)), len(jobs))
    told: list[Told] = []
    # Whoever interrupts this one ends the others with it.
    with multiprocessing.get_context("spawn").Pool(
        count, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        for each in pool.imap_unordered(tell, jobs):
            if each.violations:
                pytest.fail(complain(each, folder), pytrace=False)
            told.append(each)
    took_s = time.perf_counter() - began_s
    checked = sum((each.checked for each in told), Counter[str]())
    faults = sum((each.faults for each in told), Counter[str]())
    hours = sum(each.simulated_s for each in told) / 3600
    note("seeds", f"{len(told)} seeds, {hours:.1f} simulated hours in {took_s:.0f} s")
    assert len(told) == len(jobs)
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
def test_two_hundred_seeds(record_property: Callable[[str, object], None], tmp_path: Path) -> None:
    """200 seeds of ten minutes, in under five minutes on two cores."""
    took_s = check_seeds(range(SEEDS), MINUTES_10_S, record_property, tmp_path, pause_s=UNHURRIED_S)
    assert took_s < WITHIN_S


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_two_hundred_hours(record_property: Callable[[str, object], None], tmp_path: Path) -> None:
    """200 seeds of an hour."""
    check_seeds(range(SEEDS), HOUR_S, record_property, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_day(record_property: Callable[[str, object], None], tmp_path: Path) -> None:
    """One seed of 24 hours."""
    check_seeds(range(1), 24 * HOUR_S, record_property, tmp_path)
