"""The tables of a configuration file as classes, and what reads them.

cattrs builds the classes and gathers every mistake; the hooks here are strict where it
is lenient (text is no number), and say what would be right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin

from attrs import (
    NOTHING,
    Attribute,
    asdict,
    evolve,
    field,
    fields,
    frozen,
    has,
    resolve_types,
    validators,
)
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from actors import BreakerPolicy, Identity, OnReconnect, ReconcilePolicy, Restart, Strategy
from recorder import OnError, OverflowPolicy
from transports import PROFILES, BusProfile

from .locate import KeyPath
from .mistakes import suggest
from .spec import DRAIN_S, JournalDetail

T = TypeVar("T")

_STAND_INS: Final[Mapping[object, object]] = {str: "", float: 1.0, tuple[str, ...]: []}
_positive: Final = validators.gt(0.0)
_LIMIT: Final = re.compile(r"'\w+' must be (?P<limit>\S+ \S+?)\.?: .*", re.DOTALL)


@frozen(kw_only=True)
class Profile:
    """A bus's profile as a file gives it: a name, a table of numbers, or both.

    Attributes:
        name: Which profile; None for that of the address's kind.
        changes: What is different from it.
    """

    name: str | None = None
    changes: Mapping[str, object] = field(factory=dict[str, object])

    def applied(self, usual: BusProfile) -> BusProfile:
        """Return the profile, where `usual` is that of the address's kind."""
        base = usual if self.name is None else PROFILES[self.name]
        return evolve(base, **cast("dict[str, Any]", dict(self.changes)))


UnitId = str | int
"""A unit as a file gives it: its number, or text."""


@frozen(kw_only=True)
class TreeTable:
    """`[tree]`."""

    name: str = "bench"
    drain_s: float = field(default=DRAIN_S, validator=validators.ge(0.0))
    priority: int = 0
    wait: bool = False
    journal: JournalDetail = "writes"


@frozen(kw_only=True)
class BusTable:
    """`[bus.X]`."""

    address: str
    profile: Profile = field(factory=Profile)
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    required: bool = False
    reconcile: ReconcilePolicy = field(factory=ReconcilePolicy)


@frozen(kw_only=True)
class InstrumentTable:
    """`[instrument.X]`."""

    bus: str
    driver: str
    unit_id: UnitId | None = None
    identity: Identity = field(factory=Identity)
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    on_reconnect: OnReconnect = OnReconnect.RESTORE
    recovery_s: float = field(default=0.0, validator=validators.ge(0.0))

    @property
    def unit(self) -> str | None:
        """The unit as text."""
        return None if self.unit_id is None else str(self.unit_id)


