"""Commands on a bus: refused or accepted, and every accepted one with one outcome."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from actors import (
    BreakerPolicy,
    BreakerState,
    Cause,
    CommandFinished,
    CommandMoved,
    CommandRefused,
    CommandState,
    Event,
    Identity,
    Intensity,
    MemberPolicy,
    Outcome,
    Plan,
    Priority,
    RefusedError,
    Script,
    Service,
    Ticket,
)
from transports import Exchange, Signal

from .bench import PLAIN, SHARED, STEADY, Bench, Parts, Witness, WitnessModel, running


async def outcome_of(bench: Bench, device: Witness, plan: Plan[str]) -> Outcome[str]:
    """Submit a command and return its outcome."""
    return await (await bench.bus.submit(device, plan)).outcome()


async def fifty(bench: Bench, device: Witness) -> list[Ticket[str]]:
    """Queue fifty questions."""
    return [await bench.bus.submit(device, device.read(tag)) for tag in range(50)]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyError("no")])
async def test_a_crash_keeps_what_is_queued(autojump_clock: MockClock, error: Exception) -> None:
    """The command in flight fails, the fifty behind it are served in order."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        served: list[str] = []
        flying = await bench.bus.submit(a, a.failing(error))
        tickets = await fifty(bench, a)
        bench.line.requests.clear()
        first = await flying.outcome()
        assert first.cause is Cause.CRASHED
        assert first.may_have_executed
        for each in tickets:
            outcome = await each.outcome()
            assert outcome.value is not None
            served.append(outcome.value)
        assert served == [str(tag) for tag in range(50)]
        assert bench.supervisor.children[0].restarts == 1
        assert bench.sent()[1:3] == ["A:ID", "A:ASK 0"]


async def test_a_crash_that_opens_the_breaker_fails_what_is_queued(
    autojump_clock: MockClock,
) -> None:
    """All fifty fail at once, and say when to ask again; then it serves again."""
    a = Witness("a")
    parts = Parts(breaker=evolve(STEADY, failures=1))
    async with running(WitnessModel(), a, parts=parts) as bench:
        flying = await bench.bus.submit(a, a.failing(RuntimeError("no")))
        tickets = await fifty(bench, a)
        assert (await flying.outcome()).cause is Cause.CRASHED
        crashed_s = trio.current_time()
        for each in tickets:
            outcome = await each.outcome()
            assert outcome.cause is Cause.BREAKER
            assert outcome.error is not None
            assert outcome.error.retry_after_s == pytest.approx(2.0)
            assert not outcome.may_have_executed
        assert trio.current_time() == crashed_s
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read("again"))
        assert refused.value.retry_after_s == pytest.approx(2.0)
        requests = len(bench.sent())
        await trio.sleep(1.9)
        assert len(bench.sent()) == requests
        await bench.in_service()
        assert (await outcome_of(bench, a, a.read("again"))).value == "again"


async def test_a_crash_in_identifying_leaves_no_breaker_half_open(
    autojump_clock: MockClock,
) -> None:
    """A driver that fails at the identity is tried again, until it is mended."""

    class Broken(Witness):
        broken = True

        def identify(self) -> Script[Identity]:
            if self.broken:
                raise KeyError("a fault of the driver")
            return super().identify()

    a = Broken("a")
    parts = Parts(intensity=Intensity(10, 60.0))
    async with running(WitnessModel(), a, parts=parts, settled=False) as bench:
        ticket = await bench.bus.submit(a, a.read(1))
        assert (await ticket.outcome()).cause is Cause.BREAKER
        await trio.sleep(5)
        a.broken = False
        await bench.in_service()
        assert (await outcome_of(bench, a, a.read(2))).value == "2"
        assert bench.bus.status().breaker is BreakerState.CLOSED


async def test_stopping_resolves_everything(autojump_clock: MockClock) -> None:
    """A cancelled supervisor leaves nobody waiting: in flight and queued fail (stopped)."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        flying = await bench.bus.submit(a, a.read("long", wait_s=0.9))
        await trio.sleep(0.1)
        tickets = await fifty(bench, a)
    assert (await flying.outcome()).cause is Cause.STOPPED
    assert (await flying.outcome()).may_have_executed
    outcomes = [await each.outcome() for each in tickets]
    assert {each.cause for each in outcomes} == {Cause.STOPPED}
    assert not any(each.may_have_executed for each in outcomes)
    with pytest.raises(RefusedError) as refused:
        await bench.bus.submit(a, a.read(1))
    assert refused.value.cause is Cause.STOPPED


async def test_a_stopped_child_resolves_everything(autojump_clock: MockClock) -> None:
    """Stopping the bus alone does the same; started again, it serves again."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        tickets = await fifty(bench, a)
        await bench.supervisor.stop_child("bus")
        causes = Counter([(await each.outcome()).cause for each in tickets])
        assert set(causes) <= {None, Cause.STOPPED}
        assert causes[Cause.STOPPED] > 0
        await bench.supervisor.restart_child("bus")
        assert (await outcome_of(bench, a, a.read("again"))).value == "again"


