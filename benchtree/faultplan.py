"""What goes wrong in a simulation, and when: planned, seeded, printable, repeatable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from random import Random
from typing import Final

from attrs import evolve, field, frozen, validators

from .document import is_list, parse_text, quoted, read_text
from .locate import KeyPath, line_of, locate, show_path
from .mistakes import ConfigError, Mistake, suggest
from .spec import TreeSpec
from .tables import TableError, WrongError, read_table


class FaultKind(Enum):
    """What can go wrong. Line faults name a bus, the others say what they name."""

    LATE = "late"
    """The next `count` replies come `by_s` seconds late."""
    LOST = "lost"
    """The next `count` replies never come."""
    GARBLED = "garbled"
    """A byte of the next `count` replies is wrong."""
    TRUNCATED = "truncated"
    """Only half of the next `count` replies comes."""
    DUPLICATED = "duplicated"
    """The next `count` replies come twice."""
    FOREIGN = "foreign"
    """Other bytes come in place of the next `count` replies."""
    SLOW = "slow"
    """Every reply takes `by_s` seconds longer, for `for_s` seconds."""
    HANG = "hang"
    """The device is silent for `for_s` seconds."""
    UNPLUG = "unplug"
    """The line is unplugged for `for_s` seconds."""
    RESET = "reset"
    """The device loses its settings."""
    CRASH = "crash"
    """The actor fails as it sends its next `count` requests; a task of yours at once."""
    CRASH_WAITING = "crash_waiting"
    """The bus's actor fails while it waits for its next reply."""
    CRASH_DECODING = "crash_decoding"
    """The bus's actor fails as it decodes its next value."""
    CANCELLED = "cancelled"
    """The next `count` callers of the bus's instruments are cancelled `by_s` seconds later."""
    LEASE_LOST = "lease_lost"
    """The leases on the bus's instruments are taken away."""
    CLOCK_STEP = "clock_step"
    """The wall clock jumps by `by_s` seconds; names nothing."""
    SLOW_SINK = "slow_sink"
    """Every write to the recording takes `by_s` seconds, for `for_s` seconds."""
    FAILING_SINK = "failing_sink"
    """Every write to the recording fails, for `for_s` seconds."""
    DISK_FULL = "disk_full"
    """Every write to the recording finds no space, for `for_s` seconds."""
    SLOW_JOURNAL = "slow_journal"
    """Every write to the journal takes `by_s` seconds, for `for_s` seconds; names nothing."""
    JOURNAL_FULL = "journal_full"
    """Every write to the journal finds no space, for `for_s` seconds; names nothing."""


OF_SINKS: Final = (FaultKind.SLOW_SINK, FaultKind.FAILING_SINK, FaultKind.DISK_FULL)
"""The faults that name a recording."""

OF_JOURNAL: Final = (FaultKind.SLOW_JOURNAL, FaultKind.JOURNAL_FULL)
"""The faults that meet the journal."""

OF_REPLIES: Final = (
    FaultKind.LATE,
    FaultKind.LOST,
    FaultKind.GARBLED,
    FaultKind.TRUNCATED,
    FaultKind.DUPLICATED,
    FaultKind.FOREIGN,
)
"""The faults that meet single replies."""

OF_UNITS: Final = (*OF_REPLIES, FaultKind.HANG)
"""The faults that can concern one unit of several on a bus."""

NAMELESS: Final = (FaultKind.CLOCK_STEP, *OF_JOURNAL)
"""The faults that name nothing: there is one clock and one journal."""

COUNTED: Final = (
    *OF_REPLIES,
    FaultKind.CRASH,
    FaultKind.CRASH_WAITING,
    FaultKind.CRASH_DECODING,
    FaultKind.CANCELLED,
)
"""The faults that happen `count` times."""

LASTING: Final = (
    FaultKind.SLOW,
    FaultKind.HANG,
    FaultKind.UNPLUG,
    *OF_SINKS,
    *OF_JOURNAL,
)
"""The faults that last for `for_s`."""

