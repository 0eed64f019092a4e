"""The book of leases: grant, queue, renew, expire, preempt, lose, settle. No clock, no Trio."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import Hold, IllegalLeaseStepError, LeaseBook, LeaseState, LeaseStep
from actors.lease import TRANSITIONS, step


def _ask(
    book: LeaseBook,
    *instruments: str,
    owner: str = "me",
    priority: int = 0,
    ttl_s: float = math.inf,
    grace_s: float = 10.0,
    reads: bool = False,
) -> Hold:
    return book.ask(
        instruments, owner=owner, priority=priority, ttl_s=ttl_s, grace_s=grace_s, reads=reads
    )


def test_every_step() -> None:
    """The table holds the legal steps; every other one raises."""
    for state, event in product(LeaseState, LeaseStep):
        if (state, event) in TRANSITIONS:
            assert step(state, event) is TRANSITIONS[state, event]
        else:
            with pytest.raises(IllegalLeaseStepError, match=state.name):
                step(state, event)
    assert not any(state is LeaseState.OVER for state, _ in TRANSITIONS)


def test_second_waits() -> None:
    """What is held is granted to nobody else before it is given back."""
    book = LeaseBook()
    first, second = _ask(book, "psu"), _ask(book, "psu", "oven")
    assert book.grant(1.0) == [first]
    assert book.holder("oven") is None
    assert book.blockers(second) == [first]
    book.end(first)
    assert book.grant(2.0) == [second]
    assert (second.since_s, book.holder("oven")) == (2.0, second)


def test_nobody_overtakes() -> None:
    """Who wants two instruments is not starved by those who want one of them."""
    book = LeaseBook()
    held = _ask(book, "psu")
    book.grant(0.0)
    both, late, other = _ask(book, "psu", "oven"), _ask(book, "oven"), _ask(book, "meter")
    assert book.grant(1.0) == [other]
    book.end(held)
    assert book.grant(2.0) == [both]
    assert book.waiting == (late,)


def test_priority_goes_first() -> None:
    """Among those who wait the highest priority is served first, then who came first."""
    book = LeaseBook()
    held = _ask(book, "psu", priority=9)
    book.grant(0.0)
    low, early, late = (_ask(book, "psu", priority=each) for each in (1, 5, 5))
    served = [held]
    for _ in range(3):
        book.end(served[-1])
        served += book.grant(1.0)
    assert served == [held, early, late, low]


def test_preemption_needs_a_higher_priority() -> None:
    """Equals wait; a higher priority begins the holder's grace, once."""
    book = LeaseBook()
    held = _ask(book, "psu", owner="annealing", priority=5, grace_s=4.0)
    book.grant(0.0)
    _ask(book, "psu", priority=5)
    assert book.preempt(1.0) == []
    _ask(book, "psu", owner="calibration", priority=6)
    assert book.preempt(2.0) == [held]
    assert book.preempt(3.0) == []
    assert (held.state, held.grace_ends_s) == (LeaseState.PREEMPTED, 6.0)
    assert held.overdue(5.9) is None
    assert "preempted by 'calibration'" in (held.overdue(6.0) or "")


def test_no_preemption_in_vain() -> None:
    """Nobody has to leave for one who would not be served all the same."""
    book = LeaseBook()
    _ask(book, "psu", priority=1)
    _ask(book, "oven", priority=9)
    book.grant(0.0)
    _ask(book, "psu", "oven", priority=5)
    assert book.preempt(1.0) == []


def test_renewal() -> None:
    """A sign of life extends the lease; one that comes too late does not."""
    book = LeaseBook()
    held = _ask(book, "psu", ttl_s=30.0)
    book.grant(0.0)
    assert book.renew(held, 29.0)
    assert held.overdue(58.9) is None
    assert not book.renew(held, 59.0)


def test_renewal_does_not_extend_grace() -> None:
    """Signs of life do not keep a preempted holder in place."""
    book = LeaseBook()
    held = _ask(book, "psu", grace_s=2.0, ttl_s=30.0)
    book.grant(0.0)
    _ask(book, "psu", priority=1)
    book.preempt(0.0)
    assert book.renew(held, 1.0)
    assert not book.renew(held, 2.0)


