"""Environmental chambers: air that follows, a door, a protection, and a safe state."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, RefusedError
from actors.faults import INTERLOCK_OPEN, OVER_TEMPERATURE
from actors.instruments.scpi import EnvironmentalChamber, EnvironmentalChamberModel, Room

from .line import on_line

ROOM = Room(temperature_c=20.0, humidity_percent=50.0, controlled_s=60.0)


async def conditioning(chamber: EnvironmentalChamber, setpoint_c: float) -> None:
    """Set a temperature and switch it on."""
    await chamber.temperature_setpoint.set(setpoint_c)
    await chamber.door_open.get()
    await chamber.output.set(True, confirm=True)


async def test_the_air_follows_a_step(autojump_clock: MockClock) -> None:
    """After one time constant it has come 63 % of the way."""
    async with on_line(EnvironmentalChamber, EnvironmentalChamberModel(room=ROOM)) as (chamber, _):
        await conditioning(chamber, 120.0)
        await trio.sleep(60.0)
        wanted = 120.0 - 100.0 * math.exp(-1.0)
        assert await chamber.temperature.get() == pytest.approx(wanted, abs=0.1)
        await trio.sleep(1200.0)
        assert await chamber.temperature.get() == pytest.approx(120.0, abs=0.01)


async def test_a_ramp_has_its_rate(autojump_clock: MockClock) -> None:
    """The working setpoint walks; the air lags behind it by the rate times its constant."""
    async with on_line(EnvironmentalChamber, EnvironmentalChamberModel(room=ROOM)) as (chamber, _):
        await chamber.ramp_rate.set(2.0)
        await conditioning(chamber, -20.0)
        await trio.sleep(600.0)
        assert await chamber.working_setpoint.get() == pytest.approx(0.0, abs=0.05)
        assert await chamber.temperature.get() == pytest.approx(2.0, abs=0.1)
        await trio.sleep(1200.0)
        assert await chamber.working_setpoint.get() == pytest.approx(-20.0)
        assert await chamber.temperature.get() == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize("ramp", [0.0, 5.0])
def test_looking_changes_nothing(ramp: float) -> None:
    """However often it is polled, the air is where the exact solution says."""
    polled, left_alone = EnvironmentalChamberModel(room=ROOM), EnvironmentalChamberModel(room=ROOM)
    for model in (polled, left_alone):
        model.receive(f"TEMP:SPO 80;RAMP {ramp};:OUTP 1\n".encode(), 0.0)
    for each in range(1, 1000):
        polled.receive(b"MEAS:TEMP?;HUM?\n", each * 1.7)
    for model in (polled, left_alone):
        model.receive(b"MEAS:TEMP?\n", 1700.0)
    assert polled.temperature_c == pytest.approx(left_alone.temperature_c, abs=1e-6)


async def test_humidity_is_controlled_or_follows_the_temperature(
    autojump_clock: MockClock,
) -> None:
    """Controlled it comes to its setpoint; else heated air gets dry."""
    async with on_line(EnvironmentalChamber, EnvironmentalChamberModel(room=ROOM)) as (chamber, _):
        assert await chamber.humidity.get() == pytest.approx(50.0)
        await conditioning(chamber, 60.0)
        await trio.sleep(600.0)
        dry = await chamber.humidity.get()
        assert dry is not None
        assert dry < 10.0
        await chamber.humidity_setpoint.set(85.0)
        await chamber.humidity_control.set(True)
        await trio.sleep(1200.0)
        assert await chamber.humidity.get() == pytest.approx(85.0, abs=0.5)


async def test_it_is_switched_on_with_a_closed_door_only(autojump_clock: MockClock) -> None:
    """A setpoint that was set, a door that was read a short while ago and closed."""
    model = EnvironmentalChamberModel(room=ROOM)
    async with on_line(EnvironmentalChamber, model) as (chamber, _):
        with pytest.raises(RefusedError, match="temperature_setpoint must be set"):
            await chamber.output.set(True, confirm=True)
        await chamber.temperature_setpoint.set(50.0)
        with pytest.raises(RefusedError, match="not read within the last 60 s"):
            await chamber.output.set(True, confirm=True)
        model.door_open = True
        await chamber.door_open.get()
        with pytest.raises(RefusedError, match="door_open must be False") as refused:
            await chamber.output.set(True, confirm=True)
        assert refused.value.cause is Cause.DEPENDENCY
        model.door_open = False
        await chamber.door_open.get()
        model.door_open = True  # somebody was quicker: the device knows
        with pytest.raises(CommandError, match="-221"):
            await chamber.output.set(True, confirm=True)
        assert not model.output_on


@pytest.mark.parametrize("what", ["door", "heat"])
async def test_conditions_are_fatal_and_safe_is_off(autojump_clock: MockClock, what: str) -> None:
    """A door opened while it is on, or too much heat, is a fatal fault; safe is off."""
    model = EnvironmentalChamberModel(room=ROOM)
    async with on_line(EnvironmentalChamber, model, name="it") as (chamber, bench):
        await chamber.protection_temperature.set(100.0)
        await conditioning(chamber, 60.0)
        plan = chamber.status_plan()
        assert plan is not None
        assert await chamber.ask_plan(plan) == []
        if what == "door":
            model.door_open = True
        else:
            model.runaway_c = 80.0
        await trio.sleep(300.0)
        (fault,) = await chamber.ask_plan(plan)
        assert fault.kind is (INTERLOCK_OPEN if what == "door" else OVER_TEMPERATURE)
        assert fault.kind.fatal
        assert model.output_on == (what == "door")  # heat, the device stops by itself
        (safe,) = await bench.bus.make_safe(["it"], str(fault))
        assert safe.error is None
        assert not model.output_on
        with pytest.raises(RefusedError, match="tripped"):
            await chamber.temperature_setpoint.set(20.0)


async def test_an_open_door_lets_the_room_in(autojump_clock: MockClock) -> None:
    """The air soon is that of the room, and the protection stays tripped until cleared."""
    model = EnvironmentalChamberModel(room=ROOM)
    async with on_line(EnvironmentalChamber, model) as (chamber, _):
        await conditioning(chamber, 90.0)
        await trio.sleep(600.0)
        await chamber.protection_temperature.set(80.0)
        assert model.tripped
        model.door_open = True
        await trio.sleep(600.0)
        assert await chamber.temperature.get() == pytest.approx(20.0, abs=0.1)
        assert await chamber.humidity.get() == pytest.approx(50.0, abs=0.5)
        model.door_open = False
        await chamber.door_open.get()
        with pytest.raises(CommandError, match="-221"):
            await chamber.output.set(True, confirm=True)
        with pytest.raises(RefusedError, match="confirm=True"):
            await chamber.clear_protection()
        await chamber.clear_protection(confirm=True)
        await chamber.output.set(True, confirm=True)
        assert model.output_on
