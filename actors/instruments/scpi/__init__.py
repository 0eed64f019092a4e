"""Instruments that speak SCPI, and the device models that stand in for them."""

from __future__ import annotations

from .driver import ScpiInstrument
from .instruments import Multimeter, PowerSupply, SignalGenerator, TemperatureController
from .models import (
    MultimeterModel,
    PowerSupplyModel,
    ScpiModel,
    SignalGeneratorModel,
    TemperatureControllerModel,
)

__all__ = [
    "Multimeter",
    "MultimeterModel",
    "PowerSupply",
    "PowerSupplyModel",
    "ScpiInstrument",
    "ScpiModel",
    "SignalGenerator",
    "SignalGeneratorModel",
    "TemperatureController",
    "TemperatureControllerModel",
]
