"""Simulated SCPI instruments: an interpreter and the devices declared on it."""

from .entries import Action, Choice, Entry, Number, Query, RequestError, Switch
from .generator import SignalGeneratorModel
from .interpreter import ScpiModel
from .multimeter import MultimeterModel
from .power_supply import PowerSupplyModel
from .temperature_controller import TemperatureControllerModel
from .thermal import ThermalPlant

__all__ = [
    "Action",
    "Choice",
    "Entry",
    "MultimeterModel",
    "Number",
    "PowerSupplyModel",
    "Query",
    "RequestError",
    "ScpiModel",
    "SignalGeneratorModel",
    "Switch",
    "TemperatureControllerModel",
    "ThermalPlant",
]
