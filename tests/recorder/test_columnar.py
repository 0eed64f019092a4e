"""Arrow and Parquet: files, waveforms, one row per tick, and reading runs back."""

from __future__ import annotations

import csv
import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import Sample, SampleKey, Value, Waveform
from actors.instruments.alicat import FlowController
from actors.instruments.scpi import PowerSupply
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import open_tree
from recorder import (
    ArrowSink,
    BlockingSink,
    CsvSink,
    JsonlSink,
    NoSamplesError,
    ParquetSink,
    SinkClosedError,
    SqliteSink,
    TargetExistsError,
    create_run,
    decode_lines,
    load,
    need,
    pipe,
    record,
    to_wide,
)
from recorder.tables import to_batch
from recorder.writing import write_csv

from .sources import make_sample

pytestmark = pytest.mark.heavy

FILES: dict[str, Callable[[Path], BlockingSink]] = {
    "sqlite": SqliteSink,
    "csv": CsvSink,
    "jsonl": JsonlSink,
    "arrow": ArrowSink,
    "parquet": ParquetSink,
}
VALUES: list[Value] = [
    20,
    20.9,
    None,
    "20",
    "",
    True,
    False,
    1 << 70,
    math.inf,
    -(1 << 63),
    2**53 + 1,
]


def at(number: int, key: SampleKey, value: Value, *, period_ns: int = 100_000_000) -> Sample:
    """Return the sample of a tick, two milliseconds after its target."""
    mono_ns = 10**12 + number * period_ns + 1_000_000
    return make_sample(
        key,
        value,
        requested_ns=mono_ns,
        received_ns=mono_ns + 2_000_000,
        received_utc_ns=1_767_225_600_000_000_000 + mono_ns - 10**12,
    )


async def written(kind: str, folder: Path, samples: Sequence[Sample]) -> Path:
    """Write samples with a sink, two batches, and return its file."""
    path = folder / f"samples.{kind}"
    half = len(samples) // 2
    async with FILES[kind](path) as sink:
        sink.write(samples[:half])
        sink.write(samples[half:])
    return path


