"""SIGKILL at any instant: the journal holds what it must."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

import pytest

from actors import Cause, CommandState
from recorder import (
    JOURNAL_FILE,
    RunState,
    check_journal,
    find_runs,
    finish_killed_journals,
    read_entries,
)
from transports import BlockingSimProcess, SimSpec

from .killed import TREE
from .valve import executed, voltages

ROOT = Path(__file__).resolve().parents[2]
BUSES = 4

SLOW_S = 0.3
"""How long the disk takes for a batch: a hazard that does not wait for it is sent long before."""


def kill_a_tree(folder: Path, after_s: float, slow_s: float) -> tuple[float, int]:
    """Let a tree give commands, kill it; return how many it gave per second, and when it last said.

    The instant is in monotonic ns.
    """
    models = [
        SimSpec(
            model="tests.journal.valve:WitnessModel",
            arguments={"log": str(folder / f"device{index}.log")},
        )
        for index in range(BUSES)
    ]
    with (
        BlockingSimProcess(models) as devices,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.journal.killed",
                str(folder),
                str(slow_s),
                *devices.addresses,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        before = began_ns = 0
        while not before:
            before, began_ns = map(int, process.stdout.readline().split())
        told, last_ns = before, began_ns
        while last_ns < began_ns + after_s * 1e9:
            told, last_ns = map(int, process.stdout.readline().split())
        process.kill()
    assert process.returncode == -9
    return (told - before) / (last_ns - began_ns) * 1e9, last_ns


def check(folder: Path, after_s: float, slow_s: float = 0.0) -> tuple[float, float]:
    """Kill one tree and look at what it leaves.

    Return how many commands it gave per second, and how far behind its journal was, in seconds.
    """
    rate, last_ns = kill_a_tree(folder, after_s, slow_s)
    (info,) = find_runs(folder)
    assert info.state is RunState.KILLED
    path = info.path / JOURNAL_FILE
    report = check_journal(path)
    assert report.sound, (report.broken, report.troubles)
    assert not report.ended
    assert report.commands > 0

    # The journal was hardly behind, on a machine that has other things to do.
    (newest,) = [row for _, row in read_entries(path, "number = ?", (report.rows,))]
    behind_s = (last_ns - newest.mono_ns) / 1e9
    assert behind_s < 1.0 + 2 * slow_s

    # Nothing hazardous was carried out that is not in the journal.
    queued = [
        voltage
        for _, row in read_entries(path, "command = 'voltage.set' AND state = 'QUEUED'")
        for voltage in voltages(row.request)
    ]
    assert len(queued) == len(set(queued))
    done = set[float]().union(*(executed(folder / f"device{n}.log") for n in range(BUSES)))
    assert len(done) > 5
    assert done <= set(queued)

    # The next start ends what was open, and nothing else.
    (finished,) = finish_killed_journals(folder, tree=TREE, by="a test", utc_ms=1, mono_ns=1)
    assert (finished.error, finished.commands) == (None, len(report.open))
    after = check_journal(path)
    assert (after.sound, after.ended, after.open) == (True, True, ())
    assert after.commands == report.commands + len(report.open)
    ends = [row for _, row in read_entries(path, "cause = 'crashed'")]
    assert {row.seq for row in ends} == {row.seq for row in report.open}
    for row in ends:
        assert (row.state, row.cause) == (CommandState.FAILED, Cause.CRASHED)
        assert row.may_have_executed
    assert finish_killed_journals(folder, tree=TREE, by="a test", utc_ms=1, mono_ns=1) == []
    return rate, behind_s


def test_sigkill(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Killed amid commands: the chain holds, and every hazard that was sent has its row.

    The disk is slow: one that had not waited for its row would be sent long before.
    """
    rate, behind_s = check(tmp_path, 1.5, SLOW_S)
    record_property("journal", f"killed at {rate:.0f} commands/s, {behind_s * 1e3:.0f} ms behind")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_sigkills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Forty trees killed at random instants, amid a thousand commands a second and more."""
    rates: list[float] = []
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rates.append(check(folder, Random(f"kill {seed}").uniform(0.2, 3.0))[0])
    record_property("journal", f"killed at {min(rates):.0f} to {max(rates):.0f} commands/s")
    assert median(rates) > 1000
