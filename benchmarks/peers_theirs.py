"""What alicatlib and watlowlib do with a simulated device, for comparison.

Run by an interpreter that has them; they need a newer Python than this project does. It
imports nothing of what this project measures:

    peers_theirs LIBRARY PORT...

It opens the devices of the ports and says so with an empty line; then it does what each line of
its input asks for, and prints what that gave as a line of JSON:

    sinks SIZE BATCHES   rows per second, by format
    exchanges WHAT N     the time of each of N readings of the first device, in seconds
    record HZ S          how many samples a recording of S seconds gave
    poll WHAT N          the time of each of N polls of all devices, in seconds
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from .peers_turns import serve, timed

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


class Theirs:
    """The open devices of one library."""

    def __init__(self, library: str, manager: Any, count: int) -> None:
        """Take over the manager of so many devices."""
        self._library = library
        self._manager = manager
        self._count = count

    async def sinks(self, size: str, batches: str) -> Mapping[str, float]:
        """Return rows per second of each format."""
        make = watlow_samples if self._library == "watlowlib" else alicat_samples
        samples = make(int(size))
        made = import_module(f"{self._library}.sinks")
        rates: dict[str, float] = {}
        for kind, name in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                sink = getattr(made, name)(Path(folder) / f"samples.{kind}")
                began_s = time.perf_counter()
                async with sink:
                    for _ in range(int(batches)):
                        await sink.write_many(samples)
                rates[kind] = int(batches) * len(samples) / (time.perf_counter() - began_s)
        return rates

    async def exchanges(self, what: str, count: str) -> Sequence[float]:
        """Return how long readings of the first device take, each time."""
        device = self._manager.get("device0")
        read = {
            "data frame": lambda: device.poll,
            "process_value": lambda: device.read_pv,
            "setpoint": lambda: device.read_setpoint,
        }
        return await timed(read[what](), int(count))

    async def poll(self, what: str, count: str) -> Sequence[float]:
        """Return how long polls of all devices take, each time."""
        manager = self._manager

        async def everybody() -> None:
            given = await (manager.poll() if what == "data frame" else manager.poll_many([what]))
            if len(given) != self._count:
                raise RuntimeError(f"{given}")

        return await timed(everybody, int(count))

    async def record(self, rate_hz: str, seconds: str) -> int:
        """Return how many samples a recording gave."""
        words: dict[str, Any] = {"rate_hz": float(rate_hz), "duration": float(seconds)}
        if self._library == "watlowlib":
            words["parameters"] = ["setpoint"]
        recorder = import_module(f"{self._library}.streaming").record
        given = 0
        async with recorder(self._manager, **words) as recording:
            async for batch in recording.stream:
                given += len(batch)
        return given


async def main(*arguments: str) -> None:
    """Open the devices, and measure until the input ends."""
    library, *ports = arguments
    name = {"alicatlib": "AlicatManager", "watlowlib": "WatlowManager"}[library]
    async with getattr(import_module(library), name)() as manager:
        for number, port in enumerate(ports):
            await manager.add(f"device{number}", port)
        theirs = Theirs(library, manager, len(ports))
        await serve(
            {
                "sinks": theirs.sinks,
                "exchanges": theirs.exchanges,
                "record": theirs.record,
                "poll": theirs.poll,
            }
        )


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
