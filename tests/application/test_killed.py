"""A run that is killed keeps what it had written, and the next one leaves it alone."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from recorder import JOURNAL_FILE, RunState, check_journal, read_run
from recorder.run import METADATA_FILE

from .benches import supply_and_oven, write_bench
from .commands import WITHIN_S, Running, benchtree, only_run


def rows(database: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Return the samples, oldest first."""
    return database.execute("SELECT * FROM samples ORDER BY rowid").fetchall()


def wait_for_rows(path: Path, count: int) -> list[tuple[object, ...]]:
    """Return what another process sees in the database, once that is enough."""
    deadline = time.monotonic() + WITHIN_S
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        while len(seen := rows(database)) < count:
            assert time.monotonic() < deadline, f"only {len(seen)} rows"
            time.sleep(0.001)
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but the journal and what says where it ends."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith((JOURNAL_FILE, METADATA_FILE))
    }


@pytest.mark.parametrize("count", [1, 500, 901])
def test_acknowledged_rows_survive_a_kill(tmp_path: Path, count: int) -> None:
    """At 100 Hz over TCP: each row that was committed is there after SIGKILL, the file sound.

    The next run makes a folder of its own and changes no byte of the old one but the end of
    its journal, and the note of where that is.
    """
    runs = tmp_path / "runs"
    with supply_and_oven() as devices:
        bench = write_bench(tmp_path, devices.addresses, rate_hz=100)
        with Running("run", bench, "--runs", runs, cwd=tmp_path) as running:
            running.wait_for("recording")
            killed = only_run(runs)
            seen = wait_for_rows(killed / "samples.sqlite", count)
            running.send(signal.SIGKILL)
            assert running.end() == -signal.SIGKILL
        before = contents(killed)
        # Opening a database may tidy it: the copy is looked at, not the run.
        copy = shutil.copytree(killed, tmp_path / "copy")
        with closing(sqlite3.connect(copy / "samples.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert rows(database)[: len(seen)] == seen
        assert read_run(killed).state is RunState.KILLED

        again = benchtree("run", bench, "--for", "0.5", "--runs", runs, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        (new,) = [path for path in runs.iterdir() if path != killed]
        assert read_run(new).state is RunState.FINISHED
        assert "closed the journal of a killed run" in again.stderr
        report = check_journal(killed / JOURNAL_FILE)
        assert (report.sound, report.ended, report.open) == (True, True, ())
        assert contents(killed) == before
        kept = read_run(killed).metadata["journal"]
        assert kept == {"batches": report.batches, "seal": report.seal, "closed_by": new.name}
