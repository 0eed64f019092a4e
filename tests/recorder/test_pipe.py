"""From stream to sink: nothing received is lost."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Sample
from recorder import (
    AcquisitionSummary,
    BlockingSink,
    CsvSink,
    MemorySink,
    OverflowPolicy,
    SinkError,
    pipe,
    record,
)

from .sources import Bench, Bus, make_sample


class Failing(MemorySink):
    """A sink that raises from its nth write on."""

    name = "failing"

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def write(self, samples: Sequence[Sample]) -> None:
        """Keep the samples, or raise."""
        if not self.left:
            raise OSError("no space left")
        self.left -= 1
        super().write(samples)


class Writes(MemorySink):
    """A sink that notes the size of each write and when it came."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def write(self, samples: Sequence[Sample]) -> None:
        """Keep the samples and note the call."""
        self.sizes.append(len(samples))
        self.threads.add(threading.get_ident())
        super().write(samples)


class Stuck(BlockingSink):
    """A sink whose write hangs until it is freed."""

    name = "stuck"

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.free = threading.Event()

    def write(self, samples: Sequence[Sample]) -> None:
        """Hang."""
        del samples
        self.begun.set()
        self.free.wait()


async def batches(*sizes: int, pause_s: float = 0.0) -> AsyncIterator[Sequence[Sample]]:
    """Yield batches of the given sizes, numbered through, with a pause after each."""
    number = 0
    for size in sizes:
        yield [make_sample(value=number + index) for index in range(size)]
        number += size
        await trio.sleep(pause_s)


def count_rows(path: Path) -> int:
    """Return how many samples a CSV file holds."""
    return len(path.read_text().splitlines()) - 1


def values(sink: MemorySink) -> list[object]:
    """Return the values that a sink holds."""
    return [sample.value for sample in sink.samples]


async def test_everything_arrives_in_order_in_every_sink(autojump_clock: MockClock) -> None:
    """Several sinks get the same samples, each once and in the stream's order."""
    sinks = [Writes(), Writes()]
    assert await pipe(batches(3, 1000, 1, 2500), *sinks, batch_size=1000) == 3504
    for sink in sinks:
        assert values(sink) == list(range(3504))
        assert max(sink.sizes) <= 1000


async def test_a_lone_sample_does_not_wait_for_company(autojump_clock: MockClock) -> None:
    """What came is written after `flush_s` though the batch is not full."""
    sink = Writes()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await pipe(batches(1, 1, pause_s=10), sink, batch_size=1000, flush_s=0.5)

        nursery.start_soon(run)
        await trio.sleep(0.49)
        assert values(sink) == []
        await trio.sleep(0.02)
        assert values(sink) == [0]
    assert values(sink) == [0, 1]


async def test_full_batch_is_written_at_once(autojump_clock: MockClock) -> None:
    """A batch that is full waits for nobody."""
    sink = Writes()
    with trio.move_on_after(1):
        await pipe(batches(7, pause_s=10), sink, batch_size=5, flush_s=5)
    assert sink.sizes == [5, 2]


async def test_writing_leaves_the_event_loop_alone() -> None:
    """Under a real clock each write happens in another thread."""
    sink = Writes()
    await pipe(batches(10), sink)
    assert threading.get_ident() not in sink.threads


async def test_failing_sink_ends_the_pipe_and_names_the_loss(autojump_clock: MockClock) -> None:
    """A sink that raises is an error with the number of its unwritten samples; others keep all."""
    good, bad = MemorySink(), Failing(at=2)
    with pytest.raises(SinkError, match="no space left") as caught:
        await pipe(batches(*[10] * 5, pause_s=1), bad, good, batch_size=10, flush_s=0)
    assert caught.value.sink == "failing"
    assert caught.value.unwritten == 10
    assert isinstance(caught.value.__cause__, OSError)
    assert values(bad) == list(range(20))
    assert values(good) == list(range(30))


async def test_two_failing_sinks_are_both_named(autojump_clock: MockClock) -> None:
    """No failure hides another."""
    with pytest.RaisesGroup(SinkError, SinkError):
        await pipe(batches(10), Failing(at=0), Failing(at=0), flush_s=0)


async def test_failing_stream_loses_nothing(autojump_clock: MockClock) -> None:
    """When the stream raises, what it gave before is written and its error comes out as it is."""

    async def broken() -> AsyncIterator[Sequence[Sample]]:
        async for batch in batches(3, 4):
            yield batch
        raise LookupError("broken stream")

    sink = MemorySink()
    with pytest.raises(LookupError, match="broken stream"):
        await pipe(broken(), sink)
    assert values(sink) == list(range(7))


async def test_failing_sink_leaves_the_recording_to_others(autojump_clock: MockClock) -> None:
    """What the failed sink never received can still be taken by another."""
    spare = MemorySink()
    async with record(
        Bench(Bus("oven", takes_s=0.01)), parameters=["temperature"], rate_hz=10, duration=2
    ) as recording:
        with pytest.raises(SinkError):
            await pipe(recording.stream, Failing(at=3), batch_size=1)
        await pipe(recording.stream, spare)
    assert values(spare) == list(range(4, 20))


