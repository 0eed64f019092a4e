"""The journal as it is written: how far behind, what waits, and a disk that refuses."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    TRANSITIONS,
    AttemptFailed,
    BreakerChanged,
    BreakerState,
    BusLent,
    BusReturned,
    Cause,
    Chain,
    CommandMoved,
    CommandRefused,
    CommandState,
    Event,
    JournalRow,
    LaneTripped,
    LeaseGranted,
    LedgerError,
    OperationStopped,
    ReadFailed,
    Replay,
    RowKind,
    SafeStateReached,
    SettingsRestored,
    StateDrifted,
    StateUnchecked,
    WriteResolved,
    first_seal,
)
from recorder import (
    BEHIND_S,
    Journal,
    JournalFailed,
    JournalRestored,
    check_journal,
    keep_journal,
    open_journal,
    read_entries,
)

KEPT = 10_000


@define(eq=False)
class Disk:
    """A store in memory that refuses when a test says so.

    Attributes:
        rows: What was written, with the instant it was.
        durable: How many batches waited for the disk.
        full: Why nothing is taken now, or None.
        closed: Whether it was closed.
    """

    chain: Chain = field(factory=lambda: Chain(first_seal("cell", "run")))
    rows: list[tuple[float, JournalRow]] = field(factory=list[tuple[float, JournalRow]])
    durable: int = 0
    full: OSError | None = None
    closed: bool = False

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Take rows, or refuse."""
        if self.full is not None:
            raise self.full
        batch = self.chain.link(rows)
        assert self.chain.check(batch) is None
        self.durable += durable
        self.rows += [(trio.current_time(), row) for row in rows]

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def of(self, kind: RowKind) -> list[JournalRow]:
        """Return the rows of a kind."""
        return [row for _, row in self.rows if row.kind is kind]


NO_SPACE = OSError(28, "No space left on device")


def moved(seq: int, state: CommandState, cause: Cause | None = None) -> CommandMoved:
    """Return a step of a command."""
    return CommandMoved(
        bus="supply",
        instrument="psu",
        command="output.set",
        seq=seq,
        state=state,
        writes=True,
        urgent=False,
        target="benchtree://cell/psu/output.set",
        caller="ramp",
        cause=cause,
        request=b"OUTP 1\n",
    )


@asynccontextmanager
async def kept(
    disk: Disk, *, everything: bool = False
) -> AsyncGenerator[tuple[Journal, list[Event]]]:
    """Keep a journal on `disk`, and list its events."""
    events: list[Event] = []
    async with keep_journal(Journal(disk, tree="cell", everything=everything)) as journal:
        journal.attach(events.append)
        yield journal, events


LIFE = (
    CommandState.QUEUED,
    CommandState.DISPATCHED,
    CommandState.ACKNOWLEDGED,
    CommandState.COMPLETED,
)


async def test_rows_are_at_most_100_ms_behind(autojump_clock: MockClock) -> None:
    """Steady, in bursts and alone: each row is written within 100 ms, many in one batch."""
    disk = Disk()
    async with kept(disk) as (journal, _):
        for seq in range(1, 400):
            for state in LIFE:
                journal.note(moved(seq, state))
            await trio.sleep(0.0 if seq % 7 else 0.013 * (seq % 11))
        await trio.sleep(1.0)
        journal.note(moved(1000, CommandState.QUEUED))
        await trio.sleep(1.0)
        journal.note(moved(1000, CommandState.FAILED, Cause.WITHDRAWN))
    assert disk.closed
    behind = [at_s - row.mono_ns / 1e9 for at_s, row in disk.rows]
    assert max(behind) <= BEHIND_S
    assert len(disk.of(RowKind.COMMAND)) == 399 * 4 + 2
    assert disk.chain.batches < 200
    assert disk.rows[0][1].kind is RowKind.BEGUN
    assert disk.rows[-1][1].kind is RowKind.ENDED


async def test_a_hazardous_command_waits_for_its_row_only(autojump_clock: MockClock) -> None:
    """Its row is written at once and for good; it waits for no batch to fill."""
    disk = Disk()
    async with kept(disk) as (journal, _):
        await trio.sleep(1.0)
        journal.note(moved(1, CommandState.QUEUED))
        began_s = trio.current_time()
        await journal.enter(moved(2, CommandState.QUEUED))
        assert trio.current_time() == began_s
        assert [row.seq for row in disk.of(RowKind.COMMAND)] == [1, 2]
        assert disk.durable == 1
        journal.note(moved(2, CommandState.QUEUED))
        for state in LIFE[1:]:
            journal.note(moved(1, state))
            journal.note(moved(2, state))
    assert disk.durable == 1
    queued = [row for row in disk.of(RowKind.COMMAND) if row.state is CommandState.QUEUED]
    assert [row.seq for row in queued] == [1, 2]
    assert (queued[0].request, queued[0].caller) == ("OUTP 1\\n", "ramp")


