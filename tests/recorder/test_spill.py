"""A sink that fails for a while: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import trio
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Sample, SampleKey, Value, Waveform
from recorder import (
    MemorySink,
    SinkError,
    SqliteSink,
    TargetExistsError,
    decode_lines,
    encode_lines,
    pipe,
)
from recorder.spill import Spill

from .sources import make_sample


class Ailing(MemorySink):
    """A sink that is away at some times; what it took last before going may be forgotten."""

    name = "ailing"

    def __init__(self, *away: tuple[float, float]) -> None:
        """Be away from each begin to its end, in seconds."""
        super().__init__()
        self._away = away
        self.attempts_s: list[float] = []

    def write(self, samples: Sequence[Sample]) -> None:
        """Keep the samples, or raise."""
        now_s = trio.current_time()
        self.attempts_s.append(now_s)
        if any(begin_s <= now_s < end_s for begin_s, end_s in self._away):
            raise ConnectionError("away")
        super().write(samples)


async def numbered(count: int, pause_s: float) -> AsyncIterator[Sequence[Sample]]:
    """Yield samples that are numbered through, one at a time."""
    for number in range(count):
        yield [make_sample(value=number)]
        await trio.sleep(pause_s)


def values(sink: MemorySink) -> list[Value]:
    """Return the values that a sink holds."""
    return [sample.value for sample in sink.samples]


def kept_in(path: Path) -> list[Sample]:
    """Return the samples in a journal."""
    return list(decode_lines(path.read_bytes()))


@settings(max_examples=60, deadline=None)
@given(
    begin_s=st.floats(min_value=0, max_value=8),
    away_s=st.floats(min_value=0, max_value=12),
    batch_size=st.integers(min_value=1, max_value=30),
    flush_s=st.sampled_from([0.0, 0.3, 1.0]),
    again_s=st.floats(min_value=0, max_value=5),
)
def test_outage_loses_and_doubles_nothing(
    begin_s: float,
    away_s: float,
    batch_size: int,
    flush_s: float,
    again_s: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whenever and however long a sink is away, it ends with every sample, once, in order."""
    folder = tmp_path_factory.mktemp("spill")

    async def run() -> None:
        end_s = begin_s + away_s
        sink = Ailing((begin_s, end_s), (end_s + again_s, end_s + again_s + 1))
        await pipe(
            numbered(100, 0.1),
            sink,
            batch_size=batch_size,
            flush_s=flush_s,
            close_s=60,
            spill=folder,
        )
        assert values(sink) == list(range(100))
        assert list(folder.iterdir()) == []

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_attempts_grow_rarer(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A sink that is away for a minute is not asked all the time."""
    sink = Ailing((1, 60))
    await pipe(numbered(700, 0.1), sink, batch_size=1, spill=tmp_path)
    tries = [at_s for at_s in sink.attempts_s if 1 <= at_s < 60]
    assert len(tries) < 25
    assert values(sink) == list(range(700))


async def test_end_leaves_the_journal_and_names_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A sink that does not come back in time: its samples are in a file that can be read."""
    sink = Ailing((1, math.inf))
    with pytest.raises(SinkError, match="away") as caught:
        await pipe(numbered(30, 0.1), sink, batch_size=1, close_s=5, spill=tmp_path)
    error = caught.value
    journal = tmp_path / "ailing.spill.jsonl"
    assert error.spill == str(journal)
    kept = kept_in(journal)
    assert error.unwritten == len(kept)
    assert values(sink) + [sample.value for sample in kept] == list(range(30))


async def test_cancelled_pipe_keeps_what_the_sink_refuses(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Cancelling in the middle of an outage loses nothing either."""
    sink = Ailing((1, math.inf))
    with pytest.raises(SinkError), trio.move_on_after(2.05):
        await pipe(numbered(100, 0.1), sink, batch_size=1, close_s=1, spill=tmp_path)
    kept = kept_in(tmp_path / "ailing.spill.jsonl")
    assert values(sink) + [sample.value for sample in kept] == list(range(21))


async def test_old_journal_is_never_overwritten(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Where a journal of an earlier run lies, the failing sink is an error that says so."""
    journal = tmp_path / "ailing.spill.jsonl"
    journal.write_bytes(b"precious\n")
    with pytest.raises(SinkError, match="away") as caught:
        await pipe(numbered(30, 0.1), Ailing((1, 20)), batch_size=1, spill=tmp_path)
    assert journal.read_bytes() == b"precious\n"
    assert caught.value.spill is None
    with pytest.raises(TargetExistsError):
        Spill(journal)


async def test_mistakes_are_not_retried(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A sample that no sink can hold is an error at once, not an outage."""

    class Picky(MemorySink):
        def write(self, samples: Sequence[Sample]) -> None:
            raise TypeError("a sample's value cannot be a complex")

    with pytest.raises(SinkError, match="complex"):
        await pipe(numbered(3, 0.1), Picky(), spill=tmp_path)
    assert trio.current_time() < 2


async def test_other_sinks_do_not_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """While one sink spills, the others get everything as it comes; the log says what happened."""
    well, ailing = MemorySink(), Ailing((1, 5))
    with caplog.at_level(logging.WARNING, "recorder"):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await pipe(numbered(100, 0.1), well, ailing, batch_size=1, spill=tmp_path)

            nursery.start_soon(run)
            await trio.sleep(4.05)
            assert len(well.samples) == 41
    assert values(ailing) == values(well) == list(range(100))
    failed, recovered = caplog.records
    assert "ailing fails" in failed.message
    assert "well again" in recovered.message


VALUES: list[Value] = [
    0, -1, 1 << 70, 0.1, -0.0, 1e308, math.inf, -math.inf, True, False, None, "", "20",
    "\udcff", "ö\n\x00",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_lines_keep_a_sample_as_it_is(value: Value) -> None:
    """What is read back from a line is the very sample, types, stamps and raw reply included."""
    sample = evolve(
        make_sample(SampleKey('zone "1"', "p", 2), value, unit=None),
        raw=b"\x00\xff reply",
        t_midpoint_mono_ns=5,
        address="COM3",
    )
    (back,) = decode_lines(encode_lines([sample], raw=True))
    assert back == sample
    assert type(back.value) is type(value)
    (without,) = decode_lines(encode_lines([sample]))
    assert without == evolve(sample, raw=b"")
    assert json.loads(encode_lines([sample]))["device"] == 'zone "1"'


def test_lines_keep_what_is_no_number() -> None:
    """NaN is a float on the way out and on the way in."""
    (back,) = decode_lines(encode_lines([make_sample(value=math.nan)]))
    assert isinstance(back.value, float)
    assert math.isnan(back.value)


def test_lines_keep_waveforms() -> None:
    """A waveform lies in its sample's line, axis included."""
    trace = Waveform(np.array([1.0, math.nan, -math.inf]), np.array([0.0, 0.5, 1.0]), "time", "us")
    (back,) = decode_lines(encode_lines([evolve(make_sample(value=None), waveform=trace)]))
    assert back.waveform is not None
    np.testing.assert_array_equal(back.waveform.values, trace.values)
    np.testing.assert_array_equal(back.waveform.axis, trace.axis)
    assert back.waveform.axis_unit == "us"


def test_half_a_line_is_left_out() -> None:
    """What a kill cut short at the end of a file is no sample."""
    data = encode_lines([make_sample(value=number) for number in range(3)])
    assert [sample.value for sample in decode_lines(data[:-5])] == [0, 1]


def test_sqlite_says_what_may_be_retried() -> None:
    """A database that is locked or full may be well again; a wrong statement never."""
    sink = SqliteSink("x")
    assert sink.may_retry(sqlite3.OperationalError("database is locked"))
    assert not sink.may_retry(sqlite3.IntegrityError("NOT NULL"))
