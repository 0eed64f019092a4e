"""What a recording does about lost connections, failed reads, and series that come and go."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Literal

import pytest
import trio
from trio.testing import MockClock

from actors import Event, Sample, SampleKey
from recorder import (
    Counts,
    Partition,
    ReadsFailed,
    RecordingEnded,
    RecordingStarted,
    SeriesAdded,
    SeriesRemoved,
    SourceLost,
    SourceReturned,
    is_connection_error,
    record,
)
from recorder.connection import Backoff

from .sources import Bench, Bus, Meter, read


class VendorConnectionError(Exception):
    """What a vendor's library raises: it derives from nothing that is known here."""


class Flaky(Meter):
    """A plain source whose polls raise what a test wants."""

    def __init__(self, fault: Callable[[int], Exception | None]) -> None:
        """Raise `fault(number)` in the poll of that number, from 0."""
        super().__init__(takes_s=0.01)
        self._fault = fault
        self.polls = 0

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read, or raise."""
        number, self.polls = self.polls, self.polls + 1
        fault = self._fault(number)
        if fault is not None:
            raise fault
        return await super().poll_many(parameters, names=names, instances=instances)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ConnectionResetError(), True),
        (OSError(5, "Input/output error"), True),
        (EOFError(), True),
        (trio.BrokenResourceError(), True),
        (VendorConnectionError(), True),
        (ExceptionGroup("both", [ValueError(), BrokenPipeError()]), True),
        (TimeoutError(), False),
        (ValueError(), False),
        (ExceptionGroup("both", [ValueError(), TimeoutError()]), False),
    ],
)
def test_connection_errors_are_told_from_failed_reads(error: Exception, lost: bool) -> None:
    """A timeout or a garbled reply is a failed read; a vendor's own class counts by its name."""
    assert is_connection_error(error) is lost


async def waits(name: str) -> list[float]:
    """Return the first waits between attempts of what has that name."""
    backoff = Backoff(name)
    return [backoff.next_s() for _ in range(9)]


async def test_waits_between_attempts_are_repeatable_in_simulated_time(
    autojump_clock: MockClock,
) -> None:
    """A run can be repeated exactly, and sources lost at once do not all return at once."""
    first, again, other = [await waits(name) for name in "aab"]
    assert first == again
    assert not set(first) & set(other)


async def test_waits_between_attempts_differ_in_real_time() -> None:
    """Many that lost the same server do not all return at once, whatever they are called."""
    assert not set(await waits("a")) & set(await waits("a"))


async def test_lost_foreign_source_ends_the_recording_with_everything_delivered(
    autojump_clock: MockClock,
) -> None:
    """Without auto_reconnect a lost source ends the stream cleanly, and it is counted."""
    source = Flaky(lambda number: VendorConnectionError("unplugged") if number == 3 else None)
    seen: list[Event] = []
    async with record(source, parameters=["volt"], rate_hz=10, observer=seen.append) as recording:
        values = [sample.value for batch in [b async for b in recording.stream] for sample in batch]
    assert values == [0, 1, 2]
    summary = recording.summary
    assert summary.disconnects == 1
    assert summary.disconnects_by_device() == {"meter": 1}
    assert summary.finished_at is not None
    assert summary.total() == Counts(read=3, missing=1, emitted=3)
    kinds = [type(event) for event in seen]
    assert kinds == [RecordingStarted, SeriesAdded, SourceLost, RecordingEnded]
    assert isinstance(seen[-1], RecordingEnded)
    assert seen[-1].reason == "Flaky was lost"


