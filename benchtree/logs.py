"""Log lines: one observer among others, and lines that never hold up the event loop.

A terminal can be stopped (Ctrl-S) and a disk can hang. So lines are queued, and each
outlet is written by a task of its own, in a thread.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from attrs import define
from attrs import fields as attrs_fields

from actors import (
    BreakerChanged,
    BreakerState,
    BusLost,
    Cause,
    ChildEnded,
    ChildOverdue,
    ChildRestarting,
    ChildStarted,
    CommandFinished,
    Event,
    IdentityMismatch,
    InstrumentIdentified,
    InstrumentQuarantined,
    LaneRearmed,
    LaneTripped,
    ReadFailed,
    SafeStateFailed,
    SafeStateOwed,
    SettingsRefused,
    SettingsRestored,
    StateDrifted,
    StateUnchecked,
    StatusFault,
    StatusUnknown,
    SupervisorGaveUp,
    current_clock,
)
from recorder import JournalFailed, JournalRestored, ReadsFailed, SourceLost, SourceReturned

from .loop_watch import LoopHeldUp

QUIET_S: Final = 10.0
"""How long a repeated failure is only counted, in seconds."""

FLUSH_S: Final = 2.0
"""How long the last lines may take to be written, in seconds."""

_KEPT: Final = 2_000
_RECENT: Final = 5

# What the caller did is no news.
_CALLERS_OWN: Final = (Cause.WITHDRAWN, Cause.EXPIRED)


class Logbook:
    """Takes lines from any thread and hands them to outlets. Made by `open_logbook`.

    Attributes:
        recent: The last few lines.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        """Start without outlets; their tasks run in `nursery`."""
        self.recent: deque[str] = deque(maxlen=_RECENT)
        self._nursery = nursery
        self._outlets: list[_Outlet] = []
        self._token = trio.lowlevel.current_trio_token()

    def __repr__(self) -> str:
        """Return how many outlets there are."""
        return f"<Logbook {len(self._outlets)} outlets>"

    def add(self, write: Callable[[str], None]) -> None:
        """Hand every line from now on to `write`, which may block."""
        outlet = _Outlet(write)
        self._outlets.append(outlet)
        self._nursery.start_soon(outlet.run)

    def keep_in(self, path: Path) -> None:
        """Append every line from now on to a file."""

        def write(text: str) -> None:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)

        self.add(write)

    def write(self, line: str) -> None:
        """Take a line. Never waits; lines that an outlet is too slow for are counted."""
        self.recent.append(line)
        for outlet in self._outlets:
            outlet.put(line)
        # Harmless from inside the event loop, and needed from any other thread.
        self._token.run_sync_soon(self._ring, idempotent=True)

    # structlog calls the method that is named like the level.
    debug = info = warning = error = critical = write

    def end(self) -> None:
        """Let the outlets write what is left, and end."""
        for outlet in self._outlets:
            outlet.ended = True
        self._ring()

    def _ring(self) -> None:
        for outlet in self._outlets:
            outlet.bell.set()


@asynccontextmanager
async def open_logbook(*, to_stderr: bool, verbose: bool = False) -> AsyncGenerator[Logbook]:
    """Take the log lines of structlog and of the standard library for the block's length.

    Args:
        to_stderr: Whether they are shown on standard error.
        verbose: Whether routine lines (level debug) are among them.
    """
    level = logging.DEBUG if verbose else logging.INFO
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        logbook = Logbook(nursery)
        if to_stderr:
            logbook.add(_to_stderr)
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                _add_stamp,
                structlog.dev.ConsoleRenderer(
                    colors=False,
                    pad_event_to=32,
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=lambda *_: logbook,
            cache_logger_on_first_use=False,
        )
        bridge = _Bridge(logging.WARNING)
        logging.getLogger().addHandler(bridge)
        try:
            yield logbook
        except Exception as error:  # noqa: BLE001 - raised again below, out of the nursery's group
            failure = error
        finally:
            logging.getLogger().removeHandler(bridge)
            structlog.reset_defaults()
            logbook.end()
            nursery.cancel_scope.shield = True
            nursery.cancel_scope.deadline = trio.current_time() + FLUSH_S
    if failure is not None:
        raise failure