async def test_stuck_sink_does_not_hold_up_the_end() -> None:
    """A write that hangs is given up after `close_s`, and its samples are named."""
    sink = Stuck()
    try:
        with pytest.raises(SinkError, match="not done in time") as caught:
            await pipe(batches(5), sink, close_s=0.05)
        assert caught.value.unwritten == 5
    finally:
        sink.free.set()


async def test_cancelling_lets_the_write_in_progress_end() -> None:
    """A cancelled pipe waits for its write, so that its outcome is known."""
    sink = Stuck()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await pipe(batches(5, pause_s=60), sink, batch_size=5)

        nursery.start_soon(run)
        await trio.to_thread.run_sync(sink.begun.wait)
        nursery.cancel_scope.cancel()
        sink.free.set()


async def test_slow_sink_holds_the_stream_back() -> None:
    """A sink's backlog is bounded: the stream waits for it."""
    given_out: list[int] = []

    async def endless() -> AsyncGenerator[Sequence[Sample]]:
        while True:
            await trio.lowlevel.checkpoint()
            given_out.append(len(given_out))
            yield [make_sample()]

    sink = Stuck()
    async with trio.open_nursery() as nursery, aclosing(endless()) as stream:

        async def run() -> None:
            await pipe(stream, sink, batch_size=5)

        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(sink.begun.wait)
        await wait_all_tasks_blocked()
        assert 5 <= len(given_out) <= 30
        nursery.cancel_scope.cancel()
        sink.free.set()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [({"batch_size": 0}, "batch_size"), ({"flush_s": -1}, "flush_s"), ({"close_s": -1}, "close_s")],
)
async def test_impossible_pipes_are_refused(words: dict[str, int], complaint: str) -> None:
    """Numbers that make no pipe are errors."""
    with pytest.raises(ValueError, match=complaint):
        await pipe(
            batches(1),
            MemorySink(),
            batch_size=words.get("batch_size", 1000),
            flush_s=words.get("flush_s", 1),
            close_s=words.get("close_s", 1),
        )


@settings(max_examples=500, deadline=None)
@given(
    cancel_s=st.floats(min_value=0, max_value=2),
    takes_s=st.sampled_from([0.0, 0.004, 0.01, 0.013]),
    batch_size=st.integers(min_value=1, max_value=40),
    flush_s=st.sampled_from([0.0, 0.05, 1.0]),
    policy=st.sampled_from(OverflowPolicy),
    slow_s=st.sampled_from([0.0, 0.03]),
)
def test_cancelling_at_any_instant_loses_nothing(
    cancel_s: float,
    takes_s: float,
    batch_size: int,
    flush_s: float,
    policy: OverflowPolicy,
    slow_s: float,
) -> None:
    """Whenever a recording is cancelled: delivered = on disk + in the consumer's hands."""

    async def slowed(
        stream: AsyncIterator[Sequence[Sample]], hands: list[Sample]
    ) -> AsyncGenerator[Sequence[Sample]]:
        async for batch in stream:
            hands.extend(batch)
            await trio.sleep(slow_s)
            yield batch
            del hands[: len(batch)]

    async def run(path: Path) -> None:
        hands: list[Sample] = []
        buses = [Bus("oven", takes_s=takes_s), Bus("furnace", takes_s=0.007)]
        summary: AcquisitionSummary | None = None
        async with CsvSink(path) as sink:
            with trio.move_on_after(cancel_s):
                async with (
                    AsyncExitStack() as stack,
                    record(
                        Bench(*buses),
                        parameters=["temperature"],
                        rate_hz=100,
                        overflow=policy,
                        buffer_size=4,
                    ) as recording,
                ):
                    summary = recording.summary
                    stream: AsyncIterator[Sequence[Sample]] = recording.stream
                    if slow_s:
                        stream = await stack.enter_async_context(aclosing(slowed(stream, hands)))
                    await pipe(stream, sink, batch_size=batch_size, flush_s=flush_s)
        on_disk = count_rows(path)
        assert summary is not None
        total = summary.total()
        # A batch is in the hands of `slowed` until the pipe has taken it and asks for another.
        in_hands = len({id(sample) for sample in hands})
        assert on_disk <= total.emitted <= on_disk + in_hands
        if not slow_s:
            assert total.emitted == on_disk
        assert total.read == total.emitted + total.dropped
        assert total.expected == total.read + total.missing
        if policy is OverflowPolicy.BLOCK and not slow_s:
            assert total.dropped == 0

    with tempfile.TemporaryDirectory() as folder:
        trio.run(run, Path(folder) / "samples.csv", clock=MockClock(autojump_threshold=0))


async def test_cancelling_with_real_threads_loses_nothing(tmp_path: Path) -> None:
    """The same with the real clock, a real file and real threads, at a few instants."""
    for number in range(20):
        path = tmp_path / f"{number}.csv"
        emitted = -1
        async with CsvSink(path) as sink:
            with trio.move_on_after(0.003 * number):
                async with record(
                    Bench(Bus("oven")), parameters=["temperature"], rate_hz=1000
                ) as recording:
                    try:
                        await pipe(recording.stream, sink, batch_size=3)
                    finally:
                        emitted = recording.summary.samples_emitted
        assert count_rows(path) == emitted
