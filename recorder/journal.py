"""The journal of a running tree: what happens to commands, written down as it happens.

Rules:
1. Nothing waits for the journal but a hazardous command, and that for its first row alone.
2. Rows are written off the event loop, in their order, at most `BEHIND_S` after they were
   taken as long as the disk keeps up.
3. While it cannot be written, rows wait, up to `KEPT`. Beyond that whole commands are left out,
   never a part of one, and a row says how many, once it can be written again.
4. Memory is constant: bounded by `KEPT` and by the commands that have no outcome.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import trio
from attrs import define, evolve

from actors import (
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
    IdentityMismatch,
    JournalRow,
    LaneRearmed,
    LaneTripped,
    LeaseEvent,
    LeaseExpired,
    LeaseGranted,
    LeasePreempted,
    LeaseReleased,
    LeaseRevoked,
    LedgerError,
    OperationStopped,
    ReplyChannel,
    RowKind,
    SafeStateDue,
    SafeStateFailed,
    SafeStateOwed,
    SafeStateReached,
    SettingsRefused,
    SettingsRestored,
    StateDrifted,
    StateUnchecked,
    StatusFault,
    StatusUnknown,
    WriteResolved,
    current_clock,
)

from .errors import TargetExistsError
from .events import JournalFailed, JournalRestored
from .journal_closing import CLOSED, FinishedJournal
from .journal_file import JournalFile

BEHIND_S: Final = 0.1
"""How far the file is behind at most, in seconds, on a disk that keeps up."""

GATHER_S: Final = 0.05
"""How long rows wait for others before they are written, in seconds."""

STALL_S: Final = 5.0
"""How long the disk may take for one batch before the journal counts as failing, in seconds."""

RETRY_S: Final = 1.0
"""How long a journal that cannot be written waits before it tries again, in seconds."""

CLOSE_S: Final = 5.0
"""How long the last rows may take to be written, in seconds."""

COUNT_S: Final = 60.0
"""How often reads that were only counted are written down at most, in seconds."""

KEPT: Final = 10_000
"""How many rows wait for a disk that does not take them."""

_AT_ONCE: Final = 1_000
"""How many rows make one batch at most: a long one would keep the event loop from its thread."""

_LONGEST: Final = 200
"""How many bytes of a request or reply are kept."""

_STALLED: Final = f"the disk has not answered for {STALL_S:g} s"

_WORDS: Final[Mapping[type[Event], tuple[str, Callable[[Any], str]]]] = {
    LaneTripped: ("tripped", lambda each: each.reason),
    LaneRearmed: ("rearmed", lambda _: ""),
    SafeStateDue: ("safe state due", lambda each: each.reason),
    SafeStateReached: ("safe state reached", lambda each: _with_sent(each.reason, each.sent)),
    SafeStateOwed: ("safe state owed", lambda each: f"{each.reason}: {each.error}"),
    SafeStateFailed: ("safe state failed", lambda each: f"{each.reason}: {each.error}"),
    IdentityMismatch: (
        "identity mismatch",
        lambda each: f"expected {each.expected}, found {each.found}",
    ),
    SettingsRestored: (
        "settings restored",
        lambda each: _with_sent(
            f"{_listed(each.settings)}; left out: {_listed(each.left_out)}", each.sent
        ),
    ),
    SettingsRefused: (
        "settings refused",
        lambda each: f"{_listed(each.settings)}: {each.reason}",
    ),
    OperationStopped: ("stopped", lambda each: f"sent: {each.sent}"),
    BreakerChanged: ("breaker", lambda each: f"{each.state.name.lower()}: {each.reason}"),
    StateUnchecked: ("not looked at", lambda each: f"for {each.for_s:g} s: {each.reason}"),
    BusLent: ("bus lent", lambda each: f"{each.bus}, to {each.to}"),
    BusReturned: ("bus returned", lambda each: each.bus),
    AttemptFailed: (
        "attempt failed",
        lambda each: f"{each.command}: {each.fault}; again in {each.again_in_s:.3g} s",
    ),
    StateDrifted: (
        "drifted",
        lambda each: f"{each.setting} was to be {each.wanted!r}, is {each.found!r}: {each.action}",
    ),
    StatusFault: ("status fault", lambda each: f"{each.fault}: {each.reason}"),
    StatusUnknown: ("status unknown", lambda each: each.reason),
    WriteResolved: (
        "write resolved",
        lambda each: f"{each.command} was {'' if each.executed else 'not '}carried out",
    ),
    LeaseGranted: ("lease granted", lambda each: each.owner),
    LeasePreempted: ("lease preempted", lambda each: f"{each.owner}: {each.by}"),
    LeaseReleased: ("lease released", lambda each: each.owner),
    LeaseExpired: ("lease expired", lambda each: f"{each.owner}: {each.reason}"),
    LeaseRevoked: ("lease revoked", lambda each: f"{each.owner}: {each.reason}"),
}
"""The events that bear upon commands: what they are called, and what they say."""

# Asked for with each step: Python 3.11 takes as long to find a member in its class as to
# call a function.
_QUEUED: Final = CommandState.QUEUED

# What the caller did to his own read is no news.
_CALLERS_OWN: Final = (Cause.WITHDRAWN, Cause.EXPIRED)


class JournalStore(Protocol):
    """Where the batches of a journal go. Its methods block."""

    @property
    def chain(self) -> Chain:
        """How far it goes."""
        ...

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Write rows as one batch; see `JournalFile.append`."""
        ...

    def close(self) -> None:
        """Close it; closing it again is harmless."""
        ...


