"""Lines with several units, for a process of simulated instruments."""

from __future__ import annotations

from actors.instruments.alicat import AnyAlicat
from actors.instruments.watlow import EzZoneStandardBus
from transports import DeviceModel


def flow_line() -> DeviceModel:
    """Return two flow controllers on one line."""
    return AnyAlicat.simulate(["A", "C"])


def furnace_line() -> DeviceModel:
    """Return one furnace controller."""
    return EzZoneStandardBus.simulate(["1"])
