"""The inbox, against a simple model of what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pytest
import trio
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Priority
from actors.inbox import RESERVED, Inbox, InboxFullError, Lane

BOUNDS = (1, 2, 3)


@frozen(eq=False)
class Message:
    """One message; `number` rises with every one that was put or waits to be."""

    number: int
    lane: int
    priority: Priority

    @property
    def urgent(self) -> bool:
        """Whether it is an emergency."""
        return self.priority is Priority.EMERGENCY


# What a run does, step by step.


@frozen
class Put:
    """Put without waiting, `times` over."""

    lane: int
    priority: Priority
    times: int = 1


@frozen
class Wait:
    """Put from a task that waits for room; `passes` says what its check answers."""

    lane: int
    priority: Priority
    passes: bool


@frozen
class Take:
    """Take the next; in the same step put into `put` and cancel the first waiter of `cancel`."""

    put: int | None = None
    cancel: int | None = None


@frozen
class Cancel:
    """Cancel the `index`-th task that waits for room, if there are so many."""

    index: int


@frozen
class Hold:
    """Hold a lane or let it go."""

    lane: int
    held: bool


@frozen
class Discard:
    """Take a certain waiting message out, if there are so many."""

    index: int


@frozen
class Empty:
    """Take everything out of a lane."""

    lane: int


Step: TypeAlias = Put | Wait | Take | Cancel | Hold | Discard | Empty

lanes = st.integers(0, len(BOUNDS) - 1)
priorities = st.sampled_from(Priority)
steps = st.one_of(
    st.builds(Put, lanes, priorities, st.sampled_from([1, 1, 1, RESERVED])),
    st.builds(Wait, lanes, priorities, st.sampled_from([True, True, False])),
    st.builds(Take, st.none() | lanes, st.none() | lanes),
    st.builds(Cancel, st.integers(0, 5)),
    st.builds(Hold, lanes, st.booleans()),
    st.builds(Discard, st.integers(0, 5)),
    st.builds(Empty, lanes),
)


@define(eq=False)
class Waiter:
    """A task that waits for room."""

    message: Message
    passes: bool
    scope: trio.CancelScope = field(factory=trio.CancelScope)


class CheckError(Exception):
    """A waiter's check says no."""


