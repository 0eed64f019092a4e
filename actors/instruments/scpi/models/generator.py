"""A signal generator that sweeps its frequency while it takes other commands; pure."""

from __future__ import annotations

from .activity import Activity
from .entries import Action, Number, Query, Switch
from .interpreter import ScpiModel

# Bit of the operation condition register.
SWEEPING = 8


class SignalGeneratorModel(ScpiModel):
    """One output from 1 kHz to 1 GHz, swept once from start to stop by `INIT`.

    A sweep takes `SWE:TIME` seconds of the device's own time, whoever asks meanwhile. It
    begins no other, and `ABOR` ends it where it is.
    """

    def __init__(self, *, serial: str = "SIM-SG-1", idn: str | None = None) -> None:
        """Switch the power on, output off, no sweep."""
        self._start = Number("[SOURce:]FREQuency:STARt", low=1e3, high=1e9, default=1e6, unit="HZ")
        self._stop = Number("[SOURce:]FREQuency:STOP", low=1e3, high=1e9, default=2e6, unit="HZ")
        self._time = Number("[SOURce:]SWEep:TIME", low=1e-3, high=1e4, default=1.0, unit="S")
        self._output = Switch("OUTPut[:STATe]")
        self._frequency_hz = self._start.value
        self._sweep = Activity()
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
    def sweeps(self) -> int:
        """How many sweeps were begun."""
        return self._sweep.begun

    @property
    def aborted_at_s(self) -> float | None:
        """When a sweep was aborted last, or None."""
        return self._sweep.aborted_at_s

    @property
    def sweeping(self) -> bool:
        """Whether a sweep went on when it was last asked or told something."""
        return self._sweep.running

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self._output.on

    @property
    def fraction(self) -> float:
        """How much of the latest sweep is done, from 0 to 1."""
        return self._sweep.fraction(self.device_s)

    @property
    def frequency_hz(self) -> float:
        """The frequency now, in hertz."""
        if not self.sweeping:
            return self._frequency_hz
        return self._start.value + self.fraction * (self._stop.value - self._start.value)

    def advance(self, now_s: float) -> None:
        """End the sweep when its time is over."""
        if self._sweep.ended(now_s):
            self._frequency_hz = self._stop.value

    def pending(self) -> bool:
        """Return whether a sweep goes on."""
        return self.sweeping

    def operation_condition(self) -> int:
        """Report a sweep."""
        return SWEEPING if self.sweeping else 0

    def reset(self, now_s: float) -> None:
        """Cycle the power: no sweep, output off."""
        self._sweep.forget()
        super().reset(now_s)

    def _begin(self) -> None:
        self._sweep.begin(self.device_s, self._time.value)

    def _abort(self) -> None:
        frequency_hz = self.frequency_hz
        if self._sweep.abort(self.device_s):
            self._frequency_hz = frequency_hz
