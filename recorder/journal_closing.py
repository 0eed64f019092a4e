"""Closing the journals of killed runs, and keeping where they end.

Rules:
1. A journal is closed once. Where it ends is kept twice: in the metadata of its own run, and
   in the journal of the run that closed it.
2. What the closing run's journal says of a killed one stands right behind its first row.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from actors import Chain, JournalRow, Replay, RowKind, closing_row

from .errors import JournalError
from .journal_file import (
    CELLS,
    HEAD,
    JOURNAL_FILE,
    JournalFile,
    connect,
    explained,
    heading,
    read_entries,
)
from .run import RunState, find_runs, holding, write_metadata

CLOSED: Final = "journal closed"
"""What a journal calls it that its run closed the journal of a killed one."""

_OPEN: Final = f"SELECT {CELLS} FROM entries WHERE kind = 'command' ORDER BY number"  # noqa: S608 - names of columns
_ENDED: Final = "SELECT number FROM entries WHERE kind = 'ended' ORDER BY number LIMIT 1"
_AFTER: Final = "SELECT min(number) FROM entries WHERE number > ? AND kind <> 'gap'"
_SAID: Final = re.compile(r"(.+) at batch (\d+), seal ([0-9a-f]+)")


@frozen
class JournalEnd:
    """Where the journal of a run ends.

    Attributes:
        run: The run.
        batches: Its last batch's number.
        seal: That one's seal, in hexadecimal digits.
    """

    run: str
    batches: int
    seal: str

    def __str__(self) -> str:
        """Return it as journals say it."""
        return f"{self.run} at batch {self.batches}, seal {self.seal}"


def finish_journal(path: Path, *, by: str, utc_ms: int, mono_ns: int) -> int | None:
    """Close what a killed process left open in its journal, and return how many commands.

    None where it was closed before. Commands that have no outcome fail (crashed), and may
    have been carried out. Nobody else may write to it meanwhile: hold the lock of its run.

    Raises:
        JournalError: It is no journal, cannot be read or written, or goes on after its end.
    """
    return _finish(path, by=by, utc_ms=utc_ms, mono_ns=mono_ns)[0]


def _finish(path: Path, *, by: str, utc_ms: int, mono_ns: int) -> tuple[int | None, JournalEnd]:
    with explained(path), closing(connect(path)) as database:
        tree, run = heading(path, database)
        number, seal, last = database.execute(HEAD).fetchone() or (0, None, 0)
        file = JournalFile(path, tree=tree, run=run)
        if seal is not None:
            file.chain = Chain(seal, number, last)
        ended = database.execute(_ENDED).fetchone()
        rows: list[JournalRow] | None = None
        if ended is None:
            rows = _outcomes(database, utc_ms=utc_ms, mono_ns=mono_ns)
            end = JournalRow(
                kind=RowKind.ENDED,
                utc_ms=utc_ms,
                mono_ns=mono_ns,
                target=f"benchtree://{tree}",
                text=f"its process was killed; closed by {by}",
            )
            with closing(file):
                file.append([*rows, end], durable=True)
        else:
            (after,) = database.execute(_AFTER, ended).fetchone()
            if after is not None:
                raise JournalError(f"{path}: row {after} follows the end of the journal")
    return (
        None if rows is None else len(rows),
        JournalEnd(run, file.chain.batches, file.chain.seal.hex()),
    )


def _outcomes(database: sqlite3.Connection, *, utc_ms: int, mono_ns: int) -> list[JournalRow]:
    replay = Replay()
    for cells in database.execute(_OPEN):
        with suppress(ValueError):  # what makes no sense is for `check_journal` to say
            replay.step(JournalRow.from_cells(cells))
    return [closing_row(row, utc_ms=utc_ms, mono_ns=mono_ns) for row in replay.open.values()]


@frozen
class FinishedJournal:
    """What was done about the journal of a run whose process was killed.

    Attributes:
        run: The run's folder.
        commands: How many commands had no outcome.
        error: Why it could not be closed, or None.
        end: Where it ends now; None where it could not be closed.
    """

    run: Path
    commands: int
    error: str | None
    end: JournalEnd | None = None


def finish_killed_journals(
    root: Path, *, tree: str, by: str, utc_ms: int, mono_ns: int
) -> Sequence[FinishedJournal]:
    """Close the journals of a tree's runs that were killed, and keep where they end.

    Returns those that were open, or whose end was kept nowhere: give them to
    `Journal.note_closed` of the run that closes them.

    Args:
        root: The folder of all runs.
        tree: The tree's name.
        by: Who closes them, in words.
        utc_ms: The wall clock, in ms since 1970.
        mono_ns: The monotonic clock.
    """
    finished: list[FinishedJournal] = []
    for info in find_runs(root):
        path, metadata = info.path / JOURNAL_FILE, info.metadata
        if info.state is not RunState.KILLED or metadata.get("tree") != tree:
            continue
        if metadata.get("journal") is not None:
            continue  # closed before; a second time would make up for what was cut off since
        try:
            with holding(info.path) as held:
                if not held or not path.is_file():
                    continue
                commands, end = _finish(path, by=by, utc_ms=utc_ms, mono_ns=mono_ns)
                kept = {"batches": end.batches, "seal": end.seal, "closed_by": by}
                write_metadata(info.path, {**metadata, "journal": kept})
        except (JournalError, OSError, sqlite3.Error) as error:
            finished.append(FinishedJournal(info.path, 0, str(error)))
        else:
            finished.append(FinishedJournal(info.path, commands or 0, None, end))
    return finished


def closings(root: Path, run: str) -> Iterator[tuple[str, JournalEnd]]:
    """Yield where other runs' journals say that the journal of a killed run ends.

    Each with the name of the run that closed it.
    """
    for path in sorted(root.glob(f"*/{JOURNAL_FILE}")):
        with suppress(JournalError):  # it is another run's; whoever checks that one is told
            with closing(read_entries(path)) as entries:
                ends = [each for each in _closed(row for _, row in entries) if each.run == run]
            for end in ends:
                yield path.parent.name, end


def _closed(rows: Iterable[JournalRow]) -> Iterator[JournalEnd]:
    for row in rows:
        if row.kind is RowKind.EVENT and row.command == CLOSED:
            said = _SAID.fullmatch(row.text)
            if said is not None:
                yield JournalEnd(said[1], int(said[2]), said[3])
        elif row.kind is not RowKind.BEGUN:
            return
