"""A multimeter that reads signals given as functions of time; pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from .entries import (
    Action,
    Choice,
    Entry,
    Number,
    Query,
    Switch,
    expect_at_most,
    format_value,
)
from .interpreter import ScpiModel

LINE_FREQUENCY_HZ = 50.0
OVERLOAD = 9.9e37
NOT_A_NUMBER = 9.91e37

# Every range reads this much beyond its name.
_OVERRANGE = 1.2


def slow_sine_v(time_s: float) -> float:
    """Return 1.0 V with a swing of 0.1 V once a minute."""
    return 1.0 + 0.1 * math.sin(math.tau * time_s / 60.0)


def _no_current_a(_time_s: float) -> float:
    return 0.0


def _one_kilohm(_time_s: float) -> float:
    return 1000.0


class Function:
    """What a multimeter can measure: its signal and its settings.

    Attributes:
        entries: The headers of the settings.
    """

    def __init__(
        self, header: str, signal: Callable[[float], float], *, unit: str, max_range: float
    ) -> None:
        self.header = header
        self.signal = signal
        self.nplc = Number(f"[SENSe:]{header}:NPLCycles", low=0.001, high=100.0, default=0.02)
        self.range = Number(
            f"[SENSe:]{header}:RANGe[:UPPer]",
            low=0.0,
            high=max_range,
            default=max_range,
            unit=unit,
            accept=self._accept_range,
        )
        self.autorange = Switch(f"[SENSe:]{header}:RANGe:AUTO", default=True)
        self.entries: tuple[Entry, ...] = (self.nplc, self.range, self.autorange)

    def __repr__(self) -> str:
        return f"<Function {self.header} nplc={self.nplc.value:g}>"

    @property
    def limit(self) -> float:
        """The largest magnitude that is not an overload."""
        if self.autorange.on:
            self.range.restore()
        return _OVERRANGE * self.range.value

    @property
    def aperture_s(self) -> float:
        """How long one reading takes, in seconds."""
        return self.nplc.value / LINE_FREQUENCY_HZ

    def configure(self, arguments: Sequence[str]) -> None:
        """Take the optional range and resolution of `CONF` and `MEAS`.

        The range is automatic unless it is given. The resolution is checked and has no
        effect; the integration time is left as it is.

        Raises:
            RequestError: The range is out of range or an argument is no number.
        """
        expect_at_most(arguments, 2)
        for resolution in arguments[1:]:
            self.range.parse(resolution)
        if arguments and arguments[0].upper() not in {"AUTO", "DEF", "DEFAULT"}:
            self.range.write(arguments[:1])
        else:
            self.autorange.on = True

    def _accept_range(self, _value: float) -> None:
        self.autorange.on = False


class MultimeterModel(ScpiModel):
    """A meter for voltage, current and resistance.

    A reading is the signal in the middle of its integration time, with noise that
    depends on the seed and the number of readings taken. Reading takes NPLC / 50 s.
    """

    def __init__(
        self,
        *,
        signal_v: Callable[[float], float] = slow_sine_v,
        signal_a: Callable[[float], float] = _no_current_a,
        signal_ohm: Callable[[float], float] = _one_kilohm,
        noise_ppm: float = 5.0,
        seed: int = 0,
        serial: str = "SIM-MM-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, measuring voltage.

        `noise_ppm` is the standard deviation as parts in a million of the reading.
        """
        self._noise = random.Random(seed)  # noqa: S311 - noise that a seed repeats, no secret
        self._noise_ppm = noise_ppm
        self._last = NOT_A_NUMBER
        self._readings = 0
        self._functions = {
            "VOLT": Function("VOLTage[:DC]", signal_v, unit="V", max_range=1000.0),
            "CURR": Function("CURRent[:DC]", signal_a, unit="A", max_range=10.0),
            "RES": Function("RESistance", signal_ohm, unit="OHM", max_range=100e6),
        }
        self._function = Choice(
            "[SENSe:]FUNCtion[:ON]",
            {name: function.header for name, function in self._functions.items()},
        )
        entries: list[Entry] = [
            self._function,
            Query("READ", self.read),
            Action("INITiate[:IMMediate]", self._initiate),
            Query("FETCh", lambda: self._last),
            Query("CONFigure", self._describe),
        ]
        for name, function in self._functions.items():
            entries += [*function.entries, Configure(self, name), Measure(self, name)]
        super().__init__(entries, idn=f"benchtree,MM6,{serial},1.0" if idn is None else idn)

    @property
    def function(self) -> str:
        """What is measured: VOLT, CURR or RES."""
        return self._function.value

    @property
    def nplc(self) -> float:
        """The integration time of what is measured, in cycles of 50 Hz."""
        return self._functions[self.function].nplc.value

    @property
    def readings(self) -> int:
        """How many readings were taken since the model was made."""
        return self._readings

    def read(self) -> float:
        """Take a reading in volts, amperes or ohms; 9.9E37 with its sign is an overload."""
        function = self._functions[self.function]
        true = function.signal(self.device_s + function.aperture_s / 2.0)
        value = true * (1.0 + self._noise_ppm * 1e-6 * self._noise.gauss(0.0, 1.0))
        self._last = value if abs(value) <= function.limit else math.copysign(OVERLOAD, value)
        self._readings += 1
        self.spend(function.aperture_s)
        return self._last

    def configure(self, name: str, arguments: Sequence[str]) -> None:
        """Choose what to measure, with an optional range and resolution.

        Raises:
            RequestError: An argument is refused; nothing has changed.
        """
        self._functions[name].configure(arguments)
        self._function.value = name
        self._last = NOT_A_NUMBER

    def header_of(self, name: str) -> str:
        """Return the header of a function, in the notation of the table."""
        return self._functions[name].header

    def reset(self, now_s: float) -> None:
        """Cycle the power: settings and the last reading are lost."""
        self._last = NOT_A_NUMBER
        super().reset(now_s)

    def _initiate(self) -> None:
        self.read()

    def _describe(self) -> str:
        function = self._functions[self.function]
        return f'"{self.function} {format_value(function.range.value)}"'


class Configure(Entry):
    """`CONF:VOLT:DC` and its like."""

    def __init__(self, meter: MultimeterModel, name: str) -> None:
        super().__init__(f"CONFigure[:SCALar]:{meter.header_of(name)}")
        self._meter = meter
        self._name = name

    def write(self, arguments: Sequence[str]) -> None:
        """Choose the function."""
        self._meter.configure(self._name, arguments)


class Measure(Entry):
    """`MEAS:VOLT:DC?` and its like."""

    def __init__(self, meter: MultimeterModel, name: str) -> None:
        super().__init__(f"MEASure[:SCALar]:{meter.header_of(name)}")
        self._meter = meter
        self._name = name

    def answer(self, arguments: Sequence[str]) -> str:
        """Choose the function and return a reading."""
        self._meter.configure(self._name, arguments)
        return format_value(self._meter.read())
