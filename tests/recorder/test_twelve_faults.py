"""Twelve ways in which recorders lose or falsify data, and that this one does not.

Where a fault is about input and output the instruments answer on real pseudo-terminals and
TCP connections.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import BreakerPolicy, Sample, SampleKey, Value
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import Tree, open_tree
from recorder import (
    AcquisitionSummary,
    Counts,
    CsvSink,
    JsonlSink,
    MemorySink,
    OverflowPolicy,
    ParquetSink,
    SqliteSink,
    TargetExistsError,
    decode_lines,
    load,
    pipe,
    record,
)
from recorder.sketch import DurationSketch
from transports import SERIAL, TCP, BusProfile, SimLine, serve_pty, serve_tcp

from .sources import Bench, Bus, Meter, make_sample

ROOT = Path(__file__).resolve().parents[2]
QUICK = BreakerPolicy(failures=3, open_s=0.1, max_open_s=0.2)


@asynccontextmanager
async def supplies(
    *names: str, folder: Path | None = None
) -> AsyncGenerator[tuple[Tree, dict[str, SimLine]]]:
    """Open a tree of power supplies over TCP, or with a `folder` over pseudo-terminals."""
    lines = {name: SimLine(PowerSupplyModel()) for name in names}
    async with AsyncExitStack() as stack:
        tree = await stack.enter_async_context(open_tree())
        for name, line in lines.items():
            profile: BusProfile
            if folder is None:
                address, profile = await stack.enter_async_context(serve_tcp(line)), TCP
            else:
                served = serve_pty(line, link=folder / name)
                address, profile = await stack.enter_async_context(served), SERIAL
            supply = await tree.add(
                name,
                PowerSupply,
                address,
                profile=evolve(profile, reply_within_s=0.1),
                breaker=QUICK,
            )
            await supply.voltage.set(2.0)
            await supply.current_limit.set(4.0)
        yield tree, lines


EXPECTED = {"voltage": 2.0, "current_limit": 4.0}


@pytest.mark.parametrize("kind", ["tcp", "pty"])
async def test_1_late_and_cancelled_replies_shift_nothing(kind: str, tmp_path: Path) -> None:
    """After late replies and cancelled polls every value still belongs to its question."""
    folder = tmp_path if kind == "pty" else None
    async with supplies("psu", folder=folder) as (tree, lines):
        samples: list[Sample] = []
        for number in range(12):
            if number % 3 == 0:
                lines["psu"].late(0.15)
            with trio.move_on_after(0.004 * number):
                await tree.poll_many(["voltage", "current_limit"])
        async with record(
            tree, parameters=["voltage", "current_limit"], rate_hz=20, duration=1.5
        ) as recording:
            async for batch in recording.stream:
                samples += batch
                if len(samples) in range(10, 14):
                    lines["psu"].late(0.15)
    assert len(samples) > 20
    assert {(each.parameter, each.value) for each in samples} == set(EXPECTED.items())
    assert {each.unit for each in samples} == {"V", "A"}


async def test_2_a_reply_of_another_device_is_no_value(tmp_path: Path) -> None:
    """Two controllers share a line: what one sends late is never stored as the other's."""
    line = SimLine(EzZoneStandardBus.simulate(["1", "2"]))
    async with serve_pty(line, link=tmp_path / "furnace") as address, open_tree() as tree:
        zones = {
            unit: await tree.add(f"zone{unit}", EzZoneStandardBus, address, unit_id=unit)
            for unit in ("1", "2")
        }
        await zones["1"].setpoint.set(50.0, confirm=True)
        await zones["2"].setpoint.set(500.0, confirm=True)
        samples: list[Sample] = []
        async with record(tree, parameters=["setpoint"], rate_hz=5, duration=5) as recording:
            async for batch in recording.stream:
                samples += batch
                if len(samples) % 10 == 4:
                    line.late(0.6, unit="1")
    values = {(each.device, each.value) for each in samples}
    assert {device for device, _ in values} == {"zone1", "zone2"}
    for device, value in values:
        assert value == pytest.approx(50.0 if device == "zone1" else 500.0, abs=0.1)


async def test_3_dead_time_is_missing_and_disconnects_are_counted() -> None:
    """A cable pulled for two seconds: own sources come back, and the numbers say all of it."""
    async with supplies("psu") as (tree, lines):
        batches: list[Sequence[Sample]] = []
        async with (
            record(tree, parameters=["voltage"], rate_hz=20, duration=5) as recording,
            trio.open_nursery() as nursery,
        ):

            async def pull() -> None:
                await trio.sleep(1)
                lines["psu"].unplug()
                await trio.sleep(2)
                lines["psu"].replug()

            nursery.start_soon(pull)
            batches += [batch async for batch in recording.stream]
    summary = recording.summary
    assert summary.disconnects == 1
    assert summary.disconnects_by_device() == {"psu": 1}
    assert summary.samples_expected == 100
    assert summary.samples_read + summary.samples_missing == 100
    assert 36 <= summary.samples_missing <= 60
    assert summary.batches_emitted == len(batches)
    assert all(batches)


