"""One instrument of a group: how it comes, who closes what it stands on, how it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

import trio
from attrs import asdict, define

from actors import Bus, Cause, CommandError, Event, Events, Identity, Instrument, Service
from transports import SerialSettings, Transport, parse_address

from .drivers import find_driver
from .results import DeviceRemoved

D = TypeVar("D", bound=Instrument)

Source: TypeAlias = str | Transport | Bus | Instrument
"""Where an instrument comes from: an address, an opened transport, a bus, or itself."""


class Host(Protocol):
    """What a group needs of the tree it is a view on."""

    events: Events

    async def add(
        self,
        name: str,
        driver: type[D],
        address: str | Transport,
        *,
        unit_id: str | None = None,
        timeout_s: float | None = None,
    ) -> D:
        """Add an instrument and return it."""
        ...

    async def remove(self, name: str, *, safely: bool = True) -> None:
        """Take an instrument off its bus; the last one closes the bus."""
        ...

    async def find_bus(self, address: str | Transport) -> Bus | None:
        """Return the bus at an address, or None."""
        ...

    def recast(self, instrument: Instrument) -> None:
        """Put an instrument in the place of the one of its name."""
        ...


class Owned(Enum):
    """Who closes what an instrument of a group stands on."""

    BY_GIVER = "by its giver"
    """The instrument was given: it is only looked at."""
    ON_BUS = "on a bus"
    """The bus was given: the instrument is taken off it."""
    IN_TREE = "in the tree"
    """The group added it to its tree, which closes the bus after the last one."""


@define(eq=False)
class Member:
    """An instrument of a group.

    Attributes:
        calls: How many calls of the group are with it.
        idle: Set when the last of them is over, for whoever waits.
    """

    name: str
    instrument: Instrument
    owned: Owned
    calls: int = 0
    idle: trio.Event | None = None


def check(name: str, source: object, driver: object) -> type[Instrument]:
    """Return the driver, once it is sure that name, source and driver are what they should be."""
    if not name:
        raise ValueError("an instrument needs a name")
    if not (isinstance(source, (str, Bus, Instrument)) or hasattr(source, "exchange")):
        raise TypeError(f"{name}: {source!r} is no address, opened transport, bus or instrument")
    if isinstance(driver, str):
        return find_driver(driver)
    if not (isinstance(driver, type) and issubclass(driver, Instrument)):
        raise TypeError(f"{name}: {driver!r} is no driver")
    return driver


async def plug_in(
    name: str,
    host: Host,
    driver: type[Instrument],
    where: str | Transport,
    unit_id: str | None,
    timeout_s: float,
) -> Member:
    """Add an instrument to the tree of a group, as the driver that fits it."""
    made = await host.add(name, driver, where, unit_id=unit_id, timeout_s=timeout_s)
    async with _undone(partial(host.remove, name, safely=False)):
        await _identified(made)
        better = made.specialised()
        if better is not made:
            host.recast(better)
    return Member(name, better, Owned.IN_TREE)


async def attach(
    name: str,
    driver: type[Instrument],
    bus: Bus,
    unit_id: str | None,
    timeout_s: float,
) -> Member:
    """Attach an instrument to a bus that was given, as the driver that fits it."""
    made = driver(name, bus, unit=unit_id)
    made.timeout_s = timeout_s
    bus.attach(made)
    async with _undone(partial(_detach, bus, name)):
        await _identified(made)
        better = made.specialised()
        if better is not made:
            bus.replace(made, better)
    return Member(name, better, Owned.ON_BUS)


async def take_out(member: Member, host: Host | None) -> None:
    """Undo what brought it: nothing for one that was given."""
    bus = member.instrument.bus
    match member.owned:
        case Owned.BY_GIVER:
            pass
        case Owned.ON_BUS:
            await bus.make_safe([member.name], f"{member.name} is removed")
            bus.detach(member.name)
        case Owned.IN_TREE:
            if host is not None:
                await host.remove(member.name)
    events_of(member, host).publish(DeviceRemoved(name=member.name, port=bus.key))


def events_of(member: Member, host: Host | None) -> Events:
    """Return where a group's events go: its tree's stream, or the bus's own."""
    return member.instrument.bus.events if host is None else host.events


@contextmanager
def engaged(members: Sequence[Member]) -> Generator[None]:
    """Keep members from being taken out."""
    for member in members:
        member.calls += 1
    try:
        yield
    finally:
        for member in members:
            member.calls -= 1
            if not member.calls and member.idle is not None:
                member.idle.set()
                member.idle = None


@asynccontextmanager
async def _undone(undo: Callable[[], Any]) -> AsyncGenerator[None]:
    """Undo what came before the block if the block fails."""
    try:
        yield
    except BaseException:
        with trio.CancelScope(shield=True):
            await undo()
        raise


async def _detach(bus: Bus, name: str) -> None:
    await trio.lowlevel.checkpoint()
    bus.detach(name)


async def _identified(instrument: Instrument) -> None:
    """Wait until an instrument is in service.

    Raises:
        CommandError: It cannot be reached, or is not what it should be.
    """
    changed = trio.Event()

    def note(event: Event) -> None:
        del event
        changed.set()

    with instrument.bus.events.observed(note):
        while True:
            changed = trio.Event()
            service, _, reason = status(instrument)
            if service is Service.IN_SERVICE:
                return
            bus = instrument.bus.status()
            if service is Service.QUARANTINED or bus.retry_after_s is not None:
                raise CommandError(
                    bus.reason if bus.retry_after_s is not None else reason,
                    cause=Cause.TRANSPORT,
                    instrument=instrument.name,
                    command="identify",
                )
            await changed.wait()


def status(instrument: Instrument) -> tuple[Service, Identity | None, str]:
    """Return whether it is in service, who it is, and why it is not."""
    for each in instrument.bus.status().instruments:
        if each.name == instrument.name:
            return each.service, each.identity, each.reason
    return Service.QUARANTINED, None, "it was removed meanwhile"


def effective_settings(
    driver: type[Instrument], source: Source, serial: SerialSettings | None
) -> SerialSettings | None:
    """Return how a serial port that is opened here is set up; None for anything else."""
    if serial is not None or not isinstance(source, str):
        return serial
    options = parse_address(source).options
    if options is not None and "?" not in source and driver.serial_settings is not None:
        return driver.serial_settings
    return options


def with_settings(path: str, settings: SerialSettings) -> str:
    """Return the address of a serial port that is set up like that."""
    given = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in asdict(settings).items()
        if value is not None
    }
    query = "&".join(f"{name}={value}" for name, value in given.items())
    return f"serial://{quote(path)}?{query}"