@define
class _Reads:
    """How the reads of one instrument have ended since that was last written down."""

    completed: int = 0
    failed: int = 0
    refused: int = 0


class Journal:
    """Takes down what happens to the commands of one tree. Made by `open_journal`.

    Attributes:
        everything: Whether each step of each read is journaled too.
        failing: Why it cannot be written now, or None.
        lost: How many rows could not be kept in all.
    """

    def __init__(self, store: JournalStore, *, tree: str, everything: bool = False) -> None:
        """Begin a journal; `keep_journal` writes it."""
        self.everything: Final = everything
        self.failing: str | None = None
        self.lost = 0
        self._store = store
        self._tree = tree
        self._publish: Callable[[Event], None] = _unpublished
        self._waiting: list[JournalRow] = []
        # The commands that are in the journal, or will be, and have no outcome yet.
        self._open: set[int] = set()
        # The hazardous ones whose first row is waited for: told None once it is on disk.
        self._awaited: dict[int, ReplyChannel[str | None]] = {}
        self._reads: defaultdict[str, _Reads] = defaultdict(_Reads)
        self._count_at_s = trio.current_time() + COUNT_S
        self._bell = trio.lowlevel.ParkingLot()
        # Where rows wait for others, unless somebody waits for them.
        self._gathering = trio.lowlevel.ParkingLot()
        self._hurried = False
        self._ending = trio.Event()
        # When the write that goes on began, in Trio time.
        self._writing_s: float | None = None
        self._limiter = trio.CapacityLimiter(1)
        # What happened since it failed: when it did, and what was left out.
        self._failed_ns: int | None = None
        self._lost_rows = 0
        self._lost_commands = 0
        self._take(self._note_row(RowKind.BEGUN, f"begun by process {os.getpid()}"))

    def __repr__(self) -> str:
        """Return how much waits and whether it can be written."""
        state = "failing" if self.failing else "writing"
        return f"<Journal {self._tree} {state} {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """How many rows are not written."""
        return len(self._waiting)

    @property
    def head(self) -> tuple[int, str]:
        """The last batch's number and seal, for whoever keeps them elsewhere."""
        chain = self._store.chain
        return chain.batches, chain.seal.hex()

    def attach(self, publish: Callable[[Event], None]) -> None:
        """Tell from now on, as events, when it cannot be written and when it can again."""
        self._publish = publish

    # What a tree gives it. Only `enter` waits.

    async def enter(self, queued: CommandMoved) -> None:
        """Return once a hazardous command's first row would survive even a power cut.

        Raises:
            LedgerError: It cannot be written, or not within `STALL_S`.
        """
        if self.failing is None and len(self._waiting) >= KEPT:
            self._fail("the disk does not keep up")
        if self.failing is not None:
            raise LedgerError(self.failing)
        self.note(queued)
        told = self._awaited[queued.seq] = ReplyChannel[str | None]()
        self._hurry()
        try:
            why: str | None = _STALLED
            with trio.move_on_after(STALL_S):
                why = await told.receive()
        finally:
            self._awaited.pop(queued.seq, None)
        if why == _STALLED:
            self._fail(_STALLED)
        if why is not None:
            raise LedgerError(why)

    def strike(self, failed: CommandMoved) -> None:
        """Take down that a command that was to be entered was not accepted after all."""
        if failed.seq in self._open:
            self.note(failed)
        else:
            self._take_if_room(_command_row(failed, RowKind.REFUSED))

    def note(self, moved: CommandMoved) -> None:
        """Take down a step of a command."""
        state, seq = moved.state, moved.seq
        if state is _QUEUED:
            if seq in self._open:
                return  # it was entered before
            if len(self._waiting) >= KEPT:
                self._lost_commands += 1
                self._lose()
                return
            self._open.add(seq)
        elif seq not in self._open:
            self._lose()  # with its first row
            return
        elif state.final:
            self._open.discard(seq)
        self._take(_command_row(moved, RowKind.COMMAND))

    def note_failed_read(self, failed: CommandMoved) -> None:
        """Count a read that failed, and take it down unless that was its caller's wish."""
        self._reads_of(failed.instrument).failed += 1
        if failed.cause not in _CALLERS_OWN:
            self._take_if_room(_command_row(failed, RowKind.READ))

    def count_read(self, instrument: str) -> None:
        """Count a read that gave its value."""
        self._reads_of(instrument).completed += 1

    def note_refused(self, refused: CommandRefused) -> None:
        """Take down that a command was not accepted; count it if it was a read."""
        if not refused.writes and not self.everything:
            self._reads_of(refused.instrument).refused += 1
            return
        self._take_if_room(
            JournalRow(
                kind=RowKind.REFUSED,
                utc_ms=refused.utc_ns // 1_000_000,
                mono_ns=refused.mono_ns,
                target=refused.target,
                instrument=refused.instrument,
                command=refused.command,
                caller=refused.caller,
                cause=refused.cause,
                may_have_executed=False,
                text=refused.error,
            )
        )

    def observe(self, event: Event) -> None:
        """Take down an event that bears upon commands; leave the others."""
        what = _WORDS.get(type(event))
        if what is None or (
            isinstance(event, BreakerChanged) and event.state is BreakerState.HALF_OPEN
        ):
            return
        kept: Any = event
        for name in _whom(event):
            self._take_if_room(
                JournalRow(
                    kind=RowKind.EVENT,
                    utc_ms=event.utc_ns // 1_000_000,
                    mono_ns=event.mono_ns,
                    seq=kept.seq if isinstance(event, AttemptFailed) else None,
                    target=f"benchtree://{self._tree}/{name}".rstrip("/"),
                    instrument=name,
                    command=what[0],
                    attempt=kept.attempt if isinstance(event, AttemptFailed) else 0,
                    lease=str(kept.token) if isinstance(event, LeaseEvent) else "",
                    text=what[1](kept),
                )
            )

    def note_closed(self, closed: Iterable[FinishedJournal]) -> None:
        """Keep where the journals of killed runs end; before anything else happens.

        Rows that are cut off the end of theirs then show against this one.
        """
        for each in closed:
            if each.end is not None:
                row = self._note_row(RowKind.EVENT, str(each.end))
                self._take_if_room(evolve(row, command=CLOSED))

    def _note_row(self, kind: RowKind, text: str, instrument: str = "") -> JournalRow:
        clock = current_clock()
        target = f"benchtree://{self._tree}"
        return JournalRow(
            kind=kind,
            utc_ms=clock.utc_ns() // 1_000_000,
            mono_ns=clock.mono_ns(),
            target=f"{target}/{instrument}" if instrument else target,
            instrument=instrument,
            text=text,
        )

    def _take_if_room(self, row: JournalRow) -> None:
        if len(self._waiting) < KEPT:
            self._take(row)
        else:
            self._lose()

    def _take(self, row: JournalRow) -> None:
        self._waiting.append(row)
        self._bell.unpark_all()
        began_s = self._writing_s
        if began_s is not None and trio.current_time() > began_s + STALL_S:
            self._fail(_STALLED)

    def _lose(self) -> None:
        self.lost += 1
        self._lost_rows += 1

    # Writing it.

    async def run(self) -> None:
        """Write what is taken down, until `end` was called and all is written or cannot be."""
        try:
            while self._waiting or not self._ending.is_set():
                await self._gather()
                await self._write()
                if self.failing is not None:
                    if self._ending.is_set():
                        break
                    with trio.move_on_after(RETRY_S):
                        await self._ending.wait()
        finally:
            await current_clock().run_sync(
                self._store.close, limiter=self._limiter, abandon_on_cancel=True
            )

    def end(self) -> None:
        """Write what is left, and end."""
        self._count_reads()
        if self._lost_rows and self.failing is None:
            self._recover()
        self._take(self._note_row(RowKind.ENDED, f"ended by process {os.getpid()}"))
        self._ending.set()
        self._hurry()

    def _hurry(self) -> None:
        self._hurried = True
        self._gathering.unpark_all()

    async def _gather(self) -> None:
        """Wait until there is something to write, and for others that may share its batch."""
        while not self._waiting:
            await self._bell.park()
        clock = current_clock()
        until_s = clock.now_s() + GATHER_S
        while not self._hurried and len(self._waiting) < _AT_ONCE and clock.now_s() < until_s:
            await clock.park_until(self._gathering, until_s)
        self._hurried = self._ending.is_set()

    def _reads_of(self, instrument: str) -> _Reads:
        if trio.current_time() >= self._count_at_s:
            self._count_reads()
        return self._reads[instrument]

    def _count_reads(self) -> None:
        """Take down how many reads there were since the last time."""
        self._count_at_s = trio.current_time() + COUNT_S
        for instrument, reads in self._reads.items():
            text = (
                f"{reads.completed} reads completed, {reads.failed} failed, "
                f"{reads.refused} were refused"
            )
            self._take_if_room(self._note_row(RowKind.COUNT, text, instrument))
        self._reads.clear()

    async def _write(self) -> None:
        rows = self._waiting[:_AT_ONCE]
        if self.failing is not None and len(rows) > 1 and rows[-1].kind is RowKind.ENDED:
            del rows[-1]  # what is missing is told before the end: nothing follows that
        entered = [row.seq for row in rows if row.state is _QUEUED and row.seq]
        durable = not self._awaited.keys().isdisjoint(entered)
        self._writing_s = trio.current_time()
        try:
            await current_clock().run_sync(
                partial(self._store.append, rows, durable=durable),
                limiter=self._limiter,
                abandon_on_cancel=True,
            )
        except (OSError, sqlite3.Error, TargetExistsError) as refused:
            self._fail(getattr(refused, "strerror", None) or str(refused))
            return
        finally:
            self._writing_s = None
        del self._waiting[: len(rows)]
        self._tell(None, entered)
        if self.failing is not None or self._lost_rows:
            self._recover()

    def _tell(self, why: str | None, seqs: Iterable[int]) -> None:
        """Tell those who wait for the first rows of these commands: written, or why not."""
        for seq in seqs:
            told = self._awaited.pop(seq, None)
            if told is not None:
                told.send(why)

    def _fail(self, reason: str) -> None:
        if self.failing is None:
            self._failed_ns = current_clock().mono_ns()
            self._publish(JournalFailed(reason=reason))
        self.failing = reason
        self._tell(reason, list(self._awaited))

    def _recover(self) -> None:
        """Write down what is missing, and say that it is written again."""
        reason, self.failing = self.failing or "the disk did not keep up", None
        now_ns = current_clock().mono_ns()
        down_s = (now_ns - (now_ns if self._failed_ns is None else self._failed_ns)) / 1e9
        text = (
            f"not written for {down_s:.3f} s: {reason}; "
            f"{self._lost_rows} rows are missing, {self._lost_commands} commands with them"
        )
        gap = self._note_row(RowKind.GAP, text)
        ending = bool(self._waiting) and self._waiting[-1].kind is RowKind.ENDED
        self._waiting.insert(len(self._waiting) - ending, gap)
        self._bell.unpark_all()
        self._publish(JournalRestored(down_s=down_s, lost=self._lost_rows))
        self._failed_ns = None
        self._lost_rows = self._lost_commands = 0


