"""`benchtree journal`: what a run's journal says, and whether it can be believed."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from attrs import asdict, evolve, frozen
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from actors import Cause, CommandState, JournalRow, RowKind
from recorder import (
    JOURNAL_FILE,
    JournalError,
    JournalReport,
    RecorderError,
    RunInfo,
    RunState,
    check_journal,
    closings,
    last_entry,
    read_entries,
    read_run,
)

from .looking import LOOK_S, Root, RunName
from .mistakes import suggest
from .run import FAILED, OK
from .runs_command import find_run

_USAGE: Final = 2
_FOLLOWED: Final = 10
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_REFUSED: Final = "refused"
_HEADING: Final = (
    f"{'time (UTC)':24} {'number':>7} {'instrument':14} {'command':22} {'state':13} {'caller':20}"
)
_OPEN_BECAUSE: Final = {
    RunState.RUNNING: "it is being written",
    RunState.FINISHED: "its end could not be written",
    RunState.KILLED: "its process was killed; the next run closes it",
}
_STYLES: Final = {
    CommandState.COMPLETED: "green",
    CommandState.FAILED: "red",
    CommandState.ACKNOWLEDGED: "cyan",
    CommandState.DISPATCHED: "cyan",
}


class _WrongOptionError(Exception):
    """An option that means nothing."""


@frozen(kw_only=True)
class _Filter:
    """Which rows are wanted, as an SQL condition and what its question marks stand for."""

    where: str
    values: Sequence[object]


@Parameter(name="*")
@frozen(kw_only=True)
class Rows:
    """Which rows are wanted.

    Attributes:
        instrument: Only of this instrument.
        state: Only rows of this state, such as "failed"; "refused" for what was not accepted.
        cause: Only what failed or was refused for this cause, such as "tripped".
        seq: Only the command of this number.
        since: Only from then on: "2026-03-01T12:00" (UTC), or "10m" ago (s, m, h, d).
        until: Only before then.
    """

    instrument: str | None = None
    state: str | None = None
    cause: str | None = None
    seq: int | None = None
    since: str | None = None
    until: str | None = None


def journal(
    run: RunName = "last",
    *,
    rows: Rows | None = None,
    lines: Annotated[int | None, Parameter(name=["--lines", "-n"])] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    verify: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    root: Root = Path("runs"),
) -> int:
    """Show what happened to the commands of a run, or check that its journal can be believed.

    Args:
        run: The run, or a journal's file.
        rows: Which rows.
        lines: Only the last so many rows; 10 with --follow unless said otherwise.
        follow: Wait for more while the run goes on.
        verify: Check the chain and the life of every command instead; exit 1 if one is broken.
        as_json: Write one JSON object a line.
        root: The folder of all runs.
    """
    try:
        path = _journal_of(find_run(run, root))
        if verify:
            return _verify(path, as_json=as_json)
        rows = rows or Rows()
        wanted = _filter(rows)
        if lines is not None and lines < 0:
            raise _WrongOptionError(f"--lines is {lines}; it takes a whole number from 0")
        show = _Json() if as_json else _Lines()
        if follow:
            _follow(path, wanted, _FOLLOWED if lines is None else lines, show)
        elif not _show(path, wanted, lines, show, 0, last_entry(path)) and lines != 0:
            sys.stderr.write(f"benchtree: no row matches{_instruments(path, rows.instrument)}\n")
    except _WrongOptionError as error:
        sys.stderr.write(f"benchtree: {error}\n")
        return _USAGE
    except RecorderError as error:
        sys.stderr.write(f"benchtree: {error}\n")
        return FAILED
    return OK


def _journal_of(found: Path) -> Path:
    return found / JOURNAL_FILE if found.is_dir() else found


# Rows.


class _Lines:
    """Rows as lines of a table, in colour on a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._headed = False

    def __call__(self, number: int, row: JournalRow) -> None:
        del number
        if not self._headed:
            self._headed = True
            self._console.print(Text(_HEADING, style="bold"))
        self._console.print(Text(_line(row), style=_style(row)))