async def test_a_full_disk_refuses_hazards_alone(autojump_clock: MockClock) -> None:
    """Who waits for a row is told why not; the rest is kept until there is room, and said."""
    disk = Disk(full=NO_SPACE)
    async with kept(disk) as (journal, events):
        with pytest.raises(LedgerError, match="No space left on device"):
            await journal.enter(moved(1, CommandState.QUEUED))
        journal.strike(moved(1, CommandState.FAILED, Cause.JOURNAL))
        began_s = trio.current_time()
        with pytest.raises(LedgerError, match="No space left on device"):
            await journal.enter(moved(2, CommandState.QUEUED))
        journal.strike(moved(2, CommandState.FAILED, Cause.JOURNAL))
        assert trio.current_time() == began_s
        for state in LIFE:
            journal.note(moved(3, state))
        await trio.sleep(10.0)
        assert disk.rows == []
        disk.full = None
        await trio.sleep(1.1)
        assert journal.failing is None
        await journal.enter(moved(4, CommandState.QUEUED))
        journal.note(moved(4, CommandState.FAILED))
    failed, restored = events
    assert isinstance(failed, JournalFailed)
    assert isinstance(restored, JournalRestored)
    assert failed.reason == "No space left on device"
    assert (restored.lost, round(restored.down_s)) == (0, 10)
    lives = [(row.seq, row.state) for row in disk.of(RowKind.COMMAND)]
    assert lives == [
        (1, CommandState.QUEUED),
        (1, CommandState.FAILED),
        *((3, state) for state in LIFE),
        (4, CommandState.QUEUED),
        (4, CommandState.FAILED),
    ]
    assert [(row.seq, row.cause) for row in disk.of(RowKind.REFUSED)] == [(2, Cause.JOURNAL)]
    (gap,) = disk.of(RowKind.GAP)
    assert gap.text.endswith("No space left on device; 0 rows are missing, 0 commands with them")


async def test_what_there_is_no_room_for_is_left_out_whole(autojump_clock: MockClock) -> None:
    """However long a disk refuses, memory is bounded, and no command is there by half."""
    disk = Disk(full=NO_SPACE)
    async with kept(disk) as (journal, events):
        for seq in range(1, KEPT):
            journal.note(moved(seq, LIFE[0]))
            if seq % 2:
                for state in LIFE[1:]:
                    journal.note(moved(seq, state))
            if seq % 50 == 0:
                await trio.lowlevel.checkpoint()
        begun = {seq for seq in range(2, KEPT, 2) if journal.waiting}
        assert journal.waiting < 2 * KEPT
        for seq in begun:
            for state in LIFE[1:]:
                journal.note(moved(seq, state))
            if seq % 50 == 0:
                await trio.lowlevel.checkpoint()
        for _ in range(5):
            journal.observe(LaneTripped(instrument="psu", reason="a test", failed=0))
        assert journal.waiting < 3 * KEPT
        assert journal.lost > 1000
        disk.full = None
        await trio.sleep(5.0)
        assert journal.waiting == 0
    replay = Replay()
    assert [replay.step(row) for _, row in disk.rows if replay.step(row)] == []
    assert replay.open == {}
    (gap,) = disk.of(RowKind.GAP)
    assert f"{journal.lost} rows are missing, {KEPT - 1 - replay.ended} commands" in gap.text
    assert isinstance(events[-1], JournalRestored)
    assert events[-1].lost == journal.lost


async def test_a_gap_is_told_before_the_end(autojump_clock: MockClock) -> None:
    """What is missing when the journal ends has its row, and nothing follows the end."""
    for everything_lost in (False, True):
        disk = Disk(full=NO_SPACE)
        async with kept(disk) as (journal, _):
            await trio.sleep(1.5)
            assert journal.failing is not None
            disk.full = None
            if everything_lost:
                await trio.sleep(5.0)
                journal.note(moved(9, LIFE[1]))  # of a command that is not in the journal
        kinds = [row.kind for _, row in disk.rows]
        gaps = 2 if everything_lost else 1
        assert kinds == [RowKind.BEGUN, *[RowKind.GAP] * gaps, RowKind.ENDED]


