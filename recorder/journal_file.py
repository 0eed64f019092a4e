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
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import field, frozen

from actors import COLUMNS, Batch, Chain, JournalRow, Replay, RowKind, closing_row, first_seal

from .errors import JournalError, TargetExistsError
from .run import RunState, find_runs, holding, sync_folder

JOURNAL_FILE: Final = "journal.sqlite"
"""The journal of a run, in its folder."""

_SCHEMA: Final = """
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

_FORMAT: Final = 1
_CELLS: Final = ", ".join(COLUMNS)
_INSERT_BATCH: Final = "INSERT INTO batches (number, previous, seal, last) VALUES (?, ?, ?, ?)"
_INSERT_ENTRY: Final = f"INSERT INTO entries VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - question marks
_HEAD: Final = "SELECT number, seal, last FROM batches ORDER BY number DESC LIMIT 1"
_BATCHES: Final = "SELECT number, previous, seal, last FROM batches ORDER BY number"
_ENTRIES: Final = f"SELECT {_CELLS} FROM entries WHERE number BETWEEN ? AND ? ORDER BY number"  # noqa: S608 - names of columns
_OPEN: Final = f"SELECT {_CELLS} FROM entries WHERE kind = 'command' ORDER BY number"  # noqa: S608 - names of columns
_TROUBLES_KEPT: Final = 20


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
        connection = _connect(self.path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?)", (_FORMAT, self._tree, self._run)
            )
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
            OSError: The file is gone, or cannot be made again.
            sqlite3.Error: It cannot be written.
        """
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
        connection = self._connection or _connect(self.path)
        self._connection = connection
        self._file = _identity(self.path)
        head = connection.execute(_HEAD).fetchone()
        unsure = self._unsure
        if unsure is not None and head is not None and head[:2] == (unsure.number, unsure.seal):
            self.chain.follow(unsure)
        return connection


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


