"""The batches between a recording and its consumer: bounded, and every loss counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Generic, NamedTuple, Self, TypeVar

import trio

from actors import Sample

from .summary import Ledger, Tally

T_co = TypeVar("T_co", covariant=True)


class OverflowPolicy(Enum):
    """What happens when the consumer is slower than the recording."""

    BLOCK = "block"
    """No poll is begun while the buffer is full: its slots are missing, nothing is dropped."""

    DROP_NEWEST = "drop_newest"
    """Polling goes on; a batch that finds the buffer full is dropped."""

    DROP_OLDEST = "drop_oldest"
    """Polling goes on; a batch that finds the buffer full evicts the oldest one."""


class Batch(NamedTuple):
    """Samples, and where each is counted."""

    samples: Sequence[Sample]
    tallies: Sequence[Tally]


class BatchBuffer:
    """A bounded queue that is filled without waiting.

    Attributes:
        policy: What happens when it is full.
    """

    def __init__(self, size: int, policy: OverflowPolicy, ledger: Ledger) -> None:
        """Hold up to `size` batches.

        Raises:
            ValueError: `size` is less than one.
        """
        if size < 1:
            raise ValueError(f"buffer_size must be at least 1, not {size}")
        self.policy = policy
        self._size = size
        self._ledger = ledger
        self._batches: deque[Batch] = deque()
        self._ended = False
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def full(self) -> bool:
        """Whether another batch would be one too many."""
        return len(self._batches) >= self._size

    def put(self, batch: Batch) -> None:
        """Hand over a batch, as the policy says; under BLOCK the bound is the caller's care."""
        if self.full:
            match self.policy:
                case OverflowPolicy.BLOCK:
                    pass
                case OverflowPolicy.DROP_NEWEST:
                    self._ledger.add_dropped(batch.tallies)
                    return
                case OverflowPolicy.DROP_OLDEST:
                    self._ledger.add_dropped(self._batches.popleft().tallies)
        self._batches.append(batch)
        self._waiting.unpark()

    def end(self) -> None:
        """Take no more; the consumer gets what is left, then the end."""
        self._ended = True
        self._waiting.unpark_all()

    def discard(self) -> None:
        """Count what is left as dropped."""
        while self._batches:
            self._ledger.add_dropped(self._batches.popleft().tallies)

    def take_nowait(self) -> Sequence[Sample] | None:
        """Return the oldest batch, or None where there is none."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self._ledger.add_emitted(batch.tallies)
        return batch.samples

    async def take(self) -> Sequence[Sample]:
        """Return the oldest batch, waiting for one. A cancelled wait takes nothing.

        Raises:
            StopAsyncIteration: The recording has ended and everything was taken.
        """
        await trio.lowlevel.checkpoint()
        while (batch := self.take_nowait()) is None:
            if self._ended:
                raise StopAsyncIteration
            await self._waiting.park()
        return batch


class BatchStream(Generic[T_co]):
    """A recording's batches, oldest first, each delivered to one consumer.

    Iterating may be cancelled and taken up again: a cancelled step takes nothing.
    """

    def __init__(
        self,
        take: Callable[[], Awaitable[T_co]],
        take_nowait: Callable[[], T_co | None],
        collect: Callable[[], None],
    ) -> None:
        """Deliver what `take` returns; `collect` lets it return the open slot's samples too."""
        self._take = take
        self._take_nowait = take_nowait
        self._collect = collect

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> T_co:
        """Return the next batch."""
        return await self._take()

    def drain_nowait(self) -> list[T_co]:
        """Return everything read so far, the open slot's samples included, without waiting."""
        batches: list[T_co] = []
        while (batch := self._take_nowait()) is not None:
            batches.append(batch)
        self._collect()
        while (batch := self._take_nowait()) is not None:
            batches.append(batch)
        return batches