class EventLog:
    """An observer that turns events into log lines.

    What goes wrong again and again, for one instrument and cause, is logged once and then
    counted: at most one line every `QUIET_S` seconds, and one when it is over.
    """

    def __init__(self) -> None:
        """Start with nothing counted; lines go where structlog is configured to."""
        self._logger: Any = structlog.get_logger("benchtree")
        self._repeats: dict[tuple[str, str, Cause], _Repeats] = {}

    def __call__(self, event: Event) -> None:
        """Log one event, or count it."""
        match event:
            case ReadFailed(instrument=instrument, cause=cause):
                self._failed((instrument, "reads", cause), event)
            case CommandFinished(cause=Cause() as cause) if cause not in _CALLERS_OWN:
                self._failed((event.instrument, event.command, cause), event)
            case InstrumentIdentified(instrument=instrument):
                self._over(instrument, event)
                self._log(logging.INFO, event, instrument=instrument, identity=event.identity)
            case _:
                level, fields = _level(event), _fields(event)
                self._log(level, event, **fields)

    def finish(self, event: Event) -> None:
        """Log what is only counted so far; `event` gives the time."""
        for instrument in {key[0] for key in self._repeats}:
            self._over(instrument, event)

    def _failed(self, key: tuple[str, str, Cause], event: Event, **fields: object) -> None:
        repeats = self._repeats.get(key)
        if repeats is not None and event.mono_ns < repeats.logged_ns + QUIET_S * 1e9:
            repeats.count += 1
            return
        if repeats is not None and repeats.count:
            fields["repeated"] = repeats.count
        self._repeats[key] = _Repeats(event.mono_ns)
        text = "read failed" if isinstance(event, ReadFailed) else "command failed"
        self._line(logging.WARNING, text, event, **_fields(event), **fields)

    def _over(self, instrument: str, event: Event) -> None:
        for key in [each for each in self._repeats if each[0] == instrument]:
            repeats = self._repeats.pop(key)
            if repeats.count:
                fields = {"instrument": instrument, "what": key[1], "cause": key[2].value}
                self._line(logging.INFO, "failed more often", event, times=repeats.count, **fields)

    def _log(self, level: int, event: Event, **fields: object) -> None:
        self._line(level, _words(type(event).__name__), event, **fields)

    def _line(self, level: int, text: str, event: Event, **fields: object) -> None:
        self._logger.log(level, text, timestamp=_stamp(event.utc_ns), **fields)


@define
class _Repeats:
    """How often one failure came again since it was last logged."""

    logged_ns: int
    count: int = 0


def _level(event: Event) -> int:
    match event:
        case ChildStarted() | CommandFinished() | ChildEnded(error=None):
            return logging.DEBUG
        case BreakerChanged(state=BreakerState.HALF_OPEN):
            return logging.DEBUG
        case ReadsFailed() | SourceLost() | SourceReturned():
            return logging.DEBUG  # the bus has said so
        case BreakerChanged(state=BreakerState.CLOSED) | LaneTripped() | LaneRearmed():
            return logging.INFO
        case SettingsRestored(left_out=left_out):
            return logging.WARNING if left_out else logging.INFO
        case BreakerChanged() | BusLost() | InstrumentQuarantined() | SafeStateOwed():
            return logging.WARNING
        case ChildRestarting() | ChildOverdue() | JournalRestored() | LoopHeldUp():
            return logging.WARNING
        case StateDrifted() | StateUnchecked() | StatusFault() | StatusUnknown():
            return logging.WARNING
        case (
            JournalFailed()
            | ChildEnded()
            | SupervisorGaveUp()
            | IdentityMismatch()
            | SafeStateFailed()
            | SettingsRefused()
        ):
            return logging.ERROR
        case _:
            return logging.INFO


def _fields(event: Event) -> dict[str, object]:
    """Return what an event says, in plain values, without its stamps."""
    said: dict[str, object] = {}
    stamps = {each.name for each in attrs_fields(Event)}
    for each in attrs_fields(type(event)):
        if each.name in stamps or (value := getattr(event, each.name)) is None:
            continue
        match value:
            case float():
                said[each.name] = round(value, 3)
            case Cause():
                said[each.name] = value.value
            case BreakerState():
                said[each.name] = value.name
            case _:
                said[each.name] = value
    return said


def _words(name: str) -> str:
    """Return the name of an event's class as words: "bus lost"."""
    return "".join(f" {each.lower()}" if each.isupper() else each for each in name).strip()


def _add_stamp(
    logger: object, name: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Stamp a line that is no event's."""
    del logger, name
    if "timestamp" not in line:
        # A line may come from any thread, where there is no clock of a Trio run.
        line["timestamp"] = _text(datetime.now(UTC))
    return line


def _stamp(utc_ns: int) -> str:
    return _text(datetime.fromtimestamp(utc_ns // 1000 / 1e6, tz=UTC))


def _text(utc: datetime) -> str:
    """Return every stamp in one form: 2024-05-07T12:00:00.934Z."""
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class _Outlet:
    """One place where lines go, and what waits for it."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.bell = trio.Event()
        self.ended = False
        self._write = write
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._limiter = trio.CapacityLimiter(1)

    def put(self, line: str) -> None:
        if len(self._waiting) == _KEPT:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(line)

    async def run(self) -> None:
        """Write until the end; an outlet that fails is given up."""
        while True:
            self.bell = trio.Event()
            if self._waiting:
                lines = list(self._waiting)
                self._waiting.clear()
                if self._dropped:
                    lines.insert(0, f"({self._dropped} lines were dropped here)")
                    self._dropped = 0
                text = "".join(f"{line}\n" for line in lines)
                try:
                    await current_clock().run_sync(
                        self._write, text, limiter=self._limiter, abandon_on_cancel=True
                    )
                except OSError:
                    return  # nobody can be told: this is how they would be
            elif self.ended:
                return
            else:
                await self.bell.wait()


class _Bridge(logging.Handler):
    """Hands records of the standard library to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        logger: Any = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
