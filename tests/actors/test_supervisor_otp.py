"""What Erlang/OTP's documentation says of supervisors, rule by rule.

The logs: "+a" child a is up, "-a" its incarnation has ended.
"""

from __future__ import annotations

import itertools
import math
import signal

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from actors import (
    ChildEnded,
    ChildOverdue,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildStatus,
    Event,
    Events,
    GaveUpError,
    Intensity,
    Restart,
    Started,
    Strategy,
    SupervisionError,
    Supervisor,
    SupervisorGaveUp,
    describe,
)

from .family import Family, Script, quiet

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
NONE_BORNE = Intensity(max_restarts=0)


# Starting and stopping.


async def test_children_start_in_order_and_stop_in_reverse(autojump_clock: MockClock) -> None:
    """Start order is the order of the specifications; stop order is its reverse."""
    family = Family()
    async with family.running():
        assert family.lives() == ["+a", "+b", "+c"]
    assert family.lives() == ["-c", "-b", "-a"]


async def test_a_child_starts_only_once_the_one_before_it_is_up(autojump_clock: MockClock) -> None:
    """A slow start holds back the later siblings and the supervisor's own start."""
    family = Family()
    family["b"].late_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(family.run)
        await trio.sleep(1.0)
        assert family.lives() == ["+a"]
        assert family.statuses == {
            "a": ChildStatus.UP,
            "b": ChildStatus.STARTING,
            "c": ChildStatus.DOWN,
        }
        waiting = not family.up.is_set()
        await trio.sleep(1.5)
        assert family.lives() == ["+b", "+c"]
        assert waiting
        assert family.up.is_set()
        nursery.cancel_scope.cancel()


async def test_a_child_stops_only_once_the_one_after_it_is_down(autojump_clock: MockClock) -> None:
    """A slow stop holds back the earlier siblings."""
    family = Family("ab")
    family["b"].clean_up_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(family.run)
        await family.up.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(1.0)
            assert family.lives() == ["+a", "+b"]
            await trio.sleep(1.5)
    assert family.lives() == ["-b", "-a"]


async def test_a_failure_at_start_stops_those_before_it_and_fails_the_supervisor(
    autojump_clock: MockClock,
) -> None:
    """Nothing after the failing child starts; those before it stop in reverse."""
    family = Family("abcd")
    error = RuntimeError("no port")
    family["c"].start_errors = [error]
    with pytest.raises(
        SupervisionError, match="c failed to start: RuntimeError: no port"
    ) as caught:
        await family.run()
    assert caught.value.__cause__ is error
    assert not family.up.is_set()
    assert family.lives() == ["+a", "+b", "-c", "-b", "-a"]


async def test_a_failure_at_first_start_is_not_tried_again(autojump_clock: MockClock) -> None:
    """Restarts are for children that had started; the intensity is not touched."""
    family = Family("a")
    family["a"].start_errors = [RuntimeError("no")]
    with pytest.raises(SupervisionError):
        await family.run()
    assert not [each for each in family.events if isinstance(each, ChildRestarting)]


async def test_a_child_that_fails_right_after_it_is_up_has_started(
    autojump_clock: MockClock,
) -> None:
    """The start is good; the failure after it is a restart."""
    family = Family("ab")
    times = itertools.count()

    async def start(started: Started) -> None:
        started()
        if next(times) == 0:
            raise RuntimeError("at once")
        await trio.sleep_forever()

    supervisor = Supervisor("s", [ChildSpec("x", start), family["b"].spec()], events=Events())
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, supervisor)
        await quiet()
        assert [child.restarts for child in supervisor.children] == [1, 0]
        nursery.cancel_scope.cancel()


async def _run(
    supervisor: Supervisor, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    await supervisor.run(task_status.started)


def test_two_children_of_one_name_are_refused() -> None:
    """Names are unique among siblings."""
    script = Script("a", [])
    with pytest.raises(SupervisionError, match="two children are named a"):
        Supervisor("s", [script.spec(), script.spec()], events=Events())


async def test_cancelling_while_starting_stops_what_has_started(autojump_clock: MockClock) -> None:
    """The child that is just starting stops first, then those before it."""
    family = Family()
    family["b"].late_s = math.inf
    with trio.move_on_after(1.0):
        await family.run()
    assert family.lives() == ["+a", "-b", "-a"]


async def test_each_child_has_its_own_stop_budget_and_is_reported_beyond_it(
    autojump_clock: MockClock,
) -> None:
    """A child beyond its budget is reported once, and still waited for."""
    family = Family("abc", stop_s=1.0)
    family["b"].clean_up_s = 10.0
    family["a"].clean_up_s = 0.9
    async with family.running():
        stopping_s = trio.current_time()
    assert trio.current_time() - stopping_s == pytest.approx(10.9)
    overdue = [each for each in family.events if isinstance(each, ChildOverdue)]
    assert [(each.child, each.budget_s) for each in overdue] == [("b", 1.0)]
    assert family.lives()[-3:] == ["-c", "-b", "-a"]


async def test_stopping_settles_every_child_for_good_once_it_is_down(
    autojump_clock: MockClock,
) -> None:
    """What waits for a child is answered as soon as that child has ended."""
    family = Family("ab")
    async with family.running():
        family.drain()
    assert family.drain() == [
        "-b",
        "settle b for good: its supervisor stopped",
        "-a",
        "settle a for good: its supervisor stopped",
    ]


async def test_a_supervisor_that_failed_to_start_settles_all_its_children(
    autojump_clock: MockClock,
) -> None:
    """Nobody waits for a child that never started."""
    family = Family("ab")
    family["a"].start_errors = [RuntimeError("no")]
    with pytest.raises(SupervisionError):
        await family.run()
    assert len(family.settled()) == 2


async def test_a_settle_that_raises_does_not_keep_siblings_from_stopping(
    autojump_clock: MockClock,
) -> None:
    """All children are down before the error leaves the supervisor."""
    family = Family("a", more=[ChildSpec("x", _idle, settle=_bad_settle)])
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError), flatten_subgroups=True):
        async with family.running():
            pass
    assert family.lives() == ["+a", "-a"]


