"""Samples in a PostgreSQL table, each exactly once even where the server fails meanwhile."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from actors import Sample
from recorder.errors import RecorderError
from recorder.extras import need
from recorder.tables import split_value
from recorder.values import VALUE_TYPES

from .base import BlockingSink, closed

_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_CONNECT_S: Final = 5
_LOCK: Final = 4_730_186_225

_COLUMNS: Final = {
    "run": "text NOT NULL",
    "device": "text NOT NULL",
    "address": "text NOT NULL",
    "protocol": "text NOT NULL",
    "parameter": "text NOT NULL",
    "parameter_id": "text NOT NULL",
    "instance": "integer NOT NULL",
    "value": "double precision",
    "value_int": "bigint",
    "value_text": "text",
    "value_type": "text NOT NULL",
    "unit": "text",
    "t_utc": "timestamptz NOT NULL",
    "t_utc_ns": "bigint NOT NULL",
    "t_mono_ns": "bigint NOT NULL",
    "requested_ns": "bigint NOT NULL",
    "received_ns": "bigint NOT NULL",
    "received_utc_ns": "bigint NOT NULL",
    "t_midpoint_mono_ns": "bigint",
}
_TYPES: Final = [kind.removesuffix(" NOT NULL") for kind in _COLUMNS.values()]


class PostgresSink(BlockingSink):
    """Appends samples to a table of a PostgreSQL server; the extra "postgres" is needed.

    The table is made where it is missing and shared by all runs; `run` tells them apart. An
    acknowledged sample is committed: it survives what the server's own settings promise.
    Waveforms go to `<table>_waveforms`.

    A batch is one transaction, which also counts this sink's rows in `<table>_writers`. After
    a lost connection that count says whether the last batch was committed before the
    acknowledgement was lost, so that writing it again writes nothing twice.

    Attributes:
        table: The table.
        run: What the rows of this sink are called.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        run: str,
        table: str = "samples",
        spill: str | os.PathLike[str] | None = None,
    ) -> None:
        """Write to a server.

        Args:
            conninfo: How to reach it, as libpq understands it.
            run: What the rows of this recording are called.
            table: A name of lower case letters, digits and underscores.
            spill: The journal for when the server is away, on a local disk; None for a file
                in the working directory.

        Raises:
            ValueError: The table's name is something else.
        """
        super().__init__()
        if not _IDENTIFIER.fullmatch(table):
            raise ValueError(f"{table!r} is no name of a table: a-z, 0-9 and _")
        self.table = table
        self.run = run
        self.name = f"postgres-{table}"
        self._conninfo = conninfo
        self._writer = f"{run}-{secrets.token_hex(8)}"
        self._spill = Path(spill or f"{self.name}-{self._writer}.spill.jsonl")
        self._connection: Any = None
        self._opened = False
        self._acknowledged = 0

    @property
    def spill_path(self) -> Path | None:
        """The journal for when the server is away."""
        return self._spill

    def may_retry(self, error: Exception) -> bool:
        """Return whether the server may take the same samples later."""
        psycopg = need("psycopg", "postgres")
        return isinstance(error, (OSError, psycopg.OperationalError, psycopg.InterfaceError))

    def open_blocking(self) -> None:
        """Connect, and make the tables where they are missing.

        Raises:
            MissingExtraError: psycopg is not installed.
            RecorderError: A table of that name has other columns.
            psycopg.Error: The server cannot be reached, or refuses.
        """
        connection = self._connect()
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        with connection.transaction():
            # Two recordings that begin at once must not both make the tables.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(self._sql(f"CREATE TABLE IF NOT EXISTS {{samples}} ({columns})"))
            connection.execute(
                self._sql(
                    "CREATE TABLE IF NOT EXISTS {writers}"
                    " (writer text PRIMARY KEY, run text NOT NULL, rows bigint NOT NULL)"
                )
            )
            connection.execute(
                self._sql(
                    "CREATE TABLE IF NOT EXISTS {waveforms}"
                    " (run text NOT NULL, device text NOT NULL, parameter text NOT NULL,"
                    " instance integer NOT NULL, unit text, t_mono_ns bigint NOT NULL,"
                    " axis_name text NOT NULL, axis_unit text NOT NULL,"
                    ' axis double precision[] NOT NULL, "values" double precision[] NOT NULL)'
                )
            )
            found = connection.execute(self._sql("SELECT * FROM {samples} LIMIT 0")).description
            if [column.name for column in found] != list(_COLUMNS):
                raise RecorderError(f"the table {self.table} has other columns; choose a new name")
            connection.execute(
                self._sql("INSERT INTO {writers} VALUES (%s, %s, 0)"), (self._writer, self.run)
            )
        self._opened = True

    def write(self, samples: Sequence[Sample]) -> None:
        """Copy the samples into the table in one transaction, unless they are in it already.

        Raises:
            SinkClosedError: The sink is not open.
            psycopg.Error: The server is away, or refused; write the same samples again.
        """
        if not self._opened:
            raise closed(self.name)
        try:
            if self._connection is None:
                self._connect()
            self._commit(samples)
        except Exception:
            # Whatever it was, the next write begins with a connection that is in order.
            self._disconnect()
            raise
        self._acknowledged += len(samples)

    def _commit(self, samples: Sequence[Sample]) -> None:
        connection = self._connection
        names = ", ".join(_COLUMNS)
        with connection.transaction():
            # Waits for a transaction of a connection that was lost, whatever becomes of it.
            counted = connection.execute(
                self._sql("SELECT rows FROM {writers} WHERE writer = %s FOR UPDATE"),
                (self._writer,),
            ).fetchone()[0]
            left = samples[counted - self._acknowledged :]
            if not left:
                return
            with connection.cursor() as cursor:
                copying = self._sql(f"COPY {{samples}} ({names}) FROM STDIN (FORMAT binary)")
                with cursor.copy(copying) as copy:
                    copy.set_types(_TYPES)
                    for sample in left:
                        copy.write_row(_row(self.run, sample))
                cursor.executemany(
                    self._sql(
                        "INSERT INTO {waveforms} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                    ),
                    _waveforms(self.run, left),
                )
            connection.execute(
                self._sql("UPDATE {writers} SET rows = %s WHERE writer = %s"),
                (counted + len(left), self._writer),
            )

    def close_blocking(self) -> None:
        """Close the connection."""
        self._opened = False
        self._disconnect()

    def _sql(self, text: str) -> Any:
        """Return a statement with the names of this sink's tables in it."""
        sql = need("psycopg.sql", "postgres")
        return sql.SQL(text).format(
            samples=sql.Identifier(self.table),
            writers=sql.Identifier(f"{self.table}_writers"),
            waveforms=sql.Identifier(f"{self.table}_waveforms"),
        )

    def _connect(self) -> Any:
        psycopg = need("psycopg", "postgres")
        self._connection = psycopg.connect(
            self._conninfo, autocommit=True, connect_timeout=_CONNECT_S
        )
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __repr__(self) -> str:
        """Return the table and whether it is open."""
        return f"<PostgresSink {self.table} {'open' if self._opened else 'closed'}>"


def _row(run: str, sample: Sample) -> tuple[object, ...]:
    kind = VALUE_TYPES[type(sample.value)]
    number, whole, text = split_value(sample.value, kind)
    mono_ns = sample.t_mono_ns
    return (
        run,
        _clean(sample.device),
        _clean(str(sample.address)),
        sample.protocol,
        sample.parameter,
        _clean(str(sample.parameter_id)),
        sample.instance,
        number,
        whole,
        None if text is None else _clean(text),
        kind,
        None if sample.unit is None else _clean(sample.unit),
        sample.t_utc,
        sample.t_utc_ns,
        mono_ns,
        sample.requested_ns,
        sample.received_ns,
        sample.received_utc_ns,
        sample.t_midpoint_mono_ns,
    )


def _waveforms(run: str, samples: Sequence[Sample]) -> list[tuple[object, ...]]:
    return [
        (
            run,
            sample.device,
            sample.parameter,
            sample.instance,
            sample.unit,
            sample.t_mono_ns,
            sample.waveform.axis_name,
            sample.waveform.axis_unit,
            sample.waveform.axis.tolist(),
            sample.waveform.values.tolist(),
        )
        for sample in samples
        if sample.waveform is not None
    ]


def _clean(text: str) -> str:
    """Return a text that the server takes: without NUL and without halves of code points."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