class Run:
    """An inbox, and what ought to be in it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.inbox: Inbox[Message] = Inbox()
        self.lanes: list[Lane[Message]] = [
            self.inbox.add_lane(str(index), bound) for index, bound in enumerate(BOUNDS)
        ]
        # What waits in each lane, in the order of being put.
        self.stored: list[list[Message]] = [[] for _ in BOUNDS]
        self.waiters: list[list[Waiter]] = [[] for _ in BOUNDS]
        # Which other lanes were served since a lane could have been.
        self.passed_over: list[set[int]] = [set() for _ in BOUNDS]
        self.nursery = nursery
        self.count = 0

    def message(self, lane: int, priority: Priority) -> Message:
        """Return a new message."""
        self.count += 1
        return Message(self.count, lane, priority)

    def fits(self, message: Message) -> bool:
        """Return whether there ought to be room."""
        bound = BOUNDS[message.lane] + (RESERVED if message.urgent else 0)
        return len(self.stored[message.lane]) < bound and (
            message.urgent or not self.waiters[message.lane]
        )

    async def step(self, step: Step) -> None:
        """Do one thing and compare what follows."""
        match step:
            case Put(lane, priority, times):
                for _ in range(times):
                    self.put(self.message(lane, priority))
            case Wait(lane, priority, passes):
                await self.wait(Waiter(self.message(lane, priority), passes))
            case Take(put, cancel):
                self.take(put, cancel)
            case Cancel(index):
                waiting = [each for waiters in self.waiters for each in waiters]
                for waiter in waiting[index : index + 1]:
                    waiter.scope.cancel()
                    self.waiters[waiter.message.lane].remove(waiter)
            case Hold(lane, held):
                self.lanes[lane].held = held
            case Discard(index):
                stored = [each for lane in self.stored for each in lane]
                for message in stored[index : index + 1]:
                    self.discard(message)
            case Empty(lane):
                messages = self.inbox.empty(self.lanes[lane])
                assert messages == self.served(lane)
                self.stored[lane].clear()
                self.admit(lane)
        await wait_all_tasks_blocked()
        self.compare()

    def put(self, message: Message) -> None:
        """Put without waiting, into a lane to which nothing is promised."""
        if self.fits(message):
            self.inbox.put_nowait(self.lanes[message.lane], message, message.priority)
            self.stored[message.lane].append(message)
        else:
            with pytest.raises(InboxFullError):
                self.inbox.put_nowait(self.lanes[message.lane], message, message.priority)

    async def wait(self, waiter: Waiter) -> None:
        """Put from a task of its own."""
        message = waiter.message
        if self.fits(message):
            self.stored[message.lane].append(message)
        else:
            self.waiters[message.lane].append(waiter)
        self.nursery.start_soon(self.waiting, waiter)
        await wait_all_tasks_blocked()

    async def waiting(self, waiter: Waiter) -> None:
        """Wait for room; a check that says no is its own affair."""

        def check() -> None:
            if not waiter.passes:
                raise CheckError

        message = waiter.message
        with waiter.scope:
            try:
                lane = self.lanes[message.lane]
                await self.inbox.put(lane, message, message.priority, check=check)
            except CheckError:
                pass

    def take(self, put: int | None, cancel: int | None) -> None:
        """Take the next message, which has to be one that may come now."""
        taken = self.inbox.take_nowait()
        urgent = [each for lane in self.stored for each in lane if each.urgent]
        ready = [
            index
            for index, stored in enumerate(self.stored)
            if stored and not self.lanes[index].held
        ]
        if taken is None:
            assert not urgent
            assert not ready
            return
        assert taken is self.served(taken.lane)[0]
        assert taken.urgent == bool(urgent)
        if not urgent:
            assert taken.lane in ready
            for other in ready:
                assert taken.lane not in self.passed_over[other] or other == taken.lane
                self.passed_over[other].add(taken.lane)
            self.passed_over[taken.lane].clear()
        self.stored[taken.lane].remove(taken)
        if put is not None and self.waiters[put]:
            # Whoever comes in the step in which room was made must not get it.
            with pytest.raises(InboxFullError):
                self.inbox.put_nowait(self.lanes[put], self.message(put, Priority.HIGH))
        before = [*self.waiters[cancel]] if cancel is not None else []
        promised = len(self.stored[taken.lane]) < BOUNDS[taken.lane] and taken.lane == cancel
        for waiter in before[:1]:
            waiter.scope.cancel()
            if not promised:  # else it has its place already
                self.waiters[waiter.message.lane].remove(waiter)
        self.admit(taken.lane)

    def discard(self, message: Message) -> None:
        """Take a message out, once."""
        lane = self.lanes[message.lane]
        assert self.inbox.discard(lane, message, message.priority)
        assert not self.inbox.discard(lane, message, message.priority)
        self.stored[message.lane].remove(message)
        if not self.stored[message.lane]:
            self.passed_over[message.lane].clear()  # an empty lane gives up its turn
        self.admit(message.lane)

    def admit(self, lane: int) -> None:
        """Let those in who ought to have room now, in the order of waiting."""
        waiters, stored = self.waiters[lane], self.stored[lane]
        while waiters and len(stored) < BOUNDS[lane]:
            waiter = waiters.pop(0)
            if waiter.passes:
                stored.append(waiter.message)

    def served(self, lane: int) -> Sequence[Message]:
        """Return what waits in a lane, in the order in which it is to be served."""
        return sorted(self.stored[lane], key=lambda each: each.priority)

    def compare(self) -> None:
        """Check that the inbox holds what it ought to."""
        for index, lane in enumerate(self.lanes):
            assert [*lane] == self.served(index)
            assert len(lane) == len(self.stored[index])
            assert lane.promised == 0
            if not self.stored[index] or lane.held:
                self.passed_over[index].clear()
        assert len(self.inbox) == sum(map(len, self.stored))


@settings(deadline=None, max_examples=300)
@given(st.lists(steps, max_size=40))
def test_it_keeps_its_promises_whatever_happens(script: list[Step]) -> None:
    """Whatever is put, taken, held, discarded, emptied and cancelled: an inbox is as stated.

    First in, first out within a priority of a lane; lanes take turns; emergencies go
    first and have room reserved; held lanes keep theirs; those who wait for room get it
    in order; no cancelled or refused waiter keeps a place.
    """

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            run = Run(nursery)
            for step in script:
                await run.step(step)
            for lane in run.lanes:
                lane.held = False
            while len(run.inbox):
                await run.step(Take())
            assert not any(run.waiters)

    trio.run(main)


# The same promises, one by one.


@pytest.fixture
def inbox() -> Inbox[str]:
    """Return an inbox without lanes."""
    return Inbox()


def test_within_a_lane_the_priority_goes_first_then_the_order(inbox: Inbox[str]) -> None:
    """First in, first out, but only among equals."""
    lane = inbox.add_lane("a", 10)
    for message, priority in [
        ("low", Priority.LOW),
        ("n1", Priority.NORMAL),
        ("n2", Priority.NORMAL),
        ("high", Priority.HIGH),
    ]:
        inbox.put_nowait(lane, message, priority)
    assert [inbox.take_nowait() for _ in range(5)] == ["high", "n1", "n2", "low", None]


def test_lanes_take_turns_whatever_waits_in_them(inbox: Inbox[str]) -> None:
    """A busy lane of high priority does not starve a lane of low priority."""
    busy, calm = inbox.add_lane("busy", 10), inbox.add_lane("calm", 10)
    for index in range(4):
        inbox.put_nowait(busy, f"b{index}", Priority.HIGH)
    for index in range(2):
        inbox.put_nowait(calm, f"c{index}", Priority.LOW)
    taken = [inbox.take_nowait() for _ in range(6)]
    assert taken == ["b0", "c0", "b1", "c1", "b2", "b3"]


def test_an_emergency_goes_before_everything_and_through_a_held_lane(inbox: Inbox[str]) -> None:
    """It waits neither for its lane's turn nor for the lane to be let go."""
    first, second = inbox.add_lane("first", 10), inbox.add_lane("second", 10)
    inbox.put_nowait(first, "normal")
    inbox.put_nowait(second, "kept")
    second.held = True
    inbox.put_nowait(second, "off", Priority.EMERGENCY)
    assert [inbox.take_nowait() for _ in range(3)] == ["off", "normal", None]
    second.held = False
    assert inbox.take_nowait() == "kept"


