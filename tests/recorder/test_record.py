"""Recording under virtual time: cadence, and what becomes of every sample."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Event, Sample, SampleKey, current_clock
from recorder import (
    AcquisitionSummary,
    Counts,
    OverflowPolicy,
    Partition,
    PollSourceAdapter,
    ReadsFailed,
    Recording,
    record,
)
from transports import VirtualClock, install_clock

from .sources import Bench, Bus, Meter, make_sample, read

PARAMETERS = ("temperature",)


async def take_all(recording: Recording[Sequence[Sample]]) -> list[Sequence[Sample]]:
    """Return every batch until the stream ends."""
    return [batch async for batch in recording.stream]


def check_sums(summary: AcquisitionSummary) -> None:
    """Fail unless every sample of every series ended in exactly one place."""
    for counts in (*summary.by_key().values(), *summary.by_device().values(), summary.total()):
        assert counts.expected == counts.read + counts.missing
        assert counts.read == counts.emitted + counts.dropped
    assert sum(summary.by_device().values(), Counts()) == summary.total()


async def test_polls_begin_exactly_at_their_targets(autojump_clock: MockClock) -> None:
    """An hour at 10 Hz of a slow device: the last poll is where the first said it would be."""
    bus = Bus("oven", takes_s=0.03)
    begin_s = trio.current_time()
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=3600) as recording:
        batches = await take_all(recording)
    assert len(batches) == len(bus.begun_s) == 36_000
    assert [round((at_s - begin_s) * 1e6) for at_s in bus.begun_s] == [
        slot * 100_000 for slot in range(36_000)
    ]
    summary = recording.summary
    assert summary.samples_expected == summary.samples_emitted == 36_000
    assert summary.samples_missing == summary.samples_late == 0
    assert summary.max_drift_ms < 0.001
    check_sums(summary)


async def test_every_sample_has_its_own_midpoint(autojump_clock: MockClock) -> None:
    """A fast and a slow device in one slot do not share a time stamp."""
    fast, slow = Bus("fast", takes_s=0.002), Bus("slow", takes_s=0.2)
    async with record(Bench(fast, slow), parameters=PARAMETERS, rate_hz=1, duration=1) as recording:
        (batch,) = await take_all(recording)
    stamps = {sample.device: sample.t_mono_ns for sample in batch}
    assert stamps["slow"] - stamps["fast"] == pytest.approx(99_000_000)


async def test_a_batch_comes_once_every_bus_has_answered(autojump_clock: MockClock) -> None:
    """At a low rate nobody waits for the end of the slot to see its values."""
    bus = Bus("oven", takes_s=0.25)
    begin_s = trio.current_time()
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=0.01) as recording:
        await anext(recording.stream)
        assert trio.current_time() - begin_s == pytest.approx(0.25)


class Revised(list[Partition]):
    """Partitions that say when they change, and count how often somebody goes through them."""

    revision = 0
    looked = 0

    def __iter__(self) -> Iterator[Partition]:
        """Count."""
        self.looked += 1
        return super().__iter__()


async def test_buses_are_looked_at_only_once_they_change(autojump_clock: MockClock) -> None:
    """What says when it changes is not gone through for each poll of each bus."""
    bench = Bench()
    bench.buses = buses = Revised(Bus(f"oven{number}") for number in range(10))
    async with record(bench, parameters=PARAMETERS, rate_hz=10) as recording:
        await trio.sleep(2.05)
        looked = buses.looked
        assert looked < 10
        buses.append(late := Bus("late"))
        buses.revision += 1
        await trio.sleep(1.0)
        assert len(late.begun_s) == 10
        (gone,) = buses[:1]
        assert isinstance(gone, Bus)
        buses.remove(gone)
        buses.revision += 1
        await trio.sleep(1.0)
        assert buses.looked < looked + 10
    assert len(gone.begun_s) == 31
    assert len(late.begun_s) == 20
    check_sums(recording.summary)


async def test_overruns_skip_and_count(autojump_clock: MockClock) -> None:
    """A poll that outlasts its slot costs those that pass meanwhile, and moves no target."""
    bus = Bus("oven", takes_s=lambda number: 0.25 if number == 2 else 0.01)
    begin_s = trio.current_time()
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=1) as recording:
        await take_all(recording)
    begun = [round((at_s - begin_s) * 10, 3) for at_s in bus.begun_s]
    assert begun == [0, 1, 2, 4.5, 5, 6, 7, 8, 9]
    assert recording.summary.total() == Counts(read=9, missing=1, late=1, emitted=9)


async def test_a_slot_is_begun_late_rather_than_not_at_all(autojump_clock: MockClock) -> None:
    """What a poll runs into is begun at once, however late; the next target is kept again."""
    bus = Bus("oven", takes_s=lambda number: 0.195 if number == 2 else 0.001)
    begin_s = trio.current_time()
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=0.6) as recording:
        await take_all(recording)
    begun = [round((at_s - begin_s) * 10, 3) for at_s in bus.begun_s]
    assert begun == [0, 1, 2, 3.95, 4, 5]
    assert recording.summary.total() == Counts(read=6, late=1, emitted=6)
    assert recording.summary.max_drift_ms == pytest.approx(95.0)


async def test_late_values_come_in_the_next_batch_with_their_own_stamps(
    autojump_clock: MockClock,
) -> None:
    """A value received after its slot is read and late, not missing and not restamped."""
    late, prompt = Bus("late", takes_s=0.16), Bus("prompt", takes_s=0.01)
    begin_ns = current_clock().mono_ns()
    async with record(
        Bench(late, prompt), parameters=PARAMETERS, rate_hz=10, duration=0.4
    ) as recording:
        batches = await take_all(recording)
    assert [[sample.device for sample in batch] for batch in batches] == [
        ["prompt"],
        ["prompt", "late"],
        ["prompt"],
        ["prompt", "late"],
        ["late"],
    ]
    assert batches[1][1].received_ns - begin_ns == pytest.approx(160_000_000)
    by_device = recording.summary.by_device()
    assert by_device["late"] == Counts(read=3, missing=1, late=3, emitted=3)
    assert by_device["prompt"] == Counts(read=4, emitted=4)
    check_sums(recording.summary)


async def test_a_value_at_the_very_end_of_its_slot_is_late(autojump_clock: MockClock) -> None:
    """A slot lasts up to the next target and does not include it."""
    bus = Bus("oven", takes_s=0.1)
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=0.3) as recording:
        await take_all(recording)
    assert recording.summary.total() == Counts(read=3, late=3, emitted=3)


@pytest.mark.parametrize("position", range(4))
async def test_a_hung_bus_delays_no_other(position: int, autojump_clock: MockClock) -> None:
    """One bus of four hangs for ever: the other three are exact, the fourth is missing."""
    buses = [Bus(f"oven{number}", takes_s=0.02) for number in range(4)]
    buses[position].takes_s = lambda number: math.inf if number == 5 else 0.02
    begin_s = trio.current_time()
    async with record(Bench(*buses), parameters=PARAMETERS, rate_hz=10, duration=10) as recording:
        await take_all(recording)
    summary = recording.summary
    for number, bus in enumerate(buses):
        counts = summary.by_device()[f"oven{number}"]
        assert counts.expected == 100
        if number == position:
            assert counts == Counts(read=5, missing=95, emitted=5)
        else:
            assert counts == Counts(read=100, emitted=100)
            assert [round((at_s - begin_s) * 10, 6) for at_s in bus.begun_s] == list(range(100))
    check_sums(summary)


async def test_numbers_agree_while_the_recording_runs(autojump_clock: MockClock) -> None:
    """Whenever one looks, expected is read plus missing, and closed slots are accounted for."""
    hung = Bus("hung", takes_s=math.inf)
    async with record(
        Bench(hung, Bus("oven", takes_s=0.01)), parameters=PARAMETERS, rate_hz=10, duration=5
    ) as recording:
        slots = 0
        async for _ in recording.stream:
            slots += 1
            devices = recording.summary.by_device()
            assert devices["oven"] == Counts(read=slots, emitted=slots)
            # Slot 0 is still being polled; those after it were never begun.
            assert devices.get("hung", Counts()).missing == max(0, slots - 1)
    assert recording.summary.by_device()["hung"].missing == 50


async def test_poll_that_raises_is_missing_and_reported(autojump_clock: MockClock) -> None:
    """A fault ends one poll, not the recording; a run of them is told once, with its bus."""
    bus = Bus("oven", fault=lambda number: OSError("gone") if number in {1, 2} else None)
    seen: list[Event] = []
    async with record(
        Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=0.5, observer=seen.append
    ) as recording:
        await take_all(recording)
    failed = [event for event in seen if isinstance(event, ReadsFailed)]
    assert [(event.source, event.error) for event in failed] == [("oven", "OSError: gone")]
    assert recording.summary.total() == Counts(read=3, missing=2, emitted=3)


async def test_fault_is_logged_where_nobody_listens(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """Without a listener a failed poll is a warning that names the bus and the fault."""
    bus = Bus("oven", fault=lambda number: OSError("gone"))
    with caplog.at_level(logging.WARNING, "recorder"):
        async with record(Bench(bus), parameters=PARAMETERS, rate_hz=1, duration=1) as recording:
            await take_all(recording)
    (entry,) = caplog.records
    assert "oven" in entry.message
    assert "gone" in entry.message


async def test_poll_keeps_what_came_before_its_fault(autojump_clock: MockClock) -> None:
    """Samples delivered before a poll raised are read; only the others are missing."""

    class Breaking(Bus):
        async def poll(self, deliver: Callable[[Sample], None]) -> None:
            deliver(await read(self.keys[0], 0.01))
            raise OSError("gone")

    async with record(
        Bench(Breaking("first", "second")), parameters=PARAMETERS, rate_hz=1, duration=3
    ) as recording:
        await take_all(recording)
    by_device = recording.summary.by_device()
    assert by_device["first"] == Counts(read=3, emitted=3)
    assert by_device["second"] == Counts(missing=3)


async def test_unavailable_value_is_read(autojump_clock: MockClock) -> None:
    """What a device reports as unavailable is a sample with value None, not a missing one."""

    class Blind(Bus):
        async def poll(self, deliver: Callable[[Sample], None]) -> None:
            deliver(make_sample(self.keys[0], None))

    async with record(Bench(Blind("eye")), parameters=PARAMETERS, rate_hz=1, duration=2) as rec:
        batches = await take_all(rec)
    assert [sample.value for batch in batches for sample in batch] == [None, None]
    assert rec.summary.total() == Counts(read=2, emitted=2)


async def test_delivery_after_the_poll_is_refused(autojump_clock: MockClock) -> None:
    """A sample that was counted missing cannot be slipped in afterwards."""
    kept: list[Callable[[Sample], None]] = []

    class Leaking(Bus):
        async def poll(self, deliver: Callable[[Sample], None]) -> None:
            kept.append(deliver)

    bus = Leaking("oven")
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=1, duration=1) as recording:
        assert await take_all(recording) == []
    with pytest.raises(RuntimeError, match=r"oven\.temperature"):
        kept[0](make_sample(bus.keys[0]))
    assert recording.summary.total() == Counts(missing=1)


async def test_series_come_and_go_while_recording(autojump_clock: MockClock) -> None:
    """Adding and removing a device changes what is expected from the next slot on."""
    bus = Bus("first")
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=1, duration=6) as recording:
        await trio.sleep(1.5)
        bus.keys.append(SampleKey("second", "temperature"))
        await trio.sleep(2)
        del bus.keys[0]
        await take_all(recording)
    assert recording.summary.by_device() == {
        "first": Counts(read=4, emitted=4),
        "second": Counts(read=4, emitted=4),
    }


async def test_removed_series_of_a_hung_bus_is_no_longer_missed(autojump_clock: MockClock) -> None:
    """A slot that was never begun owes what the bus has at that slot's end."""
    bus = Bus("hung", takes_s=math.inf)
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=1, duration=6) as recording:
        await trio.sleep(3.5)
        bus.keys.clear()
        await take_all(recording)
    assert recording.summary.total() == Counts(missing=3)


