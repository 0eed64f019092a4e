"""A bus that hangs for ever delays no other."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from actors import BusPoll, Cause, Events, ReadFailed, Sample
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel

from .bench import Bench, Parts, bench_running

RATE_HZ = 20
SLOTS = 20 * 60


async def poll_all(poll: BusPoll, began_s: float, samples: list[Sample]) -> None:
    """Poll on absolute targets."""
    for slot in range(SLOTS):
        await trio.sleep_until(began_s + slot / RATE_HZ)
        await poll.poll(samples.append)


async def test_a_hung_bus_delays_no_other(autojump_clock: MockClock) -> None:
    """One of four hangs for ever; the other three are read at 20 Hz on the exact instants."""
    events = Events()
    benches = {
        name: Bench(PowerSupplyModel(), [], Parts(), name=name, events=events) for name in "abcd"
    }
    polls: dict[str, BusPoll] = {}
    for name, bench in benches.items():
        supply = PowerSupply(f"psu-{name}", bench.bus)
        bench.bus.attach(supply, bench.parts.policy)
        polls[name] = BusPoll(bench.bus, events)
        polls[name].add(supply, "current")
    samples: dict[str, list[Sample]] = {name: [] for name in "abcd"}
    a, b, c, d = benches.values()
    async with bench_running(a), bench_running(b), bench_running(c), bench_running(d):
        for bench in benches.values():
            await bench.in_service()
        d.line.hang()
        began_s = trio.current_time() + 1.0
        async with trio.open_nursery() as nursery:
            for name, poll in polls.items():
                nursery.start_soon(poll_all, poll, began_s, samples[name])
        for name in "abc":
            assert [each.requested_ns / 1e9 for each in samples[name]] == [
                round((began_s + slot / RATE_HZ) * 1e9) / 1e9 for slot in range(SLOTS)
            ]
        assert samples["d"] == []
        assert len([each for each in d.of(ReadFailed) if each.instrument == "psu-d"]) > SLOTS // 2
        assert {each.cause for each in d.of(ReadFailed)} == {Cause.TRANSPORT, Cause.BREAKER}
