"""A temperature controller with its furnace; pure.

The controller acts on a grid of `CONTROL_PERIOD_S` that starts when the output is
switched on, and between its instants the plant is solved exactly. So the temperature
does not depend on when, or how often, it is asked for.
"""

from __future__ import annotations

import math
from typing import Final

from .entries import Number, Query, Switch
from .interpreter import ScpiModel
from .thermal import ThermalPlant

CONTROL_PERIOD_S: Final = 0.1

# Bit of the operation condition register.
SETTLING: Final = 2

# Bit of the questionable condition register.
TOO_HOT: Final = 16

# Below these steps from one control period to the next, nothing moves any more.
_STILL_K: Final = 1e-12
_STILL_FRACTION: Final = 1e-15


class TemperatureControllerModel(ScpiModel):
    """A PID loop on a first-order plant, setpoint -20 to 1200 degC.

    The heater is off until `OUTP 1`. With a ramp rate, the working setpoint walks from
    where it is (from the temperature, when the output is switched on) to the setpoint.
    A power cycle loses the settings; the plant goes on cooling from where it was.
    """

    def __init__(
        self,
        *,
        power_w: float = 500.0,
        loss_w_per_k: float = 0.4,
        heat_capacity_j_per_k: float = 50.0,
        ambient_c: float = 23.0,
        serial: str = "SIM-TC-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, heater off, plant at the temperature of the room."""
        self._plant = ThermalPlant(power_w, loss_w_per_k, heat_capacity_j_per_k, ambient_c)
        temperature = "[SOURce:]TEMPerature"
        self._setpoint = Number(
            f"{temperature}:SPOint", low=-20.0, high=1200.0, default=20.0, unit="C"
        )
        self._ramp = Number(
            f"{temperature}:RAMP[:RATE]", low=0.0, high=6000.0, default=0.0, unit="K/MIN"
        )
        self._gain = Number(f"{temperature}:LCONstants:GAIN", low=0.0, high=10.0, default=0.02)
        self._integral_time = Number(
            f"{temperature}:LCONstants:INTegral", low=0.0, high=1e5, default=50.0, unit="S"
        )
        self._derivative_time = Number(
            f"{temperature}:LCONstants:DERivative", low=0.0, high=1e4, default=0.0, unit="S"
        )
        self._limit = Number(
            "[SOURce:]HEATer:LIMit", low=0.0, high=100.0, default=100.0, unit="PCT"
        )
        self._protection = Number(
            f"{temperature}:PROTection[:LEVel]", low=0.0, high=1500.0, default=1300.0, unit="C"
        )
        self._output = Switch("OUTPut[:STATe]")
        self._controlling = False
        self._fraction = 0.0
        self._integral = 0.0
        self._working_c = self._setpoint.value
        self._measured_c = ambient_c
        self._solved_c = ambient_c
        self._solved_s = -math.inf
        self._grid_from_s = 0.0
        self._step = 0
        super().__init__(
            (
                self._setpoint,
                self._ramp,
                self._gain,
                self._integral_time,
                self._derivative_time,
                self._limit,
                self._protection,
                self._output,
                Query(f"{temperature}:SPOint:ACTual", lambda: self.working_setpoint_c),
                Query("MEASure[:SCALar]:TEMPerature", lambda: self._temperature_at(self.device_s)),
                Query("MEASure[:SCALar]:POWer", lambda: self.power_percent),
            ),
            idn=f"benchtree,TC1200,{serial},1.0" if idn is None else idn,
        )

    @property
    def setpoint_c(self) -> float:
        """The setpoint, in degrees Celsius."""
        return self._setpoint.value

    @property
    def working_setpoint_c(self) -> float:
        """What the loop holds at this point of the ramp, in degrees Celsius."""
        return self._working_c if self._controlling else self._setpoint.value

    @property
    def ramp_k_per_min(self) -> float:
        """How fast the working setpoint walks; zero when it jumps."""
        return self._ramp.value

    @property
    def output_on(self) -> bool:
        """Whether the heater may heat."""
        return self._output.on

    @property
    def power_percent(self) -> float:
        """What the heater gives, in percent of full power, as of the latest message."""
        return 100.0 * self._fraction

    def temperature_c(self, now_s: float) -> float:
        """Return the temperature of the plant; asking does not change what comes later."""
        self.advance(now_s)
        return self._temperature_at(now_s)

    def advance(self, now_s: float) -> None:
        """Run the control loop up to an instant."""
        if self._solved_s == -math.inf:
            self._solved_s = now_s
        if not self._controlling:
            return
        while (next_s := self._grid_from_s + (self._step + 1) * CONTROL_PERIOD_S) <= now_s:
            before_c, before = self._solved_c, self._fraction
            self._solve(next_s)
            self._step += 1
            self._control()
            if (
                abs(self._solved_c - before_c) < _STILL_K
                and abs(self._fraction - before) < _STILL_FRACTION
                and self._working_c == self._setpoint.value
            ):
                self._step = max(
                    self._step, math.floor((now_s - self._grid_from_s) / CONTROL_PERIOD_S) - 1
                )

    def settle(self) -> None:
        """Start and stop the control loop with the output."""
        if self._output.on == self._controlling:
            return
        self._solve(self.device_s)
        self._controlling = self._output.on
        self._fraction = 0.0
        if self._controlling:
            self._grid_from_s = self.device_s
            self._step = 0
            self._integral = 0.0
            self._working_c = self._measured_c = self._solved_c
            self._control()

    def operation_condition(self) -> int:
        """Report that the working setpoint is on its way."""
        return SETTLING if self.working_setpoint_c != self.setpoint_c else 0

    def questionable_condition(self) -> int:
        """Report a temperature above the protection level."""
        return TOO_HOT if self._temperature_at(self.device_s) > self._protection.value else 0

    def _temperature_at(self, now_s: float) -> float:
        elapsed_s = max(0.0, now_s - self._solved_s)
        return self._plant.temperature_after(self._solved_c, self._fraction, elapsed_s)

    def _solve(self, until_s: float) -> None:
        self._solved_c = self._temperature_at(until_s)
        self._solved_s = until_s

    def _control(self) -> None:
        walk_k = self._ramp.value * CONTROL_PERIOD_S / 60.0
        distance_k = self._setpoint.value - self._working_c
        if walk_k == 0.0 or abs(distance_k) <= walk_k:
            self._working_c = self._setpoint.value
        else:
            self._working_c += math.copysign(walk_k, distance_k)
        error_k = self._working_c - self._solved_c
        gain = self._gain.value
        integral = self._integral
        if self._integral_time.value > 0.0:
            integral += gain * error_k * CONTROL_PERIOD_S / self._integral_time.value
        slope = (self._solved_c - self._measured_c) / CONTROL_PERIOD_S
        self._measured_c = self._solved_c
        wanted = gain * (error_k - self._derivative_time.value * slope) + integral
        self._fraction = min(max(wanted, 0.0), self._limit.value / 100.0)
        # Winding up at a limit would overshoot; unwinding from it is let through.
        if wanted == self._fraction or (wanted > self._fraction) == (error_k < 0.0):
            self._integral = integral
