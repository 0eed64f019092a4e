"""Recording: polls on absolute targets, each bus on its own cadence.

Slot `n` begins `n` periods after the recording. Each partition polls in a task of its own,
at the target of every slot. A slot that passes altogether while its last poll is still going
on, or the event loop is held up, is skipped and its samples are missing; the one that is open
then is begun late. Nothing is asked twice, and no target depends on an earlier poll or on the
wall clock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from operator import is_
from typing import Final, Generic, Literal, TypeAlias, TypeVar, get_args

import trio
from attrs import frozen

from actors import Observer, Sample, SampleKey, current_clock, describe, make_timer

from .buffer import BatchBuffer, BatchStream, OverflowPolicy
from .collector import spared_collector
from .connection import Backoff, is_connection_error
from .events import (
    Complaints,
    ReadsFailed,
    RecordingEnded,
    RecordingStarted,
    SeriesAdded,
    SeriesRemoved,
    SourceLost,
    SourceReturned,
    log_event,
)
from .schedule import Schedule
from .slots import Feed, Poll, SlotBook
from .source import (
    Partition,
    Partitioned,
    PollSource,
    Revised,
    SourcePartition,
    Watched,
    partitions_of,
)
from .summary import AcquisitionSummary, Ledger

LEAD_S: Final = 0.01
"""How long after the call the first slot begins, in seconds; at once under a virtual clock."""

GRACE_S: Final = 1.0
"""How long polls begun in time may outlast the last slot: one period, but at most this."""

OnError: TypeAlias = Literal["record", "stop"]
"""What a failed read does to the recording."""

ReconnectFactory: TypeAlias = Callable[[], Awaitable[PollSource]]
"""Makes a source anew after its connection was lost."""

T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class _Options:
    """How a recording deals with what goes wrong."""

    on_error: OnError
    auto_reconnect: bool
    reconnect_factory: ReconnectFactory | None
    observer: Observer


class Recording(Generic[T_co]):
    """A recording that is going on.

    Attributes:
        stream: The batches, each what arrived since the last one: by the end of a slot, or as
            soon as every bus has answered. Never empty; late samples carry their own stamps.
        summary: The numbers so far.
        rate_hz: Slots per second.
    """

    def __init__(
        self,
        stream: BatchStream[T_co],
        summary: AcquisitionSummary,
        rate_hz: float,
        stop: Callable[[], None],
    ) -> None:
        """Show a recorder's stream and summary."""
        self.stream = stream
        self.summary = summary
        self.rate_hz = rate_hz
        self._stop = stop

    def stop(self) -> None:
        """Begin no more polls; the stream ends once those going on have ended.

        They get one period, at most `GRACE_S`. Stopping twice is harmless.
        """
        self._stop()

    def __repr__(self) -> str:
        """Return the rate and the main numbers."""
        return f"<Recording {self.rate_hz} Hz {self.summary!r}>"


