"""A tripped instrument stays safe, whatever happens to it meanwhile."""

from __future__ import annotations

import sys

import trio
from attrs import evolve
from trio.testing import MockClock

from actors import Cause, Event, Priority, SafeStateReached
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from benchtree import Tree, open_tree
from transports import SERIAL


async def test_a_tripped_instrument_that_was_away_is_driven_safe_again(
    autojump_clock: MockClock,
) -> None:
    """Back with its output on, it is switched off before anything else."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
        await psu.output.set(True, confirm=True)
        await tree.trip("psu", "the door")
        line = tree.lines["psu"]
        model = line.model
        assert isinstance(model, PowerSupplyModel)
        assert not model.output_on
        line.unplug()
        await trio.sleep(1)
        model.receive(b"OUTP 1\n", trio.current_time())  # at the panel
        line.replug()
        await trio.sleep(30)
        assert not model.output_on


async def test_an_emergency_that_switches_on_ends_in_the_safe_state(
    autojump_clock: MockClock,
) -> None:
    """Even a confirmed emergency leaves a tripped instrument safe."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
        await psu.output.set(False, priority=Priority.EMERGENCY)
        await psu.output.set(True, confirm=True, priority=Priority.EMERGENCY)
        await trio.sleep(1)
        model = tree.lines["psu"].model
        assert isinstance(model, PowerSupplyModel)
        assert not model.output_on


async def test_the_stop_drives_a_tripped_instrument_that_was_switched_on(
    autojump_clock: MockClock,
) -> None:
    """The tree's stop finds an output that somebody switched on at the panel while away."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
        await psu.voltage.get()
        await tree.trip("psu", "the door")
        line = tree.lines["psu"]
        model = line.model
        assert isinstance(model, PowerSupplyModel)
        line.unplug()
        await trio.sleep(1)
        model.receive(b"OUTP 1\n", trio.current_time())  # at the panel
        line.replug()
    assert not model.output_on


async def test_a_command_in_hand_can_be_taken_back_before_its_first_byte(
    autojump_clock: MockClock,
) -> None:
    """Cancelled while the line waits for its pacing, it never reaches the wire."""
    slow = evolve(SERIAL, pacing_s=1.0)
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "serial:///dev/ttyS0", profile=slow)
        await psu.voltage.get()
        with trio.move_on_after(0.3) as scope:
            await psu.voltage.set(7.0)
        assert scope.cancelled_caught
        ticket = await psu.voltage.submit(8.0)
        await trio.sleep(0.3)
        assert ticket.withdraw()
        await trio.sleep(5)
        asked = b"".join(data for _, data in tree.lines["psu"].requests)
        assert b"VOLT 7" not in asked
        assert b"VOLT 8" not in asked
        assert (await ticket.outcome()).cause is Cause.WITHDRAWN


async def test_an_actor_that_leaves_the_program_is_a_crash(autojump_clock: MockClock) -> None:
    """`sys.exit` in one actor gives that actor up; the bench goes on."""

    async def leave(tree: Tree) -> None:
        sys.exit(3)

    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
        await tree.start("leaver", leave)
        await trio.sleep(60)
        await psu.voltage.set(3.0)
        assert await psu.voltage.get() == 3.0


async def test_outputs_wait_for_no_slow_actor(autojump_clock: MockClock) -> None:
    """Many actors that are slow to stop delay the safe state by the drain time at most."""

    async def slow(tree: Tree) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    safe_s: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, SafeStateReached):
            safe_s.append(trio.current_time())

    async with open_tree(sim=True, observer=note) as tree:
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.1:5025")
        await psu.output.set(True, confirm=True)
        for number in range(3):
            await tree.start(f"slow{number}", slow)
        ended_s = trio.current_time()
    assert safe_s
    assert safe_s[0] - ended_s <= tree.spec.drain_s + 0.1