def names_in(folder: Path) -> list[str]:
    """Return the names of a folder's files, in order."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", FILES)
async def test_every_format_reads_back_the_same(kind: str, tmp_path: Path) -> None:
    """From whatever file it comes, the table has the same columns, types and values."""
    samples = [at(number, SampleKey("oven", "t", 2), value) for number, value in enumerate(VALUES)]
    table = load(await written(kind, tmp_path, samples))
    assert table["value_type"].to_pylist() == [
        "int", "float", "none", "text", "text", "bool", "bool", "int", "float", "int", "int",
    ]  # fmt: skip
    assert table["value"].to_pylist() == [
        20.0, 20.9, None, None, None, 1.0, 0.0, float(1 << 70), math.inf, -float(1 << 63), 2.0**53,
    ]  # fmt: skip
    assert table["value_int"].to_pylist() == [
        20, None, None, None, None, 1, 0, None, None, -(1 << 63), 2**53 + 1,
    ]  # fmt: skip
    assert table["value_text"].to_pylist() == [
        None, None, None, "20", "", None, None, str(1 << 70), None, None, None,
    ]  # fmt: skip
    assert table["t_mono_ns"].to_pylist() == [sample.t_mono_ns for sample in samples]
    assert table["t_utc_ns"].to_pylist() == [sample.t_utc_ns for sample in samples]
    assert table["t_utc"].to_pylist() == [sample.t_utc for sample in samples]
    assert table["t_s"].to_pylist() == pytest.approx([0.1 * number for number in range(11)])
    assert table["latency_s"].to_pylist() == [0.002] * 11
    assert set(table["instance"].to_pylist()) == {2}
    assert set(table["unit"].to_pylist()) == {"degC"}


async def test_formats_agree_in_their_types(tmp_path: Path) -> None:
    """Tables of different files can be put into one without a cast."""
    samples = [at(number, SampleKey("oven", "t"), number) for number in range(4)]
    tables = [load(await written(kind, tmp_path, samples)) for kind in FILES]
    assert all(table.schema.equals(tables[0].schema) for table in tables)


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
async def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    """A sink whose file is there refuses to open, and leaves the file as it was."""
    path = await written(kind, tmp_path, [make_sample()])
    before = path.read_bytes()
    with pytest.raises(TargetExistsError, match="samples"):
        async with FILES[kind](path):
            pytest.fail("it opened")
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
async def test_sink_that_is_not_open_refuses(kind: str, tmp_path: Path) -> None:
    """Writing before opening or after closing is an error, and closing twice is none."""
    sink = FILES[kind](tmp_path / f"samples.{kind}")
    with pytest.raises(SinkClosedError, match="samples"):
        sink.write([make_sample()])
    await sink.open()
    assert "open" in repr(sink)
    await sink.aclose()
    await sink.aclose()
    assert "closed" in repr(sink)
    with pytest.raises(SinkClosedError, match="samples"):
        sink.write([make_sample()])


async def test_arrow_is_readable_while_it_grows(tmp_path: Path) -> None:
    """Every acknowledged batch is in the file at once; half a batch at its end is left out."""
    async with ArrowSink(tmp_path / "samples.arrow") as sink:
        for count in (1, 2, 3):
            sink.write([make_sample(value=count)])
            assert len(load(sink.path)) == count
        cut = tmp_path / "cut.arrow"
        cut.write_bytes(sink.path.read_bytes()[:-40])
        assert load(cut)["value_int"].to_pylist() == [1, 2]


async def test_parquet_is_never_the_only_copy_of_what_is_not_closed(tmp_path: Path) -> None:
    """Until the Parquet file is whole its samples are in the stream beside it."""
    async with ParquetSink(tmp_path / "samples.parquet") as sink:
        sink.write([make_sample(value=1)])
        assert not sink.path.exists()
        assert load(tmp_path / "samples.parquet.arrow")["value_int"].to_pylist() == [1]
    assert names_in(tmp_path) == ["samples.parquet"]


async def test_parquet_rotates(tmp_path: Path) -> None:
    """With rotation every part is whole as soon as the next begins."""
    async with ParquetSink(tmp_path / "samples.parquet", rotate_rows=10) as sink:
        for number in range(7):
            sink.write([make_sample(value=4 * number + each) for each in range(4)])
        assert names_in(tmp_path) == [
            "samples-0001.parquet", "samples-0002.parquet", "samples-0003.parquet.arrow",
        ]  # fmt: skip
    parts = [tmp_path / name for name in names_in(tmp_path)]
    values = [value for part in parts for value in load(part)["value_int"].to_pylist()]
    assert values == list(range(28))
    with pytest.raises(ValueError, match="rotate_rows"):
        ParquetSink(tmp_path / "x.parquet", rotate_rows=0)


@pytest.mark.parametrize("kind", FILES)
async def test_waveforms_are_kept_with_their_axis(kind: str, tmp_path: Path) -> None:
    """A waveform is beside the table, or in its line, and never in a cell of a number."""
    trace = Waveform(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 1.0]), "frequency", "Hz")
    samples = [
        evolve(at(0, SampleKey("scope", "trace"), None), waveform=trace),
        at(1, SampleKey("oven", "t"), 20.5),
    ]
    path = await written(kind, tmp_path, samples)
    assert load(path)["value"].to_pylist() == [None, 20.5]
    match kind:
        case "sqlite":
            with closing(sqlite3.connect(path)) as database:
                row = database.execute(
                    'SELECT axis_name, axis_unit, axis, "values" FROM waveforms'
                ).fetchone()
            found: Any = (*row[:2], np.frombuffer(row[2]).tolist(), np.frombuffer(row[3]).tolist())
        case "csv" | "jsonl":
            file = path if kind == "jsonl" else tmp_path / "samples.waveforms.jsonl"
            wave = next(decode_lines(file.read_bytes())).waveform
            assert wave is not None
            found = (wave.axis_name, wave.axis_unit, wave.axis.tolist(), wave.values.tolist())
        case _:
            file = tmp_path / f"samples.waveforms.{kind}"
            table = (
                need("pyarrow.ipc", "columnar").open_stream(file.read_bytes()).read_all()
                if kind == "arrow"
                else need("pyarrow.parquet", "columnar").read_table(file)
            )
            (row,) = table.to_pylist()
            assert row["t_mono_ns"] == samples[0].t_mono_ns
            found = (row["axis_name"], row["axis_unit"], row["axis"], row["values"])
    assert found == ("frequency", "Hz", [0.0, 0.5, 1.0], [1.0, 2.0, 3.0])


OVEN, DMM = SampleKey("oven", "t"), SampleKey("dmm", "volt", 2)


async def test_wide_has_a_row_per_tick(tmp_path: Path) -> None:
    """One column per series, null where a value is missing; whole numbers stay whole."""
    samples = [at(number, OVEN, number) for number in range(6)]
    samples += [at(number, DMM, 0.5 * number) for number in (0, 1, 4, 5)]
    table = load(await written("jsonl", tmp_path, samples), wide=True)
    assert table.column_names == ["t_utc", "t_s", "tick", "oven.t", "dmm.volt[2]"]
    assert table["oven.t"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert table["dmm.volt[2]"].to_pylist() == [0.0, 0.5, None, None, 2.0, 2.5]
    assert table["tick"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert table["t_s"].to_pylist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


async def test_wide_columns_do_not_narrow(tmp_path: Path) -> None:
    """Whole-then-broken numbers, nothing-then-number and text-then-number keep every value."""
    series: dict[str, list[Value]] = {
        "a": [20, 20.9], "b": [None, 20.5], "c": ["n/a", 3], "d": [True, False], "e": [None, None],
    }  # fmt: skip
    samples = [
        at(number, SampleKey(name, "x"), value)
        for number in range(2)
        for name, values in series.items()
        for value in [values[number]]
    ]
    table = load(await written("jsonl", tmp_path, samples), wide=True)
    assert table["a.x"].to_pylist() == [20.0, 20.9]
    assert table["b.x"].to_pylist() == [None, 20.5]
    assert table["c.x"].to_pylist() == ["n/a", "3"]
    assert table["d.x"].to_pylist() == [True, False]
    assert table["e.x"].to_pylist() == [None, None]


async def test_wide_parquet(tmp_path: Path) -> None:
    """A sink can be told to be wide; a device that comes later gets its column."""
    async with ParquetSink(tmp_path / "samples.parquet", wide=True) as sink:
        sink.write([at(number, OVEN, 1.0) for number in range(3)])
        sink.write([at(number, key, 2.0) for number in range(3, 5) for key in (OVEN, DMM)])
    table = need("pyarrow.parquet", "columnar").read_table(sink.path)
    assert table["dmm.volt[2]"].to_pylist() == [None, None, None, 2.0, 2.0]


async def test_wide_finds_the_rate_of_a_long_recording(tmp_path: Path) -> None:
    """Times that jitter by a tenth of a period, over a day at 1 Hz, fall into the right ticks."""
    random = np.random.default_rng(1)
    count = 86_400
    jitter_ns = random.integers(0, 100_000_000, count)
    samples = [
        make_sample(
            OVEN,
            number,
            requested_ns=number * 1_000_000_000 + int(jitter_ns[number]),
            received_ns=number * 1_000_000_000 + int(jitter_ns[number]),
        )
        for number in range(count)
        if number % 7
    ]
    table = load(await written("arrow", tmp_path, samples), wide=True)
    first = table["oven.t"].to_pylist()[0]
    assert table["tick"].to_pylist() == [number - first for number in range(count) if number % 7]


def test_wide_needs_a_rate_where_the_times_tell_none() -> None:
    """Two series with one sample each do not say how long a tick is."""
    batch = to_batch([at(0, OVEN, 1), at(0, DMM, 2)])
    table = need("pyarrow", "columnar").Table.from_batches([batch])
    with pytest.raises(NoSamplesError, match="rate_hz"):
        to_wide(table)
    assert to_wide(table, rate_hz=10).num_rows == 1


@pytest.mark.parametrize("kind", FILES)
async def test_vendors_share_one_file(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    """What drivers of SCPI, Alicat and Watlow read lies in one table: numbers, texts, units."""
    async with open_tree(sim=True) as tree:
        await tree.add("psu", PowerSupply, "tcp://192.0.2.17:5025")
        await tree.add("mfc", FlowController, "serial:///dev/ttyMfc")
        await tree.add("zone1", EzZoneStandardBus, "serial:///dev/ttyOven", unit_id="1")
        await trio.sleep(2)  # until all are identified
        async with (
            FILES[kind](tmp_path / f"samples.{kind}") as sink,
            record(
                tree,
                parameters=["psu.current", "mass_flow", "gas", "process_value", "control_mode"],
                rate_hz=2,
                duration=2,
                instances=(1, 2),
            ) as recording,
        ):
            await pipe(recording.stream, sink)
    rows: list[dict[str, Any]] = load(tmp_path / f"samples.{kind}").to_pylist()
    series = {
        (row["device"], row["address"], row["parameter"], row["instance"]): (
            row["protocol"], type(row["value"]).__name__, row["value_text"], row["unit"],
        ) for row in rows
    }  # fmt: skip
    assert series == {
        ("psu", "sim:tcp://192.0.2.17:5025", "current", 1): ("scpi", "float", None, "A"),
        ("mfc", "A", "mass_flow", 1): ("alicat", "float", None, "SCCM"),
        ("mfc", "A", "gas", 1): ("alicat", "NoneType", "N2", None),
        ("zone1", "1", "process_value", 1): ("watlow", "float", None, "degC"),
        ("zone1", "1", "process_value", 2): ("watlow", "float", None, "degC"),
        ("zone1", "1", "control_mode", 1): ("watlow", "NoneType", "off", None),
        ("zone1", "1", "control_mode", 2): ("watlow", "NoneType", "off", None),
    }
    assert len(rows) == 4 * len(series)


async def test_run_folders_load(tmp_path: Path) -> None:
    """A run's folder is enough: the best of its files is read, whether it is finished or not."""
    with create_run(tmp_path, tree_name="x", started_utc_ns=0) as run:
        with pytest.raises(NoSamplesError, match="holds no samples"):
            load(run.path)
        async with CsvSink(run.path / "samples.csv") as csv_sink:
            csv_sink.write([at(number, OVEN, number) for number in range(2)])
            assert len(load(run.path)) == 2
        async with SqliteSink(run.samples_path) as sink:
            sink.write([at(number, OVEN, number) for number in range(5)])
            assert len(load(run.path)) == 5
        async with SqliteSink(run.path / "samples-fast.sqlite") as sink:
            sink.write([at(number, DMM, number, period_ns=1_000_000) for number in range(7)])
        told: list[int] = []
        assert len(load(run.path, recording="fast", progress=told.append)) == 7
        assert sum(told) == 7
        entry = {"files": ["samples.csv"], "rate_hz": 10}
        run.finish(exit_status=0, finished_utc_ns=1, recordings={"main": entry})
    assert len(load(run.path)) == 2
    assert load(run.path, wide=True)["tick"].to_pylist() == [0, 1]
    with pytest.raises(NoSamplesError, match="named nobody"):
        load(run.path, recording="nobody")
    with pytest.raises(NoSamplesError, match="does not exist"):
        load(tmp_path / "none.csv")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NoSamplesError, match="only"):
        load(tmp_path / "notes.txt")


async def test_csv_wide_is_an_export(tmp_path: Path) -> None:
    """What one opens in a spreadsheet comes from the long file, with every column."""
    path = await written(
        "csv", tmp_path, [at(n, key, 1.5 * n) for n in (1, 2) for key in (OVEN, DMM)]
    )
    write_csv(load(path, wide=True), tmp_path / "wide.csv")
    rows = list(csv.DictReader((tmp_path / "wide.csv").read_text().splitlines()))
    assert [row["dmm.volt[2]"] for row in rows] == ["1.5", "3"]
    with pytest.raises(TargetExistsError):
        write_csv(load(path), tmp_path / "wide.csv")
