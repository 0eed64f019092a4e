"""How late polls begin, against plain loops beside the same writer."""

from __future__ import annotations

import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from actors import Sample, SampleKey
from recorder import SqliteSink, pipe, record

from .report import Measurement, percentile

RATES_HZ: Final = (10.0, 100.0, 1000.0, 2000.0)
HELD_HZ: Final = 1000.0
"""The rate that has a budget, while SQLite is written."""

FLUSH_S: Final = 0.25


@define
class _Lateness:
    """How late each slot began, in seconds; and how many slots were owed and missed."""

    late_s: list[float] = field(factory=list[float])
    slots: int = 0
    missing: int = 0

    def add(self, late_s: Sequence[float], slots: int, missing: int) -> None:
        self.late_s += late_s
        self.slots += slots
        self.missing += missing


def run(*, quick: bool) -> Iterable[Measurement]:
    """Take turns, so that a slow moment of the machine meets all."""
    for rate_hz in (HELD_HZ,) if quick else RATES_HZ:
        for writing in (False, True):
            held = writing and rate_hz == HELD_HZ
            rounds, seconds = (6, 2.0) if held else (2, 1.0)
            if quick:
                rounds, seconds = 1, 0.1
            yield from _measure(rate_hz, seconds, rounds, writing=writing, held=held)


def _measure(
    rate_hz: float, seconds: float, rounds: int, *, writing: bool, held: bool
) -> Iterable[Measurement]:
    loops = {"a time.sleep loop": _sleep, "a trio.sleep_until loop": _sleep_until}
    ours = _Lateness()
    others = {name: _Lateness() for name in loops}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = Path(folder) / f"{number}.sqlite" if writing else None
            ours.add(*trio.run(_record, path, rate_hz, seconds))
            for place, (name, loop) in enumerate(loops.items()):
                path = Path(folder) / f"{number}-{place}.sqlite" if writing else None
                late_s = _beside_writer(path, rate_hz, seconds, loop)
                behind = sum(each_s >= 1 / rate_hz for each_s in late_s)
                others[name].add(late_s, len(late_s), behind)
    case = f"at {rate_hz:g} Hz{', SQLite being written' if writing else ''}"
    for share, budget in ((0.50, 0.6), (0.99, 1.2)):
        value_s = percentile(ours.late_s, share)
        for name, other in others.items():
            yield Measurement(
                name=f"recorder lateness {case}, p{share * 100:.0f}",
                value=value_s * 1e6,
                unit="us",
                ratio=value_s / percentile(other.late_s, share),
                against=name,
                budget=budget if held and name == "a time.sleep loop" else None,
                n=ours.slots,
            )
    plain = "a time.sleep loop"
    # The loop leaves none out: it begins each, however far behind.
    value_s = percentile([*ours.late_s, *[1 / rate_hz] * ours.missing], 0.99)
    yield Measurement(
        name=f"recorder lateness {case}, slots missed being a slot late, p99",
        value=value_s * 1e6,
        unit="us",
        ratio=value_s / percentile(others[plain].late_s, 0.99),
        against=plain,
        n=ours.slots,
    )
    yield Measurement(
        name=f"recorder slots missed {case}",
        value=ours.missing / ours.slots * 100,
        unit="%",
        budget=1.0 if held else None,
        n=ours.slots,
    )
    for name, other in others.items():
        yield Measurement(
            name=f"{name} {case}, a slot or more behind",
            value=other.missing / other.slots * 100,
            unit="%",
            n=other.slots,
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


async def _record(
    path: Path | None, rate_hz: float, seconds: float
) -> tuple[list[float], int, int]:
    source = _Instant()
    async with AsyncExitStack() as stack:
        sinks = [] if path is None else [await stack.enter_async_context(SqliteSink(path))]
        recording = await stack.enter_async_context(
            record(source, parameters=["volt"], rate_hz=rate_hz, duration=seconds, buffer_size=1024)
        )
        await pipe(recording.stream, *sinks, flush_s=FLUSH_S)
    summary = recording.summary
    started_at = summary.started_at
    if started_at is None:
        raise RuntimeError("the recording did not begin")
    begin_s = started_at.timestamp()
    since_s = [at_s - begin_s for at_s in source.asked_s]
    # No poll begins before its target; the beginning is known to a microsecond.
    late_s = [at_s - math.floor(at_s * rate_hz + 0.01) / rate_hz for at_s in since_s]
    return late_s, summary.samples_expected, summary.samples_missing


_Loop = Callable[[float, int, Callable[[], None]], list[float]]


def _beside_writer(path: Path | None, rate_hz: float, seconds: float, loop: _Loop) -> list[float]:
    """Return how late a plain loop is, with a writer thread beside it if there is a path."""
    written: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
    writer = threading.Thread(target=trio.run, args=(_write, path, written))
    if path is not None:
        writer.start()
    late_s = loop(rate_hz, int(seconds * rate_hz), lambda: written.put(_sample()))
    written.put(None)
    if path is not None:
        writer.join()
    return late_s


def _sleep(rate_hz: float, slots: int, work: Callable[[], None]) -> list[float]:
    late_s: list[float] = []
    begin_s = time.monotonic() + 0.01
    for slot in range(slots):
        target_s = begin_s + slot / rate_hz
        wait_s = target_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        late_s.append(time.monotonic() - target_s)
        work()
    return late_s


def _sleep_until(rate_hz: float, slots: int, work: Callable[[], None]) -> list[float]:
    async def main() -> list[float]:
        late_s: list[float] = []
        begin_s = trio.current_time() + 0.01
        for slot in range(slots):
            target_s = begin_s + slot / rate_hz
            await trio.sleep_until(target_s)
            late_s.append(trio.current_time() - target_s)
            work()
        return late_s

    return trio.run(main)


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
