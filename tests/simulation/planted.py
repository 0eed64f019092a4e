"""Small faults of the kind people make, to be planted into the real code for one test.

Each names the invariants that may catch it: being caught by another one, or by a crash of
the program, does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from attrs import evolve, frozen

import actors.bus
import actors.supervisor
import recorder.journal
import transports.line_state
from actors import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    Bus,
    Cause,
    CommandMoved,
    Plan,
    Priority,
    RefusedError,
    Supervisor,
    Ticket,
)
from actors.attempts import Attempts
from actors.dispatch import Dispatch
from actors.intake import Intake
from actors.member import Member
from actors.restart import Decision, RestartBudget
from actors.safety import Safety
from actors.upkeep import Upkeep
from benchtree import Tree, exercise, invariants
from benchtree.simulate import Bench, Report, simulate
from recorder import Journal
from recorder.summary import Ledger
from transports import (
    Exchange,
    LineEvent,
    LineState,
    MultiplexedSim,
    Reply,
    StreamTransport,
)

from .bench import run_board, run_harsh, run_late

STALE: Any = "results of an older epoch are ignored"


@frozen
class Bug:
    """One fault to plant.

    Attributes:
        name: What is wrong.
        plant: Puts it in.
        caught_by: The invariants that see it.
        run: Simulates one seed.
    """

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    caught_by: tuple[str, ...]
    run: Callable[[int], Report] = run_harsh


def nothing(*_: object) -> None:
    """Do nothing, whatever is asked."""


def no_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    """An abandoned exchange leaves the line ready."""
    step = LineState.WAITING, LineEvent.ABANDONED
    table = {**transports.line_state.TRANSITIONS, step: LineState.READY}
    monkeypatch.setattr(transports.line_state, "TRANSITIONS", table)


def no_reply_on_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an actor worked on when it crashed is forgotten."""
    fail = Intake.fail

    def broken(self: Intake, ticket: Ticket[Any], cause: Cause, *rest: Any, **more: Any) -> None:
        if cause is not Cause.CRASHED:
            fail(self, ticket, cause, *rest, **more)

    monkeypatch.setattr(Intake, "fail", broken)


def inbox_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that stops, or restarts with its group, forgets what waits."""

    def broken(self: Intake, member: Member, cause: Cause, reason: str) -> None:
        del cause, reason
        self.inbox.empty(member.lane)

    monkeypatch.setattr(Intake, "fail_all", broken)


def cancelled_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that was cut short counts as failed."""

    def broken(self: Breaker, epoch: int) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self.fail(epoch, trio.current_time())

    monkeypatch.setattr(Breaker, "cancel_probe", broken)


def stale_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker believes results of exchanges that began before it changed."""
    succeed = Breaker.succeed

    def broken(self: Breaker, epoch: int, now_s: float) -> bool:
        del epoch
        return succeed(self, self.epoch, now_s)

    monkeypatch.setattr(Breaker, "succeed", broken)


def never_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that succeeds leaves the breaker half open."""

    def broken(self: Breaker, epoch: int, now_s: float) -> bool:
        del self, epoch
        return False

    monkeypatch.setattr(Breaker, "succeed", broken)


def unshielded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a safe state can be cancelled out of it."""

    def broken(seconds: float, *, shield: bool = False) -> trio.CancelScope:
        del shield
        return trio.move_on_after(seconds)

    proxy = SimpleNamespace(**{**vars(trio), "move_on_after": broken})
    monkeypatch.setattr(actors.bus, "trio", proxy)


def lost_withdrawal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was taken back stays in its lane."""

    def broken(self: Intake, ticket: Ticket[Any]) -> bool:
        del self
        return not ticket.attempts

    monkeypatch.setattr(Intake, "withdraw", broken)


