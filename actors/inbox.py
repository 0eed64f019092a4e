"""What waits to be worked on: a bounded, prioritised store and a bell.

Rules:
1. A lane is first in, first out within a priority, and holds at most `bound` messages;
   emergencies have `RESERVED` places more.
2. Lanes take turns, whatever waits in them; only an emergency goes before its turn.
3. A held or engaged lane keeps its messages, save emergencies; a busy one those too.
4. Whoever waits for room gets it in the order of waiting.
5. The store belongs to whoever keeps the actor alive, so that it outlives a crash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import trio

from transports import current_clock

from .command import EMERGENCY, Priority

M = TypeVar("M")

RESERVED: Final = 16
"""Places in a lane that only emergencies may use."""


class InboxFullError(Exception):
    """The lane has no room now."""


class Lane(Generic[M]):
    """One queue of an inbox; made by `Inbox.add_lane`.

    Attributes:
        name: Whose messages these are.
        bound: How many it holds.
        held: Whether its messages stay for now.
        engaged: Whether a message taken out is not done with, and comes before the rest.
        busy: Whether nothing at all leaves it now, not even emergencies.
        queues: What waits, by priority; the inbox's own.
        room: Who waits for room, once somebody had to; the inbox's own.
        promised: Places given to woken waiters that have not put their message yet.
        count: How many messages wait; the inbox's own.
        blocked: The messages that wait for something elsewhere, by identity: those behind
            them in their priority wait as well.
    """

    # Made by the thousand: a dictionary for each would weigh as much as the rest.
    __slots__ = (
        "blocked",
        "bound",
        "busy",
        "count",
        "engaged",
        "held",
        "name",
        "promised",
        "queues",
        "room",
    )

    def __init__(self, name: str, bound: int) -> None:
        """Make an empty lane."""
        self.name = name
        self.bound = bound
        self.held = False
        self.engaged = False
        self.busy = False
        # There while they hold something: thousands of lanes are empty, and stay light.
        self.queues: list[OrderedDict[int, M] | None] = [None] * len(Priority)
        self.room: trio.lowlevel.ParkingLot | None = None
        self.promised = 0
        self.count = 0
        self.blocked: set[int] | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self.count

    def __iter__(self) -> Iterator[M]:
        """Iterate over the waiting messages, first served first."""
        for queue in self.queues:
            if queue is not None:
                yield from queue.values()

    def __repr__(self) -> str:
        """Return the name, the load and whether it is held."""
        return f"<Lane {self.name} {len(self)}/{self.bound}{' held' if self.held else ''}>"

    def has_room(self, priority: Priority) -> bool:
        """Return whether one more message fits."""
        reserve = RESERVED if priority is EMERGENCY else 0
        return self.count + self.promised < self.bound + reserve

    def pop(self) -> M | None:
        """Take out the message that is served first, unless it stays."""
        if self.busy:
            return None
        stays = self.held or self.engaged
        for priority, queue in enumerate(self.queues[:1] if stays else self.queues):
            if queue and not (self.blocked and next(iter(queue)) in self.blocked):
                message = queue.popitem(last=False)[1]
                self.count -= 1
                if not queue:
                    self.queues[priority] = None
                if self.room:
                    self.make_room()
                return message
        return None

    def make_room(self) -> None:
        """Promise a free place to who has waited longest."""
        if self.room and self.count + self.promised < self.bound:
            self.promised += 1
            self.room.unpark(count=1)


class Inbox(Generic[M]):
    """All lanes of one actor.

    Attributes:
        emergencies: How many emergencies wait; the inbox's own.
    """

    __slots__ = ("_asleep", "_bell", "_lanes", "_rung", "_turns", "emergencies")

    def __init__(self) -> None:
        """Make an inbox without lanes."""
        self._lanes: list[Lane[M]] = []
        # Lanes that hold messages, in the order of their turns.
        self._turns: list[Lane[M]] = []
        self.emergencies = 0
        # The actor's task while it waits.
        self._asleep: trio.lowlevel.Task | None = None
        # Where it waits instead, while that has an end.
        self._bell: trio.lowlevel.ParkingLot | None = None
        # Whether somebody rang since the actor last went there.
        self._rung = False

    def __repr__(self) -> str:
        """Return the lanes."""
        return f"<Inbox {self._lanes}>"

    def __len__(self) -> int:
        """Return how many messages wait."""
        return sum(map(len, self._turns))

    def add_lane(self, name: str, bound: int) -> Lane[M]:
        """Make a lane."""
        lane: Lane[M] = Lane(name, bound)
        self._lanes.append(lane)
        return lane

    def remove_lane(self, lane: Lane[M]) -> list[M]:
        """Forget a lane and return what waited in it."""
        self._lanes.remove(lane)
        return self.empty(lane)

    def put_nowait(self, lane: Lane[M], message: M, priority: Priority = Priority.NORMAL) -> None:
        """Add a message: an object that does not wait here already.

        Raises:
            InboxFullError: The lane has no room, or others wait for it.
        """
        if lane.room and priority is not EMERGENCY:
            raise InboxFullError(lane.name)
        if lane.count + lane.promised >= lane.bound and not lane.has_room(priority):
            raise InboxFullError(lane.name)
        self._put(lane, message, priority)

    async def put(
        self,
        lane: Lane[M],
        message: M,
        priority: Priority = Priority.NORMAL,
        *,
        check: Callable[[], object] | None = None,
    ) -> None:
        """Add a message, waiting for room in the order of arrival.

        `check` is called after waiting, in the step that adds the message; when it raises,
        nothing is added.
        """
        try:
            self.put_nowait(lane, message, priority)
        except InboxFullError:
            if lane.room is None:
                lane.room = trio.lowlevel.ParkingLot()
            await lane.room.park()
            lane.promised -= 1
            try:
                if check is not None:
                    check()
            except BaseException:
                lane.make_room()
                raise
            self._put(lane, message, priority)

    def take_nowait(self) -> M | None:
        """Return the next message, or None when no lane has one that may go now."""
        if self.emergencies and (lane := self._next_urgent()) is not None:
            self.emergencies -= 1
            message = lane.pop()
            if not lane.count:
                self._turns.remove(lane)
            return message
        turns = self._turns
        for _ in range(len(turns)):
            lane = turns.pop(0)
            message = lane.pop()
            if lane.count:
                turns.append(lane)
            if message is not None:
                return message
        return None

    def put_back(self, lane: Lane[M], message: M, priority: Priority) -> None:
        """Put a message that was just taken where it was: the next, save emergencies.

        Whoever waited for room may have been promised its place: the lane then holds one more.
        """
        if lane.count:
            self._turns.remove(lane)
        self._turns.insert(0, lane)
        lane.count += 1
        queue = lane.queues[priority]
        if queue is None:
            queue = lane.queues[priority] = OrderedDict()
        queue[id(message)] = message
        queue.move_to_end(id(message), last=False)
        if priority is EMERGENCY:
            self.emergencies += 1

    def block(self, lane: Lane[M], message: M) -> None:
        """Keep a waiting message, and those behind it, until it is unblocked."""
        if lane.blocked is None:
            lane.blocked = set()
        lane.blocked.add(id(message))

    def unblock(self, lane: Lane[M], message: M) -> None:
        """Let a message go when it is its turn."""
        if lane.blocked is not None:
            lane.blocked.discard(id(message))
        self.ring()

    def discard(self, lane: Lane[M], message: M, priority: Priority) -> bool:
        """Take a waiting message out and return whether it was there."""
        queue = lane.queues[priority]
        if queue is None or queue.pop(id(message), None) is None:
            return False
        lane.count -= 1
        if lane.blocked is not None:
            lane.blocked.discard(id(message))
        if priority is EMERGENCY:
            self.emergencies -= 1
        if not lane.count:
            self._turns.remove(lane)
        lane.make_room()
        return True

    def empty(self, lane: Lane[M]) -> list[M]:
        """Take everything out of a lane and return it, first served first."""
        messages = list(lane)
        if messages:
            self.emergencies -= len(lane.queues[EMERGENCY] or ())
            lane.queues = [None] * len(Priority)
            lane.count = 0
            lane.blocked = None
            self._turns.remove(lane)
        for _ in range(lane.bound):
            if not lane.room:
                break
            lane.make_room()
        return messages

    def next_emergency(self) -> M | None:
        """Return the emergency that is served next, without taking it."""
        if not self.emergencies or (lane := self._next_urgent()) is None:
            return None
        return next(iter((lane.queues[EMERGENCY] or {}).values()))

    def ring(self) -> None:
        """Wake the actor, though nothing was put."""
        asleep = self._asleep
        if asleep is not None:
            self._asleep = None
            trio.lowlevel.reschedule(asleep)
        elif self._bell:
            self._bell.unpark()
        else:
            self._rung = True

    async def wait(self) -> None:
        """Wait until something is put or the bell is rung."""
        if self._rung:
            # A ring from before the last look at the store says nothing new.
            self._rung = False
            await trio.lowlevel.checkpoint()
        else:
            self._asleep = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    async def wait_until(self, when_s: float) -> None:
        """Wait until something is put or the bell is rung, but not beyond `when_s`."""
        if self._rung:
            await self.wait()
        else:
            self._bell = trio.lowlevel.ParkingLot()
            await current_clock().park_until(self._bell, when_s)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._asleep = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _next_urgent(self) -> Lane[M] | None:
        return next(
            (each for each in self._turns if each.queues[EMERGENCY] and not each.busy),
            None,
        )

    def _put(self, lane: Lane[M], message: M, priority: Priority) -> None:
        if not lane.count:
            self._turns.append(lane)
        lane.count += 1
        queue = lane.queues[priority]
        if queue is None:
            queue = lane.queues[priority] = OrderedDict()
        queue[id(message)] = message
        if priority is EMERGENCY:
            self.emergencies += 1
        self.ring()
