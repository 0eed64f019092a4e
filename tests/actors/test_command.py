"""The life of a command, over the full product of states and events."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from actors import (
    Cause,
    Command,
    CommandError,
    CommandEvent,
    CommandMoved,
    CommandState,
    Fault,
    FaultClass,
    IllegalCommandStepError,
    Outcome,
    Plan,
    Priority,
    RefusedError,
    Ticket,
)
from transports import Exchange, Reply

S, E = CommandState, CommandEvent

LEGAL = {
    (S.QUEUED, E.DISPATCH): S.DISPATCHED,
    (S.DISPATCHED, E.ACKNOWLEDGE): S.ACKNOWLEDGED,
    (S.ACKNOWLEDGED, E.COMPLETE): S.COMPLETED,
    (S.QUEUED, E.FAIL): S.FAILED,
    (S.DISPATCHED, E.FAIL): S.FAILED,
    (S.ACKNOWLEDGED, E.FAIL): S.FAILED,
}
PATHS = {
    S.QUEUED: (),
    S.DISPATCHED: (E.DISPATCH,),
    S.ACKNOWLEDGED: (E.DISPATCH, E.ACKNOWLEDGE),
    S.COMPLETED: (E.DISPATCH, E.ACKNOWLEDGE, E.COMPLETE),
    S.FAILED: (E.FAIL,),
}
ERROR = CommandError("no", cause=Cause.DEVICE, instrument="psu", command="voltage.set")


def ticket_in(state: CommandState) -> Ticket[float]:
    """Return a ticket that was brought to `state` by legal steps."""
    plan = Plan(name="voltage", exchange=Exchange(b"VOLT?\n"), decode=float)
    command = Command(1, "benchtree://cell/psu/voltage", "psu", Priority.NORMAL, 0.0, plan)
    ticket = Ticket(command, lambda _: False)
    for event in PATHS[state]:
        take(ticket, event)
    assert ticket.state is state
    return ticket


def take(ticket: Ticket[float], event: CommandEvent) -> None:
    """Take the step that stands for `event`."""
    match event:
        case E.DISPATCH:
            ticket.dispatch()
        case E.ACKNOWLEDGE:
            ticket.acknowledge(b"")
        case E.COMPLETE:
            ticket.resolve(Outcome(value=1.0))
        case E.FAIL:
            ticket.resolve(Outcome(error=ERROR))


@pytest.mark.parametrize(("state", "event"), [*product(CommandState, CommandEvent)])
def test_every_step_is_legal_or_raises_and_changes_nothing(
    state: CommandState, event: CommandEvent
) -> None:
    """A legal step leads where the table says; any other raises and leaves the state."""
    ticket = ticket_in(state)
    if (state, event) in LEGAL:
        take(ticket, event)
        assert ticket.state is LEGAL[state, event]
    else:
        attempts = ticket.attempts
        with pytest.raises(IllegalCommandStepError, match=f"{event.name}.*{state.name}"):
            take(ticket, event)
        assert ticket.state is state
        assert ticket.attempts == attempts


def test_final_states_are_those_without_a_way_out() -> None:
    """A state is final exactly when no event leads out of it."""
    for state in CommandState:
        assert state.final == all(start is not state for start, _ in LEGAL)


@pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED])
@pytest.mark.parametrize("event", [E.COMPLETE, E.FAIL])
async def test_a_second_outcome_is_refused_and_the_first_one_stays(
    state: CommandState, event: CommandEvent
) -> None:
    """An accepted command gets exactly one outcome, however often it is read."""
    ticket = ticket_in(state)
    with pytest.raises(IllegalCommandStepError):
        take(ticket, event)
    assert await ticket.outcome() == await ticket.outcome()
    assert (await ticket.outcome()).ok is (state is S.COMPLETED)


def test_may_have_executed_follows_the_first_byte() -> None:
    """A failure before the first byte cannot have executed; one after it may have."""
    assert not ticket_in(S.QUEUED).error(Cause.EXPIRED, "late").may_have_executed
    assert ticket_in(S.DISPATCHED).error(Cause.CRASHED, "crash").may_have_executed
    assert ticket_in(S.ACKNOWLEDGED).error(Cause.DEVICE, "no").may_have_executed
    refused = ticket_in(S.ACKNOWLEDGED).error(Cause.DEVICE, "no", may_have_executed=False)
    assert not refused.may_have_executed


def test_an_outcome_tells_cause_fault_and_whether_it_may_have_executed() -> None:
    """The facts of a failure are read from the outcome as from its error."""
    fault = Fault(FaultClass("TIMEOUT"), "no reply within 1 s")
    failed = Outcome[float](
        error=CommandError(
            "no reply",
            cause=Cause.TRANSPORT,
            instrument="psu",
            command="voltage",
            may_have_executed=True,
            fault=fault,
        )
    )
    assert (failed.ok, failed.cause, failed.fault, failed.may_have_executed) == (
        False,
        Cause.TRANSPORT,
        fault,
        True,
    )
    assert str(fault) == "TIMEOUT: no reply within 1 s"
    done = Outcome(value=1.0, reply=Reply(b"1.0", 1, 2))
    assert (done.ok, done.cause, done.fault, done.may_have_executed) == (True, None, None, True)


def test_a_command_error_says_all_it_knows_in_one_line() -> None:
    """The text names instrument, command, cause, when to retry and what may have happened."""
    error = RefusedError(
        "its breaker is open",
        cause=Cause.BREAKER,
        instrument="psu",
        command="voltage",
        retry_after_s=1.5,
        may_have_executed=True,
    )
    assert str(error) == (
        "psu: voltage: its breaker is open (breaker), retry after 1.5 s, may have executed"
    )


def test_a_ticket_names_its_command_and_state() -> None:
    """The representation of a ticket says which command it is and how far it came."""
    assert repr(ticket_in(S.DISPATCHED)) == "<Ticket 1 psu: voltage DISPATCHED>"
    assert ticket_in(S.QUEUED).seq == 1


def test_a_later_step_is_the_event_that_would_have_been_made_anew() -> None:
    """It says what the first step said but for what a step changes, and is as frozen."""
    first = CommandMoved(
        mono_ns=1,
        utc_ns=2,
        bus="supply",
        instrument="psu",
        command="voltage",
        seq=7,
        state=S.QUEUED,
        writes=False,
        urgent=False,
        caller="main",
        request=b"V?\n",
    )
    changes: dict[str, Any] = {
        "mono_ns": 3,
        "utc_ns": 4,
        "state": S.FAILED,
        "attempt": 2,
        "acknowledgement": b"yes",
        "sent_ns": 5,
        "reply": b"1.0",
        "cause": Cause.TRANSPORT,
        "error": "no reply",
        "may_have_executed": True,
    }
    before = repr(first)
    later, anew = first.later(**changes), evolve(first, **changes)
    assert (later, hash(later), repr(later)) == (anew, hash(anew), repr(anew))
    assert (later.mono_ns, later.utc_ns) == (3, 4)
    assert repr(first) == before
    assert first.mono_ns == 1
    for name in ("seq", "state", "mono_ns"):
        with pytest.raises(FrozenInstanceError):
            setattr(later, name, None)
