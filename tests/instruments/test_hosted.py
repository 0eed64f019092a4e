"""A library of somebody else on a bus of ours: in step, restarted, recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import evolve, frozen
from trio.testing import MockClock

from actors import Cause, CommandError, RefusedError
from actors.instruments.hosted import HostedInstrument
from benchtree import Action, Reading, Setting, Tree, open_tree, record
from tests.instruments.library import Meter, open_meter
from transports import TCP, EchoModel, Hosting, SimLine, default_profile, parse_address, serve_tcp

# What fails is seen at once.
ONCE = evolve(default_profile(parse_address("sim://meter")), attempts=1)


async def identify(meter: Meter) -> list[str]:
    """Return who the device is."""
    return (await meter.query("*IDN?")).split(",")


async def one(meter: Meter) -> float:
    """Return 1 by way of the device."""
    return await meter.value("1")


async def two(meter: Meter) -> float:
    """Return 2 by way of the device."""
    return await meter.value("2")


async def slow(meter: Meter) -> str:
    """Return something after a while."""
    return await meter.query("WAIT 0.4 3")


async def text(meter: Meter) -> str:
    """Return what is no number."""
    return await meter.query("ECHO word")


async def level(meter: Meter, *level: float) -> float:
    """Set the level, or read it."""
    return await meter.set_level(*level) if level else await meter.value(str(meter.level))


HOSTING = Hosting(
    open_meter,
    {
        "identify": identify,
        "one": one,
        "two": two,
        "slow": slow,
        "text": text,
        "level": level,
        "fail": Meter.break_down,
    },
)


class HostedMeter(HostedInstrument):
    """The library's meter as an instrument."""

    hosting = HOSTING
    model = EchoModel

    one = Reading("one", unit="V")
    two = Reading("two", unit="V")
    slow = Reading("slow", type=str)
    wrong = Reading("text")
    level = Setting("level", low=0.0, high=5.0)
    fail = Action("fail")


@frozen
class Desk:
    """The tree, the instrument and its line."""

    tree: Tree
    meter: HostedMeter
    line: SimLine


@asynccontextmanager
async def desk(timeout_s: float = 1.0) -> AsyncGenerator[Desk]:
    """Run one hosted meter."""
    async with open_tree() as tree:
        meter = await tree.add(
            "meter", HostedMeter, "sim://meter", timeout_s=timeout_s, profile=ONCE
        )
        (line,) = tree.lines.values()
        assert await meter.one.get() == 1.0
        yield Desk(tree, meter, line)


async def test_calls_are_readings_settings_and_actions(autojump_clock: MockClock) -> None:
    """What the library returns is a value, checked and in its own unit."""
    async with desk() as bench:
        assert await bench.meter.two.get() == 2.0
        await bench.meter.level.set(4.0)
        assert await bench.meter.level.get() == 4.0
        with pytest.raises(RefusedError, match="out of range"):
            await bench.meter.level.set(9.0)
        with pytest.raises(CommandError) as wrong:
            await bench.meter.wrong.get()
        assert wrong.value.cause is Cause.TRANSPORT
        (status,) = bench.tree.status()[0].instruments
        assert str(status.identity) == "benchtree echo 1 0"


async def test_cancelled_call_answers_nothing_else(autojump_clock: MockClock) -> None:
    """A call cut short spoils no later one, though the library checks nothing itself."""
    async with desk(timeout_s=0.2) as bench:
        for late_s in (0.3, 0.5, 0.6):
            bench.line.late(late_s)
            with pytest.raises(CommandError, match="the library did not return"):
                await bench.meter.one.get()
            assert await bench.meter.two.get() == 2.0
            assert await bench.meter.one.get() == 1.0


async def test_failing_library(autojump_clock: MockClock) -> None:
    """An exception of the library fails its own command; the object is made anew."""
    async with desk() as bench:
        for _ in range(2):
            with pytest.raises(CommandError, match="ZeroDivisionError"):
                await bench.meter.fail()
            assert await bench.meter.two.get() == 2.0


async def test_unplugged_and_replugged(autojump_clock: MockClock) -> None:
    """A lost connection is opened again with a new object of the library."""
    async with desk() as bench:
        bench.line.unplug()
        with pytest.raises(CommandError):
            await bench.meter.one.get()
        bench.line.replug()
        await trio.sleep(30)
        assert await bench.meter.one.get() == 1.0
        bench.line.hang()
        with pytest.raises(CommandError):
            await bench.meter.one.get()
        await trio.sleep(10)
        bench.line.unhang(answer=True)
        await trio.sleep(60)
        assert await bench.meter.two.get() == 2.0


async def test_recorded(autojump_clock: MockClock) -> None:
    """Calls are recorded like other readings, with the instants of their own exchange."""
    async with desk() as bench:
        values: dict[str, set[object]] = {}
        async with record(
            bench.tree, parameters=["one", "two"], rate_hz=10, duration=5
        ) as recording:
            async for batch in recording.stream:
                for sample in batch:
                    values.setdefault(sample.parameter, set()).add(sample.value)
                    assert sample.protocol == "hosted"
        assert values == {"one": {1.0}, "two": {2.0}}
        assert recording.summary.by_device()["meter"].missing == 0


async def test_over_tcp() -> None:
    """The library works on a real connection just the same."""
    line = SimLine(EchoModel())
    async with serve_tcp(line) as address, open_tree() as tree:
        meter = await tree.add(
            "meter", HostedMeter, address, timeout_s=0.2, profile=evolve(TCP, attempts=1)
        )
        assert await meter.one.get() == 1.0
        line.late(0.3)
        with pytest.raises(CommandError):
            await meter.two.get()
        assert await meter.one.get() == 1.0


def test_unknown_call() -> None:
    """A header that names no call is a mistake of the program, and says which there are."""
    with pytest.raises(ValueError, match="no call is named 'three'; there are: identify, one"):
        HOSTING.request("three")
