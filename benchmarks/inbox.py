"""What lanes, priorities and fairness cost, against a memory channel, first in first out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import trio

from actors import Inbox, Priority

from .report import Measurement, growth, take_turns

BATCH: Final = 100
SIZES: Final = (1000, 10_000, 100_000)
WITHDRAWN: Final = 10_000


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure putting and taking, the turn of a late lane, and withdrawing."""
    rounds, batches = (2, 5) if quick else (15, 100)
    cases: dict[str, Callable[[], float]] = {
        "channel": partial(_through_channel, batches),
        "1 lane": partial(_through_lanes, batches, 1, (Priority.NORMAL,)),
        "32 lanes": partial(_through_lanes, batches, 32, (Priority.NORMAL,)),
        "32 lanes of 3 priorities": partial(
            _through_lanes, batches, 32, (Priority.LOW, Priority.NORMAL, Priority.HIGH)
        ),
    }
    times = take_turns(cases, rounds=rounds)
    for name, time_us in times.items():
        if name != "channel":
            yield Measurement(
                name=f"inbox, {name}, put and take",
                value=time_us,
                unit="us",
                ratio=time_us / times["channel"],
                against="a memory channel",
                n=rounds * batches * BATCH,
            )
    yield Measurement(
        name="inbox, one message behind a lane of 1000",
        value=_served_before(1000),
        unit="before",
        against="first in, first out, where it is 1000",
        budget=1,
    )
    costs = take_turns({size: partial(_withdraw, size) for size in SIZES}, rounds=7)
    yield Measurement(
        name=f"inbox, withdrawing one of {WITHDRAWN}",
        value=costs[WITHDRAWN] / WITHDRAWN * 1e6,
        unit="us",
        n=WITHDRAWN,
    )
    yield growth("inbox, withdrawing, growth with waiting", costs)


def _through_channel(batches: int) -> float:
    send, receive = trio.open_memory_channel[object](BATCH)
    message = object()
    began_s = time.perf_counter()
    for _ in range(batches):
        for _ in range(BATCH):
            send.send_nowait(message)
        for _ in range(BATCH):
            receive.receive_nowait()
    return (time.perf_counter() - began_s) / (batches * BATCH) * 1e6


def _through_lanes(batches: int, lanes: int, priorities: tuple[Priority, ...]) -> float:
    inbox: Inbox[object] = Inbox()
    made = [inbox.add_lane(f"lane {number}", BATCH) for number in range(lanes)]
    puts = [
        (made[number % lanes], object(), priorities[number % len(priorities)])
        for number in range(BATCH)
    ]
    began_s = time.perf_counter()
    for _ in range(batches):
        for lane, message, priority in puts:
            inbox.put_nowait(lane, message, priority)
        for _ in puts:
            inbox.take_nowait()
    return (time.perf_counter() - began_s) / (batches * BATCH) * 1e6


def _served_before(count: int) -> int:
    """Return how many of a lane's messages are served before that of a lane that came later."""
    inbox: Inbox[object] = Inbox()
    busy, late = inbox.add_lane("busy", count), inbox.add_lane("late", 1)
    for _ in range(count):
        inbox.put_nowait(busy, object())
    wanted = object()
    inbox.put_nowait(late, wanted)
    before = 0
    while inbox.take_nowait() is not wanted:
        before += 1
    return before


def _withdraw(count: int) -> float:
    """Return how long it takes to put that many and withdraw them all, in seconds."""
    inbox: Inbox[object] = Inbox()
    lane = inbox.add_lane("lane", count)
    messages = [object() for _ in range(count)]
    began_s = time.perf_counter()
    for message in messages:
        inbox.put_nowait(lane, message)
    for message in messages:
        if not inbox.discard(lane, message, Priority.NORMAL):
            raise RuntimeError("a message was not there")
    return time.perf_counter() - began_s