class _Json:
    """Rows as JSON objects."""

    def __call__(self, number: int, row: JournalRow) -> None:
        said = {"number": number, "utc": _instant(row.utc_ms), **asdict(row)}
        said["kind"] = row.kind.value
        said["state"] = None if row.state is None else row.state.name
        said["cause"] = None if row.cause is None else row.cause.value
        sys.stdout.write(json.dumps(said) + "\n")


def _show(
    path: Path, wanted: _Filter, lines: int | None, show: _Lines | _Json, after: int, last: int
) -> bool:
    """Show the rows behind number `after` up to `last`, of these the last few; return if any."""
    where, values = f"number <= ? AND {wanted.where}", (last, *wanted.values)
    rows: Iterable[tuple[int, JournalRow]] = read_entries(path, where, values, after=after)
    if lines is not None:
        rows = deque(rows, maxlen=lines)
    any_shown = False
    for number, row in rows:
        show(number, row)
        any_shown = True
    sys.stdout.flush()
    return any_shown


def _follow(path: Path, wanted: _Filter, lines: int, show: _Lines | _Json) -> None:
    after = 0
    some: int | None = lines
    while True:
        # First whether it goes on: what is written meanwhile is then not missed.
        goes_on = read_run(path.parent).state is RunState.RUNNING
        last = last_entry(path)
        _show(path, wanted, some, show, after, last)
        if not goes_on:
            return
        after, some = last, None
        time.sleep(LOOK_S)


def _line(row: JournalRow) -> str:
    state = row.kind.value if row.state is None else row.state.name.lower()
    seq = "" if row.seq is None else row.seq
    head = (
        f"{_instant(row.utc_ms):24} {seq:>7} {row.instrument:14} {row.command:22} {state:13} "
        f"{_last_part(row.caller):20}"
    )
    return f"{head} {_remarks(row)}".rstrip()


def _remarks(row: JournalRow) -> str:
    said: list[str] = []
    if row.lease:
        said.append(f"lease {row.lease}")
    if row.attempt > 1:
        said.append(f"attempt {row.attempt}")
    if row.request:
        said.append(f"sends {row.request}")
    if row.acknowledgement and row.state is CommandState.ACKNOWLEDGED:
        said.append(f"answered {row.acknowledgement}")
    if row.text:
        # Who it is about stands in the columns before.
        said.append(row.text.removeprefix(f"{row.instrument}: {row.command}: "))
    elif row.cause is not None:
        said.append(row.cause.value)
    return "; ".join(said)


def _last_part(caller: str) -> str:
    """Return a task's name without the module it was defined in."""
    return caller.rpartition(".")[2]


def _style(row: JournalRow) -> str:
    if row.kind in (RowKind.REFUSED, RowKind.GAP):
        return "yellow"
    return "dim" if row.state is None else _STYLES.get(row.state, "")


def _instant(utc_ms: int) -> str:
    stamp = datetime.fromtimestamp(utc_ms / 1000, tz=UTC)
    return stamp.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


# Options.


def _filter(rows: Rows) -> _Filter:
    terms: list[str] = []
    values: list[object] = []

    def add(term: str, value: object) -> None:
        terms.append(term)
        values.append(value)

    if rows.instrument is not None:
        add("instrument = ?", rows.instrument)
    if rows.state is not None:
        names = [each.name.lower() for each in CommandState]
        chosen = _one_of("--state", rows.state.lower(), [*names, _REFUSED])
        add("kind = ?" if chosen == _REFUSED else "state = ?", _stored(chosen))
    if rows.cause is not None:
        add("cause = ?", _one_of("--cause", rows.cause.lower(), [each.value for each in Cause]))
    if rows.seq is not None:
        add("seq = ?", rows.seq)
    if rows.since is not None:
        add("utc_ms >= ?", _moment("--since", rows.since))
    if rows.until is not None:
        add("utc_ms < ?", _moment("--until", rows.until))
    return _Filter(where=" AND ".join(terms) or "1", values=values)


