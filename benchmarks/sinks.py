"""Rows per second into each sink, acknowledged as documented, and what a row takes on disk.

Sinks whose library or server is missing are left out, and a line says so.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Final

import trio

from actors import Sample
from recorder import (
    ArrowSink,
    BlockingSink,
    CsvSink,
    JsonlSink,
    ParquetSink,
    PostgresSink,
    SqliteSink,
    pipe,
)
from tests.recorder.test_killed import kill_a_writer, numbers_in

from .report import Measurement

BATCHES: Final = (1, 100, 1000)
HELD: Final = 1000
"""The size of the batches that are held against goals."""

GOALS: Final = {"sqlite": 500_000, "arrow": 1_000_000}
TICK_S: Final = 0.001
ZONES: Final = 8
RATE_HZ: Final = 10

Make = Callable[[Path], BlockingSink]

FILES: Final[Mapping[str, Make]] = {"csv": CsvSink, "jsonl": JsonlSink, "sqlite": SqliteSink}
COLUMNAR: Final[Mapping[str, Make]] = {"arrow": ArrowSink, "parquet": ParquetSink}


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure rows per second, bytes per row, stalls of the loop, and rows lost to a kill."""
    with ExitStack() as stack:
        sinks = {**available(), **_server(stack, quick=quick)}
        for size in BATCHES:
            yield from _rates(sinks, size, quick=quick)
        for kind, make in sinks.items():
            worst_s = trio.run(_worst_stall, kind, make, 0.05 if quick else 2.0)
            yield Measurement(
                name=f"sink {kind}, worst stall of the event loop", value=worst_s * 1e3, unit="ms"
            )
    kills = 1 if quick else 5
    yield Measurement(
        name="sink sqlite, acknowledged rows lost to kill -9",
        value=sum(_lost(0.1 * number) for number in range(kills)),
        unit="rows",
        budget=0,
        n=kills,
    )


def available() -> Mapping[str, Make]:
    """Return the sinks that write files and whose libraries are there, by kind."""
    if find_spec("pyarrow") is not None:
        return {**FILES, **COLUMNAR}
    sys.stderr.write(f"sinks: {' and '.join(COLUMNAR)} left out, pyarrow is not here\n")
    return FILES


def _server(stack: ExitStack, *, quick: bool) -> Mapping[str, Make]:
    """Start a PostgreSQL server of its own where one is installed."""
    if quick:
        return {}
    try:
        from tests.recorder.postgres import Server  # it needs the library

        server = stack.enter_context(Server())
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"sinks: postgres left out: {error}\n")
        return {}
    return {"postgres": lambda path: PostgresSink(server.conninfo, run="bench", spill=path)}


def _rates(sinks: Mapping[str, Make], size: int, *, quick: bool) -> Iterable[Measurement]:
    rounds, count = (1, 3) if quick else (5, {1: 300, 100: 100, 1000: 50}[size])
    batches = make_batches(size, count)
    rates: dict[str, list[float]] = {kind: [] for kind in sinks}
    weights: dict[str, float | None] = {}
    for _ in range(rounds):
        for kind, make in sinks.items():
            row_s, weights[kind] = time_of_row(kind, make, batches)
            rates[kind].append(1 / row_s)
    for kind, each in rates.items():
        rate = statistics.median(each)
        name = f"sink {kind}, batches of {size}"
        yield Measurement(name=name, value=rate, unit="rows/s", n=rounds * count)
        weight = weights[kind]
        if weight is not None:
            yield Measurement(
                name=f"{name}, size of a row", value=weight, unit="B/row", n=size * count
            )
        if size == HELD and (goal := GOALS.get(kind)):
            yield Measurement(
                name=f"{name}, time of a row",
                value=1e6 / rate,
                unit="us",
                ratio=goal / rate,
                against=f"the goal of {goal} rows/s",
                budget=1.0,
                n=rounds * count,
            )


def time_of_row(
    kind: str, make: Make, batches: Sequence[Sequence[Sample]]
) -> tuple[float, float | None]:
    """Return what a row takes, in seconds, and in bytes of files, None where there are none."""
    rows = sum(map(len, batches))
    with tempfile.TemporaryDirectory() as folder:
        sink = make(Path(folder) / f"samples.{kind}")
        began_s = time.perf_counter()
        sink.open_blocking()
        for batch in batches:
            sink.write(batch)
        sink.close_blocking()
        taken_s = time.perf_counter() - began_s
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return taken_s / rows, size / rows or None


async def _worst_stall(kind: str, make: Make, seconds: float) -> float:
    """Return by how much a tick of 1 ms was late at worst while batches were written."""
    worst_s = 0.0
    (samples,) = make_batches(HELD, 1)
    with tempfile.TemporaryDirectory() as folder:
        async with make(Path(folder) / f"samples.{kind}") as sink:
            send, receive = trio.open_memory_channel[Sequence[Sample]](4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe, receive, sink)
                end_s = target_s = trio.current_time()
                end_s += seconds
                while target_s < end_s:
                    with suppress(trio.WouldBlock):  # it has enough to do
                        send.send_nowait(samples)
                    target_s += TICK_S
                    await trio.sleep_until(target_s)
                    worst_s = max(worst_s, trio.current_time() - target_s)
                send.close()
    return worst_s


def _lost(after_s: float) -> int:
    """Return how many acknowledged rows are not there after a writer is killed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.sqlite"
        told = kill_a_writer("sqlite", path, after_s)
        return max(0, told - len(numbers_in("sqlite", path)))


def make_batches(size: int, count: int) -> Sequence[Sequence[Sample]]:
    """Return batches of readings of eight zones of a furnace at 10 Hz, no two rows alike."""
    random = Random(1)
    degrees = [random.uniform(20.0, 300.0) for _ in range(ZONES)]

    def sample(index: int) -> Sample:
        slot, zone = divmod(index, ZONES)
        degrees[zone] += random.gauss(0.0, 0.05)
        requested_ns = 10**15 + slot * 10**9 // RATE_HZ + zone * 12_000_000
        requested_ns += random.randrange(200_000)
        received_ns = requested_ns + round(random.gauss(11e6, 3e5))
        return Sample(
            device=f"zone{zone}",
            address=zone + 1,
            protocol="watlow",
            parameter="process_value",
            parameter_id=4001,
            instance=1,
            # Devices send tenths, or floats of four bytes, which have as many digits.
            value=round(degrees[zone], 4),
            unit="degC",
            requested_ns=requested_ns,
            received_ns=received_ns,
            received_utc_ns=received_ns + 1_766_225_600_000_000_000 + random.randrange(50_000),
        )

    return [
        [sample(index) for index in range(first, first + size)]
        for first in range(0, size * count, size)
    ]
