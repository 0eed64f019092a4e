"""The circuit breaker, which is pure: time and chance come in as arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Breaker, BreakerPolicy, BreakerState

S = BreakerState
POLICY = BreakerPolicy(failures=3, open_s=2.0, max_open_s=10.0, jitter=0.5)


def breaker_in(state: BreakerState, *, chance: float = 0.0) -> Breaker:
    """Return a breaker that was brought to `state` at time 0; a probe is due at time 2."""
    breaker = Breaker(POLICY, lambda: chance)
    if state is not S.CLOSED:
        assert breaker.open(0.0)
    if state is S.HALF_OPEN:
        breaker.hasten(0.0)
        assert breaker.probe(0.0)
    assert breaker.state is state
    return breaker


def fail(breaker: Breaker, now_s: float = 0.0) -> bool:
    """Note a failure that began in the present epoch."""
    return breaker.fail(breaker.epoch, now_s)


INPUTS: dict[str, Callable[[Breaker], object]] = {
    "success": lambda breaker: breaker.succeed(breaker.epoch, 0.0),
    "failure": fail,
    "loss": lambda breaker: breaker.open(0.0),
    "probe early": lambda breaker: breaker.probe(-1.0),
    "probe due": lambda breaker: breaker.probe(1000.0),
    "probe cancelled": lambda breaker: breaker.cancel_probe(breaker.epoch),
    "old success": lambda breaker: breaker.succeed(breaker.epoch - 1, 0.0),
    "old failure": lambda breaker: breaker.fail(breaker.epoch - 1, 0.0),
    "old cancelled": lambda breaker: breaker.cancel_probe(breaker.epoch - 1),
    "postpone": lambda breaker: breaker.postpone(50.0),
    "hasten": lambda breaker: breaker.hasten(0.0),
}
MOVES = {
    (S.CLOSED, "loss"): S.OPEN,
    (S.OPEN, "probe due"): S.HALF_OPEN,
    (S.HALF_OPEN, "success"): S.CLOSED,
    (S.HALF_OPEN, "failure"): S.OPEN,
    (S.HALF_OPEN, "loss"): S.OPEN,
    (S.HALF_OPEN, "probe cancelled"): S.OPEN,
}


@pytest.mark.parametrize(("state", "said"), [*product(BreakerState, INPUTS)])
def test_every_input_in_every_state_moves_as_stated_or_not_at_all(
    state: BreakerState, said: str
) -> None:
    """Only the listed inputs change the state, and exactly those start a new epoch."""
    breaker = breaker_in(state)
    epoch = breaker.epoch
    INPUTS[said](breaker)
    assert breaker.state is MOVES.get((state, said), state)
    assert breaker.epoch == epoch + ((state, said) in MOVES)
    assert breaker.closed is (breaker.state is S.CLOSED)


def test_only_failures_in_a_row_open_it() -> None:
    """A success forgets the failures before it."""
    breaker = breaker_in(S.CLOSED)
    assert [fail(breaker), fail(breaker)] == [False, False]
    assert not breaker.succeed(breaker.epoch, 0.0)
    assert [fail(breaker), fail(breaker), fail(breaker)] == [False, False, True]


def test_results_of_an_older_epoch_are_ignored() -> None:
    """What began before a change says nothing about the line after it."""
    breaker = breaker_in(S.CLOSED)
    before = breaker.epoch
    breaker.open(0.0)
    assert not breaker.succeed(before, 0.0)
    breaker.probe(2.0)
    assert not breaker.succeed(before, 0.0)
    assert not breaker.fail(before, 2.0)
    assert breaker.state is S.HALF_OPEN
    breaker.succeed(breaker.epoch, 0.0)
    for _ in range(10):
        assert not breaker.fail(before, 3.0)
    assert breaker.closed


def test_each_opening_in_a_row_doubles_up_to_the_bound() -> None:
    """Openings last 2, 4, 8 and then 10 s, for ever; a success starts over."""
    breaker = breaker_in(S.CLOSED)
    lengths: list[float] = []
    now_s = 0.0
    breaker.open(now_s)
    for _ in range(1100):  # more than a float's exponent can double
        length_s = breaker.retry_after_s(now_s)
        assert length_s is not None
        lengths.append(length_s)
        now_s = breaker.retry_at_s
        assert breaker.probe(now_s)
        assert fail(breaker, now_s)
    assert [round(length_s, 6) for length_s in lengths[:6]] == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert round(lengths[-1], 6) == 10.0
    now_s = breaker.retry_at_s
    breaker.probe(now_s)
    assert breaker.succeed(breaker.epoch, 0.0)
    breaker.open(0.0)
    assert breaker.retry_after_s(0.0) == 2.0


@given(chance=st.floats(0.0, 1.0), openings=st.integers(1, 8))
def test_jitter_lengthens_within_its_share(chance: float, openings: int) -> None:
    """An opening is never shorter than stated, nor longer than its jitter allows."""
    breaker = breaker_in(S.OPEN, chance=chance)
    now_s = 0.0
    for _ in range(openings - 1):
        now_s = breaker.retry_at_s
        breaker.probe(now_s)
        fail(breaker, now_s)
    nominal_s = min(POLICY.max_open_s, POLICY.open_s * 2 ** (openings - 1))
    assert nominal_s <= breaker.retry_at_s - now_s + 1e-9
    assert breaker.retry_at_s - now_s <= nominal_s * (1.0 + POLICY.jitter) + 1e-9


def test_half_open_admits_one_probe() -> None:
    """A second probe is not admitted while the first is under way."""
    breaker = breaker_in(S.OPEN)
    assert [breaker.probe(1.9), breaker.probe(2.0), breaker.probe(2.0)] == [False, True, False]


def test_a_cancelled_probe_counts_as_neither() -> None:
    """After a probe that was cut short the next is due as before, and no opening counts."""
    breaker = breaker_in(S.OPEN)
    breaker.probe(2.0)
    breaker.cancel_probe(breaker.epoch)
    assert breaker.state is S.OPEN
    assert breaker.probe(2.0)
    fail(breaker, 2.0)
    assert breaker.retry_after_s(2.0) == 4.0


def test_opening_twice_is_one_opening() -> None:
    """A loss noticed again while open neither prolongs nor doubles."""
    breaker = breaker_in(S.OPEN)
    assert not breaker.open(1.0)
    assert not fail(breaker, 1.0)
    assert breaker.retry_at_s == 2.0


def test_postpone_and_hasten_move_the_next_probe_one_way_only() -> None:
    """Postponing never brings a probe forward, hastening never puts it off."""
    breaker = breaker_in(S.OPEN)
    breaker.postpone(1.0)
    assert breaker.retry_at_s == 2.0
    breaker.postpone(7.0)
    assert not breaker.probe(6.9)
    breaker.hasten(8.0)
    assert breaker.retry_at_s == 7.0
    breaker.hasten(3.0)
    assert breaker.probe(3.0)


def test_retry_after_is_none_when_closed_and_never_negative() -> None:
    """Callers are told how long is left, zero once a probe is due."""
    assert breaker_in(S.CLOSED).retry_after_s(0.0) is None
    breaker = breaker_in(S.OPEN)
    assert breaker.retry_after_s(0.5) == 1.5
    assert breaker.retry_after_s(99.0) == 0.0


def test_a_policy_whose_bounds_do_not_fit_is_refused() -> None:
    """The longest opening cannot be shorter than the first."""
    with pytest.raises(ValueError, match=r"max_open_s = 1\.0 is less than open_s = 2\.0"):
        BreakerPolicy(open_s=2.0, max_open_s=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BreakerPolicy(failures=0),
        lambda: BreakerPolicy(open_s=0.0),
        lambda: BreakerPolicy(jitter=-0.1),
        lambda: BreakerPolicy(jitter=1.1),
    ],
)
def test_a_policy_out_of_range_is_refused(make: Callable[[], BreakerPolicy]) -> None:
    """Each number has its range."""
    with pytest.raises(ValueError, match="must be"):
        make()


def test_its_representation_tells_state_and_counts() -> None:
    """The representation says what it does and what led to it."""
    breaker = breaker_in(S.CLOSED)
    fail(breaker)
    assert repr(breaker) == "<Breaker CLOSED failures=1 epoch=0>"


def test_a_share_of_failures_opens_it() -> None:
    """Half of at least ten results within the window opens it, however they alternate."""
    breaker = Breaker(BreakerPolicy(failures=100, ratio=0.5, window_s=10.0), lambda: 0.0)
    for each in range(9):
        breaker.succeed(breaker.epoch, each * 0.1)
        assert breaker.fail(breaker.epoch, each * 0.1 + 0.05) is (each == 4)
        if each == 4:
            break
    assert breaker.state is BreakerState.OPEN


def test_old_results_leave_the_window() -> None:
    """Failures that are older than the window do not count, and neither do too few."""
    breaker = Breaker(BreakerPolicy(failures=100, ratio=0.5, window_s=10.0), lambda: 0.0)
    for each in range(9):
        assert not breaker.fail(breaker.epoch, each * 0.1)
    for each in range(9):
        assert not breaker.fail(breaker.epoch, 20.0 + each * 0.1)
    assert breaker.fail(breaker.epoch, 21.0)


def test_misses() -> None:
    """What several share counts their failures in its window, and not as failures in a row."""
    plain = Breaker(BreakerPolicy(failures=1), lambda: 0.0)
    assert not any(plain.miss(plain.epoch, each) for each in range(20))
    assert plain.closed
    breaker = Breaker(BreakerPolicy(failures=1, ratio=0.5, minimum=4), lambda: 0.0)
    told: list[bool] = []
    for each in range(2):
        breaker.succeed(breaker.epoch, each)
        told.append(breaker.miss(breaker.epoch, each))
    assert told == [False, True]
    assert breaker.closed
    breaker.open(2.0)
    assert not any(breaker.miss(breaker.epoch - 1, 2.0) for _ in range(20))


def test_by_hand() -> None:
    """Opened by hand it is never probed; closed by hand it has forgotten everything."""
    breaker = Breaker(BreakerPolicy(failures=1), lambda: 0.0)
    breaker.force_open()
    before = breaker.epoch
    assert breaker.retry_after_s(1e9) == math.inf
    assert not breaker.probe(1e9)
    assert not breaker.succeed(before - 1, 0.0)
    breaker.force_close()
    assert breaker.closed
    assert not breaker.forced
    assert breaker.fail(breaker.epoch, 5.0)
    assert breaker.retry_at_s == 5.0 + breaker.policy.open_s
    breaker.force_open()
    breaker.hasten(6.0)  # something urgent
    assert breaker.probe(6.0)
    assert not breaker.forced
