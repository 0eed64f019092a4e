"""Samples in an SQLite database, readable while it is being written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from actors import Sample, Waveform
from recorder.errors import TargetExistsError
from recorder.values import VALUE_TYPES

from .base import BlockingSink, closed

# Nothing but the value lacks a type: a column without one keeps what it is given, so that a
# whole number stays one beside a broken one. What follows from other columns is computed on
# reading. There is no index: readings are appended in the order of time and read in it, and
# an index would double the cost of each row.
_SCHEMA: Final = """
CREATE TABLE samples (
    device TEXT NOT NULL,          -- the instrument's name
    address,                       -- the unit on its bus, or the bus
    protocol TEXT NOT NULL,        -- the instrument's family
    parameter TEXT NOT NULL,       -- what was read
    parameter_id,                  -- its name or number on the wire
    instance INTEGER NOT NULL,     -- loop or channel, from 1
    value,                         -- as read; NULL where unavailable, or a float that is NaN
    value_type TEXT NOT NULL,      -- float, int, bool (0 or 1), text, none; an int beyond
                                   -- 64 bits is kept as its digits
    unit TEXT,                     -- NULL for plain numbers and texts
    requested_ns INTEGER NOT NULL, -- monotonic: just before the request's first byte
    received_ns INTEGER NOT NULL,  -- monotonic: the reply was complete
    received_utc_ns INTEGER NOT NULL, -- wall clock at received_ns, ns since 1970
    t_midpoint_mono_ns INTEGER,    -- middle of the device's own integration, monotonic
    t_mono_ns INTEGER GENERATED ALWAYS AS ((requested_ns + received_ns) / 2) VIRTUAL,
    t_utc_ns INTEGER GENERATED ALWAYS AS
        (received_utc_ns - received_ns + (requested_ns + received_ns) / 2) VIRTUAL
);
CREATE TABLE waveforms (
    device TEXT NOT NULL,
    parameter TEXT NOT NULL,
    instance INTEGER NOT NULL,
    unit TEXT,
    t_mono_ns INTEGER NOT NULL,    -- that of its row in samples
    axis_name TEXT NOT NULL,
    axis_unit TEXT NOT NULL,
    axis BLOB NOT NULL,            -- 64-bit floats, little endian
    "values" BLOB NOT NULL         -- as many, likewise
);
CREATE VIEW readings AS
SELECT
    strftime('%Y-%m-%dT%H:%M:%S', t_utc_ns / 1000000000, 'unixepoch')
        || printf('.%06dZ', t_utc_ns / 1000 % 1000000) AS t_utc,
    device,
    parameter,
    instance,
    CASE
        WHEN value_type = 'bool' THEN CASE value WHEN 0 THEN 'false' ELSE 'true' END
        WHEN value_type = 'float' AND value IS NULL THEN 'nan'
        ELSE value
    END AS value,
    unit,
    (received_ns - requested_ns) / 1e6 AS latency_ms