DELAYS: Final = (FaultKind.LATE, FaultKind.SLOW, FaultKind.SLOW_SINK, FaultKind.SLOW_JOURNAL)
"""The faults that delay something by `by_s`."""


@frozen(kw_only=True)
class PlannedFault:
    """One thing that goes wrong.

    Attributes:
        at_s: When, in seconds from the start of the simulation.
        kind: What.
        target: The bus it concerns, "actor.NAME" for the crash of a task of yours, or the
            recording for sink faults; "" for the wall clock and the journal.
        unit: Which unit's replies or silence, where several share the bus; "" for all.
        for_s: How long, in seconds, for faults that last.
        by_s: By how much, in seconds, for delays and steps.
        count: How many replies, crashes or callers.
    """

    at_s: float = field(validator=[validators.ge(0.0), validators.lt(math.inf)])
    kind: FaultKind
    target: str = ""
    unit: str = ""
    for_s: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(math.inf)])
    by_s: float = field(default=0.0, validator=[validators.gt(-math.inf), validators.lt(math.inf)])
    count: int = field(default=1, validator=validators.ge(1))

    def __attrs_post_init__(self) -> None:
        """Refuse what the kind lacks, and what it has no use for."""
        self._check_target()
        self._check_for_s()
        self._check_by_s()
        if self.count != 1 and self.kind not in COUNTED:
            raise self._idle("count", "it happens once")

    def _check_target(self) -> None:
        kind = self.kind
        if kind in NAMELESS:
            if self.target:
                raise self._idle("target", "it names nothing")
        elif not self.target:
            what = "a recording" if kind in OF_SINKS else "a bus"
            raise WrongError(f"{kind.value} names {what} as its target; it is missing", ("target",))
        if self.unit and kind not in OF_UNITS:
            raise self._idle("unit", "it concerns all units alike")

    def _check_for_s(self) -> None:
        if self.kind in LASTING:
            if self.for_s == 0.0:
                raise self._lacking("for_s", "how long it lasts, in seconds")
        elif self.for_s:
            raise self._idle("for_s", "it does not last")

    def _check_by_s(self) -> None:
        kind, by_s = self.kind, self.by_s
        if kind in DELAYS:
            if by_s <= 0.0:
                raise self._lacking("by_s", "the delay, in seconds")
        elif kind is FaultKind.CLOCK_STEP:
            if by_s == 0.0:
                raise WrongError(
                    "clock_step needs by_s, how far the clock jumps, in seconds, backwards below "
                    "0; it is missing or 0",
                    ("by_s",),
                )
        elif kind is FaultKind.CANCELLED:
            if by_s < 0.0:
                raise WrongError(
                    "cancelled needs by_s of 0 or more, how long a caller may wait, in seconds; "
                    f"it is {by_s:g}",
                    ("by_s",),
                )
        elif by_s:
            raise self._idle("by_s", "it delays nothing")

    def _lacking(self, key: str, meaning: str) -> WrongError:
        value: float = getattr(self, key)
        found = f"{value:g}" if value else "missing or 0"
        return WrongError(
            f"{self.kind.value} needs {key} above 0, {meaning}; it is {found}", (key,)
        )

    def _idle(self, key: str, why: str) -> WrongError:
        value: object = getattr(self, key)
        return WrongError(
            f"{self.kind.value}: {why}; leave {key} out, which is {value!r}",
            (key,),
        )

    def misfit(self, tree: TreeSpec) -> tuple[str, str] | None:
        """Return which key names nothing in `tree`, and what it could; None if all fits."""
        known = targets(self.kind, tree)
        if self.target not in known:
            what = "recording" if self.kind in OF_SINKS else "bus"
            return "target", f"no {what} is named {self.target!r}; {suggest(self.target, known)}"
        if self.unit:
            units = _units(self.target, tree)
            if self.unit not in units:
                right = suggest(self.unit, units) if units else "leave it out"
                return "unit", f"no unit_id on {self.target} is {self.unit!r}; {right}"
        return None