async def test_4_one_hung_port_of_four_takes_nothing_from_the_others() -> None:
    """In real time, with one of four instruments silent, the three others miss nothing."""
    async with supplies("one", "two", "three", "hung") as (tree, lines):
        lines["hung"].hang()
        async with record(tree, parameters=["voltage"], rate_hz=10, duration=4) as recording:
            async for _ in recording.stream:
                pass
    by_device = recording.summary.by_device()
    for name in ("one", "two", "three"):
        assert by_device[name] == Counts(read=40, emitted=40)
    assert by_device["hung"].missing == 40


async def test_4_one_hung_port_of_four_is_exact_in_virtual_time(autojump_clock: MockClock) -> None:
    """In virtual time every poll of the healthy ports begins exactly at its target."""
    hung = Bus("hung", takes_s=float("inf"))
    healthy = [Bus(name, takes_s=0.02) for name in ("one", "two", "three")]
    begin_s = trio.current_time()
    async with record(
        Bench(hung, *healthy), parameters=["temperature"], rate_hz=10, duration=8
    ) as recording:
        async for _ in recording.stream:
            pass
    for bus in healthy:
        assert [round((at_s - begin_s) * 1e6) for at_s in bus.begun_s] == [
            slot * 100_000 for slot in range(80)
        ]
    assert recording.summary.by_device()["hung"] == Counts(missing=80)


async def test_5_one_late_reply_ends_nothing() -> None:
    """Under the default policy a late reply is one missing or late value; rows all arrive."""
    sink = MemorySink()
    async with (
        supplies("psu") as (tree, lines),
        record(tree, parameters=["voltage"], rate_hz=20, duration=2) as recording,
    ):
        lines["psu"].late(0.15)
        await pipe(recording.stream, sink)
    summary = recording.summary
    assert summary.finished_at is not None
    assert summary.samples_read == len(sink.samples)
    assert summary.samples_expected == 40
    assert summary.samples_missing + summary.samples_late > 0
    assert summary.samples_read >= 25


async def test_6_cancelling_drops_nothing_and_a_failing_sink_ends_nothing(tmp_path: Path) -> None:
    """What was emitted is on the disk after a cancellation; a sink that raised once gets all."""

    class Once(JsonlSink):
        raised = False

        def write(self, samples: Sequence[Sample]) -> None:
            if not self.raised:
                self.raised = True
                raise OSError("only once")
            super().write(samples)

    summaries: list[AcquisitionSummary] = []
    async with Once(tmp_path / "samples.jsonl") as sink:
        with trio.move_on_after(1.48):
            async with record(
                Bench(Bus("oven")), parameters=["temperature"], rate_hz=100
            ) as recording:
                summaries.append(recording.summary)
                await pipe(recording.stream, sink, batch_size=50, spill=tmp_path)
    kept = list(decode_lines(sink.path.read_bytes()))
    (summary,) = summaries
    assert len(kept) == summary.samples_emitted == summary.samples_read
    assert [sample.value for sample in kept] == list(range(len(kept)))


MIXED: list[tuple[str, Value]] = [
    ("a", 20), ("a", 20.9), ("b", None), ("b", 20.5), ("a", "n/a"), ("late", 1.5),
]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [CsvSink, SqliteSink, JsonlSink, pytest.param(ParquetSink, marks=pytest.mark.heavy)]
)
async def test_7_files_narrow_nothing_drop_nothing_and_overwrite_nothing(
    kind: type[CsvSink | SqliteSink | JsonlSink | ParquetSink], tmp_path: Path
) -> None:
    """A later device, whole-then-broken and nothing-then-number values are all in the file."""
    path = tmp_path / f"samples.{kind.__name__.removesuffix('Sink').lower()}"
    samples = [make_sample(SampleKey(device, "x"), value) for device, value in MIXED]
    async with kind(path) as sink:
        for sample in samples:
            sink.write([sample])
    assert kept_in(path) == MIXED
    before = path.read_bytes()
    with pytest.raises(TargetExistsError):
        async with kind(path):
            pytest.fail("it opened")
    assert path.read_bytes() == before


