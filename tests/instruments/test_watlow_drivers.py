"""The EZ-ZONE drivers in virtual time, on simulated lines that misbehave."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import Cause, CommandError, RefusedError, Sample
from actors.faults import FOREIGN_REPLY, REJECTED
from actors.instruments.scpi import PowerSupply
from actors.instruments.watlow import (
    DEVICE_FAILURE,
    READ_BACK,
    ControllerModel,
    EzZone,
    EzZoneModbus,
    EzZoneModbusHighWordFirst,
    EzZoneStandardBus,
    Kind,
    ModbusModel,
    StandardBusModel,
)
from actors.instruments.watlow.modbus import frames as modbus
from actors.instruments.watlow.standard_bus import frames as standard
from benchtree import Tree, TreeSpec, open_tree
from benchtree.spec import BusSpec, InstrumentSpec
from recorder import record
from transports import SERIAL, DeviceModel, SimLine


class OneLoop(EzZoneStandardBus):
    """Its controllers have one loop each."""

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return controllers of one loop."""
        return StandardBusModel([int(each or 1) for each in units], loops=1)


class OneLoopModbus(EzZoneModbus):
    """Its controllers have one loop each."""

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return controllers of one loop."""
        return ModbusModel([int(each or 1) for each in units], loops=1)


DRIVERS = (EzZoneStandardBus, EzZoneModbus, EzZoneModbusHighWordFirst)
ONE_LOOP = (OneLoop, OneLoopModbus)


class Furnace:
    """A tree with one bus of controllers, and what stands in for them."""

    def __init__(self, tree: Tree, driver: type[EzZone]) -> None:
        self.tree = tree
        self.driver = driver
        model = tree.lines["furnace"].model
        assert isinstance(model, StandardBusModel | ModbusModel)
        self.controllers: Mapping[int, ControllerModel] = model.controllers

    @property
    def line(self) -> SimLine:
        """The simulated line."""
        return self.tree.lines["furnace"]

    def zone(self, unit: int = 1) -> EzZone:
        """Return the instrument of a unit."""
        return self.tree.get(f"zone{unit}", self.driver)


@asynccontextmanager
async def furnace(driver: type[EzZone], *units: int) -> AsyncGenerator[Furnace]:
    """Open a tree with these units on one simulated line."""
    spec = TreeSpec(
        buses=[
            BusSpec(
                name="furnace",
                address="serial:///dev/ttyFurnace",
                profile=evolve(driver.profiles.get("serial", SERIAL), attempts=1),
            )
        ],
        instruments=[
            InstrumentSpec(name=f"zone{unit}", bus="furnace", driver=driver, unit_id=str(unit))
            for unit in units or (1,)
        ],
    )
    async with open_tree(spec, sim=True) as tree:
        yield Furnace(tree, driver)


async def failure(command: Awaitable[object]) -> CommandError:
    """Return what a command fails with."""
    with pytest.raises(CommandError) as failed:
        await command
    return failed.value


@pytest.mark.parametrize("driver", DRIVERS)
async def test_reading_and_writing(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """Every parameter has its declared type and unit; what is set is what is read."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        assert await zone.process_value.get() == pytest.approx(23.0, abs=1e-4)
        assert await zone.input_error.get() == "none"
        assert await zone.serial_number.get() == 100_001
        assert await zone.alarm_state.get() == "none"
        assert await zone.heat_power.get() == 0.0
        await zone.setpoint.set(200.0, confirm=True)
        await zone.manual_power.set(-12.5, confirm=True)
        await zone.control_mode.set("manual", confirm=True)
        await zone.heat_algorithm.set("on/off", confirm=True)
        await zone.integral_time.set(90.0, confirm=True)
        await zone.derivative_time.set(5.0, confirm=True)
        await zone.heat_proportional_band.set(10.0, confirm=True)
        await zone.cool_proportional_band.set(20.0, confirm=True)
        await zone.alarm_high.set(300.0, confirm=True)
        await zone.alarm_low.set(-10.0, confirm=True)
        assert [
            await zone.setpoint.get(),
            await zone.manual_power.get(),
            await zone.integral_time.get(),
            await zone.derivative_time.get(),
            await zone.heat_proportional_band.get(),
            await zone.cool_proportional_band.get(),
            await zone.alarm_high.get(),
            await zone.alarm_low.get(),
        ] == pytest.approx([200.0, -12.5, 90.0, 5.0, 10.0, 20.0, 300.0, -10.0], abs=1e-4)
        assert await zone.control_mode.get() == await zone.control_mode_active.get() == "manual"
        assert await zone.heat_algorithm.get() == "on/off"
        held = bench.controllers[1]
        assert held.read(7001, 1) == pytest.approx(392.0)
        assert held.read(8009, 1) == pytest.approx(18.0)
        assert (held.eeprom_writes, zone.wear) == (10, 10)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_identity(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A controller is known by its serial number, and by its type where it says so."""
    async with furnace(driver, 3) as bench:
        await bench.zone(3).serial_number.get()
        identity = bench.tree.status()[0].instruments[0].identity
        assert identity is not None
        assert (identity.maker, identity.serial) == ("Watlow", "100003")
        assert identity.model == ("PM6C1CA-AAAAAAA" if driver is EzZoneStandardBus else None)
        assert bench.zone(3).loops == 2


async def test_units_of_the_display(autojump_clock: MockClock) -> None:
    """On Modbus temperatures follow the display's units; they are given in Celsius anyway."""
    async with furnace(EzZoneModbus) as bench:
        zone = bench.zone()
        await zone.setpoint.set(100.0, confirm=True)
        await zone.display_units.set("F", confirm=True)
        assert await zone.display_units.get() == "F"
        assert await zone.setpoint.get() == pytest.approx(100.0, abs=1e-4)
        await zone.setpoint.set(150.0, confirm=True)
        assert bench.controllers[1].read(7001, 1) == pytest.approx(302.0)
        # Somebody changes it by hand: reading it is enough to know again.
        bench.controllers[1].display_units = 15
        assert await zone.display_units.get() == "C"
        assert await zone.setpoint.get() == pytest.approx(150.0, abs=1e-4)


async def test_a_temperature_waits_for_its_units(autojump_clock: MockClock) -> None:
    """Before a controller has said in which units, no temperature is sent to it."""
    async with furnace(EzZoneModbus) as bench:
        zone = bench.zone()
        with pytest.raises(RefusedError, match="in which units"):
            zone.plan(zone.setpoint.to(50.0), confirm=True)
        with pytest.raises(RefusedError, match="in which units"):
            await zone.submit(zone.setpoint.to(50.0), confirm=True, wait=False)
        ticket = await zone.setpoint.submit(50.0, confirm=True)
        assert (await ticket.outcome()).ok
        assert bench.controllers[1].read(7001, 1) == pytest.approx(122.0)


async def test_units_at_the_start(autojump_clock: MockClock) -> None:
    """The units are asked for whenever a controller is identified."""
    async with furnace(EzZoneModbus) as bench:
        bench.controllers[1].display_units = 30
        assert await bench.zone().process_value.get() == pytest.approx(23.0, abs=1e-4)
        bench.line.unplug()
        await trio.sleep(1)
        bench.controllers[1].display_units = 15
        bench.line.replug()
        await trio.sleep(30)
        assert await bench.zone().process_value.get() == pytest.approx(23.0, abs=1e-4)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("code", "word"), [(65, "open"), (127, "shorted"), (140, "measurement error"), (77, "77")]
)
async def test_an_input_error_is_no_temperature(
    driver: type[EzZone], code: int, word: str, autojump_clock: MockClock
) -> None:
    """While its input has an error a process value is unavailable, in samples too."""
    async with furnace(driver) as bench:
        bench.controllers[1].loops[0].input_error = code
        zone = bench.zone()
        assert await zone.process_value.get() is None
        assert await zone.input_error.get() == word
        assert await zone.alarm_state.get() == "error"
        samples = await bench.tree.poll_many(["process_value"], instances=(1, 2))
        assert [each.value is None for each in samples] == [True, False]
        bench.controllers[1].loops[0].input_error = 61
        assert await zone.process_value.get() == pytest.approx(23.0, abs=1e-4)


