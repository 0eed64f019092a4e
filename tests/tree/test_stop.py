"""How a tree stops: in order, within its budgets, and never before everything is safe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Cause,
    ChildEnded,
    CommandFinished,
    LaneTripped,
    SafeStateFailed,
    SafeStateOwed,
    SafeStateReached,
    SupervisionError,
    SupervisorGaveUp,
)
from actors.instrument import Directive
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import Tree, open_tree
from benchtree.spec import ActorSpec, BusSpec, InstrumentSpec, Kind, SupervisorSpec, TreeSpec
from tests.tree.kit import Witness, bench_of, refusal, switch_on
from transports import TCP, PortOwnedError, SimLine, claim, parse_address, serve_tcp


class StubbornSupply(PowerSupply):
    """A supply whose driver fails at what it is told for safety's sake."""

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Fail like a program with a mistake in it."""
        super().decode_written(directive, raw)
        if getattr(directive, "value", None) is False:
            raise KeyError("a mistake")


class BodyError(Exception):
    """The body of an `async with` fails."""


async def test_failing_body(autojump_clock: MockClock) -> None:
    """After the body fails everything is safe, and its own exception comes out, bare."""
    seen = Witness()
    failure = BodyError("mistake")
    devices: list[PowerSupplyModel] = []
    with pytest.raises(BodyError) as raised:
        async with open_tree(bench_of("a", "b"), sim=True, observer=seen) as tree:
            devices += await switch_on(tree, "a", "b")
            raise failure
    assert raised.value is failure
    assert [device.output_on for device in devices] == [False, False]
    assert {each.reason for each in seen.of(SafeStateReached)} == {"BodyError('mistake')"}


async def test_failing_group(autojump_clock: MockClock) -> None:
    """An exception group out of the body is kept whole."""
    group = ExceptionGroup("two", [BodyError("one"), BodyError("other")])
    with pytest.raises(ExceptionGroup) as raised:
        async with open_tree(bench_of("a"), sim=True):
            raise group
    assert raised.value is group


async def test_cancellation_from_outside(autojump_clock: MockClock) -> None:
    """Cancelled from outside, the tree first drives everything safe; then it is cancelled."""
    seen = Witness()
    devices: list[PowerSupplyModel] = []
    with trio.move_on_after(5.0) as scope:
        async with open_tree(bench_of("a"), sim=True, observer=seen) as tree:
            devices += await switch_on(tree, "a")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [device.output_on for device in devices] == [False]
    assert [each.reason for each in seen.of(SafeStateReached)] == ["cancellation"]


async def test_failure_and_cancellation(autojump_clock: MockClock) -> None:
    """The body's failure is not lost when the tree is cancelled while it stops."""
    devices: list[PowerSupplyModel] = []
    with pytest.raises(BodyError), trio.CancelScope() as scope:
        async with open_tree(bench_of("a"), sim=True) as tree:
            devices += await switch_on(tree, "a")
            scope.cancel()
            raise BodyError
    assert [device.output_on for device in devices] == [False]


async def test_cancelled_before_it_opens(autojump_clock: MockClock) -> None:
    """A tree that is cancelled while it opens ends."""
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_tree(bench_of("a"), sim=True):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_order(autojump_clock: MockClock) -> None:
    """Code stops first, last started first; then all is safe; then buses close in reverse."""
    log: list[str] = []

    def code(name: str) -> Callable[[Tree], Awaitable[None]]:
        async def run(tree: Tree) -> None:
            del tree
            try:
                await trio.sleep_forever()
            finally:
                log.append(name)

        return run

    def note(event: object) -> None:
        match event:
            case SafeStateReached():
                log.append("safe")
            case ChildEnded(supervisor=supervisor, child=child) if supervisor != "root":
                if child.startswith("bus."):
                    log.append(child)
            case _:
                pass

    spec = bench_of(
        "a",
        "b",
        "c",
        actors=[ActorSpec(name="inner", start=code("inner")), ActorSpec(name="x", start=code("x"))],
        supervisors=[
            SupervisorSpec(name="g", children=[(Kind.BUS, "b"), (Kind.ACTOR, "inner")]),
        ],
    )
    async with open_tree(spec, sim=True, observer=note) as tree:
        await tree.start("y", code("y"))
        await switch_on(tree, "a", "b", "c")
    assert log == ["y", "x", "inner", "safe", "safe", "safe", "bus.b", "bus.c", "bus.a"]


async def test_draining(autojump_clock: MockClock) -> None:
    """What was accepted is finished before everything is driven safe."""
    seen = Witness()
    async with open_tree(bench_of("a"), sim=True, observer=seen) as tree:
        psu = tree.get("a", PowerSupply)
        (device,) = await switch_on(tree, "a")
        tree.lines["a"].latency_s = 0.1
        tickets = [await psu.voltage.submit(float(volts)) for volts in range(1, 6)]
    assert [(await ticket.outcome()).error for ticket in tickets] == [None] * 5
    assert device.setpoint_v == 5.0
    last = max(
        place for place, event in enumerate(seen.events) if isinstance(event, CommandFinished)
    )
    assert last < seen.index(LaneTripped, lambda event: True)


async def test_drain_deadline(autojump_clock: MockClock) -> None:
    """What is not finished by the deadline fails, each command once, and is never sent."""
    spec = bench_of("a", drain_s=1.0)
    async with open_tree(spec, sim=True) as tree:
        psu = tree.get("a", PowerSupply)
        (device,) = await switch_on(tree, "a")
        tree.lines["a"].latency_s = 0.3
        began_s = trio.current_time()
        tickets = [await psu.voltage.submit(1.0 + volts / 10) for volts in range(20)]
    assert trio.current_time() - began_s < 1.0 + 2 * 0.5 + 0.3
    outcomes = [await ticket.outcome() for ticket in tickets]
    assert [outcome.ok for outcome in outcomes[:3]] == [True] * 3
    assert {outcome.cause for outcome in outcomes[5:]} == {Cause.TRIPPED}
    assert not any(outcome.may_have_executed for outcome in outcomes[5:])
    assert not device.output_on
    assert device.setpoint_v < 1.0 + 5 / 10


