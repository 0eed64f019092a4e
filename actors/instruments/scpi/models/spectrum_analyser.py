"""A swept spectrum analyser: tones above a noise floor, as wide as its filter; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
from attrs import frozen

from .activity import Activity
from .data import RealFormat
from .entries import About, Action, Choice, Number, Query, RequestError, Switch
from .interpreter import ScpiModel
from .signals import Array

# Bits of the operation and questionable condition registers.
SWEEPING: Final = 8
OVERLOADED: Final = 8
_FLOOR_DBM_PER_HZ: Final = -174.0
_NOISE_FIGURE_DB: Final = 20.0
_MAX_HZ: Final = 50e9
# How far above the reference level the converter can go, in dB.
_HEADROOM_DB: Final = 10.0
_NOT_A_NUMBER: Final = 9.91e37


@frozen
class Tone:
    """A line in the spectrum.

    Attributes:
        frequency_hz: Where it is, in hertz.
        power_dbm: How strong it is, in dBm.
    """

    frequency_hz: float
    power_dbm: float


TONES: Final = (Tone(1e9, -20.0), Tone(1.2e9, -45.0))
"""What is at the input unless something is connected."""


class SpectrumAnalyserModel(ScpiModel):
    """An analyser up to 50 GHz. A tone is as wide as the resolution filter, a Gaussian.

    The floor rises with the filter's bandwidth and the attenuation. A sweep takes longer the
    narrower the filter is; `INIT:CONT` sweeps on and on, `INIT` once. What is more than 10 dB
    above the reference level overloads it.

    Attributes:
        tones: What is at the input.
    """

    def __init__(
        self,
        *,
        tones: Sequence[Tone] = TONES,
        seed: int = 0,
        serial: str = "SIM-SA-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, sweeping up to 3 GHz."""
        self.tones = list(tones)
        self._seed = seed
        hertz = partial(Number, low=0.0, high=_MAX_HZ, unit="HZ")
        self._center = hertz("[SENSe:]FREQuency:CENTer", default=1.5e9)
        self._span = hertz("[SENSe:]FREQuency:SPAN", default=3e9)
        self._rbw = Number(
            "[SENSe:]BANDwidth[:RESolution]", low=1.0, high=8e6, default=1e6, unit="HZ"
        )
        self._vbw = Number("[SENSe:]BANDwidth:VIDeo", low=1.0, high=8e6, default=1e6, unit="HZ")
        self._points = Number("[SENSe:]SWEep:POINts", low=101, high=40_001, default=1001)
        self._reference = Number(
            "DISPlay:WINDow:TRACe:Y[:SCALe]:RLEVel", low=-130.0, high=30.0, default=0.0, unit="DBM"
        )
        self._attenuation = Number(
            "[SENSe:]POWer[:RF]:ATTenuation", low=0.0, high=50.0, default=10.0, unit="DB"
        )
        kinds = {"NORM": "NORMal", "POS": "POSitive", "NEG": "NEGative", "AVER": "AVERage"}
        self._detector = Choice("[SENSe:]DETector[:FUNCtion]", kinds, quoted=False)
        self._continuous = Switch("INITiate:CONTinuous", default=True)
        self._format = RealFormat()
        self._sweep = Activity()
        self._trace: Array | None = None
        self._swept = 0
        self._marker: tuple[float, float] | None = None
        super().__init__(
            (
                *(self._center, self._span, self._rbw, self._vbw, self._points),
                *(self._reference, self._attenuation, self._detector, self._continuous),
                *(self._format, self._format.border),
                Query("[SENSe:]FREQuency:STARt", lambda: self.start_hz),
                Query("[SENSe:]FREQuency:STOP", lambda: self.stop_hz),
                Query("[SENSe:]SWEep:TIME", lambda: self.sweep_time_s),
                Action("INITiate[:IMMediate]", self._begin),
                Action("ABORt", self._abort),
                About("TRACe[:DATA]", self._data),
                Action("CALCulate:MARKer:MAXimum", self._peak),
                Query("CALCulate:MARKer:X", lambda: self._marked(0)),
                Query("CALCulate:MARKer:Y", lambda: self._marked(1)),
            ),
            idn=f"benchtree,SA3000,{serial},1.0" if idn is None else idn,
        )

    @property
    def start_hz(self) -> float:
        """The lowest frequency of a sweep, in hertz."""
        return self._center.value - self._span.value / 2

    @property
    def stop_hz(self) -> float:
        """The highest frequency of a sweep, in hertz."""
        return self._center.value + self._span.value / 2

    @property
    def sweep_time_s(self) -> float:
        """How long a sweep takes, in seconds: the filter has to settle at each frequency."""
        bandwidth_hz = min(self._rbw.value, self._vbw.value)
        settles_s = 2.5 * self._span.value / (self._rbw.value * bandwidth_hz)
        return min(4000.0, max(1e-3, settles_s))

    @property
    def floor_dbm(self) -> float:
        """The mean noise, in dBm."""
        noise = _FLOOR_DBM_PER_HZ + _NOISE_FIGURE_DB + self._attenuation.value
        return noise + 10.0 * math.log10(self._rbw.value)

    @property
    def sweeps(self) -> int:
        """How many single sweeps were begun."""
        return self._sweep.begun

    @property
    def sweeping(self) -> bool:
        """Whether a single sweep goes on."""
        return self._sweep.running

    def advance(self, now_s: float) -> None:
        """End a sweep when its time is over."""
        if self._sweep.ended(now_s):
            self._trace = self._measured()

    def pending(self) -> bool:
        """Return whether a single sweep goes on."""
        return self._sweep.running

    def operation_condition(self) -> int:
        """Report a single sweep."""
        return SWEEPING if self._sweep.running else 0

    def questionable_condition(self) -> int:
        """Report that the input is overloaded."""
        strongest_dbm = max((each.power_dbm for each in self.tones), default=-math.inf)
        return OVERLOADED if strongest_dbm > self._reference.value + _HEADROOM_DB else 0

    def reset(self, now_s: float) -> None:
        """Cycle the power: no sweep, no trace, no marker."""
        self._sweep.forget()
        self._trace = self._marker = None
        super().reset(now_s)

    def _begin(self) -> None:
        if self._continuous.on:
            raise RequestError(-213)
        self._sweep.begin(self.device_s, self.sweep_time_s)

    def _abort(self) -> None:
        self._sweep.abort(self.device_s)

    def _axis(self) -> Array:
        return np.linspace(self.start_hz, self.stop_hz, int(self._points.value))

    def _measured(self) -> Array:
        """Return what a sweep sees, in dBm."""
        self._swept += 1
        axis_hz = self._axis()
        random = np.random.default_rng((self._seed, self._swept))
        mean_mw = 10.0 ** (self.floor_dbm / 10.0)
        # The power of noise in one bin is exponentially distributed; a narrower video filter
        # takes the mean of several.
        looks = max(1.0, self._rbw.value / self._vbw.value)
        looks *= {"POS": 1.0, "NEG": 1.0}.get(self._detector.value, 4.0)
        noise = random.gamma(looks, mean_mw / looks, len(axis_hz))
        noise *= {"POS": 2.5, "NEG": 0.3}.get(self._detector.value, 1.0)
        power_mw = noise
        for tone in self.tones:
            # 3 dB down at half the bandwidth to either side. A bin holds the strongest of all
            # that the sweep passes on its way to the next.
            half_bin_hz = self._span.value / max(1, len(axis_hz) - 1) / 2
            off_hz = np.maximum(np.abs(axis_hz - tone.frequency_hz) - half_bin_hz, 0.0)
            shape = np.exp2(-((2.0 * off_hz / self._rbw.value) ** 2))
            power_mw = power_mw + 10.0 ** (tone.power_dbm / 10.0) * shape
        measured = 10.0 * np.log10(power_mw)
        return np.minimum(measured, self._reference.value + _HEADROOM_DB)

    def _shown(self) -> Array:
        if self._continuous.on:
            return self._measured()
        if self._trace is None or len(self._trace) != int(self._points.value):
            raise RequestError(-230)
        return self._trace

    def _data(self, name: str) -> str:
        if name != "TRACE1":
            raise RequestError(-224)
        return self._format.block(self._shown())

    def _peak(self) -> None:
        trace = self._shown()
        place = int(np.argmax(trace))
        self._marker = float(self._axis()[place]), float(trace[place])

    def _marked(self, which: int) -> float:
        return _NOT_A_NUMBER if self._marker is None else self._marker[which]