@frozen(kw_only=True)
class FaultRate:
    """How often one kind of fault happens, and how hard.

    Attributes:
        per_hour: On average, per target and hour.
        for_s: The shortest and the longest it lasts, in seconds.
        by_s: The smallest and the largest delay or step, in seconds.
        count: The fewest and the most replies or crashes.
    """

    per_hour: float = field(validator=[validators.ge(0.0), validators.lt(math.inf)])
    for_s: tuple[float, float] = (0.0, 0.0)
    by_s: tuple[float, float] = (0.0, 0.0)
    count: tuple[int, int] = (1, 1)


HEAVY: Final[Mapping[FaultKind, FaultRate]] = {
    FaultKind.LATE: FaultRate(per_hour=60, by_s=(0.05, 1.4)),
    FaultKind.LOST: FaultRate(per_hour=30, count=(1, 4)),
    FaultKind.GARBLED: FaultRate(per_hour=20, count=(1, 3)),
    FaultKind.TRUNCATED: FaultRate(per_hour=15, count=(1, 2)),
    FaultKind.DUPLICATED: FaultRate(per_hour=20, count=(1, 2)),
    FaultKind.FOREIGN: FaultRate(per_hour=10),
    FaultKind.SLOW: FaultRate(per_hour=4, for_s=(1, 20), by_s=(0.01, 0.3)),
    FaultKind.HANG: FaultRate(per_hour=6, for_s=(1, 60)),
    FaultKind.UNPLUG: FaultRate(per_hour=6, for_s=(0.5, 60)),
    FaultKind.RESET: FaultRate(per_hour=3),
    FaultKind.CRASH: FaultRate(per_hour=4),
    FaultKind.CRASH_WAITING: FaultRate(per_hour=3),
    FaultKind.CRASH_DECODING: FaultRate(per_hour=3),
    FaultKind.CLOCK_STEP: FaultRate(per_hour=6, by_s=(-3600, 3600)),
    FaultKind.SLOW_SINK: FaultRate(per_hour=4, for_s=(1, 20), by_s=(0.1, 3.0)),
    FaultKind.FAILING_SINK: FaultRate(per_hour=3, for_s=(0.1, 5)),
    FaultKind.DISK_FULL: FaultRate(per_hour=3, for_s=(0.1, 20)),
    FaultKind.SLOW_JOURNAL: FaultRate(per_hour=12, for_s=(1, 20), by_s=(0.01, 8.0)),
    FaultKind.JOURNAL_FULL: FaultRate(per_hour=12, for_s=(0.1, 20)),
    FaultKind.LEASE_LOST: FaultRate(per_hour=20),
    FaultKind.CANCELLED: FaultRate(per_hour=60, by_s=(0.0, 0.02), count=(1, 3)),
}
"""A bench at its worst: every line in trouble every minute."""

LEVELS: Final[Mapping[str, Mapping[FaultKind, FaultRate]]] = {
    "none": {},
    "light": {kind: evolve(rate, per_hour=rate.per_hour / 20) for kind, rate in HEAVY.items()},
    "heavy": HEAVY,
}
"""Ready-made rates by name."""

_ONE_UNIT: Final = 0.7
"""How often a fault that can concern one unit of a shared bus does."""