async def _idle(started: Started) -> None:
    started()
    await trio.sleep_forever()


def _bad_settle(reason: str, *, for_good: bool) -> None:
    raise ZeroDivisionError(reason if for_good else "")


# Strategies.


@pytest.mark.parametrize(
    ("strategy", "lives"),
    [
        (ONE, ["-b", "+b"]),
        (ALL, ["-b", "-d", "-c", "-a", "+a", "+b", "+c", "+d"]),
        (REST, ["-b", "-d", "-c", "+b", "+c", "+d"]),
    ],
)
async def test_a_strategy_says_which_siblings_share_a_restart(
    autojump_clock: MockClock, strategy: Strategy, lives: list[str]
) -> None:
    """one_for_one: nobody; one_for_all: everybody; rest_for_one: those started later."""
    family = Family("abcd", strategy=strategy)
    async with family.running():
        family.drain()
        family["b"].fail()
        await quiet()
        assert family.lives() == lives
        assert set(family.statuses.values()) == {ChildStatus.UP}


@pytest.mark.parametrize(("strategy", "sharing"), [(ONE, ""), (ALL, "ac"), (REST, "c")])
async def test_siblings_that_share_a_restart_are_settled_for_now(
    autojump_clock: MockClock, strategy: Strategy, sharing: str
) -> None:
    """The siblings' queues are answered before they restart; the ended child's is kept."""
    family = Family(strategy=strategy)
    async with family.running():
        family.drain()
        family["b"].fail()
        await quiet()
        assert family.settled() == [
            f"settle {name} for now: it restarts with b" for name in reversed(sharing)
        ]


async def test_failures_at_the_same_time_share_one_group_restart(autojump_clock: MockClock) -> None:
    """A sibling that failed while its group restarts anyway costs nothing more."""
    family = Family(strategy=ALL, intensity=Intensity(max_restarts=1, window_s=5.0))
    async with family.running():
        for script in family.scripts.values():
            script.fail()
        await quiet()
        assert [child.restarts for child in family.supervisor.children] == [1, 1, 1]


async def test_a_child_stopped_by_hand_restarts_with_its_group(autojump_clock: MockClock) -> None:
    """Stopping keeps a child from restarting by itself, not from restarting with others."""
    family = Family(strategy=ALL)
    async with family.running():
        await family.supervisor.stop_child("c")
        family.drain()
        family["a"].fail()
        await quiet()
        assert family.lives() == ["-a", "-b", "+a", "+b", "+c"]


async def test_a_transient_child_that_had_ended_restarts_with_its_group(
    autojump_clock: MockClock,
) -> None:
    """Its normal end starts nothing, but the group of a failed sibling includes it."""
    family = Family(strategy=ALL, classes={"b": TRANSIENT})
    async with family.running():
        family["b"].end()
        await quiet()
        assert family.statuses["b"] is ChildStatus.DOWN
        family.drain()
        family["a"].fail()
        await quiet()
        assert family.lives() == ["-a", "-c", "+a", "+b", "+c"]


# Restart classes.


@pytest.mark.parametrize(
    ("restart", "failed", "restarts"),
    [
        (PERMANENT, True, True),
        (PERMANENT, False, True),
        (TRANSIENT, True, True),
        (TRANSIENT, False, False),
        (TEMPORARY, True, False),
        (TEMPORARY, False, False),
    ],
)
async def test_a_class_says_after_which_ends_a_child_restarts(
    autojump_clock: MockClock, restart: Restart, failed: bool, restarts: bool
) -> None:
    """Permanent: always; transient: after failures; temporary: never."""
    family = Family("ab", classes={"b": restart})
    async with family.running():
        family.drain()
        if failed:
            family["b"].fail()
        else:
            family["b"].end()
        await quiet()
        assert family.lives() == (["-b", "+b"] if restarts else ["-b"])