def check_journal(path: Path, *, anchor: tuple[int, str] | None = None) -> JournalReport:
    """Read a whole journal and return whether it can be believed.

    Args:
        path: The file.
        anchor: A batch's number and seal that were kept elsewhere: the chain must hold them.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    replay, troubles, last = Replay(), list[str](), None
    with _reading(path) as database:
        database.execute("BEGIN")
        tree, run = database.execute("SELECT tree, run FROM journal").fetchone()
        chain = Chain(first_seal(tree, run))
        broken: str | None = None
        for batch in _batches(database):
            broken = chain.check(batch)
            if broken is None and anchor is not None and batch.number == anchor[0]:
                broken = _compare(batch, anchor[1])
            if broken is not None:
                break
            for cells in batch.cells:
                try:
                    last = JournalRow.from_cells(cells)
                    trouble = replay.step(last)
                except ValueError as error:
                    trouble = str(error)
                if trouble is not None and len(troubles) < _TROUBLES_KEPT:
                    troubles.append(f"row {cells[0]}: {trouble}")
        if broken is None:
            broken = _beyond(database, chain, anchor)
    ended = last is not None and last.kind is RowKind.ENDED
    if ended:
        troubles += [f"command {seq} never ended" for seq in replay.open]
    return JournalReport(
        tree=tree,
        run=run,
        batches=chain.batches,
        rows=chain.rows,
        seal=chain.seal.hex(),
        broken=broken,
        troubles=troubles[:_TROUBLES_KEPT],
        commands=replay.ended,
        open=tuple(replay.open.values()),
        ended=ended,
    )


def finish_journal(path: Path, *, by: str, utc_ms: int, mono_ns: int) -> int | None:
    """Close what a killed process left open in its journal, and return how many commands.

    None where it was closed before. Commands that have no outcome fail (crashed), and may
    have been carried out. Nobody else may write to it meanwhile: hold the lock of its run.

    Raises:
        JournalError: It is no journal, or cannot be read or written.
    """
    with _explained(path), closing(_connect(path)) as database:
        number, seal, last = database.execute(_HEAD).fetchone() or (0, None, 0)
        kind = database.execute("SELECT kind FROM entries WHERE number = ?", (last,)).fetchone()
        if kind == (RowKind.ENDED.value,):
            return None
        tree, run = database.execute("SELECT tree, run FROM journal").fetchone()
        replay = Replay()
        for cells in database.execute(_OPEN):
            with suppress(ValueError):  # what makes no sense is for `check_journal` to say
                replay.step(JournalRow.from_cells(cells))
        rows = [closing_row(row, utc_ms=utc_ms, mono_ns=mono_ns) for row in replay.open.values()]
        ended = JournalRow(
            kind=RowKind.ENDED,
            utc_ms=utc_ms,
            mono_ns=mono_ns,
            target=f"benchtree://{tree}",
            text=f"its process was killed; closed by {by}",
        )
        file = JournalFile(path, tree=tree, run=run)
        if seal is not None:
            file.chain = Chain(seal, number, last)
        with closing(file):
            file.append([*rows, ended], durable=True)
    return len(rows)


@frozen
class FinishedJournal:
    """What was done about the journal of a run whose process was killed.

    Attributes:
        run: The run's folder.
        commands: How many commands had no outcome.
        error: Why it could not be closed, or None.
    """

    run: Path
    commands: int
    error: str | None


def finish_killed_journals(
    root: Path, *, tree: str, by: str, utc_ms: int, mono_ns: int
) -> Sequence[FinishedJournal]:
    """Close the journals of a tree's runs that were killed; return those that were open.

    Args:
        root: The folder of all runs.
        tree: The tree's name.
        by: Who closes them, in words.
        utc_ms: The wall clock, in ms since 1970.
        mono_ns: The monotonic clock.
    """
    finished: list[FinishedJournal] = []
    for info in find_runs(root):
        path = info.path / JOURNAL_FILE
        if info.state is not RunState.KILLED or info.metadata.get("tree") != tree:
            continue
        try:
            with holding(info.path) as held:
                commands = None
                if held and path.is_file():
                    commands = finish_journal(path, by=by, utc_ms=utc_ms, mono_ns=mono_ns)
        except (JournalError, OSError, sqlite3.Error) as error:
            finished.append(FinishedJournal(info.path, 0, str(error)))
        else:
            if commands is not None:
                finished.append(FinishedJournal(info.path, commands, None))
    return finished


def read_entries(
    path: Path, where: str = "1", values: Sequence[object] = (), *, after: int = 0
) -> Iterator[tuple[int, JournalRow]]:
    """Yield the rows of a journal that fulfil a condition, with their numbers, in order.

    Args:
        path: The file.
        where: An SQL condition over the columns of `entries`.
        values: What its question marks stand for.
        after: The number that the first row is beyond.

    Raises:
        JournalError: It is no journal, or cannot be read.
    """
    query = f"SELECT {_CELLS} FROM entries WHERE number > ? AND ({where}) ORDER BY number"  # noqa: S608 - a condition of the program's own
    with _reading(path) as database:
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
    with _reading(path) as database:
        (last,) = database.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        return int(last)


def _batches(database: sqlite3.Connection) -> Iterator[Batch]:
    first = 1
    for number, previous, seal, last in database.execute(_BATCHES):
        cells = database.execute(_ENTRIES, (first, last)).fetchall()
        yield Batch(number, previous, seal, cells)
        first = last + 1


def _compare(batch: Batch, seal: str) -> str | None:
    if batch.seal.hex() == seal:
        return None
    return f"batch {batch.number} is not the one that the run ended with"


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


def _connect(path: Path) -> sqlite3.Connection:
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
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    """Open a journal to read it, and say what is wrong with it in its own words."""
    if not path.is_file():
        raise JournalError(f"{path.parent} has no journal")
    with _explained(path):
        # Whoever only looks changes nothing. Where there is no log beside it, nobody writes to
        # it: the database then needs no help of other files, and leaves none.
        live = path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            yield database


@contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, TypeError) as error:
        raise JournalError(f"{path} cannot be read as a journal: {error}") from error
