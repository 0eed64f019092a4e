"""Hazardous commands are on disk before they enter their lane."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors import (
    Cause,
    CommandMoved,
    CommandRefused,
    CommandState,
    LedgerError,
    Priority,
    RefusedError,
)

from .bench import Bench, Parts, Witness, WitnessModel, bench_running


@define(eq=False)
class Book:
    """A ledger whose disk a test directs.

    Attributes:
        entered: What is on disk.
        struck: What was entered and not accepted after all.
        noted: The steps of the commands it was told of.
        failed: The reads that failed.
        refused: What was not accepted and not entered.
        read: How many reads gave a value, by instrument.
        takes_s: How long the disk takes.
        full: Whether it is full.
        everything: Whether it wants each step of reads too.
    """

    entered: list[CommandMoved] = field(factory=list[CommandMoved])
    struck: list[CommandMoved] = field(factory=list[CommandMoved])
    noted: list[CommandMoved] = field(factory=list[CommandMoved])
    failed: list[CommandMoved] = field(factory=list[CommandMoved])
    refused: list[CommandRefused] = field(factory=list[CommandRefused])
    read: Counter[str] = field(factory=Counter[str])
    takes_s: float = 0.1
    full: bool = False
    everything: bool = False

    async def enter(self, queued: CommandMoved) -> None:
        """Write after a while."""
        await trio.sleep(self.takes_s)
        if self.full:
            raise LedgerError("No space left on device")
        self.entered.append(queued)

    def strike(self, failed: CommandMoved) -> None:
        """Note it."""
        self.struck.append(failed)

    def note(self, moved: CommandMoved) -> None:
        """Note it."""
        self.noted.append(moved)

    def note_failed_read(self, failed: CommandMoved) -> None:
        """Note it."""
        self.failed.append(failed)

    def note_refused(self, refused: CommandRefused) -> None:
        """Note it."""
        self.refused.append(refused)

    def count_read(self, instrument: str) -> None:
        """Count it."""
        self.read[instrument] += 1


def make(book: Book) -> tuple[Bench, Witness]:
    """Return a bench whose bus keeps `book`, and its instrument."""
    device = Witness("a")
    return Bench(WitnessModel(), [device], Parts(), ledger=book), device


async def test_entered_first(autojump_clock: MockClock) -> None:
    """A hazardous command goes after its row is on disk; others wait for no disk."""
    book = Book()
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        harmless = await bench.bus.submit(a, a.write("v 5"))
        assert trio.current_time() < book.takes_s
        assert (await harmless.outcome()).ok
        began_s = trio.current_time()
        ticket = await bench.bus.submit(a, a.write("out 1", hazardous=True), caller="ramp")
        assert (await ticket.outcome()).ok
    (row,) = book.entered
    assert (row.seq, row.state, row.hazardous, row.caller) == (
        ticket.seq,
        CommandState.QUEUED,
        True,
        "ramp",
    )
    assert row.target == "benchtree://bench/a/out.set"
    (sent_s,) = [at_s for at_s, data in bench.line.requests if b"out 1" in data]
    assert sent_s >= began_s + book.takes_s
    assert not book.struck


async def test_full_disk(autojump_clock: MockClock) -> None:
    """Without a row a hazardous command is refused (journal); no byte of it arrives."""
    book = Book(full=True)
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        with pytest.raises(RefusedError, match="No space left on device") as refused:
            await bench.bus.submit(a, a.write("out 1", hazardous=True))
        assert refused.value.cause is Cause.JOURNAL
        assert not refused.value.may_have_executed
        assert (await (await bench.bus.submit(a, a.write("out 0"))).outcome()).ok
    assert not any("out 1" in text for text in bench.sent())
    (row,) = book.struck
    assert (row.state, row.cause) == (CommandState.FAILED, Cause.JOURNAL)


async def test_emergency_waits_for_no_disk(autojump_clock: MockClock) -> None:
    """Emergencies and safe states never wait for the ledger."""
    book = Book(takes_s=math.inf)
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        with trio.fail_after(1.0):
            vent = a.write("vent 1", hazardous=True)
            ticket = await bench.bus.submit(a, vent, priority=Priority.EMERGENCY)
            assert (await ticket.outcome()).ok
            await bench.until(lambda: not bench.status().safe_owed)
    assert not book.entered


async def test_tripped_meanwhile(autojump_clock: MockClock) -> None:
    """What is tripped while the disk is written is refused, and its row ends too."""
    book = Book()
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()

        async def trip() -> None:
            await trio.sleep(book.takes_s / 2)
            bench.bus.trip("a", "a test")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trip)
            with pytest.raises(RefusedError) as refused:
                await bench.bus.submit(a, a.write("out 1", hazardous=True))
        assert refused.value.cause is Cause.TRIPPED
    (row,) = book.struck
    assert (row.seq, row.cause) == (book.entered[0].seq, Cause.TRIPPED)
    assert not any("out 1" in text for text in bench.sent())


async def test_cancelled_meanwhile(autojump_clock: MockClock) -> None:
    """Who is cancelled while the disk is written leaves no command and no open row."""
    book = Book()
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        with trio.move_on_after(book.takes_s / 2) as patience:
            await bench.bus.submit(a, a.write("out 1", hazardous=True))
        assert patience.cancelled_caught
        assert not bench.bus.tickets()
    (row,) = book.struck
    assert (row.state, row.cause) == (CommandState.FAILED, Cause.WITHDRAWN)
    assert not any("out 1" in text for text in bench.sent())


@pytest.mark.parametrize("everything", [False, True])
async def test_what_is_noted(autojump_clock: MockClock, everything: bool) -> None:
    """A write is noted step by step; a read by how it ended, unless everything is wanted."""
    book = Book(everything=everything)
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        assert (await (await bench.bus.submit(a, a.write("v 5"))).outcome()).ok
        assert (await (await bench.bus.submit(a, a.read(1))).outcome()).ok
        assert not (await (await bench.bus.submit(a, a.read(2, wait_s=9.0))).outcome()).ok
    life = [CommandState.QUEUED, CommandState.DISPATCHED]
    done = [*life, CommandState.ACKNOWLEDGED, CommandState.COMPLETED]
    states = [each.state for each in book.noted]
    assert states == (done + done + [*life, CommandState.FAILED] if everything else done)
    assert book.noted[0].request == b"A:SET v 5\n"
    assert [each.cause for each in book.failed] == ([] if everything else [Cause.TRANSPORT])
    assert book.read == ({} if everything else {"a": 1})


async def test_refusals_are_noted(autojump_clock: MockClock) -> None:
    """What was refused is noted with its reason, unless it was struck out already."""
    book = Book(full=True)
    bench, a = make(book)
    async with bench_running(bench):
        await bench.in_service()
        bench.bus.trip("a", "a test")
        for plan in (a.write("v 5"), a.write("out 1", hazardous=True)):
            with pytest.raises(RefusedError):
                await bench.bus.submit(a, plan, caller="ramp")
        assert [(each.command, each.cause, each.writes) for each in book.refused] == [
            ("v.set", Cause.TRIPPED, True),
            ("out.set", Cause.TRIPPED, True),
        ]
        assert book.refused[0].target == "benchtree://bench/a/v.set"
        assert book.refused[0].caller == "ramp"
        assert "tripped by a test" in book.refused[0].error
        assert not book.struck
