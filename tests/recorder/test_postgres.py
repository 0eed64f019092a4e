"""The PostgreSQL sink, against a real server that the tests start, stop and restart."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trio
from attrs import evolve

from actors import Sample, SampleKey, Waveform
from recorder import (
    PostgresSink,
    RecorderError,
    SinkClosedError,
    SinkError,
    decode_lines,
    pipe,
    record,
)

from .sources import Bench, Bus, make_sample

if TYPE_CHECKING:
    from .postgres import Server

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    """A server that runs."""
    from .postgres import Server

    with Server() as running:
        yield running


@pytest.fixture
def table(server: Server, request: pytest.FixtureRequest) -> str:
    """A table that nobody else uses."""
    del server
    return f"t{zlib.crc32(request.node.name.encode())}"


async def numbered(count: int, pause_s: float) -> AsyncIterator[Sequence[Sample]]:
    """Yield samples that are numbered through, ten at a time."""
    for number in range(0, count, 10):
        yield [make_sample(value=number + index) for index in range(10)]
        await trio.sleep(pause_s)


def kept(server: Server, table: str) -> list[int]:
    """Return the numbers in a table, in the order of their rows."""
    rows = server.ask(f"SELECT value_int FROM {table} ORDER BY ctid")
    return [value for (value,) in rows]


async def test_every_type_stays_what_it_is(server: Server, table: str, tmp_path: Path) -> None:
    """Whole numbers, floats, texts, truth values and nothing share a column of one series."""
    values = [20, 20.9, None, "20", "", True, 1 << 70, math.inf, math.nan, "\0\udcff", -(1 << 63)]
    async with PostgresSink(server.conninfo, run="types", table=table) as sink:
        sink.write([make_sample(value=value) for value in values])
    rows = server.ask(f"SELECT value, value_int, value_text, value_type FROM {table} ORDER BY ctid")
    assert rows[8][0] != rows[8][0]
    del rows[8]
    assert rows == [
        (20.0, 20, None, "int"),
        (20.9, None, None, "float"),
        (None, None, None, "none"),
        (None, None, "20", "text"),
        (None, None, "", "text"),
        (1.0, 1, None, "bool"),
        (float(1 << 70), None, str(1 << 70), "int"),
        (math.inf, None, None, "float"),
        (None, None, "\\x00\\udcff", "text"),
        (-float(1 << 63), -(1 << 63), None, "int"),
    ]


async def test_stamps_and_waveforms(server: Server, table: str) -> None:
    """Stamps are exact to the nanosecond; a waveform lies in a table of its own."""
    trace = Waveform(np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    sample = evolve(
        make_sample(
            SampleKey("scope", "trace"),
            None,
            requested_ns=10**15 + 1,
            received_ns=10**15 + 20_000_001,
            received_utc_ns=1_767_225_600_123_456_789,
        ),
        waveform=trace,
    )
    async with PostgresSink(server.conninfo, run="r", table=table) as sink:
        sink.write([sample])
    assert server.ask(f"SELECT run, t_utc, t_utc_ns, t_mono_ns FROM {table}") == [
        ("r", sample.t_utc, sample.t_utc_ns, sample.t_mono_ns)
    ]
    query = f'SELECT device, t_mono_ns, axis, "values" FROM {table}_waveforms'
    assert server.ask(query) == [("scope", sample.t_mono_ns, [0.0, 0.5], [1.0, 2.0])]


async def test_runs_share_a_table_and_overwrite_nothing(server: Server, table: str) -> None:
    """A second run adds to the first; a table of something else is refused."""
    for run in ("one", "two"):
        async with PostgresSink(server.conninfo, run=run, table=table) as sink:
            sink.write([make_sample()])
    assert server.ask(f"SELECT run FROM {table} ORDER BY run") == [("one",), ("two",)]
    other = f"{table}_writers"
    with pytest.raises(RecorderError, match="other columns"):
        async with PostgresSink(server.conninfo, run="x", table=other):
            pytest.fail("it opened")
    with pytest.raises(ValueError, match="no name of a table"):
        PostgresSink(server.conninfo, run="x", table="a; DROP")


async def test_batch_whose_acknowledgement_was_lost_is_written_once(
    server: Server, table: str
) -> None:
    """Where the commit went through and the answer did not, writing again adds nothing."""

    class Deaf(PostgresSink):
        """Loses its connection just after the server has committed."""

        deaf = False

        def write(self, samples: Sequence[Sample]) -> None:
            before = self._acknowledged
            super().write(samples)
            if self.deaf:
                self.deaf = False
                self._acknowledged = before
                self._disconnect()
                raise ConnectionResetError("the answer was lost")

    batches = [[make_sample(value=10 * part + each) for each in range(10)] for part in range(3)]
    async with Deaf(server.conninfo, run="r", table=table) as sink:
        sink.write(batches[0])
        sink.deaf = True
        with pytest.raises(ConnectionResetError):
            sink.write(batches[1])
        sink.write(batches[1])
        sink.write(batches[2])
    assert kept(server, table) == list(range(30))


async def test_ten_seconds_without_the_server(server: Server, table: str, tmp_path: Path) -> None:
    """The server is stopped for ten seconds in mid-recording: nothing is lost or there twice."""
    journal = tmp_path / "journal.jsonl"
    async with (
        PostgresSink(server.conninfo, run="r", table=table, spill=journal) as sink,
        record(
            Bench(Bus("one", "two")), parameters=["temperature"], rate_hz=100, duration=14
        ) as recording,
        trio.open_nursery() as nursery,
    ):

        async def outage() -> None:
            await trio.sleep(2)
            await trio.to_thread.run_sync(server.stop)
            await trio.sleep(10)
            assert journal.exists()
            await trio.to_thread.run_sync(server.start)

        nursery.start_soon(outage)
        written = await pipe(recording.stream, sink, batch_size=50, flush_s=0.2)
    assert not journal.exists()
    summary = recording.summary
    assert summary.samples_expected == 2800
    assert summary.samples_dropped == 0
    assert written == summary.samples_emitted == summary.samples_read > 2000
    # Each poll has a number: none is absent, none is there twice, and all are in order.
    rows = server.ask(f"SELECT device, value_int FROM {table} ORDER BY ctid")
    polls = written // 2
    assert rows == [(device, number) for number in range(polls) for device in ("one", "two")]


async def test_server_that_stays_away_leaves_a_journal(
    server: Server, table: str, tmp_path: Path
) -> None:
    """At the end the journal is named, and holds exactly what the server has not."""
    journal = tmp_path / "journal.jsonl"
    async with PostgresSink(server.conninfo, run="r", table=table, spill=journal) as sink:

        async def stopping() -> AsyncIterator[Sequence[Sample]]:
            number = 0
            async for batch in numbered(100, 0.01):
                if number == 5:
                    # What came before must be written, for the outage to have a front.
                    await trio.sleep(0.5)
                    await trio.to_thread.run_sync(server.stop)
                number += 1
                yield batch

        with pytest.raises(SinkError, match="kept in") as caught:
            await pipe(stopping(), sink, batch_size=10, flush_s=0.05, close_s=2)
    await trio.to_thread.run_sync(server.start)
    left = [sample.value for sample in decode_lines(journal.read_bytes())]
    assert caught.value.unwritten == len(left)
    assert kept(server, table) + left == list(range(100))


async def test_sink_that_is_not_open_refuses(server: Server, table: str) -> None:
    """Writing before opening or after closing is an error, and closing twice is none."""
    sink = PostgresSink(server.conninfo, run="r", table=table)
    with pytest.raises(SinkClosedError):
        sink.write([make_sample()])
    await sink.open()
    assert "open" in repr(sink)
    await sink.aclose()
    await sink.aclose()
    assert "closed" in repr(sink)
    with pytest.raises(SinkClosedError):
        sink.write([make_sample()])
