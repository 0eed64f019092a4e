"""The file of a journal: what survives, what shows, and what is closed by the next start."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from actors import Cause, CommandState, JournalRow, RowKind
from recorder import (
    JOURNAL_FILE,
    JournalError,
    JournalFile,
    Run,
    TargetExistsError,
    check_journal,
    create_run,
    finish_journal,
    finish_killed_journals,
    read_entries,
)
from recorder.run import holding

LIFE = (
    CommandState.QUEUED,
    CommandState.DISPATCHED,
    CommandState.ACKNOWLEDGED,
    CommandState.COMPLETED,
)


def row(seq: int, state: CommandState, instrument: str = "psu") -> JournalRow:
    """Return a row of a command."""
    return JournalRow(
        kind=RowKind.COMMAND,
        utc_ms=1_000 + seq,
        mono_ns=seq,
        seq=seq,
        state=state,
        instrument=instrument,
        command="output.set",
        caller="ramp",
    )


def ended() -> JournalRow:
    """Return the last row of a journal that was closed."""
    return JournalRow(kind=RowKind.ENDED, utc_ms=9_000, mono_ns=9)


def write(path: Path, batches: int = 3, *, close: bool = True) -> JournalFile:
    """Write a journal with one command a batch."""
    file = JournalFile(path, tree="cell", run="run-1")
    file.create()
    for seq in range(1, batches + 1):
        file.append([row(seq, state) for state in LIFE], durable=seq == 1)
    if close:
        file.append([ended()], durable=False)
        file.close()
    return file


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every row comes back, in order, and the report counts them."""
    path = tmp_path / "journal.sqlite"
    file = write(path)
    report = check_journal(path)
    assert (report.tree, report.run) == ("cell", "run-1")
    assert (report.batches, report.rows, report.commands) == (4, 13, 3)
    assert (report.sound, report.ended, report.open) == (True, True, ())
    assert report.seal == file.chain.seal.hex()
    found = list(read_entries(path))
    assert [number for number, _ in found] == list(range(1, 14))
    assert [each.state for _, each in found[:4]] == list(LIFE)
    some = read_entries(path, "seq = ? AND state = ?", (2, "FAILED"))
    assert list(some) == []
    assert [each.seq for _, each in read_entries(path, after=11)] == [3, None]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A closed journal is read without a trace, from where nothing can be written as well."""
    path = tmp_path / "journal.sqlite"
    write(path)
    before = path.read_bytes()
    assert check_journal(path).sound
    assert len(list(read_entries(path))) == 13
    assert [each.name for each in tmp_path.iterdir()] == ["journal.sqlite"]
    assert path.read_bytes() == before


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    """What was appended shows at once to whoever opens it then."""
    path = tmp_path / "journal.sqlite"
    file = write(path, close=False)
    assert check_journal(path).rows == 12
    file.append([row(9, CommandState.QUEUED)], durable=False)
    assert check_journal(path).rows == 13
    file.close()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that is there already is left alone."""
    path = tmp_path / "journal.sqlite"
    path.write_text("mine")
    with pytest.raises(TargetExistsError):
        JournalFile(path, tree="cell", run="run-1").create()
    assert path.read_text() == "mine"


def alter(path: Path, statement: str) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statement)


TAMPERED = [
    ("UPDATE entries SET caller = 'nobody' WHERE number = 6", "batch 2 (rows 5-8) was changed"),
    ("UPDATE entries SET cause = NULL, utc_ms = 5 WHERE number = 1", "batch 1 (rows 1-4)"),
    ("DELETE FROM entries WHERE number = 7", "row 7 of batch 2 is missing"),
    ("DELETE FROM entries WHERE number = 13", "batch 4 (rows 13-12) was changed"),
    ("DELETE FROM batches WHERE number = 2", "batch 2 is missing"),
    ("UPDATE batches SET seal = x'00' WHERE number = 2", "batch 2 (rows 5-8) was changed"),
    ("UPDATE batches SET last = 6 WHERE number = 2", "batch 2 (rows 5-6) was changed"),
    ("UPDATE journal SET run = 'run-2'", "batch 1 does not follow"),
    ("DELETE FROM batches WHERE number = 4", "1 rows are in no batch"),
    ("UPDATE batches SET last = 99 WHERE number = 4", "batch 4 is said to end with row 99"),
    ("UPDATE entries SET text = x'ff' WHERE number = 6", "batch 2 holds what no journal does"),
    ("DROP VIEW log; CREATE VIEW log AS SELECT 'all fine'", "the view 'log' is not as"),
    ("CREATE TRIGGER t AFTER DELETE ON entries BEGIN SELECT 1; END", "the trigger 't' is not as"),
]


