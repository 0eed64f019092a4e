"""What holds for every family of SCPI instruments: parameters, harm, identity, real lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import trio
from attrs import field, frozen
from trio.testing import MockClock

from actors import Assignment, Cause, CommandError, RefusedError, Setting
from actors.instruments.scpi import (
    HIGH_IMPEDANCE,
    EnvironmentalChamber,
    FunctionGenerator,
    Oscilloscope,
    ScpiInstrument,
    SourceMeasureUnit,
    Spectrometer,
    SpectrumAnalyser,
)
from benchtree.drivers import best_driver, name_of
from benchtree.exercise import Exercise
from benchtree.faultplan import LEVELS, FaultPlan
from benchtree.simulate import Bench as SimulatedBench
from benchtree.simulate import simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from tests.actors.bench import Bench
from tools import ROOT
from tools.draw_parameters import parameter_table

from .line import on_line, on_real_line


@frozen
class Family:
    """One family, and what its parameters need.

    Attributes:
        driver: Its driver.
        real: The real line that it is opened on.
        first: What has to be said before everything in it can be set.
        values: Values of a setting that does not take all that is between its limits.
    """

    driver: type[ScpiInstrument]
    real: Literal["tcp", "pty"] = "tcp"
    first: Sequence[Any] = ()
    values: Mapping[str, Sequence[Any]] = field(factory=dict[str, Sequence[Any]])

    def __str__(self) -> str:
        """Return the driver's name."""
        return self.driver.__name__


FAMILIES = (
    # Without a probe that divides it takes a part of what it takes with one.
    Family(
        Oscilloscope,
        "pty",
        tuple(Oscilloscope.probe.to(1.0, instance=each) for each in range(1, 5)),
        {"scale": (1e-3, 10.0, 1.0), "offset": (-40.0, 0.3, 40.0)},
    ),
    Family(
        SourceMeasureUnit,
        "tcp",
        (SourceMeasureUnit.voltage_limit.to(2.0), SourceMeasureUnit.current_limit.to(0.1)),
    ),
    Family(
        FunctionGenerator,
        "pty",
        (FunctionGenerator.load.to(HIGH_IMPEDANCE),),
        # The device takes only what its load can get.
        {
            "amplitude": (20.0, 1e-3),
            "offset": (-9.0, 9.0, 0.0),
            "load": (1.0, 50.0, HIGH_IMPEDANCE),
        },
    ),
    Family(SpectrumAnalyser, "tcp"),
    Family(
        EnvironmentalChamber,
        "pty",
        (EnvironmentalChamber.temperature_setpoint.to(23.0), EnvironmentalChamber.door_open),
        # Below the temperature of the air, the protection trips.
        {"protection_temperature": (100.0, 200.0)},
    ),
    Family(Spectrometer, "tcp"),
)
SIMULATED_S = 120.0

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=str)


@asynccontextmanager
async def opened(family: Family) -> AsyncGenerator[tuple[ScpiInstrument, Bench]]:
    """Put an instrument of a family on a simulated line, with what it needs set."""
    assert family.driver.model is not None
    async with on_line(family.driver, family.driver.model(), name="it") as (instrument, bench):
        for directive in family.first:
            await instrument.ask(directive, confirm=True)
        yield instrument, bench


def settings_of(family: Family) -> Iterator[tuple[Setting[Any], int]]:
    """Yield every setting, once for each channel."""
    for each in family.driver.parameters.values():
        if isinstance(each, Setting):
            for instance in range(1, family.driver.instances_of(each) + 1):
                yield each, instance


def values_of(family: Family, setting: Setting[Any]) -> Sequence[Any]:
    """Return values that a setting takes."""
    limits = setting.limits
    if setting.name in family.values:
        return family.values[setting.name]
    if limits.choices or limits.type is bool:
        return limits.choices or (True, False)
    assert limits.low is not None
    assert limits.high is not None
    middle = limits.low + (limits.high - limits.low) / 3
    return (limits.low, round(middle) if limits.type is int else middle, limits.high)