@define(eq=False)
class HungDisk(Disk):
    """A store that hangs until it is let go."""

    free: threading.Event = field(factory=threading.Event)

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Hang."""
        self.free.wait()


async def test_a_disk_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a disk that hangs: hazards are refused, and the end is bounded."""
    monkeypatch.setattr("recorder.journal.STALL_S", 0.2)
    monkeypatch.setattr("recorder.journal.CLOSE_S", 0.2)
    disk = HungDisk()
    try:
        with trio.fail_after(10.0):
            async with kept(disk) as (journal, events):
                with pytest.raises(LedgerError, match="has not answered for"):
                    await journal.enter(moved(1, CommandState.QUEUED))
                journal.strike(moved(1, CommandState.FAILED, Cause.JOURNAL))
                assert journal.failing is not None
        assert isinstance(events[0], JournalFailed)
        assert journal.waiting == 4
    finally:
        disk.free.set()


async def test_reads_are_counted(autojump_clock: MockClock) -> None:
    """Once a minute, and at the end; failed ones have rows, those taken back have none."""
    disk = Disk()
    read = evolve(moved(1, CommandState.FAILED), writes=False)
    async with kept(disk) as (journal, _):
        for _ in range(50):
            journal.count_read("dmm")
        journal.note_failed_read(evolve(read, cause=Cause.TRANSPORT))
        journal.note_failed_read(evolve(read, cause=Cause.WITHDRAWN))
        journal.note_refused(
            CommandRefused(bus="supply", instrument="psu", command="volt", cause=Cause.BREAKER)
        )
        await trio.sleep(60.0)
        journal.count_read("dmm")
        await trio.sleep(1.0)
        counted = [(row.instrument, row.text) for row in disk.of(RowKind.COUNT)]
        assert counted == [
            ("dmm", "50 reads completed, 0 failed, 0 were refused"),
            ("psu", "0 reads completed, 2 failed, 1 were refused"),
        ]
    assert disk.of(RowKind.COUNT)[2].text == "1 reads completed, 0 failed, 0 were refused"
    (failed,) = disk.of(RowKind.READ)
    assert (failed.seq, failed.cause) == (1, Cause.TRANSPORT)


async def test_what_bears_upon_commands_is_taken_down(autojump_clock: MockClock) -> None:
    """Trips, attempts, leases, one row for each instrument; not what is told elsewhere."""
    disk = Disk()
    async with kept(disk) as (journal, _):
        journal.observe(LaneTripped(instrument="psu", reason="smoke", failed=2))
        journal.observe(LeaseGranted(token=7, owner="annealing", instruments=("psu", "oven")))
        journal.observe(
            AttemptFailed(
                bus="supply",
                instrument="psu",
                command="volt.set",
                seq=4,
                attempt=1,
                fault="TIMEOUT: no reply",
                again_in_s=1.0,
            )
        )
        journal.observe(
            SettingsRestored(
                instrument="psu", settings=("volt",), left_out=(), sent=("volt.set VOLT 5",)
            )
        )
        journal.observe(SafeStateReached(instrument="psu", reason="", sent=("output.set OUTP 0",)))
        journal.observe(OperationStopped(instrument="psu", sent="ABOR"))
        journal.observe(StateUnchecked(instrument="psu", for_s=90.0, reason="it is busy"))
        journal.observe(BusLent(bus="supply", to="cell-4"))
        journal.observe(BusReturned(bus="supply"))
        for state in (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED):
            journal.observe(
                BreakerChanged(name="psu", state=state, retry_after_s=None, reason="silence")
            )
        journal.observe(
            StateDrifted(
                instrument="psu", setting="volt", wanted=5.0, found=6.0, action="reapplied"
            )
        )
        journal.observe(WriteResolved(instrument="psu", command="volt.set", executed=False))
        journal.observe(
            ReadFailed(instrument="psu", parameter="volt", error="no", cause=Cause.TRANSPORT)
        )
        refused = CommandRefused(
            bus="supply",
            instrument="psu",
            command="output.set",
            cause=Cause.TRIPPED,
            writes=True,
            error="tripped by smoke",
        )
        journal.note_refused(refused)
    told = [(row.instrument, row.command, row.lease, row.text) for row in disk.of(RowKind.EVENT)]
    assert told == [
        ("psu", "tripped", "", "smoke"),
        ("psu", "lease granted", "7", "annealing"),
        ("oven", "lease granted", "7", "annealing"),
        ("psu", "attempt failed", "", "volt.set: TIMEOUT: no reply; again in 1 s"),
        ("psu", "settings restored", "", "volt; left out: none; sent: volt.set VOLT 5"),
        ("psu", "safe state reached", "", "sent: output.set OUTP 0"),
        ("psu", "stopped", "", "sent: ABOR"),
        ("psu", "not looked at", "", "for 90 s: it is busy"),
        ("", "bus lent", "", "supply, to cell-4"),
        ("", "bus returned", "", "supply"),
        ("psu", "breaker", "", "open: silence"),
        ("psu", "breaker", "", "closed: silence"),
        ("psu", "drifted", "", "volt was to be 5.0, is 6.0: reapplied"),
        ("psu", "write resolved", "", "volt.set was not carried out"),
    ]
    (attempt,) = [row for row in disk.of(RowKind.EVENT) if row.command == "attempt failed"]
    assert (attempt.seq, attempt.attempt) == (4, 1)
    (row,) = disk.of(RowKind.REFUSED)
    assert (row.cause, row.may_have_executed) == (Cause.TRIPPED, False)