@asynccontextmanager
async def open_journal(
    path: str | os.PathLike[str],
    *,
    tree: str = "bench",
    run: str | None = None,
    everything: bool = False,
) -> AsyncGenerator[Journal]:
    """Keep a journal in a new file for the length of the block; give it to `open_tree`.

    A disk that does not take it stops nothing: the journal begins as failing, and goes on
    once it can be written.

    Args:
        path: The file.
        tree: The name of the tree.
        run: What it is of, such as a run's name; by default the file's.
        everything: Whether each step of each read is journaled too.

    Raises:
        TargetExistsError: The file is there already.
    """
    where = Path(path)
    store = JournalFile(where, tree=tree, run=where.stem if run is None else run)
    with suppress(OSError, sqlite3.Error):  # tried again with the first batch, and reported
        await current_clock().run_sync(store.create, limiter=trio.CapacityLimiter(1))
    async with keep_journal(Journal(store, tree=tree, everything=everything)) as journal:
        yield journal


@asynccontextmanager
async def keep_journal(journal: Journal) -> AsyncGenerator[Journal]:
    """Write a journal for the length of the block, and its last rows at the end.

    Cancellation does not end it before its last rows are written, or `CLOSE_S` have passed.
    """
    failure: BaseException | None = None
    writing = trio.CancelScope(shield=True)

    async def write() -> None:
        with writing:
            await journal.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            yield journal
        except BaseException as error:  # noqa: BLE001 - raised again below, out of the group
            failure = error
        journal.end()
        writing.deadline = trio.current_time() + CLOSE_S
    if failure is not None:
        raise failure


