"""How much faster than real time a bench is simulated, with every invariant checked."""

from __future__ import annotations

from collections.abc import Iterable

from tests.simulation.bench import run_seed

from .report import Measurement, median_of


def run(*, quick: bool) -> Iterable[Measurement]:
    """Simulate twelve instruments on five buses under heavy faults, recorded at 1 Hz."""
    seeds, simulated_s = (1, 30.0) if quick else (7, 600.0)
    reports = [run_seed(seed, simulated_s) for seed in range(seeds)]
    violations = sum(len(report.violations) for report in reports)
    yield Measurement(
        name="simulated time per real time",
        value=median_of(report.hours_per_s for report in reports) * 3600,
        unit="s/s",
        n=seeds,
    )
    yield Measurement(
        name="simulated hours per second",
        value=median_of(report.hours_per_s for report in reports),
        unit="h/s",
        n=seeds,
    )
    yield Measurement(name="simulation, violations", value=violations, unit="", budget=0, n=seeds)
