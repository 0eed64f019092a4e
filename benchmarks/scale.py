"""How cost grows: with actors, queued commands, buses, samples and the length of a run."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
import trio.testing
from attrs import frozen

from actors import Bus, Events, Outcome, Ref, Supervisor, Ticket
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from benchtree import open_tree
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import SqliteSink, record
from transports import SERIAL, Lines, MemoryHost, SimLine, StreamTransport

from .ask import hammer
from .report import Measurement, growth, median_of, take_turns
from .sinks import make_batches

RATE_HZ: Final = 10.0
IDLE_KIB: Final = 6.5


@frozen(kw_only=True)
class _Sizes:
    """How much of everything there is, smallest first, and how often it is measured."""

    actors: Sequence[int] = (10, 100, 1000, 10_000)
    queued: Sequence[int] = (100, 300, 1000)
    rows: Sequence[int] = (10_000, 30_000, 100_000)
    slots: Sequence[int] = (1000, 3000, 10_000)
    polled: Sequence[int] = (10, 100, 1000)
    polls: int = 10_000
    buses: int = 1000
    polled_s: float = 10.0
    calls: int = 4000
    rounds: int = 5


QUICK: Final = _Sizes(
    actors=(10, 30, 100),
    rows=(1000, 2000, 4000),
    slots=(30, 60, 120),
    polled=(1, 3, 9),
    polls=90,
    buses=20,
    polled_s=0.3,
    calls=50,
    rounds=1,
)


class _Echo:
    def receive(self, message: int) -> int:
        return message


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure actors at rest and at work, then buses, then what only grows."""
    sizes = QUICK if quick else _Sizes()
    rounds = sizes.rounds
    idle = min(1000, sizes.actors[-1])
    yield Measurement(
        name="an idle actor",
        value=trio.run(_idle_kib, idle),
        unit="KiB",
        budget=IDLE_KIB,
        n=idle,
    )
    starts, asks = _start_and_ask_each(sizes)
    for actors, ask_us in asks.items():
        yield Measurement(
            name=f"an ask beside {actors} idle actors",
            value=ask_us,
            unit="us",
            ratio=ask_us / asks[sizes.actors[0]],
            against=f"beside {sizes.actors[0]}",
            budget=1.25,
            n=sizes.calls * rounds,
        )
    name = f"starting {sizes.actors[-1]} actors"
    yield Measurement(name=name, value=starts[sizes.actors[-1]], unit="s", n=rounds)
    yield growth("starting actors, growth with actors", starts)
    costs = take_turns({each: partial(_add, each) for each in sizes.actors}, rounds=min(rounds, 3))
    yield growth("starting actors one by one, growth with actors", costs)
    costs = take_turns({each: partial(_serve, each) for each in sizes.queued}, rounds=rounds)
    yield growth("serving a queue, growth with commands", costs)
    costs = take_turns({each: partial(_write, each) for each in sizes.rows}, rounds=rounds)
    yield growth("writing samples, growth with samples", costs)
    costs = take_turns(
        {each: partial(_record, each) for each in sizes.slots}, rounds=min(rounds, 3)
    )
    yield growth("recording, growth with the length of the run", costs)
    polls_us = {each: _poll_us(each, sizes.polls // each) for each in sizes.polled}
    for buses, poll_us in polls_us.items():
        yield Measurement(
            name=f"processor time of a poll of one of {buses} buses",
            value=poll_us,
            unit="us",
            ratio=poll_us / polls_us[sizes.polled[0]],
            against=f"one of {sizes.polled[0]}",
            n=sizes.polls,
        )
    missing, busy = trio.run(_poll_buses, sizes.buses, sizes.polled_s)
    name = f"{sizes.buses} buses polled at {RATE_HZ:g} Hz"
    yield Measurement(name=f"{name}, slots missed", value=missing * 100, unit="%")
    yield Measurement(name=f"{name}, processor", value=busy * 100, unit="% of one")


def _start_and_ask_each(sizes: _Sizes) -> tuple[dict[int, float], dict[int, float]]:
    """Return the median times of a start, in seconds, and of an ask, in microseconds, by size."""
    found: dict[int, list[tuple[float, float]]] = {actors: [] for actors in sizes.actors}
    for _ in range(sizes.rounds):
        for actors, times in found.items():
            times.append(trio.run(_start_and_ask, actors, sizes.calls))
    starts = {actors: median_of(each[0] for each in times) for actors, times in found.items()}
    asks = {actors: median_of(each[1] for each in times) for actors, times in found.items()}
    return starts, asks


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
    began_s = time.perf_counter()
    refs, supervisor = _actors(number)
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        started_s = time.perf_counter() - began_s
        ask_us = await hammer(partial(refs[number // 2].ask, 1), 1, calls)
        nursery.cancel_scope.cancel()
    return started_s, ask_us


def _add(number: int) -> float:
    return trio.run(_add_one_by_one, number)


async def _add_one_by_one(number: int) -> float:
    """Return how long it takes to add so many actors to a supervisor that runs, in seconds."""
    supervisor = Supervisor("bench", events=Events())
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        began_s = time.perf_counter()
        for each in range(number):
            ref: Ref[int, int] = Ref(f"echo{each}", _Echo)
            await supervisor.start_child(ref.spec())
        taken_s = time.perf_counter() - began_s
        nursery.cancel_scope.cancel()
    return taken_s


def _serve(number: int) -> float:
    return trio.run(_serve_queue, number)


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
    """Return how long it takes to write so many rows, in seconds."""
    batches = make_batches(1000, rows // 1000)
    with TemporaryDirectory() as folder:
        sink = SqliteSink(Path(folder) / "samples.sqlite")
        sink.open_blocking()
        began_s = time.perf_counter()
        for batch in batches:
            sink.write(batch)
        taken_s = time.perf_counter() - began_s
        sink.close_blocking()
    return taken_s


def _record(slots: int) -> float:
    """Return how much processor time a recording of so many slots takes, in seconds."""
    return _processor_s(1, slots)


def _poll_us(buses: int, slots: int) -> float:
    """Return how much processor time a poll of one of so many buses takes, in microseconds."""
    return _processor_s(buses, slots) / (buses * slots) * 1e6


def _processor_s(buses: int, slots: int) -> float:
    """Return the processor time of a recording of so many buses and slots, in seconds.

    It has all the processor time that there is: its clock waits for it.
    """
    taken_s: list[float] = []

    async def main() -> None:
        async with open_tree(_bench(buses), sim=True) as tree:
            for each in tree.instruments:
                await each.ask(PowerSupply.voltage)
            gc.collect()  # what so many new tasks owe, not what a poll does
            began_s = time.process_time()
            async with record(
                tree, parameters=["voltage"], rate_hz=RATE_HZ, duration=slots / RATE_HZ
            ) as recording:
                async for batch in recording.stream:
                    del batch
            taken_s.append(time.process_time() - began_s)
        if recording.summary.samples_missing:
            raise RuntimeError(f"{recording.summary}")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
    return taken_s[0]


def _bench(buses: int) -> TreeSpec:
    """Return a bench of so many buses, with a power supply on each."""
    names = [f"bus{number}" for number in range(buses)]
    return TreeSpec(
        buses=[BusSpec(name=name, address=f"tcp://{name}.invalid:5025") for name in names],
        instruments=[
            InstrumentSpec(name=f"psu-{name}", bus=name, driver=PowerSupply) for name in names
        ],
    )


async def _poll_buses(buses: int, seconds: float) -> tuple[float, float]:
    """Return which share of slots was missed, and how busy the processor was."""
    async with open_tree(_bench(buses), sim=True) as tree:
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