async def test_bus_without_anything_to_read_is_no_fault(autojump_clock: MockClock) -> None:
    """A bus that owes nothing gives nothing, and ends in time."""
    async with record(Bench(Bus()), parameters=PARAMETERS, rate_hz=10, duration=1) as recording:
        assert await take_all(recording) == []
    assert recording.summary.total() == Counts()


async def test_bench_without_buses_ends_in_time(autojump_clock: MockClock) -> None:
    """A source with nothing in it records nothing, for as long as it was told to."""
    begin_s = trio.current_time()
    async with record(Bench(), parameters=PARAMETERS, rate_hz=10, duration=1) as recording:
        assert await take_all(recording) == []
    assert trio.current_time() - begin_s == pytest.approx(1)


async def test_plain_source_owes_what_it_answered_once(autojump_clock: MockClock) -> None:
    """Of a source that lists no series, each is expected from its first answer on."""

    class Forgetful(Meter):
        async def poll_many(
            self,
            parameters: Sequence[str],
            *,
            names: Sequence[str] | None = None,
            instances: Sequence[int] = (1,),
        ) -> Sequence[Sample]:
            samples = await super().poll_many(parameters, names=names, instances=instances)
            return samples[:0] if len(self.asked) in {1, 3} else samples

    async with record(
        Forgetful(), parameters=["volt", "current"], rate_hz=1, duration=4, instances=(1, 2)
    ) as recording:
        await take_all(recording)
    assert recording.summary.by_key() == {
        SampleKey("meter", parameter, instance): Counts(read=2, missing=1, emitted=2)
        for parameter in ("volt", "current")
        for instance in (1, 2)
    }


