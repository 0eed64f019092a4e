"""The table of line states, walked in full."""

from __future__ import annotations

from itertools import product

import pytest

from transports import IllegalLineStepError, LineEvent, LineState, advance

LEGAL = {
    (LineState.CLOSED, LineEvent.OPENED): LineState.READY,
    (LineState.READY, LineEvent.SENT): LineState.WAITING,
    (LineState.WAITING, LineEvent.COMPLETED): LineState.READY,
    (LineState.WAITING, LineEvent.ABANDONED): LineState.STALE,
    (LineState.STALE, LineEvent.FENCED): LineState.WAITING,
    (LineState.STALE, LineEvent.RESYNCED): LineState.READY,
}


@pytest.mark.parametrize(("state", "event"), list(product(LineState, LineEvent)))
def test_every_pair(state: LineState, event: LineEvent) -> None:
    """Each event is legal where the rules say so, closing everywhere, and nothing else is."""
    if event is LineEvent.CLOSE:
        assert advance(state, event) is LineState.CLOSED
    elif (state, event) in LEGAL:
        assert advance(state, event) is LEGAL[state, event]
    else:
        with pytest.raises(IllegalLineStepError, match=f"{event.name}.*{state.name}"):
            advance(state, event)


def test_stale_line_sends_nothing() -> None:
    """No path leads from an abandoned exchange to the next without resynchronisation."""
    ready_from_stale = {
        event
        for event in LineEvent
        if LEGAL.get((LineState.STALE, event)) in {LineState.READY, LineState.WAITING}
    }
    assert ready_from_stale == {LineEvent.FENCED, LineEvent.RESYNCED}
