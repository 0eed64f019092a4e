"""RAISE and RETURN, for every method, with none, one and all of the instruments failing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Action, Cause, CommandError
from actors.instruments.alicat import DataFrame, FlowController, Statistic
from benchtree import DeviceGroup, DeviceResult, ErrorPolicy, FleetError
from tests.fleet.bench import Lab, lab

NAMES: tuple[str, ...] = ("port0A", "port1A", "port2A")

Call = Callable[[DeviceGroup], Awaitable[Mapping[str, DeviceResult[Any]]]]

METHODS: dict[str, Call] = {
    "poll": lambda fleet: fleet.poll(),
    "request": lambda fleet: fleet.request([Statistic.MASS_FLOW, "pressure"], averaging_ms=50),
    "execute": lambda fleet: fleet.execute(
        FlowController.setpoint, {"port0A": 1.0, "port1A": 2.0, "port2A": 3.0}
    ),
}

GOOD: dict[str, Callable[[Any, int], bool]] = {
    "poll": lambda value, number: isinstance(value, DataFrame) and value["pressure"] == 14.0,
    "request": lambda value, number: value == {"mass_flow": 0.0, "pressure": 14.0},
    "execute": lambda value, number: value == number + 1.0,
}


def hang(made: Lab, count: int) -> set[str]:
    """Let the last `count` instruments go silent; return their names."""
    gone = set(NAMES[len(NAMES) - count :])
    for name in gone:
        made.line(name).hang()
    return gone


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("method", METHODS)
async def test_return(method: str, count: int, autojump_clock: MockClock) -> None:
    """Under RETURN each result is a value or an error, in the order asked."""
    async with lab("A", "A", "A") as made:
        gone = hang(made, count)
        results = await METHODS[method](made.fleet)
        check_results(results, gone, method)


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("method", METHODS)
async def test_raise(method: str, count: int, autojump_clock: MockClock) -> None:
    """Under RAISE everybody is asked, then one error names all failures and keeps the rest."""
    async with lab("A", "A", "A", policy=ErrorPolicy.RAISE) as made:
        gone = hang(made, count)
        if not count:
            check_results(await METHODS[method](made.fleet), gone, method)
            return
        with pytest.raises(FleetError, match=f"{count} of 3 instruments failed") as raised:
            await METHODS[method](made.fleet)
        error = raised.value
        check_results(error.results, gone, method)
        assert set(error.failures) == gone
        assert set(error.exceptions) == set(error.failures.values())
        assert all(name in str(each) for name, each in error.failures.items())


def check_results(results: Mapping[str, DeviceResult[Any]], gone: set[str], method: str) -> None:
    """Check that exactly those who are gone failed."""
    assert tuple(results) == NAMES
    for number, (name, result) in enumerate(results.items()):
        assert result.ok is (name not in gone)
        if name in gone:
            assert result.value is None
            assert result.error is not None
            # Reads are not tried again; writes are.
            again = Cause.RETRIES_EXHAUSTED if method == "execute" else Cause.TRANSPORT
            assert result.error.cause is again
        else:
            assert result.error is None
            assert GOOD[method](result.value, number)


@pytest.mark.parametrize("policy", ErrorPolicy)
async def test_other_directives(policy: ErrorPolicy, autojump_clock: MockClock) -> None:
    """A reading gives its value, an action True, and names are asked in the order given."""
    action: Action = FlowController.hold
    async with lab("AB", policy=policy) as made:
        held = await made.fleet.execute(action, {"port0B": None, "port0A": None})
        assert tuple(held) == ("port0B", "port0A")
        assert [each.value for each in held.values()] == [True, True]
        read = await made.fleet.execute(FlowController.loop_variable, {"port0A": None})
        assert read["port0A"].value == 37
        polled = await made.fleet.poll(["port0B", "port0A", "port0B"])
        assert tuple(polled) == ("port0B", "port0A")
        assert polled["port0A"].value is not None


async def test_group_can_be_split(autojump_clock: MockClock) -> None:
    """What `except*` makes of a fleet's error keeps the results."""
    async with lab("A", "A", "A", policy=ErrorPolicy.RAISE) as made:
        hang(made, 2)
        with pytest.raises(FleetError) as raised:
            await made.fleet.poll()
        mine, rest = raised.value.split(
            lambda each: isinstance(each, CommandError) and each.instrument == "port1A"
        )
        assert isinstance(mine, FleetError)
        assert isinstance(rest, FleetError)
        assert len(mine.exceptions) == len(rest.exceptions) == 1
        assert mine.results == raised.value.results


async def test_result_is_one_of_two() -> None:
    """A result cannot hold a value and an error."""
    error = CommandError("no", cause=Cause.DEVICE, instrument="a", command="b")
    with pytest.raises(ValueError, match="not both"):
        DeviceResult(value=1.0, error=error)


async def test_units_of_a_port_take_turns(autojump_clock: MockClock) -> None:
    """Four units on one port take four turns; four ports take one."""
    async with lab("ABCD", "A", "A", "A") as made:
        for name in made.fleet.names:
            made.line(name).latency_s = 0.02
        await trio.sleep(1)
        began_s = trio.current_time()
        await made.fleet.poll(["port0A", "port1A", "port2A", "port3A"])
        assert trio.current_time() - began_s == pytest.approx(0.02, abs=1e-6)
        await trio.sleep(1)
        before, began_s = made.sent("port0A"), trio.current_time()
        await made.fleet.poll([f"port0{unit}" for unit in "ABCD"])
        line = made.line("port0A")
        instants = [at_s - began_s for at_s, _ in list(line.requests)[before:]]
        pacing_s = made.fleet.get("port0A").bus.profile.pacing_s
        assert instants == pytest.approx([turn * (0.02 + pacing_s) for turn in range(4)], abs=1e-6)


async def test_calls_scope_ends_the_call(autojump_clock: MockClock) -> None:
    """The caller's scope is the limit of the whole call; what was queued is never sent."""
    async with lab("ABCD") as made:
        made.line("port0A").hang()
        before = made.sent("port0A")
        with trio.move_on_after(0.1) as scope:
            await made.fleet.poll()
        assert scope.cancelled_caught
        await trio.sleep(5)
        polls = [data for _, data in list(made.line("port0A").requests)[before:]]
        assert b"B\r" not in polls
        assert b"C\r" not in polls


async def test_timeout_of_one_device(autojump_clock: MockClock) -> None:
    """A device's own time limit costs nobody else's result."""
    async with lab("ABCD", timeout_s=0.3) as made:
        made.line("port0A").hang("B")
        began_s = trio.current_time()
        results = await made.fleet.poll()
        assert [each.ok for each in results.values()] == [True, False, True, True]
        error = results["port0B"].error
        assert error is not None
        assert "no reply" in str(error)
        # The limit, and the time it takes to be sure that nothing comes any more.
        assert trio.current_time() - began_s < 0.3 + 2.0
