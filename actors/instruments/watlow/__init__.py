"""Watlow EZ-ZONE PM temperature controllers, and the device models that stand in for them."""

from __future__ import annotations

from .entries import ENTRIES, Entry, Kind, Scale
from .modbus.driver import EzZoneModbus, EzZoneModbusHighWordFirst
from .models import ControllerModel, ModbusModel, StandardBusModel
from .standard_bus.driver import EzZoneStandardBus
from .zone import DEVICE_FAILURE, READ_BACK, EzZone

__all__ = [
    "DEVICE_FAILURE",
    "ENTRIES",
    "READ_BACK",
    "ControllerModel",
    "Entry",
    "EzZone",
    "EzZoneModbus",
    "EzZoneModbusHighWordFirst",
    "EzZoneStandardBus",
    "Kind",
    "ModbusModel",
    "Scale",
    "StandardBusModel",
]
