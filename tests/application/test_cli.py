"""The command line, in a process of its own: what it says and how it exits."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .benches import SIMULATED
from .commands import benchtree, only_run
from .test_config import BROKEN, GOOD, written

COMMANDS = ("check", "run", "tree")


@pytest.mark.parametrize("command", COMMANDS)
def test_broken_files_exit_with_2(tmp_path: Path, command: str) -> None:
    """Every command that reads a file says all that is wrong with it, and nothing else."""
    text, _ = BROKEN["unknown key"]
    path = written(tmp_path, text.replace("drain_s = 1", "drain_s = -1"))
    done = benchtree(command, path.name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "bench.toml:3: tree.drain_s: is -1; it must be >= 0.0",
        "bench.toml:24: instrument.psu.on_reconect: is not known; did you mean 'on_reconnect'?",
    ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["check"],
        ["check", "missing.toml"],
        ["run", "bench.toml", "--nosuch"],
        ["run", "bench.toml", "--sim", "--for", "soon"],
        ["run", "bench.toml", "--sim", "--for", "-1"],
        ["run", "bench.toml", "--sim", "--for", "nan"],
        ["demo", "--for", "1"],
    ],
    ids=" ".join,
)
def test_wrong_command_lines_exit_with_2(tmp_path: Path, arguments: list[str]) -> None:
    """What cannot be understood is said on standard error, without a traceback."""
    (tmp_path / "bench.toml").write_text(SIMULATED)
    done = benchtree(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_check_accepts_a_good_file(tmp_path: Path) -> None:
    """A file without mistakes is said to be one."""
    (tmp_path / "bench.toml").write_text(SIMULATED)
    done = benchtree("check", "bench.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("bench.toml: ok: 2 buses, 2 instruments, 0 actors, 1 recordings\n")


def test_tree_shows_who_supervises_what(tmp_path: Path) -> None:
    """Groups, buses with their instruments, actors and recordings are in the picture."""
    done = benchtree("tree", written(tmp_path, GOOD), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "cell-3",
        "├── supervisor heat  rest_for_one, 1 restarts in 60 s",
        "│   ├── bus supply  tcp://192.0.2.17:5025",
        "│   │   └── instrument psu  PowerSupply",
        "│   ├── bus furnace  serial:///dev/ttyUSB7?baudrate=38400&rtscts=true",
        "│   │   └── instrument zone1  TemperatureController, unit 1",
        "│   └── actor ramp  ramp, permanent",
        "└── recording main  10 Hz: zone1.temperature, current into sqlite, csv",
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]], ids=" ".join)
def test_help_names_the_exit_codes(tmp_path: Path, arguments: list[str]) -> None:
    """Whoever writes a script finds what the exit codes mean."""
    done = benchtree(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    for code in ("0", "1", "2", "130", "143"):
        assert f"{code}: " in done.stdout


def test_simulated_run_for_some_seconds(tmp_path: Path) -> None:
    """`run --sim --for` touches no hardware, records every slot, and closes its run."""
    (tmp_path / "bench.toml").write_text(SIMULATED)
    done = benchtree("run", "bench.toml", "--sim", "--for", "1.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "instrument identified" in done.stderr
    run = only_run(tmp_path / "runs")
    assert f"run: {run.relative_to(tmp_path)}" in done.stdout
    metadata = json.loads((run / "metadata.json").read_text())
    assert (metadata["exit_status"], metadata["outcome"]) == (0, "ok")
    assert metadata["instruments"]["psu"]["model"] == "PS30-5"
    assert metadata["recordings"]["main"]["samples_expected"] == 30
    assert metadata["recordings"]["main"]["samples_missing"] == 0
    assert metadata["recordings"]["main"]["files"] == ["samples.sqlite", "samples.csv"]
    with closing(sqlite3.connect(run / "samples.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM samples").fetchone() == (30,)
    assert len((run / "samples.csv").read_text().splitlines()) == 31
    assert "instrument identified" in (run / "run.log").read_text()


def test_sinks_that_fail_do_not_stop_the_tree(tmp_path: Path) -> None:
    """A full disk ends the recording; the tree goes on, and the exit code tells."""
    (tmp_path / "bench.toml").write_text(SIMULATED.replace("rate_hz = 10", "rate_hz = 200"))
    done = benchtree(
        "run", "bench.toml", "--sim", "--for", "3", cwd=tmp_path, before="ulimit -f 64"
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for name in ("samples.csv", "samples.sqlite"):
        assert f"benchtree: recording main: {name}: " in done.stderr
    metadata = json.loads((only_run(tmp_path / "runs") / "metadata.json").read_text())
    assert (metadata["exit_status"], metadata["outcome"]) == (1, "failed")
    assert len(metadata["problems"]) == 2
    assert done.stderr.index("recording main: ") < done.stderr.index("stopping")


def test_a_sink_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """What one file cannot hold any more, the others still get; the journal is one of them."""
    # Databases and their logs take whole pages, the other file only what is in it.
    (tmp_path / "bench.toml").write_text(SIMULATED)
    done = benchtree(
        "run", "bench.toml", "--sim", "--for", "3", cwd=tmp_path, before="ulimit -f 24"
    )
    assert done.returncode == 1, done.stderr
    run = only_run(tmp_path / "runs")
    recording, journal = json.loads((run / "metadata.json").read_text())["problems"]
    assert recording.startswith("recording main: samples.sqlite: ")
    assert journal.startswith("journal: ")
    assert "rows were not written: " in journal
    assert len((run / "samples.csv").read_text().splitlines()) == 61


def test_a_file_in_place_of_the_runs_is_named(tmp_path: Path) -> None:
    """Without a folder for the run nothing begins."""
    (tmp_path / "bench.toml").write_text(SIMULATED)
    (tmp_path / "runs").touch()
    done = benchtree("run", "bench.toml", "--sim", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "benchtree: no run folder can be made in runs: File exists\n"


def test_a_driver_without_a_model_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    """What cannot be simulated is said before anything is started."""
    text = SIMULATED + '[instrument.dmm2]\nbus = "meter"\ndriver = "scpi.multimeter"\nunit_id = 2\n'
    (tmp_path / "bench.toml").write_text(text)
    done = benchtree("run", "bench.toml", "--sim", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("bench.toml:5: bus.meter: ")
    assert not (tmp_path / "runs").exists()