async def test_a_transient_child_that_ended_stays_known_and_down(autojump_clock: MockClock) -> None:
    """Its specification is kept, its queue is answered for good."""
    family = Family("a", restart=TRANSIENT)
    async with family.running():
        family["a"].end()
        await quiet()
        assert family.statuses == {"a": ChildStatus.DOWN}
        assert family.settled() == ["settle a for good: it ended"]


@pytest.mark.parametrize("failed", [True, False])
async def test_a_temporary_child_that_ended_is_forgotten(
    autojump_clock: MockClock, failed: bool
) -> None:
    """Whether it failed or not: its specification goes, its queue is answered."""
    family = Family("a", restart=TEMPORARY)
    async with family.running():
        if failed:
            family["a"].fail()
        else:
            family["a"].end()
        await quiet()
        assert family.statuses == {}
        assert family.settled() == ["settle a for good: it ended"]


@pytest.mark.parametrize("strategy", [ALL, REST])
async def test_a_temporary_child_never_restarts_even_with_its_group(
    autojump_clock: MockClock, strategy: Strategy
) -> None:
    """A sibling's restart stops it, and it is forgotten."""
    family = Family(strategy=strategy, classes={"b": TEMPORARY})
    async with family.running():
        family.drain()
        family["a"].fail()
        await quiet()
        assert family.lives() == ["-a", "-c", "-b", "+a", "+c"]
        assert "b" not in family.statuses


async def test_ends_without_restart_cost_nothing(autojump_clock: MockClock) -> None:
    """Only restarts count against the intensity."""
    family = Family("abc", classes={"a": TRANSIENT, "b": TEMPORARY}, intensity=NONE_BORNE)
    async with family.running():
        family["a"].end()
        family["b"].fail()
        await quiet()
        assert family.statuses == {"a": ChildStatus.DOWN, "c": ChildStatus.UP}


async def test_a_child_that_returns_without_having_been_up_has_ended(
    autojump_clock: MockClock,
) -> None:
    """It holds nobody back, and its class says what follows."""

    async def job(started: Started) -> None:
        del started

    family = Family("a", more=[ChildSpec("job", job, TRANSIENT), Script("z", []).spec()])
    async with family.running():
        await quiet()
        assert list(family.statuses.values()) == [
            ChildStatus.UP,
            ChildStatus.DOWN,
            ChildStatus.UP,
        ]


# Intensity.


async def test_more_restarts_than_borne_within_the_window_give_up(
    autojump_clock: MockClock,
) -> None:
    """The last restart allowed happens; one more stops all in reverse and fails upward."""
    family = Family("ab", intensity=Intensity(max_restarts=2, window_s=5.0))
    last = RuntimeError("the last straw")
    with pytest.RaisesGroup(pytest.RaisesExc(GaveUpError)) as caught:
        async with family.running():
            for _ in range(2):
                family["a"].fail()
                await quiet()
            assert family.drain()[-2:] == ["-a", "+a"]
            family["a"].fail(last)
            await trio.sleep_forever()
    gave_up = caught.value.exceptions[0]
    assert gave_up.__cause__ is last
    assert "more than 2 restarts within 5 s, the last of a" in str(gave_up)
    assert family.drain() == [
        "-a",
        "farewell",
        "-b",
        "settle b for good: its supervisor stopped",
        "settle a for good: its supervisor stopped",
    ]
    event = next(each for each in family.events if isinstance(each, SupervisorGaveUp))
    assert (event.supervisor, event.child) == ("family", "a")
    assert event.error == "RuntimeError: the last straw"


async def test_restarts_older_than_the_window_are_forgotten(autojump_clock: MockClock) -> None:
    """A child that fails slowly enough is restarted for ever."""
    family = Family("a", intensity=Intensity(max_restarts=1, window_s=5.0))
    async with family.running():
        for _ in range(20):
            await trio.sleep(5.1)
            family["a"].fail()
        await quiet()
        assert family.supervisor.children[0].restarts == 20


async def test_restarts_after_normal_ends_count_too(autojump_clock: MockClock) -> None:
    """A permanent child that keeps returning exceeds the intensity like one that fails."""
    family = Family("a", intensity=Intensity(max_restarts=1, window_s=5.0))
    with pytest.RaisesGroup(pytest.RaisesExc(GaveUpError, match="the last of a$")):
        async with family.running():
            family["a"].end()
            await quiet()
            family["a"].end()
            await trio.sleep_forever()


async def test_the_intensity_is_the_supervisors_not_the_childs(autojump_clock: MockClock) -> None:
    """Restarts of different children add up."""
    family = Family("ab", intensity=Intensity(max_restarts=1, window_s=5.0))
    with pytest.RaisesGroup(pytest.RaisesExc(GaveUpError)):
        async with family.running():
            family["a"].fail()
            await quiet()
            family["b"].fail()
            await trio.sleep_forever()


