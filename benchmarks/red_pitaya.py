"""A Red Pitaya that is emulated, behind the real PyRPL: what goes on beside what."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

import trio

from actors import BreakerPolicy, BusLost, CommandError, Event
from actors.instruments.red_pitaya import RedPitaya
from benchtree import open_tree
from transports import PyrplTransport, RemoteLine, SimProcess, SimSpec

from .report import Measurement, percentile

LATENCY_S: Final = 0.000_15
"""How long bytes travel one way: a register takes twice that."""

_MODEL: Final = "actors.instruments.red_pitaya:RedPitayaModel"
_QUICK: Final = BreakerPolicy(open_s=0.2, jitter=0.0)
_ARRAY_BYTES: Final = 16_384 * 8


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure latencies during an acquisition, arrays, withdrawals and recoveries."""
    if find_spec("pyrpl") is None:
        sys.stderr.write('pyrpl: left out, PyRPL is not here: pip install "benchtree[pyrpl]"\n')
        return
    found: list[Measurement] = []
    trio.run(_measure, found, quick)
    yield from found


async def _measure(found: list[Measurement], quick: bool) -> None:
    events: list[Event] = []
    async with _board(events) as (rp, line):
        found += _shares("set asg0.frequency", await _set(rp, 10 if quick else 1000))
        found += await _beside(rp, 0.1 if quick else 1.0, 1 if quick else 3)
        found.append(await _arrays(rp, 3 if quick else 100))
        found += _shares(
            "Red Pitaya, withdraw a trace until free",
            await _withdraw(rp, 2 if quick else 10),
            at_most=(20, 20),
        )
        found += _shares(
            "Red Pitaya, withdraw a sweep until free",
            await _withdraw_sweep(rp, 2 if quick else 10),
            at_most=(20, 20),
        )
        found += await _killed(rp, 1 if quick else 10)
        found.append(await _stalled(line, events))


@asynccontextmanager
async def _board(events: list[Event]) -> AsyncGenerator[tuple[RedPitaya, RemoteLine]]:
    async with SimProcess([SimSpec(model=_MODEL, one_client=True)]) as process:
        line = process.lines[0]
        await line.set_latency(LATENCY_S)
        port = line.address.rpartition(":")[2]
        async with open_tree(observer=events.append) as tree:
            address = f"redpitaya://127.0.0.1?port={port}&ssh=false"
            rp = await tree.add("rp", RedPitaya, address, breaker=_QUICK)
            await rp.get("hk.led")
            yield rp, line


async def _set(rp: RedPitaya, times: int, every_s: float = 0.0) -> list[float]:
    taken: list[float] = []
    for turn in range(times):
        began_s = time.perf_counter()
        await rp.asg0.frequency.set(1000.0 + turn)
        taken.append(time.perf_counter() - began_s)
        if every_s:
            await trio.sleep(every_s)
    return taken


async def _beside(rp: RedPitaya, duration_s: float, rounds: int) -> list[Measurement]:
    """Set the frequency again and again while a trace is acquired and read."""
    taken: list[float] = []
    traces: list[float] = []

    async def acquire(over: trio.CancelScope) -> None:
        began_s = time.perf_counter()
        await rp.scope.single(duration=duration_s)
        traces.append(time.perf_counter() - began_s)
        over.cancel()

    for _ in range(rounds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acquire, nursery.cancel_scope)
            while True:
                taken += await _set(rp, 1, 0.002)
    serial_ms = 1e3 * sum(traces) / len(traces)
    name = f"Red Pitaya, set beside a trace of {serial_ms / 1e3:.1f} s"
    return _shares(name, taken, at_most=(5, 20))


async def _arrays(rp: RedPitaya, times: int) -> Measurement:
    began_s = time.perf_counter()
    for _ in range(times):
        await rp.get("asg0.data")
    mb_per_s = times * _ARRAY_BYTES / (time.perf_counter() - began_s) / 1e6
    return Measurement(
        name="arrays of 128 KiB from the worker", value=mb_per_s, unit="MB/s", n=times
    )


async def _withdraw(rp: RedPitaya, times: int) -> list[float]:
    taken: list[float] = []
    for _ in range(times):
        ticket = await rp.scope.submit_single(duration=8.0)
        await trio.sleep(0.1)
        began_s = time.perf_counter()
        ticket.withdraw()
        # Waits in the lane until the module is free.
        await rp.scope.threshold.set(0.1)
        taken.append(time.perf_counter() - began_s)
    return taken


async def _withdraw_sweep(rp: RedPitaya, times: int) -> list[float]:
    taken: list[float] = []
    for _ in range(times):
        sweep = rp.network_analyzer.sweep(1e3, 1e5, 1000)
        await anext(sweep)
        began_s = time.perf_counter()
        sweep.withdraw()
        # Waits in the lane until the module is free.
        await rp.network_analyzer.points.set(10)
        taken.append(time.perf_counter() - began_s)
    return taken


async def _killed(rp: RedPitaya, times: int) -> list[Measurement]:
    told: list[float] = []
    back: list[float] = []
    transport = rp.bus.transport
    assert isinstance(transport, PyrplTransport)
    for _ in range(times):
        ticket = await rp.scope.submit_single(duration=8.0)
        await trio.sleep(0.1)
        assert transport.pid is not None
        began_s = time.perf_counter()
        os.kill(transport.pid, signal.SIGKILL)
        await ticket.outcome()
        told.append(time.perf_counter() - began_s)
        while True:
            try:
                await rp.scope.threshold.get()
            except CommandError:
                await trio.sleep(0.005)
            else:
                break
        back.append(time.perf_counter() - began_s)
    return [
        *_shares("Red Pitaya, kill -9 until the caller is told", told, at_most=(100, 100)),
        *_shares("Red Pitaya, kill -9 until another worker serves", back, at_most=(2000, 2000)),
    ]


async def _stalled(line: RemoteLine, events: list[Event]) -> Measurement:
    seen = len(events)
    began_s = time.perf_counter()
    await line.hang()
    # Nobody asks for anything: the heart-beat alone finds it.
    while not any(isinstance(each, BusLost) for each in events[seen:]):  # noqa: ASYNC110
        await trio.sleep(0.005)
    taken_ms = (time.perf_counter() - began_s) * 1e3
    await line.unhang()
    return Measurement(
        name="Red Pitaya, a stalled board until it is noticed",
        value=taken_ms,
        unit="ms",
        budget=3000,
    )


def _shares(
    name: str, taken_s: Sequence[float], at_most: tuple[float, float] | None = None
) -> list[Measurement]:
    return [
        Measurement(
            name=f"{name}, p{share * 100:.0f}",
            value=percentile(taken_s, share) * 1e3,
            unit="ms",
            budget=None if at_most is None else at_most[index],
            n=len(taken_s),
        )
        for index, share in enumerate((0.5, 0.99))
    ]
