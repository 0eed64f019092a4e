"""A spectrometer with a detector of pixels: light, dark, noise, saturation; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from attrs import field, frozen
from attrs.validators import gt

from .activity import Activity
from .data import RealFormat
from .entries import About, Action, Number, Query, RequestError, Switch
from .interpreter import ScpiModel
from .signals import Array

PIXELS: Final = 2048
FULL_SCALE: Final = 65535.0
# Wavelength of a pixel, in nanometres, by rising powers of its number.
WAVELENGTHS: Final = (350.0, 0.25, -5e-6, 0.0)
# Bit of the operation condition register.
MEASURING: Final = 16

_DARK_PER_S: Final = 200.0
_OFFSET: Final = 1000.0
_READ_NOISE: Final = 8.0
_SATURATED: Final = 512


@frozen
class Line:
    """Light at one wavelength, and what the slit makes of it.

    Attributes:
        wavelength_nm: Where it is, in nanometres.
        counts_per_s: What its peak gives, in counts for each second.
        width_nm: Its full width at half of that, in nanometres.
    """

    wavelength_nm: float
    counts_per_s: float
    width_nm: float = field(default=1.5, validator=gt(0.0))


LINES: Final = (Line(435.8, 40e3), Line(546.1, 100e3), Line(577.0, 20e3), Line(579.1, 20e3))
"""Mercury, unless something else shines."""


@frozen(eq=False)
class _Measured:
    """A spectrum as it left the detector."""

    counts: Array
    saturated: int
    exposure_s: float


class SpectrometerModel(ScpiModel):
    """A detector of 2048 pixels that counts light while it is exposed.

    `INIT` takes the mean of some exposures; `CORR:COLL` does so with the shutter closed and
    keeps it as the dark spectrum, which `CORR 1` subtracts from what has the same exposure.
    A pixel is full at 65535 counts.

    Attributes:
        lines: What shines.
        temperature_c: How warm the detector is, in degrees Celsius.
    """

    def __init__(
        self,
        *,
        lines: Sequence[Line] = LINES,
        seed: int = 0,
        serial: str = "SIM-SP-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, shutter open, nothing measured."""
        self.lines = list(lines)
        self.temperature_c = -10.0
        self._seed = seed
        self._exposure = Number("[SENSe:]APERture", low=1e-3, high=10.0, default=0.1, unit="S")
        self._averages = Number("[SENSe:]AVERage:COUNt", low=1, high=1000, default=1)
        self._shutter = Switch("INPut[:STATe]", default=True)
        self._corrects = Switch("[SENSe:]CORRection[:STATe]")
        self._format = RealFormat()
        self._activity = Activity()
        self._takes_dark = False
        self._dark: _Measured | None = None
        self._measured: _Measured | None = None
        self._last_saturated = 0
        super().__init__(
            (
                *(self._exposure, self._averages, self._shutter, self._corrects),
                *(self._format, self._format.border),
                Action("INITiate[:IMMediate]", self._begin),
                Action("[SENSe:]CORRection:COLLect[:ACQuire]", self._begin_dark),
                Action("ABORt", self._abort),
                About("TRACe[:DATA]", self._data),
                Query("TRACe:SATurated", lambda: self._last_saturated),
                Query("TRACe:APERture", self._exposed),
                Query("TRACe:PROGress", lambda: self._activity.fraction(self.device_s)),
                Query("CALibration:WAVelength", _wavelengths),
                Query("MEASure:TEMPerature", lambda: self.temperature_c),
            ),
            idn=f"benchtree,SP2048,{serial},1.0" if idn is None else idn,
        )

    @property
    def measurements(self) -> int:
        """How many measurements were begun, of light and dark."""
        return self._activity.begun

    @property
    def measuring(self) -> bool:
        """Whether one goes on."""
        return self._activity.running

    def advance(self, now_s: float) -> None:
        """End a measurement after its last exposure."""
        if not self._activity.ended(now_s):
            return
        if self._takes_dark:
            self._dark = self._expose(lit=False)
        else:
            self._measured = self._expose(lit=self._shutter.on)
            self._last_saturated = self._measured.saturated

    def pending(self) -> bool:
        """Return whether a measurement goes on."""
        return self._activity.running

    def operation_condition(self) -> int:
        """Report a measurement."""
        return MEASURING if self._activity.running else 0

    def questionable_condition(self) -> int:
        """Report that pixels were full in the last measurement."""
        return _SATURATED if self._last_saturated else 0

    def reset(self, now_s: float) -> None:
        """Cycle the power: what was measured is lost."""
        self._activity.forget()
        self._dark = self._measured = None
        self._last_saturated = 0
        super().reset(now_s)

    def _begin(self) -> None:
        self._start(dark=False)

    def _begin_dark(self) -> None:
        self._start(dark=True)

    def _start(self, *, dark: bool) -> None:
        lacks = self._dark is None or self._dark.exposure_s != self._exposure.value
        if self._corrects.on and lacks and not dark:
            raise RequestError(-221)
        self._activity.begin(self.device_s, self._exposure.value * self._averages.value)
        self._takes_dark = dark

    def _abort(self) -> None:
        self._activity.abort(self.device_s)

    def _expose(self, *, lit: bool) -> _Measured:
        exposure_s, averages = self._exposure.value, int(self._averages.value)
        pixels = np.arange(PIXELS, dtype=np.float64)
        axis_nm = np.polynomial.polynomial.polyval(pixels, WAVELENGTHS)
        rate = np.full(PIXELS, _DARK_PER_S)
        for line in self.lines if lit else ():
            off = (axis_nm - line.wavelength_nm) / line.width_nm
            rate = rate + line.counts_per_s * np.exp2(-((2.0 * off) ** 2))
        counts = _OFFSET + rate * exposure_s
        # Light comes in photons, and reading adds noise; the mean of several has less of both.
        deviation = np.sqrt((rate * exposure_s + _READ_NOISE**2) / averages)
        random = np.random.default_rng((self._seed, self._activity.begun))
        noisy = counts + random.normal(0.0, 1.0, PIXELS) * deviation
        full = counts >= FULL_SCALE
        seen = np.where(full, FULL_SCALE, np.minimum(noisy, FULL_SCALE))
        return _Measured(seen, int(np.count_nonzero(full)), exposure_s)

    def _data(self, name: str) -> str:
        if name not in ("SPEC", "SPECTRUM"):
            raise RequestError(-224)
        found, dark = self._measured, self._dark
        if found is None:
            raise RequestError(-230)
        if not self._corrects.on or dark is None:
            return self._format.block(found.counts)
        return self._format.block(found.counts - dark.counts)

    def _exposed(self) -> float:
        if self._measured is None:
            raise RequestError(-230)
        return self._measured.exposure_s


def _wavelengths() -> str:
    return ",".join(f"{each:+.8E}" for each in WAVELENGTHS)