async def test_a_group_restart_counts_once(autojump_clock: MockClock) -> None:
    """However many siblings share it."""
    family = Family("abcd", strategy=ALL, intensity=Intensity(max_restarts=1, window_s=5.0))
    async with family.running():
        family["a"].fail()
        await quiet()
        assert set(family.statuses.values()) == {ChildStatus.UP}


async def test_a_restart_that_fails_to_start_is_tried_again_and_counts_again(
    autojump_clock: MockClock,
) -> None:
    """Each try costs one; a later good one ends it."""
    family = Family("ab", intensity=Intensity(max_restarts=3, window_s=5.0))
    async with family.running():
        family["a"].start_errors = [RuntimeError("1"), RuntimeError("2")]
        family.drain()
        family["a"].fail()
        await quiet()
        assert family.lives() == ["-a", "-a", "-a", "+a"]
        assert family.supervisor.children[0].restarts == 3


async def test_a_restart_that_keeps_failing_to_start_gives_up(autojump_clock: MockClock) -> None:
    """The tries exceed the intensity; the supervisor fails with the last error as cause."""
    family = Family("ab", intensity=Intensity(max_restarts=3, window_s=5.0))
    errors = [RuntimeError(str(count)) for count in range(5)]
    with pytest.RaisesGroup(pytest.RaisesExc(GaveUpError)) as caught:
        async with family.running():
            family["a"].start_errors = [*errors]
            family["a"].fail()
            await trio.sleep_forever()
    assert caught.value.exceptions[0].__cause__ is errors[2]


@pytest.mark.parametrize(
    ("strategy", "lives"),
    [
        (ALL, ["-a", "-c", "-b", "+a", "+b", "-c", "-b", "-a", "+a", "+b", "+c"]),
        (REST, ["-a", "-c", "-b", "+a", "+b", "-c", "+c"]),
    ],
)
async def test_a_sibling_that_fails_to_restart_restarts_its_own_group(
    autojump_clock: MockClock, strategy: Strategy, lives: list[str]
) -> None:
    """It is tried again as the strategy says for it, and that counts once more."""
    family = Family(strategy=strategy, intensity=Intensity(max_restarts=2, window_s=5.0))
    async with family.running():
        family["c"].start_errors = [RuntimeError("busy")]
        family.drain()
        family["a"].fail()
        await quiet()
        assert family.lives() == lives
        assert set(family.statuses.values()) == {ChildStatus.UP}


async def test_those_after_a_sibling_that_fails_to_restart_wait_for_it(
    autojump_clock: MockClock,
) -> None:
    """Start order holds in restarts too: later ones start after the good try."""
    family = Family(strategy=ALL)
    async with family.running():
        family["b"].start_errors = [RuntimeError("busy")]
        family.drain()
        family["c"].fail()
        await quiet()
        assert family.lives() == ["-c", "-b", "-a", "+a", "-b", "-a", "+a", "+b", "+c"]


# Nesting.


def nested(inner: Family, restart: Restart = PERMANENT) -> ChildSpec:
    """Return the specification of a family as a child supervisor."""
    return ChildSpec("inner", inner.supervisor.run, restart, stop_s=math.inf)


async def test_a_parent_restarts_a_supervisor_that_gave_up_and_counts_it(
    autojump_clock: MockClock,
) -> None:
    """The give-up is one failure to the parent; the children start anew."""
    inner = Family("xy", intensity=NONE_BORNE)
    outer = Family("a", more=[nested(inner)], intensity=Intensity(max_restarts=1, window_s=5.0))
    with pytest.RaisesGroup(
        pytest.RaisesExc(GaveUpError, match="GaveUpError: family: more than 0")
    ):
        async with outer.running():
            inner.drain()
            inner["x"].fail()
            await quiet()
            assert inner.lives() == ["-x", "-y", "+x", "+y"]
            assert outer.supervisor.children[1].restarts == 1
            assert "-a" not in outer.log
            inner["y"].fail()
            await trio.sleep_forever()
    assert inner.lives() == ["-y", "-x"]
    assert outer.lives() == ["+a", "-a"]


async def test_a_supervisor_that_starts_again_has_its_whole_intensity_again(
    autojump_clock: MockClock,
) -> None:
    """A new incarnation starts with an unused budget."""
    inner = Family("x", intensity=Intensity(max_restarts=1, window_s=1000.0))
    outer = Family("a", more=[nested(inner)])
    async with outer.running():
        for _ in range(3):
            inner["x"].fail()
            await quiet()
        assert outer.supervisor.children[1].restarts == 1
        assert [child.restarts for child in inner.supervisor.children] == [1]