def _command_row(moved: CommandMoved, kind: RowKind) -> JournalRow:
    queued = moved.state is _QUEUED
    return JournalRow(
        kind=kind,
        utc_ms=moved.utc_ns // 1_000_000,
        mono_ns=moved.mono_ns,
        seq=moved.seq,
        state=moved.state,
        target=moved.target,
        instrument=moved.instrument,
        command=moved.command,
        caller=moved.caller,
        lease="" if moved.lease is None else str(moved.lease),
        attempt=moved.attempt,
        acknowledgement=_legible(moved.acknowledgement),
        cause=moved.cause,
        may_have_executed=moved.may_have_executed if moved.state.final else None,
        text=moved.error or "",
        request=_legible(moved.request) if queued else "",
    )


def _whom(event: Event) -> Sequence[str]:
    """Return which instruments an event is about; "" for none in particular."""
    about: Any = event
    match event:
        case LeaseEvent():
            return event.instruments
        case BreakerChanged():
            return (event.name,)
        case BusLent() | BusReturned():
            return ("",)
        case _:
            return (about.instrument,)


def _with_sent(text: str, sent: Sequence[str]) -> str:
    said = f"sent: {', '.join(sent)}" if sent else ""
    return "; ".join(filter(None, (text, said)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _legible(data: bytes) -> str:
    """Return bytes as text without loss, but for the end of what is very long."""
    if not data:
        return ""
    text = data[:_LONGEST].decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(data) <= _LONGEST else f"{text}... ({len(data)} bytes)"


def _unpublished(event: Event) -> None:
    del event