def record(  # noqa: PLR0913 - the options of recorders that laboratories know
    source: PollSource | Partitioned,
    *,
    parameters: Sequence[str],
    rate_hz: float,
    duration: float | None = None,
    names: Sequence[str] | None = None,
    instances: Sequence[int] = (1,),
    overflow: OverflowPolicy | str = OverflowPolicy.BLOCK,
    buffer_size: int = 64,
    auto_reconnect: bool = False,
    reconnect_factory: ReconnectFactory | None = None,
    on_error: OnError = "record",
    observer: Observer | None = None,
) -> AbstractAsyncContextManager[Recording[Sequence[Sample]]]:
    """Poll `source` at `rate_hz` while the context is open.

    Leaving the context ends the recording at once; what was read and not taken by then counts
    as dropped. `stop`, `duration`, a lost source and a failed read that stops it end it
    without loss: the stream ends after everything read was taken.

    Args:
        source: One that spans buses is polled bus by bus; any other counts as one bus. An
            instrument ignores `names`.
        parameters: `name`, of every device that has it, or `device.name`.
        rate_hz: Slots per second.
        duration: In seconds: `max(1, round(duration * rate_hz))` slots, then the stream ends:
            as soon as every bus has answered or failed in the last slot, at most one period
            and at most `GRACE_S` after it. None for no end.
        names: The devices to poll; None for all.
        instances: Which loops or channels to poll, from 1.
        overflow: What happens when the consumer is slower; a policy or its value.
        buffer_size: How many batches wait for the consumer at most.
        auto_reconnect: What a plain source whose poll raises a connection error is worth:
            False ends the recording, True waits longer and longer and tries again. Sources
            that span buses reconnect by themselves and are always waited for.
        reconnect_factory: Called once per attempt; the source it returns is asked from then
            on. None to ask the same source again.
        on_error: What a failed read does: "record" reports it, counts it missing and goes on,
            "stop" ends the recording.
        observer: Sees the recording's events; by default they are logged, what goes wrong
            as warnings. What it raises ends the recording.

    Raises:
        TypeError: `source` has no `poll_many`.
        ValueError: `rate_hz` or `duration` is not positive, `buffer_size` is less than one,
            `parameters` is empty, `overflow` or `on_error` is no such word, or there is a
            `reconnect_factory` without `auto_reconnect`.
    """
    wanted = (parameters,) if isinstance(parameters, str) else tuple(parameters)
    if not wanted:
        raise ValueError("parameters must name at least one parameter")
    if reconnect_factory is not None and not auto_reconnect:
        raise ValueError("reconnect_factory is never called without auto_reconnect=True")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is {on_error!r}; it must be 'record' or 'stop'")
    if not isinstance(source, Partitioned) and not hasattr(source, "poll_many"):
        raise TypeError(f"{source!r} cannot be recorded: it has no poll_many")
    schedule = Schedule(rate_hz)
    slots = None if duration is None else schedule.slots_in(duration)
    ledger = Ledger()
    buffer = BatchBuffer(buffer_size, _policy(overflow), ledger)
    options = _Options(
        on_error=on_error,
        auto_reconnect=auto_reconnect,
        reconnect_factory=reconnect_factory,
        observer=observer or log_event,
    )

    def start() -> _Recorder:
        partitions = partitions_of(source, wanted, names=names, instances=instances)
        book = SlotBook(schedule, buffer, ledger, slots)
        return _Recorder(schedule, book, buffer, ledger, partitions, wanted, options)

    return _recording(start)


def _policy(overflow: OverflowPolicy | str) -> OverflowPolicy:
    try:
        return OverflowPolicy(overflow)
    except ValueError:
        known = ", ".join(each.value for each in OverflowPolicy)
        raise ValueError(f"overflow is {overflow!r}; it must be one of {known}") from None


@asynccontextmanager
async def _recording(
    start: Callable[[], _Recorder],
) -> AsyncGenerator[Recording[Sequence[Sample]]]:
    recorder = start()
    failure: Exception | None = None
    try:
        with spared_collector():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(recorder.run)
                try:
                    yield recorder.recording
                except Exception as error:  # noqa: BLE001 - raised again below, out of the nursery's group
                    failure = error
                recorder.leave("the block failed" if failure else "the block was left")
                nursery.cancel_scope.cancel()
    finally:
        recorder.discard()
        if failure is not None:
            raise failure


