"""What alicatlib and watlowlib do with a simulated device, for comparison.

Run by an interpreter that has them; they need a newer Python than this project does. It
imports nothing of this project, and prints one JSON object:

    sinks SIZE BATCHES           rows per second, by library and format
    exchanges LIBRARY PORT N     the time of each of N polls, in seconds
    record LIBRARY PORT HZ S     how many samples a recording of S seconds gave
    poll LIBRARY N PORT...       the time of each of N polls of all ports, in seconds
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

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


async def sinks(size: str, batches: str) -> object:
    """Return rows per second of each library's formats."""
    samples = {"watlowlib": watlow_samples(int(size)), "alicatlib": alicat_samples(int(size))}
    return {library: await _rates(library, each, int(batches)) for library, each in samples.items()}


async def _rates(library: str, samples: Sequence[Any], batches: int) -> Mapping[str, float]:
    made = import_module(f"{library}.sinks")
    rates: dict[str, float] = {}
    for kind, name in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            sink = getattr(made, name)(Path(folder) / f"samples.{kind}")
            began_s = time.perf_counter()
            async with sink:
                for _ in range(batches):
                    await sink.write_many(samples)
            rates[kind] = batches * len(samples) / (time.perf_counter() - began_s)
    return rates


@asynccontextmanager
async def _managed(
    library: str, ports: Sequence[str]
) -> AsyncGenerator[tuple[Any, Callable[[], Awaitable[object]]]]:
    """Open a device on each port; give the manager, and what polls them all."""
    name = {"alicatlib": "AlicatManager", "watlowlib": "WatlowManager"}[library]
    async with getattr(import_module(library), name)() as manager:
        for number, port in enumerate(ports):
            await manager.add(f"device{number}", port)
        yield manager, manager.poll


async def _timed(call: Callable[[], Awaitable[object]], count: int) -> Sequence[float]:
    for _ in range(5):
        await call()
    times_s: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        await call()
        times_s.append(time.perf_counter() - began_s)
    return times_s


async def exchanges(library: str, port: str, count: str) -> object:
    """Return how long polls of one device take."""
    words = {"identify": False} if library == "watlowlib" else {}
    async with await import_module(library).open_device(port, **words) as device:
        poll = device.poll if library == "alicatlib" else device.read_pv
        return await _timed(poll, int(count))


async def poll(library: str, count: str, *ports: str) -> object:
    """Return how long polls of all devices take."""
    async with _managed(library, ports) as (_, everybody):
        return await _timed(everybody, int(count))


async def record(library: str, port: str, rate_hz: str, seconds: str) -> object:
    """Return how many samples a recording gave."""
    words: dict[str, Any] = {"rate_hz": float(rate_hz), "duration": float(seconds)}
    recorder = import_module(f"{library}.streaming").record
    given = 0
    async with _managed(library, [port]) as (manager, _):
        if library == "watlowlib":
            words["parameters"] = ["process_value"]
        async with recorder(manager, **words) as recording:
            async for batch in recording.stream:
                given += len(batch)
    return given


MEASURES: Mapping[str, Callable[..., Awaitable[object]]] = {
    "sinks": sinks, "exchanges": exchanges, "record": record, "poll": poll,
}  # fmt: skip


async def main(*arguments: str) -> None:
    """Measure one thing and print it."""
    measure, *words = arguments
    sys.stdout.write(json.dumps(await MEASURES[measure](*words)) + "\n")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
