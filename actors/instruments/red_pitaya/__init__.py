"""Red Pitaya boards behind PyRPL, and the device model that stands in for them."""

from __future__ import annotations

from .commands import Answer
from .controller import Pid, Settled
from .demodulator import Iq, NetworkAnalyzer, Point, Quadratures, TransferFunction
from .driver import RedPitaya
from .feed import Feed
from .generator import Asg
from .models import RedPitayaModel
from .module import Module
from .part import ModuleStatus, Part
from .periphery import Ams, Hk, Pwm, Sampler, Statistics, Trigger
from .scope import Scope, Summary, Trace

__all__ = [
    "Ams",
    "Answer",
    "Asg",
    "Feed",
    "Hk",
    "Iq",
    "Module",
    "ModuleStatus",
    "NetworkAnalyzer",
    "Part",
    "Pid",
    "Point",
    "Pwm",
    "Quadratures",
    "RedPitaya",
    "RedPitayaModel",
    "Sampler",
    "Scope",
    "Settled",
    "Statistics",
    "Summary",
    "Trace",
    "TransferFunction",
    "Trigger",
]
