"""The states of one line, as a table.

Rules:
1. A line is CLOSED until it is opened, and again once closed or lost.
2. One exchange at a time: SENT is legal in READY only.
3. An exchange that ends without its own reply, by timeout, cancellation or a reply
   from somebody else, makes the line STALE: its reply may still be on the way.
4. Out of STALE lead a fence whose answer was found (FENCED, then COMPLETED), a drain
   that lasted long enough (RESYNCED), and reopening.
5. An illegal step raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class LineState(Enum):
    """Where a line stands between two exchanges."""

    CLOSED = auto()
    READY = auto()
    WAITING = auto()
    STALE = auto()

    # Looked up for every step: the name needs no hash of its own.
    __hash__ = object.__hash__


class LineEvent(Enum):
    """What can happen to a line."""

    OPENED = auto()
    SENT = auto()
    COMPLETED = auto()
    ABANDONED = auto()
    FENCED = auto()
    RESYNCED = auto()
    CLOSE = auto()

    # Looked up for every step: the name needs no hash of its own.
    __hash__ = object.__hash__


# What is asked for with every exchange, by its own name: Python 3.11 takes as long to find a
# member in its class as to call a function.
READY: Final = LineState.READY
SENT: Final = LineEvent.SENT
COMPLETED: Final = LineEvent.COMPLETED

TRANSITIONS: Final[Mapping[tuple[LineState, LineEvent], LineState]] = {
    (LineState.CLOSED, LineEvent.OPENED): LineState.READY,
    (LineState.READY, LineEvent.SENT): LineState.WAITING,
    (LineState.WAITING, LineEvent.COMPLETED): LineState.READY,
    (LineState.WAITING, LineEvent.ABANDONED): LineState.STALE,
    (LineState.STALE, LineEvent.FENCED): LineState.WAITING,
    (LineState.STALE, LineEvent.RESYNCED): LineState.READY,
    **{(state, LineEvent.CLOSE): LineState.CLOSED for state in LineState},
}


class IllegalLineStepError(Exception):
    """A step that the table does not hold: a fault of the program, not of the line."""


def advance(state: LineState, event: LineEvent) -> LineState:
    """Return the state that follows `event` in `state`.

    Raises:
        IllegalLineStepError: The table has no such step.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalLineStepError(f"{event.name} is not legal in {state.name}") from None
