"""A supply whose voltage can do harm, and a device that writes down what reached it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from actors import Setting
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from transports import SimReply

STEP_V = 0.0001
"""Each hazardous command of a run has a voltage of its own: its number times this."""

_TOLD = re.compile(r"VOLT (\d+\.\d+)")


class Valve(PowerSupply):
    """A supply whose voltage can do harm."""

    voltage = Setting("VOLT", unit="V", low=0.0, high=30.0, hazardous=True)


class WitnessModel(PowerSupplyModel):
    """Appends every byte to a file before it does what it is told."""

    def __init__(self, log: str) -> None:
        """Append to `log`."""
        super().__init__()
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Write it down, then do it."""
        os.write(self._log, data)
        return super().receive(data, now_s)


def voltages(text: str) -> list[float]:
    """Return the voltages that some requests tell a device to put out."""
    return [float(each) for each in _TOLD.findall(text)]


def executed(log: Path) -> set[float]:
    """Return the voltages that a device was told."""
    return set(voltages(log.read_text()))
