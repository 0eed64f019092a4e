"""The ports of a tree that other trees ask for: handed over in order, and taken back in turn.

A port goes to another tree in this order: whoever has a lease on an instrument there is told
and given its grace; commands that were accepted go on for the drain time; everything on the
bus is driven safe; the line is closed; the owner file's lock is passed on. Then this tree
waits for the port like any other.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from actors import Bus, BusLent, BusReturned, Events, Lease, Leases, Started, current_clock
from transports import Applicant, Desk, Owner

from .buses import Buses

MakeSafe = Callable[[Bus, Sequence[str], str], Awaitable[None]]
"""Drives instruments of a bus safe for a reason, in bounded time, until the bus is back."""


class Ports:
    """Hands ports to other trees for one tree."""

    def __init__(
        self,
        buses: Buses,
        leases: Leases,
        events: Events,
        make_safe: MakeSafe,
        *,
        priority: int,
        drain_s: float,
    ) -> None:
        """Hand over to whoever has a higher `priority`, after at most `drain_s` of draining."""
        self._buses = buses
        self._leases = leases
        self._events = events
        self._make_safe = make_safe
        self._priority = priority
        self._drain_s = drain_s
        self._served: dict[Bus, trio.CancelScope] = {}
        # For whose port others are listened to.
        self._desks: dict[Bus, Owner] = {}

    def __repr__(self) -> str:
        """Return how many ports there are."""
        return f"<Ports {len(self._served)}>"

    async def run(self, started: Started) -> None:
        """Serve those who ask for a port of the tree, until cancelled."""
        self._served.clear()
        self._desks.clear()
        async with trio.open_nursery() as nursery:
            started()
            while True:
                self._buses.renew()
                owned = self._buses.owned()
                for bus in owned:
                    if bus not in self._served:
                        self._served[bus] = trio.CancelScope()
                        nursery.start_soon(self._serve, bus, self._served[bus])
                for bus in tuple(self._served):
                    if bus not in owned or self._moved(bus):
                        self._served.pop(bus).cancel()
                        self._desks.pop(bus, None)
                        if bus in owned:
                            self._buses.changed.set()
                await self._buses.changed.wait()

    def _moved(self, bus: Bus) -> bool:
        """Return whether a bus uses another port now: its adapter was plugged in elsewhere."""
        owner = self._buses.owner(bus)
        return owner is not None and self._desks.get(bus, owner) is not owner

    async def _serve(self, bus: Bus, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                owner = self._buses.owner(bus)
                if owner is None:
                    await self._get_back(bus, None)
                    continue
                self._desks[bus] = owner
                async with trio.open_nursery() as nursery:
                    desk = await nursery.start(Desk(owner).run)
                    await self._lend(bus, owner, desk)
                    desk.close()

    async def _lend(self, bus: Bus, owner: Owner, desk: Desk) -> None:
        """Lend a port once, and return when it is back or whoever asked is gone."""
        applicant = await self._next(desk)
        names = tuple(bus.units().values())
        await applicant.tell(self._plan(names))
        async with trio.open_nursery() as nursery:
            beside = trio.CancelScope()
            nursery.start_soon(_give_up_if_gone, applicant, beside, nursery.cancel_scope)
            async with self._leases.hold(
                names,
                owner=applicant.describe(),
                ttl_s=math.inf,
                priority=applicant.priority,
                # Here nobody can end it: the port is elsewhere.
                grace_s=math.inf,
                reads="exclusive",
                heartbeat=False,
            ) as lease:
                beside.cancel()
                await self._hand_over(bus, owner, applicant, names)
                # Who waits now does so with the next owner.
                desk.close()
                await self._get_back(bus, lease)

    async def _next(self, desk: Desk) -> Applicant:
        """Return who is to have the port next, as soon as there is somebody."""
        told: dict[Applicant, int] = {}
        while True:
            desk.renew()
            for each in desk.applicants():
                if each.priority > self._priority:
                    return each
                if told.get(each) != each.priority:
                    told[each] = each.priority
                    await each.tell(
                        f"its priority is {self._priority}, and {each.priority} does not go "
                        "before that: it is free when that tree ends"
                    )
            await desk.changed.wait()

    def _plan(self, names: Sequence[str]) -> str:
        """Return what a hand-over waits for."""
        now_s = current_clock().boot_s()
        holders = (self._leases.book.holder(name) for name in names)
        found = dict.fromkeys(each.describe(now_s) for each in holders if each is not None)
        return f"it is handed over; now {'; '.join(found)}" if found else "it is handed over"

    async def _hand_over(
        self, bus: Bus, owner: Owner, applicant: Applicant, names: Sequence[str]
    ) -> None:
        """Drain a bus, drive it safe, close it and give its port away."""
        to = applicant.describe()
        with trio.move_on_after(self._drain_s):
            await bus.wait_drained()
        await self._make_safe(bus, names, f"its port is handed to {to}")
        # From here on it is somebody's, here or there.
        with trio.CancelScope(shield=True):
            await bus.lend(to)
            del self._desks[bus]
            self._buses.set_owner(bus, None)
            if await applicant.give(owner):
                self._events.publish(BusLent(bus=bus.name, to=to))

    async def _get_back(self, bus: Bus, lease: Lease | None) -> None:
        """Wait for a port that was given away, and use it again."""

        def priority() -> int:
            """Return how important it is: somebody here may wait for it as well."""
            waiting = self._leases.book.waiting
            here = [each.priority for each in waiting if not each.instruments.isdisjoint(names)]
            return max([self._priority, *here])

        names = set(bus.units().values())
        changed = None if lease is None else _changes(lease)
        self._buses.set_owner(
            bus, await self._buses.await_port(self._buses.key(bus), priority, changed)
        )
        bus.take_back()
        self._events.publish(BusReturned(bus=bus.name))


def _changes(lease: Lease) -> Callable[[], trio.Event]:
    """Return what tells when somebody more important waits: once, as preemption is."""
    never = trio.Event()

    def changed() -> trio.Event:
        return never if lease.preempted.is_set() else lease.preempted

    return changed


async def _give_up_if_gone(
    applicant: Applicant, beside: trio.CancelScope, waiting: trio.CancelScope
) -> None:
    """Stop waiting for the leases of a bus once nobody wants it any more."""
    with beside:
        await applicant.gone.wait()
        waiting.cancel()
