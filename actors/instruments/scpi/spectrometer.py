"""Spectrometers: exposure, dark, and counts over wavelength."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
from attrs import field, frozen

from actors.faults import FaultClass
from actors.parameter import Operation, Reading, Setting
from actors.ticket import Ticket

from .blocks import REAL, Array, Block, brief, highest
from .frames import decode_float, decode_int
from .models import SpectrometerModel
from .tracing import TracingInstrument

SATURATED: Final = FaultClass("SATURATED")
"""Pixels were full: the spectrum is cut off there."""


@frozen(eq=False)
class OpticalSpectrum:
    """Counts over wavelength.

    Attributes:
        wavelength_nm: The wavelength of each pixel, in nanometres.
        counts: What each counted, the mean of all exposures.
        exposure_s: How long each exposure was, in seconds.
        saturated_pixels: How many were full; what they counted is no measure of the light.
    """

    wavelength_nm: Array = field(repr=brief)
    counts: Array = field(repr=brief)
    exposure_s: float
    saturated_pixels: int

    @property
    def peak(self) -> tuple[float, float]:
        """Where the strongest pixel is, in nanometres, and its counts."""
        place = highest(self.counts)
        return float(self.wavelength_nm[place]), float(self.counts[place])


class Spectrometer(TracingInstrument):
    """A spectrometer with a detector array.

    No standard gives spectrometers their words; these are the nearest of SCPI's own. For
    another maker's, derive and change the headers.
    """

    integration_time = Setting("APER", unit="s", low=1e-3, high=10.0)
    averages = Setting("AVER:COUN", type=int, low=1, high=1000)
    shutter = Setting("INP", type=bool)
    subtract_dark = Setting("CORR", type=bool)
    detector_temperature = Reading("MEAS:TEMP", unit="degC")
    measure = Operation("INIT", abort="ABOR", progress="TRAC:PROG")
    take_dark = Operation("CORR:COLL", abort="ABOR", progress="TRAC:PROG")

    conditions: ClassVar[Mapping[int, FaultClass]] = {9: SATURATED}
    model = SpectrometerModel
    known_models = re.compile(r"SP2048")

    async def spectrum(self) -> OpticalSpectrum:
        """Measure and return what there is. Cancelling ends the exposure.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed; with cause DEVICE, the dark to be subtracted was not taken
                with this integration time.
        """
        return await self.finish(await self.submit_spectrum())

    async def submit_spectrum(self) -> Ticket[OpticalSpectrum]:
        """Begin a measurement and return its ticket, whose value is the spectrum."""
        return await self.begin(type(self).measure, _ASKS, _spectrum, before=(REAL,))

    async def fetched(self) -> OpticalSpectrum:
        """Return what was measured last.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed; with cause DEVICE, nothing was measured yet.
        """
        return await self.fetch("fetched", _ASKS, _spectrum, before=(REAL,))


_ASKS: Final = ("TRAC? SPEC", "CAL:WAV?", "TRAC:APER?", "TRAC:SAT?")


def _spectrum(block: Block) -> OpticalSpectrum:
    counts = block.reals()
    powers = [decode_float(each) for each in block.answers[0].split(b",")]
    known = [each for each in powers if each is not None]
    exposure_s = decode_float(block.answers[1])
    if len(known) != len(powers) or exposure_s is None:
        raise ValueError(f"expected wavelengths and an exposure, got {block.answers!r}")
    pixels = np.arange(len(counts), dtype=np.float64)
    axis_nm = np.polynomial.polynomial.polyval(pixels, known).astype(np.float64)
    return OpticalSpectrum(axis_nm, counts, exposure_s, decode_int(block.answers[2]))