def kept_in(path: Path) -> list[tuple[object, object]]:
    """Return devices and values as a file holds them."""
    match path.suffix:
        case ".csv":
            words: dict[str, Callable[[str], object]] = {
                "int": int, "float": float, "text": str, "none": lambda _: None,
            }  # fmt: skip
            with path.open(newline="") as file:
                return [
                    (row["device"], words[row["value_type"]](row["value"]))
                    for row in csv.DictReader(file)
                ]
        case ".sqlite":
            with closing(sqlite3.connect(path)) as database:
                return database.execute("SELECT device, value FROM samples").fetchall()
        case ".jsonl":
            return [(each.device, each.value) for each in decode_lines(path.read_bytes())]
        case _:
            columns = ("device", "value", "value_int", "value_text")
            rows: Iterator[tuple[str, float | None, int | None, str | None]] = zip(
                *(load(path)[name].to_pylist() for name in columns), strict=True
            )
            return [
                (device, text if text is not None else whole if whole is not None else number)
                for device, number, whole, text in rows
            ]


async def test_8_each_device_has_its_own_time() -> None:
    """A 2 ms and a 200 ms device do not share a stamp; drift is the schedule's alone."""
    async with supplies("fast", "slow") as (tree, lines):
        lines["slow"].latency_s = 0.06
        samples: dict[str, list[Sample]] = {"fast": [], "slow": []}
        async with record(tree, parameters=["voltage"], rate_hz=5, duration=2) as recording:
            async for batch in recording.stream:
                for sample in batch:
                    samples[sample.device].append(sample)
    for fast, slow in zip(samples["fast"], samples["slow"], strict=True):
        assert slow.t_mono_ns - fast.t_mono_ns > 20_000_000
        assert slow.latency_s > 0.055
    assert recording.summary.max_drift_ms < 50
    p99 = recording.summary.tick_duration_ms_p99
    assert p99 is not None
    assert p99 > 55


def memory(sketch: DurationSketch) -> int:
    """Return how many bytes its counters take."""
    return max(sys.getsizeof(each) for each in vars(sketch).values())


def test_9_percentiles_need_constant_memory() -> None:
    """A day at 100 Hz takes as much memory as its first second, and is right to 1 %."""
    sketch = DurationSketch()
    for number in range(100):
        sketch.add(number / 1e4)
    before = memory(sketch)
    for number in range(200_000):
        sketch.add((number % 1000) / 1e5 + 1e-5)
    assert memory(sketch) == before
    assert sketch.quantile_s(0.5) == pytest.approx(0.005, rel=0.02)
    assert sketch.quantile_s(0.99) == pytest.approx(0.0099, rel=0.02)


@pytest.mark.parametrize("policy", [OverflowPolicy.DROP_OLDEST, OverflowPolicy.DROP_NEWEST])
async def test_10_only_what_was_delivered_counts_as_emitted(
    policy: OverflowPolicy, autojump_clock: MockClock
) -> None:
    """Evicted batches are dropped, empty ones do not exist, and emitted is what was taken."""
    bus = Bus("oven", fault=lambda number: OSError("silent") if number % 3 == 0 else None)
    taken: list[Sequence[Sample]] = []
    async with record(
        Bench(bus),
        parameters=["temperature"],
        rate_hz=10,
        duration=30,
        overflow=policy,
        buffer_size=2,
    ) as recording:
        async for batch in recording.stream:
            taken.append(batch)
            await trio.sleep(0.7)
    summary = recording.summary
    assert summary.samples_emitted == sum(map(len, taken))
    assert summary.batches_emitted == len(taken)
    assert summary.samples_missing == 100
    assert summary.samples_dropped == 200 - summary.samples_emitted
    assert all(taken)


async def test_11_removing_a_device_does_not_end_the_recording() -> None:
    """A device that leaves in mid-recording owes no more; the others go on, and so may new ones."""
    async with (
        serve_tcp(SimLine(PowerSupplyModel())) as third,
        supplies("one", "two") as (tree, _),
        record(tree, parameters=["voltage"], rate_hz=20, duration=2) as recording,
        trio.open_nursery() as nursery,
    ):

        async def change() -> None:
            await trio.sleep(0.5)
            await tree.remove("two")
            await tree.add("three", PowerSupply, third)

        nursery.start_soon(change)
        async for _ in recording.stream:
            pass
    by_device = recording.summary.by_device()
    assert by_device["one"].expected == 40
    assert by_device["one"].missing <= 2
    assert 5 <= by_device["two"].expected <= 15
    assert 20 <= by_device["three"].expected <= 35
    assert by_device["three"].missing <= 4


def test_12_what_the_documentation_shows_runs(tmp_path: Path) -> None:
    """The first example of the recording page runs as it is printed."""
    page = (ROOT / "docs" / "recording.md").read_text(encoding="utf-8")
    example = page.split("```python\n", 1)[1].split("```", 1)[0]
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.glob("**/*.sqlite"))


async def test_12_a_plain_source_of_others_is_recorded(autojump_clock: MockClock) -> None:
    """Whatever has `poll_many` is a source: no class of ours is needed."""
    async with record(Meter(), parameters=["volt"], rate_hz=10, duration=1) as recording:
        assert len([batch async for batch in recording.stream]) == 10