async def test_stopping_refuses_new_work(autojump_clock: MockClock) -> None:
    """A tree that stops takes no commands, no instruments and no code."""
    causes: list[Cause] = []

    async def late(tree: Tree) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                refused = await refusal(tree.get("a", PowerSupply))
                assert refused is not None
                causes.append(refused.cause)
                for call in (
                    lambda: tree.add("b", PowerSupply, "tcp://192.0.2.9:1"),
                    lambda: tree.start("again", late),
                ):
                    with pytest.raises(SupervisionError, match="the tree is stopping"):
                        await call()
                causes.append(refused.cause)

    async with open_tree(bench_of("a"), sim=True) as tree:
        await switch_on(tree, "a")
        await tree.start("late", late)
    assert causes == [Cause.STOPPED] * 2


async def test_hung_device(autojump_clock: MockClock) -> None:
    """A device that hangs is named, and costs the stop one safe state and one close at most."""
    seen = Witness()
    async with open_tree(bench_of("a", "hung"), sim=True, observer=seen) as tree:
        healthy, _ = await switch_on(tree, "a", "hung")
        tree.lines["hung"].hang()
        began_s = trio.current_time()
    assert trio.current_time() - began_s <= TCP.safe_s + TCP.close_within_s
    assert not healthy.output_on
    assert [each.instrument for each in seen.of(SafeStateFailed)] == ["hung"]


async def test_code_that_does_not_stop(autojump_clock: MockClock) -> None:
    """Code that overruns its budget keeps nothing from being driven safe."""
    safe_s: list[float] = []

    async def stubborn(tree: Tree) -> None:
        del tree
        with trio.CancelScope(shield=True):
            await trio.sleep(100.0)

    def note(event: object) -> None:
        if isinstance(event, SafeStateReached):
            safe_s.append(trio.current_time())

    async with open_tree(bench_of("a"), sim=True, observer=note) as tree:
        await switch_on(tree, "a")
        await tree.start("stubborn", stubborn, stop_s=2.0)
    assert safe_s == [2.0]


async def test_driver_that_fails(autojump_clock: MockClock) -> None:
    """A driver that fails at the safe state is named, and keeps no other bus from being safe."""
    seen = Witness()
    spec = bench_of("a", "b")
    spec = evolve(
        spec,
        instruments=[*spec.instruments[:1], evolve(spec.instruments[1], driver=StubbornSupply)],
    )
    async with open_tree(spec, sim=True, observer=seen) as tree:
        devices = await switch_on(tree, "a", "b")
    assert not any(device.output_on for device in devices)
    assert [each.instrument for each in seen.of(SafeStateFailed)] == ["b"]


async def test_unreachable_device_is_owed(autojump_clock: MockClock) -> None:
    """What is unplugged when the tree stops cannot be driven safe, and is named."""
    seen = Witness()
    async with open_tree(bench_of("a"), sim=True, observer=seen) as tree:
        await switch_on(tree, "a")
        tree.lines["a"].unplug()
        await trio.sleep(0.1)
        began_s = trio.current_time()
    assert trio.current_time() - began_s <= TCP.safe_s + TCP.close_within_s
    assert seen.of(SafeStateOwed)
    assert [each.instrument for each in seen.of(SafeStateFailed)] == ["a"]


async def test_tree_that_fails_to_open_touches_nothing() -> None:
    """A tree that cannot have one of its ports sends nothing to the others."""
    line = SimLine(PowerSupply.simulate([None]))
    async with serve_tcp(line) as address:
        owned = "tcp://192.0.2.1:5025"
        spec = TreeSpec(
            buses=[BusSpec(name="a", address=address), BusSpec(name="b", address=owned)],
            instruments=[InstrumentSpec(name="psu", bus="a", driver=PowerSupply)],
        )
        with claim(owned, tree="other"), pytest.raises(PortOwnedError):
            async with open_tree(spec):
                raise AssertionError("it was opened")
        assert not line.requests
        claim(str(parse_address(address)), tree="other").release()


async def test_required_bus_that_never_comes() -> None:
    """A tree that waits for a required bus can be cancelled."""
    line = SimLine(PowerSupply.simulate([None]))
    async with serve_tcp(line) as address:
        line.unplug()
        spec = TreeSpec(buses=[BusSpec(name="a", address=address, required=True)])
        with trio.move_on_after(0.1) as scope:
            async with open_tree(spec):
                raise AssertionError("it was opened")
    assert scope.cancelled_caught


async def test_refused_in_the_end(autojump_clock: MockClock) -> None:
    """An actor of yours that is refused because the tree stops is not started again for it."""
    seen = Witness()

    async def ask(tree: Tree) -> None:
        while True:
            await tree.get("a", PowerSupply).voltage.get()
            await trio.sleep(0.1)

    async def clean_up(tree: Tree) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    spec = evolve(
        bench_of("a"),
        actors=[ActorSpec(name="ask", start=ask), ActorSpec(name="last", start=clean_up)],
    )
    async with open_tree(spec, sim=True, observer=seen):
        await trio.sleep(1)
    assert seen.of(SupervisorGaveUp) == []
    assert {each.error for each in seen.of(ChildEnded)} <= {None}
