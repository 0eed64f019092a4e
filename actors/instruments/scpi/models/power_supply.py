"""A bench supply into a resistor: constant voltage, constant current, overvoltage; pure."""

from __future__ import annotations

import math

from .entries import Action, Number, Query, RequestError, Switch
from .interpreter import ScpiModel

# Bits of the questionable condition register.
VOLTAGE_UNREGULATED = 1
TOO_HOT = 16
OVERVOLTAGE_TRIPPED = 512
OVERCURRENT_TRIPPED = 1024


class PowerSupplyModel(ScpiModel):
    """One output of 0 to 30 V and 0 to 5 A across `load_ohm`.

    The output holds the voltage set, or less where the load would draw more than the
    current limit. A terminal voltage above the protection level switches the output off,
    and it cannot be switched on before the trip is cleared. So does a limited current while
    overcurrent protection is on, and a heat sink that is too hot.

    Attributes:
        too_hot: Whether its heat sink is too hot.
    """

    def __init__(
        self,
        *,
        load_ohm: float = 10.0,
        max_voltage_v: float = 30.0,
        max_current_a: float = 5.0,
        serial: str = "SIM-PS-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, output off.

        Raises:
            ValueError: The load is not above zero; an open output is `math.inf`.
        """
        self._voltage = Number(
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            low=0.0,
            high=max_voltage_v,
            default=0.0,
            unit="V",
        )
        self._current = Number(
            "[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]",
            low=0.0,
            high=max_current_a,
            default=max_current_a,
            unit="A",
        )
        self._protection = Number(
            "[SOURce:]VOLTage:PROTection[:LEVel]",
            low=0.0,
            high=1.1 * max_voltage_v,
            default=1.1 * max_voltage_v,
            unit="V",
        )
        self._output = Switch("OUTPut[:STATe]", accept=self._accept_output)
        self._limits_current = Switch("[SOURce:]CURRent:PROTection:STATe")
        self._tripped = False
        self._overcurrent = False
        self.too_hot = False
        self._load_ohm = _checked_load(load_ohm)
        super().__init__(
            (
                self._voltage,
                self._current,
                self._protection,
                self._output,
                self._limits_current,
                Query("[SOURce:]CURRent:PROTection:TRIPped", lambda: self._overcurrent),
                Query("[SOURce:]VOLTage:PROTection:TRIPped", lambda: self.tripped),
                Action("[SOURce:]VOLTage:PROTection:CLEar", self._clear_protection),
                Action("OUTPut:PROTection:CLEar", self._clear_protection),
                Query("MEASure[:SCALar]:VOLTage[:DC]", lambda: self.voltage_v),
                Query("MEASure[:SCALar]:CURRent[:DC]", lambda: self.current_a),
                Query("MEASure[:SCALar]:POWer[:DC]", lambda: self.power_w),
            ),
            idn=f"benchtree,PS30-5,{serial},1.0" if idn is None else idn,
        )

    @property
    def load_ohm(self) -> float:
        """The resistance across the output, in ohms; infinite when it is open."""
        return self._load_ohm

    @load_ohm.setter
    def load_ohm(self, load_ohm: float) -> None:
        self._load_ohm = _checked_load(load_ohm)
        self.settle()

    @property
    def setpoint_v(self) -> float:
        """The voltage set, in volts."""
        return self._voltage.value

    @property
    def limit_a(self) -> float:
        """The current limit set, in amperes."""
        return self._current.value

    @property
    def protection_v(self) -> float:
        """The terminal voltage above which the output trips, in volts."""
        return self._protection.value

    @property
    def output_on(self) -> bool:
        """Whether the output is on; false once it has tripped."""
        return self._output.on

    @property
    def tripped(self) -> bool:
        """Whether the overvoltage protection has tripped and is not cleared."""
        return self._tripped

    @property
    def current_limited(self) -> bool:
        """Whether the load would draw more than the current limit."""
        return self._output.on and self._voltage.value / self._load_ohm > self._current.value

    @property
    def voltage_v(self) -> float:
        """The voltage across the load, in volts."""
        if self.current_limited:
            return self._current.value * self._load_ohm
        return self._voltage.value if self._output.on else 0.0

    @property
    def current_a(self) -> float:
        """The current through the load, in amperes."""
        return self.limit_a if self.current_limited else self.voltage_v / self._load_ohm

    @property
    def power_w(self) -> float:
        """The power into the load, in watts."""
        return self.voltage_v * self.current_a

    def settle(self) -> None:
        """Trip the output: above the protection level, at the current limit, or too hot."""
        if self.voltage_v > self._protection.value:
            self._tripped = True
        if self._limits_current.on and self.current_limited:
            self._overcurrent = True
        if self._tripped or self._overcurrent or self.too_hot:
            self._output.restore()

    def reset(self, now_s: float) -> None:
        """Cycle the power: output off, settings lost, a trip cleared."""
        self._tripped = self._overcurrent = False
        super().reset(now_s)

    def questionable_condition(self) -> int:
        """Report a limited current, too much heat, and why the output has tripped."""
        return (
            (VOLTAGE_UNREGULATED if self.current_limited else 0)
            | (TOO_HOT if self.too_hot else 0)
            | (OVERVOLTAGE_TRIPPED if self._tripped else 0)
            | (OVERCURRENT_TRIPPED if self._overcurrent else 0)
        )

    def _accept_output(self, on: bool) -> None:
        if on and (self._tripped or self._overcurrent or self.too_hot):
            raise RequestError(-221)

    def _clear_protection(self) -> None:
        self._tripped = self._overcurrent = False


def _checked_load(load_ohm: float) -> float:
    if math.isnan(load_ohm) or load_ohm <= 0.0:
        raise ValueError(f"expected a load above 0 ohm, got {load_ohm!r}")
    return load_ohm
