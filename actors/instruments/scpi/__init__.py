"""Instruments that speak SCPI, and the device models that stand in for them."""

from __future__ import annotations

from .driver import ScpiInstrument
from .environmental_chamber import EnvironmentalChamber
from .function_generator import HIGH_IMPEDANCE, FunctionGenerator
from .instruments import Multimeter, PowerSupply, SignalGenerator, TemperatureController
from .models import (
    Diode,
    EnvironmentalChamberModel,
    FunctionGeneratorModel,
    Line,
    MultimeterModel,
    OscilloscopeModel,
    PowerSupplyModel,
    Resistor,
    Room,
    ScpiModel,
    Shape,
    Signal,
    SignalGeneratorModel,
    SourceMeasureModel,
    SpectrometerModel,
    SpectrumAnalyserModel,
    TemperatureControllerModel,
    Tone,
)
from .oscilloscope import Oscilloscope, ScopeWaveform
from .source_measure import Curve, SourceMeasureUnit
from .spectrometer import SATURATED, OpticalSpectrum, Spectrometer
from .spectrum_analyser import INPUT_OVERLOAD, Spectrum, SpectrumAnalyser
from .tracing import TracingInstrument

__all__ = [
    "HIGH_IMPEDANCE",
    "INPUT_OVERLOAD",
    "SATURATED",
    "Curve",
    "Diode",
    "EnvironmentalChamber",
    "EnvironmentalChamberModel",
    "FunctionGenerator",
    "FunctionGeneratorModel",
    "Line",
    "Multimeter",
    "MultimeterModel",
    "OpticalSpectrum",
    "Oscilloscope",
    "OscilloscopeModel",
    "PowerSupply",
    "PowerSupplyModel",
    "Resistor",
    "Room",
    "ScopeWaveform",
    "ScpiInstrument",
    "ScpiModel",
    "Shape",
    "Signal",
    "SignalGenerator",
    "SignalGeneratorModel",
    "SourceMeasureModel",
    "SourceMeasureUnit",
    "Spectrometer",
    "SpectrometerModel",
    "Spectrum",
    "SpectrumAnalyser",
    "SpectrumAnalyserModel",
    "TemperatureController",
    "TemperatureControllerModel",
    "Tone",
    "TracingInstrument",
]