async def test_nested_children_stop_in_reverse_across_the_levels(autojump_clock: MockClock) -> None:
    """The inner family is down before the child before it is told to stop."""
    inner = Family("xy")
    outer = Family("ab", more=[nested(inner)])
    inner.log = outer.log
    for script in inner.scripts.values():
        script.log = outer.log
    async with outer.running():
        assert outer.lives() == ["+a", "+b", "+x", "+y"]
    assert outer.lives() == ["-y", "-x", "-b", "-a"]


async def test_a_supervisor_that_starts_again_knows_only_its_first_children(
    autojump_clock: MockClock,
) -> None:
    """Children that were added are lost with it, children that were removed come back."""
    inner = Family("xy", intensity=NONE_BORNE)
    outer = Family("a", more=[nested(inner)])
    async with outer.running():
        await inner.supervisor.start_child(inner.add("z").spec())
        await inner.supervisor.remove_child("y")
        assert list(inner.statuses) == ["x", "z"]
        inner["x"].fail()
        await quiet()
        assert list(inner.statuses) == ["x", "y"]


async def test_a_transient_supervisor_that_gave_up_stays_down(autojump_clock: MockClock) -> None:
    """Giving up is a shutdown in order, which restarts no transient child."""
    inner = Family("x", intensity=NONE_BORNE)
    outer = Family("a", more=[nested(inner, TRANSIENT)])
    async with outer.running():
        inner["x"].fail()
        await quiet()
        assert outer.statuses == {"a": ChildStatus.UP, "inner": ChildStatus.DOWN}


async def test_a_supervisor_whose_child_fails_to_start_fails_its_parents_start(
    autojump_clock: MockClock,
) -> None:
    """A failure at start goes up level by level, and everything started stops."""
    inner = Family("xy")
    inner["y"].start_errors = [RuntimeError("no port")]
    outer = Family("a", more=[nested(inner)])
    with pytest.raises(
        SupervisionError, match=r"inner failed to start.*y failed to start.*no port"
    ):
        await outer.run()
    assert inner.lives() == ["+x", "-y", "-x"]
    assert outer.lives() == ["+a", "-a"]


# Children that come and go.


async def test_an_added_child_is_the_last_in_order(autojump_clock: MockClock) -> None:
    """It is up when the call returns, and stops first."""
    family = Family("a")
    async with family.running():
        family.add("b").late_s = 1.0
        await family.supervisor.start_child(family["b"].spec())
        assert family.lives() == ["+a", "+b"]
    assert family.lives() == ["-b", "-a"]


async def test_an_added_child_is_kept_alive_like_the_first_ones(autojump_clock: MockClock) -> None:
    """The strategy and the classes apply to it."""
    family = Family("a")
    async with family.running():
        await family.supervisor.start_child(family.add("b").spec())
        family["b"].fail()
        await quiet()
        assert family.lives() == ["+a", "+b", "-b", "+b"]


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_child_of_a_known_name_is_refused(autojump_clock: MockClock, stopped: bool) -> None:
    """Whether the one that has the name runs or is down."""
    family = Family("a")
    async with family.running():
        if stopped:
            await family.supervisor.stop_child("a")
        before = family.statuses
        with pytest.raises(SupervisionError, match="a child named a exists already"):
            await family.supervisor.start_child(Script("a", []).spec())
        assert family.statuses == before


async def test_an_added_child_that_fails_to_start_is_forgotten_and_settled(
    autojump_clock: MockClock,
) -> None:
    """The caller gets the error; nothing restarts, nobody waits for it."""
    family = Family("a", intensity=NONE_BORNE)
    async with family.running():
        family.add("b").start_errors = [RuntimeError("no port")]
        with pytest.raises(SupervisionError, match="b failed to start: RuntimeError: no port"):
            await family.supervisor.start_child(family["b"].spec())
        await quiet()
        assert family.statuses == {"a": ChildStatus.UP}
        assert family.settled() == ["settle b for good: it failed to start"]


async def test_a_stopped_child_stays_known_and_down(autojump_clock: MockClock) -> None:
    """Stopping is no end to react to: it is not restarted and costs nothing."""
    family = Family("ab", intensity=NONE_BORNE)
    async with family.running():
        family.drain()
        await family.supervisor.stop_child("a")
        await quiet()
        assert family.drain() == ["-a", "settle a for good: it was stopped"]
        assert family.statuses == {"a": ChildStatus.DOWN, "b": ChildStatus.UP}
        await family.supervisor.stop_child("a")
        assert family.statuses["a"] is ChildStatus.DOWN


async def test_a_stopped_temporary_child_is_forgotten(autojump_clock: MockClock) -> None:
    """It could never be restarted, so its specification goes."""
    family = Family("a", restart=TEMPORARY)
    async with family.running():
        await family.supervisor.stop_child("a")
        assert family.statuses == {}


async def test_a_child_that_is_down_can_be_started_again(autojump_clock: MockClock) -> None:
    """It keeps its place in the order."""
    family = Family()
    async with family.running():
        await family.supervisor.stop_child("a")
        await family.supervisor.restart_child("a")
        assert family.lives() == ["+a", "+b", "+c", "-a", "+a"]
        assert family.supervisor.children[0].restarts == 0
    assert family.lives() == ["-c", "-b", "-a"]