def wrong_start_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group starts again last child first."""
    start_again: Any = vars(Supervisor)["_start_again"]

    async def broken(self: Supervisor, group: list[Any]) -> None:
        await start_again(self, group[::-1])

    monkeypatch.setattr(Supervisor, "_start_again", broken)


def wrong_stop_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group stops first child first."""
    decide: Any = vars(actors.supervisor)["decide"]

    def broken(*arguments: Any, **more: Any) -> Decision:
        decision: Decision = decide(*arguments, **more)
        return evolve(decision, stop=decision.stop[::-1])

    monkeypatch.setattr(actors.supervisor, "decide", broken)


def one_restart_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor gives up at the last restart that it should bear."""
    spend = RestartBudget.spend

    def broken(self: Any, now_s: float) -> bool:
        spend(self, now_s)
        restarts: int = len(self._restarts)
        bears: int = self._intensity.max_restarts
        return restarts < bears

    monkeypatch.setattr(RestartBudget, "spend", broken)


def one_restart_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor bears one restart too many."""
    spend = RestartBudget.spend

    def broken(self: Any, now_s: float) -> bool:
        spend(self, now_s)
        restarts: int = len(self._restarts)
        bears: int = self._intensity.max_restarts
        return restarts <= bears + 1

    monkeypatch.setattr(RestartBudget, "spend", broken)


def sink_error_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sink did not take is not named."""
    outlet: Any = vars(import_module("recorder.pipe"))["_Outlet"]
    monkeypatch.setattr(outlet, "error", nothing)


def missing_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not read is absent without a word."""
    monkeypatch.setattr(Ledger, "add_missing", nothing)


def trip_keeps_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trip leaves in the lane what waited there."""
    take_back = Intake.take_back

    def broken(self: Intake, ticket: Ticket[Any], cause: Cause, reason: str, **more: Any) -> bool:
        return cause is not Cause.TRIPPED and take_back(self, ticket, cause, reason, **more)

    monkeypatch.setattr(Intake, "take_back", broken)


def trip_keeps_accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tripped instrument takes and carries out everything."""
    admit = Intake.admit
    commit: Any = vars(Attempts)["_commit"]

    def broken(self: Intake, device: Any, *rest: Any, **more: Any) -> Member:
        with untripped(self.members.get(device.name)):
            return admit(self, device, *rest, **more)

    def broken_commit(self: Attempts, member: Member, ticket: Ticket[Any]) -> None:
        with untripped(member):
            commit(self, member, ticket)

    monkeypatch.setattr(Intake, "admit", broken)
    monkeypatch.setattr(Attempts, "_commit", broken_commit)


def identity_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an opening, everybody is taken for who he was."""
    expect = Upkeep.expect

    def broken(self: Any, member: Member) -> None:
        expect(self, member)
        if member.served:
            member.answered = True
            self._enter_service(member)

    monkeypatch.setattr(Upkeep, "expect", broken)


def owed_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A safe state that could not be reached is given up."""
    note_unsafe = Safety.note_unsafe

    def broken(self: Safety, member: Member, error: str) -> None:
        note_unsafe(self, member, error)
        member.safe_reason = None

    monkeypatch.setattr(Safety, "note_unsafe", broken)


def foreign_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at who sent a reply."""
    receive: Any = vars(StreamTransport)["_receive"]

    async def broken(self: StreamTransport, stream: Any, exchange: Any, sent_s: float) -> Any:
        return await receive(self, stream, evolve(exchange, accepts=None), sent_s)

    monkeypatch.setattr(StreamTransport, "_receive", broken)


def open_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open breaker refuses nothing."""
    admit = Intake.admit

    def broken(self: Intake, device: Any, *rest: Any, **more: Any) -> Member:
        try:
            return admit(self, device, *rest, **more)
        except RefusedError as refusal:
            if refusal.cause is Cause.BREAKER:
                return self.members[device.name]
            raise

    monkeypatch.setattr(Intake, "admit", broken)


def hazard_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that was on is switched on again after a reconnection."""
    intend = Member.intend

    def broken(self: Member, plan: Plan[object]) -> None:
        intend(self, evolve(plan, hazardous=False))

    monkeypatch.setattr(Member, "intend", broken)


def away_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for an instrument that went away goes on waiting."""

    def broken(self: Intake, member: Member, reason: str, *_: Any) -> None:
        # An emergency that nobody fails would be tried again and again in one instant.
        for ticket in tuple(member.lane):
            if ticket.command.priority is Priority.EMERGENCY:
                self.take_back(ticket, Cause.TRANSPORT, reason)

    monkeypatch.setattr(Intake, "fail_away", broken)


