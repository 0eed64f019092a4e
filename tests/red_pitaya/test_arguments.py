"""What the modules of a board are told, checked before anything travels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, cast

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors import Bus, Cause, Events, RefusedError
from actors.instruments.red_pitaya import RedPitaya
from actors.instruments.red_pitaya.limits import Filters, Stepped, narrowed
from actors.validation import Limits
from transports import SERIAL, BoardSettings, PyrplTransport

Told = Callable[[RedPitaya], object]

# What is wrong is wrong for type checkers, too.
WRONG: Any = object()


def _board() -> RedPitaya:
    """Return a board on a bus that nobody runs: whatever is accepted is never answered."""
    line = PyrplTransport("redpitaya://rp", BoardSettings(host="rp"))
    return RedPitaya("rp", Bus("board", line, SERIAL, events=Events(), sequence=count(1)))


def _any(value: object) -> Any:
    return value


MISTAKES: list[tuple[Told, str]] = [
    (lambda rp: rp.scope.single(averages=_any("2")), "single.averages: '2' is a str; it takes"),
    (lambda rp: rp.scope.single(averages=_any(1.5)), "1.5 is a float; it takes an integer from 1"),
    (lambda rp: rp.scope.single(averages=0), "0 is out of range; it takes an integer from 1"),
    (lambda rp: rp.scope.single(timeout_s=-1), "single.timeout_s: -1 s is out of range"),
    (lambda rp: rp.scope.single(timeout_s=_any("soon")), "single.timeout_s: 'soon' is a str"),
    (lambda rp: rp.scope.single(timeout_s=float("nan")), "nan is not a finite number"),
    (lambda rp: rp.scope.single(durattion=1), "there is no setting 'durattion'; there are: input1"),
    (lambda rp: rp.scope.single(duration=_any(None)), "single.duration: None is a NoneType"),
    (lambda rp: rp.scope.stream(count=-1), "stream.count: -1 is out of range; it takes an integer"),
    (lambda rp: rp.scope.stream(count=_any("3")), "stream.count: '3' is a str"),
    (lambda rp: rp.scope.rolling(count=0), "rolling.count: 0 is out of range"),
    (lambda rp: rp.scope.rolling(every_s=0.0), "rolling.every_s: 0.0 s is out of range"),
    (lambda rp: rp.scope.rolling(every_s=_any("a")), "rolling.every_s: 'a' is a str"),
    (lambda rp: rp.pid0.wait_stable(_any("a"), 1), "wait_stable.tolerance: 'a' is a str"),
    (lambda rp: rp.pid0.wait_stable(0.0, 1), "tolerance: 0.0 V is out of range"),
    (lambda rp: rp.pid0.wait_stable(0.1, -1), "wait_stable.for_s: -1 s is out of range"),
    (lambda rp: rp.pid0.i.set(1e9), "i.set: 1000000000.0 Hz is out of range"),
    (lambda rp: rp.pid0.input_filter.set(_any(1000.0)), "1000.0 is no list but float; it takes a"),
    (lambda rp: rp.pid0.input_filter.set([1.0] * 5), "5 were given; it takes a list of 1 to 4"),
    (lambda rp: rp.pid0.input_filter.set([]), "0 were given; it takes a list of 1 to 4"),
    (lambda rp: rp.pid0.input_filter.set(_any(["low"])), "'low' in it is no number"),
    (lambda rp: rp.iq0.bandwidth.set([float("inf")]), "inf in it is not finite"),
    (lambda rp: rp.iq0.bandwidth.set(_any([True])), "True in it is no number"),
    (lambda rp: rp.iq0.gain.set(1e6), "gain.set: 1000000.0 is out of range"),
    (lambda rp: rp.iq0.gain.set(_any("2")), "gain.set: '2' is a str"),
    (lambda rp: rp.iq0.quadrature_factor.set(1e9), "quadrature_factor.set: 1000000000.0 is out of"),
    (lambda rp: rp.iq0.quadratures(average_s=_any("a")), "quadratures.average_s: 'a' is a str"),
    (lambda rp: rp.network_analyzer.sweep(1e3, 1e4, _any(2.5)), "sweep.points: 2.5 is a float"),
    (lambda rp: rp.network_analyzer.sweep(1e3, 1e4, 2, averages=_any(1.5)), "averages: 1.5 is a"),
    (lambda rp: rp.network_analyzer.sweep(_any("a"), 1e4, 2), "sweep.start_frequency: 'a' is a"),
    (lambda rp: rp.sampler.statistics(_any(3)), "statistics.signal: 3 is an int"),
    (lambda rp: rp.sampler.statistics("in3"), "there is no signal 'in3'; there are: in1"),
    (lambda rp: rp.sampler.statistics(for_s=_any(None)), "statistics.for_s: None is a NoneType"),
    (lambda rp: rp.asg0.load(["a"] * 16_384), r"load: the points are no numbers \(<U1\)"),
    (lambda rp: rp.asg0.load([0.0, 1.0]), r"have the shape \(2,\); a table has 16384 numbers"),
    (lambda rp: rp.asg0.load(_any([[1.0], [1.0, 2.0]])), "the points are no list of numbers"),
    (lambda rp: rp.asg0.load(1j * np.ones(16_384)), r"are no numbers \(complex128\)"),
    (lambda rp: rp.asg0.load([0.0] * 16_383 + [1.5]), "point 16383 is 1.5; a table has"),
    (lambda rp: rp.asg0.load([float("nan")] * 16_384), "point 0 is nan; a table has"),
    (lambda rp: rp.asg0.setup(frequenzy=1.0), "there is no setting 'frequenzy'; there are: wave"),
    (lambda rp: rp.set("lockbox.x", WRONG), "set: object cannot be packed; it takes numbers"),
    (lambda rp: rp.set("lockbox.x", 1 << 80), "set: .*; it takes numbers, texts, lists"),
    (lambda rp: rp.set("lockbox.x", bytes(64 << 20)), "are more than the 67108800 that can travel"),
    (lambda rp: rp.set(_any(3), 1), "set.path: 3 is an int; it takes a str"),
    (lambda rp: rp.get("asg0"), "'asg0' names no attribute: write module.name"),
    (lambda rp: rp.get("asg0.frequency of it"), "names no attribute: write module.name"),
    (lambda rp: rp.call_method("lockbox.lock", WRONG), "call: object cannot be packed"),
    (lambda rp: rp.call_method("iir.setup", within_s=-1), "call_method.within_s: -1 s is out of"),
    (lambda rp: rp.call_method("iir.setup", within_s=_any("a")), "within_s: 'a' is a str"),
    (lambda rp: rp.status(_any(None)), "status.module: None is a NoneType"),
    (lambda rp: rp.stop(_any(5)), "stop.module: 5 is an int"),
]


@pytest.mark.parametrize(("told", "says"), MISTAKES, ids=[says for _, says in MISTAKES])
async def test_mistakes_are_refused(told: Told, says: str, autojump_clock: MockClock) -> None:
    """Each is one typed refusal that says what is wrong and what would be right."""
    rp = _board()
    with trio.fail_after(1.0), pytest.raises(RefusedError, match=says) as refused:
        await cast("Awaitable[object]", told(rp))
    assert refused.value.cause is Cause.VALIDATION
    assert refused.value.instrument.partition(".")[0] == "rp"
    assert "\n" not in str(refused.value)
    assert rp.bus.transport.counters.exchanges == 0


COMMANDS: list[tuple[Any, Any, Any, str]] = [
    ("scope_acquir", {}, 5.0, "unknown command 'scope_acquir'; there are: scope_acquire"),
    (["scope_acquire"], {}, 5.0, "unknown command"),
    ("scope_acquire", {"decimatoin": 64}, 5.0, "has no parameter 'decimatoin'; it takes: deci"),
    ("scope_acquire", [64], 5.0, "the parameters are a list; they are given by name"),
    ("scope_acquire", {1: 2}, 5.0, "has no parameter 1; it takes"),
    ("scope_acquire", {"input_channel": 1}, 5.0, "input1: 1 is an int"),
    ("scope_acquire", {}, -1, "timeout_s: -1 s is out of range"),
    ("scope_acquire", {}, "5", "timeout_s: '5' is a str"),
    ("scope_set_trigger", {}, 5.0, "scope_set_trigger: it needs the parameter 'trigger_source'"),
    ("scope_set_trigger", {"source": "off", "trigger_source": "off"}, 5.0, "give one of"),
    ("asg_setup", {"phase": 1.0, "start_phase": 2.0}, 5.0, "phase and start_phase are the same"),
    ("pid_configure", {"inputfilter": True}, 5.0, "True in it is no number"),
    ("asg_setup", {"channel": 0, "gain": 1}, 5.0, "asg_setup: it has no parameter 'gain'"),
    ("asg_set_frequency", {"frequency": 1.0, "phase": 0.0}, 5.0, "no parameter 'phase'; it takes"),
    ("asg_set_frequency", {"channel": "asg7", "value": 1.0}, 5.0, "no channel 'asg7'; there are"),
    ("pid_configure", {"derivative": 1}, 5.0, "pid_configure: it has no parameter 'derivative'"),
    ("pid_configure", {"d": 1.0}, 5.0, "this board has no differential gain: leave d out"),
    ("pid_set_setpoint", {}, 5.0, "pid_set_setpoint: it needs the parameter 'setpoint'"),
    ("pid_get_setpoint", {"value": 1}, 5.0, "no parameter 'value'; it takes: channel"),
    ("iq_setup", {"bandwith": 100.0}, 5.0, "no parameter 'bandwith'"),
    ("iq_get_measurement", {"samples": 3}, 5.0, "no parameter 'samples'; it takes"),
    ("sampler_read", {"channel": "in9"}, 5.0, "there is no signal 'in9'"),
]


@pytest.mark.parametrize(("name", "params", "timeout_s", "says"), COMMANDS)
async def test_mistaken_commands_are_answered(
    name: Any, params: Any, timeout_s: Any, says: str, autojump_clock: MockClock
) -> None:
    """A command of the shared-worker design with a mistake is answered with what would be right."""
    rp = _board()
    with trio.fail_after(1.0):
        answer = await rp.send_command(name, params, timeout_s)
    assert answer["status"] == "error"
    assert says in answer["data"]
    assert rp.bus.transport.counters.exchanges == 0


STEPS = (0.0, 100.0, 200.0, 400.0)


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [(130.0, 100.0, True), (130.0, 200.0, True), (130.0, 400.0, False), (200.0, 200.1, True),
     (0.0, 0.0, True), (0.0, 100.0, False)],
)  # fmt: skip
def test_what_the_board_makes_of_a_value_is_the_value(
    wanted: float, found: float, same: bool
) -> None:
    """A step next to what was wanted is what was wanted; a step further away is not."""
    assert Stepped(float, "Hz", steps=STEPS).same(wanted, found) is same
    filters = Filters(_any(list), "Hz", steps=(-400.0, -200.0, *STEPS), stages=2)
    assert filters.same([wanted], [found, 0.0]) is same
    assert filters.same([-wanted, wanted], [-found, found]) is same
    assert filters.same([wanted, 200.0], [found, 200.0]) is same
    assert not filters.same([wanted, 200.0], [found, 0.0])


@pytest.mark.parametrize(
    ("unit", "wanted", "found", "same"),
    [("Hz", 1e3, 1e3 + 0.1, True), ("Hz", 1e3, 1e3 + 2.0, False), ("Hz", 0.05, 0.0, True),
     ("Hz", 1e6, 1e6 + 900.0, True), ("Hz", 0.0, "0", False), ("deg", 360.0, 0.0, True),
     ("deg", 0.01, 359.99, True), ("deg", 1.0, 359.0, False), ("deg", 90.0, 91.0, False)],
)  # fmt: skip
def test_a_step_of_a_register_is_all_that_may_differ(
    unit: str, wanted: float, found: object, same: bool
) -> None:
    """However wide the range is, another value is another value; a full turn is none."""
    limits = narrowed(Limits(float, unit, low=0.0, high=62.5e6), {"step": 125e6 / 2**30})
    if unit == "deg":
        limits = narrowed(Limits(float, unit, low=0.0, high=360.0), {"step": 0.02})
    assert limits.same(wanted, found) is same
    assert limits.problem(-1.0)


def test_what_would_become_another_value_is_refused() -> None:
    """A filter below the lowest there is would be none: that is refused, and so is too much."""
    said = {"choices": [400.0, 0.0, 100.0, 200.0], "stages": 2}
    corner = narrowed(Limits(float, "Hz", low=0.0), said)
    filters = narrowed(Limits(_any(list), "Hz"), {**said, "choices": [-400.0, -100.0, 0, 100, 400]})
    for value in (1.0, 500.0):
        assert "it takes 0 or 100 to 400 Hz" in str(corner.problem(value))
        assert "it takes 0 or 100 to 400 Hz" in str(filters.problem([-value]))
    for value in (0.0, 100.0, 399.0):
        assert corner.problem(value) is filters.problem([value, -value]) is None
    assert "it takes a list of 1 to 2 corner" in str(filters.problem([100.0] * 3))