@pytest.mark.parametrize(("driver", "process_value"), [(EzZoneStandardBus, 2), (EzZoneModbus, 1)])
async def test_exchanges(
    driver: type[EzZone], process_value: int, autojump_clock: MockClock
) -> None:
    """A parameter is one exchange; the state of an input is one more, or comes with its value."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.setpoint.get()  # by then it is identified
        counters = zone.bus.transport.counters
        for parameter, expected in ((zone.setpoint, 1), (zone.process_value, process_value)):
            before = counters.exchanges
            await parameter.get()
            assert counters.exchanges == before + expected


@pytest.mark.parametrize("driver", DRIVERS)
async def test_names_and_numbers(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A parameter goes by its name or its number, and samples give both."""
    async with furnace(driver) as bench:
        samples = await bench.tree.poll_many(["4001", "zone1.7001", "heat_power"])
        assert [(each.parameter, each.parameter_id, each.unit) for each in samples] == [
            ("process_value", "4001", "degC"),
            ("setpoint", "7001", "degC"),
            ("heat_power", "8011", "%"),
        ]
        assert {(each.address, each.protocol) for each in samples} == {("1", driver.protocol)}
        for unknown in ("4003", "pv"):
            with pytest.raises(ValueError, match=f"no instrument has {unknown}"):
                await bench.tree.poll_many([unknown])


