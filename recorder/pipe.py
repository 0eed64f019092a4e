"""From a stream of batches into sinks, off the event loop.

Whatever the stream has handed over is written, kept in a journal, or named in an error, on
every way out. Each sink has a backlog of its own, so that a slow one delays the others only
once its backlog is full, and a failed one keeps nothing from them.

A sink that fails and may be well again is retried, each time after a longer wait. Meanwhile
everything for it goes to a journal, in order: first the samples that failed, then those that
came after. Once the sink takes samples again it is given the journal from its front, and
only when that is empty the newest. Nothing overtakes, so nothing is twice or lost.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar, TypeVarTuple, runtime_checkable

import trio

from actors import Sample, current_clock, describe

from .connection import Backoff
from .errors import RecorderError, SinkError
from .sinks import Retryable, SampleSink
from .spill import Spill

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BACKLOG: Final = 4
"""How many batches a sink may be behind before the stream has to wait for it."""

RETRY_S: Final = 0.25
LONGEST_RETRY_S: Final = 5.0
"""How long a failing sink is left alone at first, and at most, in seconds."""

_log = logging.getLogger(__name__)


@runtime_checkable
class Drainable(Protocol):
    """A stream that can be emptied without waiting, such as a recording's."""

    def drain_nowait(self) -> Sequence[Sequence[Sample]]:
        """Return every batch that is there."""
        ...