async def test_a_siblings_restart_empties_the_lanes(autojump_clock: MockClock) -> None:
    """What is settled for now fails (stopped), and new commands are taken."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        tickets = await fifty(bench, a)
        bench.bus.settle("it restarts with another", for_good=False)
        assert {(await each.outcome()).cause for each in tickets} == {Cause.STOPPED}
        assert (await outcome_of(bench, a, a.read("again"))).value == "again"


async def test_removal_fails_what_waits_for_that_instrument(autojump_clock: MockClock) -> None:
    """The removed one's commands fail, the one in flight ends, the neighbour's go on."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        flying = await bench.bus.submit(a, a.read("long", wait_s=0.5))
        await trio.sleep(0.1)
        mine = await fifty(bench, a)
        others = await fifty(bench, b)
        bench.bus.detach("a")
        assert {(await each.outcome()).cause for each in mine} == {Cause.STOPPED}
        assert (await flying.outcome()).value == "long"
        assert all([(await each.outcome()).ok for each in others])
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read(1))
        assert refused.value.cause is Cause.STOPPED


async def test_a_name_taken_by_another_serves_only_that_one(autojump_clock: MockClock) -> None:
    """An instrument that was removed stays removed, whoever has its name now."""
    old, new = Witness("a", "A"), Witness("a", "B")
    parts = Parts(profile=evolve(SHARED, queue_depth=1))
    async with running(WitnessModel("A", "B"), old, parts=parts) as bench:
        await bench.bus.submit(old, old.read(0, wait_s=0.5))
        await trio.sleep(0.1)
        await bench.bus.submit(old, old.read(1))
        refusals: list[Cause] = []

        async def wait_for_room() -> None:
            with pytest.raises(RefusedError) as refused:
                await bench.bus.submit(old, old.read(2))
            refusals.append(refused.value.cause)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_room)
            await trio.testing.wait_all_tasks_blocked()
            bench.bus.detach("a")
            bench.bus.attach(new, parts.policy)
        assert refusals == [Cause.STOPPED]
        with pytest.raises(RefusedError):
            await bench.bus.submit(old, old.read(3))
        assert (await outcome_of(bench, new, new.read(4))).value == "4"
        assert not any(text.endswith(("ASK 2", "ASK 3")) for text in bench.sent())


async def test_an_opening_breaker_fails_what_waits(autojump_clock: MockClock) -> None:
    """Once an instrument is quarantined, its queue fails at once with the time to retry."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        tickets = await fifty(bench, a)
        causes = [(await each.outcome()).cause for each in tickets]
        assert causes == [Cause.TRANSPORT] * 3 + [Cause.BREAKER] * 47
        assert len([text for text in bench.sent() if "ASK" in text]) == 3


async def test_a_withdrawn_command_costs_no_exchange(autojump_clock: MockClock) -> None:
    """Taken back before its turn, it never reaches the wire."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        await bench.bus.submit(a, a.read("busy", wait_s=0.5))
        tickets = [await bench.bus.submit(a, a.read(tag)) for tag in range(5)]
        assert [each.withdraw() for each in tickets[:4]] == [True] * 4
        assert not tickets[0].withdraw()
        for each in tickets[:4]:
            outcome = await each.outcome()
            assert (outcome.cause, outcome.may_have_executed) == (Cause.WITHDRAWN, False)
        assert (await tickets[4].outcome()).value == "4"
        assert bench.sent() == ["A:ID", "A:WAIT 0.5 busy", "A:ASK 4"]


