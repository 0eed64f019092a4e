"""Which slot is open, what it is owed, and what became of it. No clock, no waiting.

Slots are closed in order, each once: when every feed has settled its poll of the slot, or at
the slot's end. Closing hands over one batch with whatever arrived since the last one.

- A feed that never began its poll of a slot owes that slot's keys: missing at the close.
- A poll that was begun settles each of its keys once, as read or, when it ends, as missing.
- A sample that arrives at its slot's end or after it is late: read, and in the next batch.
- A feed that joins owes from the open slot on; one that leaves owes the open slot no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from actors import Sample, SampleKey

from .buffer import Batch, BatchBuffer, OverflowPolicy
from .schedule import Schedule
from .source import Partition
from .summary import Ledger, Tally


class Feed:
    """One partition, and how far it has come.

    Attributes:
        partition: What is polled.
        keys: What it owed when its last poll was begun.
        begun: The last slot whose poll was begun; -1 before the first.
        settled: The last slot whose poll has ended.
        joined: The first slot that it owes.
        left: Whether it owes no more.
        lost: Whether its connection is lost.
    """

    def __init__(self, partition: Partition, joined: int = 0) -> None:
        """Start before the first slot."""
        self.partition: Final = partition
        self.keys: Sequence[SampleKey] = partition.keys
        self.begun = joined - 1
        self.settled = joined - 1
        self.joined: Final = joined
        self.left = False
        self.lost = False


class Poll:
    """One feed's poll of one slot.

    Attributes:
        feed: Whose it is.
        slot: The slot it was begun for.
        owed: The keys not delivered yet.
        ended: Whether it has ended.
    """

    __slots__ = ("ended", "feed", "owed", "slot")

    def __init__(self, feed: Feed, slot: int) -> None:
        """Owe the feed's keys to `slot`."""
        self.feed = feed
        self.slot = slot
        # In the order of the feed, which a report of what is missing keeps.
        self.owed = dict.fromkeys(feed.keys)
        self.ended = False


class SlotBook:
    """The slots of one recording.

    Attributes:
        feeds: The recording's partitions.
        open_slot: The first slot that is not closed.
        ends_ns: When that ends, in nanoseconds after the first target.
        slots: How many slots there are; None while that is not known.
    """

    def __init__(
        self, schedule: Schedule, buffer: BatchBuffer, ledger: Ledger, slots: int | None
    ) -> None:
        """Open the first slot."""
        self.feeds: list[Feed] = []
        self.open_slot = 0
        self.ends_ns = schedule.target_ns(1)
        self.slots = slots
        self._schedule = schedule
        self._buffer = buffer
        self._ledger = ledger
        self._arrived: list[Sample] = []
        self._tallies: list[Tally] = []
        self._settled = 0

    @property
    def over(self) -> bool:
        """Whether every slot is closed."""
        return self.slots is not None and self.open_slot >= self.slots

    @property
    def may_begin(self) -> bool:
        """Whether a poll's samples are sure to find room."""
        return self._buffer.policy is not OverflowPolicy.BLOCK or not self._buffer.full

    def join(self, partition: Partition) -> Feed:
        """Add a partition; it owes from the open slot on."""
        feed = Feed(partition, self.open_slot)
        self.feeds.append(feed)
        return feed

    def leave(self, feed: Feed) -> None:
        """Remove a feed; what it has not begun it does not owe."""
        self.feeds.remove(feed)
        feed.left = True
        if feed.settled == self.open_slot:
            self._settled -= 1
        self._close_if_settled()

    def advance(self, elapsed_ns: int) -> None:
        """Close every slot that has ended by `elapsed_ns`."""
        while self.ends_ns <= elapsed_ns and not self.over:
            self._close()

    def begin(self, feed: Feed, slot: int) -> Poll:
        """Note that the feed asks for `slot` now."""
        feed.begun = slot
        feed.keys = feed.partition.keys
        return Poll(feed, slot)

    def deliver(self, poll: Poll, sample: Sample) -> None:
        """Take a sample that has just arrived; `advance` to the present first.

        Raises:
            RuntimeError: The poll has ended, and the sample was counted as missing.
        """
        key = sample.key
        if poll.ended:
            raise RuntimeError(f"{key} was delivered after its poll had ended")
        poll.owed.pop(key, None)
        tally = self._ledger.tally(key)
        tally.read += 1
        tally.late += poll.slot < self.open_slot
        self._arrived.append(sample)
        self._tallies.append(tally)

    def settle(self, poll: Poll) -> None:
        """Count what the ended poll did not deliver; `advance` to the present first."""
        poll.ended = True
        self._ledger.add_missing(poll.owed)
        feed = poll.feed
        feed.settled = poll.slot
        if poll.slot == self.open_slot and not feed.left:
            self._settled += 1
            self._close_if_settled()

    def cut(self) -> None:
        """Let no slot follow the open one, nor that one unless a poll of it was begun.

        Of the slot that is cut only what was asked for counts.
        """
        begun = any(feed.begun >= self.open_slot for feed in self.feeds)
        if not self.over:
            self.slots = self.open_slot + begun

    def collect(self) -> None:
        """Hand over what has arrived, unless under BLOCK the buffer is full."""
        if self._arrived and self.may_begin:
            self._hand_over()

    def finish(self) -> None:
        """Hand over the rest, whatever the buffer holds."""
        if self._arrived:
            self._hand_over()

    def _close_if_settled(self) -> None:
        if self._settled and self._settled == len(self.feeds) and not self.over:
            self._close()

    def _close(self) -> None:
        for feed in self.feeds:
            if feed.begun < self.open_slot:
                self._ledger.add_missing(feed.partition.keys)
        self.open_slot += 1
        self.ends_ns = self._schedule.target_ns(self.open_slot + 1)
        self._settled = 0
        self.collect()

    def _hand_over(self) -> None:
        batch = Batch(tuple(self._arrived), tuple(self._tallies))
        self._arrived.clear()
        self._tallies.clear()
        self._buffer.put(batch)
