"""Simulated SCPI instruments: an interpreter and the devices declared on it."""

from .entries import Action, Choice, Entry, Number, Query, RequestError, Switch
from .generator import SignalGeneratorModel
from .interpreter import ScpiModel
from .multimeter import MultimeterModel
from .oscilloscope import OscilloscopeModel
from .power_supply import PowerSupplyModel
from .signals import Shape, Signal
from .temperature_controller import TemperatureControllerModel
from .thermal import ThermalPlant

__all__ = [
    "Action",
    "Choice",
    "Entry",
    "MultimeterModel",
    "Number",
    "OscilloscopeModel",
    "PowerSupplyModel",
    "Query",
    "RequestError",
    "ScpiModel",
    "Shape",
    "Signal",
    "SignalGeneratorModel",
    "Switch",
    "TemperatureControllerModel",
    "ThermalPlant",
]
