"""`benchtree sim`: hours of a simulated bench under seeded faults, from the command line."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from attrs import evolve, frozen
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from actors import Identity

from .config import check_simulation, load_config
from .exercise import Exercise
from .faultplan import LEVELS, FaultPlan
from .repeatable import SimulationError
from .run import FAILED, OK
from .seeds import run_seeds
from .simulate import Bench, Report, check_buses, simulate
from .spec import TreeSpec

USAGE: Final = 2

SETTLING_S: Final = 3600.0
"""How long a bench may take to recover after the faults, at most, in simulated seconds."""

_WIDTH: Final = 120

SHOWN: Final = 20
"""How many violations are printed."""


def sim(
    file: Path,
    *,
    hours: float = 1.0,
    seed: int = 0,
    seeds: int = 1,
    jobs: int = 0,
    faults: Literal["none", "light", "heavy"] = "heavy",
    plan: Path | None = None,
    save_plan: Annotated[Path | None, Parameter(name="--save-plan")] = None,
) -> int:
    """Simulate a bench with users at work and faults on every line, and check invariants.

    Args:
        file: The bench's configuration.
        hours: How long, in simulated hours.
        seed: Any whole number; the same one gives the same trace.
        seeds: How many seeds, from that one on; a line is printed for each of several.
        jobs: How many of them at once; 0 for one on each processor.
        faults: How much goes wrong.
        plan: A fault plan to use instead.
        save_plan: Write the fault plan there, for `--plan`.
    """
    if not (0.0 < hours < math.inf):
        return _refuse(f"--hours is {hours:g}; it must be above 0")
    if seeds < 1:
        return _refuse(f"--seeds is {seeds}; it must be at least 1")
    if jobs < 0:
        return _refuse(f"--jobs is {jobs}; it must be at least 1, or 0 for all processors")
    if seeds > 1 and save_plan is not None:
        return _refuse("--save-plan writes the plan of one seed; leave --seeds out")
    asked = _Asked(file, hours, faults, plan)
    config = load_config(file)
    check_simulation(config)
    try:
        check_buses(config.tree)
    except SimulationError as error:
        return _refuse(str(error))
    planned = asked.planned(seed, config.tree)
    if save_plan is not None:
        try:
            save_plan.write_text(planned.to_toml(), encoding="utf-8")
        except OSError as error:
            return _refuse(f"--save-plan: {error}")
    try:
        if seeds > 1:
            return _run_many(asked, range(seed, seed + seeds), jobs or None)
        report = asked.run(seed)
    except SimulationError as error:
        sys.stderr.write(f"benchtree: {error}\n")
        return FAILED
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_table(report))
    if report.violations:
        _complain(report, asked)
        return FAILED
    return OK


@frozen
class _Asked:
    """What a command line asks for; it travels to other processes."""

    file: Path
    hours: float
    faults: str
    plan: Path | None

    def planned(self, seed: int, tree: TreeSpec) -> FaultPlan:
        """Return what goes wrong."""
        if self.plan is not None:
            return FaultPlan.load(self.plan, tree)
        rates = LEVELS[self.faults]
        return FaultPlan.seeded(seed, tree, duration_s=self.hours * 3600.0, rates=rates)

    def run(self, seed: int) -> Report:
        """Simulate one seed."""
        tree = _with_models(load_config(self.file).tree)
        planned = self.planned(seed, tree)
        duration_s = self.hours * 3600.0

        async def main(bench: Bench) -> None:
            await Exercise(bench, duration_s).run()

        limit_s = max(duration_s, planned.ends_s) + SETTLING_S
        return simulate(seed, main, bench=tree, faults=planned, limit_s=limit_s)

    def replay(self, seed: int) -> str:
        """Return the command that simulates one seed again."""
        what = (
            f"--faults {self.faults}"
            if self.plan is None
            else f"--plan {shlex.quote(str(self.plan))}"
        )
        where = shlex.quote(str(self.file))
        return f"benchtree sim {where} --hours {self.hours} --seed {seed} {what}"


def _with_models(tree: TreeSpec) -> TreeSpec:
    """Return a tree that takes models for its instruments, whose serial numbers they lack."""
    return evolve(
        tree, instruments=[evolve(each, identity=Identity()) for each in tree.instruments]
    )


def _run_many(asked: _Asked, seeds: Sequence[int], jobs: int | None) -> int:
    """Simulate several seeds, and print one line for each."""
    began_s = time.perf_counter()
    simulated_s, bad = 0.0, 0
    for report in run_seeds(asked.run, seeds, jobs=jobs):
        simulated_s += report.simulated_s
        bad += bool(report.violations)
        sys.stdout.write(
            f"seed {report.seed}: {report.trace_hash}, {report.accepted} commands, "
            f"{sum(report.faults.values())} faults, {len(report.violations)} violations\n"
        )
        sys.stdout.flush()
        if report.violations:
            _complain(report, asked)
    took_s = time.perf_counter() - began_s
    sys.stdout.write(
        f"{len(seeds)} seeds, {simulated_s / 3600:.1f} simulated hours in {took_s:.0f} s, "
        f"{bad} with violations\n"
    )
    return FAILED if bad else OK


def _refuse(text: str) -> int:
    sys.stderr.write(f"benchtree: {text}\n")
    return USAGE


def _table(report: Report) -> Table:
    table = Table(title=f"seed {report.seed}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    samples = report.samples
    for name, value in (
        ("trace hash", report.trace_hash),
        ("simulated", f"{report.simulated_s / 3600:.2f} hours in {report.real_s:.1f} s"),
        ("speed", f"{report.hours_per_s:.3f} simulated hours per second"),
        ("faults", _counts(report.faults)),
        ("restarts", str(report.restarts)),
        ("breaker openings", str(report.openings)),
        (
            "samples",
            f"{samples.expected} expected = {samples.read} read + {samples.missing} missing",
        ),
        ("commands", f"{report.accepted} accepted: {_counts(report.outcomes)}"),
        ("refused", _counts(report.refused)),
        ("invariants", _counts(report.checked)),
        ("violations", str(len(report.violations))),
    ):
        table.add_row(name, value)
    return table


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def _complain(report: Report, asked: _Asked) -> None:
    shown: Sequence[object] = report.violations[:SHOWN]
    lines = [f"violated: {each}" for each in shown]
    if len(report.violations) > SHOWN:
        lines.append(f"and {len(report.violations) - SHOWN} more")
    lines += [f"seed {report.seed}, the last of its trace:", *report.last]
    lines.append(f"replay it with: {asked.replay(report.seed)}")
    sys.stderr.write("".join(f"benchtree: {line}\n" for line in lines))