def _instruments(path: Path, wanted: str | None) -> str:
    """Return which instruments there are rows of, where there are none of the one wanted."""
    known = sorted({row.instrument for _, row in read_entries(path, "instrument <> ''")})
    if wanted is None or wanted in known:
        return ""
    return f"; there are rows of: {', '.join(known) or 'no instrument'}"


def _stored(state: str) -> str:
    return state if state == _REFUSED else state.upper()


def _one_of(option: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise _WrongOptionError(f"{option} is {text!r}; {suggest(text, known)}")
    return text


def _moment(option: str, text: str) -> int:
    """Return an instant in milliseconds since 1970."""
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            passed = timedelta(**{_UNITS[ago[2]]: float(ago[1])})
            return round((datetime.now(UTC) - passed).timestamp() * 1000)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise _WrongOptionError(
            f'{option} is {text!r}; write an instant as "2026-03-01T12:00:00" (UTC), '
            'or how long ago as "90s", "10m", "2h" or "1d"'
        ) from error


# Verification.


def _verify(path: Path, *, as_json: bool) -> int:
    info = read_run(path.parent)
    kept = info.metadata.get("journal")
    anchor = _anchor(kept)
    report = check_journal(path, anchor=anchor, unended=_unended(kept))
    if report.broken is None:
        report = evolve(report, broken=_unkept(info, report, anchor))
    if as_json:
        _write_report(path, report)
    else:
        _tell_report(path, report, info, anchored=anchor is not None)
    return OK if report.sound else FAILED


def _unkept(info: RunInfo, report: JournalReport, anchor: tuple[int, str] | None) -> str | None:
    """Return what contradicts where the journal should end, beyond its run's own note."""
    if anchor is None and info.state is RunState.FINISHED:
        return "the run ended, but its metadata.json does not keep where the journal did"
    for by, end in closings(info.path.parent, report.run):
        if (end.batches, end.seal) != (report.batches, report.seal):
            return (
                f"{by} closed it at batch {end.batches}, seal {end.seal}; "
                f"now it ends at batch {report.batches}"
            )
    return None


def _anchor(kept: Any) -> tuple[int, str] | None:
    """Return where the run says that the chain ends, if it does."""
    match kept:
        case None:
            return None
        case {"batches": int(batches), "seal": str(seal)}:
            return batches, seal
        case _:
            raise JournalError(f"the run's metadata does not say where its journal ends: {kept!r}")


def _unended(kept: Any) -> bool:
    """Return whether the run says that the end of its journal could not be written."""
    match kept:
        case {"unwritten": int()}:
            return True
        case _:
            return False


def _write_report(path: Path, report: JournalReport) -> None:
    said = {
        "journal": str(path),
        "sound": report.sound,
        **asdict(report, recurse=False),
        "open": [row.seq for row in report.open],
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _tell_report(path: Path, report: JournalReport, info: RunInfo, *, anchored: bool) -> None:
    sys.stdout.write(
        f"{path}: {report.rows} rows in {report.batches} batches, "
        f"{report.commands} commands of {report.tree} have ended\n"
    )
    if report.broken is not None:
        sys.stderr.write(f"benchtree: {path}: the chain breaks: {report.broken}\n")
    else:
        sys.stdout.write(f"the chain holds; its last seal is {report.seal}\n")
    for trouble in report.troubles:
        sys.stderr.write(f"benchtree: {path}: {trouble}\n")
    if report.broken is not None:
        return
    if not report.ended:
        why = _OPEN_BECAUSE[info.state]
        sys.stdout.write(f"{len(report.open)} commands are open: {why}\n")
    if not anchored:
        sys.stdout.write("nothing keeps where it ends: rows cut off its end would not show\n")