def test_what_was_put_back_is_next(inbox: Inbox[str]) -> None:
    """It keeps its place and its lane's turn; only an emergency goes before it."""
    busy, calm = inbox.add_lane("busy", 2), inbox.add_lane("calm", 2)
    for message, lane in [("b0", busy), ("c0", calm), ("b1", busy)]:
        inbox.put_nowait(lane, message)
    assert inbox.take_nowait() == "b0"
    inbox.put_nowait(calm, "off", Priority.EMERGENCY)
    inbox.put_back(busy, "b0", Priority.NORMAL)
    assert len(inbox) == 4
    assert [inbox.take_nowait() for _ in range(5)] == ["off", "b0", "c0", "b1", None]
    inbox.put_back(busy, "b1", Priority.NORMAL)
    assert [inbox.take_nowait(), len(inbox)] == ["b1", 0]


def test_a_full_lane_has_reserved_room_for_emergencies(inbox: Inbox[str]) -> None:
    """Exactly so many places more, and for nothing else."""
    lane = inbox.add_lane("a", 2)
    for index in range(2):
        inbox.put_nowait(lane, f"n{index}")
    with pytest.raises(InboxFullError):
        inbox.put_nowait(lane, "one more", Priority.HIGH)
    for index in range(RESERVED):
        inbox.put_nowait(lane, f"e{index}", Priority.EMERGENCY)
    with pytest.raises(InboxFullError):
        inbox.put_nowait(lane, "e more", Priority.EMERGENCY)
    assert len(lane) == 2 + RESERVED


def test_a_removed_lane_gives_back_what_waited(inbox: Inbox[str]) -> None:
    """First served first, and nothing of it is taken any more."""
    lane = inbox.add_lane("a", 10)
    inbox.put_nowait(lane, "low", Priority.LOW)
    inbox.put_nowait(lane, "off", Priority.EMERGENCY)
    assert inbox.remove_lane(lane) == ["off", "low"]
    assert inbox.take_nowait() is None
    assert inbox.add_lane("a", 1) is not lane


async def test_removing_a_lane_lets_every_check_of_those_who_wait_speak(
    inbox: Inbox[str], autojump_clock: MockClock
) -> None:
    """However many wait for room, each is woken and can find that the lane is gone."""
    lane = inbox.add_lane("a", 2)
    gone: list[int] = []

    def check() -> None:
        raise CheckError

    async def wait(index: int) -> None:
        try:
            await inbox.put(lane, f"late {index}", check=check)
        except CheckError:
            gone.append(index)

    async with trio.open_nursery() as nursery:
        for index in range(2):
            inbox.put_nowait(lane, f"n{index}")
        for index in range(7):
            nursery.start_soon(wait, index)
            await wait_all_tasks_blocked()
        inbox.remove_lane(lane)
    assert sorted(gone) == [*range(7)]


async def test_the_bell_wakes_who_waits_and_is_not_lost(
    inbox: Inbox[str], autojump_clock: MockClock
) -> None:
    """Put before the wait or during it, from any number of putters: the actor looks."""
    lane = inbox.add_lane("a", 10)
    inbox.put_nowait(lane, "1")
    inbox.put_nowait(lane, "2")
    await inbox.wait()
    assert [inbox.take_nowait() for _ in range(3)] == ["1", "2", None]
    with trio.move_on_after(1.0) as nothing:
        await inbox.wait()
    assert nothing.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait)
        await wait_all_tasks_blocked()
        inbox.ring()


def test_its_representation_tells_the_load_of_each_lane(inbox: Inbox[str]) -> None:
    """Who has how much of what bound, and whether it is held."""
    lane = inbox.add_lane("psu", 4)
    inbox.put_nowait(lane, "x")
    lane.held = True
    assert repr(inbox) == "<Inbox [<Lane psu 1/4 held>]>"


async def test_a_wait_ends_at_its_time_and_no_ring_is_lost(
    inbox: Inbox[str], autojump_clock: MockClock
) -> None:
    """Who waits with an end is woken by the bell or by the end, and a ring after it counts."""
    began_s = trio.current_time()

    await inbox.wait_until(began_s + 2.0)
    assert trio.current_time() == began_s + 2.0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_until, began_s + 9.0)
        await wait_all_tasks_blocked()
        inbox.ring()
    assert trio.current_time() == began_s + 2.0

    inbox.ring()
    await inbox.wait_until(began_s + 9.0)
    assert trio.current_time() == began_s + 2.0