@pytest.mark.parametrize(("statement", "expected"), TAMPERED)
def test_tampering_shows(tmp_path: Path, statement: str, expected: str) -> None:
    """A row or batch that was changed, added or taken out is found, and where."""
    path = tmp_path / "journal.sqlite"
    write(path)
    alter(path, statement)
    report = check_journal(path)
    assert report.broken is not None
    assert expected in report.broken
    assert not report.sound


def test_a_cut_end_shows_where_the_end_is_known(tmp_path: Path) -> None:
    """Without its last batches a chain holds; the run's own note of its end tells."""
    path = tmp_path / "journal.sqlite"
    file = write(path)
    anchor = file.chain.batches, file.chain.seal.hex()
    assert check_journal(path, anchor=anchor).sound
    alter(path, "DELETE FROM batches WHERE number = 4; DELETE FROM entries WHERE number > 12")
    assert check_journal(path).sound
    broken = check_journal(path, anchor=anchor).broken
    assert broken == "batches 4-4 are missing at the end"
    assert not check_journal(path, anchor=(3, "00")).sound


def test_a_sound_chain_may_tell_nonsense(tmp_path: Path) -> None:
    """Commands that do not move along the table are named, though the chain holds."""
    path = tmp_path / "journal.sqlite"
    file = write(path, close=False)
    odd = [row(2, CommandState.DISPATCHED), row(8, CommandState.FAILED)]
    file.append([*odd, row(9, CommandState.QUEUED), ended()], durable=False)
    file.close()
    report = check_journal(path)
    assert report.broken is None
    assert report.troubles == [
        "row 13: command 2 went to DISPATCHED after its end",
        "row 14: command 8 began as FAILED",
        "command 9 never ended",
    ]


FORGED = [
    [evolve(ended(), kind=RowKind.EVENT, command="tripped")],
    [evolve(ended(), kind=RowKind.EVENT, command="tripped"), ended()],
    [*(row(77, state) for state in LIFE), ended()],
    [ended()],
]


@pytest.mark.parametrize("rows", FORGED)
def test_nothing_follows_the_end(tmp_path: Path, rows: list[JournalRow]) -> None:
    """Rows behind the end show, however well they are sealed, with and without a kept end."""
    path = tmp_path / "journal.sqlite"
    file = write(path)
    anchor = file.chain.batches, file.chain.seal.hex()
    with pytest.raises(JournalError, match="was ended"):
        file.append(rows, durable=False)
    forger = JournalFile(path, tree="cell", run="run-1")
    forger.chain = evolve(file.chain)
    with closing(forger):
        forger.append(rows, durable=False)
    assert check_journal(path).broken == "row 14 follows the end of the journal"
    broken = check_journal(path, anchor=anchor).broken
    assert broken == "batch 5 was added: the journal was closed with batch 4"
    with pytest.raises(JournalError, match="row 14 follows the end"):
        finish_journal(path, by="run-2", utc_ms=77, mono_ns=66)


def test_a_gap_told_behind_the_end(tmp_path: Path) -> None:
    """Journals were once ended before the gap of a disk that came back last: they are sound."""
    path = tmp_path / "journal.sqlite"
    file = write(path)
    late = JournalFile(path, tree="cell", run="run-1")
    late.chain = evolve(file.chain)
    with closing(late):
        late.append([evolve(ended(), kind=RowKind.GAP)], durable=False)
    report = check_journal(path, anchor=(5, late.chain.seal.hex()))
    assert (report.sound, report.ended) == (True, True)
    assert finish_journal(path, by="run-2", utc_ms=77, mono_ns=66) is None


