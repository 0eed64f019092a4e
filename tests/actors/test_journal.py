"""The journal without its file: sealed rows, and what a replay finds."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from actors import (
    TRANSITIONS,
    Batch,
    Cause,
    Chain,
    CommandState,
    JournalRow,
    Replay,
    RowKind,
    closing_row,
    first_seal,
)

START = first_seal("cell", "run-1")


def row(seq: int, state: CommandState, text: str = "") -> JournalRow:
    """Return a row of a command."""
    return JournalRow(kind=RowKind.COMMAND, utc_ms=1, mono_ns=2, seq=seq, state=state, text=text)


def chained(*sizes: int) -> list[Batch]:
    """Return a sound chain of batches with so many rows."""
    chain, batches, seq = Chain(START), list[Batch](), 0
    for size in sizes:
        rows = [row(seq + n, CommandState.QUEUED, f"row {seq + n}") for n in range(size)]
        seq += size
        batches.append(chain.link(rows))
        assert chain.check(batches[-1]) is None
    return batches


def first_break(batches: list[Batch]) -> str | None:
    """Return where a chain breaks."""
    chain = Chain(START)
    return next((why for each in batches if (why := chain.check(each)) is not None), None)


texts = st.text(max_size=20)
rows = st.builds(
    JournalRow,
    kind=st.sampled_from(RowKind),
    utc_ms=st.integers(0, 2**45),
    mono_ns=st.integers(0, 2**62),
    seq=st.none() | st.integers(0, 2**40),
    state=st.none() | st.sampled_from(CommandState),
    target=texts,
    instrument=texts,
    caller=texts,
    attempt=st.integers(0, 10),
    cause=st.none() | st.sampled_from(Cause),
    may_have_executed=st.none() | st.booleans(),
    text=texts,
)


@given(rows)
def test_cells_hold_the_whole_row(written: JournalRow) -> None:
    """A row that is stored and read again is the same row."""
    assert JournalRow.from_cells(written.cells(7)) == written


def test_text_that_no_file_can_hold_is_escaped() -> None:
    """Half of a pair of code points, decoded from garbled bytes, stops no journal."""
    odd = row(1, CommandState.QUEUED, "gar\udcffbled")
    assert JournalRow.from_cells(odd.cells(1)).text == "gar\\udcffbled"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_any_change_of_a_cell_shows(sizes: list[int], data: st.DataObject) -> None:
    """Whatever cell of whatever row is changed, the chain breaks at that batch."""
    batches = chained(*sizes)
    at = data.draw(st.integers(0, len(batches) - 1))
    line = data.draw(st.integers(0, len(batches[at].cells) - 1))
    cell = data.draw(st.integers(0, 16))
    cells = [list(each) for each in batches[at].cells]
    cells[line][cell] = f"{cells[line][cell]}!"
    batches[at] = evolve(batches[at], cells=cells)
    why = first_break(batches)
    assert why is not None
    assert f"batch {at + 1}" in why


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.data())
def test_any_missing_row_or_batch_shows(sizes: list[int], data: st.DataObject) -> None:
    """A row that was taken out shows, and so does a batch that others follow."""
    batches = chained(*sizes)
    at = data.draw(st.integers(0, len(batches) - 2))
    without = [*batches[:at], *batches[at + 1 :]]
    assert first_break(without) == f"batch {at + 1} is missing"
    fewer = evolve(batches[at], cells=batches[at].cells[1:])
    assert first_break([*batches[:at], fewer, *batches[at + 1 :]]) is not None


def test_a_batch_sealed_anew_breaks_the_next_one() -> None:
    """Whoever changes a batch and seals it again has to seal all that follow it."""
    batches = chained(2, 2, 2)
    forged = Chain(batches[0].seal, batches=1, rows=2).link([row(9, CommandState.QUEUED)] * 2)
    assert first_break([batches[0], forged, batches[2]]) == (
        "batch 3 does not follow the one before it"
    )


def test_a_journal_of_another_run_shows() -> None:
    """A chain begins with the tree and the run that it belongs to."""
    batches = chained(1)
    why = Chain(first_seal("cell", "run-2")).check(batches[0])
    assert why == "batch 1 does not follow the one before it"


walks = st.lists(st.integers(0, 4), max_size=40)


@given(walks)
def test_a_replay_accepts_what_the_table_allows(choices: list[int]) -> None:
    """Several commands that each move along the table are found in order, each ended once."""
    replay = Replay()
    states: dict[int, CommandState] = {}
    for choice in choices:
        state = states.get(choice)
        if state is None:
            states[choice] = CommandState.QUEUED
        elif state.final:
            continue
        else:
            after = [to for (before, _), to in TRANSITIONS.items() if before is state]
            states[choice] = after[len(states) % len(after)]
        assert replay.step(row(choice, states[choice])) is None
    assert set(replay.open) == {seq for seq, state in states.items() if not state.final}
    assert replay.ended == sum(state.final for state in states.values())


@given(st.lists(st.sampled_from(CommandState), min_size=1, max_size=6))
def test_a_replay_refuses_what_the_table_does_not_allow(states: list[CommandState]) -> None:
    """Any sequence of states of one command is accepted exactly as far as the table goes."""
    replay, at = Replay(), None
    for state in states:
        allowed = (
            state is CommandState.QUEUED
            if at is None
            else any(before is at and to is state for (before, _), to in TRANSITIONS.items())
        )
        assert (replay.step(row(5, state)) is None) is allowed
        if not allowed:
            return
        at = state


def test_a_number_is_given_once() -> None:
    """A command that begins again after its end, or ends twice, is found; far numbers as well."""
    replay = Replay()
    for state in (CommandState.QUEUED, CommandState.FAILED):
        assert replay.step(row(2**50, state)) is None
    assert replay.step(row(2**50, CommandState.QUEUED)) == (
        f"command {2**50} went to QUEUED after its end"
    )
    assert replay.step(row(2**50, CommandState.FAILED)) is not None


def test_a_killed_command_may_have_been_carried_out() -> None:
    """Even one that is only known to be queued: its next row may not have been written."""
    closed = closing_row(row(3, CommandState.QUEUED), utc_ms=9, mono_ns=8)
    assert (closed.state, closed.cause, closed.may_have_executed) == (
        CommandState.FAILED,
        Cause.CRASHED,
        True,
    )
    replay = Replay()
    replay.step(row(3, CommandState.QUEUED))
    assert replay.step(closed) is None
    assert replay.open == {}