class _Recorder:
    """The tasks of one recording."""

    def __init__(
        self,
        schedule: Schedule,
        book: SlotBook,
        buffer: BatchBuffer,
        ledger: Ledger,
        partitions: Sequence[Partition],
        parameters: Sequence[str],
        options: _Options,
    ) -> None:
        self._schedule = schedule
        self._book = book
        self._buffer = buffer
        self._ledger = ledger
        self._partitions = partitions
        self._parameters = tuple(parameters)
        self._options = options
        self._publish = options.observer
        self._complaints = Complaints(self._publish)
        self._clock = current_clock()
        # Starting the tasks must not make the first slots late.
        lead_s = 0.0 if self._clock.virtual else LEAD_S
        self._origin_s = self._clock.now_s() + lead_s
        ledger.started_utc_ns = self._clock.utc_ns() + round(lead_s * 1e9)
        self._busy = 0
        self._reason = ""
        self._over = trio.Event()
        self._slot_end = trio.CancelScope()
        self._watched = -1
        self._quiet = trio.Event()
        self._tasks: trio.Nursery | None = None
        # The partitions as they were when they were looked at last.
        self._known: Sequence[Partition] = ()
        self._revised = partitions if isinstance(partitions, Revised) else None
        self._revision: int | None = None
        self._scopes: dict[Partition, tuple[Feed, trio.CancelScope]] = {}
        self.recording = Recording(
            BatchStream(buffer.take, buffer.take_nowait, book.collect),
            AcquisitionSummary(ledger),
            schedule.rate_hz,
            partial(self._stop, "it was stopped"),
        )

    async def run(self) -> None:
        """Poll until the last slot is closed, then wait a little for what was begun."""
        self._watch_end()
        try:
            async with trio.open_nursery() as nursery:
                self._tasks = nursery
                self._welcome()
                self._publish(
                    RecordingStarted(
                        rate_hz=self._schedule.rate_hz,
                        parameters=self._parameters,
                        series=_series(key for feed in self._book.feeds for key in feed.keys),
                    )
                )
                await self._close_slots()
                if self._busy:
                    with trio.move_on_after(min(self._schedule.period_s, GRACE_S)):
                        await self._quiet.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._tasks = None
            self._advance()
            self._book.finish()
            self._buffer.end()
            self._ledger.finished_utc_ns = self._clock.utc_ns()
            reason = self._reason or ("its time was up" if self._book.over else "cancelled")
            self._publish(RecordingEnded(reason=reason, slots=self._book.open_slot))

    def leave(self, reason: str) -> None:
        """Say why the recording is about to be cut short."""
        if not self._over.is_set():
            self._reason = self._reason or reason

    def discard(self) -> None:
        """Drop what the consumer has left behind."""
        self._buffer.discard()

    async def _close_slots(self) -> None:
        """Close slots at their end, where no bus has done so before by answering or polling on.

        The deadline moves along with the open slot, so that this task sleeps through the
        slots of a healthy bench and is never in the way of a poll.
        """
        while not self._over.is_set():
            with self._slot_end:
                await self._over.wait()
                return
            self._slot_end = trio.CancelScope()
            self._watch_end()
            self._advance()
            self._welcome()

    def _welcome(self) -> None:
        """Begin with partitions that have come, and end with those that have gone."""
        nursery = self._tasks
        if nursery is None or not self._changed():
            return
        self._known = tuple(self._partitions)
        begun = self._book.open_slot > 0
        for partition in tuple(self._scopes):
            if partition not in self._partitions:
                feed, scope = self._scopes.pop(partition)
                self._book.leave(feed)
                scope.cancel()
                if feed.keys:
                    self._publish(SeriesRemoved(source=partition.name, series=_series(feed.keys)))
        for partition in self._partitions:
            if partition not in self._scopes:
                feed, scope = self._book.join(partition), trio.CancelScope()
                self._scopes[partition] = feed, scope
                nursery.start_soon(self._keep_polling, feed, scope)
                if begun and feed.keys:
                    self._publish(SeriesAdded(source=partition.name, series=_series(feed.keys)))

    def _changed(self) -> bool:
        """Return whether partitions may have come or gone since they were looked at last."""
        revised = self._revised
        if revised is None:
            known = self._known
            return len(known) != len(self._partitions) or not all(map(is_, known, self._partitions))
        # Asked for each poll: a look at every bus for every bus would cost more than the polls.
        earlier, self._revision = self._revision, revised.revision
        return earlier != self._revision

    async def _keep_polling(self, feed: Feed, scope: trio.CancelScope) -> None:
        schedule = self._schedule
        book = self._book
        slot = feed.joined
        backoff = Backoff(feed.partition.name)
        with scope, ExitStack() as stack:
            partition = feed.partition
            if isinstance(partition, Watched):
                stack.enter_context(
                    partition.watch(partial(self._note_lost, feed), partial(self._note_back, feed))
                )
            timer = stack.enter_context(make_timer())
            while True:
                target_ns = schedule.target_ns(slot)
                await timer.wait_until(self._instant_s(target_ns))
                elapsed_ns = self._advance(target_ns)
                self._welcome()
                if partition not in self._scopes:
                    return
                # Whoever comes late begins the slot that is open now; earlier ones are missing.
                slot = max(slot, schedule.slot_at(elapsed_ns))
                if self._over.is_set():
                    return
                if book.may_begin:
                    self._ledger.add_poll((elapsed_ns - schedule.target_ns(slot)) / 1e9)
                    connected = await self._poll(feed, slot)
                    if connected:
                        backoff.reset()
                    elif isinstance(partition, SourcePartition):
                        if not self._options.auto_reconnect:
                            self._stop(f"{partition.name} was lost")
                        else:
                            await self._reconnect(partition, backoff)
                slot += 1

    async def _poll(self, feed: Feed, slot: int) -> bool:
        """Poll once, and return False where a plain source has lost its connection."""
        book = self._book
        earlier = feed.keys
        poll = book.begin(feed, slot)
        if feed.keys is not earlier:
            self._note_series(feed, earlier)
        began_s = self._clock.now_s()
        self._busy += 1
        fault: Exception | None = None
        finished = False
        try:
            try:
                await feed.partition.poll(partial(self._deliver, poll))
            except Exception as error:  # noqa: BLE001 - a failed poll is missing samples, no more
                fault = error
            finished = True
            self._ledger.durations.add(self._clock.now_s() - began_s)
        finally:
            self._busy -= 1
            self._advance()
            book.settle(poll)
            self._follow()
            if not self._busy and self._over.is_set():
                self._quiet.set()
            lost = finished and self._judge(feed, poll, fault)
        return not lost

    def _judge(self, feed: Feed, poll: Poll, fault: Exception | None) -> bool:
        """Report what a poll did not give; return whether a plain source lost its connection."""
        partition = feed.partition
        if fault is None and not poll.owed:
            self._note_back(feed, ())
            return False
        if isinstance(partition, SourcePartition) and fault and is_connection_error(fault):
            self._note_lost(feed, partition.devices, describe(fault))
            return True
        self._complaints.add(
            ReadsFailed(
                source=partition.name,
                series=_series(poll.owed),
                error=None if fault is None else describe(fault),
            )
        )
        if self._options.on_error == "stop":
            self._stop(f"a read of {partition.name} failed")
        return False

    async def _reconnect(self, partition: SourcePartition, backoff: Backoff) -> None:
        """Wait, and make the source anew where there is a factory."""
        factory = self._options.reconnect_factory
        while True:
            await trio.sleep(backoff.next_s())
            if factory is None:
                return
            try:
                partition.adopt(await factory())
            except Exception as error:  # noqa: BLE001 - whatever kept it from connecting, try on
                self._complaints.add(
                    ReadsFailed(
                        source=partition.name,
                        series=_series(partition.keys),
                        error=f"not reconnected: {describe(error)}",
                    )
                )
            else:
                return

    def _note_lost(self, feed: Feed, devices: Sequence[str], reason: str) -> None:
        if feed.lost and isinstance(feed.partition, SourcePartition):
            return
        feed.lost = True
        self._ledger.add_disconnect(devices)
        self._publish(SourceLost(source=feed.partition.name, devices=tuple(devices), reason=reason))

    def _note_back(self, feed: Feed, devices: Sequence[str]) -> None:
        partition = feed.partition
        if isinstance(partition, SourcePartition):
            if not feed.lost:
                return
            devices = partition.devices
        elif not devices:
            return
        feed.lost = False
        self._publish(SourceReturned(source=partition.name, devices=tuple(devices)))

    def _note_series(self, feed: Feed, earlier: Sequence[SampleKey]) -> None:
        added = [key for key in feed.keys if key not in earlier]
        removed = [key for key in earlier if key not in feed.keys]
        if added:
            self._publish(SeriesAdded(source=feed.partition.name, series=_series(added)))
        if removed:
            self._publish(SeriesRemoved(source=feed.partition.name, series=_series(removed)))

    def _deliver(self, poll: Poll, sample: Sample) -> None:
        self._advance()
        self._book.deliver(poll, sample)

    def _stop(self, reason: str) -> None:
        if self._ledger.finished_utc_ns is not None:
            return  # what has ended is counted to its end, and no further
        self._advance()
        self._reason = self._reason or reason
        self._book.cut()
        self._over.set()

    def _advance(self, at_least_ns: int = 0) -> int:
        """Close what has ended, and return the elapsed time.

        `at_least_ns` is a target that a timer has just reached: the float of Trio's time may
        round to a nanosecond before it.
        """
        elapsed_ns = max(at_least_ns, self._elapsed_ns())
        self._book.advance(elapsed_ns)
        self._follow()
        return elapsed_ns

    def _follow(self) -> None:
        """Act on the slots that were closed."""
        if self._watched == self._book.open_slot:
            return
        if self._book.over:
            self._over.set()
        else:
            self._watch_end()

    def _watch_end(self) -> None:
        """Wake at the end of the open slot."""
        self._watched = self._book.open_slot
        self._slot_end.deadline = self._instant_s(self._book.ends_ns)

    def _elapsed_ns(self) -> int:
        return round((self._clock.now_s() - self._origin_s) * 1e9)

    def _instant_s(self, target_ns: int) -> float:
        return self._origin_s + target_ns / 1e9


def _series(keys: Iterable[SampleKey]) -> tuple[str, ...]:
    return tuple(map(str, keys))