async def test_adapter_names_a_lone_device(autojump_clock: MockClock) -> None:
    """An adapted device answers under its new name, and only when it is meant."""
    meter = Meter("anything")
    bench_meter = PollSourceAdapter("bench_meter", meter)
    (sample,) = await bench_meter.poll_many(["bench_meter.volt", "oven.temperature"])
    assert sample.key == SampleKey("bench_meter", "volt")
    assert await bench_meter.poll_many(["volt"], names=["oven"]) == []
    assert await bench_meter.poll_many(["oven.temperature"]) == []
    assert meter.asked == [["volt"]]
    assert bench_meter.device is meter


@pytest.mark.parametrize("duration", [0.4, None])
async def test_values_after_the_last_slot_get_one_period_of_grace(
    duration: float | None, autojump_clock: MockClock
) -> None:
    """What was begun in time is waited for, one period at most; then it is cut and missing."""
    late = Bus("late", takes_s=lambda number: 0.15 if number == 3 else 0.01)
    hung = Bus("hung", takes_s=lambda number: math.inf if number == 3 else 0.01)
    begin_s = trio.current_time()
    async with record(
        Bench(late, hung), parameters=PARAMETERS, rate_hz=10, duration=duration
    ) as recording:
        if duration is None:
            await trio.sleep(0.399)
            recording.stop()
            recording.stop()
        batches = await take_all(recording)
    assert [sample.device for sample in batches[-1]] == ["late"]
    assert recording.summary.by_device() == {
        "late": Counts(read=4, late=1, emitted=4),
        "hung": Counts(read=3, missing=1, emitted=3),
    }
    assert trio.current_time() - begin_s == pytest.approx(0.5, abs=0.0011)


