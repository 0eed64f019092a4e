"""Trees of power supplies to take apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from actors import Event, Instrument, RefusedError
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import Tree, TreeSpec
from benchtree.spec import BusSpec, InstrumentSpec
from transports import BusProfile

E = TypeVar("E", bound=Event)


class Witness:
    """Sees the events of a tree.

    Attributes:
        events: All of them, in order.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """See an event."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def index(self, kind: type[E], which: Callable[[E], bool]) -> int:
        """Return the place of the first event of a kind that `which` accepts."""
        return next(
            place
            for place, event in enumerate(self.events)
            if isinstance(event, kind) and which(event)
        )


def bench_of(
    *names: str,
    driver: type[Instrument] = PowerSupply,
    profile: BusProfile | None = None,
    **more: Any,
) -> TreeSpec:
    """Return a tree with one bus and one instrument of each name; `more` are its other fields."""
    return TreeSpec(
        buses=[
            BusSpec(name=name, address=f"tcp://192.0.2.{number}:5025", profile=profile)
            for number, name in enumerate(names, 1)
        ],
        instruments=[InstrumentSpec(name=name, bus=name, driver=driver) for name in names],
        **more,
    )


def supply(tree: Tree, name: str) -> PowerSupplyModel:
    """Return the simulated device that an instrument talks to."""
    model = tree.lines[tree[name].bus.name].model
    assert isinstance(model, PowerSupplyModel)
    return model


async def switch_on(tree: Tree, *names: str) -> Sequence[PowerSupplyModel]:
    """Switch outputs on and return the devices."""
    for name in names:
        await tree.get(name, PowerSupply).output.set(True, confirm=True)
    return [supply(tree, name) for name in names]


async def refusal(instrument: PowerSupply) -> RefusedError | None:
    """Return how a write is refused now, or None."""
    try:
        await instrument.voltage.set(1.0)
    except RefusedError as refused:
        return refused
    return None
