"""A running bench as a table on a terminal, one row per bus and per instrument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import trio
from attrs import field, frozen
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branch

from actors import BreakerState, BusStatus, InstrumentStatus, Sample, Service, current_clock
from recorder import AcquisitionSummary, Counts

from .logs import Logbook
from .run import BenchRun
from .spec import InstrumentSpec, Kind, SupervisorSpec, TreeSpec

REFRESH_S: Final = 0.25
"""How often the table is drawn, in seconds."""

_RATE_OVER_S: Final = 2.0


@frozen(kw_only=True)
class Row:
    """What is shown of one bus or instrument.

    Attributes:
        name: Its name; an instrument's is indented.
        state: Where it stands.
        well: Whether that is as it should be.
        breaker: Whether its breaker lets commands through, and when it is tried next.
        value: The last values read.
        rate: Readings per second and series over the last seconds.
        late: How many samples came after their slot.
        missing: How many samples never came.
    """

    name: str
    state: str
    well: bool
    breaker: str
    value: str = ""
    rate: str = ""
    late: str = ""
    missing: str = ""


@frozen
class Watched:
    """What recordings know of the instruments.

    Attributes:
        latest: The last sample of each parameter, by instrument.
        counts: What became of the samples, by instrument.
        rates_hz: Readings per second and series, by instrument.
    """

    latest: Mapping[str, Mapping[str, Sample]] = field(factory=dict[str, dict[str, Sample]])
    counts: Mapping[str, Counts] = field(factory=dict[str, Counts])
    rates_hz: Mapping[str, float] = field(factory=dict[str, float])


def rows(status: Sequence[BusStatus], watched: Watched) -> list[Row]:
    """Return the rows of a tree: each bus, then the instruments on it."""
    found: list[Row] = []
    for bus in status:
        closed = bus.breaker is BreakerState.CLOSED
        state = bus.line.name.lower() if closed else f"away: {bus.reason}"
        found.append(
            Row(
                name=bus.name,
                state=state if bus.lent is None else f"lent to {bus.lent}",
                well=closed and bus.lent is None,
                breaker=_breaker(closed, bus.retry_after_s),
            )
        )
        found += [_instrument_row(each, bus, watched) for each in bus.instruments]
    return found


def _instrument_row(status: InstrumentStatus, bus: BusStatus, watched: Watched) -> Row:
    serving = status.service is Service.IN_SERVICE
    state = status.service.value
    if status.tripped is not None:
        state = f"tripped: {status.tripped}"
    elif status.service is Service.QUARANTINED:
        state = f"quarantined: {status.reason}"
    counts = watched.counts.get(status.name)
    rate_hz = watched.rates_hz.get(status.name)
    return Row(
        name=f"  {status.name}",
        state=state,
        well=serving and status.tripped is None,
        breaker=_breaker(
            bus.breaker is BreakerState.CLOSED and status.retry_after_s is None,
            status.retry_after_s,
        ),
        value="  ".join(map(show_sample, watched.latest.get(status.name, {}).values())),
        rate="" if rate_hz is None else f"{rate_hz:.1f} Hz",
        late="" if counts is None else f"{counts.late}",
        missing="" if counts is None else f"{counts.missing}",
    )


def _breaker(closed: bool, retry_after_s: float | None) -> str:
    if closed:
        return "closed"
    if retry_after_s == math.inf:
        return "held open"
    return "probing" if not retry_after_s else f"open, {retry_after_s:.1f} s"


def show_sample(sample: Sample) -> str:
    """Return a sample as it is read aloud: `current 0.5 A`."""
    value = sample.value
    shown = "-" if value is None else f"{value:.5g}" if isinstance(value, float) else f"{value}"
    return f"{sample.parameter} {shown}" + (f" {sample.unit}" if sample.unit else "")


def table_of(found: Iterable[Row], title: str) -> Table:
    """Return rows as a table."""
    table = Table(title=escape(title), title_justify="left", expand=True)
    # What explains itself gets the room that is left; numbers are never cut.
    shown = list(found)
    longest = max((len(row.name) for row in shown), default=0)
    table.add_column("bus, instrument", min_width=max(longest, 15), no_wrap=True)
    table.add_column("state", ratio=2, overflow="ellipsis", no_wrap=True)
    table.add_column("breaker", min_width=12, no_wrap=True)
    table.add_column("last value", ratio=3, overflow="ellipsis", no_wrap=True)
    for name, width in (("rate", 8), ("late", 5), ("missing", 7)):
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    for row in shown:
        cells = (row.state, row.breaker, row.value, row.rate, row.late, row.missing)
        style = "green" if row.well else "yellow"
        table.add_row(row.name, Text(cells[0], style=style), *map(Text, cells[1:]))
    return table


class RateMeter:
    """Readings per second and series, over the last seconds."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._seen: deque[tuple[float, Mapping[str, int]]] = deque()

    def rates_hz(
        self, now_s: float, counts: Mapping[str, Counts], series: Mapping[str, int]
    ) -> Mapping[str, float]:
        """Note the counts at an instant and return the rates up to then.

        Args:
            now_s: The instant.
            counts: What was read so far, by instrument.
            series: How many series of each instrument are read.
        """
        self._seen.append((now_s, {name: each.read for name, each in counts.items()}))
        while self._seen[0][0] < now_s - _RATE_OVER_S:
            self._seen.popleft()
        then_s, before = self._seen[0]
        if now_s <= then_s:
            return {}
        return {
            name: (each.read - before.get(name, 0)) / (now_s - then_s) / series[name]
            for name, each in counts.items()
        }