async def test_grace_is_a_second_at_most(autojump_clock: MockClock) -> None:
    """At a low rate the end does not wait a whole period for a hung bus."""
    begin_s = trio.current_time()
    async with record(
        Bench(Bus("hung", takes_s=math.inf)), parameters=PARAMETERS, rate_hz=0.01, duration=100
    ) as recording:
        assert await take_all(recording) == []
    assert trio.current_time() - begin_s == pytest.approx(101)


async def test_stop_ends_without_loss(autojump_clock: MockClock) -> None:
    """Stopping lets the poll in flight end; its samples are delivered and nothing is missing."""
    bus = Bus("oven", takes_s=0.05)
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10) as recording:
        await trio.sleep(0.52)
        recording.stop()
        batches = await take_all(recording)
    assert len(batches) == 6
    assert recording.summary.total() == Counts(read=6, emitted=6)


async def test_stop_after_the_end_counts_nothing(autojump_clock: MockClock) -> None:
    """The summary of a recording that was left is final: stopping it later changes nothing."""
    async with record(Bench(Bus("oven")), parameters=PARAMETERS, rate_hz=10) as recording:
        await trio.sleep(0.52)
    summary = recording.summary.as_dict()
    assert recording.summary.samples_missing == 0
    await trio.sleep(10)
    recording.stop()
    assert recording.summary.as_dict() == summary


async def test_stop_between_slots_ends_at_once(autojump_clock: MockClock) -> None:
    """With nothing in flight there is nothing to wait for, however long the period."""
    begin_s = trio.current_time()
    async with record(Bench(Bus("oven")), parameters=PARAMETERS, rate_hz=0.001) as recording:
        await anext(recording.stream)
        recording.stop()
        assert await take_all(recording) == []
    assert trio.current_time() == begin_s
    assert recording.summary.total() == Counts(read=1, emitted=1)