def emergencies_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emergency neither trips the lane nor drives the instrument safe."""
    submit = Bus.submit

    async def broken(self: Bus, device: Any, plan: Any, **more: Any) -> Any:
        if more.get("priority") is Priority.EMERGENCY:
            more["priority"] = Priority.HIGH
        return await submit(self, device, plan, **more)

    monkeypatch.setattr(Bus, "submit", broken)


class untripped:  # noqa: N801 - reads as a context manager
    """Lets an instrument look as if nobody had tripped it."""

    def __init__(self, member: Member | None) -> None:
        """Look at `member`."""
        self.member = member
        self.tripped: str | None = None

    def __enter__(self) -> None:
        """Hide the trip."""
        if self.member is not None:
            self.tripped, self.member.tripped = self.member.tripped, None

    def __exit__(self, *_: object) -> None:
        """Show it again."""
        if self.member is not None:
            self.member.tripped = self.tripped


def hazard_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hazardous command does not wait for its row."""

    async def broken(self: Journal, queued: CommandMoved) -> None:
        await trio.lowlevel.checkpoint()
        self.note(queued)

    monkeypatch.setattr(Journal, "enter", broken)


def rows_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that could not be written are taken down once more."""
    fail: Any = vars(Journal)["_fail"]

    def broken(self: Any, reason: str) -> None:
        self._waiting += self._waiting[:3]
        fail(self, reason)

    monkeypatch.setattr(Journal, "_fail", broken)


def rows_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for is left out row by row."""
    note = Journal.note

    def broken(self: Journal, moved: CommandMoved) -> None:
        if self.waiting < 2:
            note(self, moved)

    monkeypatch.setattr(Journal, "note", broken)


def outcome_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that its caller took back is not ended in the journal."""
    note = Journal.note

    def broken(self: Journal, moved: CommandMoved) -> None:
        if moved.cause is not Cause.WITHDRAWN:
            note(self, moved)

    monkeypatch.setattr(Journal, "note", broken)


def journal_dawdles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for others for longer than they may."""
    monkeypatch.setattr(recorder.journal, "GATHER_S", 0.15)


def share_a_breaker(seed: int) -> Report:
    """Simulate many exchanges at once behind one breaker.

    No bench can show this fault: a lane has one exchange in flight, and a line that is
    closed as its breaker opens ends all that is in flight on it, so that nothing outlives
    the epoch it began in. In fifty seeds, multiplexed buses included, no success and no
    failure of an older epoch reached a breaker. The rule is its own second safeguard, for
    transports whose calls outlive their line, and is tried where it is written.
    """

    async def main(bench: Bench) -> None:
        breaker = Breaker(BreakerPolicy(failures=2, open_s=1.0), bench.random.random)

        async def call() -> None:
            await trio.sleep(bench.random.uniform(0.0, 20.0))
            now_s = trio.current_time()
            if not (breaker.closed or breaker.probe(now_s)):
                return
            epoch = breaker.epoch
            await trio.sleep(bench.random.uniform(0.0, 3.0))
            before = repr(breaker)
            if bench.random.random() < 0.5:
                breaker.succeed(epoch, 0.0)
            else:
                breaker.fail(epoch, trio.current_time())
            bench.invariants.expect(
                before == repr(breaker) or f"epoch={epoch}>" in before,
                trio.current_time(),
                STALE,
                f"{before} became {breaker!r} by a result of epoch {epoch}",
            )

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(call)

    return simulate(seed, main)


class uncounted(dict[Member, Any]):  # noqa: N801 - reads as what it does
    """Flights that nobody counts."""

    def __len__(self) -> int:
        """Return that there is none."""
        return 0