async def test_factory_is_called_once_per_attempt_and_its_source_adopted(
    autojump_clock: MockClock,
) -> None:
    """With auto_reconnect attempts grow rarer, each with one call; dead time is missing."""
    calls_s: list[float] = []
    begin_s = trio.current_time()

    async def reconnect() -> Meter:
        calls_s.append(trio.current_time() - begin_s)
        if len(calls_s) == 1:
            raise OSError("no such port")
        if len(calls_s) == 2:
            return Flaky(lambda number: ConnectionResetError())
        return Meter(takes_s=0.01)

    seen: list[Event] = []
    async with record(
        Flaky(lambda number: OSError("gone") if number >= 5 else None),
        parameters=["volt"],
        rate_hz=10,
        duration=10,
        auto_reconnect=True,
        reconnect_factory=reconnect,
        observer=seen.append,
    ) as recording:
        batches = [batch async for batch in recording.stream]
    assert len(calls_s) == 3
    gaps = [calls_s[0] - 0.5, calls_s[1] - calls_s[0], calls_s[2] - calls_s[1]]
    assert 0.4 < gaps[0] < 0.6 < gaps[1] < 1.3 < gaps[2] < 2.5
    summary = recording.summary
    assert summary.disconnects == 1
    assert summary.samples_missing + summary.samples_read == summary.samples_expected == 100
    assert summary.samples_read == summary.samples_emitted == len(batches)
    assert 25 < summary.samples_missing < 45
    assert [type(event) for event in seen].count(SourceReturned) == 1


async def test_without_a_factory_the_same_source_is_asked_again(autojump_clock: MockClock) -> None:
    """A source that recovers by itself needs no factory."""
    source = Flaky(lambda number: EOFError() if 2 <= number < 4 else None)
    async with record(
        source, parameters=["volt"], rate_hz=10, duration=5, auto_reconnect=True
    ) as recording:
        assert [batch async for batch in recording.stream]
    summary = recording.summary
    assert summary.disconnects == 1
    assert summary.samples_expected == 50
    assert 10 < summary.samples_missing < 25


async def test_end_does_not_wait_for_a_reconnection(autojump_clock: MockClock) -> None:
    """A source that stays away holds up neither `duration` nor `stop`."""
    begin_s = trio.current_time()
    async with record(
        Flaky(lambda number: EOFError() if number else None),
        parameters=["volt"],
        rate_hz=10,
        duration=60,
        auto_reconnect=True,
    ) as recording:
        assert len([batch async for batch in recording.stream]) == 1
    assert trio.current_time() - begin_s == pytest.approx(60)
    assert recording.summary.total() == Counts(read=1, missing=599, emitted=1)


async def test_attempt_that_fails_in_the_last_slot_is_its_end(autojump_clock: MockClock) -> None:
    """Nothing of the last slot can come any more: the stream ends as after an answer."""
    backoff = Backoff("Flaky")
    attempt_s = 0.1 + sum(backoff.next_s() for _ in range(5))
    slots = math.ceil(attempt_s * 10)
    assert attempt_s < slots / 10 - 0.01
    begin_s = trio.current_time()
    async with record(
        Flaky(lambda number: EOFError() if number else None),
        parameters=["volt"],
        rate_hz=10,
        duration=slots / 10,
        auto_reconnect=True,
    ) as recording:
        assert len([batch async for batch in recording.stream]) == 1
    assert trio.current_time() - begin_s == pytest.approx(attempt_s)
    assert recording.summary.total() == Counts(read=1, missing=slots - 1, emitted=1)


