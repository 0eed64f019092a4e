"""Which drivers exist, by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from actors import Instrument
from actors.instruments.alicat import (
    AnyAlicat,
    FlowController,
    FlowMeter,
    PressureController,
    PressureMeter,
)
from actors.instruments.red_pitaya import RedPitaya
from actors.instruments.scpi import (
    EnvironmentalChamber,
    FunctionGenerator,
    Multimeter,
    Oscilloscope,
    PowerSupply,
    ScpiInstrument,
    SignalGenerator,
    SourceMeasureUnit,
    Spectrometer,
    SpectrumAnalyser,
    TemperatureController,
)
from actors.instruments.watlow import (
    EzZoneModbus,
    EzZoneModbusHighWordFirst,
    EzZoneStandardBus,
)

GROUP: Final = "benchtree.drivers"
"""The entry-point group in which other packages announce their drivers."""

BUILT_IN: Final[Mapping[str, type[Instrument]]] = {
    "alicat": AnyAlicat,
    "alicat.flow_meter": FlowMeter,
    "alicat.flow_controller": FlowController,
    "alicat.pressure_meter": PressureMeter,
    "alicat.pressure_controller": PressureController,
    "red_pitaya": RedPitaya,
    "scpi": ScpiInstrument,
    "scpi.power_supply": PowerSupply,
    "scpi.multimeter": Multimeter,
    "scpi.oscilloscope": Oscilloscope,
    "scpi.signal_generator": SignalGenerator,
    "scpi.source_measure": SourceMeasureUnit,
    "scpi.function_generator": FunctionGenerator,
    "scpi.spectrum_analyser": SpectrumAnalyser,
    "scpi.environmental_chamber": EnvironmentalChamber,
    "scpi.spectrometer": Spectrometer,
    "scpi.temperature_controller": TemperatureController,
    "watlow": EzZoneStandardBus,
    "watlow.modbus": EzZoneModbus,
    "watlow.modbus_high_word_first": EzZoneModbusHighWordFirst,
}


class UnknownDriverError(LookupError):
    """No driver has that name, or it cannot be loaded."""


def driver_names() -> list[str]:
    """Return the names of all drivers, sorted."""
    return sorted({*BUILT_IN, *_announced()})


def find_driver(name: str) -> type[Instrument]:
    """Return the driver of that name.

    Raises:
        UnknownDriverError: There is none, or the package that announces it is broken.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    announced = _announced().get(name)
    if announced is None:
        raise UnknownDriverError(
            f"no driver is named {name!r}; there are: {', '.join(driver_names())}"
        )
    try:
        loaded: object = announced.load()
    except Exception as error:
        raise UnknownDriverError(f"the driver {name!r} cannot be loaded: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Instrument)):
        raise UnknownDriverError(f"{announced.value} is not an Instrument, as a driver must be")
    return loaded


def name_of(driver: type[Instrument]) -> str:
    """Return the name of a driver in configurations, or its class's if it has none."""
    return next((name for name, each in BUILT_IN.items() if each is driver), driver.__name__)


def recognising() -> Mapping[str, type[Instrument]]:
    """Return by name the drivers that can tell whether an unknown device is theirs.

    Of those that ask the same way, the one with the shortest name stands for all. A driver
    of another package that cannot be loaded is left out; `find_driver` says why.
    """
    asked: dict[object, str] = {}
    found: dict[str, type[Instrument]] = {}
    for name in sorted(driver_names(), key=lambda each: (len(each), each)):
        with suppress(UnknownDriverError):
            driver = find_driver(name)
            if not driver.recognised_at:
                continue
            way = driver.recognise, driver.recognised_at
            if asked.setdefault(way, name) == name:
                found[name] = driver
    return found


def best_driver(name: str, model: str | None) -> str:
    """Return the driver that fits a model best, of those derived from the one that knew it."""
    base = find_driver(name)
    for each in driver_names():
        with suppress(UnknownDriverError):
            driver = find_driver(each)
            known = driver.known_models
            if known is not None and issubclass(driver, base) and known.fullmatch(model or ""):
                return each
    return name


def _announced() -> Mapping[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)}
