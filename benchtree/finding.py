"""Looking for instruments: every port of the machine at once, each under a hard deadline."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio
from attrs import define, evolve, field, frozen

from actors import DeviceError, Instrument, current_clock
from transports import (
    BY_ID,
    Address,
    AddressError,
    ConnectError,
    LineState,
    Owner,
    PortOwnedError,
    SerialPort,
    SerialSettings,
    TransportError,
    canonical_key,
    claim,
    list_serial_ports,
    list_visa_resources,
    owner_of,
    parse_address,
    port_users,
    resolve_key,
)

from .asking import REPLY_S, Answer, Recognised, ask, recognise, stand_in
from .drivers import best_driver, find_driver, name_of, recognising
from .lines import LinePlan, make_line, plan_line
from .spec import BusSpec, TreeSpec

WITHIN_S: Final = 1.5
"""How long looking may take at most, in seconds."""

TREE: Final = "benchtree ports"
"""What others are told who find a port owned while it is looked at."""

ANSWERS: Final = "answers"
"""The state of a place where everybody who was asked has answered."""

Asked = tuple[type[Instrument], str | None]
"""Whom to ask: the driver, and the unit on a shared line."""

# A library or a driver that hangs keeps its thread, and nobody else's.
_THREADS: Final = trio.CapacityLimiter(256)


class Kind(Enum):
    """What is behind an address."""

    SERIAL = "serial"
    VISA = "visa"
    TCP = "tcp"


@frozen(kw_only=True)
class FoundInstrument:
    """An instrument that answered.

    Attributes:
        driver: The driver that fits it best.
        unit: Its unit on a shared line, or None.
        settings: How its serial port is set up; None where there is none.
        answer: Who it is.
    """

    driver: str
    unit: str | None
    settings: SerialSettings | None
    answer: Answer


@define(kw_only=True)
class Place:
    """Where an instrument can be.

    Attributes:
        kind: What is behind it.
        address: What to write into a file, without line settings.
        port: The serial port, where it is one.
        bus: The bus of the file that is there, or None.
        owner_pid: The process that has it, which is why it was not touched; or None.
        state: What became of looking, in words.
        instruments: Who answered.
    """

    kind: Kind
    address: str
    port: SerialPort | None = None
    bus: str | None = None
    owner_pid: int | None = None
    state: str = ""
    instruments: list[FoundInstrument] = field(factory=list[FoundInstrument])


async def find_places(
    tree: TreeSpec | None = None,
    *,
    identify: bool = False,
    folders: Sequence[Path] = (),
    backend: str = "",
    within_s: float = WITHIN_S,
) -> tuple[Sequence[Place], str]:
    """Return the places of this machine and of a tree, and why VISA's are missing, or "".

    Takes little more than `within_s`, whatever hangs.

    Args:
        tree: Whose buses are looked at too.
        identify: Whether to ask who is there.
        folders: Folders with links to serial ports, beside the usual one.
        backend: The VISA library, such as "@py"; "" for the one that PyVISA finds.
        within_s: When to stop, in seconds.
    """
    deadline_s = trio.current_time() + within_s
    drivers: Mapping[str, type[Instrument]] = recognising() if identify else {}
    places: list[Place] = []
    missing: list[str] = []
    names: dict[tuple[str, str | None], Place] = {}
    # Instruments of one board are asked one after the other, by whatever name they go.
    turns: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
    async with trio.open_nursery() as nursery:

        def visit(place: Place, look: Callable[[Place], Awaitable[None]]) -> None:
            places.append(place)
            if place.state:
                return
            address = parse_address(place.address)
            key = canonical_key(address)
            first = names.setdefault((key, address.unit), place)
            if first is not place:
                # Links of several folders may lead to one port; it is asked once.
                place.state = f"another name of {first.address}"
                return
            nursery.start_soon(_look, place, look, deadline_s, turns[key])

        buses = _plans(tree)

        async def find_visa() -> None:
            resources, reason = await _visa_resources(backend, deadline_s)
            missing.append(reason)
            for found in _visa_places(resources, backend, tree, buses):
                visit(found, partial(_visa, identify))

        nursery.start_soon(find_visa)
        with trio.CancelScope(deadline=deadline_s):
            ports = await current_clock().run_sync(
                list_serial_ports, (BY_ID, *folders), limiter=_THREADS, abandon_on_cancel=True
            )
            for port in ports:
                address = f"serial://{quote(port.name)}"
                here = next(iter(_buses_at(address, buses)), None)
                place = Place(
                    kind=Kind.SERIAL,
                    address=address,
                    port=port,
                    bus=None if here is None else here[0].name,
                )
                visit(place, partial(_serial, drivers, here))
        listed = {place.bus for place in places if place.kind is Kind.SERIAL}
        for bus, plan in buses:
            if bus.name in listed:
                continue
            if plan.address.scheme == Kind.SERIAL.value:
                visit(_unlisted(bus, plan), partial(_serial, drivers, (bus, plan)))
            elif plan.address.scheme in (Kind.TCP.value, Kind.VISA.value):
                place = Place(kind=Kind(plan.address.scheme), address=bus.address, bus=bus.name)
                visit(place, partial(_remote, identify, plan, _asked_on(tree, bus)))
    return places, missing[0]


def _visa_places(
    resources: Sequence[str],
    backend: str,
    tree: TreeSpec | None,
    buses: Sequence[tuple[BusSpec, LinePlan]],
) -> Iterator[Place]:
    """Yield where VISA finds somebody whom the file does not have asked anyway."""
    query = f"?backend={quote(backend)}" if backend else ""
    for each in resources:
        address = f"visa://{quote(each, safe=':')}{query}"
        try:
            unit = parse_address(address).unit
        except AddressError:
            state = "no address of a bus: nothing talks to it by messages here"
            yield Place(kind=Kind.VISA, address=address, state=state)  # a card in a chassis
            continue
        here = _buses_at(address, buses)
        asked = [known for bus, _ in here for _, known in _asked_on(tree, bus)]
        if not here or not (unit is None or unit in asked):
            bus = here[0][0].name if here else None
            yield Place(kind=Kind.VISA, address=address, bus=bus)


def _unlisted(bus: BusSpec, plan: LinePlan) -> Place:
    """Return where a serial port of the file is that the machine does not list."""
    path = plan.address.path
    return Place(
        kind=Kind.SERIAL,
        address=f"serial://{quote(path)}",
        port=SerialPort(name=path, node=canonical_key(plan.address).partition("://")[2]),
        bus=bus.name,
    )


async def _look(
    place: Place,
    look: Callable[[Place], Awaitable[None]],
    deadline_s: float,
    turn: trio.Lock,
) -> None:
    """Look at one place in its turn until the deadline, and keep what was found until then."""
    with trio.CancelScope(deadline=deadline_s) as scope:
        try:
            async with turn:
                await look(place)
        except PortOwnedError as error:
            place.owner_pid = error.pid
            place.state = error.reason
        except ConnectError as error:
            place.state = error.reason
        except (TransportError, DeviceError, ValueError) as error:
            place.state = f"no usable answer: {error}"
    if scope.cancelled_caught and not place.state:
        place.state = "no answer in time"


async def _serial(
    drivers: Mapping[str, type[Instrument]], here: tuple[BusSpec, LinePlan] | None, place: Place
) -> None:
    assert place.port is not None  # noqa: S101 - made with one
    node = place.port.node
    if node.startswith("/") and not await trio.Path(node).exists():
        linked = await trio.Path(place.port.name).is_symlink()
        place.state = "unplugged: " + ("its link points nowhere" if linked else "it is not there")
        return
    address = parse_address(place.address) if here is None else here[1].address
    if await _taken(place, address):
        return
    if not drivers:
        place.state = "free" if _may_open(node) else "no permission to open it"
        return
    found: list[Recognised] = []
    first: list[tuple[str, SerialSettings]] = []
    if here is not None:
        settings = here[1].address.options or SerialSettings()
        first = [(name, settings) for name in drivers]
        # Those that tell replies apart as the file's drivers do are asked first.
        first = [each for each in first if drivers[each[0]].framing == here[1].framing]
    owner = await _claim(address)
    try:
        await recognise(address, drivers, found, first=first)
    finally:
        place.instruments = [_named(each) for each in found]
        place.state = ANSWERS if found else "nobody answers"
        owner.release()


async def _remote(identify: bool, plan: LinePlan, asked: Sequence[Asked], place: Place) -> None:
    if not await _taken(place, plan.address):
        await _ask_all(identify, plan, asked, place)


async def _visa(identify: bool, place: Place) -> None:
    plan = plan_line(BusSpec(name="found", address=place.address), [find_driver("scpi")])
    if await _taken(place, plan.address):
        return
    if identify:
        await _ask_all(identify, plan, [(find_driver("scpi"), None)], place, known=False)
    else:
        place.state = "there"


async def _ask_all(
    identify: bool, plan: LinePlan, asked: Sequence[Asked], place: Place, *, known: bool = True
) -> None:
    """Open a line, and ask everybody on it who is there if wanted.

    Where the driver is not `known`, the one that fits the answer best is named.
    """
    profile = evolve(plan.profile, close_within_s=0.1)
    transport = make_line(evolve(plan, profile=profile))
    owner = await _claim(plan.address)
    absent: list[str] = []
    # Several have to share the time that there is.
    at_most_s = REPLY_S * (5.0 if len(asked) == 1 else 2.0)
    try:
        await transport.open()
        place.state = "open"
        for driver, unit in asked if identify else ():
            instrument = stand_in(driver, transport, profile, unit)
            try:
                if transport.state is LineState.CLOSED:
                    await transport.open()
                answer = await ask(instrument, instrument.recognise(), at_most_s=at_most_s)
            except (TransportError, DeviceError, ValueError) as error:
                if len(asked) == 1:
                    raise
                absent.append(f"unit {unit}: {error}")
            else:
                name = name_of(driver)
                if not known:
                    name = best_driver(name, answer.identity.model)
                place.instruments.append(
                    FoundInstrument(driver=name, unit=unit, settings=None, answer=answer)
                )
            place.state = "; ".join(absent) or ANSWERS
    finally:
        await transport.aclose()
        owner.release()


async def _claim(address: Address) -> Owner:
    """Own a bus for as long as it is asked who is there."""
    key = await resolve_key(address)
    return await current_clock().run_sync(lambda: claim(key, tree=TREE))


async def _taken(place: Place, address: Address) -> bool:
    """Note who has a place, if it is another process or tree: it is left alone."""
    key = await resolve_key(address)
    note = await current_clock().run_sync(owner_of, key)
    if note is not None:
        place.owner_pid = note.pid
        place.state = f"in use by tree {note.tree!r} (process {note.pid})"
        return True
    if place.port is not None:
        users = await current_clock().run_sync(port_users, place.port.node)
        if users:
            place.owner_pid = users[0].pid
            place.state = f"in use by {users[0]}"
            return True
    return False


async def _visa_resources(backend: str, deadline_s: float) -> tuple[Sequence[str], str]:
    """Return what VISA finds, or why it finds nothing."""
    with trio.CancelScope(deadline=deadline_s):
        try:
            found = await current_clock().run_sync(
                list_visa_resources, backend, limiter=_THREADS, abandon_on_cancel=True
            )
        except TransportError as error:
            return (), error.reason
        return found, ""
    # pyvisa-py listens for a second to whoever answers in the network.
    return (), "the VISA library did not answer in time; give it longer, as with --within 4"


def _plans(tree: TreeSpec | None) -> Sequence[tuple[BusSpec, LinePlan]]:
    if tree is None:
        return ()
    return [
        (bus, plan_line(bus, [each.driver for each in tree.instruments if each.bus == bus.name]))
        for bus in tree.buses
    ]


def _buses_at(
    address: str, buses: Sequence[tuple[BusSpec, LinePlan]]
) -> Sequence[tuple[BusSpec, LinePlan]]:
    """Return the buses of the file that are on a port, by whatever name they go there."""
    key = canonical_key(parse_address(address))
    return [each for each in buses if canonical_key(each[1].address) == key]


def _asked_on(tree: TreeSpec | None, bus: BusSpec) -> Sequence[Asked]:
    """Return whom to ask on a bus of the file: everybody on it."""
    instruments = () if tree is None else tree.instruments
    return [
        (each.driver, each.unit_id or each.driver.default_unit)
        for each in instruments
        if each.bus == bus.name
    ]


def _named(found: Recognised) -> FoundInstrument:
    return FoundInstrument(
        driver=best_driver(found.driver, found.answer.identity.model),
        unit=found.unit,
        settings=found.settings,
        answer=found.answer,
    )


def _may_open(node: str) -> bool:
    return not node.startswith("/") or os.access(node, os.R_OK | os.W_OK)
