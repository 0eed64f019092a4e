"""Rows per second into each sink, acknowledged as documented, against two other libraries."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from actors import Sample
from recorder import (
    ArrowSink,
    BlockingSink,
    CsvSink,
    JsonlSink,
    ParquetSink,
    SqliteSink,
    pipe,
)

from .peers import ask_worker, find_python
from .report import Measurement

HELD: Final = 1000
"""The size of the batches that are held against goals and other libraries."""

GOALS: Final = {"sqlite": 500_000, "arrow": 1_000_000}
LEAST: Final = 3.0

SINKS: Final[Mapping[str, Callable[[Path], BlockingSink]]] = {
    "csv": CsvSink,
    "jsonl": JsonlSink,
    "sqlite": SqliteSink,
    "arrow": ArrowSink,
    "parquet": ParquetSink,
}


BATCHES: Final = (1, 100, 1000)
TICK_S: Final = 0.001


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure rows per second and bytes per row, other libraries, and stalls of the loop."""
    for size in BATCHES:
        yield from _rates(size, quick=quick)
    for kind, make in SINKS.items():
        worst_s = trio.run(_worst_stall, kind, make, 1.0 if quick else 3.0)
        yield Measurement(
            name=f"sink {kind}, worst stall of the event loop", value=worst_s * 1e3, unit="ms"
        )


def _rates(size: int, *, quick: bool) -> Iterable[Measurement]:
    rounds = 3 if quick else 7
    batches = {1: 300, 100: 100, 1000: 50 if quick else 200}[size]
    samples = make_samples(size)
    ours: dict[str, list[float]] = {kind: [] for kind in SINKS}
    weights: dict[str, float] = {}
    theirs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, make in SINKS.items():
            rate, weights[kind] = _rate(kind, make, samples, batches)
            ours[kind].append(rate)
        if size == HELD:
            for name, rate in _peers(size, batches).items():
                theirs.setdefault(name, []).append(rate)
    for kind, rates in ours.items():
        rate = statistics.median(rates)
        name = f"sink {kind}, batches of {size}"
        yield Measurement(name=name, value=rate, unit="rows/s", n=rounds * batches)
        if size == HELD:
            yield Measurement(name=f"sink {kind}", value=weights[kind], unit="B/row")
            if goal := GOALS.get(kind):
                yield _at_least(f"{name}, goal", rate, goal, f"the goal of {goal}", 1.0)
    for name, rates in theirs.items():
        library, _, kind = name.partition(" ")
        rate = statistics.median(ours[kind])
        yield _at_least(f"sink {kind}", rate, statistics.median(rates), library, 1 / LEAST)


def _at_least(name: str, rate: float, other: float, against: str, budget: float) -> Measurement:
    # The budget is an upper bound, so that the ratio is that of the times taken.
    return Measurement(
        name=name, value=rate, unit="rows/s", ratio=other / rate, against=against, budget=budget
    )


def _rate(
    kind: str, make: Callable[[Path], BlockingSink], samples: Sequence[Sample], batches: int
) -> tuple[float, float]:
    """Return rows per second, and bytes per row."""
    rows = batches * len(samples)
    with tempfile.TemporaryDirectory() as folder:
        sink = make(Path(folder) / f"samples.{kind}")
        began_s = time.perf_counter()
        sink.open_blocking()
        for _ in range(batches):
            sink.write(samples)
        sink.close_blocking()
        taken_s = time.perf_counter() - began_s
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return rows / taken_s, size / rows


async def _worst_stall(kind: str, make: Callable[[Path], BlockingSink], seconds: float) -> float:
    """Return by how much a tick of 1 ms was late at worst while batches were written."""
    worst_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        async with make(Path(folder) / f"samples.{kind}") as sink:
            send, receive = trio.open_memory_channel[Sequence[Sample]](4)
            samples = make_samples(HELD)
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


def _peers(size: int, batches: int) -> Mapping[str, float]:
    python = find_python()
    if python is None:
        return {}
    found: dict[str, dict[str, float]] = ask_worker(python, "sinks", size, batches)
    return {
        f"{library} {kind}": rate
        for library, rates in found.items()
        for kind, rate in rates.items()
    }


def make_samples(count: int) -> Sequence[Sample]:
    """Return that many samples of eight controllers."""
    return [
        Sample(
            device=f"zone{index % 8}",
            address=index % 8 + 1,
            protocol="watlow",
            parameter="process_value",
            parameter_id=4001,
            instance=1,
            value=20.0 + index * 0.1,
            unit="degC",
            requested_ns=10**15 + index * 1_000_000,
            received_ns=10**15 + index * 1_000_000 + 500_000,
            received_utc_ns=1_767_225_600_000_000_000 + index * 1_000_000,
        )
        for index in range(count)
    ]