def test_fencing() -> None:
    """A lost lease opens nothing, neither while it is settled nor afterwards."""
    book = LeaseBook()
    stale = _ask(book, "psu", owner="annealing")
    book.grant(0.0)
    assert book.objection("psu", stale, writes=True, now_s=0.0) is None
    book.lose(stale, "no sign of life")
    mine = book.objection("psu", stale, writes=True, now_s=1.0)
    other = book.objection("psu", None, writes=True, now_s=1.0)
    assert mine is not None
    assert "was lost: no sign of life" in mine
    assert other is not None
    assert "'annealing' (lease 1" in other
    assert "driven safe" in other
    new = _ask(book, "psu")
    assert book.grant(1.0) == []
    book.end(stale)
    assert book.grant(1.0) == [new]
    assert book.objection("psu", stale, writes=True, now_s=2.0) is not None
    book.end(new)
    assert book.objection("psu", stale, writes=True, now_s=2.0) is not None
    assert book.objection("psu", None, writes=True, now_s=2.0) is None
    # Reading does no harm.
    assert book.objection("psu", stale, writes=False, now_s=2.0) is None


def test_expired_but_not_noticed() -> None:
    """Nothing passes between a lease's expiry and whoever notices it."""
    book = LeaseBook()
    held = _ask(book, "psu", ttl_s=5.0)
    book.grant(0.0)
    assert book.objection("psu", held, writes=True, now_s=4.9) is None
    assert "no sign of life for 5 s" in (book.objection("psu", held, writes=True, now_s=5.0) or "")


@pytest.mark.parametrize("reads", [False, True])
def test_reads(reads: bool) -> None:
    """Reads of others pass unless the holder asked to be alone."""
    book = LeaseBook()
    _ask(book, "psu", owner="annealing", reads=reads, ttl_s=30.0)
    book.grant(0.0)
    read = book.objection("psu", None, writes=False, now_s=12.0)
    assert (read is not None) is reads
    write = book.objection("psu", None, writes=True, now_s=12.0)
    assert write == (
        "'annealing' (lease 1, priority 0, for 12 s so far) holds it until it gives it back or "
        "shows no sign of life for 30 s"
    )


NAMES = ("a", "b", "c")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("ask", "end", "lose", "settle", "tick")),
            st.sets(st.sampled_from(NAMES), min_size=1),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_one_holder_each(steps: list[tuple[str, set[str], int]]) -> None:
    """Whatever happens: one holder per instrument, all or nothing, and nobody is forgotten."""
    book = LeaseBook()
    asked: list[Hold] = []
    now_s = 0.0
    for what, names, number in steps:
        now_s += 1.0
        held = [each for each in asked if each.held]
        lost = [each for each in asked if each.state is LeaseState.LOST]
        match what:
            case "ask":
                asked.append(_ask(book, *names, priority=number, grace_s=1.0))
            case "end" if held:
                book.end(held[number % len(held)])
            case "lose" if held:
                book.lose(held[number % len(held)], "on purpose")
            case "settle" if lost:
                book.end(lost[number % len(lost)])
            case _:
                pass
        book.grant(now_s)
        book.reprieve()
        book.preempt(now_s)
        for hold in asked:
            mine = {name for name in NAMES if book.holder(name) is hold}
            taken = hold.held or hold.state is LeaseState.LOST
            assert mine == (set(hold.instruments) if taken else set())
            assert (hold in book.waiting) is (hold.state is LeaseState.WAITING)
            if hold.state is LeaseState.WAITING:
                assert book.blockers(hold)
            if hold.state is LeaseState.PREEMPTED:
                assert any(each.priority > hold.priority for each in book.waiting)
            for name in hold.instruments:
                allowed = book.objection(name, hold, writes=True, now_s=now_s) is None
                assert not allowed or hold.held or book.holder(name) is None
    for hold in asked:
        if hold.state is not LeaseState.OVER:
            book.end(hold)
    assert book.waiting == ()
    assert all(book.holder(name) is None for name in NAMES)