@pytest.mark.parametrize("on_error", ["record", "stop"])
async def test_failed_read_of_a_plain_source(
    on_error: Literal["record", "stop"],
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    """Told to record, it is logged, missing and passed; told to stop, the end; no row is lost."""
    source = Flaky(lambda number: ValueError("garbled") if number == 4 else None)
    with caplog.at_level(logging.WARNING, "recorder"):
        async with record(
            source, parameters=["volt"], rate_hz=10, duration=1, on_error=on_error
        ) as recording:
            values = [batch[0].value async for batch in recording.stream]
    (entry,) = caplog.records
    assert entry.levelname == "WARNING"
    assert "garbled" in entry.message
    if on_error == "record":
        assert values == [0, 1, 2, 3, 4, 5, 6, 7, 8]
        assert recording.summary.total() == Counts(read=9, missing=1, emitted=9)
    else:
        assert values == [0, 1, 2, 3]
        assert recording.summary.total() == Counts(read=4, missing=1, emitted=4)
    assert recording.summary.disconnects == 0


async def test_stop_on_error_lets_other_buses_deliver(autojump_clock: MockClock) -> None:
    """What other buses had begun when a read failed is still delivered."""

    class Half(Bus):
        async def poll(self, deliver: Callable[[Sample], None]) -> None:
            if len(self.begun_s) == 2:
                deliver(await read(self.keys[0], 0.01))
            else:
                await super().poll(deliver)

    slow, half = Bus("slow", takes_s=0.05), Half("one", "two", takes_s=0.01)
    async with record(
        Bench(slow, half), parameters=["temperature"], rate_hz=10, on_error="stop"
    ) as recording:
        batches = [batch async for batch in recording.stream]
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert recording.summary.by_key()[SampleKey("two", "temperature")].missing == 1
    assert recording.summary.samples_missing == 1


async def test_long_failures_are_reported_rarely_and_counted(autojump_clock: MockClock) -> None:
    """A read that fails for a minute at 10 Hz is a handful of reports, with their number."""
    seen: list[Event] = []
    bus = Bus("oven", fault=lambda number: ValueError("garbled"))
    async with record(
        Bench(bus), parameters=["temperature"], rate_hz=10, duration=60, observer=seen.append
    ) as recording:
        assert [batch async for batch in recording.stream] == []
    failed = [event for event in seen if isinstance(event, ReadsFailed)]
    assert len(failed) == 6
    assert failed[0].repeated == 0
    assert failed[1].repeated == 99
    assert recording.summary.samples_missing == 600


class Reconnecting(Bus):
    """A bus that knows when it lost its devices."""

    lost: Callable[[Sequence[str], str], None]
    back: Callable[[Sequence[str]], None]

    @contextmanager
    def watch(
        self,
        lost: Callable[[Sequence[str], str], None],
        back: Callable[[Sequence[str]], None],
    ) -> Generator[None]:
        """Keep whom to tell."""
        self.lost, self.back = lost, back
        yield


async def test_own_buses_report_their_disconnects(autojump_clock: MockClock) -> None:
    """A bus that reconnects by itself counts once, and each of its devices once."""
    bus = Reconnecting("one", "two")
    seen: list[Event] = []
    async with record(
        Bench(bus), parameters=["temperature"], rate_hz=1, duration=4, observer=seen.append
    ) as recording:
        await trio.sleep(1.5)
        bus.lost(["one", "two"], "unplugged")
        await trio.sleep(1)
        bus.back(["one", "two"])
        bus.lost(["two"], "silent")
        assert [batch async for batch in recording.stream]
    assert recording.summary.disconnects == 2
    assert recording.summary.disconnects_by_device() == {"one": 1, "two": 2}
    assert recording.summary.as_dict()["disconnects"] == 2
    kinds = [type(event) for event in seen]
    assert kinds == [RecordingStarted, SourceLost, SourceReturned, SourceLost, RecordingEnded]


class Growing(Bench):
    """A bench whose list of buses changes."""

    def __init__(self, *buses: Partition) -> None:
        """Begin with `buses`."""
        super().__init__(*buses)
        self.live: list[Partition] = list(buses)

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Partition]:
        """Return the list itself."""
        return self.live


