"""`benchtree journal`: listing, filtering, checking and following the journal of a run."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors import RefusedError
from benchtree import PowerSupply, Tree
from benchtree.cli import main
from benchtree.config import load_config
from benchtree.run import run_bench
from recorder import JOURNAL_FILE

from .benches import supply_and_oven, write_bench
from .commands import Running, benchtree, only_run

BENCH = """
[tree]
name = "cell-3"
journal = "{detail}"
[bus.supply]
address = "tcp://192.0.2.17:5025"
reconcile = {{ every_s = 0 }}
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
"""


async def use(tree: Tree) -> None:
    """Switch an output on and off, ask for it, and be refused."""
    psu = tree.get("psu", PowerSupply)
    await psu.voltage.set(5.0)
    await psu.output.set(True, confirm=True)
    await psu.voltage.get()
    await tree.trip("psu", "smoke")
    with pytest.raises(RefusedError):
        await psu.voltage.set(6.0)


def make_run(folder: Path, detail: str = "writes") -> Path:
    """Run a simulated bench for a moment of virtual time."""
    file = folder / "bench.toml"
    file.write_text(BENCH.format(detail=detail))

    async def run() -> Path:
        result = await run_bench(
            load_config(file), sim=True, for_s=3600, runs_root=folder / "runs", beside=use
        )
        assert result.exit_status == 0
        return result.path

    return trio.run(run, clock=MockClock(autojump_threshold=0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return make_run(tmp_path_factory.mktemp("run"))


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, object]]:
    """Return the rows that a command lists as JSON."""
    assert main(["journal", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_listing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step of what changed the instrument is there, and reads are counted."""
    assert main(["journal", "last", "--runs", str(run.parent)]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "time",
        "(UTC)",
        "number",
        "instrument",
        "command",
        "state",
        "caller",
    ]
    steps = [line.split()[3:5] for line in lines if " psu " in line and "set " in line]
    life = ["queued", "dispatched", "acknowledged", "completed"]
    assert [state for name, state in steps if name == "output.set"] == life
    assert [state for name, state in steps if name == "voltage.set"] == [*life]
    assert any("sends OUTP 1" in line or "sends OUTP ON" in line for line in lines)
    assert any("refused" in line and "tripped by smoke" in line for line in lines)
    assert any("safe state reached" in line for line in lines)
    assert any(" count " in line and "1 reads completed" in line for line in lines)
    assert "ended by process" in lines[-1]


FILTERS: list[tuple[list[str], list[str]]] = [
    (["--instrument", "psu", "--state", "queued"], ["voltage.set", "output.set"]),
    (["--state", "Refused"], ["voltage.set"]),
    (["--cause", "tripped"], ["voltage.set"]),
    (["--seq", "1"], ["voltage.set"] * 4),
    (["--since", "2026-02-01"], []),
    (["--since", "2026-01-01T00:00:00Z", "--state", "completed"], ["voltage.set", "output.set"]),
    (["--until", "2026-01-01"], []),
    (["--since", "1d", "--state", "failed"], []),
    (["--state", "completed", "-n", "1"], ["output.set"]),
]


@pytest.mark.parametrize(("options", "expected"), FILTERS)
def test_filters(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: list[str]
) -> None:
    """By instrument, state, cause, number and time, and only the last ones."""
    assert [row["command"] for row in said(capsys, run, *options)] == expected


WRONG = [
    (["--state", "complete"], "--state is 'complete'; did you mean 'completed'?"),
    (["--cause", "x"], "--cause is 'x'; there are: validation, lease, "),
    (["--since", "noon"], "--since is 'noon'; write an instant as "),
    (["--lines", "-3"], "--lines is -3; it takes a whole number from 0"),
    (["--follow", "-n", "-1"], "--lines is -1; it takes a whole number from 0"),
    (["--until", "99999999999d"], "--until is '99999999999d'; write an instant as "),
]


