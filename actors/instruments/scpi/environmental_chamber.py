"""Environmental chambers: temperature and humidity, ramped, behind a door."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from actors.faults import INTERLOCK_OPEN, OVER_TEMPERATURE, FaultClass
from actors.parameter import Action, Reading, Setting

from .driver import ScpiInstrument
from .instruments import SafeState
from .models import EnvironmentalChamberModel


class EnvironmentalChamber(ScpiInstrument):
    """An environmental chamber for temperature and humidity.

    It is switched on only with a setpoint that was set and a door that was read and closed.
    Too hot, or opened while it is on, it is tripped and driven safe.
    """

    temperature = Reading("MEAS:TEMP", unit="degC")
    humidity = Reading("MEAS:HUM", unit="%")
    working_setpoint = Reading("TEMP:SPO:ACT", unit="degC")
    door_open = Reading("SENS:DOOR", type=bool)
    temperature_setpoint = Setting("TEMP:SPO", unit="degC", low=-70.0, high=180.0)
    ramp_rate = Setting("TEMP:RAMP", unit="K/min", low=0.0, high=20.0)
    protection_temperature = Setting("TEMP:PROT", unit="degC", low=-70.0, high=200.0)
    humidity_setpoint = Setting("HUM:SPO", unit="%", low=10.0, high=98.0)
    humidity_control = Setting("HUM:STAT", type=bool)
    output = Setting(
        "OUTP",
        type=bool,
        hazardous=lambda on: on,
        requires=(temperature_setpoint.is_set(), door_open.equals(False, within_s=60.0)),
    )
    clear_protection = Action("OUTP:PROT:CLE", hazardous=True)

    safe_state: ClassVar[SafeState] = (output.to(False),)
    conditions: ClassVar[Mapping[int, FaultClass]] = {4: OVER_TEMPERATURE, 9: INTERLOCK_OPEN}
    model = EnvironmentalChamberModel
    known_models = re.compile(r"EC180")
