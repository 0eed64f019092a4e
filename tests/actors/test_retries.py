"""What is tried again, when, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    AttemptFailed,
    Cause,
    CommandMoved,
    CommandState,
    DeviceError,
    Fault,
    FaultClass,
    Outcome,
    Plan,
    RetryPolicy,
    Service,
    Ticket,
)
from actors.faults import (
    BUSY,
    CALIBRATION_EXPIRED,
    DISCONNECTED,
    FOREIGN_REPLY,
    FRAMING,
    INTERLOCK_OPEN,
    OVER_CURRENT,
    OVER_TEMPERATURE,
    PARITY_ERROR,
    REJECTED,
    TIMEOUT,
)
from actors.retry import next_attempt_s
from transports import SimReply

from .bench import SHARED, Bench, Parts, Witness, WitnessModel, running

THRICE = Parts(profile=evolve(SHARED, attempts=3, retry_jitter=0.0))
RECOVERABLE = (TIMEOUT, BUSY, PARITY_ERROR, FRAMING, FOREIGN_REPLY, DISCONNECTED)
OTHERS = (REJECTED, CALIBRATION_EXPIRED, OVER_CURRENT, OVER_TEMPERATURE, INTERLOCK_OPEN)


class Dropping(WitnessModel):
    """Units that do not answer the next `drops` questions."""

    drops = 0

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer, or not."""
        replies = super().receive(data, now_s)
        if self.drops and b":ASK" in data:
            self.drops -= 1
            return []
        return replies


def drop(bench: Bench, count: int) -> None:
    """Have the next questions go without an answer."""
    model = bench.line.model
    assert isinstance(model, Dropping)
    model.drops = count


def bench(*units: str) -> tuple[list[Witness], Any]:
    """Return instruments and the bench they are on, with three attempts and no jitter."""
    devices = [Witness(unit.lower(), unit, within_s=0.1) for unit in units]
    return devices, running(Dropping(*units), *devices, parts=THRICE)


def asked(bench: Bench, tag: str) -> list[float]:
    """Return when a question arrived."""
    return [at_s for at_s, data in bench.line.requests if tag.encode() in data]


def faulty(plan: Plan[Any], kind: FaultClass, times: int) -> Plan[Any]:
    """Return a plan whose device answers with a fault so often, then well."""
    left = [times]

    def decode(raw: bytes) -> Any:
        if left[0]:
            left[0] -= 1
            raise DeviceError(Fault(kind, "so it says", raw))
        return plan.decode(raw)

    return evolve(plan, decode=decode)


@given(
    kind=st.sampled_from(RECOVERABLE + OTHERS),
    attempts=st.integers(1, 9),
    failures=st.integers(1, 9),
    sent=st.booleans(),
    idempotent=st.booleans(),
    deadline_s=st.floats(0.0, 1e6),
    chance=st.floats(0.0, 1.0),
)
def test_policy(
    kind: FaultClass,
    attempts: int,
    failures: int,
    sent: bool,
    idempotent: bool,
    deadline_s: float,
    chance: float,
) -> None:
    """Never a fatal fault, never too often, never past a deadline, never twice what counts."""
    policy = RetryPolicy(attempts=attempts)
    again_s = next_attempt_s(
        policy,
        Fault(kind, ""),
        failures=failures,
        sent=sent,
        idempotent=idempotent,
        now_s=0.0,
        deadline_s=deadline_s,
        chance=chance,
    )
    may = kind in RECOVERABLE and failures < attempts and (idempotent or not sent)
    wait_s = 2.0 ** (failures - 1)
    if again_s is None:
        assert not may or wait_s * 1.1 >= deadline_s
    else:
        assert may
        assert wait_s <= again_s <= wait_s * 1.1 + 1e-9
        assert again_s < deadline_s


