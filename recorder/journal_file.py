"""A journal in an SQLite file: appended to by one process, read by any.

Rules:
1. A batch is there completely or not at all, and what was appended survives a `kill -9`.
2. A durable batch, and all before it, survives a power cut as well; of the others the last
   moments may be lost, never the order or the soundness of the rest.
3. Nothing is overwritten. A file that vanished is begun anew, and its chain shows that what
   came before is missing.

Everything here blocks; call it in a thread, from one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from actors import COLUMNS, Batch, Chain, JournalRow, RowKind, first_seal

from .errors import JournalError, TargetExistsError
from .run import sync_folder

JOURNAL_FILE: Final = "journal.sqlite"
"""The journal of a run, in its folder."""

SCHEMA: Final = """
CREATE TABLE journal (format INTEGER NOT NULL, tree TEXT NOT NULL, run TEXT NOT NULL);
CREATE TABLE batches (
    number INTEGER PRIMARY KEY,    -- from 1, without a gap
    previous BLOB NOT NULL,        -- the seal of the batch before it
    seal BLOB NOT NULL,            -- SHA-256 over `previous`, the number and the entries
    last INTEGER NOT NULL          -- its last entry; it begins after the one of the batch before
);
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,    -- from 1, without a gap
    utc_ms INTEGER NOT NULL,       -- wall clock, ms since 1970
    mono_ns INTEGER NOT NULL,      -- monotonic clock of the computer that wrote it
    kind TEXT NOT NULL,            -- command, read, refused, count, event, gap, begun, ended
    seq INTEGER,                   -- the command's number
    state TEXT,                    -- QUEUED, DISPATCHED, ACKNOWLEDGED, COMPLETED, FAILED
    target TEXT NOT NULL,          -- the resource as a URI
    instrument TEXT NOT NULL,
    command TEXT NOT NULL,         -- what is asked; what happened, where it is no command
    caller TEXT NOT NULL,
    lease TEXT NOT NULL,           -- the lease it was asked under, or ''
    attempt INTEGER NOT NULL,      -- how often its first byte was handed over by then
    acknowledgement TEXT NOT NULL, -- what the hardware said
    cause TEXT,                    -- why it failed or was refused
    may_have_executed INTEGER,     -- 0 or 1; NULL while open
    text TEXT NOT NULL,            -- why, in words
    request TEXT NOT NULL          -- what is sent first, its other bytes escaped
);
CREATE VIEW log AS
SELECT
    number,
    strftime('%Y-%m-%dT%H:%M:%S', utc_ms / 1000, 'unixepoch')
        || printf('.%03dZ', utc_ms % 1000) AS utc,
    kind, seq, state, instrument, command, caller, lease, attempt, acknowledgement, cause,
    may_have_executed, text
FROM entries;
"""
"""What a journal's file is made of: to the letter, or somebody else made it."""

CELLS: Final = ", ".join(COLUMNS)
"""The columns of `entries`, in the order of a row's cells."""

HEAD: Final = "SELECT number, seal, last FROM batches ORDER BY number DESC LIMIT 1"
"""Asks for the last batch."""

_FORMAT: Final = 1
_INSERT_BATCH: Final = "INSERT INTO batches (number, previous, seal, last) VALUES (?, ?, ?, ?)"
_INSERT_ENTRY: Final = f"INSERT INTO entries VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - question marks