def tally(
    summaries: Iterable[AcquisitionSummary],
) -> tuple[Mapping[str, Counts], Mapping[str, int]]:
    """Return the numbers of each instrument, and how many series it has, over all recordings."""
    counts: dict[str, Counts] = {}
    series: dict[str, int] = {}
    for summary in summaries:
        for key, each in summary.by_key().items():
            counts[key.device] = counts.get(key.device, Counts()) + each
            series[key.device] = series.get(key.device, 0) + 1
    return counts, series


def summary_table(counts: Mapping[str, Counts]) -> Table:
    """Return what became of the samples of each instrument."""
    table = Table()
    table.add_column("instrument")
    for name in ("expected", "read", "late", "missing"):
        table.add_column(name, justify="right")
    for name, each in counts.items():
        numbers = (each.expected, each.read, each.late, each.missing)
        table.add_row(Text(name), *map(str, numbers))
    return table


def branches(spec: TreeSpec) -> Branch:
    """Return a tree as it would be supervised, without running it."""
    root = Branch(Text(spec.name, style="bold"))
    groups = {each.name: each for each in spec.supervisors}
    buses = {each.name: each for each in spec.buses}
    grouped = {child for group in spec.supervisors for child in group.children}

    def add_bus(above: Branch, name: str) -> None:
        bus = buses[name]
        branch = above.add(Text(f"bus {name}  {bus.address}"))
        for each in spec.instruments:
            if each.bus == name:
                branch.add(Text(_instrument_line(each)))

    def add_group(above: Branch, group: SupervisorSpec) -> None:
        bears = f"{group.intensity.max_restarts} restarts in {group.intensity.window_s:g} s"
        branch = above.add(Text(f"supervisor {group.name}  {group.strategy.value}, {bears}"))
        for kind, name in group.children:
            match kind:
                case Kind.BUS:
                    add_bus(branch, name)
                case Kind.ACTOR:
                    add_actor(branch, name)
                case Kind.SUPERVISOR:
                    add_group(branch, groups[name])
                case Kind.PORTS | Kind.RECONCILE:
                    pass  # in no group

    def add_actor(above: Branch, name: str) -> None:
        actor = next(each for each in spec.actors if each.name == name)
        start = getattr(actor.start, "__qualname__", repr(actor.start))
        above.add(Text(f"actor {name}  {start}, {actor.restart.value}"))

    for group in spec.supervisors:
        if (Kind.SUPERVISOR, group.name) not in grouped:
            add_group(root, group)
    for bus in spec.buses:
        if (Kind.BUS, bus.name) not in grouped:
            add_bus(root, bus.name)
    for actor in spec.actors:
        if (Kind.ACTOR, actor.name) not in grouped:
            add_actor(root, actor.name)
    for each in spec.recordings:
        what = f"{', '.join(each.parameters)} into {', '.join(each.sinks)}"
        root.add(Text(f"recording {each.name}  {each.rate_hz:g} Hz: {what}"))
    return root


def _instrument_line(spec: InstrumentSpec) -> str:
    unit = "" if spec.unit_id is None else f", unit {spec.unit_id}"
    return f"instrument {spec.name}  {spec.driver.__name__}{unit}"


async def show(bench: BenchRun, console: Console, logbook: Logbook) -> None:
    """Draw a running bench until cancelled; its last state stays on the terminal."""
    meter = RateMeter()
    last: list[Row] = []
    # A terminal can be stopped: drawing happens in a thread, and holds up nobody.
    limiter = trio.CapacityLimiter(1)
    live = Live(console=console, auto_refresh=False, transient=False)

    def draw(picture: RenderableType) -> None:
        if not live.is_started:
            live.start()
        live.update(picture, refresh=True)

    try:
        while True:
            counts, series = tally(each.summary for each in bench.recordings.values())
            rates_hz = meter.rates_hz(trio.current_time(), counts, series)
            watched = Watched(bench.latest, counts, rates_hz)
            # A tree that has stopped has nothing to show: the last picture stays.
            last = rows(bench.tree.status() if bench.tree else (), watched) or last
            title = f"{bench.config.tree.name}: {bench.path}"
            if bench.stopping:
                title += f" (stopping: {bench.stopping})"
            lines = Text("\n".join(logbook.recent), style="dim", no_wrap=True, overflow="ellipsis")
            await current_clock().run_sync(
                draw,
                Group(table_of(last, title), lines),
                limiter=limiter,
                abandon_on_cancel=True,
            )
            await trio.sleep(REFRESH_S)
    finally:
        with trio.move_on_after(1.0, shield=True):
            await current_clock().run_sync(live.stop, limiter=limiter, abandon_on_cancel=True)
