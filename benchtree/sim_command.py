"""`benchtree sim`: hours of a simulated bench under seeded faults, from the command line."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from .config import check_simulation, load_config
from .exercise import Exercise
from .faultplan import LEVELS, FaultPlan
from .repeatable import SimulationError
from .run import FAILED, OK
from .simulate import Bench, Report, simulate

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
    faults: Literal["none", "light", "heavy"] = "heavy",
    plan: Path | None = None,
    save_plan: Annotated[Path | None, Parameter(name="--save-plan")] = None,
) -> int:
    """Simulate a bench with users at work and faults on every line, and check invariants.

    Args:
        file: The bench's configuration.
        hours: How long, in simulated hours.
        seed: Any whole number; the same one gives the same trace.
        faults: How much goes wrong.
        plan: A fault plan to use instead.
        save_plan: Write the fault plan there, for `--plan`.
    """
    if not (0.0 < hours < math.inf):
        sys.stderr.write(f"benchtree: --hours is {hours:g}; it must be above 0\n")
        return USAGE
    config = load_config(file)
    check_simulation(config)
    duration_s = hours * 3600.0
    faults_planned = (
        FaultPlan.seeded(seed, config.tree, duration_s=duration_s, rates=LEVELS[faults])
        if plan is None
        else FaultPlan.load(plan, config.tree)
    )
    if save_plan is not None:
        try:
            save_plan.write_text(faults_planned.to_toml(), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"benchtree: --save-plan: {error}\n")
            return USAGE

    async def main(bench: Bench) -> None:
        await Exercise(bench, duration_s).run()

    limit_s = max(duration_s, faults_planned.ends_s) + SETTLING_S
    try:
        report = simulate(seed, main, bench=config.tree, faults=faults_planned, limit_s=limit_s)
    except SimulationError as error:
        sys.stderr.write(f"benchtree: {error}\n")
        return FAILED
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_table(report))
    if report.violations:
        _complain(report, file, hours, faults, plan)
        return FAILED
    return OK


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


def _complain(report: Report, file: Path, hours: float, faults: str, plan: Path | None) -> None:
    shown: Sequence[object] = report.violations[:SHOWN]
    lines = [f"violated: {each}" for each in shown]
    if len(report.violations) > SHOWN:
        lines.append(f"and {len(report.violations) - SHOWN} more")
    lines += ["the last of the trace:", *report.last]
    what = f"--faults {faults}" if plan is None else f"--plan {shlex.quote(str(plan))}"
    where = shlex.quote(str(file))
    lines.append(
        f"replay it with: benchtree sim {where} --hours {hours} --seed {report.seed} {what}"
    )
    sys.stderr.write("".join(f"benchtree: {line}\n" for line in lines))
