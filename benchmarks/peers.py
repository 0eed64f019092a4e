"""Rows per second into the sinks of alicatlib and watlowlib, for comparison.

Run by an interpreter that has them; they need a newer Python than this project does. It
imports nothing of this project, and prints one JSON object: library, format, rows per second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

KINDS = {"csv": "CsvSink", "jsonl": "JsonlSink", "sqlite": "SqliteSink", "parquet": "ParquetSink"}


def watlow_samples(count: int) -> Sequence[Any]:
    """Return samples of a temperature controller."""
    sample = import_module("watlowlib.streaming.sample").Sample
    protocol = next(iter(import_module("watlowlib").ProtocolKind))
    now = datetime.now(UTC)
    return [
        sample(
            device=f"zone{index % 8}",
            address=index % 8 + 1,
            protocol=protocol,
            parameter="process_value",
            parameter_id=4001,
            instance=1,
            value=20.0 + index * 0.1,
            unit="degC",
            t_mono_ns=10**15 + index,
            t_utc=now,
            t_midpoint_mono_ns=None,
            requested_at=now,
            received_at=now,
            latency_s=0.01,
            raw=b"",
        )
        for index in range(count)
    ]


def alicat_samples(count: int) -> Sequence[Any]:
    """Return samples of a flow controller, whose rows hold a frame of six values."""
    sample = import_module("alicatlib.streaming.sample").Sample
    now = datetime.now(UTC)

    def reading(index: int) -> Any:
        values = {
            "Pressure": 14.7,
            "Temperature": 23.0,
            "Volumetric_Flow": 0.1 * index,
            "Mass_Flow": 0.1 * index,
            "Setpoint": 20.0,
            "Gas": "N2",
            "status": "",
        }
        return SimpleNamespace(as_dict=lambda: dict(values))

    return [
        sample(
            device=f"mfc{index % 8}",
            unit_id="A",
            t_mono_ns=10**15 + index,
            t_utc=now,
            requested_at=now,
            received_at=now,
            latency_s=0.01,
            reading=reading(index),
        )
        for index in range(count)
    ]


async def measure(library: str, samples: Sequence[Any], batches: int) -> Mapping[str, float]:
    """Return rows per second of each of a library's formats."""
    sinks = import_module(f"{library}.sinks")
    rates: dict[str, float] = {}
    for kind, name in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            sink = getattr(sinks, name)(Path(folder) / f"samples.{kind}")
            began_s = time.perf_counter()
            async with sink:
                for _ in range(batches):
                    await sink.write_many(samples)
            rates[kind] = batches * len(samples) / (time.perf_counter() - began_s)
    return rates


async def main(batch_size: int, batches: int) -> None:
    """Measure both libraries."""
    rates = {
        "watlowlib": await measure("watlowlib", watlow_samples(batch_size), batches),
        "alicatlib": await measure("alicatlib", alicat_samples(batch_size), batches),
    }
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
