"""Clients that use the modules of one board at the same time, and what each of them gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final

import numpy as np
import pytest
import trio
from attrs import define

from tests.pyrpl.boards import LATENCY_S, Bench, bench

pytestmark = pytest.mark.heavy

ASG0_STEP: Final = 0x4020_0010
PID0_SETPOINT: Final = 0x4030_0104
IQ0_FREQUENCY: Final = 0x4035_0108
STEP_HZ: Final = 125e6 / 2**30


@define
class Counted:
    """What one client did.

    Attributes:
        asked: How often it asked.
        answered: How often it was answered.
        mixed: How often the answer was not its own.
    """

    asked: int = 0
    answered: int = 0
    mixed: int = 0


Client = Callable[[Bench, Random], Awaitable[bool]]
"""Asks once and returns whether what came back is right."""


async def _scope(b: Bench, random: Random) -> bool:
    # The second generator puts out a constant that only this client knows.
    level = round(random.uniform(-0.9, 0.9), 3)
    await b.rp.asg1.offset.set(level)
    duration = random.choice([0.002, 0.02])
    trace = await b.rp.scope.single(input1="asg1", input2="asg0", duration=duration)
    right = np.abs(trace.ch1 - level).max() < 2e-3 and len(trace.ch2) == 16_384
    return bool(right) and trace.time[-1] > 0.9 * duration


async def _asg(b: Bench, random: Random) -> bool:
    frequency = round(random.uniform(100.0, 1e6), 1)
    await b.rp.asg0.frequency.set(frequency)
    written = b.register(ASG0_STEP) * STEP_HZ
    found = await b.rp.asg0.frequency.get()
    return abs(written - frequency) < 0.2 and found is not None and abs(found - frequency) < 0.2


async def _pid(b: Bench, random: Random) -> bool:
    setpoint = random.randrange(-8191, 8191)
    await b.rp.pid0.setpoint.set(setpoint / 8192)
    written = b.register(PID0_SETPOINT)
    found = await b.rp.pid0.setpoint.get()
    error = await b.rp.pid0.error.get()
    return written == setpoint % 16_384 and found == setpoint / 8192 and error is not None


async def _iq(b: Bench, random: Random) -> bool:
    frequency, amplitude = round(random.uniform(2e5, 1e6), 1), round(random.uniform(0.1, 0.4), 3)
    await b.rp.iq0.frequency.set(frequency)
    await b.rp.iq0.amplitude.set(amplitude)
    written = b.register(IQ0_FREQUENCY) * 125e6 / 2**32
    # Through a cable: what it puts out comes back.
    found = await b.rp.iq0.quadratures(average_s=0.01)
    return abs(written - frequency) < 0.1 and abs(found.amplitude / amplitude - 1.0) < 0.05


async def _analyzer(b: Bench, random: Random) -> bool:
    points = random.randrange(3, 8)
    sweep = b.rp.network_analyzer.sweep(
        1e4, 1e5, points, input="in2", output="out2", bandwidth_hz=1e3
    )
    found = [point async for point in sweep]
    # Out and back through a cable.
    right = all(abs(point.response - 1.0) < 0.05 for point in found)
    return right and [point.index for point in found] == list(range(points))


CLIENTS: Final[Mapping[str, Client]] = {
    "scope": _scope,
    "asg": _asg,
    "pid": _pid,
    "iq": _iq,
    "analyzer": _analyzer,
}


@pytest.mark.parametrize(
    "for_s", [pytest.param(15.0, id="15s"), pytest.param(60.0, id="60s", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("names", ["scope asg", "scope asg pid", "scope asg pid iq analyzer"])
@pytest.mark.timeout(180)
async def test_nothing_is_mixed_up_or_lost(names: str, for_s: float) -> None:
    """Concurrent clients get each their own answers, which the board's registers confirm."""
    counted = {name: Counted() for name in names.split()}
    async with bench(latency_s=LATENCY_S) as b:
        rp = b.rp
        await rp.asg0.setup(waveform="sin", frequency=1e3, amplitude=0.5)
        await rp.asg1.setup(waveform="dc", amplitude=0.0)
        await rp.pid0.input.set("in1")
        await rp.iq0.bandwidth.set([1e4])
        await rp.iq0.output_signal.set("quadrature")
        await rp.iq0.quadrature_factor.set(2.0)
        await rp.iq0.input.set("in1")
        await rp.iq0.output.set("out1")

        async def work(name: str) -> None:
            random, count = Random(name), counted[name]
            until_s = trio.current_time() + for_s
            while trio.current_time() < until_s:
                count.asked += 1
                count.mixed += not await CLIENTS[name](b, random)
                count.answered += 1

        async with trio.open_nursery() as nursery:
            for name in counted:
                nursery.start_soon(work, name)
        transport = rp.bus.transport
        assert transport.counters.timeouts == transport.counters.foreign == 0
    for name, count in counted.items():
        assert count.answered == count.asked >= 5, name
        assert count.mixed == 0, name
