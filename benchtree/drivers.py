"""Which drivers exist, by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Mapping
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
    Multimeter,
    PowerSupply,
    SignalGenerator,
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
    "scpi.power_supply": PowerSupply,
    "scpi.multimeter": Multimeter,
    "scpi.signal_generator": SignalGenerator,
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


def _announced() -> Mapping[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)}
