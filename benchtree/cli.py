"""The command line."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import trio
from attrs import evolve
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from actors import describe

from .config import Config, check_simulation, load_config
from .demo import DEMO_S, run_demo
from .doctor_command import doctor
from .journal_command import journal
from .logs import EventLog, open_logbook
from .looking import register
from .mistakes import ConfigError
from .ports_command import ports
from .run import FAILED, OK, RunError, RunResult, run_bench
from .sim_command import sim
from .view import branches, show, summary_table, tally

USAGE: Final = 2
"""The exit code for a wrong command line or configuration."""

_EXIT_CODES: Final = """Exit codes:

- 0: all is well
- 1: something failed while it ran; it is named on standard error
- 2: the command line or the configuration is wrong
- 130: ended by Ctrl-C (SIGINT), everything driven safe
- 143: ended by SIGTERM, everything driven safe
"""

app: Final = App(
    name="benchtree",
    help="Run laboratory instruments under supervision.",
    help_epilogue=_EXIT_CODES,
    help_format="markdown",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
register(app)
app.command(sim)
app.command(journal)
app.command(ports)
app.command(doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code; what the console script calls."""
    try:
        result: object = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
        )
    except CycloptsError as error:
        return _complain(f"benchtree: {error}\nSee benchtree --help.", USAGE)
    except ConfigError as error:
        return _complain(str(error), USAGE)
    except RunError as error:
        return _complain(f"benchtree: {error}", FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough; nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except Exception as error:  # noqa: BLE001 - the last resort: one line for people
        return _complain(f"benchtree: {describe(error)}; {_kept(error)}", FAILED)
    return result if isinstance(result, int) else OK


@app.command
def run(
    file: Path,
    *,
    sim: bool = False,
    for_s: Annotated[float | None, Parameter(name="--for")] = None,
    runs: Path = Path("runs"),
    plain: bool = False,
    verbose: bool = False,
    wait: Annotated[bool, Parameter(negative=())] = False,
    priority: int | None = None,
    watch_loop: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run a bench until Ctrl-C, and record.

    Args:
        file: The bench's configuration.
        sim: Put each driver's own device model on its bus instead of the real instrument.
        for_s: End after so many seconds.
        runs: The folder of all runs; each run makes a new folder in it.
        plain: Write log lines instead of a live table, as when the output is no terminal.
        verbose: Log routine events too.
        wait: Wait for ports that other trees have, and say who has them.
        priority: How important this tree is among those of the machine: with --wait, one of a
            lower priority hands its port over, everything on it safe.
        watch_loop: Report each time a task holds all others up for more than 10 ms.
    """
    if for_s is not None and not 0.0 < for_s < float("inf"):
        return _complain(f"benchtree: --for is {for_s:g}; it must be above 0 seconds", USAGE)
    config = load_config(file)
    tree = config.tree
    config = evolve(
        config,
        tree=evolve(
            tree,
            wait=wait or tree.wait,
            priority=tree.priority if priority is None else priority,
        ),
    )
    if sim:
        check_simulation(config)
    console = Console()
    result = trio.run(
        partial(
            _run,
            config,
            console,
            sim=sim,
            for_s=for_s,
            runs=runs,
            plain=plain or not console.is_terminal,
            verbose=verbose,
            watch_loop=watch_loop,
        )
    )
    _report(result, console)
    return result.exit_status


@app.command
def check(file: Path) -> int:
    """Read a configuration and report every mistake in it.

    Args:
        file: The bench's configuration.
    """
    spec = load_config(file).tree
    counts = [
        f"{len(each)} {name}"
        for name, each in (
            ("buses", spec.buses),
            ("instruments", spec.instruments),
            ("actors", spec.actors),
            ("recordings", spec.recordings),
        )
    ]
    sys.stdout.write(f"{file}: ok: {', '.join(counts)}\n")
    return OK


@app.command
def tree(file: Path) -> int:
    """Show who supervises what.

    Args:
        file: The bench's configuration.
    """
    Console(soft_wrap=True).print(branches(load_config(file).tree))
    return OK


@app.command
def demo(
    *,
    for_s: Annotated[float, Parameter(name="--for")] = DEMO_S,
    runs: Path = Path("runs"),
    plain: bool = False,
) -> int:
    """Run a simulated bench, unplug one of its instruments midway, and check the outcome.

    Args:
        for_s: How long, in seconds; at least 5.
        runs: The folder of all runs.
        plain: Write log lines instead of a live table, as when the output is no terminal.
    """
    if not 5.0 <= for_s <= 3600.0:
        return _complain(f"benchtree: --for is {for_s:g}; it must be from 5 to 3600", USAGE)
    console = Console()
    lively = console.is_terminal and not plain
    return trio.run(partial(run_demo, console, for_s=for_s, runs_root=runs, lively=lively))


async def _run(
    config: Config,
    console: Console,
    *,
    sim: bool,
    for_s: float | None,
    runs: Path,
    plain: bool,
    verbose: bool,
    watch_loop: bool,
) -> RunResult:
    async with open_logbook(to_stderr=plain, verbose=verbose) as logbook:
        return await run_bench(
            config,
            sim=sim,
            for_s=for_s,
            runs_root=runs,
            observer=EventLog(),
            logbook=logbook,
            watch_loop=watch_loop,
            watch=None if plain else partial(show, console=console, logbook=logbook),
        )


def _report(result: RunResult, console: Console) -> None:
    counts, _ = tally(result.recordings.values())
    if counts:
        console.print(summary_table(counts))
    console.print(f"run: {result.path}", soft_wrap=True, highlight=False, markup=False)
    for problem in result.problems:
        sys.stderr.write(f"benchtree: {problem}\n")


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


def _kept(error: BaseException) -> str:
    """Keep a traceback for whoever mends it, and say where."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="benchtree-", suffix=".log", text=True)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return f"the traceback is in {name}"
    return "the traceback could not be kept"
