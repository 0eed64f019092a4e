"""Periodic reads: what is read, what is missing, and why."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.lowlevel
from attrs import evolve
from trio.testing import MockClock

from actors import BusPoll, Cause, Event, MemberPolicy, Priority, ReadFailed, Sample
from actors.instruments.scpi import Multimeter, PowerSupply
from actors.instruments.scpi.models import MultimeterModel, PowerSupplyModel

from .bench import PLAIN, STEADY, Bench, Parts, bench_running


def supply(parts: Parts | None = None) -> tuple[Bench, PowerSupply, BusPoll]:
    """Return a bus with a power supply, and a poll of its current."""
    bench = Bench(PowerSupplyModel(), [], parts or Parts())
    psu = PowerSupply("psu", bench.bus)
    bench.bus.attach(psu, bench.parts.policy)
    poll = BusPoll(bench.bus, bench.events)
    poll.add(psu, "current")
    return bench, psu, poll


async def test_several_readings_share_one_poll(autojump_clock: MockClock) -> None:
    """Each sample bears the instants of its own exchange, in the order of the wire."""
    bench = Bench(MultimeterModel(), [], Parts())
    meter = Multimeter("dmm", bench.bus)
    bench.bus.attach(meter, bench.parts.policy)
    poll = BusPoll(bench.bus, bench.events)
    for parameter in ("voltage", "current", "resistance"):
        poll.add(meter, parameter)
    assert [str(key) for key in poll.keys] == ["dmm.voltage", "dmm.current", "dmm.resistance"]
    samples: list[Sample] = []
    async with bench_running(bench):
        await bench.in_service()
        bench.line.requests.clear()
        bench.line.late(0.2)
        await poll.poll(samples.append)
    assert [each.requested_ns for each in samples] == [
        round(at_s * 1e9) for at_s, _ in bench.line.requests
    ]
    assert [each.parameter for each in samples] == ["voltage", "current", "resistance"]
    for before, after in pairwise(samples):
        assert before.requested_ns < before.t_mono_ns < before.received_ns <= after.requested_ns
        assert before.t_mono_ns == (before.requested_ns + before.received_ns) // 2
    assert samples[0].received_ns - samples[0].requested_ns >= 200_000_000
    assert all(
        each.t_utc_ns - each.t_mono_ns == samples[0].t_utc_ns - samples[0].t_mono_ns
        for each in samples
    )


async def test_a_failed_read_is_an_event_and_not_repeated(autojump_clock: MockClock) -> None:
    """A lost reply is missing, with its cause; nothing is asked twice."""
    bench, _, poll = supply()
    samples: list[Sample] = []
    async with bench_running(bench):
        await bench.in_service()
        bench.line.requests.clear()
        bench.line.lose()
        await poll.poll(samples.append)
        assert samples == []
        assert bench.sent() == ["MEAS:CURR?"]
        failed = bench.of(ReadFailed)
        assert [(each.instrument, each.parameter, each.cause) for each in failed] == [
            ("psu", "current", Cause.TRANSPORT)
        ]
        await poll.poll(samples.append)
        assert len(samples) == 1


async def test_an_instrument_that_is_away_is_missing_at_once(autojump_clock: MockClock) -> None:
    """A poll of what is away takes no time, and says so."""
    bench, _, poll = supply()
    async with bench_running(bench):
        await bench.in_service()
        bench.line.unplug()
        await trio.sleep(1)
        began_s = trio.current_time()
        await poll.poll(lambda sample: None)
        assert trio.current_time() == began_s
        assert bench.of(ReadFailed)[-1].cause is Cause.BREAKER


async def test_a_recovery_window_holds_up_no_poll(autojump_clock: MockClock) -> None:
    """What warms up is missing; the poll does not wait for it."""
    bench, _, poll = supply(Parts(policy=MemberPolicy(breaker=STEADY, recovery_s=30.0)))
    async with bench_running(bench):
        for _ in range(2):
            began_s = trio.current_time()
            await poll.poll(lambda sample: None)
            assert trio.current_time() == began_s
            await trio.sleep(1)
        assert {each.cause for each in bench.of(ReadFailed)} == {Cause.BREAKER}


async def test_a_poll_waits_for_no_room(autojump_clock: MockClock) -> None:
    """Where the lane is full, the reading is missing."""
    bench, psu, poll = supply(Parts(profile=evolve(PLAIN, queue_depth=2)))
    async with bench_running(bench):
        await bench.in_service()
        bench.line.hang()
        for _ in range(3):
            await psu.submit(PowerSupply.voltage)
            await trio.testing.wait_all_tasks_blocked()
        await poll.poll(lambda sample: None)
        assert bench.of(ReadFailed)[-1].cause is Cause.FULL


async def test_anybody_else_goes_first(autojump_clock: MockClock) -> None:
    """A poll is of low priority: what is asked otherwise overtakes it."""
    bench, psu, poll = supply()
    for parameter in ("voltage", "current_limit"):
        poll.add(psu, parameter)
    samples: list[Sample] = []
    async with bench_running(bench):
        await bench.in_service()
        bench.line.requests.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll.poll, samples.append)
            await trio.lowlevel.checkpoint()
            await psu.power.get(priority=Priority.HIGH)
        assert bench.sent().index("MEAS:POW?") <= 1


async def test_a_cancelled_poll_takes_back_what_waits(autojump_clock: MockClock) -> None:
    """What was not sent is not sent any more; the next poll gets its own answers."""
    bench, psu, poll = supply()
    for parameter in ("voltage", "current_limit"):
        poll.add(psu, parameter)
    async with bench_running(bench):
        await bench.in_service()
        bench.line.requests.clear()
        bench.line.late(0.5)
        with trio.move_on_after(0.1):
            await poll.poll(lambda sample: None)
        samples: list[Sample] = []
        await trio.sleep(1)
        assert bench.sent() == ["MEAS:CURR?"]
        await poll.poll(samples.append)
        assert [each.value for each in samples] == [0.0, 0.0, 5.0]


async def test_removal_during_a_poll(autojump_clock: MockClock) -> None:
    """An instrument that is taken off its bus in mid-poll is missing for the rest of it."""
    bench, psu, poll = supply()
    poll.add(psu, "voltage")
    samples: list[Sample] = []
    async with bench_running(bench):
        await bench.in_service()
        bench.line.late(0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll.poll, samples.append)
            await trio.sleep(0.1)
            poll.remove("psu")
            bench.bus.detach("psu")
        assert [each.parameter for each in samples] == ["current"]
        assert [(each.parameter, each.cause) for each in bench.of(ReadFailed)] == [
            ("voltage", Cause.STOPPED)
        ]
        assert poll.keys == ()
        await poll.poll(samples.append)
        assert len(samples) == 1


async def test_a_stopping_bus_ends_the_poll(autojump_clock: MockClock) -> None:
    """Everything that a poll waits for is answered when the bus stops."""
    bench, _, poll = supply()
    seen: list[Event] = []
    samples: list[Sample] = []
    with bench.events.observed(seen.append):
        async with trio.open_nursery() as nursery, bench_running(bench):
            await bench.in_service()
            bench.line.hang()
            nursery.start_soon(poll.poll, samples.append)
            await trio.sleep(0.1)
    assert [each.cause for each in seen if isinstance(each, ReadFailed)] == [Cause.STOPPED]
    assert samples == []


async def test_only_what_exists_can_be_polled(autojump_clock: MockClock) -> None:
    """A parameter that the driver does not declare is refused, with those that it does."""
    _, psu, poll = supply()
    with pytest.raises(ValueError, match="psu: no parameter pressure; there are: voltage, "):
        poll.add(psu, "pressure")
