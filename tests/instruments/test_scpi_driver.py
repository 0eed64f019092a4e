"""SCPI drivers on simulated lines: what they send, what they take, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Cause,
    CommandError,
    Identity,
    IdentityMismatch,
    InstrumentQuarantined,
    MemberPolicy,
    Priority,
    Reading,
    RefusedError,
    SampleKey,
    Service,
    Setting,
)
from actors.instruments.scpi import Multimeter, PowerSupply, ScpiInstrument, TemperatureController
from actors.instruments.scpi.models import (
    MultimeterModel,
    PowerSupplyModel,
    TemperatureControllerModel,
)
from tests.actors.bench import PLAIN, STEADY, Bench, Parts, bench_running
from transports import TCP

from .line import on_line


class Plain(ScpiInstrument):
    """An instrument without an error queue."""

    level = Setting("LEV", unit="V", low=0.0, high=10.0)
    label = Reading("LAB", type=str)
    check_errors = False


async def test_it_is_identified_and_its_error_queue_emptied(autojump_clock: MockClock) -> None:
    """What went wrong before it was opened is no fault of the first command."""
    model = PowerSupplyModel(serial="SN-7")
    model.receive(b"NONSENSE\nMORE NONSENSE\n", 0.0)
    async with on_line(PowerSupply, model) as (psu, bench):
        assert bench.status("psu").identity == Identity("benchtree", "PS30-5", "SN-7", "1.0")
        assert not model.errors
        await psu.voltage.set(5.0)


async def test_settings_are_written_read_back_and_measured(autojump_clock: MockClock) -> None:
    """Values go to the device and come back with their types."""
    model = PowerSupplyModel()
    async with on_line(PowerSupply, model) as (psu, bench):
        await psu.voltage.set(5.0)
        await psu.output.set(True, confirm=True)
        assert model.output_on
        assert await psu.voltage.get() == 5.0
        assert await psu.output.get() is True
        assert await psu.current.get() == pytest.approx(0.5)
        assert bench.sent()[0] == "VOLT 5.0;:SYST:ERR?"


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(31.0, "from 0 to 30 V"), (-0.1, "from 0 to 30 V"), (float("nan"), "finite"), ("5", "number")],
)
async def test_a_wrong_value_is_refused_before_a_byte(
    autojump_clock: MockClock, value: Any, allowed: str
) -> None:
    """The refusal names instrument, command, the value and what is allowed."""
    async with on_line(PowerSupply, PowerSupplyModel()) as (psu, bench):
        with pytest.raises(RefusedError) as refused:
            await psu.voltage.set(value)
        assert refused.value.cause is Cause.VALIDATION
        assert not refused.value.may_have_executed
        text = str(refused.value)
        assert text.startswith("psu: voltage.set: ")
        assert repr(value) in text
        assert allowed in text
        assert bench.sent() == []


async def test_harm_needs_confirmation(autojump_clock: MockClock) -> None:
    """Switching on is refused unless it is meant; switching off never is."""
    model = PowerSupplyModel()
    async with on_line(PowerSupply, model) as (psu, bench):
        with pytest.raises(RefusedError, match="confirm=True"):
            await psu.output.set(True)
        with pytest.raises(RefusedError, match="confirm=True"):
            await psu.clear_protection()
        assert bench.sent() == []
        await psu.output.set(False)
        await psu.clear_protection(confirm=True)
        assert bench.sent() == ["OUTP 0;:SYST:ERR?", "OUTP:PROT:CLE;:SYST:ERR?"]


async def test_what_another_driver_declared_is_refused(autojump_clock: MockClock) -> None:
    """A reading of a multimeter means nothing to a power supply."""
    async with on_line(PowerSupply, PowerSupplyModel()) as (psu, bench):
        for directive in (
            Multimeter.voltage,
            TemperatureController.setpoint.to(5.0),
            Multimeter.resistance,
        ):
            with pytest.raises(RefusedError, match="not declared by PowerSupply") as refused:
                await psu.submit(directive)
            assert refused.value.cause is Cause.VALIDATION
        assert bench.sent() == []


async def test_a_device_that_says_no(autojump_clock: MockClock) -> None:
    """An execution error means nothing was done; the line and the breaker are well."""
    model = PowerSupplyModel(max_voltage_v=20.0)
    async with on_line(PowerSupply, model) as (psu, bench):
        with pytest.raises(CommandError) as failed:
            await psu.voltage.set(25.0)
        assert failed.value.cause is Cause.DEVICE
        assert not failed.value.may_have_executed
        assert "-222" in str(failed.value)
        assert model.setpoint_v == 0.0
        assert bench.bus.status().breaker.name == "CLOSED"


async def test_an_overload_is_a_value_that_is_unavailable(autojump_clock: MockClock) -> None:
    """What the instrument reports as no number is None, not 9.9e37."""
    async with on_line(Multimeter, MultimeterModel(), name="dmm") as (dmm, bench):
        bench.line.foreign(b"9.90000000E+37\n")
        assert await dmm.voltage.get() is None


async def test_a_reply_of_another_kind_is_no_value(autojump_clock: MockClock) -> None:
    """An identity in place of a number fails the read, and the line gets into step."""
    async with on_line(Multimeter, MultimeterModel(), name="dmm") as (dmm, bench):
        bench.line.foreign(b"benchtree,DMM,1,1.0\n")
        with pytest.raises(CommandError) as failed:
            await dmm.voltage.get()
        assert failed.value.cause is Cause.TRANSPORT
        assert isinstance(await dmm.voltage.get(), float)
        assert bench.transport.counters.resyncs == 1


async def test_what_answers_instead_of_an_instrument_is_shown(autojump_clock: MockClock) -> None:
    """Who looks why an instrument is quarantined sees what is at its address."""
    bench = Bench(MultimeterModel(), [], Parts())
    bench.line.foreign(b"SSH-2.0-OpenSSH_9.2\n", count=20)
    bench.bus.attach(Multimeter("dmm", bench.bus), bench.parts.policy)
    async with bench_running(bench):
        await bench.until(lambda: bool(bench.of(InstrumentQuarantined)))
        assert "b'SSH-2.0-OpenSSH_9.2'" in bench.of(InstrumentQuarantined)[0].reason


async def test_a_late_reply_never_answers_a_later_question(autojump_clock: MockClock) -> None:
    """On a line whose late bytes outlive it, and on one whose do not."""
    profiles = {PLAIN: True, evolve(TCP, lateness_s=0.5, attempts=1): False}
    for profile, keeps_late in profiles.items():
        model = PowerSupplyModel()
        parts = Parts(profile=profile, keeps_late=keeps_late)
        async with on_line(PowerSupply, model, parts) as (psu, bench):
            await psu.voltage.set(5.0)
            await psu.current_limit.set(1.5)
            for _ in range(20):
                bench.line.late(1.3)
                with pytest.raises(CommandError):
                    await psu.voltage.get()
                assert await psu.current_limit.get() == 1.5
                with trio.move_on_after(0.0005):
                    await psu.current_limit.get()
                assert await psu.voltage.get() == 5.0


async def test_half_a_write_in_the_input_is_forgiven(autojump_clock: MockClock) -> None:
    """What a killed program left there becomes an error that is read and forgotten."""
    model = PowerSupplyModel()
    model.receive(b"VOLT 29", 0.0)
    async with on_line(PowerSupply, model) as (psu, bench):
        assert bench.status("psu").service is Service.IN_SERVICE
        assert model.setpoint_v == 0.0
        await psu.voltage.set(1.0)


async def test_a_late_reply_of_an_earlier_life_is_discarded(autojump_clock: MockClock) -> None:
    """An answer to what another program asked arrives after opening, and answers nothing."""
    model = PowerSupplyModel()
    bench = Bench(model, [], Parts())
    psu = PowerSupply("psu", bench.bus)
    bench.bus.attach(psu, bench.parts.policy)
    earlier = await bench.host.connect()
    bench.line.late(0.3)
    earlier.write_nowait(b"MEAS:VOLT?\n")
    await earlier.aclose()
    async with bench_running(bench):
        await bench.in_service()
        await psu.voltage.set(5.0)
        assert await psu.voltage.get() == 5.0
        assert await psu.output.get() is False


async def test_an_instrument_without_an_error_queue(autojump_clock: MockClock) -> None:
    """Its writes are not answered, and nothing is asked that it cannot answer."""

    class Model(PowerSupplyModel):
        """A supply; only its identity is asked."""

    async with on_line(Plain, Model()) as (plain, bench):
        await plain.level.set(5.0)
        await plain.ask(Plain.level.to(6.0))
        assert bench.sent() == ["LEV 5.0", "LEV 6.0"]
        assert not bench.bus.tickets()


async def test_an_emergency_needs_no_confirmation(autojump_clock: MockClock) -> None:
    """The output is off at the device, and stays off until it is rearmed."""
    model = PowerSupplyModel()
    async with on_line(PowerSupply, model) as (psu, bench):
        await psu.output.set(True, confirm=True)
        tickets = [await psu.output.submit(True, confirm=True) for _ in range(1000)]
        bench.line.requests.clear()
        await psu.output.set(False, priority=Priority.EMERGENCY)
        assert not model.output_on
        assert len([text for text in bench.sent() if text.startswith("OUTP 1")]) <= 1
        for each in tickets:
            await each.outcome()
        assert not model.output_on
        with pytest.raises(RefusedError):
            await psu.output.set(True, confirm=True)
        assert await psu.output.get() is False
        bench.bus.rearm("psu")
        await psu.output.set(True, confirm=True)
        assert model.output_on


async def test_a_power_cycle_does_not_switch_it_on_again(autojump_clock: MockClock) -> None:
    """Settings come back after an outage, the output does not."""
    model = PowerSupplyModel()
    async with on_line(PowerSupply, model) as (psu, bench):
        await psu.voltage.set(7.0)
        await psu.output.set(True, confirm=True)
        bench.line.unplug()
        await trio.sleep(1)
        bench.line.reset()
        bench.line.replug()
        await bench.in_service()
        assert model.setpoint_v == 7.0
        assert not model.output_on


async def test_another_serial_number_is_refused(autojump_clock: MockClock) -> None:
    """A supply that was swapped is told nothing."""
    first = PowerSupplyModel(serial="SN-1")
    parts = Parts(policy=MemberPolicy(breaker=STEADY, expect=Identity(serial="SN-1")))
    async with on_line(PowerSupply, first, parts) as (psu, bench):
        bench.line.unplug()
        await trio.sleep(1)
        second = PowerSupplyModel(serial="SN-2")
        bench.line.replug(second)
        await bench.until(lambda: bool(bench.of(IdentityMismatch)))
        with pytest.raises(RefusedError):
            await psu.voltage.set(5.0)
        assert second.setpoint_v == 0.0


async def test_a_temperature_controller_heats(autojump_clock: MockClock) -> None:
    """The whole way from a driver to simulated physics and back."""
    model = TemperatureControllerModel()
    async with on_line(TemperatureController, model, name="oven") as (oven, _):
        before = await oven.temperature.get()
        await oven.setpoint.set(200.0)
        await oven.output.set(True, confirm=True)
        await trio.sleep(600)
        after = await oven.temperature.get()
        assert before is not None
        assert after is not None
        assert after > before + 50


async def test_declarations_say_what_there_is(autojump_clock: MockClock) -> None:
    """A driver knows its parameters and actions, inherited ones included."""

    class Special(PowerSupply):
        temperature = Reading("MEAS:TEMP", unit="degC")

    assert list(Special.parameters) == [*PowerSupply.parameters, "temperature"]
    assert list(Special.actions) == ["clear_protection"]
    assert repr(Special.temperature) == "<Reading temperature 'MEAS:TEMP'>"
    assert repr(Special.voltage.to(5.0)) == "<Assignment voltage = 5.0>"
    assert str(SampleKey("psu", "voltage")) == "psu.voltage"


async def test_a_wrong_safe_state_shows_when_it_is_attached(autojump_clock: MockClock) -> None:
    """A safe state out of range, or of a setting that was overridden, must not wait for need."""

    class TooMuch(PowerSupply):
        safe_state = (PowerSupply.voltage.to(99.0),)

    class Overridden(PowerSupply):
        output = Setting("OUTP1", type=bool)

    bench = Bench(PowerSupplyModel(), [], Parts())
    for driver in (TooMuch, Overridden):
        with pytest.raises(RefusedError):
            bench.bus.attach(driver("psu", bench.bus))
    assert bench.bus.status().instruments == ()