def test_a_closed_journal_has_an_end(tmp_path: Path) -> None:
    """One whose end is kept elsewhere ends with the row that says so."""
    path = tmp_path / "journal.sqlite"
    file = write(path, close=False)
    file.close()
    anchor = file.chain.batches, file.chain.seal.hex()
    assert check_journal(path, anchor=anchor).broken == "it has no end, though it was closed"
    assert check_journal(path, anchor=anchor, unended=True).sound
    assert check_journal(path, anchor=(2, "00"), unended=True).sound is False


HEADINGS = [
    ("UPDATE journal SET format = 99", "is a journal of format 99; format 1 is read here"),
    ("INSERT INTO journal VALUES (1, 'x', 'y')", "says more than once"),
    ("DELETE FROM journal", "does not say which tree and run it is of"),
    ("UPDATE journal SET tree = x'ff'", "says more than once, or garbled"),
]


@pytest.mark.parametrize(("statement", "expected"), HEADINGS)
def test_a_heading_that_means_nothing(tmp_path: Path, statement: str, expected: str) -> None:
    """What is no journal of this format is refused in words for people."""
    path = tmp_path / "journal.sqlite"
    write(path, close=False).close()
    alter(path, statement)
    with pytest.raises(JournalError, match=expected):
        check_journal(path)
    with pytest.raises(JournalError, match=expected):
        finish_journal(path, by="run-2", utc_ms=77, mono_ns=66)


def test_a_seal_that_is_none(tmp_path: Path) -> None:
    """A value of another kind is told in words for people, not in those of the language."""
    path = tmp_path / "journal.sqlite"
    write(path, close=False).close()
    alter(path, "UPDATE batches SET seal = 'x' WHERE number = 3")
    assert check_journal(path).broken is not None
    with pytest.raises(JournalError, match="it holds a value of a kind that none has"):
        finish_journal(path, by="run-2", utc_ms=77, mono_ns=66)


def killed(path: Path) -> None:
    """Write a journal whose process was killed with three commands open."""
    file = write(path, close=False)
    file.append([row(4, CommandState.QUEUED), row(5, CommandState.QUEUED)], durable=False)
    file.append([row(5, CommandState.DISPATCHED), row(6, CommandState.QUEUED)], durable=False)
    file.close()


def test_the_next_start_closes_what_was_open(tmp_path: Path) -> None:
    """Open commands fail as crashed and perhaps carried out; the chain goes on; once."""
    path = tmp_path / "journal.sqlite"
    killed(path)
    assert [each.seq for each in check_journal(path).open] == [4, 5, 6]
    assert finish_journal(path, by="run-2", utc_ms=77, mono_ns=66) == 3
    report = check_journal(path)
    assert (report.sound, report.ended, report.open, report.commands) == (True, True, (), 6)
    closed = [each for _, each in read_entries(path, "utc_ms = 77 AND kind = 'command'")]
    assert [each.seq for each in closed] == [4, 5, 6]
    for each in closed:
        assert (each.state, each.cause) == (CommandState.FAILED, Cause.CRASHED)
        assert each.may_have_executed
        assert (each.instrument, each.caller) == ("psu", "ramp")
    before = path.read_bytes()
    assert finish_journal(path, by="run-3", utc_ms=88, mono_ns=66) is None
    assert path.read_bytes() == before


def test_a_journal_that_was_closed_is_left_alone(tmp_path: Path) -> None:
    """Nothing is added to a journal that its own process closed."""
    path = tmp_path / "journal.sqlite"
    write(path)
    before = path.read_bytes()
    assert finish_journal(path, by="run-2", utc_ms=77, mono_ns=66) is None
    assert path.read_bytes() == before


def test_a_journal_without_a_row_is_closed(tmp_path: Path) -> None:
    """A process that was killed before its first batch leaves a journal that can be closed."""
    path = tmp_path / "journal.sqlite"
    file = JournalFile(path, tree="cell", run="run-1")
    file.create()
    file.close()
    assert finish_journal(path, by="run-2", utc_ms=77, mono_ns=66) == 0
    assert check_journal(path).ended


def no_file(path: Path) -> None:
    """Leave nothing there."""


def no_database(path: Path) -> None:
    """Put something else there."""
    path.write_bytes(b"no database at all" * 100)


def other_database(path: Path) -> None:
    """Put another database there."""
    alter(path, "CREATE TABLE samples (value)")


