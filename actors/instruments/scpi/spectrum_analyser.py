"""Spectrum analysers: what they span, how narrow they look, and the trace in dBm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
from attrs import field, frozen

from actors.faults import FaultClass
from actors.parameter import Action, Operation, Reading, Setting
from actors.ticket import Ticket

from .blocks import REAL, Array, Block, brief, highest
from .frames import decode_float
from .models import SpectrumAnalyserModel
from .tracing import TracingInstrument

INPUT_OVERLOAD: Final = FaultClass("INPUT_OVERLOAD")
"""More comes in than the instrument can measure at this reference level."""


@frozen(eq=False)
class Spectrum:
    """Power over frequency.

    Attributes:
        frequency_hz: The frequencies, in hertz.
        power_dbm: The power at each, in dBm.
        resolution_bandwidth_hz: How wide the filter was, in hertz.
    """

    frequency_hz: Array = field(repr=brief)
    power_dbm: Array = field(repr=brief)
    resolution_bandwidth_hz: float

    @property
    def peak(self) -> tuple[float, float]:
        """Where the strongest point is, in hertz and dBm."""
        place = highest(self.power_dbm)
        return float(self.frequency_hz[place]), float(self.power_dbm[place])


class SpectrumAnalyser(TracingInstrument):
    """A spectrum analyser, in the words that Keysight's and others share.

    A single sweep needs `continuous` off, and is followed until it is done.
    """

    center_frequency = Setting("FREQ:CENT", unit="Hz", low=0.0, high=50e9)
    span = Setting("FREQ:SPAN", unit="Hz", low=0.0, high=50e9)
    resolution_bandwidth = Setting("BAND", unit="Hz", low=1.0, high=8e6)
    video_bandwidth = Setting("BAND:VID", unit="Hz", low=1.0, high=8e6)
    points = Setting("SWE:POIN", type=int, low=101, high=40_001)
    reference_level = Setting("DISP:WIND:TRAC:Y:RLEV", unit="dBm", low=-130.0, high=30.0)
    attenuation = Setting("POW:ATT", unit="dB", low=0.0, high=50.0)
    detector = Setting("DET", type=str, choices=("NORM", "POS", "NEG", "AVER"))
    continuous = Setting("INIT:CONT", type=bool)
    sweep_time = Reading("SWE:TIME", unit="s")
    marker_frequency = Reading("CALC:MARK1:X", unit="Hz")
    marker_power = Reading("CALC:MARK1:Y", unit="dBm")
    peak_search = Action("CALC:MARK1:MAX", idempotent=True)
    sweep = Operation("INIT", abort="ABOR", requires=(continuous.equals(False),))

    conditions: ClassVar[Mapping[int, FaultClass]] = {3: INPUT_OVERLOAD}
    model = SpectrumAnalyserModel
    # Keysight and Agilent X series, ESA and PSA, and the simulated one.
    known_models = re.compile(r"N90[0-9]{2}[AB]|E44(0[1-9]|11|4[0-8])[AB]|SA3000")

    async def spectrum(self) -> Spectrum:
        """Sweep once and return what there is. Cancelling aborts the sweep.

        Raises:
            RefusedError: `continuous` was not set to False, or it was not accepted.
            CommandError: It failed.
        """
        return await self.finish(await self.submit_spectrum())

    async def submit_spectrum(self) -> Ticket[Spectrum]:
        """Begin a sweep and return its ticket, whose value is the spectrum; see `spectrum`."""
        return await self.begin(type(self).sweep, _ASKS, _spectrum, before=(REAL,))

    async def trace(self) -> Spectrum:
        """Return what is on the screen, without a sweep.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed; with cause DEVICE, there is nothing.
        """
        return await self.fetch("trace", _ASKS, _spectrum, before=(REAL,))


_ASKS: Final = ("TRAC? TRACE1", "FREQ:STAR?", "FREQ:STOP?", "BAND?")


def _spectrum(block: Block) -> Spectrum:
    power_dbm = block.reals()
    start_hz, stop_hz, width_hz = (decode_float(each) for each in block.answers[:3])
    if start_hz is None or stop_hz is None or width_hz is None or not len(power_dbm):
        raise ValueError(f"expected a trace and its frequencies, got {block.answers!r}")
    return Spectrum(np.linspace(start_hz, stop_hz, len(power_dbm)), power_dbm, width_hz)