async def test_two_lost_replies(autojump_clock: MockClock) -> None:
    """Tried after 1 s and after 2 s more; the third time it succeeds, and attempts are told."""
    (a, b), made = bench("A", "B")
    async with made as bench_:
        moves: list[CommandMoved] = []

        def note(event: object) -> None:
            if isinstance(event, CommandMoved) and event.command == "ask":
                moves.append(event)

        with bench_.events.observed(note, commands=True):
            drop(bench_, 2)
            ticket: Ticket[str] = await bench_.bus.submit(a, a.read("x"))
            began_s = trio.current_time()
            outcome = await ticket.outcome()
        assert (outcome.value, ticket.attempts, ticket.failures) == ("x", 3, 2)
        first, second, third = asked(bench_, "ASK x")
        assert second - first == pytest.approx(0.1 + 1.0, abs=0.02)
        assert third - second == pytest.approx(0.1 + 2.0, abs=0.02)
        assert trio.current_time() - began_s < 3.5
        told = bench_.of(AttemptFailed)
        assert [(each.attempt, each.again_in_s) for each in told] == [(1, 1.0), (2, 2.0)]
        states = [each.state for each in moves]
        assert states == [
            CommandState.QUEUED,
            CommandState.DISPATCHED,
            CommandState.ACKNOWLEDGED,
            CommandState.COMPLETED,
        ]
        assert moves[-1].attempt == 3
        del b


async def test_the_bus_is_free_meanwhile(autojump_clock: MockClock) -> None:
    """Waiting holds the lane: others go on at once, followers keep their place behind it."""
    (a, b), made = bench("A", "B")
    async with made as bench_:
        bench_.line.lose(1, unit="A")
        first = await bench_.bus.submit(a, a.read("first"))
        second = await bench_.bus.submit(a, a.read("second"))
        await trio.sleep(0.2)
        assert bench_.status("a").engaged == "ask"
        assert first.state is CommandState.DISPATCHED
        for each in range(20):
            began_s = trio.current_time()
            ticket = await bench_.bus.submit(b, b.read(each))
            assert (await ticket.outcome()).value == str(each)
            assert trio.current_time() - began_s < 0.01
        assert not second.state.final
        assert (await second.outcome()).value == "second"
        assert asked(bench_, "ASK first")[-1] < asked(bench_, "ASK second")[0]


async def test_exhausted(autojump_clock: MockClock) -> None:
    """After the last attempt it has failed (retries exhausted) with the last fault."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        outcome = await (await bench_.bus.submit(a, faulty(a.read("x"), BUSY, 9))).outcome()
        assert outcome.cause is Cause.RETRIES_EXHAUSTED
        assert outcome.fault is not None
        assert outcome.fault.kind is BUSY
        assert len(asked(bench_, "ASK x")) == 3
        assert bench_.status().service is Service.IN_SERVICE


@pytest.mark.parametrize("kind", [*OTHERS, *RECOVERABLE], ids=lambda each: each.name)
async def test_kinds(kind: FaultClass, autojump_clock: MockClock) -> None:
    """What may pass is tried again; what is fatal trips the lane and drives it safe."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        plan = faulty(a.write("v 5"), kind, 1)
        ticket = await bench_.bus.submit(a, plan)
        outcome = await ticket.outcome()
        assert outcome.ok is (kind in RECOVERABLE)
        assert ticket.attempts == (2 if kind in RECOVERABLE else 1)
        assert (bench_.status().tripped is not None) is kind.fatal
        if kind.fatal:
            assert outcome.cause is Cause.DEVICE
            await bench_.until(lambda: not bench_.status().safe_owed)
            model = bench_.line.model
            assert isinstance(model, WitnessModel)
            assert model.units["A"].state == {"v": "5", "out": "0"}


async def test_what_counts_twice(autojump_clock: MockClock) -> None:
    """What is not idempotent is sent once; its error says that it may have executed."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        bench_.line.lose(1, unit="A")
        plan = evolve(a.write("step 1"), idempotent=False)
        outcome = await (await bench_.bus.submit(a, plan)).outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.TRANSPORT, True)
        await trio.sleep(10.0)
        assert len(asked(bench_, "SET step")) == 1


async def test_no_later_than_its_deadline(autojump_clock: MockClock) -> None:
    """An attempt that would come past the caller's deadline is not waited for."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        drop(bench_, 9)
        ticket = await bench_.submit_within(a, a.read("x"), 2.0)
        began_s = trio.current_time()
        assert (await ticket.outcome()).cause is Cause.TRANSPORT
        assert trio.current_time() - began_s == pytest.approx(1.2, abs=0.05)
        assert len(asked(bench_, "ASK x")) == 2


