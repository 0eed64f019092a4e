"""Sinks, on real files."""

from __future__ import annotations

import csv
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from enum import IntEnum
from pathlib import Path
from typing import cast

import pytest
import trio
from attrs import evolve

from actors import SampleKey, Value
from recorder import (
    CsvSink,
    MemorySink,
    MissingExtraError,
    SinkClosedError,
    SqliteSink,
    Synchronous,
    TargetExistsError,
    need,
)

from .sources import make_sample

TYPE_WORDS = ["int", "float", "float", "none", "text", "bool", "int", "float", "text"]
VALUES: list[Value] = [20, 20.9, float("nan"), None, "20", True, 1 << 70, float("inf"), ""]


class Mode(IntEnum):
    """A value that is more than its type."""

    AUTO = 3


@pytest.fixture(params=[CsvSink, SqliteSink])
def make_sink(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], CsvSink | SqliteSink]:
    """Return a function that makes sinks for one and the same file."""
    kind: type[CsvSink] | type[SqliteSink] = request.param
    return lambda: kind(tmp_path / "samples")


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


async def test_nothing_is_overwritten(make_sink: Callable[[], CsvSink | SqliteSink]) -> None:
    """A sink whose file is there refuses to open, and leaves the file as it was."""
    async with make_sink() as sink:
        sink.write([make_sample()])
    before = sink.path.read_bytes()
    with pytest.raises(TargetExistsError, match="samples"):
        async with make_sink():
            pytest.fail("it opened")
    assert sink.path.read_bytes() == before


async def test_sink_that_is_not_open_refuses(
    make_sink: Callable[[], CsvSink | SqliteSink],
) -> None:
    """Writing before opening or after closing is an error, and closing twice is none."""
    sink = make_sink()
    with pytest.raises(SinkClosedError, match="samples"):
        sink.write([make_sample()])
    await sink.open()
    assert "open" in repr(sink)
    await sink.aclose()
    await sink.aclose()
    assert "closed" in repr(sink)
    with pytest.raises(SinkClosedError, match="samples"):
        sink.write([make_sample()])


async def test_cancelled_opening_leaves_nothing_open(
    make_sink: Callable[[], CsvSink | SqliteSink],
) -> None:
    """A sink entered in a cancelled scope is closed again."""
    sink = make_sink()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with sink:
            await trio.lowlevel.checkpoint()
    assert "closed" in repr(sink)


async def test_sqlite_types_do_not_narrow(tmp_path: Path) -> None:
    """In one series, whole numbers, floats, texts, truth values and nothing stay what they are."""
    async with SqliteSink(tmp_path / "samples.sqlite") as sink:
        sink.write([make_sample(value=value) for value in VALUES])
        sink.write([make_sample(value=Mode.AUTO)])
    rows = query(sink.path, "SELECT value, typeof(value), value_type FROM samples")
    assert rows == [
        (20, "integer", "int"),
        (20.9, "real", "float"),
        (None, "null", "float"),
        (None, "null", "none"),
        ("20", "text", "text"),
        (1, "integer", "bool"),
        (str(1 << 70), "text", "int"),
        (float("inf"), "real", "float"),
        ("", "text", "text"),
        (3, "integer", "int"),
    ]


async def test_sqlite_keeps_every_stamp(tmp_path: Path) -> None:
    """Stamps are whole nanoseconds, and the midpoints follow from them."""
    sample = make_sample(
        SampleKey("zone1", "process_value", 2),
        requested_ns=10**15 + 1,
        received_ns=10**15 + 20_000_001,
        received_utc_ns=1_767_225_600_123_456_789,
    )
    integrating = evolve(sample, t_midpoint_mono_ns=10**15 + 5)
    async with SqliteSink(tmp_path / "samples.sqlite", synchronous=Synchronous.FULL) as sink:
        sink.write([sample, integrating])
    rows = query(
        sink.path,
        "SELECT device, address, protocol, parameter, parameter_id, instance, unit, requested_ns,"
        " received_ns, t_mono_ns, t_utc_ns, t_midpoint_mono_ns FROM samples",
    )
    stamps = (sample.requested_ns, sample.received_ns, sample.t_mono_ns, sample.t_utc_ns)
    head = ("zone1", 1, "test", "process_value", 100, 2, "degC")
    assert rows == [(*head, *stamps, None), (*head, *stamps, 10**15 + 5)]


async def test_sqlite_view_reads_like_a_logbook(tmp_path: Path) -> None:
    """The view shows UTC as text, truth values as words, and how long each read took."""
    samples = [make_sample(value=value) for value in (20.5, True, False, float("nan"), None)]
    async with SqliteSink(tmp_path / "samples.sqlite") as sink:
        sink.write(samples)
    rows = query(sink.path, "SELECT t_utc, value, unit, latency_ms FROM readings")
    assert [row[1] for row in rows] == [20.5, "true", "false", "nan", None]
    assert rows[0] == ("2026-01-01T00:00:00.000002Z", 20.5, "degC", 0.002)