@EVERY
async def test_every_setting_reads_back_what_was_written(
    autojump_clock: MockClock, family: Family
) -> None:
    """Each value, of each channel, comes back from the device with its type."""
    async with opened(family) as (instrument, _):
        for setting, instance in settings_of(family):
            for value in values_of(family, setting):
                await instrument.ask(setting.to(value, instance=instance), confirm=True)
                found = await instrument.ask(setting, instance=instance)
                assert type(found) is setting.type
                assert setting.limits.same(value, found), (setting, instance, value, found)


@EVERY
async def test_every_reading_is_a_value_or_none(autojump_clock: MockClock, family: Family) -> None:
    """Each reading, of each channel, has its type, or says that there is no value."""
    async with opened(family) as (instrument, _):
        for each in family.driver.parameters.values():
            for instance in range(1, family.driver.instances_of(each) + 1):
                found = await instrument.ask_plan(instrument.plan(each, instance=instance))
                assert found is None or type(found) is each.type


@EVERY
async def test_wrong_values_are_refused_before_a_byte(
    autojump_clock: MockClock, family: Family
) -> None:
    """Out of range, of another type, of a channel that is not there: nothing is sent."""
    async with opened(family) as (instrument, bench):
        bench.line.requests.clear()
        for setting, instance in settings_of(family):
            limits = setting.limits
            wrong: list[Any] = ["5 parsec", float("nan"), None]
            wrong += [limits.low - abs(limits.low) - 1] if limits.low is not None else []
            wrong += [limits.high + abs(limits.high) + 1] if limits.high is not None else []
            for value in wrong:
                with pytest.raises(RefusedError) as refused:
                    await instrument.ask(setting.to(value, instance=instance), confirm=True)
                assert refused.value.cause is Cause.VALIDATION
            beyond = family.driver.instances_of(setting) + 1
            with pytest.raises(RefusedError, match=f"no instance {beyond}"):
                await instrument.ask(setting, instance=beyond)
        assert bench.sent() == []


@EVERY
async def test_harm_needs_confirmation(autojump_clock: MockClock, family: Family) -> None:
    """What can do harm is refused without it; what drives the instrument safe needs none."""
    async with opened(family) as (instrument, bench):
        bench.line.requests.clear()
        for setting, instance in settings_of(family):
            for value in values_of(family, setting):
                if setting.limits.is_hazardous(value):
                    with pytest.raises(RefusedError, match="confirm=True"):
                        await instrument.ask(setting.to(value, instance=instance))
        for action in family.driver.actions.values():
            if action.hazardous:
                with pytest.raises(RefusedError, match="confirm=True"):
                    await instrument.ask(action)
        assert bench.sent() == []
        harmful = [each for each, _ in settings_of(family) if callable(each.limits.hazardous)]
        safe = [each.setting for each in family.driver.safe_state if isinstance(each, Assignment)]
        assert harmful == safe


@EVERY
async def test_after_a_power_cycle_settings_come_back(
    autojump_clock: MockClock, family: Family
) -> None:
    """What it held it holds again, of each channel; what can do harm stays off.

    A setting may have been moved by one that was made after it, as volts are by a probe.
    """
    assert family.driver.model is not None
    model = family.driver.model()
    async with on_line(family.driver, model, name="it") as (instrument, bench):
        for directive in family.first:
            await instrument.ask(directive, confirm=True)
        for setting, instance in settings_of(family):
            value = values_of(family, setting)[0 if setting.type is bool else -1]
            await instrument.ask(setting.to(value, instance=instance), confirm=True)
        held = {
            each: await instrument.ask(each[0], instance=each[1]) for each in settings_of(family)
        }
        bench.line.unplug()
        model.reset(trio.current_time())
        await trio.sleep(1.0)
        bench.line.replug()
        await bench.in_service()
        for (setting, instance), value in held.items():
            found = await instrument.ask(setting, instance=instance)
            if setting.limits.is_hazardous(value):
                assert found is False
            else:
                assert setting.limits.same(value, found), (setting, instance, value, found)


@EVERY
async def test_a_device_that_says_no_is_believed(autojump_clock: MockClock, family: Family) -> None:
    """An error of its queue fails the write, with its number, and is no fault of the line."""
    async with opened(family) as (instrument, bench):
        setting, instance = next(
            each for each in settings_of(family) if not callable(each[0].limits.hazardous)
        )
        bench.line.foreign(b'-222,"Data out of range; limited"\n')
        value = values_of(family, setting)[0]
        with pytest.raises(CommandError, match="-222") as failed:
            await instrument.ask(setting.to(value, instance=instance))
        assert failed.value.cause is Cause.DEVICE
        assert bench.transport.counters.resyncs == 0


