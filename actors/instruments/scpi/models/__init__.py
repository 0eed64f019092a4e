"""Simulated SCPI instruments: an interpreter and the devices declared on it."""

from .entries import Action, Choice, Entry, Number, Query, RequestError, Switch
from .environmental_chamber import EnvironmentalChamberModel, Room
from .function_generator import FunctionGeneratorModel
from .generator import SignalGeneratorModel
from .interpreter import ScpiModel
from .multimeter import MultimeterModel
from .oscilloscope import OscilloscopeModel
from .power_supply import PowerSupplyModel
from .signals import Shape, Signal
from .source_measure import Diode, Resistor, SourceMeasureModel
from .spectrometer import Line, SpectrometerModel
from .spectrum_analyser import SpectrumAnalyserModel, Tone
from .temperature_controller import TemperatureControllerModel
from .thermal import ThermalPlant

__all__ = [
    "Action",
    "Choice",
    "Diode",
    "Entry",
    "EnvironmentalChamberModel",
    "FunctionGeneratorModel",
    "Line",
    "MultimeterModel",
    "Number",
    "OscilloscopeModel",
    "PowerSupplyModel",
    "Query",
    "RequestError",
    "Resistor",
    "Room",
    "ScpiModel",
    "Shape",
    "Signal",
    "SignalGeneratorModel",
    "SourceMeasureModel",
    "SpectrometerModel",
    "SpectrumAnalyserModel",
    "Switch",
    "TemperatureControllerModel",
    "ThermalPlant",
    "Tone",
]
