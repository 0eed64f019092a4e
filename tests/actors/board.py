"""A simulated GPIB board: several SCPI instruments on one bus, each read by its address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar

import trio
from attrs import evolve, field, frozen

from actors import (
    Bus,
    ChildSpec,
    Event,
    Events,
    Instrument,
    Intensity,
    MemberPolicy,
    Service,
    Supervisor,
)
from transports import GPIB, BusProfile, DeviceModel, MultiplexedSim, SimLine

from .bench import STEADY

I = TypeVar("I", bound=Instrument)  # noqa: E741 - an instrument
M = TypeVar("M", bound=DeviceModel)

ONCE = evolve(GPIB, attempts=1)
"""The numbers of a GPIB board, with one attempt for each command."""


@frozen
class GpibBoard:
    """A board with simulated instruments on it.

    Attributes:
        bus: The bus.
        lines: What is at each address, to arm faults on.
        instruments: The drivers, by name.
        seen: Every event so far.
    """

    bus: Bus
    lines: Mapping[str, SimLine]
    transport: MultiplexedSim
    events: Events
    instruments: dict[str, Instrument] = field(factory=dict[str, Instrument])
    seen: list[Event] = field(factory=list[Event])

    def get(self, name: str, driver: type[I]) -> I:
        """Return an instrument."""
        instrument = self.instruments[name]
        assert isinstance(instrument, driver)
        return instrument

    def model(self, name: str, kind: type[M]) -> M:
        """Return the device model of an instrument."""
        model = self.lines[self.instruments[name].unit or ""].model
        assert isinstance(model, kind)
        return model

    def sent(self, name: str) -> list[tuple[float, str]]:
        """Return what an instrument was sent, with the instants."""
        line = self.lines[self.instruments[name].unit or ""]
        return [(at_s, data.decode().rstrip()) for at_s, data in line.requests]

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind."""
        return [each for each in self.seen if isinstance(each, kind)]

    async def in_service(self) -> None:
        """Wait until all instruments are in service."""
        while any(each.service is not Service.IN_SERVICE for each in self.bus.status().instruments):
            changed = trio.Event()

            def note(event: Event, changed: trio.Event = changed) -> None:
                del event
                changed.set()

            with self.events.observed(note):
                await changed.wait()


@asynccontextmanager
async def gpib_board(
    drivers: Mapping[str, type[Instrument]],
    models: Mapping[str, DeviceModel] | None = None,
    *,
    profile: BusProfile = ONCE,
    latency_s: float = 0.002,
) -> AsyncGenerator[GpibBoard]:
    """Run a board with these instruments, all of them in service."""
    units = {name: str(address) for address, name in enumerate(drivers, start=1)}
    made = models or {}
    lines = {
        units[name]: SimLine(made.get(name) or driver.simulate([None]), latency_s=latency_s)
        for name, driver in drivers.items()
    }
    transport = MultiplexedSim("GPIB0", lines, max_in_flight=1)
    events = Events()
    bus = Bus("gpib", transport, profile, events=events, sequence=count(1), breaker=STEADY)
    board = GpibBoard(bus, lines, transport, events)
    for name, driver in drivers.items():
        board.instruments[name] = driver(name, bus, unit=units[name])
        bus.attach(board.instruments[name], MemberPolicy(breaker=STEADY))
    child = ChildSpec(
        "gpib", bus.run, settle=bus.settle, restart_delay_s=bus.restart_delay_s, stop_s=2.0
    )
    top = Supervisor("top", [child], events=events, intensity=Intensity(5, 60.0))
    with events.observed(board.seen.append):
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(top.run, up.set)
            await up.wait()
            await board.in_service()
            for line in lines.values():
                line.requests.clear()
            yield board
            nursery.cancel_scope.cancel()
