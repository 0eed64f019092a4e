"""A configured run in virtual time: what it goes through and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from benchtree import Event, RunError, RunResult, Tree, load_config, run_bench
from benchtree.run import BenchRun

from .benches import LAB, SIMULATED


def written(folder: Path, text: str) -> Path:
    """Write a bench and the code it names."""
    (folder / "lab_code.py").write_text(LAB)
    path = folder / "bench.toml"
    path.write_text(text)
    return path


def metadata(result: RunResult) -> dict[str, object]:
    """Return what the run's folder says."""
    found: dict[str, object] = json.loads((result.path / "metadata.json").read_text())
    return found


async def test_recordings_go_on_when_a_subtree_gives_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What gave up is safe and missing, the rest is recorded, and the exit status is 1."""
    text = SIMULATED + (
        '[supervisor.weak]\nmax_restarts = 0\nchildren = ["bus.supply", "actor.fails"]\n'
        '[actor.fails]\nstart = "lab_code:fail"\n'
    )
    config = load_config(written(tmp_path, text))
    result = await run_bench(config, sim=True, for_s=5.0, runs_root=tmp_path)
    assert result.exit_status == 1
    (problem,) = result.problems
    assert problem.startswith("supervisor.weak is down: ")
    assert "the wire came off" in problem
    devices = result.recordings["main"].by_device()
    assert (devices["dmm"].expected, devices["dmm"].missing) == (50, 0)
    assert devices["psu"].expected == 50
    assert 35 <= devices["psu"].missing <= 41
    assert metadata(result)["outcome"] == "failed"


async def test_recordings_have_files_of_their_own(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The first keeps the plain names, others carry theirs, and each its own duration."""
    text = SIMULATED + '[recording.slow]\nrate_hz = 1\nduration_s = 2\nparameters = ["psu.power"]\n'
    config = load_config(written(tmp_path, text))
    result = await run_bench(config, sim=True, for_s=4.0, runs_root=tmp_path)
    assert result.exit_status == 0
    assert {path.name for path in result.path.glob("samples*")} == {
        "samples.sqlite",
        "samples.csv",
        "samples-slow.sqlite",
    }
    assert result.recordings["main"].samples_expected == 80
    assert result.recordings["slow"].samples_expected == 2


async def test_unexpected_errors_are_kept_in_the_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """One line says what happened and where the traceback is; everything is safe and closed."""

    async def beside(tree: Tree) -> None:
        raise RuntimeError("not foreseen")

    config = load_config(written(tmp_path, SIMULATED))
    events: list[Event] = []
    result = await run_bench(
        config, sim=True, runs_root=tmp_path, beside=beside, observer=events.append
    )
    assert result.exit_status == 1
    (problem,) = result.problems
    assert "RuntimeError: not foreseen" in problem
    assert str(result.path / "run.log") in problem
    assert "Traceback" in (result.path / "run.log").read_text()
    assert "SafeStateReached" in {type(event).__name__ for event in events}
    assert metadata(result)["exit_status"] == 1


async def test_a_run_can_be_cancelled(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Cancelled, it still closes its folder, with everything delivered."""
    seen: list[BenchRun] = []

    async def watch(bench: BenchRun) -> None:
        seen.append(bench)

    config = load_config(written(tmp_path, SIMULATED))
    with trio.move_on_after(2.05) as scope:
        await run_bench(config, sim=True, runs_root=tmp_path, watch=watch)
    assert scope.cancelled_caught
    (bench,) = seen
    found = json.loads((bench.path / "metadata.json").read_text())
    recording = found["recordings"]["main"]
    assert recording["samples_read"] == recording["samples_emitted"] == 42
    assert len((bench.path / "samples.csv").read_text().splitlines()) == 43


async def test_a_port_that_is_owned_is_named(tmp_path: Path) -> None:
    """A second run of the same bench ends with the owner's name and pid."""
    text = SIMULATED.replace("192.0.2.17:5025", "127.0.0.1:9").replace(
        "192.0.2.18:5025", "127.0.0.1:10"
    )
    config = load_config(written(tmp_path, text))
    results: list[RunResult] = []

    async def second(tree: Tree) -> None:
        results.append(await run_bench(config, for_s=1.0, runs_root=tmp_path / "second"))

    # Nobody answers there; owning a port does not need that.
    await run_bench(config, for_s=0.5, runs_root=tmp_path / "first", beside=second)
    (result,) = results
    assert result.exit_status == 1
    assert "the bus is owned by tree 'simulated' (process" in result.problems[0]


async def test_without_a_folder_nothing_begins(tmp_path: Path) -> None:
    """Where the run's folder cannot be made, the run is refused in one line."""
    (tmp_path / "runs").touch()
    config = load_config(written(tmp_path, SIMULATED))
    with pytest.raises(RunError, match=r"no run folder can be made in .*runs: File exists"):
        await run_bench(config, sim=True, runs_root=tmp_path / "runs")