async def test_a_child_that_runs_or_restarts_cannot_be_started_again(
    autojump_clock: MockClock,
) -> None:
    """Only a child that is down is started by hand."""
    family = Family("ab")
    family["b"].delay_s = 10.0
    async with family.running():
        family["b"].fail()
        await quiet()
        for name in "ab":
            with pytest.raises(SupervisionError, match=f"{name} is not down"):
                await family.supervisor.restart_child(name)


async def test_a_child_that_fails_when_started_by_hand_stays_down(
    autojump_clock: MockClock,
) -> None:
    """The caller gets the error, and nothing is tried again."""
    family = Family("a", intensity=NONE_BORNE)
    async with family.running():
        await family.supervisor.stop_child("a")
        family["a"].start_errors = [RuntimeError("no port")]
        family.drain()
        with pytest.raises(SupervisionError, match="no port"):
            await family.supervisor.restart_child("a")
        await quiet()
        assert family.statuses == {"a": ChildStatus.DOWN}
        assert family.drain() == ["-a", "settle a for good: it failed to start"]


async def test_a_removed_child_is_stopped_settled_and_forgotten(autojump_clock: MockClock) -> None:
    """Its name is free again."""
    family = Family("ab")
    async with family.running():
        family.drain()
        await family.supervisor.remove_child("a")
        assert family.drain() == ["-a", "settle a for good: it was removed"]
        assert list(family.statuses) == ["b"]
        await family.supervisor.start_child(family["a"].spec())
        assert list(family.statuses) == ["b", "a"]


async def test_an_unknown_child_is_named_with_those_that_exist(autojump_clock: MockClock) -> None:
    """Stopping, removing and restarting what is not there says what is."""
    family = Family("ab")
    async with family.running():
        supervisor = family.supervisor
        for act in (supervisor.stop_child, supervisor.remove_child, supervisor.restart_child):
            with pytest.raises(SupervisionError, match="no child x; there are: a, b"):
                await act("x")


async def test_stopping_a_child_that_has_just_failed_keeps_it_down(
    autojump_clock: MockClock,
) -> None:
    """A request that meets a failure nobody has reacted to yet wins."""
    family = Family("ab", intensity=NONE_BORNE)
    async with family.running():
        family["b"].clean_up_s = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(family.supervisor.stop_child, "b")
            await quiet()
            nursery.start_soon(family.supervisor.stop_child, "a")
            await quiet()
            family["a"].fail()
        await quiet()
        assert family.statuses == {"a": ChildStatus.DOWN, "b": ChildStatus.DOWN}


async def test_a_supervisor_that_does_not_run_refuses_requests(autojump_clock: MockClock) -> None:
    """Before its start and after its end."""
    family = Family("a")
    with pytest.raises(SupervisionError, match="family is not running"):
        await family.supervisor.stop_child("a")
    async with family.running():
        pass
    with pytest.raises(SupervisionError, match="family is not running"):
        await family.supervisor.stop_child("a")