@EVERY
async def test_garbled_and_truncated_readings_are_faults(
    autojump_clock: MockClock, family: Family
) -> None:
    """A broken answer is never a value; the next one is right."""
    async with opened(family) as (instrument, bench):
        plan = instrument.plan(next(iter(family.driver.parameters.values())))
        for break_it in (bench.line.garble, bench.line.truncate):
            right = await instrument.ask_plan(plan)
            break_it()
            with pytest.raises(CommandError) as failed:
                await instrument.ask_plan(plan)
            assert failed.value.cause is Cause.TRANSPORT
            assert await instrument.ask_plan(plan) == right


@EVERY
def test_its_model_finds_its_driver(family: Family) -> None:
    """What answers `*IDN?` is given the driver of its family, and no other."""
    assert family.driver.model is not None
    model = family.driver.model()
    (reply,) = model.receive(b"*IDN?\n", 0.0)
    name = reply.data.split(b",")[1].decode()
    assert best_driver("scpi", name) == name_of(family.driver)


@pytest.mark.parametrize(
    ("model", "driver"),
    [
        ("DSO-X 3024A", Oscilloscope),
        ("MSOX4154A", Oscilloscope),
        ("EDUX1052G", Oscilloscope),
        ("B2912A", SourceMeasureUnit),
        ("B2901BL", SourceMeasureUnit),
        ("B2961A", ScpiInstrument),  # a source that does not measure so
        ("33522B", FunctionGenerator),
        ("33220A", FunctionGenerator),
        ("N9020A", SpectrumAnalyser),
        ("E4440A", SpectrumAnalyser),
        ("E4418B", ScpiInstrument),  # a power meter
        ("EDU33211A", FunctionGenerator),
    ],
)
def test_known_models(model: str, driver: type[ScpiInstrument]) -> None:
    """Instruments on sale are recognised by what they call themselves."""
    assert best_driver("scpi", model) == name_of(driver)


@EVERY
def test_its_page_has_its_parameters(family: Family) -> None:
    """The page's table is `python -m tools.draw_parameters`, and the index names the page."""
    folder = ROOT / "docs" / "instruments"
    name = name_of(family.driver)
    page = f"{name.removeprefix('scpi.')}.md"
    assert parameter_table(family.driver) in (folder / page).read_text(encoding="utf-8")
    index = (folder / "index.md").read_text(encoding="utf-8")
    assert f"| `{name}` | `{family.driver.__name__}` |" in index
    assert f"]({page})" in index


@EVERY
async def test_on_a_real_line(family: Family) -> None:
    """Over a socket or a terminal it is identified, set and read like in memory."""
    assert family.driver.model is not None
    async with on_real_line(family.driver, family.driver.model(), family.real) as (it, line):
        for directive in family.first:
            await it.ask(directive, confirm=True)
        setting, instance = next(settings_of(family))
        value = values_of(family, setting)[-1]
        await it.ask(setting.to(value, instance=instance), confirm=True)
        found = await it.ask(setting, instance=instance)
        assert setting.limits.same(value, found)
        assert len(line.requests) >= 3


def test_all_of_them_simulated() -> None:
    """Under faults of every kind, with users at work, nothing that must hold is violated."""
    numbered = list(enumerate(FAMILIES, start=1))
    spec = TreeSpec(
        name="families",
        buses=[BusSpec(name=f"bus{n}", address=f"tcp://192.0.2.{n}:5025") for n, _ in numbered],
        instruments=[
            InstrumentSpec(name=f"it{n}", bus=f"bus{n}", driver=family.driver)
            for n, family in numbered
        ],
    )

    async def main(bench: SimulatedBench) -> None:
        await Exercise(bench, SIMULATED_S).run()

    plan = FaultPlan.seeded(3, spec, duration_s=SIMULATED_S, rates=LEVELS["heavy"])
    report = simulate(3, main, bench=spec, faults=plan)
    assert report.violations == ()
