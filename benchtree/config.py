"""A supervision tree as a TOML file, into specifications.

Reading goes in three steps, and each reports all it finds: the text as TOML, each table
by itself, and what the tables say of one another.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import define, field, frozen

from actors import Instrument, Intensity
from transports import (
    Address,
    AddressError,
    BusProfile,
    canonical_key,
    default_profile,
    parse_address,
)

from .document import is_table, parse_text, read_text
from .drivers import UnknownDriverError, driver_names, find_driver
from .lines import scheme_problem
from .locate import KeyPath, line_of, locate, show_path
from .mistakes import ConfigError, Mistake, suggest
from .sinks import SINKS
from .spec import (
    ActorSpec,
    BusSpec,
    ChildName,
    InstrumentSpec,
    Kind,
    RecordingSpec,
    SupervisorSpec,
    TreeSpec,
)
from .standins import model_of_line
from .tables import (
    ActorTable,
    BusTable,
    InstrumentTable,
    RecordingTable,
    SupervisorTable,
    TableError,
    TreeTable,
    kind_of,
    read_rest,
    read_table,
)

T = TypeVar("T")

_NAME: Final = re.compile(r"[\w-]+")
_NAME_SIZE: Final = 64


@frozen
class Config:
    """A configuration file that was understood.

    Attributes:
        path: Where it was read from.
        text: What it said.
        tree: What it describes.
    """

    path: Path
    text: str
    tree: TreeSpec


def load_config(path: Path) -> Config:
    """Read a file and return what it describes.

    Blocks, and imports the modules of the actors it names: they are looked for beside the
    file and in the working directory too.

    Raises:
        ConfigError: It has mistakes; all of them are in the error.
    """
    text = read_text(path)
    values = parse_text(path, text)
    lines = locate(text)
    reading = _Reading(values, path.resolve().parent)
    tree = reading.tree()
    if reading.wrong or tree is None:
        mistakes = [
            Mistake(path, line_of(lines, where) or 1, show_path(where), what)
            for where, what in reading.wrong
        ]
        raise ConfigError(sorted(mistakes, key=lambda each: each.line or 0))
    return Config(path, text, tree)


def read_tree(
    values: Mapping[str, object],
    *,
    folder: Path | None = None,
    drivers: Mapping[str, type[Instrument]] | None = None,
) -> TreeSpec:
    """Return what the tables of a configuration describe, given as values.

    Args:
        values: What `tomllib` would return.
        folder: Where the modules of the actors are looked for too.
        drivers: Drivers by further names than those that every file may use.

    Raises:
        ConfigError: It has mistakes; all of them are in the error.
    """
    where = folder or Path()
    reading = _Reading(values, where, drivers)
    tree = reading.tree()
    if reading.wrong or tree is None:
        raise ConfigError(
            [Mistake(where, None, show_path(path), what) for path, what in reading.wrong]
        )
    return tree


def check_simulation(config: Config) -> None:
    """Check that every bus can be simulated.

    Raises:
        ConfigError: A driver has no device model, or its model is alone on its line.
    """
    lines = locate(config.text)
    mistakes: list[Mistake] = []
    for bus in config.tree.buses:
        problem = simulation_problem(config.tree, bus)
        if problem is not None:
            where = ("bus", bus.name)
            mistakes.append(Mistake(config.path, line_of(lines, where), show_path(where), problem))
    if mistakes:
        raise ConfigError(mistakes)


def simulation_problem(tree: TreeSpec, bus: BusSpec) -> str | None:
    """Return why no device models can stand for a bus's instruments; None if they can.

    Raises:
        AddressError: Its address cannot be understood.
    """
    mine = [each for each in tree.instruments if each.bus == bus.name]
    address = parse_address(bus.address)
    try:
        model_of_line(mine, addressed=address.addressed, units=address.units)
    except ValueError as error:
        return str(error)
    return None


@define
class _Bus:
    """What is known of a bus; None where its own table says it wrongly."""

    address: Address | None
    profile: BusProfile | None
    instruments: list[str] = field(factory=list[str])


class _Reading:
    """One reading of a file's values.

    Attributes:
        wrong: What is wrong so far, each with its path.
    """

    def __init__(
        self,
        values: Mapping[str, object],
        folder: Path,
        drivers: Mapping[str, type[Instrument]] | None = None,
    ) -> None:
        self.wrong: list[tuple[KeyPath, str]] = []
        self._values = values
        self._folder = folder
        self._more_drivers = drivers or {}
        # What was read, by name; None where a table has mistakes of its own.
        self._buses: dict[str, BusTable | None] = {}
        self._instruments: dict[str, InstrumentTable | None] = {}
        self._supervisors: dict[str, SupervisorTable | None] = {}
        self._actors: dict[str, ActorTable | None] = {}
        self._recordings: dict[str, RecordingTable | None] = {}
        self._on: dict[str, _Bus] = {}
        # The bus whose table makes a board, by the names of others that are the same board.
        self._boards: dict[str, str] = {}
        self._units: dict[str, str | None] = {}
        self._drivers: dict[str, type[Instrument] | None] = {}

    def tree(self) -> TreeSpec | None:
        """Return what the file describes, or None where it is wrong."""
        sections = ("tree", *(kind.value for kind in Kind), "instrument", "recording")
        for key in self._values:
            if key not in sections:
                self._note((key,), f"is not known; {suggest(key, sections)}")
        tree = self._table(("tree",), self._values.get("tree", {}), TreeTable)
        if tree is not None:
            self._check_size(("tree", "name"), tree.name)
        self._buses = self._section("bus", BusTable)
        self._instruments = self._section("instrument", InstrumentTable)
        self._supervisors = self._section("supervisor", SupervisorTable)
        self._actors = self._section("actor", ActorTable)
        self._recordings = self._section("recording", RecordingTable)
        if not (self._buses or self._actors or self.wrong):
            self._note((), "there is nothing to run: add a [bus.NAME] and an [instrument.NAME]")
        buses = list(self._read_buses())
        instruments = list(self._read_instruments())
        self._check_buses()
        supervisors = list(self._read_supervisors())
        self._check_groups()
        actors = list(self._read_actors())
        recordings = list(self._read_recordings())
        if tree is None:
            return None
        return TreeSpec(
            name=tree.name,
            drain_s=tree.drain_s,
            priority=tree.priority,
            wait=tree.wait,
            journal=tree.journal,
            buses=buses,
            instruments=instruments,
            actors=actors,
            supervisors=supervisors,
            recordings=recordings,
        )

    def _note(self, path: KeyPath, what: str) -> None:
        """Note a mistake, unless it follows from one that is noted there already."""
        if not self._is_wrong(path):
            self.wrong.append((path, what))

    def _is_wrong(self, path: KeyPath) -> bool:
        return any(where == path for where, _ in self.wrong)

    def _note_empty(self, path: KeyPath, what: str) -> None:
        """Note that a list is empty, unless it only is because of wrong elements."""
        if not any(where[: len(path)] == path for where, _ in self.wrong):
            self._note(path, f"is empty; {what}")

    def _table(self, path: KeyPath, value: object, kind: type[T]) -> T | None:
        try:
            return read_table(value, kind)
        except TableError as error:
            for below, what in error.mistakes:
                self._note((*path, *below), what)
            # The rest of the table is held against the others all the same.
            return read_rest(value, kind, error) if is_table(value) else None

    def _section(self, name: str, kind: type[T]) -> dict[str, T | None]:
        section = self._values.get(name, {})
        if not is_table(section):
            self._note((name,), f"must hold tables, as in [{name}.NAME], not {kind_of(section)}")
            return {}
        found: dict[str, T | None] = {}
        for key, value in section.items():
            path = (name, key)
            if not _NAME.fullmatch(key):
                self._note(path, "a name is made of letters, digits, _ and -")
            self._check_size(path, key)
            found[key] = self._table(path, value, kind)
        return found

    def _check_size(self, path: KeyPath, name: str) -> None:
        """Check that a name fits into those of files and folders."""
        if len(name) > _NAME_SIZE:
            what = f"the name has {len(name)} characters; it must have {_NAME_SIZE} at most"
            self._note(path, what)

    # Buses and instruments.

    def _read_buses(self) -> Iterator[BusSpec]:
        for name, table in self._buses.items():
            bus = self._on[name] = _Bus(None, None)
            if table is None:
                continue
            try:
                bus.address = parse_address(table.address)
            except AddressError as error:
                self._note(("bus", name, "address"), str(error))
                continue
            profile = table.profile.applied(self._usual_profile(name, bus.address))
            if bus.address.addressed and (board := self._board(bus.address, name)) is not None:
                self._check_board(name, table, board, profile)
                continue
            if not any(where[:3] == ("bus", name, "profile") for where, _ in self.wrong):
                bus.profile = profile
            yield BusSpec(
                name=name,
                address=table.address,
                profile=profile,
                breaker=table.breaker,
                required=table.required,
                reconcile=table.reconcile,
            )

    def _board(self, address: Address, name: str) -> str | None:
        """Return the earlier bus that is the same GPIB board, or None."""
        key = canonical_key(address)
        for other, bus in self._on.items():
            if other == name or other in self._boards or bus.address is None:
                continue
            if canonical_key(bus.address) == key:
                self._boards[name] = other
                return other
        return None

    def _check_board(self, name: str, table: BusTable, board: str, profile: BusProfile) -> None:
        """Check that a second name for a board asks for nothing that the first does not."""
        first = self._buses[board]
        if first is None:
            return
        for key, mine, its in (
            ("profile", profile, self._on[board].profile),
            ("breaker", table.breaker, first.breaker),
            ("required", table.required, first.required),
        ):
            if mine != its and its is not None:
                what = f"is that of a board which bus.{board} is too; say it there"
                self._note(("bus", name, key), what)

    def _usual_profile(self, bus: str, address: Address) -> BusProfile:
        """Return the profile that a bus has unless its table names one."""
        for table in self._instruments.values():
            if table is not None and table.bus == bus:
                try:
                    usual = self._find_driver(table.driver).profiles.get(address.medium.value)
                except UnknownDriverError:
                    continue  # said where the instrument is read
                if usual is not None:
                    return usual
        return default_profile(address)

    def _read_instruments(self) -> Iterator[InstrumentSpec]:
        for name, table in self._instruments.items():
            self._drivers[name] = None
            if table is None:
                continue
            path = ("instrument", name)
            bus = self._on.get(table.bus)
            if bus is None:
                what = f"no bus is named {table.bus!r}; {suggest(table.bus, self._on)}"
                self._note((*path, "bus"), what)
            else:
                bus.instruments.append(name)
            driver = self._driver((*path, "driver"), table.driver)
            if driver is None:
                continue
            self._drivers[name] = driver
            unit = self._units[name] = self._unit((*path, "unit_id"), table, bus)
            yield InstrumentSpec(
                name=name,
                bus=self._boards.get(table.bus, table.bus),
                driver=driver,
                unit_id=unit,
                identity=table.identity,
                breaker=table.breaker,
                on_reconnect=table.on_reconnect,
                recovery_s=table.recovery_s,
            )

    def _unit(self, path: KeyPath, table: InstrumentTable, bus: _Bus | None) -> str | None:
        """Return which unit an instrument is: as its table says, or its bus's address."""
        if bus is None or bus.address is None:
            return table.unit
        try:
            return bus.address.unit_of(table.unit)
        except AddressError as error:
            self._note(path, error.reason)
            return table.unit

    def _find_driver(self, name: str) -> type[Instrument]:
        return self._more_drivers.get(name) or find_driver(name)

    def _driver(self, path: KeyPath, name: str) -> type[Instrument] | None:
        try:
            return self._find_driver(name)
        except UnknownDriverError as error:
            known = driver_names()
            unknown = f"no driver is named {name!r}; {suggest(name, known)}"
            self._note(path, str(error) if name in known else unknown)
            return None

    def _check_buses(self) -> None:
        ports: dict[str, str] = {}
        # An instrument whose bus is wrong may belong to one that looks empty.
        stray = any(each is None or each.bus not in self._on for each in self._instruments.values())
        for name, bus in self._on.items():
            path = ("bus", name)
            if bus.address is not None and bus.address.scheme != "sim":
                key = canonical_key(bus.address)
                first = ports.setdefault(key, name)
                if first != name and name not in self._boards:
                    what = f"is the same port as bus.{first} ({key}); put the instruments of both"
                    self._note((*path, "address"), f"{what} on bus.{first}")
            if not (bus.instruments or stray):
                what = "no instrument is on it; add an [instrument.NAME] with"
                self._note(path, f'{what} bus = "{name}", or remove it')
            if name not in self._boards:
                self._check_line(name, bus)

    def _check_line(self, name: str, bus: _Bus) -> None:
        """Check that the instruments of one bus can share it."""
        units: dict[str | None, str] = {}
        framed: str | None = None
        more = (self._on[other].instruments for other, its in self._boards.items() if its == name)
        for each in itertools.chain(bus.instruments, *more):
            table, driver = self._instruments[each], self._drivers[each]
            if table is None or driver is None:
                continue
            path = ("instrument", each)
            misplaced = None if bus.address is None else scheme_problem(driver, bus.address)
            if misplaced is not None:
                self._note((*path, "driver"), misplaced)
                continue
            framed = framed or each
            leader = self._drivers[framed]
            if leader is not None and driver.framing != leader.framing:
                what = f"{table.driver} tells replies apart differently from the driver of"
                self._note((*path, "driver"), f"{what} {framed}; they cannot share bus.{name}")
            unit = self._units.get(each)
            unit = unit if unit is not None else driver.default_unit
            if bus.profile is not None and bus.profile.shared and unit is None:
                what = f"is missing; several units share bus.{name}, so each needs its own"
                self._note((*path, "unit_id"), what)
                continue
            problem = driver.unit_problem(unit)
            if problem is not None:
                self._note((*path, "unit_id"), problem)
            first = units.setdefault(unit, each)
            if first == each:
                continue
            if unit is None:
                what = f"is missing; {first} is on bus.{name} already, so each needs its own"
            else:
                what = f"{unit} is the unit of {first} already; each on bus.{name} needs its own"
            self._note((*path, "unit_id"), what)

    # Supervisors.

    def _read_supervisors(self) -> Iterator[SupervisorSpec]:
        taken: dict[ChildName, str] = {}
        for name, table in self._supervisors.items():
            if table is None:
                continue
            path = ("supervisor", name, "children")
            if not table.children:
                self._note_empty(path, 'name what it starts, such as "bus.NAME"')
            children: list[ChildName] = []
            for index, text in enumerate(table.children):
                child = self._child((*path, index), text)
                if child is None:
                    continue
                children.append(child)
                first = taken.setdefault(child, name)
                if first != name or children.count(child) > 1:
                    what = f"{text} is a child of supervisor.{first} already"
                    self._note((*path, index), f"{what}; it can have one place only")
            yield SupervisorSpec(
                name=name,
                children=children,
                strategy=table.strategy,
                intensity=Intensity(table.max_restarts, table.window_s),
            )

    def _child(self, path: KeyPath, text: str) -> ChildName | None:
        kind, _, name = text.partition(".")
        named: Mapping[str, Mapping[str, object]] = {
            Kind.BUS.value: self._buses,
            Kind.ACTOR.value: self._actors,
            Kind.SUPERVISOR.value: self._supervisors,
        }
        if kind == "instrument":
            self._note(path, f"{text} starts with its bus; name the bus instead")
        elif kind not in named or not name:
            what = "a child is bus.NAME, actor.NAME or supervisor.NAME"
            self._note(path, f"{text!r} is no child; {what}")
        elif name not in named[kind]:
            known = [f"{kind}.{each}" for each in named[kind]]
            self._note(path, f"there is no {text}; {suggest(text, known)}")
        elif kind == Kind.BUS.value and name in self._boards:
            board = f"bus.{self._boards[name]}"
            self._note(path, f"{text} is the same board as {board}; name {board}")
        else:
            return Kind(kind), name
        return None

    def _check_groups(self) -> None:
        """Find supervisors that are, somewhere below, their own children."""
        above = {
            child: name
            for name, table in self._supervisors.items()
            if table is not None
            for text in table.children
            if (child := text.removeprefix("supervisor.")) != text
        }
        told: set[str] = set()
        for start in self._supervisors:
            chain = [start]
            parent: str | None = None
            while (parent := above.get(chain[-1])) is not None and parent not in chain:
                chain.append(parent)
            if parent == start and start not in told:
                told.update(chain)
                circle = " in ".join(f"supervisor.{each}" for each in (*chain, start))
                what = f"the supervisors go round in a circle: {circle}"
                self._note(("supervisor", start, "children"), what)

    # Actors.

    def _read_actors(self) -> Iterator[ActorSpec]:
        for name, table in self._actors.items():
            if table is None:
                continue
            start = self._function(("actor", name, "start"), table.start)
            if start is not None:
                yield ActorSpec(name=name, start=start, restart=table.restart, stop_s=table.stop_s)

    def _function(self, path: KeyPath, text: str) -> Callable[[Any], Awaitable[None]] | None:
        module_name, _, name = text.partition(":")
        if not (module_name and name):
            self._note(path, f'{text!r} names no function; write "package.module:function"')
            return None
        for folder in (str(Path.cwd()), str(self._folder)):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        try:
            found: object = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the user's code
            reason = f"{type(error).__name__}: {error}"
            self._note(path, f"{module_name} cannot be imported: {reason}")
            return None
        for part in name.split("."):
            known = [each for each in dir(found) if not each.startswith("_")]
            found = getattr(found, part, None)
            if found is None:
                close = suggest(part, known) if known else ""
                hint = f"; {close}" if close.startswith("did") else ""
                self._note(path, f"{module_name} has no {part}{hint}")
                return None
        if not inspect.iscoroutinefunction(found):
            self._note(path, f"{text} is not an async function; write `async def {name}(tree)`")
            return None
        with suppress(ValueError):  # what has no signature is taken as it is
            try:
                inspect.signature(found).bind(None)
            except TypeError:
                what = f"{text} is called with the tree and nothing else"
                self._note(path, f"{what}; write `async def {name}(tree)`")
                return None
        return found

    # Recordings.

    def _read_recordings(self) -> Iterator[RecordingSpec]:
        for name, table in self._recordings.items():
            if table is None:
                continue
            path = ("recording", name)
            if not table.parameters:
                self._note_empty((*path, "parameters"), "name what to read")
            for index, parameter in enumerate(table.parameters):
                self._check_parameter((*path, "parameters", index), parameter)
            self._check_sinks(path, table)
            self._check_devices(path, table)
            yield RecordingSpec(
                name=name,
                parameters=table.parameters,
                rate_hz=table.rate_hz,
                sinks=table.sinks,
                duration_s=table.duration_s,
                names=table.names,
                instances=table.instances,
                overflow=table.overflow,
                buffer_size=table.buffer_size,
                on_error=table.on_error,
                batch_size=table.batch_size,
                flush_s=table.flush_s,
                power_safe=table.power_safe,
                wide=table.wide,
                rotate_rows=table.rotate_rows,
                postgres=table.postgres,
                postgres_table=table.postgres_table,
            )

    def _check_sinks(self, path: KeyPath, table: RecordingTable) -> None:
        if not table.sinks:
            self._note_empty((*path, "sinks"), f"there are: {', '.join(SINKS)}")
        for index, sink in enumerate(table.sinks):
            where = (*path, "sinks", index)
            if sink not in SINKS:
                self._note(where, f"no sink is named {sink!r}; {suggest(sink, SINKS)}")
            elif sink in table.sinks[:index]:
                self._note(where, f"{sink} is there twice")
            elif sink == "postgres" and table.postgres is None:
                what = "say how to reach the server: postgres = "
                self._note(where, f'{what}"host=db dbname=lab"')

    def _having(self) -> Mapping[str, type[Instrument] | None]:
        """Return the drivers of all instruments and of their parts, by name."""
        found: dict[str, type[Instrument] | None] = dict(self._drivers)
        for name, driver in self._drivers.items():
            if driver is not None:
                found.update({f"{name}.{part}": kind for part, kind in driver.parts.items()})
        return found

    def _check_devices(self, path: KeyPath, table: RecordingTable) -> None:
        having = self._having()
        if table.names is not None and not table.names:
            self._note_empty((*path, "names"), "leave it out to read all instruments")
        if not table.instances:
            self._note_empty((*path, "instances"), "leave it out to read the first of each")
        most = _most_instances(table.parameters, having)
        for index, device in enumerate(table.names or ()):
            if device not in having:
                what = f"no instrument is named {device!r}"
                self._note((*path, "names", index), f"{what}; {suggest(device, having)}")
        for index, instance in enumerate(table.instances):
            if instance < 1:
                self._note((*path, "instances", index), "instances are counted from 1")
            elif most is not None and instance > most:
                what = f"nothing that is read has an instance {instance}; there are {most} at most"
                self._note((*path, "instances", index), what)

    def _check_parameter(self, path: KeyPath, text: str) -> None:
        device, dot, parameter = text.rpartition(".")
        having = self._having()
        if dot and device not in having:
            what = f"no instrument is named {device!r}"
            self._note(path, f"{what}; {suggest(device, having)}")
            return
        meant = [device] if dot else list(having)
        drivers = [having[each] for each in meant]
        known: dict[str, None] = {}
        found = False
        for driver in drivers:
            if driver is None:
                return  # what it has cannot be known
            known.update(dict.fromkeys(driver.parameters))
            found = found or driver.find_parameter(parameter) is not None
        if not found:
            who = device if dot else "no instrument"
            has = f"{who} has no parameter {parameter!r}" if dot else f"{who} has {parameter!r}"
            self._note(path, f"{has}; {suggest(parameter, known)}")


def _most_instances(
    parameters: Sequence[str], having: Mapping[str, type[Instrument] | None]
) -> int | None:
    """Return how many instances there are of what has most; None where that is not known."""
    counts: list[int] = []
    for text in parameters:
        device, dot, parameter = text.rpartition(".")
        for name in [device] if dot else having:
            driver = having.get(name)
            if driver is None:
                return None
            declared = driver.find_parameter(parameter)
            if declared is not None:
                counts.append(driver.instances_of(declared))
    return max(counts, default=None)
