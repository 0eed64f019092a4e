"""The commands that look at runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recorder import RecorderError, RunState, find_runs, read_run

from .export import export as write_export
from .plot import plot as draw
from .run import FAILED, OK
from .runs_command import find_run, newest_samples, runs_table

_WHOLE: Final = 200
_PICTURES: Final = (".png", ".svg", ".pdf")

LOOK_S: Final = 0.5
"""How often `tail` looks for new samples, in seconds."""

Format = Literal["parquet", "csv", "jsonl", "arrow"]
RunName = Annotated[str, Parameter(help='A folder, a run\'s name or its end, or "last".')]
Root = Annotated[Path, Parameter(name="--runs", help="The folder of all runs.")]


def register(app: App) -> None:
    """Add the commands to the application."""
    for command in (runs, export, plot, tail):
        app.command(command)


def runs(*, root: Root = Path("runs")) -> int:
    """List the runs: when, how long, how many samples, how many missing, and how they ended."""
    found = find_runs(root)
    if not found:
        sys.stderr.write(f"benchtree: no runs in {root}\n")
        return OK
    console = Console()
    if not console.is_terminal:
        # A table that is cut to the width of a pipe would be of no use to a program.
        console = Console(width=_WHOLE)
    console.print(runs_table(found))
    return OK


def export(
    run: RunName,
    *,
    to: Format,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    recording: str | None = None,
    wide: bool = False,
    root: Root = Path("runs"),
) -> int:
    """Write a run's samples in another format. Nothing is overwritten.

    Args:
        run: The run.
        to: The format.
        output: The file; by default one in the run's folder.
        recording: Which recording; by default the first.
        wide: One row per tick and one column per parameter.
        root: The folder of all runs.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        folder = find_run(run, root)
        with Progress(
            *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
        ) as bar:
            task = bar.add_task(f"reading {folder.name}", total=_expected(folder))
            path, rows = write_export(
                folder,
                to,
                output,
                recording=recording,
                wide=wide,
                progress=lambda more: bar.advance(task, more),
            )
    except RecorderError as error:
        return _complain(error)
    sys.stdout.write(f"{path}: {rows} rows\n")
    return OK


def plot(
    run: RunName,
    *,
    parameter: Annotated[list[str] | None, Parameter(name=["--parameter", "-p"])] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("plot.png"),
    recording: str | None = None,
    root: Root = Path("runs"),
) -> int:
    """Draw a run: a panel per unit, gaps where samples are missing, marks where it restarted.

    Args:
        run: The run.
        parameter: What to draw: `device.name`, or `name` of every device; by default all.
        output: The picture: .png, .svg or .pdf.
        recording: Which recording; by default the first.
        root: The folder of all runs.
    """
    if output.suffix.lower() not in _PICTURES:
        return _complain(f"{output}: a picture ends in {', '.join(_PICTURES)}")
    if not output.parent.is_dir():
        return _complain(f"{output}: there is no folder {output.parent}")
    try:
        draw(find_run(run, root), output, parameters=parameter or (), recording=recording)
    except RecorderError as error:
        return _complain(error)
    sys.stdout.write(f"{output}\n")
    return OK


def tail(
    run: RunName = "last",
    *,
    lines: Annotated[int, Parameter(name=["--lines", "-n"])] = 10,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = True,
    root: Root = Path("runs"),
) -> int:
    """Show the last samples of a run, and those that come, until it ends.

    Args:
        run: The run.
        lines: How many samples to begin with.
        follow: Whether to wait for more while the run goes on.
        root: The folder of all runs.
    """
    try:
        folder = find_run(run, root)
        at: int | None = None
        while True:
            # First whether it goes on: what is written meanwhile is then not missed.
            goes_on = follow and read_run(folder).state is RunState.RUNNING
            at, new = newest_samples(folder, at, lines)
            sys.stdout.writelines(f"{line}\n" for line in new)
            sys.stdout.flush()
            if not goes_on:
                return OK
            time.sleep(LOOK_S)
    except RecorderError as error:
        return _complain(error)


def _expected(folder: Path) -> int | None:
    """Return how many samples a finished run has, for the bar."""
    if not folder.is_dir():
        return None
    recordings: Any = read_run(folder).metadata.get("recordings") or {}
    for recording in recordings.values():
        count: int | None = recording.get("samples_emitted")
        return count
    return None


def _complain(error: RecorderError | str) -> int:
    sys.stderr.write(f"benchtree: {error}\n")
    return FAILED
