"""What has to come first: commands that wait for others, here and elsewhere."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandState, Events, Priority, RefusedError

from .bench import Bench, Parts, Witness, WitnessModel, bench_running, running


async def test_after_across_buses(autojump_clock: MockClock) -> None:
    """A command is sent once its predecessors on other buses have completed, not before."""
    events = Events()
    a, b = Witness("a"), Witness("b")
    first = Bench(WitnessModel(), [a], Parts(), name="first", events=events)
    second = Bench(WitnessModel(), [b], Parts(), name="second", events=events)
    async with bench_running(first), bench_running(second):
        await first.in_service()
        await second.in_service()
        slow = await first.bus.submit(a, a.read("slow", wait_s=0.5))
        quick = await first.bus.submit(a, a.read("quick"))
        follower = await second.bus.submit(b, b.write("v 5"), after=[slow, quick])
        behind = await second.bus.submit(b, b.read("behind"))
        urgent = await second.bus.submit(b, b.read("high"), priority=Priority.HIGH)
        assert (await urgent.outcome()).ok
        assert follower.state is behind.state is CommandState.QUEUED
        assert (await follower.outcome()).ok
        assert slow.state is quick.state is CommandState.COMPLETED
        assert (await behind.outcome()).ok
        heard = [text for text in second.sent() if "SET" in text or "ASK" in text]
        assert heard == ["A:ASK high", "A:SET v 5", "A:ASK behind"]


async def test_after_across_trees(autojump_clock: MockClock) -> None:
    """Commands of two trees are two, though they have the same number."""
    a, b = Witness("a"), Witness("b")
    first = Bench(WitnessModel(), [a], Parts(), name="first")
    second = Bench(WitnessModel(), [b], Parts(), name="second")
    async with bench_running(first), bench_running(second):
        slow = await first.bus.submit(a, a.read("slow", wait_s=0.5))
        quick = await second.bus.submit(b, b.read("quick"))
        assert slow.seq == quick.seq
        follower = await second.bus.submit(b, b.write("v 5"), after=[slow, quick])
        assert (await follower.outcome()).ok
        assert slow.state is CommandState.COMPLETED


async def test_failed_predecessor(autojump_clock: MockClock) -> None:
    """Who follows a command that fails has failed (dependency) at once, and is never sent."""
    a = Witness("a", within_s=0.1)
    async with running(WitnessModel(), a) as bench:
        bench.line.lose()
        lost = await bench.bus.submit(a, a.read("lost"))
        one = await bench.bus.submit(a, a.write("v 1"), after=[lost])
        two = await bench.bus.submit(a, a.write("v 2"), after=[one])
        ended = [await each.outcome() for each in (lost, one, two)]
        assert [each.cause for each in ended] == [
            Cause.TRANSPORT,
            Cause.DEPENDENCY,
            Cause.DEPENDENCY,
        ]
        assert not any(each.may_have_executed for each in ended[1:])
        with pytest.raises(RefusedError, match=rf"command {lost.seq}, a: ask, had to") as refused:
            await bench.bus.submit(a, a.write("v 3"), after=[lost])
        assert refused.value.cause is Cause.DEPENDENCY
        assert (await (await bench.bus.submit(a, a.read("next"))).outcome()).ok
        assert not any("SET v" in text for text in bench.sent())


async def test_a_long_chain(autojump_clock: MockClock) -> None:
    """However long a chain of dependants is, all of it fails, and in order."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        slow = await bench.bus.submit(a, a.read("slow", wait_s=0.9))
        chain = [slow]
        for each in range(1000):
            chain.append(await bench.bus.submit(a, a.read(each), after=chain[-1:]))
        assert chain[1].withdraw()
        assert all(each.state is CommandState.FAILED for each in chain[1:])
        assert (await slow.outcome()).ok


async def test_priorities(autojump_clock: MockClock) -> None:
    """What follows a command of lower priority in its own lane does not keep it from going."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        low = await bench.bus.submit(a, a.read("low"), priority=Priority.LOW)
        high = await bench.bus.submit(a, a.read("high"), priority=Priority.HIGH, after=[low])
        with trio.fail_after(1.0):
            assert (await high.outcome()).ok
        assert [text for text in bench.sent() if "ASK" in text] == ["A:ASK low", "A:ASK high"]


async def test_taken_back(autojump_clock: MockClock) -> None:
    """A command that waits for others can be withdrawn; an emergency cannot wait for any."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        slow = await bench.bus.submit(a, a.read("slow", wait_s=0.5))
        follower = await bench.bus.submit(a, a.write("v 5"), after=[slow])
        assert follower.withdraw()
        assert (await slow.outcome()).ok
        assert (await (await bench.bus.submit(a, a.read("on"), after=[slow])).outcome()).ok
        with pytest.raises(RefusedError, match="waits for no other command"):
            await bench.bus.submit(a, a.write("v 1"), priority=Priority.EMERGENCY, after=[slow])
        assert not any("SET v 5" in text for text in bench.sent())