async def test_wall_clock_steps_move_nothing(autojump_clock: MockClock) -> None:
    """A wall clock set back an hour in mid-recording changes stamps, not the cadence."""
    clock = VirtualClock()
    install_clock(clock)
    bus = Bus("oven")
    begin_s = trio.current_time()
    async with record(Bench(bus), parameters=PARAMETERS, rate_hz=10, duration=1) as recording:
        await trio.sleep(0.45)
        clock.utc_offset_ns -= 3_600_000_000_000
        await take_all(recording)
    assert [round((at_s - begin_s) * 10, 6) for at_s in bus.begun_s] == list(range(10))


@pytest.mark.parametrize("policy", OverflowPolicy)
async def test_slow_consumer_under_each_policy(
    policy: OverflowPolicy, autojump_clock: MockClock
) -> None:
    """A consumer a tenth as fast as the recording: every sample is somewhere in the sums."""
    bus = Bus("oven", takes_s=0.01)
    taken: list[Sequence[Sample]] = []
    async with record(
        Bench(bus),
        parameters=PARAMETERS,
        rate_hz=10,
        duration=10,
        overflow=policy,
        buffer_size=4,
    ) as recording:
        async for batch in recording.stream:
            taken.append(batch)
            await trio.sleep(1)
    total = recording.summary.total()
    assert total.expected == 100
    assert total.emitted == sum(map(len, taken))
    assert recording.summary.batches_emitted == len(taken)
    values = [sample.value for batch in taken for sample in batch]
    match policy:
        case OverflowPolicy.BLOCK:
            assert total.dropped == 0
            assert total.missing == 100 - total.read
            assert values == list(range(len(bus.begun_s)))
        case OverflowPolicy.DROP_NEWEST:
            assert total.missing == 0
            assert total.dropped == 100 - total.emitted
            assert values[:5] == [0, 1, 2, 3, 4]
        case OverflowPolicy.DROP_OLDEST:
            assert total.missing == 0
            assert total.dropped == 100 - total.emitted
            assert values[-4:] == [96, 97, 98, 99]
    check_sums(recording.summary)


async def test_late_values_under_block_find_room(autojump_clock: MockClock) -> None:
    """A full buffer neither loses nor grows by what was in flight when it filled."""
    slow, fast = Bus("slow", takes_s=0.35), Bus("fast", takes_s=0.01)
    async with record(
        Bench(slow, fast), parameters=PARAMETERS, rate_hz=10, duration=3, buffer_size=1
    ) as recording:
        await trio.sleep(1.05)
        await take_all(recording)
    total = recording.summary.total()
    assert total.expected == 60
    assert total.dropped == 0
    check_sums(recording.summary)


async def test_leaving_early_counts_what_was_left_behind(autojump_clock: MockClock) -> None:
    """Batches that the consumer never took are dropped, in numbers."""
    async with record(Bench(Bus("oven", takes_s=0.01)), parameters=PARAMETERS, rate_hz=10) as rec:
        await trio.sleep(0.55)
    assert rec.summary.total() == Counts(read=6, dropped=6)
    assert await take_all(rec) == []


async def test_finished_is_set_on_every_way_out(autojump_clock: MockClock) -> None:
    """Ended, left, cancelled or failed: the summary says when."""

    async def leave() -> None:
        """Leave by the end of the block."""

    async def fail() -> None:
        raise LookupError("the script's own")

    async def give_up() -> None:
        await trio.sleep(10)

    for way_out in (leave, fail, give_up):
        summary: AcquisitionSummary | None = None
        with trio.move_on_after(2):
            try:
                async with record(Bench(Bus("oven")), parameters=PARAMETERS, rate_hz=1) as rec:
                    summary = rec.summary
                    assert summary.finished_at is None
                    await trio.sleep(1.5)
                    await way_out()
            except LookupError:
                assert way_out is fail
        assert summary is not None
        assert summary.started_at is not None
        assert summary.finished_at is not None
        assert summary.finished_at > summary.started_at
        check_sums(summary)


async def test_error_in_the_body_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    """A script's own exception is not wrapped in a group."""
    with pytest.raises(LookupError, match="the script's own"):
        async with record(Bench(Bus("oven")), parameters=PARAMETERS, rate_hz=1):
            raise LookupError("the script's own")


