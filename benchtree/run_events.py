"""What happened during a run, in a file of its folder: one line of JSON per event.

It says when buses and instruments were lost and came back, what was restarted, and how the
recordings went. Routine is left out: commands, single reads, breakers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import trio
from attrs import asdict

from actors import (
    BusLent,
    BusLost,
    BusOpened,
    BusReturned,
    ChildEnded,
    ChildRestarting,
    Event,
    IdentityMismatch,
    InstrumentIdentified,
    InstrumentQuarantined,
    LaneRearmed,
    LaneTripped,
    LeaseEvent,
    SafeStateFailed,
    SafeStateOwed,
    SafeStateReached,
    ServiceRequestsUntold,
    StateDrifted,
    StateUnchecked,
    StatusFault,
    StatusUnknown,
    SupervisorGaveUp,
    WriteResolved,
    current_clock,
)
from recorder import (
    JournalFailed,
    JournalRestored,
    RecordingEnded,
    RecordingStarted,
    SeriesAdded,
    SeriesRemoved,
    SourceLost,
    SourceReturned,
)

EVENTS_FILE: Final = "events.jsonl"
"""The events of a run, in its folder."""

_KEPT: Final = (
    BusLent,
    BusLost,
    BusOpened,
    BusReturned,
    ChildRestarting,
    IdentityMismatch,
    InstrumentIdentified,
    InstrumentQuarantined,
    JournalFailed,
    JournalRestored,
    LaneRearmed,
    LaneTripped,
    LeaseEvent,
    RecordingEnded,
    RecordingStarted,
    SafeStateFailed,
    SafeStateOwed,
    SafeStateReached,
    SeriesAdded,
    SeriesRemoved,
    SourceLost,
    SourceReturned,
    StateDrifted,
    StateUnchecked,
    ServiceRequestsUntold,
    StatusFault,
    StatusUnknown,
    SupervisorGaveUp,
    WriteResolved,
)
_WAITING: Final = 10_000


class EventFile:
    """Appends events to a file, off the event loop."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, which is made with the first event."""
        self._path = path
        self._lines: list[str] = []
        self._bell = trio.Event()
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        """Return the path."""
        return f"<EventFile {self._path}>"

    def add(self, event: Event) -> None:
        """Take an event over, if it is one to keep. Never waits."""
        keep = isinstance(event, _KEPT) or (isinstance(event, ChildEnded) and event.error)
        if keep and len(self._lines) < _WAITING:
            self._lines.append(json.dumps(as_plain(event)) + "\n")
            self._bell.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            self._bell = trio.Event()
            if self._lines:
                await self.flush()
            else:
                await self._bell.wait()

    async def flush(self) -> None:
        """Write what is there; a disk that refuses costs these lines and nothing else."""
        text = "".join(self._lines)
        self._lines.clear()
        await current_clock().run_sync(self._append, text, limiter=self._limiter)

    def _append(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            return  # the samples are what counts; they say themselves when the disk is full


def as_plain(event: Event) -> dict[str, object]:
    """Return an event as plain values, its kind first."""

    def plain(instance: object, attribute: object, value: object) -> object:
        del instance, attribute
        return value.value if isinstance(value, Enum) else value

    return {"event": type(event).__name__, **asdict(event, value_serializer=plain)}


def read_events(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Return the events of a run, oldest first; none where there is no such file."""
    path = folder / EVENTS_FILE
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    # A line that a kill has cut short has no end.
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
