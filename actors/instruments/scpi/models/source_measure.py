"""A source-measure unit that drives a resistor or a diode, with compliance; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
from attrs import field, frozen
from attrs.validators import gt

from .activity import Activity
from .data import RealFormat
from .entries import Action, Choice, Entry, Number, Query, RequestError, Switch
from .interpreter import ScpiModel

MAX_V: Final = 210.0
MAX_A: Final = 3.03
# Bits of the operation and questionable condition registers.
SWEEPING: Final = 8
TOO_HOT: Final = 16
# The bit of a point's status that says it was limited.
IN_COMPLIANCE: Final = 8
_MAINS_HZ: Final = 50.0
_SETTLES_S: Final = 1e-3


class Load(Protocol):
    """What is connected: its current rises with its voltage."""

    def current_a(self, voltage_v: float) -> float:
        """Return the current at a voltage; may be infinite."""
        ...

    def voltage_v(self, current_a: float) -> float:
        """Return the voltage at a current; infinite where it never carries that."""
        ...


@frozen
class Resistor:
    """A resistor.

    Attributes:
        ohm: Its resistance, in ohms.
    """

    ohm: float = field(default=1000.0, validator=gt(0.0))

    def current_a(self, voltage_v: float) -> float:
        """Return the current at a voltage."""
        return voltage_v / self.ohm

    def voltage_v(self, current_a: float) -> float:
        """Return the voltage at a current."""
        return current_a * self.ohm


@frozen
class Diode:
    """A diode after Shockley.

    Attributes:
        saturation_a: What it carries backwards, in amperes.
        thermal_v: Its ideality times the thermal voltage, in volts.
    """

    saturation_a: float = field(default=1e-12, validator=gt(0.0))
    thermal_v: float = field(default=0.02585, validator=gt(0.0))

    def current_a(self, voltage_v: float) -> float:
        """Return the current at a voltage."""
        exponent = voltage_v / self.thermal_v
        return math.inf if exponent > 700.0 else self.saturation_a * math.expm1(exponent)

    def voltage_v(self, current_a: float) -> float:
        """Return the voltage at a current."""
        if current_a <= -self.saturation_a:
            return -math.inf
        return self.thermal_v * math.log1p(current_a / self.saturation_a)


@frozen
class _Point:
    """Where source and load meet."""

    voltage_v: float
    current_a: float
    limited: bool


class SourceMeasureModel(ScpiModel):
    """One channel that sources volts or amperes, limits the other, and measures both.

    What would exceed the limit is held at it: the unit is in compliance then. A sweep is
    `SOUR:VOLT:MODE SWE`, `TRIG:COUN` points and `INIT`; each takes its integration time.

    Attributes:
        load: What is connected.
        hot: Whether it is too hot inside.
    """

    def __init__(
        self, *, load: Load | None = None, serial: str = "SIM-SM-1", idn: str | None = None
    ) -> None:
        """Switch the power on, output off, a resistor of 1 kilohm connected."""
        self.load: Load = load or Resistor()
        self.hot = False
        volts = partial(Number, low=-MAX_V, high=MAX_V, unit="V")
        amperes = partial(Number, low=-MAX_A, high=MAX_A, unit="A")
        modes = {"VOLT": "VOLTage", "CURR": "CURRent"}
        level = "[:LEVel][:IMMediate][:AMPLitude]"
        self._function = Choice("[SOURce:]FUNCtion:MODE", modes, quoted=False)
        self._volts = volts(f"[SOURce:]VOLTage{level}", default=0.0)
        self._amperes = amperes(f"[SOURce:]CURRent{level}", default=0.0)
        self._limit_v = Number(
            "[SENSe:]VOLTage:PROTection[:LEVel]", low=1e-3, high=MAX_V, default=2.0, unit="V"
        )
        self._limit_a = Number(
            "[SENSe:]CURRent:PROTection[:LEVel]", low=1e-9, high=MAX_A, default=1e-4, unit="A"
        )
        self._cycles = Number("[SENSe:]CURRent:NPLCycles", low=0.01, high=100.0, default=1.0)
        self._wires = Switch("[SENSe:]REMote")
        self._output = Switch("OUTPut[:STATe]", accept=self._accept_output)
        kinds = {"FIX": "FIXed", "SWE": "SWEep"}
        self._mode = Choice("[SOURce:]VOLTage:MODE", kinds, quoted=False)
        self._start = volts("[SOURce:]VOLTage:STARt", default=0.0)
        self._stop = volts("[SOURce:]VOLTage:STOP", default=1.0)
        self._points = Number("[SOURce:]VOLTage:POINts", low=1, high=2500, default=1)
        self._count = Number("TRIGger:COUNt", low=1, high=2500, default=1)
        self._format = RealFormat()
        self._sweep = Activity()
        self._fetched: list[tuple[float, float, float, float]] = []
        entries: tuple[Entry, ...] = (
            *(self._function, self._volts, self._amperes, self._limit_v, self._limit_a),
            *(self._cycles, self._wires, self._output, self._mode, self._start, self._stop),
            *(self._points, self._count, self._format, self._format.border),
            Query("[SENSe:]VOLTage:PROTection:TRIPped", lambda: self._limits("CURR")),
            Query("[SENSe:]CURRent:PROTection:TRIPped", lambda: self._limits("VOLT")),
            Query("MEASure:VOLTage[:DC]", lambda: self._measure().voltage_v),
            Query("MEASure:CURRent[:DC]", lambda: self._measure().current_a),
            Action("INITiate[:IMMediate]", self._begin),
            Action("ABORt", self._abort),
            Elements(),
            Query("FETCh:ARRay", self._fetch),
        )
        idn = f"benchtree,SM2900,{serial},1.0" if idn is None else idn
        super().__init__(entries, idn=idn)

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self._output.on

    @property
    def sweeping(self) -> bool:
        """Whether a sweep goes on."""
        return self._sweep.running

    @property
    def point(self) -> tuple[float, float]:
        """The voltage across the load and the current through it, in V and A."""
        found = self._meet(self._sourced())
        return found.voltage_v, found.current_a

    @property
    def limited(self) -> bool:
        """Whether it is in compliance."""
        return self._meet(self._sourced()).limited

    def advance(self, now_s: float) -> None:
        """End a sweep when its last point is measured."""
        if self._sweep.ended(now_s):
            self._fetched = self._curve(int(self._count.value))

    def settle(self) -> None:
        """Switch off what is too hot."""
        if self.hot:
            self._output.restore()
        if not self._output.on:
            self._sweep.abort(self.device_s)

    def pending(self) -> bool:
        """Return whether a sweep goes on."""
        return self._sweep.running

    def operation_condition(self) -> int:
        """Report a sweep."""
        return SWEEPING if self._sweep.running else 0

    def questionable_condition(self) -> int:
        """Report a limited current or voltage, and heat."""
        return (
            (2 if self._limits("VOLT") else 0)
            | (1 if self._limits("CURR") else 0)
            | (TOO_HOT if self.hot else 0)
        )

    def reset(self, now_s: float) -> None:
        """Cycle the power: output off, settings and measurements lost."""
        self._sweep.forget()
        self._fetched = []
        super().reset(now_s)

    def _accept_output(self, on: bool) -> None:
        if on and self.hot:
            raise RequestError(-221)

    def _limits(self, function: str) -> bool:
        return self._function.value == function and self.limited

    def _sourced(self) -> float:
        """Return the level that is sourced now."""
        if self._function.value == "CURR":
            return self._amperes.value
        if not self._sweep.running:
            return self._volts.value
        count = int(self._count.value)
        return self._level(min(count - 1, int(self._sweep.fraction(self.device_s) * count)))

    def _level(self, index: int) -> float:
        if self._mode.value == "FIX":
            return self._volts.value
        steps = max(1, int(self._points.value) - 1)
        # A sweep that is triggered more often than it has points begins anew.
        place = index % max(1, int(self._points.value))
        return self._start.value + (self._stop.value - self._start.value) * place / steps

    def _meet(self, level: float) -> _Point:
        """Return what a level gives: the level, or the limit where the load would exceed it."""
        if not self._output.on:
            return _Point(0.0, 0.0, limited=False)
        if self._function.value == "VOLT":
            limit_a = self._limit_a.value
            current_a = self.load.current_a(level)
            if abs(current_a) <= limit_a:
                return _Point(level, current_a, limited=False)
            current_a = math.copysign(limit_a, current_a)
            return _Point(self.load.voltage_v(current_a), current_a, limited=True)
        limit_v = self._limit_v.value
        voltage_v = self.load.voltage_v(level)
        if abs(voltage_v) <= limit_v:
            return _Point(voltage_v, level, limited=False)
        voltage_v = math.copysign(limit_v, voltage_v)
        return _Point(voltage_v, self.load.current_a(voltage_v), limited=True)

    @property
    def _takes_s(self) -> float:
        return _SETTLES_S + self._cycles.value / _MAINS_HZ

    def _measure(self) -> _Point:
        if self._sweep.running:
            raise RequestError(-213)
        self.spend(self._takes_s)
        return self._meet(self._sourced())

    def _begin(self) -> None:
        if not self._output.on:
            raise RequestError(-221)
        self._fetched = []
        self._sweep.begin(self.device_s, self._count.value * self._takes_s)

    def _abort(self) -> None:
        done = int(self._sweep.fraction(self.device_s) * self._count.value)
        if self._sweep.abort(self.device_s):
            self._fetched = self._curve(done)

    def _curve(self, points: int) -> list[tuple[float, float, float, float]]:
        found = [self._meet(self._level(index)) for index in range(points)]
        return [
            (
                each.voltage_v,
                each.current_a,
                (index + 0.5) * self._takes_s,
                float(IN_COMPLIANCE if each.limited else 0),
            )
            for index, each in enumerate(found)
        ]

    def _fetch(self) -> str:
        if not self._fetched:
            raise RequestError(-230)
        return self._format.block(np.array(self._fetched, dtype=np.float64).reshape(-1))


class Elements(Entry):
    """What a fetched point consists of; here always the same four."""

    def __init__(self) -> None:
        super().__init__("FORMat:ELEMents:SENSe")

    def write(self, arguments: Sequence[str]) -> None:
        """Take the four."""
        if [each.upper() for each in arguments] != ["VOLT", "CURR", "TIME", "STAT"]:
            raise RequestError(-224)
