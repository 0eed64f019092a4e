"""Long recordings in virtual time: no drift, flat memory, exact numbers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from actors import Sample, SampleKey
from recorder import Counts, record

from .sources import Bench, make_sample


class Steady:
    """A bus that answers at once and remembers only its last poll.

    Attributes:
        begun_s: Trio's time at the start of the last poll.
        polls: How many there were.
    """

    name = "steady"
    keys: Sequence[SampleKey] = (SampleKey("oven", "temperature"),)

    def __init__(self) -> None:
        """Start before the first poll."""
        self.begun_s = 0.0
        self.polls = 0

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Answer every poll but each tenth."""
        self.begun_s = trio.current_time()
        self.polls += 1
        await trio.lowlevel.checkpoint()
        if self.polls % 10:
            deliver(make_sample(self.keys[0], self.polls))


async def check(hours: float, rate_hz: float) -> None:
    """Record so long, and fail on drift, growth, or a number that is off by one."""
    bus = Steady()
    slots = round(hours * 3600 * rate_hz)
    begin_s = trio.current_time()
    taken = 0
    blocks: list[int] = []
    async with record(
        Bench(bus),
        parameters=["temperature"],
        rate_hz=rate_hz,
        duration=hours * 3600,
        # The log that pytest keeps would grow.
        observer=lambda event: None,
    ) as recording:
        async for batch in recording.stream:
            taken += len(batch)
            if taken in {slots // 10, slots * 8 // 10}:
                gc.collect()
                blocks.append(sys.getallocatedblocks())
    assert bus.polls == slots
    assert bus.begun_s - begin_s == pytest.approx((slots - 1) / rate_hz, abs=1e-6)
    read = slots - slots // 10
    assert taken == read
    summary = recording.summary
    assert summary.total() == Counts(read=read, missing=slots - read, emitted=read)
    assert summary.max_drift_ms < 0.01
    early, late = blocks
    assert late - early < 500


async def test_two_hours_at_10_hz(autojump_clock: MockClock) -> None:
    """After 72 000 slots the last one begins where the first said it would."""
    await check(2, 10)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_day_at_100_hz(autojump_clock: MockClock) -> None:
    """After 8 640 000 slots likewise."""
    await check(24, 100)
