"""How late polls begin at 1 kHz, against a loop around `time.sleep` beside the same writer."""

from __future__ import annotations

import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import trio

from actors import Sample, SampleKey
from recorder import SqliteSink, pipe, record

from .report import Measurement, percentile

RATE_HZ: Final = 1000.0
FLUSH_S: Final = 0.25


def run(*, quick: bool) -> Iterable[Measurement]:
    """Take turns, a second each, so that a slow moment of the machine meets both."""
    rounds, seconds = (4, 1.0) if quick else (10, 2.0)
    ours: list[float] = []
    sleep: list[float] = []
    slots = missing = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            late, owed, missed = trio.run(_record, Path(folder) / f"{number}.sqlite", seconds)
            ours += late
            slots += owed
            missing += missed
            sleep += _sleep(Path(folder) / f"{number}-sleep.sqlite", seconds)
    for share, budget in ((0.50, 0.6), (0.99, 1.2)):
        value = percentile(ours, share) * 1e6
        yield Measurement(
            name=f"recorder lateness at 1 kHz, p{share * 100:.0f}",
            value=value,
            unit="us",
            ratio=value / (percentile(sleep, share) * 1e6),
            against="a time.sleep loop",
            budget=budget,
            n=len(ours),
        )
    yield Measurement(
        name="recorder slots missed at 1 kHz",
        value=missing / slots * 100,
        unit="%",
        budget=1.0,
        n=slots,
    )
    behind = sum(late_s >= 1 / RATE_HZ for late_s in sleep)
    yield Measurement(
        name="time.sleep loop, a slot or more behind",
        value=behind / len(sleep) * 100,
        unit="%",
        n=len(sleep),
    )


class _Instant:
    """A source that answers at once and notes when it was asked."""

    name = "instant"
    keys: Sequence[SampleKey] = (SampleKey("meter", "volt"),)

    def __init__(self) -> None:
        """Start before the first poll."""
        self.asked_s: list[float] = []

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Note the time and answer."""
        self.asked_s.append(time.time())
        await trio.lowlevel.checkpoint()
        deliver(_sample())

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[_Instant]:
        """Return itself as the only bus."""
        del parameters, names, instances
        return (self,)


async def _record(path: Path, seconds: float) -> tuple[list[float], int, int]:
    source = _Instant()
    async with (
        SqliteSink(path) as sink,
        record(
            source, parameters=["volt"], rate_hz=RATE_HZ, duration=seconds, buffer_size=1024
        ) as recording,
    ):
        await pipe(recording.stream, sink, flush_s=FLUSH_S)
    summary = recording.summary
    started_at = summary.started_at
    if started_at is None:
        raise RuntimeError("the recording did not begin")
    begin_s = started_at.timestamp()
    since_s = [at_s - begin_s for at_s in source.asked_s]
    # No poll begins before its target; the beginning is known to a microsecond.
    late = [at_s - math.floor(at_s * RATE_HZ + 0.01) / RATE_HZ for at_s in since_s]
    return late, summary.samples_expected, summary.samples_missing


def _sleep(path: Path, seconds: float) -> list[float]:
    """Return how late a plain loop is, with a writer thread beside it."""
    written: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()

    def write() -> None:
        trio.run(_write, path, written)

    writer = threading.Thread(target=write)
    writer.start()
    late: list[float] = []
    begin_s = time.monotonic() + 0.01
    for slot in range(int(seconds * RATE_HZ)):
        target_s = begin_s + slot / RATE_HZ
        wait_s = target_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        late.append(time.monotonic() - target_s)
        written.put(_sample())
    written.put(None)
    writer.join()
    return late


async def _write(path: Path, samples: queue.SimpleQueue[Sample | None]) -> None:
    async with SqliteSink(path) as sink:
        await trio.to_thread.run_sync(_write_all, sink, samples)


def _write_all(sink: SqliteSink, samples: queue.SimpleQueue[Sample | None]) -> None:
    batch: list[Sample] = []
    ended = False
    while not ended:
        time.sleep(FLUSH_S)
        while not samples.empty():
            sample = samples.get()
            if sample is None:
                ended = True
            else:
                batch.append(sample)
        sink.write(batch)
        batch.clear()


def _sample() -> Sample:
    now_ns = time.monotonic_ns()
    return Sample(
        device="meter",
        address=1,
        protocol="bench",
        parameter="volt",
        parameter_id="volt",
        instance=1,
        value=1.5,
        unit="V",
        requested_ns=now_ns,
        received_ns=now_ns,
        received_utc_ns=time.time_ns(),
    )
