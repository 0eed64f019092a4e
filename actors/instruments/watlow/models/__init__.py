"""Simulated EZ-ZONE PM controllers, and the two kinds of line they share."""

from .controller import ControllerModel, Refusal, RefusalError
from .line import ModbusModel, StandardBusModel
from .loop import LoopModel

__all__ = [
    "ControllerModel",
    "LoopModel",
    "ModbusModel",
    "Refusal",
    "RefusalError",
    "StandardBusModel",
]
