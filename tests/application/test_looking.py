"""The commands that look at runs: runs, tail, export, plot."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from benchtree.cli import main
from benchtree.config import load_config
from benchtree.plot import plot
from benchtree.run import run_bench
from benchtree.run_events import read_events
from benchtree.runs_command import find_run, restarts
from benchtree.tree import Tree
from recorder import NoSamplesError, create_run, load

COMMAND = "from benchtree.cli import main; raise SystemExit(main())"
BENCH = """
[tree]
name = "cell-3"

[bus.supply]
address = "tcp://192.0.2.17:5025"
breaker = { failures = 3, open_s = 0.5, max_open_s = 1.0 }

[bus.meter]
address = "tcp://192.0.2.18:5025"
breaker = { failures = 3, open_s = 0.5, max_open_s = 1.0 }

[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"

[instrument.dmm]
bus = "meter"
driver = "scpi.multimeter"
breaker = { open_s = 0.5, max_open_s = 1.0 }

[recording.main]
rate_hz = 10
parameters = ["psu.voltage", "dmm.voltage"]
sinks = ["sqlite", "jsonl"]
names = ["psu", "dmm"]
on_error = "record"
batch_size = 10
flush_s = 0.2
power_safe = true
"""


def make_run(folder: Path) -> Path:
    """Run a simulated bench for 20 s of virtual time, one bus unplugged from 5 s to 10 s."""
    file = folder / "bench.toml"
    file.write_text(BENCH)

    async def beside(tree: Tree) -> None:
        await trio.sleep(5)
        tree.lines["meter"].unplug()
        await trio.sleep(5)
        tree.lines["meter"].replug()

    async def run() -> Path:
        result = await run_bench(
            load_config(file), sim=True, for_s=20, runs_root=folder / "runs", beside=beside
        )
        assert result.exit_status == 0
        return result.path

    return trio.run(run, clock=MockClock(autojump_threshold=0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return make_run(tmp_path_factory.mktemp("looking"))


def test_runs_lists_what_there_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run has its start, its length, its samples, what is missing, and how it ended."""
    killed = create_run(run.parent, tree_name="killed", started_utc_ns=1_767_300_000_000_000_000)
    killed.close()
    going_on = create_run(run.parent, tree_name="now", started_utc_ns=1_767_400_000_000_000_000)
    try:
        assert main(["runs", "--runs", str(run.parent)]) == 0
    finally:
        going_on.close()
    head, finished, gone, running = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "started", "(UTC)", "duration", "samples", "missing", "status"]
    assert run.name in finished
    assert "2026-01-01 00:00:00" in finished
    assert "00:00:20" in finished
    assert finished.split()[-1] == "ok"
    read, missing = map(int, finished.split()[-3:-1])
    assert read + missing == 400
    assert 40 < missing < 100
    assert gone.split()[-1] == "killed"
    assert running.split()[-1] == "running"