@frozen(kw_only=True)
class SupervisorTable:
    """`[supervisor.X]`."""

    children: tuple[str, ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = field(default=3, validator=validators.ge(0))
    window_s: float = field(default=5.0, validator=_positive)


@frozen(kw_only=True)
class ActorTable:
    """`[actor.X]`."""

    start: str
    restart: Restart = Restart.TRANSIENT
    stop_s: float = field(default=5.0, validator=_positive)


@frozen(kw_only=True)
class RecordingTable:
    """`[recording.X]`."""

    parameters: tuple[str, ...]
    rate_hz: float = field(validator=_positive)
    sinks: tuple[str, ...] = ("sqlite",)
    duration_s: float | None = field(default=None, validator=validators.optional(_positive))
    names: tuple[str, ...] | None = None
    instances: tuple[int, ...] = (1,)
    overflow: OverflowPolicy = OverflowPolicy.BLOCK
    buffer_size: int = field(default=64, validator=validators.ge(1))
    on_error: OnError = "record"
    batch_size: int = field(default=1000, validator=validators.ge(1))
    flush_s: float = field(default=1.0, validator=validators.ge(0.0))
    power_safe: bool = False
    wide: bool = False
    rotate_rows: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    postgres: str | None = None
    postgres_table: str = "samples"


class WrongError(ValueError):
    """A value is wrong; the message says what would be right.

    Attributes:
        path: Where, below the value that was read.
    """

    def __init__(self, text: str, path: KeyPath = ()) -> None:
        """Store what is wrong and where."""
        super().__init__(text)
        self.path = path


class TableError(Exception):
    """A table has mistakes.

    Attributes:
        mistakes: Each with its path below the table.
    """

    def __init__(self, mistakes: Sequence[tuple[KeyPath, str]]) -> None:
        """Store the mistakes."""
        super().__init__("; ".join(text for _, text in mistakes))
        self.mistakes = tuple(mistakes)


def read_table(value: object, kind: type[T]) -> T:
    """Return a table of a file as a `kind`.

    Raises:
        TableError: It has mistakes; all of them are in the error.
    """
    try:
        return _CONVERTER.structure(value, kind)
    except Exception as error:  # cattrs gathers whatever the hooks and classes raise
        raise TableError(list(_unravel(error, ()))) from error


def read_rest(value: Mapping[str, object], kind: type[T], mistakes: TableError) -> T:
    """Return a table without what is wrong in it, so that the rest can be checked too.

    What it cannot be without is empty where it is wrong or missing.
    """
    wrong = {path[0] for path, _ in mistakes.mistakes if path}
    rest = {key: each for key, each in value.items() if key not in wrong}
    for each in fields(cast("Any", kind)):
        if each.default is NOTHING and each.name not in rest:
            rest[each.name] = _STAND_INS[each.type]
    return _CONVERTER.structure(rest, kind)


def kind_of(value: object) -> str:
    """Return what a value is, in a file's words."""
    match value:
        case bool():
            return f"{value}".lower()
        case str():
            return f"the text {value!r}"
        case int() | float():
            return f"the number {value}"
        case Mapping():
            return "a table"
        case list():
            return "a list"
        case _:
            return f"{value}"


def _unravel(error: BaseException, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield each leaf of what cattrs raised, with its path."""
    match error:
        case ClassValidationError() | IterableValidationError():
            for inner in error.exceptions:
                yield from _unravel(inner, (*path, *_step(inner)))
        case ForbiddenExtraKeysError():
            known = [each.name for each in fields(error.cl)]
            for key in sorted(error.extra_fields):
                yield (*path, key), f"is not known; {suggest(key, known)}"
        case KeyError():
            yield path, "is missing"
        case WrongError():
            yield (*path, *error.path), str(error)
        case _:
            yield path, str(error)


def _step(error: BaseException) -> KeyPath:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


# The hooks. Each is given the value and the type to make of it.


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise WrongError(f"must be text, not {kind_of(value)}")
    return value


def _truth(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise WrongError(f"must be true or false, not {kind_of(value)}")
    return value


def _whole(value: object, _: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongError(f"must be a whole number, not {kind_of(value)}")
    return value


def _number(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongError(f"must be a number, not {kind_of(value)}")
    if not math.isfinite(value):
        raise WrongError(f"must be a finite number, not {value}")
    return float(value)


def _unit_id(value: object, _: object) -> UnitId:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise WrongError(f"must be text or a whole number, not {kind_of(value)}")
    return value


def _choice(value: object, kind: type[Enum]) -> Enum:
    return kind(_one_of(value, [str(each.value) for each in kind]))


def _word(value: object, kind: object) -> str:
    return _one_of(value, get_args(kind))


def _one_of(value: object, known: Sequence[str]) -> str:
    if not isinstance(value, str):
        raise WrongError(f"must be one of {', '.join(known)}, not {kind_of(value)}")
    if value not in known:
        raise WrongError(f"{value!r} is not known; it must be one of {', '.join(known)}")
    return value


def _texts(value: object, _: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongError(f"must be a list of texts, not {kind_of(value)}")
    for index, each in enumerate(cast("list[object]", value)):
        if not isinstance(each, str):
            raise WrongError(f"must be text, not {kind_of(each)}", (index,))
    return tuple(cast("list[str]", value))


def _profile(value: object, _: object) -> Profile:
    short = isinstance(value, str)
    if short:
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise WrongError(f"must be a name or a table, not {kind_of(value)}")
    given = dict(cast("Mapping[str, object]", value))
    name = given.pop("name", None)
    if name is not None:
        if not isinstance(name, str):
            raise WrongError(f"must be text, not {kind_of(name)}", ("name",))
        if name not in PROFILES:
            where = () if short else ("name",)
            raise WrongError(f"no profile is named {name!r}; {suggest(name, PROFILES)}", where)
    # Read as a whole profile, so that each number is held against its own limits.
    base = asdict(PROFILES["tcp"], value_serializer=lambda _, __, each: _plain(each))
    whole = _CONVERTER.structure({**base, **given}, BusProfile)
    return Profile(name=name, changes={key: getattr(whole, key) for key in given})


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def _is_choice(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _is_word(kind: object) -> bool:
    origin: object = get_origin(kind)
    return origin is Literal


def _table_hook(kind: type[Any], converter: Converter) -> Callable[[object, type[Any]], Any]:
    """Return the hook of an attrs class: all its mistakes, and limits beside their keys."""
    resolve_types(kind)
    checked = {each.name: override(struct_hook=_checking(each, converter)) for each in fields(kind)}
    build = make_dict_structure_fn(kind, converter, **cast("dict[str, Any]", checked))

    def structure(value: object, wanted: type[Any]) -> Any:
        if not isinstance(value, Mapping):
            raise WrongError(f"must be a table, not {kind_of(value)}")
        return build(cast("Mapping[str, Any]", value), wanted)

    return structure


def _checking(declared: Attribute[Any], converter: Converter) -> Callable[[object, Any], Any]:
    """Return what reads one key and holds it against the limits of its field."""

    def structure(value: object, _: object) -> Any:
        made = converter.structure(value, cast("Any", declared.type))
        if declared.validator is not None:
            try:
                declared.validator(None, declared, made)
            except ValueError as error:
                limit = _LIMIT.fullmatch(str(error))
                raise WrongError(
                    f"is {value}; it must be {limit['limit']}" if limit else str(error)
                ) from error
        return made

    return structure


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(has, _table_hook)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(_is_word, _word)
    converter.register_structure_hook_func(lambda kind: kind == UnitId | None, _unit_id)
    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], _texts)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _truth)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Profile, _profile)
    return converter


_CONVERTER: Final = _converter()