def too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus is asked for more at once than it bears."""
    exchange = MultiplexedSim.exchange
    begin = Dispatch.begin

    def broken_begin(self: Dispatch, nursery: trio.Nursery) -> None:
        begin(self, nursery)
        vars(self)["_aside"] = uncounted()

    async def broken(
        self: MultiplexedSim, asked: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        vars(self)["_in_flight"] = set[str | None]()  # a board that would take it
        return await exchange(self, asked, commit=commit)

    monkeypatch.setattr(Dispatch, "begin", broken_begin)
    monkeypatch.setattr(MultiplexedSim, "exchange", broken)


def leases_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands pass whoever holds a lease on their instrument."""

    def objection(self: Intake, instrument: str, plan: Plan[object], hold: object) -> None:
        del self, instrument, plan, hold

    monkeypatch.setattr(Intake, "objection", objection)


def lost_leases_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost lease leaves its instruments as they are."""

    async def settle(self: Tree, names: object, reason: str) -> None:
        del self, names, reason
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Tree, "_settle_lease", settle)


BUGS = (
    Bug("no resync after a timeout", no_resync, (invariants.OWN_REPLY,), run_late),
    Bug("no reply on crash", no_reply_on_crash, (invariants.ONE_OUTCOME, invariants.IN_FLIGHT)),
    Bug("inbox dropped at stop", inbox_dropped, (invariants.ONE_OUTCOME,)),
    Bug("cancelled counted as failure", cancelled_counts, (invariants.BREAKER_SCHEDULE,)),
    Bug("stale epoch accepted", stale_accepted, (STALE,), share_a_breaker),
    Bug("probe that never closes", never_closes, (exercise.ALIVE,)),
    Bug("unshielded safe state", unshielded, (exercise.UNCUT,)),
    Bug("lost withdrawal", lost_withdrawal, (invariants.WITHDRAWN,)),
    Bug("wrong start order", wrong_start_order, (invariants.RESTART_ORDER,)),
    Bug("wrong stop order", wrong_stop_order, (invariants.RESTART_ORDER,)),
    Bug("one restart less", one_restart_less, (invariants.INTENSITY,)),
    Bug("one restart more", one_restart_more, (invariants.INTENSITY,)),
    Bug("sink error swallowed", sink_error_swallowed, (exercise.KEPT,)),
    Bug("missing slots not counted", missing_not_counted, (exercise.EXPECTED_SLOTS,)),
    Bug("tripped lane keeps its writes", trip_keeps_writes, (invariants.TRIP_EMPTIES,)),
    Bug("trip is not looked at", trip_keeps_accepting, (invariants.READS_ONLY,)),
    Bug("identity assumed after reopening", identity_assumed, (invariants.IDENTITY_FIRST,)),
    Bug("owed safe state forgotten", owed_forgotten, (invariants.OWED_FIRST,)),
    Bug("reply of another unit accepted", foreign_accepted, (invariants.OWN_REPLY,)),
    Bug("open breaker accepts", open_accepts, (invariants.OPEN_REFUSES,)),
    Bug("hazardous setting restored", hazard_restored, (invariants.HAZARD_ASKED,)),
    Bug("queue kept while away", away_waits, (invariants.PROMPT,)),
    Bug("hazardous command unwritten", hazard_unwritten, (invariants.JOURNAL_FIRST,)),
    Bug("journal rows written twice", rows_written_twice, (invariants.JOURNAL_TABLE,)),
    Bug("journal rows left behind", rows_left_behind, (invariants.JOURNAL_TABLE,)),
    Bug("outcome left out of the journal", outcome_unwritten, (invariants.JOURNAL_ENDS,)),
    Bug("journal dawdles", journal_dawdles, (invariants.JOURNAL_SOON,)),
    Bug("too many exchanges at once", too_many_at_once, (invariants.IN_FLIGHT,), run_board),
    Bug("leases unseen", leases_unseen, (invariants.LEASED,)),
    Bug("lost leases forgotten", lost_leases_forgotten, (invariants.LOST_TRIPS,)),
    Bug("emergency does not trip", emergencies_wait, (exercise.TRIPPED,)),
)