@frozen
class FaultPlan:
    """Everything that goes wrong in one simulation, in order of time.

    Attributes:
        faults: What happens.
    """

    faults: tuple[PlannedFault, ...] = ()

    @classmethod
    def seeded(
        cls,
        seed: int,
        tree: TreeSpec,
        *,
        duration_s: float,
        rates: Mapping[FaultKind, FaultRate],
    ) -> FaultPlan:
        """Return a plan for `duration_s` seconds of a tree; the same seed gives the same plan."""
        random = Random(f"faults {seed}")  # noqa: S311 - repeatable, no secret
        faults: list[PlannedFault] = []
        for kind, rate in rates.items():
            if rate.per_hour == 0.0:
                continue
            for target in targets(kind, tree):
                at_s = random.expovariate(rate.per_hour / 3600)
                while at_s < duration_s:
                    faults.append(
                        PlannedFault(
                            at_s=round(at_s, 6),
                            kind=kind,
                            target=target,
                            unit=_unit(kind, target, tree, random),
                            for_s=round(random.uniform(*rate.for_s), 6),
                            by_s=round(random.uniform(*rate.by_s), 6),
                            count=random.randint(*rate.count),
                        )
                    )
                    at_s += random.expovariate(rate.per_hour / 3600)
        return cls(
            tuple(sorted(faults, key=lambda each: (each.at_s, each.kind.value, each.target)))
        )

    @property
    def ends_s(self) -> float:
        """When the last fault is over, in seconds from the start."""
        return max((each.at_s + each.for_s for each in self.faults), default=0.0)

    def to_toml(self) -> str:
        """Return the plan as a TOML document that `from_toml` reads."""
        tables: list[str] = []
        for each in self.faults:
            lines = ["[[fault]]", f"at_s = {each.at_s!r}", f'kind = "{each.kind.value}"']
            if each.target:
                lines.append(f"target = {quoted(each.target)}")
            if each.unit:
                lines.append(f"unit = {quoted(each.unit)}")
            lines += [f"{name} = {value!r}" for name, value in _numbers(each).items() if value]
            tables.append("\n".join(lines))
        return "\n\n".join(tables) + ("\n" if tables else "")

    @classmethod
    def load(cls, path: Path, tree: TreeSpec | None = None) -> FaultPlan:
        """Read a plan from a file, and hold it against `tree` if that is given.

        Raises:
            ConfigError: It has mistakes; all of them are in the error.
        """
        return cls.from_toml(read_text(path), file=path, tree=tree)

    @classmethod
    def from_toml(
        cls, text: str, *, file: Path = Path("plan.toml"), tree: TreeSpec | None = None
    ) -> FaultPlan:
        """Read a plan, and hold it against `tree` if that is given; mistakes name `file`.

        Raises:
            ConfigError: It has mistakes; all of them are in the error.
        """
        values = parse_text(file, text)
        wrong: list[tuple[KeyPath, str]] = [
            ((key,), f"is not known; {suggest(key, ('fault',))}")
            for key in values
            if key != "fault"
        ]
        tables = values.get("fault", [])
        if not is_list(tables):
            wrong.append((("fault",), "each fault is a table of its own, below [[fault]]"))
            tables = []
        faults: list[PlannedFault] = []
        for index, table in enumerate(tables):
            try:
                fault = read_table(table, PlannedFault)
            except TableError as error:
                wrong += [(("fault", index, *below), what) for below, what in error.mistakes]
                continue
            misfit = None if tree is None else fault.misfit(tree)
            if misfit is not None:
                wrong.append((("fault", index, misfit[0]), misfit[1]))
            faults.append(fault)
        if wrong:
            lines = locate(text)
            raise ConfigError(
                [
                    Mistake(file, line_of(lines, where) or 1, show_path(where), what)
                    for where, what in wrong
                ]
            )
        return cls(tuple(sorted(faults, key=lambda each: each.at_s)))


def targets(kind: FaultKind, tree: TreeSpec) -> Sequence[str]:
    """Return what a kind of fault can name in a tree."""
    buses = [each.name for each in tree.buses]
    if kind in NAMELESS:
        return ("",)
    if kind in OF_SINKS:
        return [each.name for each in tree.recordings]
    if kind is FaultKind.CRASH:
        return [*buses, *(f"actor.{each.name}" for each in tree.actors)]
    return buses


def _units(bus: str, tree: TreeSpec) -> list[str]:
    return [each.unit_id for each in tree.instruments if each.bus == bus and each.unit_id]


def _unit(kind: FaultKind, bus: str, tree: TreeSpec, random: Random) -> str:
    units = _units(bus, tree)
    if kind in OF_UNITS and len(units) > 1 and random.random() < _ONE_UNIT:
        return random.choice(units)
    return ""


def _numbers(fault: PlannedFault) -> Mapping[str, float]:
    return {
        "for_s": fault.for_s,
        "by_s": fault.by_s,
        "count": fault.count if fault.count != 1 else 0,
    }