class JournalFile:
    """The file of a journal that this process writes.

    Attributes:
        path: Where it is.
        chain: How far it goes.
    """

    def __init__(self, path: Path, *, tree: str, run: str) -> None:
        """Name the file; `create` makes it."""
        self.path = path
        self.chain = Chain(first_seal(tree, run))
        self._tree = tree
        self._run = run
        self._connection: sqlite3.Connection | None = None
        # Which file is open: another one may have taken its path since.
        self._file: tuple[int, int] | None = None
        # A batch that failed to commit; it may be in the file all the same.
        self._unsure: Batch | None = None
        self._ended = False

    def __repr__(self) -> str:
        """Return the path and how far it goes."""
        return f"<JournalFile {self.path} {self.chain.rows} rows>"

    def create(self) -> None:
        """Make the file.

        Raises:
            OSError: It cannot be made.
            TargetExistsError: It is there already.
            sqlite3.Error: It cannot be written.
        """
        try:
            self.path.touch(exist_ok=False)
        except FileExistsError:
            raise TargetExistsError(str(self.path)) from None
        connection = connect(self.path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {SCHEMA}")
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?)", (_FORMAT, self._tree, self._run)
            )
            connection.execute("COMMIT")
            sync_folder(self.path.parent)
            self._file = _identity(self.path)
        except BaseException:
            connection.close()
            self.path.unlink(missing_ok=True)
            raise
        self._connection = connection

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Write rows as one batch; `durable` waits until a power cut cannot take them.

        After an error, the next call must begin with the same rows: they may be there.

        Raises:
            JournalError: It was ended: nothing follows that.
            OSError: The file is gone, or cannot be made again.
            sqlite3.Error: It cannot be written.
        """
        if self._ended:
            raise JournalError(f"{self.path} was ended; nothing follows that")
        if self._connection is not None and _identity(self.path) != self._file:
            self.close()
            raise FileNotFoundError(f"{self.path} is gone")
        connection = self._connection or self._reopen()
        unsure, self._unsure = self._unsure, None
        if unsure is not None and unsure.seal == self.chain.seal:
            rows = rows[len(unsure.cells) :]
        if not rows:
            return
        batch = self.chain.link(rows)
        last = self.chain.rows + len(rows)
        try:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT_BATCH, (batch.number, batch.previous, batch.seal, last))
            connection.executemany(_INSERT_ENTRY, batch.cells)
            connection.execute("COMMIT")
        except BaseException:
            self._unsure = batch
            self.close()
            raise
        self.chain.follow(batch)
        self._ended = rows[-1].kind is RowKind.ENDED

    def close(self) -> None:
        """Close the file; closing it again is harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _reopen(self) -> sqlite3.Connection:
        """Open the file again after a failure, or make it again where it is gone."""
        if not self.path.exists():
            self.create()
        connection = self._connection or connect(self.path)
        self._connection = connection
        self._file = _identity(self.path)
        head = connection.execute(HEAD).fetchone()
        unsure = self._unsure
        if unsure is not None and head is not None and head[:2] == (unsure.number, unsure.seal):
            self.chain.follow(unsure)
        return connection


def read_entries(
    path: Path, where: str = "1", values: Sequence[object] = (), *, after: int = 0
) -> Generator[tuple[int, JournalRow]]:
    """Yield the rows of a journal that fulfil a condition, with their numbers, in order.

    Args:
        path: The file.
        where: An SQL condition over the columns of `entries`.
        values: What its question marks stand for.
        after: The number that the first row is beyond.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    query = f"SELECT {CELLS} FROM entries WHERE number > ? AND ({where}) ORDER BY number"  # noqa: S608 - a condition of the program's own
    with reading(path) as database:
        for cells in database.execute(query, (after, *values)):
            try:
                yield cells[0], JournalRow.from_cells(cells)
            except ValueError as error:
                raise JournalError(f"{path}: row {cells[0]} makes no sense: {error}") from error


def last_entry(path: Path) -> int:
    """Return the number of a journal's last row, or 0.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    with reading(path) as database:
        (last,) = database.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        return int(last)


def heading(path: Path, database: sqlite3.Connection) -> tuple[str, str]:
    """Return the tree and the run that a journal is of.

    Raises:
        JournalError: It does not say so, or in a format that is not known here.
    """
    found = database.execute("SELECT format, tree, run FROM journal LIMIT 2").fetchall()
    match found:
        case [(int(known), str(tree), str(run))] if known == _FORMAT:
            return tree, run
        case [(number, str(), str())]:
            raise JournalError(
                f"{path} is a journal of format {number!r}; format {_FORMAT} is read here"
            )
        case []:
            raise JournalError(f"{path} does not say which tree and run it is of")
        case _:
            raise JournalError(f"{path} says more than once, or garbled, which run it is of")


def connect(path: Path) -> sqlite3.Connection:
    """Open a journal to write it."""
    # Calls come one at a time, but each may come from another thread.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=1.0,
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """Open a journal to read it, and say what is wrong with it in its own words."""
    if not path.is_file():
        raise JournalError(f"{path.parent} has no journal")
    with explained(path):
        # Whoever only looks changes nothing. Where there is no log beside it, nobody writes to
        # it: the database then needs no help of other files, and leaves none.
        live = path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            yield database


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Say what is wrong with a file in words of journals."""
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read as a journal: {error}") from error
    except TypeError as error:
        raise JournalError(
            f"{path} cannot be read as a journal: it holds a value of a kind that none has"
        ) from error