FROM samples;
"""

_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_WIDTH: Final = 13
_INSERT: Final = (
    "INSERT INTO samples (device, address, protocol, parameter, parameter_id, instance, value,"
    " value_type, unit, requested_ns, received_ns, received_utc_ns, t_midpoint_mono_ns) VALUES "
)
_INSERT_WAVEFORM: Final = "INSERT INTO waveforms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROWS_AT_ONCE: Final = 50
"""Rows in one statement: half as much again per second as one by one. Well below the bound
of 999 placeholders that old libraries have."""
_LONGEST_INT: Final = 1 << 63
_INSERT_ROW: Final = _INSERT + _ROW
_INSERT_BLOCK: Final = _INSERT + ", ".join([_ROW] * _ROWS_AT_ONCE)


class Synchronous(Enum):
    """What an acknowledged row survives."""

    NORMAL = "NORMAL"
    """The death of the process. A power cut may take the last rows, never the file."""

    FULL = "FULL"
    """A power cut too, as far as the disk keeps its word; each batch waits for the disk."""


class SqliteSink(BlockingSink):
    """Keeps samples in the table `samples` of a new database; `readings` shows them as text.

    The database is in WAL mode: others may read it meanwhile, on this machine. A batch is
    one transaction; `synchronous` says what it survives once acknowledged.

    Attributes:
        path: The database.
        synchronous: What an acknowledged row survives.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = Synchronous.NORMAL,
    ) -> None:
        """Write to `path`, which must be on a local disk."""
        super().__init__()
        self.path = Path(path)
        self.synchronous = synchronous
        self.name = self.path.name
        self._connection: sqlite3.Connection | None = None

    def may_retry(self, error: Exception) -> bool:
        """Return whether the same rows may find room or a free database later."""
        return isinstance(error, (OSError, sqlite3.OperationalError))

    def open_blocking(self) -> None:
        """Make the database.

        Raises:
            TargetExistsError: The file is already there.
        """
        try:
            self.path.touch(exist_ok=False)
        except FileExistsError:
            raise TargetExistsError(str(self.path)) from None
        # Calls come one at a time, but each may come from another thread.
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self.synchronous.value}")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")

    def write(self, samples: Sequence[Sample]) -> None:
        """Insert the samples in one transaction.

        Raises:
            SinkClosedError: The sink is not open.
            sqlite3.Error: The database refused; none of the samples is in it.
        """
        waveforms = [_waveform(each, each.waveform) for each in samples if each.waveform]
        try:
            self._commit(_flatten(samples), waveforms)
        except (OverflowError, UnicodeEncodeError):
            # Rare enough that the usual rows are not searched for them.
            self._commit([_fitting(cell) for cell in _flatten(samples)], waveforms)

    def _commit(self, cells: list[object], waveforms: list[tuple[object, ...]]) -> None:
        connection = self._connection
        if connection is None:
            raise closed(self.name)
        block = _WIDTH * _ROWS_AT_ONCE
        whole = len(cells) - len(cells) % block
        connection.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, whole, block):
                connection.execute(_INSERT_BLOCK, cells[start : start + block])
            for start in range(whole, len(cells), _WIDTH):
                connection.execute(_INSERT_ROW, cells[start : start + _WIDTH])
            if waveforms:
                connection.executemany(_INSERT_WAVEFORM, waveforms)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close_blocking(self) -> None:
        """Fold the log into the database and close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __repr__(self) -> str:
        """Return the path and whether it is open."""
        return f"<SqliteSink {self.path} {'closed' if self._connection is None else 'open'}>"


def _flatten(samples: Iterable[Sample]) -> list[object]:
    cells: list[object] = []
    for sample in samples:
        value = sample.value
        cells += (
            sample.device,
            sample.address,
            sample.protocol,
            sample.parameter,
            sample.parameter_id,
            sample.instance,
            value,
            VALUE_TYPES[type(value)],
            sample.unit,
            sample.requested_ns,
            sample.received_ns,
            sample.received_utc_ns,
            sample.t_midpoint_mono_ns,
        )
    return cells


def _waveform(sample: Sample, waveform: Waveform) -> tuple[object, ...]:
    return (
        sample.device,
        sample.parameter,
        sample.instance,
        sample.unit,
        sample.t_mono_ns,
        waveform.axis_name,
        waveform.axis_unit,
        waveform.axis.astype("<f8").tobytes(),
        waveform.values.astype("<f8").tobytes(),
    )


def _fitting(cell: object) -> object:
    """Return what the database can hold: the digits of a long number, text without halves.

    A text decoded from a garbled reply may hold half of a pair of code points.
    """
    match cell:
        case int() if not -_LONGEST_INT <= cell < _LONGEST_INT:
            return str(cell)
        case str():
            return cell.encode(errors="backslashreplace").decode()
        case _:
            return cell
