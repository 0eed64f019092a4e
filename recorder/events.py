"""What happens to a recording, as values handed to its observer.

They are events like those of a bench: an observer of one can be the observer of the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from attrs import frozen

from actors import Event

QUIET_S: Final = 10.0
"""How long failed reads of one source are only counted after they were reported."""

_log = logging.getLogger(__name__)


@frozen(kw_only=True)
class RecordingStarted(Event):
    """A recording was entered; its first slot begins now."""

    rate_hz: float
    parameters: tuple[str, ...]
    series: tuple[str, ...]


@frozen(kw_only=True)
class RecordingEnded(Event):
    """A recording polls no more.

    Attributes:
        reason: Why.
        slots: How many slots it had.
    """

    reason: str
    slots: int


@frozen(kw_only=True)
class SourceLost(Event):
    """A source's connection was lost; what it owes is missing until it is back.

    Attributes:
        source: The source or bus.
        devices: Whose samples it was delivering.
        reason: What was seen.
    """

    source: str
    devices: tuple[str, ...]
    reason: str


@frozen(kw_only=True)
class SourceReturned(Event):
    """A lost source delivers again."""

    source: str
    devices: tuple[str, ...]


@frozen(kw_only=True)
class SeriesAdded(Event):
    """More is expected of a source from now on."""

    source: str
    series: tuple[str, ...]


@frozen(kw_only=True)
class SeriesRemoved(Event):
    """Less is expected of a source from now on."""

    source: str
    series: tuple[str, ...]


@frozen(kw_only=True)
class ReadsFailed(Event):
    """Something that a slot owed was asked for and not given.

    Attributes:
        source: The source or bus.
        series: What is missing.
        error: What the poll raised, in words; None where it just did not answer.
        repeated: How often it happened since it was last reported.
    """

    source: str
    series: tuple[str, ...]
    error: str | None
    repeated: int = 0


@frozen(kw_only=True)
class JournalFailed(Event):
    """The journal cannot be written: hazardous commands are refused until it can be again."""

    reason: str


@frozen(kw_only=True)
class JournalRestored(Event):
    """The journal is written again.

    Attributes:
        down_s: How long it was not, in seconds.
        lost: How many rows could not be kept meanwhile.
    """

    down_s: float
    lost: int


def log_event(event: Event) -> None:
    """Log one event of a recording: what goes wrong as a warning."""
    match event:
        case SourceLost(source=source, reason=reason):
            _log.warning("%s: lost: %s", source, reason)
        case ReadsFailed(source=source, series=series, error=error, repeated=repeated):
            what = ", ".join(series) or "everything"
            again = f" ({repeated} times more since the last report)" if repeated else ""
            _log.warning("%s: %s not read: %s%s", source, what, error or "no answer", again)
        case _:
            _log.info("%s", event)


class Complaints:
    """Reports failed reads, of one source at most every `QUIET_S` seconds, and counts the rest."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        """Report to `publish`."""
        self._publish = publish
        self._reported: dict[str, tuple[int, int]] = {}

    def add(self, failed: ReadsFailed) -> None:
        """Report or count one failure."""
        at_ns, count = self._reported.get(failed.source, (None, 0))
        if at_ns is not None and failed.mono_ns < at_ns + QUIET_S * 1e9:
            self._reported[failed.source] = (at_ns, count + 1)
            return
        self._reported[failed.source] = (failed.mono_ns, 0)
        self._publish(
            ReadsFailed(
                mono_ns=failed.mono_ns,
                utc_ns=failed.utc_ns,
                source=failed.source,
                series=failed.series,
                error=failed.error,
                repeated=count,
            )
        )