async def test_bus_added_and_removed_in_mid_recording(autojump_clock: MockClock) -> None:
    """A bus that joins owes from the next slot on; one that leaves, hung or not, owes no more."""
    bench = Growing(Bus("first"))
    second, hung = Bus("second"), Bus("hung", takes_s=float("inf"))
    seen: list[Event] = []
    async with record(
        bench, parameters=["temperature"], rate_hz=1, duration=10, observer=seen.append
    ) as recording:
        await trio.sleep(2.5)
        bench.live += [second, hung]
        await trio.sleep(3)
        bench.live.remove(hung)
        bench.live.remove(second)
        async for _ in recording.stream:
            pass
    by_device = recording.summary.by_device()
    assert by_device == {
        "first": Counts(read=10, emitted=10),
        "second": Counts(read=3, emitted=3),
        "hung": Counts(missing=3),
    }
    added = [event.series for event in seen if isinstance(event, SeriesAdded)]
    removed = [event.series for event in seen if isinstance(event, SeriesRemoved)]
    assert added == removed[::-1] or sorted(added) == sorted(removed)
    assert ("second.temperature",) in added
    assert isinstance(seen[-1], RecordingEnded)
    assert seen[-1].slots == 10


async def test_last_bus_may_leave_and_another_come(autojump_clock: MockClock) -> None:
    """A recording with nothing left to poll waits for what comes."""
    first, second = Bus("first"), Bus("second")
    bench = Growing(first)
    async with record(bench, parameters=["temperature"], rate_hz=1, duration=9) as recording:
        await trio.sleep(2.5)
        bench.live.clear()
        await trio.sleep(3)
        bench.live.append(second)
        async for _ in recording.stream:
            pass
    assert recording.summary.by_device() == {
        "first": Counts(read=3, emitted=3),
        "second": Counts(read=3, emitted=3),
    }


async def test_series_that_come_and_go_are_events(autojump_clock: MockClock) -> None:
    """Each change of what a bus owes is told once, when it takes effect."""
    bus = Bus("first")
    seen: list[Event] = []
    async with record(
        Bench(bus), parameters=["temperature"], rate_hz=1, duration=6, observer=seen.append
    ) as recording:
        await trio.sleep(1.5)
        bus.keys = [*bus.keys, SampleKey("second", "temperature")]
        await trio.sleep(2)
        bus.keys = bus.keys[1:]
        async for _ in recording.stream:
            pass
    assert [
        (type(event), event.series)
        for event in seen
        if isinstance(event, (SeriesAdded, SeriesRemoved))
    ] == [
        (SeriesAdded, ("second.temperature",)),
        (SeriesRemoved, ("first.temperature",)),
    ]


@pytest.mark.parametrize("reason", ["stop", "time", "left", "failed"])
async def test_end_says_why(reason: str, autojump_clock: MockClock) -> None:
    """However a recording ends, one event says so."""
    seen: list[Event] = []
    try:
        async with record(
            Bench(Bus("oven")),
            parameters=["temperature"],
            rate_hz=1,
            duration=2 if reason == "time" else None,
            observer=seen.append,
        ) as recording:
            await trio.sleep(0.5)
            match reason:
                case "stop":
                    recording.stop()
                case "failed":
                    raise LookupError
                case _:
                    pass
            if reason in {"stop", "time"}:
                async for _ in recording.stream:
                    pass
    except LookupError:
        assert reason == "failed"
    (ended,) = [event for event in seen if isinstance(event, RecordingEnded)]
    assert (
        ended.reason
        == {
            "stop": "it was stopped",
            "time": "its time was up",
            "left": "the block was left",
            "failed": "the block failed",
        }[reason]
    )


def test_options_that_contradict_themselves_are_refused() -> None:
    """A factory that would never be called, and a word that means nothing, are errors."""

    async def reconnect() -> Meter:
        raise AssertionError

    with pytest.raises(ValueError, match="auto_reconnect"):
        record(Meter(), parameters=["volt"], rate_hz=1, reconnect_factory=reconnect)
    word: Literal["record", "stop"] = "stop"
    with pytest.raises(ValueError, match="on_error"):
        record(Meter(), parameters=["volt"], rate_hz=1, on_error=word.upper())  # type: ignore[arg-type]  # the wrong word is the point
