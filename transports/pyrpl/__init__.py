"""A Red Pitaya behind PyRPL: one worker process for a board, and many calls at a time."""

from __future__ import annotations

from .client import COMMAND, REDPITAYA, Emulator, PyrplTransport, check_installed
from .wire import BrokenFrameError, pack, unpack

__all__ = [
    "COMMAND",
    "REDPITAYA",
    "BrokenFrameError",
    "Emulator",
    "PyrplTransport",
    "check_installed",
    "pack",
    "unpack",
]
