"""The classic symptoms of laboratory software, each of which must not show."""

from __future__ import annotations

import gc

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import CommandError, Event
from actors.instruments.alicat import FlowController
from actors.instruments.scpi import PowerSupply, PowerSupplyModel, SignalGenerator
from benchtree import Tree, open_tree, record
from transports import GATEWAY


def model(tree: Tree, name: str) -> PowerSupplyModel:
    """Return the device model of a supply."""
    found = tree.lines[name].model
    assert isinstance(found, PowerSupplyModel)
    return found


async def test_phantom_timeouts(autojump_clock: MockClock) -> None:
    """A bridge that buffers late replies makes no later question fail or answer wrongly."""
    async with open_tree(sim=True) as tree:
        bridge = evolve(GATEWAY, attempts=1)
        psu = await tree.add("psu", PowerSupply, "tcp://192.0.2.7:4001", profile=bridge)
        await psu.voltage.set(5.0)
        await psu.current_limit.set(1.5)
        failed = 0
        for _ in range(50):
            tree.lines["psu"].late(1.2)
            with pytest.raises(CommandError):
                await psu.voltage.get()
            failed += 1
            for _ in range(5):  # not one more fails, and none has another's value
                assert await psu.current_limit.get() == 1.5
                assert await psu.voltage.get() == 5.0
        assert failed == 50


async def test_garbled_replies_on_a_shared_address(autojump_clock: MockClock) -> None:
    """On a shared line what is garbled, or another unit's, is asked again, and never a value."""
    async with open_tree(sim=True) as tree:
        a = await tree.add("a", FlowController, "sim://rack?units=AB", unit_id="A")
        b = await tree.add("b", FlowController, "sim://rack?units=AB", unit_id="B")
        line = tree.lines[a.bus.name]
        await a.setpoint.set(10.0, confirm=True)
        await b.setpoint.set(40.0, confirm=True)
        for each in range(30):
            if each % 2:
                line.garble(unit="A")
            else:
                line.foreign(b"B +040.00 +040.00 12 SCCM\r", unit="A")
            assert await a.setpoint.get() == pytest.approx(10.0)
            assert await b.setpoint.get() == pytest.approx(40.0)


async def test_drift_after_a_dropped_acknowledgement(autojump_clock: MockClock) -> None:
    """A write whose acknowledgement is lost is written again, not believed to have failed."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "sim://psu")
        for volts in range(1, 20):
            tree.lines["psu"].lose()
            await psu.voltage.set(float(volts))
            assert model(tree, "psu").setpoint_v == volts
            assert await psu.voltage.get() == volts


async def test_no_growth(autojump_clock: MockClock) -> None:
    """An hour of commands with faults leaves no more objects than its second quarter did."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "sim://psu")
        await psu.voltage.get()
        line = tree.lines["psu"]
        seen = [0]

        def count(event: Event) -> None:
            del event
            seen[0] += 1

        counts: list[int] = []
        with tree.events.observed(count, commands=True):
            for _ in range(4):
                for each in range(300):
                    if each % 10 == 0:
                        line.lose()
                    with trio.move_on_after(0.001 if each % 7 == 0 else 30.0):
                        await psu.voltage.get()
                    await trio.sleep(3.0)
                line.requests.clear()
                gc.collect()
                counts.append(len(gc.get_objects()))
        assert not tree.tickets()
        assert seen[0] > 4000
        assert counts[3] <= counts[1] * 1.02


async def test_a_sweep_and_a_recording(autojump_clock: MockClock) -> None:
    """What is recorded from others on the bus of a sweep misses nothing because of it."""
    async with open_tree(sim=True) as tree:
        generator = await tree.add("generator", SignalGenerator, "GPIB0::1::INSTR")
        psu = await tree.add("psu", PowerSupply, "GPIB0::2::INSTR")
        await generator.sweep_time.set(3.0)
        await psu.current.get()
        async with record(
            tree, parameters=["psu.current", "generator.frequency"], rate_hz=10, duration=5
        ) as recording:
            await trio.sleep(0.55)
            ticket = await generator.sweep.submit()
            async for _ in recording.stream:
                pass
        assert (await ticket.outcome()).ok
        devices = recording.summary.by_device()
        assert devices["psu"].missing == 0
        assert 28 <= devices["generator"].missing <= 33