async def test_a_command_in_flight_cannot_be_withdrawn(autojump_clock: MockClock) -> None:
    """Its reply is taken off the line, and the next question gets its own answer."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        ticket = await bench.bus.submit(a, a.read("long", wait_s=0.5), watch_deadline=False)
        with trio.move_on_after(0.1):
            await ticket.outcome()
        assert not ticket.withdraw()
        assert ticket.state is CommandState.DISPATCHED
        assert (await outcome_of(bench, a, a.read("next"))).value == "next"
        assert (await ticket.outcome()).value == "long"
        assert bench.sent() == ["A:ID", "A:WAIT 0.5 long", "A:ASK next"]


async def test_a_deadline_in_the_queue_resolves_promptly(autojump_clock: MockClock) -> None:
    """Behind an exchange that hangs, a command whose deadline passes fails on that instant."""
    a = Witness("a", within_s=60.0)
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        await bench.bus.submit(a, a.read("hung"))
        ticket = await bench.submit_within(a, a.read("late"), 0.25)
        began_s = trio.current_time()
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.EXPIRED, False)
        assert trio.current_time() - began_s == pytest.approx(0.25)


async def test_many_deadlines_expire_each_on_its_own_instant(autojump_clock: MockClock) -> None:
    """However deadlines are ordered, each command fails when its own has passed."""
    a = Witness("a", within_s=60.0)
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        await bench.bus.submit(a, a.read("hung"))
        began_s = trio.current_time()
        waits = [((37 * each) % 200 + 1) / 100 for each in range(200)]
        ended: dict[float, float] = {}

        async def follow(wait_s: float, ticket: Ticket[str]) -> None:
            assert (await ticket.outcome()).cause is Cause.EXPIRED
            ended[wait_s] = trio.current_time() - began_s

        async with trio.open_nursery() as nursery:
            for wait_s in waits:
                ticket = await bench.submit_within(a, a.read(wait_s), wait_s)
                nursery.start_soon(follow, wait_s, ticket)
        assert ended == pytest.approx({each: each for each in waits})


async def test_a_cancelled_asker_returns_at_once(autojump_clock: MockClock) -> None:
    """A caller's deadline ends the wait on the instant, behind whatever hangs."""
    a = Witness("a", within_s=60.0)
    async with running(WitnessModel(), a) as bench:
        bench.line.hang()
        await bench.bus.submit(a, a.read("hung"))
        began_s = trio.current_time()
        ticket = await bench.bus.submit(a, a.read("x"), watch_deadline=False)
        with trio.move_on_after(0.1) as scope:
            try:
                await ticket.outcome()
            finally:
                ticket.withdraw()
        assert scope.cancelled_caught
        assert trio.current_time() - began_s == pytest.approx(0.1)
        assert (await ticket.outcome()).cause is Cause.WITHDRAWN
        assert bench.sent() == ["A:ID", "A:ASK hung"]


