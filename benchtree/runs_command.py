"""Looking at runs from the command line: a list of them, and the last samples of one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from recorder import NoSamplesError, RunInfo, RunState, find_runs, find_samples

from .run_events import read_events

_TAIL: Final = (
    "SELECT rowid, t_utc_ns, device, parameter, instance, value, value_type, unit"
    " FROM samples WHERE rowid > ? ORDER BY rowid"
)

# The last rows are enough: samples are appended nearly in the order of time.
_LAST: Final = (
    "SELECT max(t_utc_ns) FROM samples WHERE rowid > (SELECT max(rowid) FROM samples) - 100"
)


def runs_table(infos: Sequence[RunInfo]) -> Table:
    """Return runs as a table, oldest first."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("run", "left"),
        ("started (UTC)", "left"),
        ("duration", "right"),
        ("samples", "right"),
        ("missing", "right"),
        ("status", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    for info in infos:
        table.add_row(*_cells(info))
    return table


def _cells(info: RunInfo) -> tuple[str, str, str, str, str, str]:
    metadata = info.metadata
    started, finished = (
        _instant(metadata.get("started_utc")),
        _instant(metadata.get("finished_utc")),
    )
    recordings: Any = metadata.get("recordings") or {}
    read: int | None = _sum(recordings, "samples_read")
    missing: int | None = _sum(recordings, "samples_missing")
    if not recordings:
        # It goes on, or was killed: the file is asked.
        read, missing = _count(info.path), None
    return (
        info.path.name,
        "" if started is None else started.strftime("%Y-%m-%d %H:%M:%S"),
        _duration(started, finished or _last(info)),
        _number(read),
        _number(missing),
        _status(info),
    )


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def _status(info: RunInfo) -> str:
    if info.state is not RunState.FINISHED:
        return str(info.state.value)
    status = info.metadata.get("exit_status")
    outcome = info.metadata.get("outcome") or ("ok" if status == 0 else "failed")
    return f"{outcome}" if status == 0 else f"{outcome} ({status})"


def _last(info: RunInfo) -> datetime | None:
    """Return the time of the last sample of a run that was not closed."""
    if info.state is RunState.RUNNING:
        return datetime.now(UTC)
    found = _ask(
        info.path,
        "SELECT max(t_utc_ns) FROM samples WHERE rowid > (SELECT max(rowid) FROM samples) - 100",
    )
    return None if found is None else datetime.fromtimestamp(found / 1e9, tz=UTC)


def _count(folder: Path) -> int | None:
    return _ask(folder, "SELECT max(rowid) FROM samples") or None


def _ask(folder: Path, query: str) -> int | None:
    try:
        path = find_samples(folder)
        if path.suffix != ".sqlite":
            return None
        with closing(_open(path)) as database:
            found: int | None = database.execute(query).fetchone()[0]
            return found
    except (NoSamplesError, sqlite3.Error):
        return None


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _sum(recordings: Mapping[str, Mapping[str, Any]], name: str) -> int:
    return sum(each.get(name, 0) for each in recordings.values())


def _instant(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _duration(started: datetime | None, finished: datetime | None) -> str:
    if started is None or finished is None:
        return ""
    seconds = round((finished - started).total_seconds())
    days, rest = divmod(seconds, 86_400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {text}" if days else text


def find_run(name: str, root: Path) -> Path:
    """Return a run's folder: a path, a run's name or the unique end of one, or "last".

    Raises:
        NoSamplesError: There is no such run, or more than one.
    """
    path = Path(name)
    if path.exists():
        return path
    known = [info.path for info in find_runs(root)]
    if name == "last" and known:
        return known[-1]
    found = [each for each in known if each.name == name] or [
        each for each in known if each.name.endswith(name) or f"-{name}-" in each.name
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        raise NoSamplesError(f"more than one run is called {name}: {names}")
    raise NoSamplesError(f"there is no run {name} in {root}; see: benchtree runs")


def newest_samples(folder: Path, after: int | None, count: int) -> tuple[int, Iterator[str]]:
    """Return where the samples of a run end, and those after `after` as lines.

    Args:
        folder: The run's folder.
        after: What the last call returned; None for the last `count` samples.
        count: How many lines at first.

    Raises:
        NoSamplesError: The run has no SQLite file, or a damaged one.
    """
    path = find_samples(folder)
    if path.suffix != ".sqlite":
        raise NoSamplesError(f"{folder} has no SQLite file to look into; try: tail -f {path}")
    with closing(_open(path)) as database:
        try:
            if after is None:
                (last,) = database.execute("SELECT coalesce(max(rowid), 0) FROM samples").fetchone()
                after = max(0, last - count)
            rows = database.execute(_TAIL, (after,)).fetchall()
        except sqlite3.DatabaseError as error:
            raise NoSamplesError(f"{path} is damaged, or no recording: {error}") from error
    return (rows[-1][0] if rows else after), map(_line, rows)


def _line(row: tuple[Any, ...]) -> str:
    _, utc_ns, device, parameter, instance, value, kind, unit = row
    stamp = datetime.fromtimestamp(utc_ns // 1000 / 1e6, tz=UTC).strftime("%H:%M:%S.%f")[:-3]
    match kind, value:
        case "none", _:
            text = "unavailable"
        case "float", None:
            text = "nan"
        case "float", _:
            text = f"{value:.6g}"
        case "bool", _:
            text = "true" if value else "false"
        case _:
            text = str(value)
    name = f"{device}.{parameter}" + (f"[{instance}]" if instance != 1 else "")
    return f"{stamp}Z  {name:32} {text:>14} {unit or ''}".rstrip()


def restarts(folder: Path) -> Sequence[tuple[int, str, str]]:
    """Return what a picture of a run marks: wall clock in ns, a word, and who it was about."""
    marks: list[tuple[int, str, str]] = []
    for event in read_events(folder):
        at_ns: int = event.get("utc_ns", 0)
        match event.get("event"):
            case "SourceLost":
                marks += [(at_ns, "lost", device) for device in event["devices"]]
            case "SourceReturned":
                marks += [(at_ns, "back", device) for device in event["devices"]]
            case "ChildRestarting":
                marks.append((at_ns, "restarted", event["child"]))
            case "LaneTripped":
                marks.append((at_ns, "tripped", event["instrument"]))
            case _:
                pass
    return marks
