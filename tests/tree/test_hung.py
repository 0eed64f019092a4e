"""Buses that hang, beside buses that must not notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from attrs import evolve
from trio.testing import MockClock

from actors import SafeStateFailed, SafeStateReached, Sample
from actors.instruments.scpi import Multimeter, PowerSupply
from actors.instruments.scpi.models import MultimeterModel, PowerSupplyModel
from benchtree import Tree, open_tree
from recorder import record
from tests.tree.kit import Witness, bench_of, switch_on
from transports import TCP, SimLine, serve_tcp

HALF = 16
QUICK = evolve(TCP, safe_s=1.0, emergency_wait_s=0.2, connect_within_s=1.0)


class Stopwatch(Witness):
    """Notes when instruments were driven safe.

    Attributes:
        safe_s: Trio's time of each safe state, by instrument.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self.safe_s: dict[str, float] = {}

    def __call__(self, event: object) -> None:
        """See an event."""
        if isinstance(event, SafeStateReached):
            self.safe_s[event.instrument] = trio.current_time()
        elif isinstance(event, SafeStateFailed):
            super().__call__(event)


async def test_half_of_the_buses_hang(autojump_clock: MockClock) -> None:
    """In virtual time healthy buses are safe at once, and the whole takes one safe state."""
    watch = Stopwatch()
    healthy = [f"good{number}" for number in range(HALF)]
    hung = [f"hung{number}" for number in range(HALF)]
    async with open_tree(bench_of(*healthy, *hung), sim=True, observer=watch) as tree:
        devices = await switch_on(tree, *healthy, *hung)
        for name in hung:
            tree.lines[name].hang()
        began_s = trio.current_time()
    assert not any(device.output_on for device in devices[:HALF])
    assert watch.safe_s == dict.fromkeys(healthy, began_s)
    assert {each.instrument for each in watch.of(SafeStateFailed)} == set(hung)
    assert trio.current_time() - began_s <= TCP.safe_s + TCP.close_within_s


async def test_hung_in_mid_command(autojump_clock: MockClock) -> None:
    """A bus that hangs with a full lane costs the drain and one safe state, not more."""
    watch = Stopwatch()
    names = ("good", "hung")
    async with open_tree(bench_of(*names, drain_s=2.0), sim=True, observer=watch) as tree:
        (device, _) = await switch_on(tree, *names)
        tree.lines["hung"].hang()
        for _ in range(100):
            await tree.get("hung", PowerSupply).voltage.submit(1.0)
        began_s = trio.current_time()
    assert not device.output_on
    assert watch.safe_s["good"] <= began_s + 2.0
    assert trio.current_time() - began_s <= 2.0 + TCP.safe_s + TCP.close_within_s


@asynccontextmanager
async def _served(lines: Sequence[SimLine]) -> AsyncGenerator[list[str]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve_tcp(line)) for line in lines]


async def test_half_of_the_buses_hang_for_real() -> None:
    """Over TCP every healthy bus is safe within one safe state's time, not after the sum."""
    watch = Stopwatch()
    models = [PowerSupplyModel() for _ in range(2 * HALF)]
    lines = [SimLine(model) for model in models]
    async with _served(lines) as addresses:
        async with open_tree(observer=watch) as tree:
            for number, address in enumerate(addresses):
                await tree.add(f"psu{number}", PowerSupply, address, profile=QUICK)
            async with trio.open_nursery() as nursery:
                for number in range(2 * HALF):
                    nursery.start_soon(_switch_on, tree, f"psu{number}")
            assert all(model.output_on for model in models)
            for line in lines[HALF:]:
                line.hang()
            began_s = trio.current_time()
        ended_s = trio.current_time()
    assert not any(model.output_on for model in models[:HALF])
    assert len(watch.safe_s) == HALF
    assert max(watch.safe_s.values()) - began_s < QUICK.safe_s
    assert {each.instrument for each in watch.of(SafeStateFailed)} == {
        f"psu{number}" for number in range(HALF, 2 * HALF)
    }
    assert ended_s - began_s < 2 * QUICK.safe_s


async def _switch_on(tree: Tree, name: str) -> None:
    await tree.get(name, PowerSupply).output.set(True, confirm=True)


async def test_a_hung_bus_delays_no_other(autojump_clock: MockClock) -> None:
    """In virtual time the others are polled and answer to the microsecond as without it."""
    assert await _poll(hang=True) == await _poll(hang=False)


async def _poll(*, hang: bool) -> list[tuple[str, int, int]]:
    spec = bench_of("a", "b", "c", "hung", driver=Multimeter)
    async with open_tree(spec, sim=True) as tree:
        for line in tree.lines.values():
            line.latency_s = 0.01
        await tree.poll_many(["voltage"])
        began_ns = round(trio.current_time() * 1e9)
        if hang:
            tree.lines["hung"].hang()
        samples: list[Sample] = []
        async with record(tree, parameters=["voltage"], rate_hz=20, duration=5.0) as recording:
            async for batch in recording.stream:
                samples += batch
        assert isinstance(tree.lines["hung"].model, MultimeterModel)
        counts = recording.summary.by_device()
        assert [counts[name].missing for name in "abc"] == [0] * 3
        assert (counts["hung"].missing > 0) == hang
        return sorted(
            (
                each.device,
                # The floats of the two runs differ in their last bits.
                round((each.requested_ns - began_ns) / 1e3),
                round((each.received_ns - began_ns) / 1e3),
            )
            for each in samples
            if each.device != "hung"
        )


async def test_a_hung_bus_delays_no_other_for_real() -> None:
    """Over TCP at 20 Hz the others miss nothing while one bus hangs, and after."""
    lines = [SimLine(MultimeterModel(), latency_s=0.005) for _ in range(4)]
    async with _served(lines) as addresses, open_tree() as tree:
        for name, address in zip("abcd", addresses, strict=True):
            await tree.add(name, Multimeter, address)
        await tree.poll_many(["voltage"])
        async with record(tree, parameters=["voltage"], rate_hz=20, duration=3.0) as recording:
            batches = 0
            async for _ in recording.stream:
                batches += 1
                if batches == 20:
                    lines[3].hang()
        counts = recording.summary.by_device()
    assert {name: counts[name].missing for name in "abc"} == dict.fromkeys("abc", 0)
    assert [counts[name].expected for name in "abcd"] == [60] * 4
    assert counts["d"].missing >= 20