async def test_waiting_for_room_counts_against_the_deadline(autojump_clock: MockClock) -> None:
    """A full lane makes callers wait, no longer than they would; or refuses them at once."""
    a = Witness("a", within_s=60.0)
    parts = Parts(profile=evolve(PLAIN, queue_depth=2))
    async with running(WitnessModel(), a, parts=parts) as bench:
        bench.line.hang()
        await bench.bus.submit(a, a.read("hung"))
        await trio.testing.wait_all_tasks_blocked()
        waiting = [await bench.bus.submit(a, a.read(tag)) for tag in range(2)]
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read("full"), wait=False)
        assert refused.value.cause is Cause.FULL
        began_s = trio.current_time()
        with trio.move_on_after(0.5) as scope:
            await bench.bus.submit(a, a.read("patient"))
        assert scope.cancelled_caught
        assert trio.current_time() - began_s == pytest.approx(0.5)
        accepted: list[Ticket[str]] = []

        async def wait_for_room() -> None:
            accepted.append(await bench.bus.submit(a, a.read("lucky")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_room)
            await trio.testing.wait_all_tasks_blocked()
            assert not accepted
            waiting[0].withdraw()
        assert accepted[0].state is CommandState.QUEUED


class Books:
    """Counts what becomes of commands, as callers and observers see it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.counts: Counter[str] = Counter()
        self.states: dict[int, list[CommandState]] = {}
        self.refused: set[str] = set()

    def observe(self, event: Event) -> None:
        """Count what an event says."""
        match event:
            case CommandMoved(seq=seq, state=state):
                self.states.setdefault(seq, []).append(state)
            case CommandRefused():
                self.counts["refused event"] += 1
            case _:
                pass

    async def call(self, device: Witness, number: int) -> None:
        """Ask again and again, with little patience."""
        for step in range(80):
            tag = f"{number}-{step}"
            plan = device.failing(KeyError("x")) if (number, step) == (3, 7) else device.read(tag)
            self.counts["submitted"] += 1
            with trio.move_on_after(0.25) as scope:
                try:
                    ticket = await self.bench.bus.submit(device, plan, wait=bool(step % 3))
                except RefusedError:
                    self.counts["refused"] += 1
                    self.refused.add(tag)
                else:
                    self.counts["accepted"] += 1
                    await ticket.outcome()
            if scope.cancelled_caught:
                self.counts["impatient"] += 1
            await trio.sleep(0.1)


async def test_submitted_is_refused_plus_accepted(autojump_clock: MockClock) -> None:
    """Under faults of all kinds the books balance, and refused bytes never travel."""
    a, b = Witness("a", "A", within_s=0.3), Witness("b", "B", within_s=0.3)
    quick = BreakerPolicy(failures=2, open_s=0.2, max_open_s=0.5)
    parts = Parts(
        profile=evolve(SHARED, queue_depth=2, lateness_s=0.1),
        breaker=quick,
        policy=MemberPolicy(breaker=quick),
        intensity=Intensity(100, 1.0),
    )
    async with running(WitnessModel("A", "B", reply_s=0.1), a, b, parts=parts) as bench:
        books = Books(bench)
        with bench.events.observed(books.observe, commands=True):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(books.call, (a, b)[number % 2], number)
                for _ in range(4):
                    await trio.sleep(0.3)
                    bench.line.lose(count=2)
                    await trio.sleep(0.3)
                    bench.line.unplug()
                    await trio.sleep(0.3)
                    bench.line.replug()
            await trio.sleep(10)
    counts = books.counts
    ended = Counter(each[-1] for each in books.states.values())
    assert counts["submitted"] == 800
    assert counts["accepted"] == len(books.states)
    # Who waits for room and has no patience left has not submitted anything.
    gave_up = counts["submitted"] - counts["accepted"] - counts["refused"]
    assert len(books.states) == ended[CommandState.COMPLETED] + ended[CommandState.FAILED]
    assert counts["refused event"] == counts["refused"]
    assert min(*ended.values(), counts["refused"], gave_up) > 0
    assert gave_up <= counts["impatient"]
    assert not books.refused & {text.rpartition(" ")[2] for text in bench.sent()}


async def test_lanes_take_turns_and_priorities_go_first(autojump_clock: MockClock) -> None:
    """Within a lane the higher priority goes first; between lanes nobody waits for two."""
    a, b = Witness("a", "A"), Witness("b", "B")
    async with running(WitnessModel("A", "B"), a, b, parts=Parts(profile=SHARED)) as bench:
        busy = await bench.bus.submit(a, a.read("busy", wait_s=0.5))
        await trio.sleep(0.1)
        tickets = [
            await bench.bus.submit(a, a.read(f"low{tag}"), priority=Priority.LOW)
            for tag in range(2)
        ]
        tickets += [await bench.bus.submit(a, a.read(f"normal{tag}")) for tag in range(2)]
        tickets += [await bench.bus.submit(a, a.read("high"), priority=Priority.HIGH)]
        tickets += [await bench.bus.submit(b, b.read(f"b{tag}")) for tag in range(3)]
        bench.line.requests.clear()
        await busy.outcome()
        for each in tickets:
            await each.outcome()
        order = [text.split()[1] for text in bench.sent()]
        assert [each for each in order if each[0] != "b"] == [
            "high",
            "normal0",
            "normal1",
            "low0",
            "low1",
        ]
        assert [order.index(f"b{tag}") for tag in range(3)] in ([1, 3, 5], [0, 2, 4])


async def test_dispatched_is_set_with_the_first_byte(autojump_clock: MockClock) -> None:
    """Pacing and getting back into step come before; the state says so throughout."""
    a = Witness("a")
    parts = Parts(profile=evolve(PLAIN, pacing_s=0.2))
    async with running(WitnessModel(), a, parts=parts) as bench:
        moved: list[tuple[float, CommandState]] = []

        def note(event: Event) -> None:
            if isinstance(event, CommandMoved):
                moved.append((trio.current_time(), event.state))

        bench.line.late(0.4, count=1)
        with bench.events.observed(note, commands=True):
            late = a.read("late", wait_s=0.8)
            assert (await outcome_of(bench, a, late)).cause is Cause.TRANSPORT
            moved.clear()
            ticket = await bench.bus.submit(a, a.read("next"))
            submitted_s = trio.current_time()
            await trio.sleep(0.1)
            assert ticket.state is CommandState.QUEUED
            assert (await ticket.outcome()).value == "next"
        sent_s = next(at_s for at_s, data in bench.line.requests if b"next" in data)
        assert {state: at_s for at_s, state in moved} == pytest.approx(
            {
                CommandState.QUEUED: submitted_s,
                CommandState.DISPATCHED: sent_s,
                CommandState.ACKNOWLEDGED: trio.current_time(),
                CommandState.COMPLETED: trio.current_time(),
            }
        )
        assert sent_s - submitted_s > 0.4
        assert ticket.attempts == 1


async def test_expiry_is_checked_at_the_first_byte(autojump_clock: MockClock) -> None:
    """A deadline that passes while the line is paced keeps the command off the wire."""
    a = Witness("a")
    parts = Parts(profile=evolve(PLAIN, pacing_s=0.5))
    async with running(WitnessModel(), a, parts=parts) as bench:
        await outcome_of(bench, a, a.read(0))
        ticket = await bench.submit_within(a, a.read("late"), 0.2)
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.EXPIRED, False)
        await outcome_of(bench, a, a.read(1))
        assert "A:ASK late" not in bench.sent()


async def test_a_device_error_is_an_answer(autojump_clock: MockClock) -> None:
    """An instrument that says no fails the command and harms nothing else."""
    a = Witness("a")
    model = WitnessModel()
    model.units["A"].refuses.add("v 99")
    async with running(model, a) as bench:
        for _ in range(10):
            ticket = await bench.bus.submit(a, a.write("v 99"))
            outcome = await ticket.outcome()
            assert outcome.cause is Cause.DEVICE
            assert outcome.fault is not None
        assert bench.bus.status().breaker is BreakerState.CLOSED
        assert (await outcome_of(bench, a, a.read(1))).value == "1"


async def test_tickets_can_be_read_at_any_time(autojump_clock: MockClock) -> None:
    """What is in flight and what waits can be seen without waiting."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        flying = await bench.bus.submit(a, a.read("long", wait_s=0.5))
        waiting = await bench.bus.submit(a, a.read("next"))
        await trio.sleep(0.1)
        assert list(bench.bus.tickets()) == [flying, waiting]
        assert [each.state for each in bench.bus.tickets()] == [
            CommandState.DISPATCHED,
            CommandState.QUEUED,
        ]
        assert repr(waiting) == f"<Ticket {waiting.seq} a: ask QUEUED>"
        assert bench.status().waiting == 1
        await waiting.outcome()
        assert not bench.bus.tickets()


async def test_draining_waits_for_all_that_was_accepted(autojump_clock: MockClock) -> None:
    """A bus that refuses new work finishes the old, and everybody who waits for that knows."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        tickets = await fifty(bench, a)
        bench.bus.refuse("the tree is stopping")
        with pytest.raises(RefusedError) as refused:
            await bench.bus.submit(a, a.read("new"))
        assert refused.value.cause is Cause.STOPPED
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.bus.wait_drained)
                nursery.start_soon(bench.bus.wait_drained)
        assert all(each.state is CommandState.COMPLETED for each in tickets)


async def test_finished_writes_and_failures_are_events(autojump_clock: MockClock) -> None:
    """Every write and every failure is reported once; successful reads are not."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        await outcome_of(bench, a, a.read(1))
        await (await bench.bus.submit(a, a.write("v 5"))).outcome()
        bench.line.lose()
        await outcome_of(bench, a, a.read(2))
        assert [(each.command, each.cause) for each in bench.of(CommandFinished)] == [
            ("v.set", None),
            ("ask", Cause.TRANSPORT),
        ]


async def test_what_the_line_cannot_do_counts_against_nobody(autojump_clock: MockClock) -> None:
    """A signal that the line has not fails its command, and leaves everybody in service."""
    a = Witness("a")
    async with running(WitnessModel(), a) as bench:
        plan = evolve(a.read("x"), exchange=Exchange(b"", signal=Signal.TRIGGER))
        for _ in range(2 * STEADY.failures):
            ticket = await bench.bus.submit(a, plan)
            outcome = await ticket.outcome()
            assert outcome.cause is Cause.VALIDATION
            assert not outcome.may_have_executed
            assert ticket.failures == 1
        assert bench.status("a").service is Service.IN_SERVICE
        assert bench.bus.status().breaker is BreakerState.CLOSED
        ticket = await bench.bus.submit(a, a.read("yes"))
        assert (await ticket.outcome()).value == "yes"
