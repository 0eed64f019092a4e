"""Run folders, and what a killed process leaves behind."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from recorder import RecorderError, Run, RunState, create_run, find_runs, read_run

NEW_YEAR_NS = 1_767_225_600_000_000_000
CONFIG = '[tree]\nname = "cell-3"  # ÅÄÖ\n'


def make_run(root: Path, **words: str) -> Run:
    """Make a run that began on new year's day."""
    return create_run(
        root,
        tree_name=words.pop("tree_name", "cell-3"),
        started_utc_ns=NEW_YEAR_NS,
        config_text=CONFIG,
        config_name="benches/cell-3.toml",
        short_id=words.get("short_id"),
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start_recording(root: Path, samples: int = 0) -> subprocess.Popen[bytes]:
    """Start the recording process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.recorder.killed", str(root), str(samples)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
    )


def test_folder_says_what_was_run(tmp_path: Path) -> None:
    """Name, start, host, versions, and the configuration with its hash are in the folder."""
    with make_run(tmp_path / "runs", short_id="abc123") as run:
        assert run.path == tmp_path / "runs" / "20260101T000000Z-cell-3-abc123"
        assert run.run_id == run.path.name
        assert (run.path / "bench.toml").read_bytes() == CONFIG.encode()
        metadata = json.loads((run.path / "metadata.json").read_text())
        assert metadata == run.metadata
    assert metadata["run"] == run.run_id
    assert metadata["tree"] == "cell-3"
    assert metadata["started_utc"] == "2026-01-01T00:00:00+00:00"
    assert metadata["finished_utc"] is None
    assert metadata["host"]
    assert set(metadata["versions"]) == {"benchtree", "python", "trio"}
    assert metadata["versions"]["trio"] == "0.35.0"
    assert metadata["configuration"] == {
        "name": "benches/cell-3.toml",
        "sha256": hashlib.sha256(CONFIG.encode()).hexdigest(),
    }


def test_script_without_a_file_has_no_configuration(tmp_path: Path) -> None:
    """A tree made by a script leaves no configuration, and says so."""
    with create_run(tmp_path, tree_name="", started_utc_ns=NEW_YEAR_NS) as run:
        assert not (run.path / "bench.toml").exists()
        assert run.metadata["configuration"] == {"name": None, "sha256": None}
        assert "-tree-" in run.run_id


def test_life_of_a_run(tmp_path: Path) -> None:
    """Running, then finished with its exit status, instruments and recordings."""
    run = make_run(tmp_path)
    assert read_run(run.path).state is RunState.RUNNING
    run.set_instruments({"psu": {"model": "E36", "serial": "MY5300"}})
    run.finish(
        exit_status=130,
        finished_utc_ns=NEW_YEAR_NS + 1_500_000_000,
        recordings={"main": {"samples_read": 3}},
    )
    (info,) = find_runs(tmp_path)
    assert info.state is RunState.FINISHED
    assert info.path == run.path
    assert info.metadata["exit_status"] == 130
    assert info.metadata["finished_utc"] == "2026-01-01T00:00:01.500000+00:00"
    assert info.metadata["instruments"] == {"psu": {"model": "E36", "serial": "MY5300"}}
    assert info.metadata["recordings"] == {"main": {"samples_read": 3}}
    with pytest.raises(RecorderError, match="closed"):
        run.update(note="too late")
    run.close()
    assert "closed" in repr(run)


def test_run_that_was_never_finished_counts_as_killed(tmp_path: Path) -> None:
    """Without an exit status and without an owner, a run was killed."""
    make_run(tmp_path).close()
    (info,) = find_runs(tmp_path)
    assert info.state is RunState.KILLED


def test_same_second_same_name_is_another_folder(tmp_path: Path) -> None:
    """Two runs never share a folder; a taken name is refused."""
    runs = [make_run(tmp_path) for _ in range(20)]
    assert len({run.path for run in runs}) == 20
    with pytest.raises(FileExistsError):
        make_run(tmp_path, short_id=runs[0].run_id.rpartition("-")[2])
    for run in runs:
        run.close()


@pytest.mark.parametrize("name", ["a/b", "../up", "C:\\x", "two words", "line\nbreak", "ofen-ö"])
def test_name_of_a_tree_is_no_path(tmp_path: Path, name: str) -> None:
    """Whatever a tree is called, its run is one folder below the root."""
    with make_run(tmp_path, tree_name=name) as run:
        assert run.path.parent == tmp_path
        assert [info.path for info in find_runs(tmp_path)] == [run.path]


def test_metadata_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    """An entry that cannot be written changes neither the file nor the run."""
    with make_run(tmp_path) as run:
        before = contents(run.path)
        with pytest.raises(TypeError):
            run.update(note=object())
        assert contents(run.path) == before
        run.update(note="fine")
        assert read_run(run.path).metadata["note"] == "fine"


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_unreadable_metadata_is_listed_all_the_same(tmp_path: Path, text: str) -> None:
    """A folder that a power cut spoiled is shown as killed, not as an error."""
    with make_run(tmp_path) as run:
        pass
    (run.path / "metadata.json").write_text(text)
    (info,) = find_runs(tmp_path)
    assert info.state is RunState.KILLED
    assert info.metadata == {}


def test_no_runs_yet(tmp_path: Path) -> None:
    """A missing root, and folders of something else, are no runs."""
    assert find_runs(tmp_path / "runs") == []
    (tmp_path / "notes").mkdir()
    assert find_runs(tmp_path) == []


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """Listing the runs leaves every file as it is, and the lock with its owner."""
    with make_run(tmp_path) as run:
        before = contents(run.path)
        for _ in range(3):
            assert read_run(run.path).state is RunState.RUNNING
        assert contents(run.path) == before


@pytest.mark.parametrize("acknowledged", [1, 40, 200, 400])
def test_acknowledged_rows_survive_kill_9(tmp_path: Path, acknowledged: int) -> None:
    """Killed at 100 Hz: every acknowledged row is there, and the next run touches none of it."""
    with start_recording(tmp_path) as process:
        assert process.stdout is not None
        told = 0
        while told < acknowledged:
            told = int(process.stdout.readline())
        assert [info.state for info in find_runs(tmp_path)] == [RunState.RUNNING]
        process.kill()
        for line in process.stdout:
            if line.endswith(b"\n"):
                told = int(line)
    (killed,) = find_runs(tmp_path)
    assert killed.state is RunState.KILLED
    before = contents(killed.path)

    with start_recording(tmp_path, samples=80) as process:
        process.communicate()
    assert process.returncode == 0
    first, second = sorted(find_runs(tmp_path), key=lambda info: info.path != killed.path)
    assert first == killed
    assert contents(killed.path) == before
    assert second.state is RunState.FINISHED

    with closing(sqlite3.connect(killed.path / "samples.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        values = [value for (value,) in connection.execute("SELECT value FROM samples")]
    assert len(values) >= told >= acknowledged
    assert values == list(range(len(values)))
