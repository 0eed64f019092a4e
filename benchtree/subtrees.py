"""What hangs below the root of a tree: who is supervised by whom, and with whom.

Rules:
1. Each group that is in no other is a subtree; each bus and each piece of your own code
   that is in no group is one by itself.
2. A subtree that exceeds its intensity is driven safe, stopped and left down. The root
   restarts nothing and goes on.
3. A group inside another restarts in place: no loss of control.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio
from attrs import evolve, frozen

from actors import (
    ChildSpec,
    ChildStatus,
    Events,
    Intensity,
    Restart,
    Started,
    SupervisionError,
    Supervisor,
    no_farewell,
)

from .spec import ChildName, Kind, SupervisorSpec

_ROOT_BEARS: Final = Intensity(max_restarts=0)

Farewell = Callable[[str, Collection[str]], Awaitable[None]]
"""Told the name of a subtree that gives up, and its buses; returns once they are safe."""


@frozen
class _Place:
    """Where a bus or a piece of your own code hangs.

    Attributes:
        subtree: The subtree it belongs to.
        above: The supervisor directly above it.
        stop_s: How long it may take to stop, in seconds.
    """

    subtree: ChildName
    above: Supervisor
    stop_s: float


class Subtrees:
    """The supervisors of one tree.

    Attributes:
        root: The supervisor of everything.
    """

    def __init__(self, events: Events, farewell: Farewell) -> None:
        """Start without subtrees."""
        self.root = Supervisor("root", events=events, intensity=_ROOT_BEARS)
        self._events = events
        self._farewell = farewell
        self._places: dict[ChildName, _Place] = {}
        self._groups: dict[str, SupervisorSpec] = {}
        # The buses and the code that are in groups, until they are removed.
        self._grouped: dict[ChildName, ChildSpec] = {}

    def __contains__(self, name: ChildName) -> bool:
        """Return whether a bus or a piece of code of that name was started."""
        return name in self._places

    async def start_alone(self, name: ChildName, child: ChildSpec) -> None:
        """Start a child that belongs to no group, under a supervisor that ends with it.

        Raises:
            SupervisionError: The name is taken, or the child failed to start.
        """
        if name in self._places or name in self._grouped:
            raise SupervisionError(f"{_written(name)} exists already")
        over = trio.CancelScope()

        def settle(reason: str, *, for_good: bool) -> None:
            child.settle(reason, for_good=for_good)
            if for_good:
                over.cancel()

        alone = evolve(child, name=_written(name), settle=settle)
        supervisor = Supervisor(
            _written(name), [alone], events=self._events, farewell=partial(self._give_up, name)
        )

        async def run(started: Started) -> None:
            try:
                with over:
                    await supervisor.run(started)
            finally:
                # Code that has ended is gone; a bus stays, though it may be down.
                if name[0] is not Kind.BUS:
                    self._places.pop(name, None)

        self._places[name] = _Place(name, supervisor, child.stop_s)
        try:
            await self._start_below_root(name, run)
        except SupervisionError:
            self._places.pop(name, None)
            raise

    async def start_groups(
        self, groups: Sequence[SupervisorSpec], children: Mapping[ChildName, ChildSpec]
    ) -> None:
        """Start groups and the buses and the code in them, in order.

        Raises:
            SupervisionError: A child failed to start.
            ValueError: A group names what does not exist or has its place elsewhere.
        """
        self._groups = {group.name: group for group in groups}
        grouped = [child for group in groups for child in group.children]
        tops = [each for each in groups if (Kind.SUPERVISOR, each.name) not in grouped]
        self._check_groups(groups, tops, grouped, children)
        self._grouped = {name: child for name, child in children.items() if name in grouped}
        for group in tops:
            name = (Kind.SUPERVISOR, group.name)
            supervisor = self._make_group(group, name, partial(self._give_up, name))
            await self._start_below_root(name, supervisor.run)

    async def end_bus(self, bus: str) -> None:
        """Stop a bus and what looks after it, as far as they run, and forget them."""
        for name in ((Kind.RECONCILE, bus), (Kind.BUS, bus)):
            place = self._places.get(name)
            if place is None:
                continue
            with suppress(SupervisionError):  # its subtree gave up, and is gone
                if place.subtree == name:
                    await self.root.stop_child(_written(name))
                else:
                    await place.above.remove_child(_written(name))
            self._places.pop(name, None)
            self._grouped.pop(name, None)

    async def stop_actors(self) -> None:
        """Stop your own code, what was started last first; what overruns is left behind."""
        for name, place in reversed(list(self._places.items())):
            if name[0] is not Kind.ACTOR:
                continue
            status = {child.name: child.status for child in place.above.children}
            if status.get(_written(name)) in (ChildStatus.STARTING, ChildStatus.UP):
                with suppress(SupervisionError), trio.move_on_after(place.stop_s):
                    await place.above.stop_child(_written(name))

    def _check_groups(
        self,
        groups: Sequence[SupervisorSpec],
        tops: Sequence[SupervisorSpec],
        grouped: Sequence[ChildName],
        children: Mapping[ChildName, ChildSpec],
    ) -> None:
        if len(self._groups) < len(groups):
            raise ValueError("two supervisors have one name")
        for child in grouped:
            kind, name = child
            if grouped.count(child) > 1:
                raise ValueError(f"{_written(child)} has more than one place")
            if child not in children and not (kind is Kind.SUPERVISOR and name in self._groups):
                raise ValueError(f"there is no {_written(child)}")
        reached = [each.name for each in tops]
        for each in reached:  # grows while it is walked
            children_of = self._groups[each].children
            reached += [name for kind, name in children_of if kind is Kind.SUPERVISOR]
        if len(reached) < len(self._groups):
            raise ValueError("a supervisor cannot be, somewhere below, its own child")

    def _make_group(
        self,
        spec: SupervisorSpec,
        subtree: ChildName,
        farewell: Callable[[], Awaitable[None]] = no_farewell,
    ) -> Supervisor:
        """Make a supervisor of what is in a group and was not removed since."""
        names = [
            name for name in spec.children if name[0] is Kind.SUPERVISOR or name in self._grouped
        ]
        supervisor = Supervisor(
            _written((Kind.SUPERVISOR, spec.name)),
            [self._child(name, subtree) for name in names],
            events=self._events,
            strategy=spec.strategy,
            intensity=spec.intensity,
            farewell=farewell,
        )
        for name in names:
            if name[0] is not Kind.SUPERVISOR:
                self._places[name] = _Place(subtree, supervisor, self._grouped[name].stop_s)
        return supervisor

    def _child(self, name: ChildName, subtree: ChildName) -> ChildSpec:
        if name[0] is not Kind.SUPERVISOR:
            return evolve(self._grouped[name], name=_written(name))

        async def run(started: Started) -> None:
            # Made anew for each incarnation: buses may have been removed meanwhile.
            await self._make_group(self._groups[name[1]], subtree).run(started)

        # What stops below it has budgets of its own.
        return ChildSpec(_written(name), run, stop_s=math.inf)

    async def _start_below_root(
        self, name: ChildName, run: Callable[[Started], Awaitable[None]]
    ) -> None:
        # Temporary: a subtree that gives up is left down and safe.
        child = ChildSpec(_written(name), run, restart=Restart.TEMPORARY, stop_s=math.inf)
        await self.root.start_child(child)

    async def _give_up(self, subtree: ChildName) -> None:
        buses = [
            name
            for (kind, name), place in self._places.items()
            if kind is Kind.BUS and place.subtree == subtree
        ]
        await self._farewell(_written(subtree), buses)


def _written(name: ChildName) -> str:
    """Return a child's name as a configuration file writes it."""
    return f"{name[0].value}.{name[1]}"