async def pipe(
    stream: AsyncIterable[Sequence[Sample]],
    *sinks: SampleSink,
    batch_size: int = 1000,
    flush_s: float = 1.0,
    close_s: float = 10.0,
    spill: str | os.PathLike[str] | None = None,
) -> int:
    """Write everything from `stream` into each of the opened `sinks`; return how many samples.

    Cancelled, it also takes what the stream has ready, and writes it before it gives way. A
    sink that raises ends the pipe, once the others have what was received, unless it may be
    well again and there is somewhere to keep its samples meanwhile. The sinks stay open.

    Args:
        stream: Batches of samples.
        sinks: Where each sample goes; a write in progress delays no other sink.
        batch_size: At most this many samples go into one write.
        flush_s: A sample waits no longer than this for others, in seconds.
        close_s: How long writing the rest may take once the stream has ended, failed or been
            cancelled, in seconds.
        spill: A folder for journals of failing sinks, on a local disk, one file a sink. None
            for where the sink itself says, or else no retries.

    Raises:
        SinkError: A sink raised, or was not done within `close_s`; names what is unwritten,
            and the journal that keeps it. With several, an exception group of them. Its cause
            is what the sink raised.
        ValueError: `batch_size` is less than one, or a time is negative.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not (flush_s >= 0 and close_s >= 0):
        raise ValueError("flush_s and close_s must not be negative")
    fan = _Fan([_Outlet(sink, batch_size, flush_s, _journal(sink, spill)) for sink in sinks])
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            for outlet in fan.outlets:
                nursery.start_soon(outlet.run, nursery.cancel_scope)
            try:
                await fan.receive(stream)
            except Exception as error:  # noqa: BLE001 - raised again below, out of the nursery's group
                failure = error
            finally:
                fan.drain(stream)
                fan.end(close_s)
    finally:
        errors = fan.errors()
        if failure is not None:
            errors.append(failure)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several things failed", errors)
    return fan.received


class _Fan:
    """All the sinks of one pipe."""

    def __init__(self, outlets: Sequence[_Outlet]) -> None:
        self.outlets = outlets
        self.received = 0

    async def receive(self, stream: AsyncIterable[Sequence[Sample]]) -> None:
        """Take batches until the stream ends, no faster than the slowest sink."""
        async for batch in stream:
            self._put(batch)
            for outlet in self.outlets:
                await outlet.wait_for_room()

    def drain(self, stream: AsyncIterable[Sequence[Sample]]) -> None:
        """Take what is ready, unless there is no sink left to write it."""
        if isinstance(stream, Drainable) and not all(outlet.failed for outlet in self.outlets):
            for batch in stream.drain_nowait():
                self._put(batch)

    def end(self, within_s: float) -> None:
        """Let every sink write what is left, within so many seconds."""
        for outlet in self.outlets:
            outlet.end(within_s)

    def errors(self) -> list[Exception]:
        """Return what went wrong with each sink."""
        found = (outlet.error() for outlet in self.outlets)
        return [error for error in found if error is not None]

    def _put(self, batch: Sequence[Sample]) -> None:
        self.received += len(batch)
        for outlet in self.outlets:
            outlet.put(batch)


class _Outlet:
    """One sink and what it has not acknowledged."""

    def __init__(
        self, sink: SampleSink, batch_size: int, flush_s: float, journal: Path | None
    ) -> None:
        self._sink = sink
        self._batch_size = batch_size
        self._flush_s = flush_s
        self._journal = journal
        self._limiter = trio.CapacityLimiter(1)
        self._pending: list[Sample] = []
        self._oldest_s = math.inf
        # Where the sink's task waits: a place of its own for each wait, which nothing late wakes.
        self._bell = trio.lowlevel.ParkingLot()
        self._room = trio.Event()
        self._ended = False
        self._failure: Exception | None = None
        # What the sink refused for the time being; there is a journal while it is set.
        self._trouble: Exception | None = None
        self._spill: Spill | None = None
        self._backoff = Backoff(sink.name, RETRY_S, LONGEST_RETRY_S)
        self._retry_s = math.inf
        self._in_spill = False
        # Shielded, so that cancelling the pipe does not cut a write short; `end` bounds it.
        self._guard = trio.CancelScope(shield=True)

    @property
    def failed(self) -> bool:
        """Whether the sink has raised, so that nothing more will be written."""
        return self._failure is not None

    def put(self, batch: Sequence[Sample]) -> None:
        """Take a batch over."""
        if not self._pending:
            self._oldest_s = current_clock().now_s()
        self._pending += batch
        self._bell.unpark()

    async def wait_for_room(self) -> None:
        """Wait until the backlog is short enough."""
        while len(self._pending) > BACKLOG * self._batch_size and self._failure is None:
            self._room = trio.Event()
            await self._room.wait()

    def end(self, within_s: float) -> None:
        """Write what is left, within so many seconds."""
        self._ended = True
        self._guard.deadline = current_clock().now_s() + within_s
        self._retry_s = min(self._retry_s, current_clock().now_s())
        self._bell.unpark()

    async def run(self, pipe_scope: trio.CancelScope) -> None:
        """Write until the end; a sink that raises and is not retried ends the pipe."""
        try:
            with self._guard:
                while await self._wait_until_due():
                    await self._work()
        except _GivenUpError as given_up:
            self._failure = given_up.cause
            pipe_scope.cancel()
        finally:
            # A thread that hangs in the journal's disk keeps it: it cannot be closed under it.
            if self._spill is not None and not self._in_spill:
                self._spill.close()

    async def _work(self) -> None:
        if self._spill is None:
            await self._write()
            return
        await self._keep()
        if current_clock().now_s() >= self._retry_s:
            await self._replay(self._spill)

    async def _write(self) -> None:
        """Write what is due; where that fails for the time being, begin a journal with it."""
        batch = tuple(self._pending[: self._batch_size])
        began_s = current_clock().now_s()
        try:
            await self._call(self._sink.write, batch)
        except Exception as error:  # noqa: BLE001 - kept, or becomes a SinkError
            await self._begin_journal(error)
        else:
            self._forget(len(batch), began_s)

    async def _begin_journal(self, error: Exception) -> None:
        sink = self._sink
        if self._journal is None or not (isinstance(sink, Retryable) and sink.may_retry(error)):
            raise _GivenUpError(error) from error
        try:
            self._spill = await self._call(Spill, self._journal)
        except (OSError, RecorderError) as second:
            error.add_note(f"no journal could be begun: {describe(second)}")
            raise _GivenUpError(error) from second
        _log.warning("%s fails, samples go to %s: %s", sink.name, self._journal, describe(error))
        self._trouble = error
        self._retry_s = current_clock().now_s() + self._backoff.next_s()
        await self._keep()

    async def _keep(self) -> None:
        """Move everything that waits in memory to the end of the journal."""
        spill = self._spill
        while spill is not None and self._pending:
            batch = tuple(self._pending[: self._batch_size])
            began_s = current_clock().now_s()
            try:
                await self._call_spill(spill.append, batch)
            except OSError as error:
                self._in_spill = False
                raise _GivenUpError(error) from error
            self._forget(len(batch), began_s)

    async def _replay(self, spill: Spill) -> None:
        """Give the sink the journal from its front, until it is empty or the sink refuses."""
        count = spill.waiting
        while batch := await self._call_spill(spill.front):
            try:
                await self._call(self._sink.write, batch)
            except Exception as error:
                sink = self._sink
                if not (isinstance(sink, Retryable) and sink.may_retry(error)):
                    raise _GivenUpError(error) from error
                self._trouble = error
                self._retry_s = current_clock().now_s() + self._backoff.next_s()
                return
            spill.drop_front()
            await self._keep()
        await self._call_spill(spill.close)
        _log.warning("%s is well again and has the %d samples", self._sink.name, count)
        self._spill = self._trouble = None
        self._backoff.reset()
        self._retry_s = math.inf

    def _forget(self, count: int, began_s: float) -> None:
        del self._pending[:count]
        self._oldest_s = began_s if self._pending else math.inf
        self._room.set()

    async def _wait_until_due(self) -> bool:
        """Return True once there is something to do, False at the end."""
        while len(self._pending) < self._batch_size:
            if self._ended and (self._spill is None or self._pending):
                break
            due_s = min(self._oldest_s + self._flush_s, self._retry_s)
            self._bell = trio.lowlevel.ParkingLot()
            if await current_clock().park_until(self._bell, due_s):
                break
        return bool(self._pending) or self._spill is not None

    async def _call_spill(self, blocking: Callable[[*Ts], T], *args: *Ts) -> T:
        self._in_spill = True
        result = await self._call(blocking, *args)
        self._in_spill = False
        return result

    async def _call(self, blocking: Callable[[*Ts], T], *args: *Ts) -> T:
        return await current_clock().run_sync(
            blocking, *args, limiter=self._limiter, abandon_on_cancel=True
        )

    def error(self) -> SinkError | None:
        """Return what went wrong, once `run` has ended."""
        kept = 0 if self._spill is None else self._spill.waiting
        if self._failure is None and not self._pending and not kept:
            return None
        cause = self._failure or self._trouble
        reason = "it was not done in time" if cause is None else repr(cause)
        error = SinkError(
            self._sink.name,
            len(self._pending) + kept,
            reason,
            str(self._spill.path) if self._spill is not None and kept else None,
        )
        error.__cause__ = cause
        return error


class _GivenUpError(Exception):
    """A sink will not be written to any more."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(describe(cause))
        self.cause = cause


def _journal(sink: SampleSink, folder: str | os.PathLike[str] | None) -> Path | None:
    """Return where a sink's samples wait while it fails."""
    if folder is not None:
        return Path(folder) / f"{sink.name}.spill.jsonl"
    return sink.spill_path if isinstance(sink, Retryable) else None