async def test_fault_listener_that_raises_ends_the_recording(autojump_clock: MockClock) -> None:
    """What a listener raises is not swallowed."""

    def complain(event: Event) -> None:
        match event:
            case ReadsFailed(source=source):
                raise LookupError(source)
            case _:
                pass

    bus = Bus("oven", fault=lambda number: OSError("gone"))
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with record(
            Bench(bus), parameters=PARAMETERS, rate_hz=1, observer=complain
        ) as recording:
            await take_all(recording)


async def test_summary_as_plain_values(autojump_clock: MockClock) -> None:
    """The summary can be kept as JSON, devices included."""
    async with record(
        Bench(Bus("oven", takes_s=0.02)), parameters=PARAMETERS, rate_hz=10, duration=1
    ) as recording:
        await take_all(recording)
    plain = recording.summary.as_dict()
    assert plain["samples_expected"] == plain["samples_read"] == 10
    assert plain["started_utc"] == datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    assert plain["tick_duration_ms_p50"] == pytest.approx(20, rel=0.01)
    assert plain["tick_duration_ms_p99"] == recording.summary.tick_duration_ms_p99
    devices = plain["devices"]
    assert isinstance(devices, dict)
    assert devices["oven"]["samples_emitted"] == 10
    assert "expected 10" in repr(recording)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"rate_hz": 0}, "rate_hz"),
        ({"rate_hz": -1}, "rate_hz"),
        ({"duration": 0}, "duration"),
        ({"duration": -1}, "duration"),
        ({"buffer_size": 0}, "buffer_size"),
    ],
)
def test_impossible_recordings_are_refused(words: dict[str, int], complaint: str) -> None:
    """A number that makes no recording is an error when it is given, not later."""
    rate_hz = words.get("rate_hz", 1)
    with pytest.raises(ValueError, match=complaint):
        record(
            Meter(),
            parameters=PARAMETERS,
            rate_hz=rate_hz,
            duration=words.get("duration"),
            buffer_size=words.get("buffer_size", 64),
        )


def test_words_that_mean_nothing_are_refused() -> None:
    """A policy that does not exist is an error that lists those that do."""
    skip: Any = "skip"
    with pytest.raises(ValueError, match="'skip'; it must be one of block, drop_newest, drop_"):
        record(Meter(), parameters=PARAMETERS, rate_hz=1, overflow=skip)
    with pytest.raises(ValueError, match="on_error is 'skip'; it must be 'record' or 'stop'"):
        record(Meter(), parameters=PARAMETERS, rate_hz=1, on_error=skip)


def test_source_that_cannot_be_polled_is_refused() -> None:
    """What has no `poll_many` is an error at once, not a recording of nothing."""
    nothing: Any = None
    with pytest.raises(TypeError, match="None cannot be recorded: it has no poll_many"):
        record(nothing, parameters=PARAMETERS, rate_hz=1)


async def test_overflow_may_be_given_by_its_value(autojump_clock: MockClock) -> None:
    """The value of a policy is that policy: the newest is dropped."""
    async with record(
        Bench(Bus("oven")),
        parameters=PARAMETERS,
        rate_hz=10,
        duration=1,
        overflow="drop_newest",
        buffer_size=2,
    ) as recording:
        await trio.sleep(2)
        await take_all(recording)
    assert recording.summary.samples_emitted == 2
    assert recording.summary.samples_dropped == 8


def test_nothing_to_record_is_refused() -> None:
    """A recording without parameters is an error."""
    with pytest.raises(ValueError, match="parameters"):
        record(Meter(), parameters=[], rate_hz=1)


async def test_one_parameter_may_be_given_alone(autojump_clock: MockClock) -> None:
    """A single name is one parameter, not its letters."""
    meter = Meter()
    async with record(meter, parameters="volt", rate_hz=1, duration=1) as recording:
        await take_all(recording)
    assert meter.asked == [("volt",)]


async def test_cancelled_step_takes_nothing(autojump_clock: MockClock) -> None:
    """Waiting for a batch may be cut short over and over without losing one."""
    values: list[object] = []
    async with record(
        Bench(Bus("oven", takes_s=0.013)), parameters=PARAMETERS, rate_hz=10, duration=3
    ) as recording:
        ended = False
        while not ended:
            with trio.move_on_after(0.007):
                try:
                    values += [sample.value for sample in await anext(recording.stream)]
                except StopAsyncIteration:
                    ended = True
    assert values == list(range(30))
