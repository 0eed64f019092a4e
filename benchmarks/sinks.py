"""Rows per second into each sink, acknowledged as documented, against two other libraries."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from actors import Sample
from recorder import ArrowSink, BlockingSink, CsvSink, JsonlSink, ParquetSink, SqliteSink

from .report import Measurement

PEERS: Final = "BENCHTREE_PEERS"
"""Names an interpreter that has alicatlib and watlowlib; without it they are left out."""

BATCH: Final = 1000
GOALS: Final = {"sqlite": 500_000, "arrow": 1_000_000}
LEAST: Final = 3.0

SINKS: Final[Mapping[str, Callable[[Path], BlockingSink]]] = {
    "csv": CsvSink,
    "jsonl": JsonlSink,
    "sqlite": SqliteSink,
    "arrow": ArrowSink,
    "parquet": ParquetSink,
}


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure batches of 1000 samples, taking turns with the other libraries."""
    rounds, batches = (3, 50) if quick else (7, 200)
    samples = make_samples(BATCH)
    ours: dict[str, list[float]] = {kind: [] for kind in SINKS}
    theirs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, make in SINKS.items():
            ours[kind].append(_rate(kind, make, samples, batches))
        for name, rate in _peers(batches).items():
            theirs.setdefault(name, []).append(rate)
    for kind, rates in ours.items():
        rate = statistics.median(rates)
        name = f"sink {kind}, batches of {BATCH}"
        yield Measurement(name=name, value=rate, unit="rows/s", n=rounds * batches)
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
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        sink = make(Path(folder) / f"samples.{kind}")
        began_s = time.perf_counter()
        sink.open_blocking()
        for _ in range(batches):
            sink.write(samples)
        sink.close_blocking()
        return batches * len(samples) / (time.perf_counter() - began_s)


def _peers(batches: int) -> Mapping[str, float]:
    interpreter = os.environ.get(PEERS)
    if interpreter is None:
        return {}
    script = Path(__file__).with_name("peers.py")
    output = subprocess.run(
        [interpreter, str(script), str(BATCH), str(batches)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, dict[str, float]] = json.loads(output.splitlines()[-1])
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
