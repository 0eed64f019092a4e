"""SIGKILL at any instant: what a sink has acknowledged is there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from random import Random
from sqlite3 import connect

import pytest

from recorder import load

ROOT = Path(__file__).resolve().parents[2]


def kill_a_writer(kind: str, path: Path, after_s: float) -> int:
    """Start a writer, kill it so long after its first acknowledgement; return how many it told."""
    told = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.recorder.killed_sink", kind, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        told = int(process.stdout.readline())
        timer = threading.Timer(after_s, process.kill)
        timer.start()
        for line in process.stdout:
            if line.endswith(b"\n"):
                told = int(line)
        timer.join()
    assert process.returncode == -9
    return told


def numbers_in(kind: str, path: Path) -> list[int]:
    """Return what a killed writer's file holds, read by nothing of ours."""
    match kind:
        case "sqlite":
            with closing(connect(path)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                return [value for (value,) in database.execute("SELECT value FROM samples")]
        case "csv":
            lines = path.read_bytes().decode().split("\r\n")[:-1]
            return [int(row["value"]) for row in csv.DictReader(lines)]
        case "jsonl":
            lines = path.read_text().split("\n")[:-1]
            return [json.loads(line)["value"] for line in lines]
        case "arrow":
            numbers: list[int] = load(path)["value_int"].to_pylist()
            return numbers
        case _:
            # The parts that were made, then the source of the one that was not.
            parts = sorted(path.parent.glob("*.parquet"))
            open_source = sorted(path.parent.glob("*.parquet.arrow"))
            found: list[int] = []
            for part in [*parts, *open_source]:
                if part.with_suffix("") in parts:
                    continue  # killed between making the part and removing its source
                found += load(part)["value_int"].to_pylist()
            return found


CASES = [
    "sqlite",
    "csv",
    "jsonl",
    pytest.param("arrow", marks=pytest.mark.heavy),
    pytest.param("parquet", marks=pytest.mark.heavy),
]


def check(kind: str, folder: Path, seed: int) -> None:
    """Kill one writer and fail if an acknowledged sample is lost, or a sample is twice there."""
    folder.mkdir()
    path = folder / f"samples.{kind}"
    told = kill_a_writer(kind, path, Random(f"{kind}-{seed}").uniform(0.0, 0.6))
    numbers = numbers_in(kind, path)
    assert len(numbers) >= told
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("kind", CASES)
def test_acknowledged_samples_survive_sigkill(kind: str, tmp_path: Path) -> None:
    """Four writers killed at random instants: nothing acknowledged is lost, all is in order."""
    for seed in range(4):
        check(kind, tmp_path / str(seed), seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CASES)
def test_acknowledged_samples_survive_many_sigkills(kind: str, tmp_path: Path) -> None:
    """Twenty writers killed at random instants."""
    for seed in range(100, 120):
        check(kind, tmp_path / str(seed), seed)
