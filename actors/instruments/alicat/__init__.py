"""Mass-flow and pressure instruments of Alicat, and the device models that stand in for them."""

from __future__ import annotations

from .driver import Alicat
from .frames import DataFrame, Statistic
from .instruments import (
    BY_KIND,
    AnyAlicat,
    FlowController,
    FlowMeter,
    PressureController,
    PressureMeter,
)
from .models import AlicatLineModel, AlicatUnit, make_line

__all__ = [
    "BY_KIND",
    "Alicat",
    "AlicatLineModel",
    "AlicatUnit",
    "AnyAlicat",
    "DataFrame",
    "FlowController",
    "FlowMeter",
    "PressureController",
    "PressureMeter",
    "Statistic",
    "make_line",
]
