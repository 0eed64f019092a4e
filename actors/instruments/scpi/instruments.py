"""SCPI instruments by kind. Derive from them, or from `ScpiInstrument`, for your own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from actors.faults import OVER_CURRENT, OVER_TEMPERATURE, OVER_VOLTAGE, FaultClass
from actors.parameter import Action, Assignment, Operation, Reading, Setting

from .driver import ScpiInstrument
from .models import (
    MultimeterModel,
    PowerSupplyModel,
    SignalGeneratorModel,
    TemperatureControllerModel,
)

SafeState: TypeAlias = Sequence[Assignment[Any] | Action]
"""Written out, so that a driver derived from one of these may hold other kinds of values."""


class PowerSupply(ScpiInstrument):
    """A programmable DC power supply, one channel."""

    voltage = Setting("VOLT", unit="V", low=0.0, high=30.0)
    current_limit = Setting("CURR", unit="A", low=0.0, high=5.0)
    protection_voltage = Setting("VOLT:PROT", unit="V", low=0.0, high=33.0)
    current_protection = Setting("CURR:PROT:STAT", type=bool)
    """Whether the output is switched off where the current limit is reached."""
    output = Setting("OUTP", type=bool, hazardous=lambda on: on)
    measured_voltage = Reading("MEAS:VOLT", unit="V")
    current = Reading("MEAS:CURR", unit="A")
    power = Reading("MEAS:POW", unit="W")
    clear_protection = Action("OUTP:PROT:CLE", hazardous=True)

    safe_state: ClassVar[SafeState] = (output.to(False),)
    # Bit 4 is SCPI's own (volume 1, 20.3), 9 and 10 are what makers agree upon.
    conditions: ClassVar[Mapping[int, FaultClass]] = {
        4: OVER_TEMPERATURE,
        9: OVER_VOLTAGE,
        10: OVER_CURRENT,
    }
    model = PowerSupplyModel
    # Keysight and Agilent, Rigol, Siglent, Keithley, Rohde & Schwarz, and the simulated one.
    known_models = re.compile(
        r"(E36[0-9]{2,3}[A-Z]|DP[789][0-9]{2}A?|SPD[0-9]{4}X?|22[0-9]{2}[A-Z]?-[0-9]|"
        r"HMP[0-9]{4}|NGE1[0-9]{2}|PS30-5).*"
    )


class Multimeter(ScpiInstrument):
    """A digital multimeter; each reading selects its function."""

    voltage = Reading("MEAS:VOLT:DC", unit="V")
    current = Reading("MEAS:CURR:DC", unit="A")
    resistance = Reading("MEAS:RES", unit="ohm")

    model = MultimeterModel
    # Keysight and Agilent, Rigol, Siglent, Keithley, and the simulated one.
    known_models = re.compile(
        r"(344[0-9]{2}A|3458A|DM30[0-9]{2}E?|SDM30[0-9]{2}X?|MODEL (2000|2100|2110)|DMM6500|"
        r"DMM7510|MM6).*"
    )
    reply_within_s: ClassVar[float] = 3.0


class SignalGenerator(ScpiInstrument):
    """A radio-frequency generator that sweeps its frequency."""

    start_frequency = Setting("FREQ:STAR", unit="Hz", low=1e3, high=1e9)
    stop_frequency = Setting("FREQ:STOP", unit="Hz", low=1e3, high=1e9)
    sweep_time = Setting("SWE:TIME", unit="s", low=1e-3, high=1e4)
    output = Setting("OUTP", type=bool, hazardous=lambda on: on)
    frequency = Reading("FREQ", unit="Hz")
    sweep = Operation("INIT", abort="ABOR", progress="SWE:PROG")

    safe_state: ClassVar[SafeState] = (output.to(False),)
    model = SignalGeneratorModel
    known_models = re.compile(r"SG1000")


class TemperatureController(ScpiInstrument):
    """A furnace controller with one loop."""

    temperature = Reading("MEAS:TEMP", unit="degC")
    setpoint = Setting("TEMP:SPO", unit="degC", low=-20.0, high=1200.0)
    ramp_rate = Setting("TEMP:RAMP", unit="K/min", low=0.0, high=600.0)
    heater_power = Reading("MEAS:POW", unit="%")
    heater_limit = Setting("HEAT:LIM", unit="%", low=0.0, high=100.0)
    output = Setting("OUTP", type=bool, hazardous=lambda on: on)

    safe_state: ClassVar[SafeState] = (output.to(False),)
    conditions: ClassVar[Mapping[int, FaultClass]] = {4: OVER_TEMPERATURE}
    model = TemperatureControllerModel
    known_models = re.compile(r"TC1200")