async def test_sqlite_is_readable_while_it_is_written(tmp_path: Path) -> None:
    """Another connection sees every acknowledged batch at once."""
    async with SqliteSink(tmp_path / "samples.sqlite") as sink:
        for count in (1, 2, 3):
            sink.write([make_sample()])
            assert query(sink.path, "SELECT count(*) FROM samples") == [(count,)]


@pytest.mark.parametrize("power_safe", [False, True])
async def test_csv_holds_every_column(tmp_path: Path, power_safe: bool) -> None:
    """Each row reads back with its types, and every batch is in the file at once."""
    rows: list[dict[str, str]] = []
    async with CsvSink(tmp_path / "samples.csv", power_safe=power_safe) as sink:
        for value in VALUES:
            sink.write([make_sample(SampleKey("oven, the big one", "temperature"), value)])
            with sink.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert rows[-1]["value"] == ("" if value is None else str(value))
    assert [row["value_type"] for row in rows] == TYPE_WORDS
    assert rows[0] == {
        "t_utc": "2026-01-01T00:00:00.000002Z",
        "device": "oven, the big one",
        "address": "1",
        "protocol": "test",
        "parameter": "temperature",
        "parameter_id": "100",
        "instance": "1",
        "value": "20",
        "value_type": "int",
        "unit": "degC",
        "t_utc_ns": "1767225600000002000",
        "t_mono_ns": "2000",
        "requested_ns": "1000",
        "received_ns": "3000",
        "t_midpoint_mono_ns": "",
    }


async def test_csv_seconds_roll_over(tmp_path: Path) -> None:
    """The text of the time follows its nanoseconds across seconds, and back."""
    utc_ns = [1_767_225_599_999_999_999, 1_767_225_600_000_000_000, 1_767_225_599_000_001_000]
    async with CsvSink(tmp_path / "samples.csv") as sink:
        sink.write(
            [make_sample(requested_ns=1, received_ns=1, received_utc_ns=stamp) for stamp in utc_ns]
        )
    rows = list(csv.DictReader(sink.path.read_text().splitlines()))
    assert [row["t_utc"] for row in rows] == [
        "2025-12-31T23:59:59.999999Z",
        "2026-01-01T00:00:00.000000Z",
        "2025-12-31T23:59:59.000001Z",
    ]


def count_rows(sink: CsvSink | SqliteSink) -> int:
    """Return how many samples a sink's file holds."""
    if isinstance(sink, CsvSink):
        return sink.path.read_bytes().count(b"\n") - 1
    ((count,),) = query(sink.path, "SELECT count(*) FROM samples")
    assert isinstance(count, int)
    return count


async def test_a_batch_that_does_not_fit_is_taken_back(
    make_sink: Callable[[], CsvSink | SqliteSink],
) -> None:
    """When the disk is full in the middle of a batch, no part of that batch is kept."""
    resource = pytest.importorskip("resource")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with make_sink() as sink:
            sink.write([make_sample()] * 3)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            with pytest.raises((OSError, sqlite3.Error)):
                sink.write([make_sample()] * 20_000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert count_rows(sink) == 3
            sink.write([make_sample()] * 60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert count_rows(sink) == 63


async def test_garbled_text_does_not_stop_a_sink(
    make_sink: Callable[[], CsvSink | SqliteSink],
) -> None:
    """A text that is no Unicode is kept in an escaped form."""
    async with make_sink() as sink:
        sink.write([make_sample(value="\udcff")])
    assert b"\\udcff" in sink.path.read_bytes()


async def test_memory_sink_keeps_samples_as_they_are() -> None:
    """What comes out is what went in."""
    samples = [make_sample(value=value) for value in VALUES]
    async with MemorySink() as sink:
        sink.write(samples)
    assert all(kept is given for kept, given in zip(sink.samples, samples, strict=True))
    assert "9 samples" in repr(sink)


@pytest.mark.parametrize("kind", [CsvSink, SqliteSink])
async def test_value_of_no_known_type_is_refused(
    tmp_path: Path, kind: type[CsvSink] | type[SqliteSink]
) -> None:
    """A value that no column can tell from others is an error that names its type."""
    strange = make_sample(value=cast(Value, 1j))
    async with kind(tmp_path / "samples") as sink:
        with pytest.raises(TypeError, match="complex"):
            sink.write([strange])


def test_missing_library_is_one_line_that_says_how_to_get_it() -> None:
    """An extra that is not installed is named, with the command that installs it."""
    with pytest.raises(MissingExtraError, match=r"pip install 'benchtree\[columnar\]'") as caught:
        need("no_such_library.part", "columnar")
    assert caught.value.extra == "columnar"
    assert str(caught.value).startswith("no_such_library is not installed")