async def test_requests_that_wait_while_it_stops_are_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    """Neither the one being served nor those behind it wait for the children."""
    family = Family("ab")
    family["b"].clean_up_s = 10.0
    refused: list[tuple[float, str]] = []

    async def stop(name: str) -> None:
        with trio.CancelScope(shield=True):
            try:
                await family.supervisor.stop_child(name)
            except SupervisionError as error:
                refused.append((trio.current_time(), str(error)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(family.run)
        await family.up.wait()
        nursery.start_soon(stop, "b")
        await quiet()
        nursery.start_soon(stop, "a")
        await quiet()
        now_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert refused == [(now_s, "family is stopping")] * 2


async def test_a_child_that_asks_while_it_stops_does_not_block_the_stop(
    autojump_clock: MockClock,
) -> None:
    """A supervisor that stops refuses what its own children ask of it."""
    refused: list[str] = []
    family = Family("a")

    async def start(started: Started) -> None:
        started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await family.supervisor.stop_child("a")
                except SupervisionError as error:
                    refused.append(str(error))

    async with family.running():
        await family.supervisor.start_child(ChildSpec("x", start))
    assert refused == ["family is not running"]


async def test_a_request_whose_caller_is_gone_is_not_carried_out(autojump_clock: MockClock) -> None:
    """Cancelled while it waits, it changes nothing."""
    family = Family("ab")
    family["b"].clean_up_s = 10.0
    async with family.running(), trio.open_nursery() as nursery:
        nursery.start_soon(family.supervisor.stop_child, "b")
        await quiet()
        with trio.move_on_after(1.0):
            await family.supervisor.stop_child("a")
        await trio.sleep(10.0)
        assert family.statuses == {"a": ChildStatus.UP, "b": ChildStatus.DOWN}


async def test_a_child_may_stop_itself(autojump_clock: MockClock) -> None:
    """The request is carried out though the one who made it ends by it."""
    family = Family("a")

    async def start(started: Started) -> None:
        started()
        await family.supervisor.stop_child("x")

    async with family.running():
        await family.supervisor.start_child(ChildSpec("x", start))
        await quiet()
        assert family.statuses == {"a": ChildStatus.UP, "x": ChildStatus.DOWN}


async def test_cancelling_while_a_child_is_added_stops_that_child_too(
    autojump_clock: MockClock,
) -> None:
    """A child that is still starting is nobody's orphan."""
    family = Family("a")
    family.add("b").late_s = math.inf
    with trio.fail_after(100.0):
        async with family.running():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(family.supervisor.start_child, family["b"].spec())
                await quiet()
                nursery.cancel_scope.cancel()
            family.drain()
    assert family.drain() == [
        "-b",
        "settle b for good: its supervisor stopped",
        "-a",
        "settle a for good: its supervisor stopped",
    ]


# The delay of a restart.


async def test_a_delayed_restart_holds_back_only_its_child(autojump_clock: MockClock) -> None:
    """Meanwhile siblings live and restart, and requests are served."""
    family = Family()
    family["b"].delay_s = 10.0
    async with family.running():
        family.drain()
        family["b"].fail()
        await quiet()
        assert family.statuses["b"] is ChildStatus.RESTARTING
        family["a"].fail()
        await quiet()
        await family.supervisor.stop_child("c")
        await family.supervisor.start_child(family.add("d").spec())
        assert family.lives() == ["-b", "-a", "+a", "-c", "+d"]
        await trio.sleep(9.9)
        assert family.lives() == []
        await trio.sleep(0.2)
        assert family.lives() == ["+b"]
    restarting = [each for each in family.events if isinstance(each, ChildRestarting)]
    assert [(each.child, each.delay_s) for each in restarting] == [("b", 10.0), ("a", 0.0)]


async def test_a_delayed_child_that_is_stopped_or_removed_does_not_come_back(
    autojump_clock: MockClock,
) -> None:
    """The delay ends with the request."""
    family = Family()
    async with family.running():
        for name in "ab":
            family[name].delay_s = 10.0
            family[name].fail()
        await quiet()
        await family.supervisor.stop_child("a")
        await family.supervisor.remove_child("b")
        family.drain()
        await trio.sleep(20.0)
        assert family.lives() == []
        assert family.statuses == {"a": ChildStatus.DOWN, "c": ChildStatus.UP}


async def test_an_older_delay_does_not_shorten_a_newer_one(autojump_clock: MockClock) -> None:
    """Stopped, started by hand and failed again, a child waits its new delay in full."""
    family = Family("a")
    family["a"].delay_s = 10.0
    async with family.running():
        family["a"].fail()
        await quiet()
        await family.supervisor.stop_child("a")
        await family.supervisor.restart_child("a")
        await trio.sleep(5.0)
        family["a"].fail()
        family.drain()
        await trio.sleep(9.0)
        assert family.lives() == ["-a"]
        await trio.sleep(2.0)
        assert family.lives() == ["+a"]


async def test_a_group_waits_for_the_delay_of_a_child_already_held_back(
    autojump_clock: MockClock,
) -> None:
    """A sibling's failure brings no restart forward that a breaker holds back."""
    family = Family("ab", strategy=ALL)
    family["a"].delay_s = 10.0
    async with family.running():
        family["a"].fail()
        await quiet()
        family.drain()
        assert set(family.statuses.values()) == {ChildStatus.RESTARTING}
        await trio.sleep(10.1)
        assert family.lives() == ["+a", "+b"]
    family = Family("ab", strategy=REST)
    family["b"].delay_s = 10.0
    async with family.running():
        family["b"].fail()
        await quiet()
        family.drain()
        family["a"].fail()
        await trio.sleep(9.0)
        assert family.lives() == ["-a"]
        await trio.sleep(2.0)
        assert family.lives() == ["+a", "+b"]


async def test_cancelling_ends_a_delay_at_once(autojump_clock: MockClock) -> None:
    """A child that waits for its restart delays no stop."""
    family = Family("ab")
    family["b"].delay_s = 1000.0
    async with family.running():
        family["b"].fail()
        await quiet()
        now_s = trio.current_time()
    assert trio.current_time() == now_s


# What counts as a failure.


async def test_cancelled_is_never_a_failure(autojump_clock: MockClock) -> None:
    """Stopping is an end without error; so is a child's own inner cancellation."""
    family = Family("a")

    async def start(started: Started) -> None:
        started()
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep_forever()

    async with family.running():
        await family.supervisor.start_child(ChildSpec("x", start, TRANSIENT))
        await quiet()
        await family.supervisor.stop_child("a")
        assert [child.error for child in family.supervisor.children] == [None, None]
    ended = [each for each in family.events if isinstance(each, ChildEnded)]
    assert [(each.child, each.error, each.stopped) for each in ended] == [
        ("x", None, False),
        ("a", None, True),
    ]


async def test_a_clean_up_error_while_stopping_is_contained_and_recorded(
    autojump_clock: MockClock,
) -> None:
    """It harms no sibling, costs no restart, and is told with the end of the child."""
    family = Family("ab", intensity=NONE_BORNE)
    error = RuntimeError("cannot close")
    family["a"].clean_up_error = error
    async with family.running():
        await family.supervisor.stop_child("a")
        assert family.supervisor.children[0].error is error
        assert family.statuses == {"a": ChildStatus.DOWN, "b": ChildStatus.UP}
    ended = next(each for each in family.events if isinstance(each, ChildEnded))
    assert (ended.child, ended.error, ended.stopped) == ("a", "RuntimeError: cannot close", True)


async def test_a_clean_up_error_mixed_with_the_cancellation_is_contained(
    autojump_clock: MockClock,
) -> None:
    """A child with a nursery of its own may end with both; what is left is its error."""
    family = Family("a")

    async def bad() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("flush")

    async def start(started: Started) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bad)
            nursery.start_soon(trio.sleep_forever)
            await quiet()
            started()

    async with family.running():
        await family.supervisor.start_child(ChildSpec("x", start))
        await family.supervisor.stop_child("x")
        error = family.supervisor.children[1].error
        assert error is not None
        assert describe(error) == "ValueError: flush"


async def test_an_exception_group_is_one_failure_kept_whole(autojump_clock: MockClock) -> None:
    """It costs one restart, and the cause of giving up is the very group."""
    family = Family("a", intensity=Intensity(max_restarts=1, window_s=5.0))
    group = ExceptionGroup("two", [ValueError("1"), ExceptionGroup("inner", [KeyError("2")])])
    with pytest.RaisesGroup(pytest.RaisesExc(GaveUpError)) as caught:
        async with family.running():
            family["a"].fail(group)
            await quiet()
            assert family.supervisor.children[0].restarts == 1
            family["a"].fail(group)
            await trio.sleep_forever()
    assert caught.value.exceptions[0].__cause__ is group
    errors = {each.error for each in family.events if isinstance(each, ChildEnded)}
    assert errors == {"ValueError: 1; KeyError: '2'"}


async def test_a_keyboard_interrupt_tears_everything_down_in_order(
    autojump_clock: MockClock,
) -> None:
    """It is nobody's failure: no restart, siblings stop in reverse, and it goes on up."""
    family = Family()
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with family.running():
            family.drain()
            family["b"].fail(KeyboardInterrupt())
            await trio.sleep_forever()
    assert family.lives() == ["-b", "-c", "-a"]
    ended = next(each for each in family.events if isinstance(each, ChildEnded))
    assert (ended.child, ended.error) == ("b", "KeyboardInterrupt")


def test_children_and_supervisor_are_protected_from_keyboard_interrupt() -> None:
    """A signal never lands inside a busy child."""
    protected: list[bool] = []

    async def start(started: Started) -> None:
        signal.raise_signal(signal.SIGINT)
        protected.append(trio.lowlevel.currently_ki_protected())
        started()
        await trio.sleep_forever()

    supervisor = Supervisor("s", [ChildSpec("x", start)], events=Events())
    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(supervisor.run, lambda: None)
    assert protected == [True]


# Observers.


async def test_an_observer_that_raises_harms_nobody(autojump_clock: MockClock) -> None:
    """It is logged, the others are told, and the supervisor goes on."""
    family = Family("a")

    def bad(event: Event) -> None:
        raise ValueError(event)

    with structlog.testing.capture_logs() as logs, family.hub.observed(bad):
        async with family.running():
            family["a"].fail()
            await quiet()
            assert family.statuses == {"a": ChildStatus.UP}
    started = [each for each in family.events if isinstance(each, ChildStarted)]
    assert [each.child for each in started] == ["a", "a"]
    assert {entry["event"] for entry in logs} == {"an observer failed"}
    assert len(logs) == len(family.events)


async def test_events_tell_a_childs_life_in_order(autojump_clock: MockClock) -> None:
    """Started, ended, restarting, started, ended, each stamped with its instant."""
    family = Family("a")
    async with family.running():
        autojump_clock.jump(3.0)
        family["a"].fail()
        await quiet()
    kinds = [type(each) for each in family.events]
    assert kinds == [ChildStarted, ChildEnded, ChildRestarting, ChildStarted, ChildEnded]
    assert [each.mono_ns // 10**9 for each in family.events] == [0, 3, 3, 3, 3]
    assert "a:DOWN" in repr(family.supervisor)


def test_describe_says_an_exception_in_one_line() -> None:
    """A group by its leaves, an exception without text by its type."""
    inner = ExceptionGroup[Exception]("h", [KeyError()])
    group = ExceptionGroup[Exception]("g", [ValueError("x"), inner])
    assert describe(group) == "ValueError: x; KeyError"