async def test_withdrawn_while_it_waits(autojump_clock: MockClock) -> None:
    """Withdrawn between two attempts it ends at once, and is not sent again."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        bench_.line.lose(1, unit="A")
        ticket = await bench_.bus.submit(a, a.read("x"))
        await trio.sleep(0.5)
        assert not ticket.withdraw()
        assert ticket.state is CommandState.FAILED
        assert (await ticket.outcome()).cause is Cause.WITHDRAWN
        assert (await (await bench_.bus.submit(a, a.read("y"))).outcome()).value == "y"
        await trio.sleep(5.0)
        assert len(asked(bench_, "ASK x")) == 1


@pytest.mark.parametrize(("after_s", "cause"), [(0.05, Cause.TRANSPORT), (1.12, Cause.WITHDRAWN)])
async def test_withdrawn_on_the_line(
    after_s: float, cause: Cause, autojump_clock: MockClock
) -> None:
    """Withdrawn amid an attempt, or while the line is got ready for one, it is not sent again."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        model = bench_.line.model
        assert isinstance(model, WitnessModel)
        model.reply_s = 0.05  # so does the fence, which goes before the second attempt
        bench_.line.lose(1, unit="A")
        ticket = await bench_.bus.submit(a, a.write("v 5"))
        await trio.sleep(after_s)
        assert bench_.status("a").engaged is None
        assert not ticket.withdraw()
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (cause, True)
        assert outcome.fault is not None
        assert outcome.fault.kind is TIMEOUT
        await trio.sleep(10.0)
        assert len(asked(bench_, "SET v")) == 1


async def test_tripped_while_it_waits(autojump_clock: MockClock) -> None:
    """A trip ends a write that waits to be tried again; a read goes on."""
    for write, cause in ((True, Cause.TRIPPED), (False, None)):
        (a, _), made = bench("A", "B")
        async with made as bench_:
            bench_.line.lose(1, unit="A")
            plan: Plan[Any] = a.write("v 5") if write else a.read("x")
            ticket = await bench_.bus.submit(a, plan)
            await trio.sleep(0.5)
            bench_.bus.trip("a", "a test")
            assert (await ticket.outcome()).cause is cause


async def test_quarantined_while_it_waits(autojump_clock: MockClock) -> None:
    """Nothing is tried on an instrument whose breaker has opened: it fails at once."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        bench_.line.hang("A")
        first = await bench_.bus.submit(a, a.read("x"))
        second = await bench_.bus.submit(a, a.read("y"))
        ended = [await each.outcome() for each in (first, second)]
        assert [each.cause for each in ended] == [Cause.RETRIES_EXHAUSTED, Cause.BREAKER]
        assert bench_.status().service is Service.QUARANTINED


async def test_lost_while_it_waits(autojump_clock: MockClock) -> None:
    """A lost line ends what waits to be tried again, with its last fault."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        bench_.line.lose(1, unit="A")
        ticket = await bench_.bus.submit(a, a.read("x"))
        await trio.sleep(0.5)
        bench_.line.unplug()
        outcome = await ticket.outcome()
        assert outcome.cause is Cause.TRANSPORT
        assert outcome.fault is not None
        assert outcome.fault.kind is TIMEOUT


async def test_once(autojump_clock: MockClock) -> None:
    """What comes around by itself is tried once, and a command may say how often."""
    (a, _), made = bench("A", "B")
    async with made as bench_:
        submit = partial(bench_.bus.submit, a)
        ends: list[Outcome[str]] = []
        for plan, once in (
            (a.read("poll"), True),
            (evolve(a.read("own"), retry=RetryPolicy(attempts=2, wait_s=0.1)), False),
        ):
            drop(bench_, 1 if once else 2)
            ends.append(await (await submit(plan, once=once)).outcome())
            await trio.sleep(1.0)
            await (await submit(a.read("between"))).outcome()
        assert [each.cause for each in ends] == [Cause.TRANSPORT, Cause.RETRIES_EXHAUSTED]
        assert len(asked(bench_, "ASK poll")) == 1
        assert len(asked(bench_, "ASK own")) == 2