def test_no_runs_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without runs is said to be one."""
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().err


def test_tail_shows_the_last_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines of a finished run, and then the end."""
    assert main(["tail", run.name, "-n", "3", "--runs", str(run.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("voltage" in line and line.endswith(" V") for line in lines)


def test_tail_follows_a_run_that_goes_on(run: Path, tmp_path: Path) -> None:
    """What is written after the first look is shown too, until the run ends."""
    del run
    going_on = create_run(tmp_path, tree_name="now", started_utc_ns=1_767_400_000_000_000_000)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.application.writer", str(going_on.samples_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, "tail", str(going_on.path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as tail:
            assert tail.stdout is not None
            assert "20.5" in tail.stdout.readline()
            writer.stdin.write("\n")
            writer.stdin.flush()
            assert "21.5" in tail.stdout.readline()
            going_on.finish(exit_status=0, finished_utc_ns=1_767_400_001_000_000_000)
            assert tail.stdout.read() == ""
        assert tail.returncode == 0
        writer.stdin.close()


def test_events_of_a_run_are_kept(run: Path) -> None:
    """The folder says when the meter was lost and when it was back."""
    kinds = [event["event"] for event in read_events(run)]
    assert kinds.index("RecordingStarted") < kinds.index("SourceLost")
    assert kinds.index("SourceLost") < kinds.index("SourceReturned") < kinds.index("RecordingEnded")
    assert [(word, who) for _, word, who in restarts(run)][:2] == [("lost", "dmm"), ("back", "dmm")]


def test_run_is_found_by_its_name(run: Path, tmp_path: Path) -> None:
    """A path, a name, the end of one, or "last"; anything else is said to be unknown."""
    root = run.parent
    assert find_run(str(run), root) == run
    assert find_run(run.name, root) == run
    assert find_run(run.name.rpartition("-")[2], root) == run
    assert find_run("cell-3", root) == run
    with pytest.raises(NoSamplesError, match="no run other"):
        find_run("other", root)
    for _ in range(2):
        create_run(tmp_path, tree_name="twin", started_utc_ns=0).close()
    assert find_run("last", tmp_path).parent == tmp_path
    with pytest.raises(NoSamplesError, match="more than one"):
        find_run("twin", tmp_path)


@pytest.mark.parametrize("command", ["export", "plot", "tail"])
def test_unknown_run_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is no run is an error in words, not a traceback."""
    extra = ["--to", "csv"] if command == "export" else []
    assert main([command, "nobody", *extra, "--runs", str(tmp_path)]) == 1
    assert "there is no run nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("plot.xyz", "a picture ends in .png, .svg, .pdf"),
        ("nowhere/plot.png", "there is no folder"),
    ],
)
def test_picture_that_cannot_be_is_one_line(
    output: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A format that is none, or a folder that is not there, is said before anything is read."""
    assert main(["plot", "nobody", "-o", str(tmp_path / output)]) == 1
    assert problem in capsys.readouterr().err


@pytest.mark.heavy
@pytest.mark.parametrize("to", ["parquet", "csv", "jsonl", "arrow"])
def test_export_writes_everything_once(
    to: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every format gets every sample; a file that is there is refused."""
    output = tmp_path / f"out.{to}"
    arguments = ["export", run.name, "--to", to, "-o", str(output), "--runs", str(run.parent)]
    assert main(arguments) == 0
    count = len(load(run))
    assert f"{count} rows" in capsys.readouterr().out
    match to:
        case "parquet" | "arrow":
            assert len(load(output)) == count
        case "csv":
            assert len(output.read_text().splitlines()) == count + 1
        case _:
            assert len(output.read_text().splitlines()) == count
    assert main(arguments) == 1
    assert "not overwritten" in capsys.readouterr().err


@pytest.mark.heavy
def test_export_wide(run: Path, tmp_path: Path) -> None:
    """One row per tick: 200 of them, with empty cells where the meter was away."""
    output = tmp_path / "wide.csv"
    arguments = ["export", run.name, "--to", "csv", "--wide", "-o", str(output)]
    assert main([*arguments, "--runs", str(run.parent)]) == 0
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert len(rows) == 200
    assert all(row["psu.voltage"] for row in rows)
    assert 40 < sum(not row["dmm.voltage"] for row in rows) < 100


@pytest.mark.parametrize(
    "command", [["tail"], pytest.param(["export", "--to", "csv"], marks=pytest.mark.heavy)]
)
def test_damaged_file_is_one_line(
    command: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no database is named, and no traceback is kept."""
    copy = tmp_path / "runs" / run.name
    shutil.copytree(run, copy)
    (copy / "samples.sqlite").write_bytes(b"not a database, whatever it was before")
    assert main([*command, run.name, "--runs", str(copy.parent)]) != 0
    said = capsys.readouterr().err
    assert "samples.sqlite is damaged, or no recording: file is not a database" in said
    assert "traceback" not in said


@pytest.mark.heavy
def test_plot_has_gaps_where_samples_are_missing(run: Path, tmp_path: Path) -> None:
    """The unplugged meter's line has one hole, where it was away; the other's has none."""
    picture = tmp_path / "plot.png"
    drawn = {each.name: each for each in plot(run, picture)}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert drawn["psu.voltage"].gaps == []
    ((begin_s, end_s),) = drawn["dmm.voltage"].gaps
    assert begin_s == pytest.approx(5, abs=0.2)
    assert 10 < end_s < 15
    (only,) = plot(run, tmp_path / "one.svg", parameters=["dmm.voltage"])
    assert only.name == "dmm.voltage"
    with pytest.raises(NoSamplesError, match=r"psu\.voltage"):
        plot(run, tmp_path / "none.png", parameters=["colour"])
    assert main(["plot", str(run), "-p", "voltage", "-o", str(picture)]) == 0
