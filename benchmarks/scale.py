"""How cost grows: with actors, queued commands, buses, samples and the length of a run."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterable
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
import trio.testing

from actors import Bus, Events, Outcome, Ref, Supervisor, Ticket
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from benchtree import open_tree
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import SqliteSink, record
from transports import SERIAL, Lines, MemoryHost, SimLine, StreamTransport

from .ask import hammer
from .report import Measurement, growth, median_of
from .sinks import make_samples

ACTORS: Final = (10, 100, 1000, 10_000)
QUEUED: Final = (100, 300, 1000)
ROWS: Final = (10_000, 30_000, 100_000)
SLOTS: Final = (1000, 3000, 10_000)
BUSES: Final = 1000
RATE_HZ: Final = 10.0
IDLE_KIB: Final = 6.5


class _Echo:
    def receive(self, message: int) -> int:
        return message


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure actors at rest and at work, then buses, then what only grows."""
    calls, rounds = (1000, 3) if quick else (4000, 9)
    yield Measurement(
        name="an idle actor",
        value=trio.run(_idle_kib, 1000),
        unit="KiB",
        budget=IDLE_KIB,
        n=1000,
    )
    starts: list[float] = []
    asks: list[float] = []
    for actors in ACTORS:
        measured = [trio.run(_start_and_ask, actors, calls) for _ in range(rounds)]
        starts.append(median_of(each[0] for each in measured))
        asks.append(median_of(each[1] for each in measured))
        yield Measurement(
            name=f"an ask beside {actors} idle actors",
            value=asks[-1],
            unit="us",
            ratio=asks[-1] / asks[0],
            against=f"beside {ACTORS[0]}",
            budget=1.25,
            n=calls * rounds,
        )
    yield Measurement(name=f"starting {ACTORS[-1]} actors", value=starts[-1], unit="s", n=rounds)
    yield growth("starting actors, growth with actors", ACTORS, starts)
    queued = [median_of(trio.run(_serve_queue, each) for _ in range(rounds)) for each in QUEUED]
    yield growth("serving a queue, growth with commands", QUEUED, queued)
    written = [median_of(_write(each) for _ in range(rounds)) for each in ROWS]
    yield growth("writing samples, growth with samples", ROWS, written)
    recorded = [median_of(_record(each) for _ in range(rounds)) for each in SLOTS]
    yield growth("recording, growth with the length of the run", SLOTS, recorded)
    missing, busy = trio.run(_poll_buses, 3.0 if quick else 10.0)
    name = f"{BUSES} buses polled at {RATE_HZ:g} Hz"
    yield Measurement(name=f"{name}, slots missed", value=missing * 100, unit="%")
    yield Measurement(name=f"{name}, processor", value=busy * 100, unit="% of one")


def _actors(number: int) -> tuple[list[Ref[int, int]], Supervisor]:
    refs: list[Ref[int, int]] = [Ref(f"echo{each}", _Echo) for each in range(number)]
    return refs, Supervisor("bench", [ref.spec() for ref in refs], events=Events())


async def _idle_kib(number: int) -> float:
    """Return how much memory an actor holds that has answered once and waits, in KiB."""
    gc.collect()
    tracemalloc.start()
    try:
        refs, supervisor = _actors(number)
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(supervisor.run, up.set)
            await up.wait()
            for ref in refs:
                await ref.ask(1)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
            nursery.cancel_scope.cancel()
    finally:
        tracemalloc.stop()
    return held / number / 1024


async def _start_and_ask(number: int, calls: int) -> tuple[float, float]:
    refs, supervisor = _actors(number)
    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        started_s = time.perf_counter() - began_s
        ask_us = await hammer(partial(refs[number // 2].ask, 1), 1, calls)
        nursery.cancel_scope.cancel()
    return started_s, ask_us


async def _serve_queue(number: int) -> float:
    """Return how long it takes until a queue of commands is served, in seconds."""
    host = MemoryHost(SimLine(PowerSupplyModel()))
    transport = StreamTransport("queue", host.connect, framing=Lines(), profile=SERIAL)
    bus = Bus("queue", transport, SERIAL, events=Events(), sequence=count(1))
    psu = PowerSupply("psu", bus)
    bus.attach(psu)
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(bus.run, up.set)
        await up.wait()
        await psu.voltage.get()
        began_s = time.perf_counter()
        tickets: list[Ticket[float | None]] = [
            await psu.submit(PowerSupply.voltage) for _ in range(number)
        ]
        outcomes: list[Outcome[float | None]] = [await ticket.outcome() for ticket in tickets]
        taken_s = time.perf_counter() - began_s
        nursery.cancel_scope.cancel()
    if not all(each.ok for each in outcomes):
        raise RuntimeError("a command failed")
    return taken_s


def _write(rows: int) -> float:
    samples = make_samples(1000)
    with TemporaryDirectory() as folder:
        sink = SqliteSink(Path(folder) / "samples.sqlite")
        sink.open_blocking()
        began_s = time.perf_counter()
        for _ in range(rows // len(samples)):
            sink.write(samples)
        taken_s = time.perf_counter() - began_s
        sink.close_blocking()
    return taken_s


def _record(slots: int) -> float:
    """Return how much processor time a recording of so many slots takes, in seconds."""

    async def main() -> None:
        async with open_tree(sim=True) as tree:
            await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
            async with record(
                tree, parameters=["voltage"], rate_hz=10, duration=slots / 10
            ) as recording:
                async for batch in recording.stream:
                    del batch
            if recording.summary.samples_read < slots - 10:
                raise RuntimeError(f"{recording.summary}")

    began_s = time.process_time()
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
    return time.process_time() - began_s


async def _poll_buses(seconds: float) -> tuple[float, float]:
    """Return which share of slots was missed, and how busy the processor was."""
    names = [f"bus{number}" for number in range(BUSES)]
    spec = TreeSpec(
        buses=[BusSpec(name=name, address=f"tcp://{name}.invalid:5025") for name in names],
        instruments=[
            InstrumentSpec(name=f"psu-{name}", bus=name, driver=PowerSupply) for name in names
        ],
    )
    async with open_tree(spec, sim=True) as tree:
        for each in tree.instruments:
            await each.ask(PowerSupply.voltage)
        began_s, worked_s = time.perf_counter(), time.process_time()
        async with record(
            tree, parameters=["voltage"], rate_hz=RATE_HZ, duration=seconds
        ) as recording:
            async for batch in recording.stream:
                del batch
        busy = (time.process_time() - worked_s) / (time.perf_counter() - began_s)
    summary = recording.summary
    return summary.samples_missing / summary.samples_expected, busy