def half_database(path: Path) -> None:
    """Put half of a journal there."""
    write(path, batches=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("make", [no_file, no_database, other_database, half_database])
def test_what_is_no_journal(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whoever looks at or closes something else is told in one line."""
    path = tmp_path / "journal.sqlite"
    make(path)
    with pytest.raises(JournalError, match=str(tmp_path)):
        check_journal(path)
    with pytest.raises(JournalError, match=str(tmp_path)):
        list(read_entries(path))
    with pytest.raises(JournalError, match=str(tmp_path)):
        finish_journal(path, by="run-2", utc_ms=77, mono_ns=66)


def test_a_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    """Nothing is written into a file that is gone; once it is back the chain goes on."""
    folder, away = tmp_path / "run", tmp_path / "away"
    folder.mkdir()
    path = folder / "journal.sqlite"
    file = write(path, close=False)
    folder.rename(away)
    rows = [row(8, CommandState.QUEUED)]
    with pytest.raises(OSError, match="is gone"):
        file.append(rows, durable=True)
    with pytest.raises((OSError, sqlite3.Error)):
        file.append(rows, durable=True)
    away.rename(folder)
    file.append(rows, durable=True)
    file.close()
    report = check_journal(path)
    assert (report.sound, report.rows) == (True, 13)


def test_a_file_that_vanishes_for_good(tmp_path: Path) -> None:
    """It is begun anew, and the chain shows that the batches before are missing."""
    path = tmp_path / "journal.sqlite"
    file = write(path, close=False)
    for each in tmp_path.iterdir():
        each.unlink()
    rows = [row(8, CommandState.QUEUED)]
    with pytest.raises(OSError, match="is gone"):
        file.append(rows, durable=False)
    file.append(rows, durable=False)
    file.close()
    assert check_journal(path).broken == "batches 1-3 are missing"


def test_a_commit_that_only_seemed_to_fail_is_not_repeated(tmp_path: Path) -> None:
    """Where the rows of a failed call are there all the same, the next one leaves them out."""
    path = tmp_path / "journal.sqlite"
    file, twin = write(path, close=False), JournalFile(path, tree="cell", run="run-1")
    twin.chain = evolve(file.chain)
    rows = [row(8, CommandState.QUEUED), row(8, CommandState.DISPATCHED)]
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            file.append(rows, durable=False)
    # Now it is there after all, and by the same hand as far as the chain can tell.
    with closing(twin):
        twin.append(rows, durable=False)
    file.append([*rows, row(8, CommandState.FAILED)], durable=False)
    file.close()
    report = check_journal(path)
    assert (report.sound, report.rows, report.commands) == (True, 15, 4)


def start(root: Path, tree: str) -> tuple[Run, Path]:
    """Begin a run whose journal has a command open."""
    run = create_run(root, tree_name=tree, started_utc_ns=0)
    path = run.path / JOURNAL_FILE
    file = JournalFile(path, tree=tree, run=run.run_id)
    file.create()
    file.append([row(1, CommandState.QUEUED)], durable=True)
    file.close()
    return run, path


def test_only_what_was_killed_of_the_same_tree_is_closed(tmp_path: Path) -> None:
    """A run that goes on, and those of others, are left alone; a broken one stops nobody."""
    going, going_path = start(tmp_path, "cell")
    other, other_path = start(tmp_path, "other")
    broken, broken_path = start(tmp_path, "cell")
    killed_run, killed_path = start(tmp_path, "cell")
    bare = create_run(tmp_path, tree_name="cell", started_utc_ns=0)
    broken_path.write_bytes(b"no database at all" * 100)
    for run in (other, broken, killed_run, bare):
        run.close()
    with holding(going.path) as held:
        assert not held
    with holding(killed_run.path) as held:
        assert held
    found = finish_killed_journals(tmp_path, tree="cell", by="next", utc_ms=5, mono_ns=4)
    by_run = {each.run: each for each in found}
    assert set(by_run) == {broken.path, killed_run.path}
    assert by_run[killed_run.path].commands == 1
    assert str(broken_path) in (by_run[broken.path].error or "")
    assert check_journal(killed_path).ended
    assert not check_journal(going_path).ended
    assert not check_journal(other_path).ended
    going.close()