@pytest.mark.parametrize(("options", "expected"), WRONG)
def test_wrong_options(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    """An option that means nothing is one line and exit code 2."""
    assert main(["journal", str(run), *options]) == 2
    assert capsys.readouterr().err.startswith(f"benchtree: {expected}")


NOTHING = [
    (["--instrument", "oven"], "no row matches; there are rows of: psu"),
    (["--instrument", "psu", "--seq", "77"], "no row matches"),
    (["--until", "2026-01-01", "--json"], "no row matches"),
]


@pytest.mark.parametrize(("options", "expected"), NOTHING)
def test_no_row_matches(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    """Where no row is shown that is said, and which instruments there are rows of."""
    assert main(["journal", str(run), *options]) == 0
    said_what = capsys.readouterr()
    assert (said_what.out, said_what.err) == ("", f"benchtree: {expected}\n")


def test_verify(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sound journal says so; one changed, cut or exchanged fails and says where."""
    assert main(["journal", str(run), "--verify"]) == 0
    out = capsys.readouterr().out
    assert "2 commands of cell-3 have ended" in out
    assert "the chain holds" in out
    (report,) = said(capsys, run, "--verify")
    assert (report["sound"], report["open"], report["ended"]) == (True, [], True)
    seal = json.loads((run / "metadata.json").read_text())["journal"]["seal"]
    assert report["seal"] == seal

    changed = shutil.copytree(run, tmp_path / "changed")
    alter(changed, "UPDATE entries SET caller = 'nobody' WHERE state = 'QUEUED'")
    assert main(["journal", str(changed), "--verify"]) == 1
    assert "the chain breaks: batch " in capsys.readouterr().err

    cut = shutil.copytree(run, tmp_path / "cut")
    alter(cut, CUT)
    assert main(["journal", str(cut), "--verify"]) == 1
    assert "are missing at the end" in capsys.readouterr().err

    other = shutil.copytree(run, tmp_path / "other")
    shutil.copy(make_run(tmp_path) / JOURNAL_FILE, other / JOURNAL_FILE)
    assert main(["journal", str(other), "--verify", "--json"]) == 1


def keep(run: Path, **entries: object) -> None:
    """Change the metadata of a run behind its back; None takes an entry out."""
    file = run / "metadata.json"
    metadata = {**json.loads(file.read_text()), **entries}
    known = {name: value for name, value in metadata.items() if value is not None}
    file.write_text(json.dumps(known))


CUT = (
    "DELETE FROM entries WHERE number > (SELECT last FROM batches WHERE number = 1);"
    "DELETE FROM batches WHERE number > 1"
)


def test_an_end_that_is_not_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ended and does not say where its journal did is not believed."""
    silent = shutil.copytree(run, tmp_path / "silent")
    keep(silent, journal=None)
    assert main(["journal", str(silent), "--verify"]) == 1
    assert "metadata.json does not keep where the journal did" in capsys.readouterr().err
    alone = tmp_path / "alone.sqlite"
    shutil.copy(run / JOURNAL_FILE, alone)
    assert main(["journal", str(alone), "--verify"]) == 0
    assert "rows cut off its end would not show" in capsys.readouterr().out


def test_an_end_that_could_not_be_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal without an end is believed where its run says that it could not be written."""
    short = shutil.copytree(run, tmp_path / "short")
    alter(short, CUT)
    with closing(sqlite3.connect(short / JOURNAL_FILE)) as database:
        (kept,) = database.execute("SELECT hex(seal) FROM batches").fetchone()
    keep(short, journal={"batches": 1, "seal": kept.lower()})
    assert main(["journal", str(short), "--verify"]) == 1
    assert "it has no end, though it was closed" in capsys.readouterr().err
    keep(short, journal={"batches": 1, "seal": kept.lower(), "unwritten": 9})
    assert main(["journal", str(short), "--verify"]) == 0
    assert "commands are open: its end could not be written" in capsys.readouterr().out


def test_a_cut_end_of_a_killed_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once the next run closed its journal, a killed run's end is kept twice."""
    runs = tmp_path / "runs"
    killed = shutil.copytree(run, runs / run.name)
    alter(killed, CUT)
    keep(killed, journal=None, exit_status=None)
    assert main(["journal", str(killed), "--verify"]) == 0
    out = capsys.readouterr().out
    assert "its process was killed; the next run closes it" in out
    assert "rows cut off its end would not show" in out

    closer = make_run(tmp_path)
    capsys.readouterr()
    (row,) = [each for each in said(capsys, closer) if each["command"] == "journal closed"]
    assert str(row["text"]).startswith(f"{run.name} at batch 2, seal ")
    assert main(["journal", str(killed), "--verify"]) == 0
    assert "would not show" not in capsys.readouterr().out
    assert main(["journal", str(closer), "--verify"]) == 0

    alter(killed, CUT)
    assert main(["journal", str(killed), "--verify"]) == 1
    assert "batches 2-2 are missing at the end" in capsys.readouterr().err
    keep(killed, journal=None)
    assert main(["journal", str(killed), "--verify"]) == 1
    assert f"{closer.name} closed it at batch 2, seal " in capsys.readouterr().err
    # Nor is what was cut off covered up by closing it again.
    make_run(tmp_path)
    capsys.readouterr()
    assert main(["journal", str(killed), "--verify"]) == 1
    assert f"{closer.name} closed it at batch 2, seal " in capsys.readouterr().err


def alter(run: Path, statements: str) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(run / JOURNAL_FILE)) as database:
        database.executescript(statements)


def test_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `journal = "all"` each read is there step by step."""
    run = make_run(tmp_path, "all")
    capsys.readouterr()
    rows = said(capsys, run)
    reads = [row["state"] for row in rows if row["command"] == "voltage"]
    assert reads == ["QUEUED", "DISPATCHED", "ACKNOWLEDGED", "COMPLETED"]
    assert main(["journal", str(run), "--verify"]) == 0


def test_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a journal, and a run that is not there, are one line and exit code 1."""
    for name in (tmp_path, "nothing"):
        assert main(["journal", str(name), "--runs", str(tmp_path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("benchtree: ")
        assert err.count("\n") == 1


def test_following_a_live_run(tmp_path: Path) -> None:
    """What happens shows as it happens, and following ends with the run."""
    runs = tmp_path / "runs"
    with supply_and_oven() as devices:
        bench = write_bench(tmp_path, devices.addresses)
        with Running("run", bench, "--for", "4", "--runs", runs, cwd=tmp_path) as running:
            running.wait_for("the output is on")
            followed = benchtree(
                "journal", only_run(runs), "--follow", "--json", "-n", "1000", cwd=tmp_path
            )
            assert running.end() == 0
    assert followed.returncode == 0, followed.stderr
    rows = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["kind"] == "begun"
    assert rows[-1]["kind"] == "ended"
    # The journal outlives the tree: the last safe states are in it.
    safe = [row["instrument"] for row in rows if row["command"] == "safe state reached"]
    assert sorted(safe) == ["furnace", "psu"]
    done = [row["command"] for row in rows if row["state"] == "COMPLETED"]
    assert done[:2] == ["voltage.set", "output.set"]
