"""`benchtree ports`: what is plugged in, and who answers."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import trio
from attrs import asdict
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from transports import SerialSettings, canonical_key, parse_address

from .config import load_config
from .document import quoted
from .drivers import find_driver
from .finding import ANSWERS, WITHIN_S, FoundInstrument, Kind, Place, find_places

OK: Final = 0
USAGE: Final = 2
_WHOLE: Final = 200
# What a link by id begins and ends with, whatever the adapter.
_ADAPTER: Final = re.compile(r"^usb-|-if\d+(-port\d+)?$")


def ports(
    file: Path | None = None,
    *,
    identify: bool = False,
    toml: bool = False,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    links: Annotated[list[Path] | None, Parameter(name="--links")] = None,
    backend: str = "",
    within: float = WITHIN_S,
) -> int:
    """List serial ports and VISA resources, and with a file what is on its buses.

    Nothing is set anywhere. A port that another process has is left alone.

    Args:
        file: A bench's configuration: its buses are looked at too.
        identify: Ask who is there, as each driver would.
        toml: Write the tables of a configuration for those who answer.
        json_: Write JSON.
        links: A folder with links to serial ports, beside /dev/serial/by-id.
        backend: The VISA library, such as @py; by default the one that PyVISA finds.
        within: How long looking may take, in seconds.
    """
    if not 0.0 < within <= 60.0:
        sys.stderr.write(f"benchtree: --within is {within:g}; it must be above 0, to 60 seconds\n")
        return USAGE
    for each in links or ():
        if not each.is_dir():
            sys.stderr.write(f"benchtree: --links {each}: there is no such folder\n")
            return USAGE
    tree = None if file is None else load_config(file).tree
    places, missing = trio.run(
        partial(
            find_places,
            tree,
            identify=identify or toml,
            folders=[each.absolute() for each in links or ()],
            backend=backend,
            within_s=within,
        )
    )
    if json_:
        sys.stdout.write(json.dumps([_as_json(each) for each in places], indent=2) + "\n")
    elif toml:
        sys.stdout.write("".join(f"{line}\n" for line in as_toml(places)))
    else:
        _print(places)
    if missing and not json_:
        sys.stderr.write(f"benchtree: no VISA resources: {missing}\n")
    return OK


def as_toml(places: Sequence[Place]) -> Iterator[str]:
    """Yield the lines of a configuration with whoever answered; the others are comments."""
    buses: set[str] = set()
    instruments: set[str] = set()
    lines: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        if place.instruments:
            # Instruments of one board are on one bus.
            lines[canonical_key(parse_address(place.address))].append(place)
        else:
            yield f"# {place.address}: {_one_line(place.state)}"
    for line in lines.values():
        named = next((each.bus for each in line if each.bus is not None), None)
        bus = _free(named or _bus_name(line[0]), buses)
        yield ""
        yield f"[bus.{bus}]"
        yield f"address = {quoted(_full_address(line[0]))}"
        for place in line:
            on_board = parse_address(place.address).unit
            for each in place.instruments:
                yield from _table(each, bus, each.unit or on_board, instruments)


def _table(found: FoundInstrument, bus: str, unit: str | None, taken: set[str]) -> Iterator[str]:
    identity = found.answer.identity
    yield ""
    name = _free(_plain(identity.model or found.driver), taken)
    yield f"[instrument.{name}]  # {_one_line(str(identity))}"
    yield f"bus = {quoted(bus)}"
    yield f"driver = {quoted(found.driver)}"
    if unit is not None:
        yield f"unit_id = {quoted(unit)}"
    if identity.serial:
        yield f"identity = {{ serial = {quoted(identity.serial)} }}"


def _full_address(place: Place) -> str:
    """Return an address that opens the port as it was when somebody answered."""
    first = place.instruments[0]
    resource = parse_address(place.address).resource
    if resource is not None and resource.addressed:
        _, mark, query = place.address.partition("?")
        return f"visa://{resource.board}{mark}{query}"
    if place.kind is not Kind.SERIAL:
        return place.address
    address = place.address
    usual = find_driver(first.driver).serial_settings or SerialSettings()
    settings = first.settings or usual
    if settings == usual:
        return address
    plain = SerialSettings()
    different = {
        name: value
        for name, value in asdict(settings).items()
        if name == "baudrate" or value != getattr(plain, name)
    }
    return f"{address}?{'&'.join(f'{name}={value}' for name, value in different.items())}"


def _print(places: Sequence[Place]) -> None:
    console = Console()
    if not console.is_terminal:
        # A table that is cut to the width of a pipe would be of no use to a program.
        console = Console(width=_WHOLE)
    if not places:
        console.print("no ports found")
        return
    table = Table("port", "node", "what it is", "bus", "state", box=None, pad_edge=False)
    for place in places:
        port = place.port
        about = "" if port is None else " ".join(filter(None, (port.vendor, port.product)))
        if port is not None and port.serial_number:
            about += f" {port.serial_number}"
        node = "" if port is None or port.node == port.name else port.node
        told = [_told(each) for each in place.instruments]
        state = "\n".join(told if told and place.state == ANSWERS else [*told, place.state])
        name = place.address if port is None else port.name
        table.add_row(name, node, about.strip(), place.bus or "", state)
    console.print(table, highlight=False, markup=False)


def _told(found: FoundInstrument) -> str:
    unit = "" if found.unit is None else f" unit {found.unit}"
    at = "" if found.settings is None else f" at {found.settings.baudrate} baud"
    took = f"{found.answer.latency_s * 1e3:.1f} ms"
    return f"{found.driver}{unit}{at}: {found.answer.identity} ({took})"


def _as_json(place: Place) -> dict[str, object]:
    port = place.port
    return {
        "kind": place.kind.value,
        "address": place.address,
        "node": None if port is None else port.node,
        "vendor": "" if port is None else port.vendor,
        "product": "" if port is None else port.product,
        "serial_number": "" if port is None else port.serial_number,
        "bus": place.bus,
        "owner_pid": place.owner_pid,
        "state": place.state,
        "instruments": [
            {
                "driver": each.driver,
                "unit": each.unit,
                "settings": None if each.settings is None else asdict(each.settings),
                "identity": asdict(each.answer.identity),
                "latency_ms": round(each.answer.latency_s * 1e3, 3),
            }
            for each in place.instruments
        ],
    }


def _bus_name(place: Place) -> str:
    """Return a name for a bus that stays the same as long as its address does."""
    resource = parse_address(place.address).resource
    if resource is not None and resource.addressed:
        return _plain(resource.board)
    if place.port is None:
        return _plain(place.address.partition("://")[2].partition("?")[0])
    return _plain(_ADAPTER.sub("", Path(place.port.name).name))


def _plain(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", text.lower(), flags=re.ASCII).strip("-")[-40:] or "found"


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken yet, and take it."""
    wanted, number = name, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    taken.add(name)
    return name


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
