"""A signal generator that sweeps its frequency while it takes other commands; pure."""

from __future__ import annotations

import math

from .entries import Action, Number, Query, RequestError, Switch
from .interpreter import ScpiModel

# Bit of the operation condition register.
SWEEPING = 8


class SignalGeneratorModel(ScpiModel):
    """One output from 1 kHz to 1 GHz, swept once from start to stop by `INIT`.

    A sweep takes `SWE:TIME` seconds of the device's own time, whoever asks meanwhile. It
    begins no other, and `ABOR` ends it where it is.

    Attributes:
        sweeps: How many sweeps were begun.
        aborted_at_s: When a sweep was aborted last, or None.
    """

    def __init__(self, *, serial: str = "SIM-SG-1", idn: str | None = None) -> None:
        """Switch the power on, output off, no sweep."""
        self._start = Number("[SOURce:]FREQuency:STARt", low=1e3, high=1e9, default=1e6, unit="HZ")
        self._stop = Number("[SOURce:]FREQuency:STOP", low=1e3, high=1e9, default=2e6, unit="HZ")
        self._time = Number("[SOURce:]SWEep:TIME", low=1e-3, high=1e4, default=1.0, unit="S")
        self._output = Switch("OUTPut[:STATe]")
        self._began_s = -math.inf
        self._ends_s = -math.inf
        self._frequency_hz = self._start.value
        self._sweeping = False
        self.sweeps = 0
        self.aborted_at_s: float | None = None
        super().__init__(
            (
                self._start,
                self._stop,
                self._time,
                self._output,
                Action("INITiate[:IMMediate]", self._begin),
                Action("ABORt", self._abort),
                Query("[SOURce:]SWEep:PROGress", lambda: self.fraction),
                Query("[SOURce:]FREQuency[:CW]", lambda: self.frequency_hz),
            ),
            idn=f"benchtree,SG1000,{serial},1.0" if idn is None else idn,
        )

    @property
    def sweeping(self) -> bool:
        """Whether a sweep went on when it was last asked or told something."""
        return self._sweeping

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self._output.on

    @property
    def fraction(self) -> float:
        """How much of the latest sweep is done, from 0 to 1."""
        if not self._sweeping:
            return 0.0 if self.sweeps == 0 else 1.0
        return min(1.0, (self.device_s - self._began_s) / (self._ends_s - self._began_s))

    @property
    def frequency_hz(self) -> float:
        """The frequency now, in hertz."""
        if not self._sweeping:
            return self._frequency_hz
        return self._start.value + self.fraction * (self._stop.value - self._start.value)

    def advance(self, now_s: float) -> None:
        """End the sweep when its time is over."""
        if self._sweeping and now_s >= self._ends_s:
            self._sweeping = False
            self._frequency_hz = self._stop.value

    def pending(self) -> bool:
        """Return whether a sweep goes on."""
        return self._sweeping

    def operation_condition(self) -> int:
        """Report a sweep."""
        return SWEEPING if self._sweeping else 0

    def reset(self, now_s: float) -> None:
        """Cycle the power: no sweep, output off."""
        self._sweeping = False
        super().reset(now_s)

    def _begin(self) -> None:
        if self._sweeping:
            raise RequestError(-213)
        self.sweeps += 1
        self._sweeping = True
        self._began_s = self.device_s
        self._ends_s = self.device_s + self._time.value

    def _abort(self) -> None:
        if self._sweeping:
            self._frequency_hz = self.frequency_hz
            self._sweeping = False
            self.aborted_at_s = self.device_s
