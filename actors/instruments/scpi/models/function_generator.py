"""A function generator with 50 ohm inside, bursts, and a load of its own or another; pure."""

from __future__ import annotations

import math
from typing import Final

from .activity import Activity
from .entries import Action, Choice, Number, RequestError, Switch
from .interpreter import ScpiModel
from .signals import Shape, Signal

SOURCE_OHM: Final = 50.0
HIGH_IMPEDANCE: Final = 9.9e37
# What the amplifier can give without a load, to either side, in volts.
_SWING_V: Final = 10.0
# Bit of the operation condition register.
BURSTING: Final = 8

_SHAPES: Final = {
    "SIN": "SINusoid",
    "SQU": "SQUare",
    "RAMP": "RAMP",
    "PULS": "PULSe",
    "NOIS": "NOISe",
    "DC": "DC",
}


class _Load(Number):
    """A resistance that may be infinite."""

    def parse(self, argument: str) -> float:
        """Return the resistance; infinity is the number that SCPI has for it."""
        if argument.upper() in ("INF", "INFINITY"):
            return HIGH_IMPEDANCE
        try:
            number = float(argument)
        except ValueError:
            return super().parse(argument)
        return HIGH_IMPEDANCE if number >= HIGH_IMPEDANCE else super().parse(argument)


class FunctionGeneratorModel(ScpiModel):
    """One output up to 120 MHz, with 10 V to either side behind 50 ohm.

    Amplitude and offset are what the load set gives; another load connected sees another
    voltage. Another load set changes both numbers, and nothing at the terminals. `*TRG` gives
    one burst where bursts and the bus as their trigger are set.

    Attributes:
        connected_ohm: What is connected, in ohms; infinite where nothing is.
    """

    def __init__(
        self,
        *,
        connected_ohm: float = math.inf,
        serial: str = "SIM-FG-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, output off.

        Raises:
            ValueError: What is connected is not above 0 ohm.
        """
        if not connected_ohm > 0.0:
            raise ValueError(f"expected a load above 0 ohm, got {connected_ohm!r}")
        self.connected_ohm = connected_ohm
        self._shape = Choice("[SOURce:]FUNCtion[:SHAPe]", _SHAPES, quoted=False)
        self._frequency = Number(
            "[SOURce:]FREQuency[:CW]", low=1e-6, high=120e6, default=1e3, unit="HZ"
        )
        self._amplitude = Number(
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            low=1e-3,
            high=20.0,
            default=0.1,
            unit="VPP",
            accept=lambda volts: self._check_swing(volts, self._offset.value, self._load.value),
        )
        self._offset = Number(
            "[SOURce:]VOLTage[:LEVel][:IMMediate]:OFFSet",
            low=-10.0,
            high=10.0,
            default=0.0,
            unit="V",
            accept=lambda volts: self._check_swing(self._amplitude.value, volts, self._load.value),
        )
        self._load = _Load(
            "OUTPut:LOAD",
            low=1.0,
            high=10e3,
            default=SOURCE_OHM,
            unit="OHM",
            accept=self._adjust,
        )
        self._phase = Number("[SOURce:]PHASe", low=-360.0, high=360.0, default=0.0, unit="DEG")
        self._duty = Number("[SOURce:]FUNCtion:SQUare:DCYCle", low=1.0, high=99.0, default=50.0)
        self._output = Switch("OUTPut[:STATe]")
        self._burst = Switch("[SOURce:]BURSt:STATe")
        self._cycles = Number("[SOURce:]BURSt:NCYCles", low=1, high=1_000_000, default=1)
        sources = {"IMM": "IMMediate", "EXT": "EXTernal", "BUS": "BUS"}
        self._trigger = Choice("TRIGger:SOURce", sources, quoted=False)
        self._bursting = Activity()
        super().__init__(
            (
                *(self._shape, self._frequency, self._amplitude, self._offset, self._load),
                *(self._phase, self._duty, self._output, self._burst, self._cycles),
                self._trigger,
                Action("*TRG", self._begin),
                Action("ABORt", self._abort),
            ),
            idn=f"benchtree,FG3000,{serial},1.0" if idn is None else idn,
        )

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""
        return self._output.on

    @property
    def bursts(self) -> int:
        """How many bursts were begun."""
        return self._bursting.begun

    @property
    def terminal(self) -> Signal:
        """What is at the terminals: nothing while the output is off or between bursts."""
        if not self._output.on:
            return Signal(shape=Shape.DC, amplitude_v=0.0)
        gain = self._gain(self.connected_ohm) / self._gain(self._load.value)
        shape = Shape(self._shape.value)
        silent = self._burst.on and not self._bursting.running
        return Signal(
            shape=Shape.DC if silent else shape,
            frequency_hz=self._frequency.value,
            amplitude_v=gain * self._amplitude.value / 2,
            offset_v=gain * self._offset.value,
            phase_deg=self._phase.value,
            duty=self._duty.value / 100.0 if shape is Shape.SQUARE else 0.5,
        )

    def advance(self, now_s: float) -> None:
        """End a burst after its cycles."""
        self._bursting.ended(now_s)

    def settle(self) -> None:
        """End a burst when bursts are switched off."""
        if not self._burst.on:
            self._bursting.abort(self.device_s)

    def pending(self) -> bool:
        """Return whether a burst goes on."""
        return self._bursting.running

    def operation_condition(self) -> int:
        """Report a burst."""
        return BURSTING if self._bursting.running else 0

    def reset(self, now_s: float) -> None:
        """Cycle the power: output off, no burst."""
        self._bursting.forget()
        super().reset(now_s)

    def _gain(self, ohm: float) -> float:
        """Return which share of the open voltage a load gets."""
        return 1.0 if ohm >= HIGH_IMPEDANCE else ohm / (ohm + SOURCE_OHM)

    def _check_swing(self, amplitude_v: float, offset_v: float, load_ohm: float) -> None:
        if amplitude_v / 2 + abs(offset_v) > _SWING_V * self._gain(load_ohm) * (1 + 1e-9):
            raise RequestError(-221)

    def _adjust(self, load_ohm: float) -> None:
        """Say amplitude and offset for another load. Agilent 33500, "Output Termination"."""
        ratio = self._gain(load_ohm) / self._gain(self._load.value)
        self._amplitude.value *= ratio
        self._offset.value *= ratio

    def _begin(self) -> None:
        if not (self._burst.on and self._trigger.value == "BUS"):
            raise RequestError(-211)
        self._bursting.begin(self.device_s, self._cycles.value / self._frequency.value)

    def _abort(self) -> None:
        self._bursting.abort(self.device_s)
