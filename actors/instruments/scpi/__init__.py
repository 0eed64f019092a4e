"""Instruments that speak SCPI, and the device models that stand in for them."""

from __future__ import annotations

from .driver import ScpiInstrument
from .instruments import Multimeter, PowerSupply, SignalGenerator, TemperatureController
from .models import (
    MultimeterModel,
    OscilloscopeModel,
    PowerSupplyModel,
    ScpiModel,
    Shape,
    Signal,
    SignalGeneratorModel,
    TemperatureControllerModel,
)
from .oscilloscope import Oscilloscope, ScopeWaveform
from .tracing import TracingInstrument

__all__ = [
    "Multimeter",
    "MultimeterModel",
    "Oscilloscope",
    "OscilloscopeModel",
    "PowerSupply",
    "PowerSupplyModel",
    "ScopeWaveform",
    "ScpiInstrument",
    "ScpiModel",
    "Shape",
    "Signal",
    "SignalGenerator",
    "SignalGeneratorModel",
    "TemperatureController",
    "TemperatureControllerModel",
    "TracingInstrument",
]