@pytest.mark.parametrize("driver", DRIVERS)
async def test_two_loops(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """Each loop has its own settings and readings, and goes by its number."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.setpoint.set(50.0, confirm=True)
        await zone.setpoint.set(150.0, instance=2, confirm=True)
        await zone.control_mode.set("auto", instance=2, confirm=True)
        assert await zone.setpoint.get() == pytest.approx(50.0, abs=1e-4)
        assert await zone.setpoint.get(instance=2) == pytest.approx(150.0, abs=1e-4)
        await trio.sleep(1200)
        samples = await bench.tree.poll_many(["process_value", "serial_number"], instances=(1, 2))
        assert [str(each.key) for each in samples] == [
            "zone1.process_value",
            "zone1.process_value[2]",
            "zone1.serial_number",
        ]
        assert [each.value for each in samples] == [
            pytest.approx(23.0, abs=1e-3),
            pytest.approx(150.0, abs=0.5),
            100_001,
        ]
        ticket = await zone.setpoint.submit(60.0, instance=2, confirm=True)
        assert (await ticket.outcome()).ok
        assert ticket.command.plan.name == "setpoint[2].set"


@pytest.mark.parametrize("driver", DRIVERS)
async def test_instances_that_no_controller_has(
    driver: type[EzZone], autojump_clock: MockClock
) -> None:
    """An instance that cannot exist is a mistake of the caller; nothing is sent."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.serial_number.get()
        sent = len(bench.line.requests)
        for call in (
            zone.setpoint.get(instance=3),
            zone.setpoint.get(instance=0),
            zone.setpoint.set(1.0, instance=3, confirm=True),
            zone.serial_number.get(instance=2),
        ):
            refusal = await failure(call)
            assert isinstance(refusal, RefusedError)
            assert refusal.cause is Cause.VALIDATION
            assert "there is no instance" in refusal.reason
        assert len(bench.line.requests) == sent
        with pytest.raises(ValueError, match="more than 2 instances of setpoint"):
            bench.tree.partitions(["setpoint"], instances=(3,))
        with pytest.raises(ValueError, match="nothing that is to be read has an instance 5"):
            bench.tree.partitions(["setpoint", "alarm_high"], instances=(1, 5, 3))


@pytest.mark.parametrize("driver", ONE_LOOP)
async def test_one_loop(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A controller of one loop refuses the second one, and only its own is switched off."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        error = await failure(zone.setpoint.get(instance=2))
        assert error.fault is not None
        assert (error.cause, error.fault.kind) == (Cause.DEVICE, REJECTED)
        assert zone.loops == 1
        await zone.control_mode.set("auto", confirm=True)
        outcome = await bench.tree.trip("zone1")
        assert outcome.error is None
        assert bench.controllers[1].loops[0].mode == 62
        assert bench.controllers[1].eeprom_writes == 2


@pytest.mark.parametrize("driver", DRIVERS)
async def test_safe_state(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """When the tree stops, every loop of every controller is off."""
    async with furnace(driver, 1, 2) as bench:
        controllers = bench.controllers
        for unit in (1, 2):
            for loop in (1, 2):
                await bench.zone(unit).control_mode.set("auto", instance=loop, confirm=True)
    assert [loop.mode for each in controllers.values() for loop in each.loops] == [62] * 4


@pytest.mark.parametrize("driver", DRIVERS)
async def test_settings_wear_the_memory(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """Every setting needs confirmation; without it no byte is sent."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.serial_number.get()
        sent = len(bench.line.requests)
        for call in (
            zone.setpoint.set(20.0),
            zone.manual_power.set(0.0),
            zone.control_mode.set("off"),
            zone.heat_algorithm.set("PID"),
            zone.integral_time.set(1.0),
            zone.derivative_time.set(1.0),
            zone.heat_proportional_band.set(1.0),
            zone.cool_proportional_band.set(1.0),
            zone.alarm_high.set(1.0),
            zone.alarm_low.set(1.0),
            zone.display_units.set("C"),
        ):
            refusal = await failure(call)
            assert isinstance(refusal, RefusedError)
            assert "confirm=True" in refusal.reason
        for wrong in (zone.manual_power.set(101.0, confirm=True), zone.control_mode.set("on")):
            assert (await failure(wrong)).cause is Cause.VALIDATION
        assert len(bench.line.requests) == sent
        assert (bench.controllers[1].eeprom_writes, zone.wear) == (0, 0)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_value_that_is_not_kept(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A write that the controller confirms but does not keep fails, and may have executed."""
    async with furnace(driver) as bench:
        bench.controllers[1].set_point_high_f = 300.0
        error = await failure(bench.zone().setpoint.set(400.0, confirm=True))
        assert error.fault is not None
        assert (error.cause, error.fault.kind) == (Cause.DEVICE, READ_BACK)
        assert "holds 148.8" in error.reason
        assert error.may_have_executed
        await bench.zone().setpoint.set(100.0, confirm=True)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_read_back_that_is_lost(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A write that cannot be read back is a fault of the line, and may have executed."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.setpoint.set(50.0, confirm=True)
        ticket = await zone.setpoint.submit(60.0, confirm=True)
        bench.line.late(0.2)  # the confirmation; what follows is lost
        bench.line.lose()
        error = (await ticket.outcome()).error
        assert error is not None
        assert (error.cause, error.may_have_executed) == (Cause.TRANSPORT, True)
        assert await zone.setpoint.get() == pytest.approx(60.0, abs=1e-4)


async def test_a_read_back_that_is_refused(autojump_clock: MockClock) -> None:
    """A controller that takes a value and will not say so has not confirmed it."""
    refusal = standard.encode_reply(standard.ErrorReply(1, standard.NO_ATTRIBUTE))
    async with furnace(EzZoneStandardBus) as bench:
        zone = bench.zone()
        await zone.setpoint.get()
        taken = standard.ValueReply(1, standard.WRITE, 7001, 1, 140.0)
        bench.line.foreign(standard.encode_reply(taken))
        bench.line.foreign(refusal)
        error = await failure(zone.setpoint.set(60.0, confirm=True))
        assert error.fault is not None
        assert error.fault.kind is READ_BACK
        assert error.may_have_executed
        bench.line.foreign(refusal)
        error = await failure(zone.setpoint.set(60.0, confirm=True))
        assert error.fault is not None
        assert error.fault.kind is REJECTED
        assert not error.may_have_executed


@pytest.mark.parametrize(("code", "kind"), [(2, "REJECTED"), (6, "BUSY"), (4, "DEVICE_FAILURE")])
async def test_modbus_exceptions(code: int, kind: str, autojump_clock: MockClock) -> None:
    """An exception is an error of the device, by its kind; only a refusal did nothing."""
    async with furnace(EzZoneModbus) as bench:
        zone = bench.zone()
        await zone.setpoint.get()
        bench.line.foreign(modbus.encode_reply(modbus.ErrorReply(1, modbus.WRITE, code)))
        error = await failure(zone.setpoint.set(60.0, confirm=True))
        assert error.fault is not None
        assert (error.cause, error.fault.kind.name) == (Cause.DEVICE, kind)
        # Busy means: not taken, ask again later.
        assert error.may_have_executed == (code not in (2, 6))
        assert DEVICE_FAILURE.name == "DEVICE_FAILURE"


FOREIGN: Sequence[tuple[type[EzZone], bytes]] = [
    *(
        (EzZoneStandardBus, standard.encode_reply(reply))
        for reply in (
            standard.ValueReply(2, standard.READ, 7001, 1, 99.0),
            standard.ValueReply(1, standard.READ, 7002, 1, 99.0),
            standard.ValueReply(1, standard.READ, 7001, 2, 99.0),
            standard.ValueReply(1, standard.READ, 4001, 1, 99.0),
            standard.ValueReply(1, standard.WRITE, 7001, 1, 99.0),
            standard.ErrorReply(2, standard.NO_OBJECT),
        )
    ),
    (EzZoneStandardBus, standard.encode_request(standard.Request(1, 7001, 1), Kind.FLOAT)),
    *(
        (EzZoneModbus, modbus.encode_reply(reply))
        for reply in (
            modbus.ReadReply(2, (0, 0)),
            modbus.ReadReply(1, (0, 0, 0, 0)),
            modbus.WriteReply(1, 2160, 2),
            modbus.ErrorReply(2, modbus.READ, 2),
            modbus.ErrorReply(1, modbus.WRITE, 2),
        )
    ),
]


@pytest.mark.parametrize(("driver", "reply"), FOREIGN)
async def test_a_reply_to_something_else(
    driver: type[EzZone], reply: bytes, autojump_clock: MockClock
) -> None:
    """A reply of another unit, function or parameter is a fault of the line, never a value."""
    async with furnace(driver, 1, 2) as bench:
        zone = bench.zone()
        expected = await zone.setpoint.get()
        await bench.zone(2).setpoint.get()
        bench.line.foreign(reply)
        error = await failure(zone.setpoint.get())
        assert error.fault is not None
        assert (error.cause, error.fault.kind) == (Cause.TRANSPORT, FOREIGN_REPLY)
        assert await zone.setpoint.get() == expected


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_late_reply_is_behind_a_fence(
    driver: type[EzZone], autojump_clock: MockClock
) -> None:
    """What comes too late answers nothing, not even the same question to the same unit."""
    async with furnace(driver, 1, 2) as bench:
        one, two = bench.zone(1), bench.zone(2)
        bench.controllers[1].write(9001, 1, 111.0)
        bench.controllers[1].write(9002, 1, -111.0)
        low = (-111.0 - 32.0) / 1.8
        await one.serial_number.get()
        await two.serial_number.get()
        bench.line.late(0.7)
        assert (await failure(one.alarm_high.get())).cause is Cause.TRANSPORT
        # Same length and same unit: on Modbus only the line's step tells them apart.
        assert await one.alarm_low.get() == pytest.approx(low, abs=1e-4)
        bench.line.late(0.7)
        assert (await failure(one.alarm_low.get())).cause is Cause.TRANSPORT
        bench.controllers[1].write(9002, 1, -200.0)
        assert await one.alarm_low.get() == pytest.approx((-200.0 - 32.0) / 1.8, abs=1e-4)
        bench.line.late(0.7)
        assert (await failure(one.alarm_low.get())).cause is Cause.TRANSPORT
        assert await two.serial_number.get() == 100_002


@pytest.mark.parametrize("driver", DRIVERS)
async def test_fences(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A fence differs from everything owed, and only its own answer crosses it."""
    async with furnace(driver, 1, 2) as bench:
        zone = bench.zone()
        model = bench.line.model
        owed = [zone.encode(zone.parameters["serial_number"])]
        while (fence := zone.fence(owed)) is not None:
            assert fence.unit == "1"
            assert fence.accepts is not None
            assert all(each.request != fence.request for each in owed)
            (answer,) = model.receive(fence.request, 1000.0 + len(owed))
            assert fence.accepts(answer.data)
            for each in owed:
                (late,) = model.receive(each.request, 2000.0 + len(owed))
                assert not fence.accepts(late.data)
            owed.append(fence)
        assert len(owed) == 3
        # Every reading of the driver may be owed.
        fence = zone.fence([])
        assert fence is not None
        assert fence.accepts is not None
        for index, parameter in enumerate(zone.parameters.values()):
            exchange = zone.encode(parameter)
            (late,) = model.receive(exchange.request, 3000.0 + index)
            assert exchange.request == fence.request or not fence.accepts(late.data)


@pytest.mark.parametrize("driver", ONE_LOOP)
async def test_a_late_refusal_is_behind_a_fence(
    driver: type[EzZone], autojump_clock: MockClock
) -> None:
    """A refusal does not say of what: one that comes late is not taken for the fence's."""
    async with furnace(driver) as bench:
        zone = bench.zone()
        await zone.serial_number.get()
        bench.line.late(0.7)
        assert (await failure(zone.setpoint.get(instance=2))).cause is Cause.TRANSPORT
        assert await zone.serial_number.get() == 100_001
        assert await zone.integral_time.get() == 180.0
        fence = zone.fence([])
        assert fence is not None
        assert fence.accepts is not None
        for refusal in (
            standard.encode_reply(standard.ErrorReply(1, standard.NO_INSTANCE)),
            modbus.encode_reply(modbus.ErrorReply(1, modbus.READ, modbus.ILLEGAL_ADDRESS)),
        ):
            assert not fence.accepts(refusal)


FAULTS: Sequence[Callable[[Random, SimLine, str], None]] = (
    lambda random, line, unit: line.late(random.uniform(0.1, 1.5), unit=unit),
    lambda random, line, unit: line.lose(random.randint(1, 2), unit),
    lambda random, line, unit: line.garble(random.randint(1, 2), unit),
    lambda random, line, unit: line.truncate(random.randint(1, 2), unit),
    lambda random, line, unit: line.duplicate(random.randint(1, 2), unit),
)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("seed", range(8))
async def test_no_value_but_the_right_one(
    driver: type[EzZone], seed: int, autojump_clock: MockClock
) -> None:
    """Whatever happens to replies of any unit, a value that is given is the one asked for."""
    random = Random(f"{driver.__name__} {seed}")
    async with furnace(driver, 1, 2, 3) as bench:
        numbers = {"setpoint": 7001, "alarm_high": 9001, "alarm_low": 9002}
        held: dict[tuple[int, str, int], float] = {}
        for unit, controller in bench.controllers.items():
            for name, number in numbers.items():
                for instance in (1, 2):
                    held[unit, name, instance] = value = float(len(held) * 10)
                    controller.write(number, instance, value)
        right = wrong = 0
        for _ in range(300):
            if random.random() < 0.2:
                random.choice(FAULTS)(random, bench.line, str(random.randint(1, 3)))
            unit, name, instance = random.choice(list(held))
            zone = bench.zone(unit)
            parameter = zone.parameters[name]
            try:
                ticket = await zone.bus.submit(zone, zone.plan(parameter, instance=instance))
                outcome = await ticket.outcome()
            except RefusedError as refused:
                await trio.sleep(refused.retry_after_s or 1.0)
                continue
            if outcome.error is not None:
                wrong += 1
                continue
            right += 1
            expected = (held[unit, name, instance] - 32.0) / 1.8
            assert outcome.value == pytest.approx(expected, abs=1e-3)
        assert right > 150
        assert wrong > 5


@pytest.mark.parametrize("driver", DRIVERS)
async def test_one_silent_unit(driver: type[EzZone], autojump_clock: MockClock) -> None:
    """A unit that hangs is quarantined alone; the other's values go on."""
    async with furnace(driver, 1, 2) as bench:
        await bench.zone(1).setpoint.get()
        await bench.zone(2).setpoint.get()
        bench.line.hang("1")
        taken: list[Sample] = []
        for _ in range(40):
            taken += await bench.tree.poll_many(["process_value"])
            await trio.sleep(0.5)
        assert [each.device for each in taken] == ["zone2"] * 40
        bench.line.unhang()
        await trio.sleep(60)
        assert len(await bench.tree.poll_many(["process_value"])) == 2


async def test_a_recording_of_several_families(autojump_clock: MockClock) -> None:
    """Controllers of two loops and a power supply are recorded in one table."""
    spec = TreeSpec(
        buses=[
            BusSpec(name="furnace", address="serial:///dev/ttyFurnace"),
            BusSpec(name="oven", address="serial:///dev/ttyOven"),
            BusSpec(name="supply", address="tcp://192.0.2.1:5025"),
        ],
        instruments=[
            InstrumentSpec(name="zone1", bus="furnace", driver=EzZoneStandardBus, unit_id="1"),
            InstrumentSpec(name="zone2", bus="furnace", driver=EzZoneStandardBus, unit_id="2"),
            InstrumentSpec(name="oven", bus="oven", driver=EzZoneModbus, unit_id="247"),
            InstrumentSpec(name="psu", bus="supply", driver=PowerSupply),
        ],
    )
    async with open_tree(spec, sim=True) as tree:
        await trio.sleep(1)
        async with record(
            tree,
            parameters=["process_value", "psu.current", "zone1.control_mode"],
            rate_hz=2,
            duration=5,
            instances=(1, 2),
        ) as recording:
            samples = [sample async for batch in recording.stream for sample in batch]
    keys = [
        "oven.process_value",
        "oven.process_value[2]",
        "psu.current",
        "zone1.control_mode",
        "zone1.control_mode[2]",
        "zone1.process_value",
        "zone1.process_value[2]",
        "zone2.process_value",
        "zone2.process_value[2]",
    ]
    assert sorted(str(each.key) for each in samples) == sorted(keys * 10)
    kinds = {str(each.key): (type(each.value), each.unit, each.protocol) for each in samples}
    assert kinds["psu.current"] == (float, "A", "scpi")
    assert kinds["zone1.control_mode"] == (str, None, "watlow")
    assert kinds["oven.process_value[2]"] == (float, "degC", "watlow.modbus")
    summary = recording.summary
    assert (summary.samples_expected, summary.samples_missing) == (90, 0)


@pytest.mark.parametrize(
    ("driver", "unit"),
    [
        (EzZoneStandardBus, "0"),
        (EzZoneStandardBus, "17"),
        (EzZoneModbus, "248"),
        (EzZoneModbus, "01"),
    ],
)
async def test_addresses(driver: type[EzZone], unit: str, autojump_clock: MockClock) -> None:
    """A unit id that is no address of the protocol is refused when it is added."""
    async with open_tree(sim=True) as tree:
        with pytest.raises(ValueError, match="is no address of a controller"):
            await tree.add("zone", driver, "serial:///dev/ttyFurnace", unit_id=unit)