async def test_cancellation_ends_it_in_order(autojump_clock: MockClock) -> None:
    """A cancelled block still has its last rows written, and its end."""
    disk = Disk()
    with trio.CancelScope() as scope:
        async with kept(disk) as (journal, _):
            journal.note(moved(1, CommandState.QUEUED))
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                journal.note(moved(1, CommandState.FAILED))
    assert scope.cancelled_caught
    assert [row.kind for _, row in disk.rows][-1] is RowKind.ENDED
    assert len(disk.of(RowKind.COMMAND)) == 2


async def test_an_entry_that_is_cancelled_leaves_no_command(autojump_clock: MockClock) -> None:
    """Who is cancelled while the row is written strikes it: one row begins it, one ends it."""
    disk = Disk()
    async with kept(disk) as (journal, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.enter(moved(1, CommandState.QUEUED))
        assert scope.cancelled_caught
        journal.strike(moved(1, CommandState.FAILED, Cause.WITHDRAWN))
    states = [row.state for row in disk.of(RowKind.COMMAND)]
    assert states == [CommandState.QUEUED, CommandState.FAILED]


async def test_a_body_that_fails_keeps_its_error(tmp_path: Path) -> None:
    """The error of the block comes out as it is, and the file is closed."""
    path = tmp_path / "journal.sqlite"
    with pytest.raises(ValueError, match="mine"):
        async with open_journal(path, tree="cell"):
            raise ValueError("mine")
    assert check_journal(path).ended


async def test_in_a_file(tmp_path: Path) -> None:
    """In real time, into a real file: the chain holds, and each row is what was noted."""
    path = tmp_path / "journal.sqlite"
    async with open_journal(path, tree="cell", run="run-1") as journal:
        for seq in range(1, 200):
            await journal.enter(moved(seq, CommandState.QUEUED))
            for state in LIFE[1:]:
                journal.note(moved(seq, state))
    report = check_journal(path, anchor=journal.head)
    assert report.sound
    assert (report.tree, report.run, report.commands) == ("cell", "run-1", 199)
    assert len(list(read_entries(path, "state = 'COMPLETED'"))) == 199


steps = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 9), st.booleans(), st.booleans()), max_size=80
)


@given(steps)
@settings(max_examples=50, deadline=None)
def test_any_journal_obeys_the_table(choices: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever commands do while the disk comes and goes, a replay finds each whole and once."""
    disk = Disk()

    async def main() -> None:
        states: dict[int, CommandState] = {}
        numbers: dict[int, int] = {}
        async with kept(disk) as (journal, _):
            for count, (lane, choice, full, pause) in enumerate(choices, 1):
                disk.full = NO_SPACE if full else None
                state = states.get(lane)
                if state is None or state.final:
                    numbers[lane], states[lane] = count, CommandState.QUEUED
                else:
                    after = [to for (before, _), to in TRANSITIONS.items() if before is state]
                    states[lane] = after[choice % len(after)]
                journal.note(moved(numbers[lane], states[lane]))
                if pause:
                    await trio.sleep(0.3)
            disk.full = None
            for lane, state in states.items():
                if not state.final:
                    journal.note(moved(numbers[lane], CommandState.FAILED, Cause.STOPPED))
            await trio.sleep(2.0)
        assert journal.waiting == 0

    trio.run(main, clock=MockClock(autojump_threshold=0.0))
    replay = Replay()
    for _, row in disk.rows:
        assert replay.step(row) is None
    assert replay.open == {}
    assert replay.ended == len({row.seq for row in disk.of(RowKind.COMMAND)})
