"""Whether a journal can be believed.

Rules:
1. What was changed, added or taken out is found, up to the end; and the end, where it was kept.
2. Nothing follows the end but a gap, which says only that something is missing.
3. Everything is read once, in order, and memory does not grow with it.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from attrs import field, frozen

from actors import Batch, Cell, Chain, JournalRow, Replay, RowKind, first_seal

from .journal_file import CELLS, SCHEMA, heading, reading

_BATCHES: Final = "SELECT number, previous, seal, last FROM batches ORDER BY number"
_ENTRIES: Final = f"SELECT {CELLS} FROM entries WHERE number BETWEEN ? AND ? ORDER BY number"  # noqa: S608 - names of columns
_PARTS: Final = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
_TROUBLES_KEPT: Final = 20


@frozen
class JournalReport:
    """What a journal holds, and whether it can be believed.

    Attributes:
        tree: The tree it is of.
        run: The run it is of.
        batches: How many batches hold together, from the first.
        rows: How many rows they have.
        seal: The last one's seal, in hexadecimal digits.
        broken: Where the chain breaks and how, or None.
        troubles: Rows that go against the table of commands, as far as the chain holds.
        commands: How many journaled commands have ended.
        open: The last rows of those that have not.
        ended: Whether the journal was closed.
    """

    tree: str
    run: str
    batches: int
    rows: int
    seal: str
    broken: str | None
    troubles: Sequence[str]
    commands: int
    open: Sequence[JournalRow] = field(repr=False)
    ended: bool

    @property
    def sound(self) -> bool:
        """Whether the chain holds and every command moved along the table."""
        return self.broken is None and not self.troubles


def check_journal(
    path: Path, *, anchor: tuple[int, str] | None = None, unended: bool = False
) -> JournalReport:
    """Read a whole journal and return whether it can be believed.

    Args:
        path: The file.
        anchor: The last batch's number and seal, kept elsewhere when the journal was closed:
            it must end there.
        unended: Whether its end could not be written, so that the last batch is not sure.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    check = _Check()
    with reading(path) as database:
        database.execute("BEGIN")
        tree, run = heading(path, database)
        chain = Chain(first_seal(tree, run))
        broken = _altered_part(database)
        batches: Iterator[tuple[Batch, int]] = _batches(database) if broken is None else iter(())
        for batch, last in batches:
            broken = (
                chain.check(batch)
                or _wrong_end(chain, last, anchor, unended)
                or check.read(batch.cells)
            )
            if broken is not None:
                break
        if broken is None:
            broken = _beyond(database, chain, anchor)
        if broken is None and anchor is not None and not (check.ended or unended):
            broken = "it has no end, though it was closed"
    troubles = check.troubles
    if check.ended:
        troubles += [f"command {seq} never ended" for seq in check.replay.open]
    return JournalReport(
        tree=tree,
        run=run,
        batches=chain.batches,
        rows=chain.rows,
        seal=chain.seal.hex(),
        broken=broken,
        troubles=troubles[:_TROUBLES_KEPT],
        commands=check.replay.ended,
        open=tuple(check.replay.open.values()),
        ended=check.ended,
    )


class _Check:
    """What the rows of sealed batches say, in their order."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.troubles: list[str] = []
        self.ended = False

    def read(self, rows: Sequence[Sequence[Cell]]) -> str | None:
        """Take the rows of the next batch and return what cannot be there, or None."""
        for cells in rows:
            try:
                row = JournalRow.from_cells(cells)
                trouble = self.replay.step(row)
            except ValueError as error:
                row, trouble = None, str(error)
            if self.ended and (row is None or row.kind is not RowKind.GAP):
                return f"row {cells[0]} follows the end of the journal"
            self.ended = self.ended or (row is not None and row.kind is RowKind.ENDED)
            if trouble is not None and len(self.troubles) < _TROUBLES_KEPT:
                self.troubles.append(f"row {cells[0]}: {trouble}")
        return None


def _batches(database: sqlite3.Connection) -> Iterator[tuple[Batch, int]]:
    """Yield the batches, each with the number that its last row is said to have."""
    first = 1
    for number, previous, seal, last in database.execute(_BATCHES):
        cells = database.execute(_ENTRIES, (first, last)).fetchall()
        yield Batch(number, previous, seal, cells), last
        first = last + 1


def _altered_part(database: sqlite3.Connection) -> str | None:
    """Return which table or view is not as every journal has it, or None."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        due = fresh.execute(_PARTS).fetchall()
    found = database.execute(_PARTS).fetchall()
    if found == due:
        return None
    kind, name, _ = next(iter(sorted(set(found) ^ set(due), key=str)))
    return f"the {kind} {name!r} is not as this program made it"


def _wrong_end(
    chain: Chain, last: int, anchor: tuple[int, str] | None, unended: bool
) -> str | None:
    """Return what is wrong with where a batch ends that is otherwise right, or None."""
    if last != chain.rows:
        return f"batch {chain.batches} is said to end with row {last}, and ends with {chain.rows}"
    if anchor is None or chain.batches < anchor[0]:
        return None
    if chain.batches > anchor[0]:
        if unended:
            return None
        return f"batch {chain.batches} was added: the journal was closed with batch {anchor[0]}"
    if chain.seal.hex() != anchor[1]:
        return f"batch {chain.batches} is not the one that the run ended with"
    return None


def _beyond(
    database: sqlite3.Connection, chain: Chain, anchor: tuple[int, str] | None
) -> str | None:
    """Return what is wrong behind the last batch, or None."""
    (rows,) = database.execute("SELECT count(*) FROM entries").fetchone()
    if rows != chain.rows:
        return f"{rows - chain.rows} rows are in no batch"
    if anchor is not None and chain.batches < anchor[0]:
        return f"batches {chain.batches + 1}-{anchor[0]} are missing at the end"
    return None
