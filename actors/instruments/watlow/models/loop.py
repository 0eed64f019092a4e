"""One control loop with the body it heats; pure.

The loop acts on a grid of `CONTROL_PERIOD_S`, and between its instants the body is solved
exactly. So the temperature does not depend on when, or how often, it is asked for.
"""

from __future__ import annotations

import math
from typing import Final

from actors.instruments.scpi.models import ThermalPlant
from actors.instruments.watlow.entries import AUTO, MANUAL, OFF, Scale, to_fahrenheit

CONTROL_PERIOD_S: Final = 0.1
PID: Final = 71
ON_OFF: Final = 64

# Below this step from one control period to the next, nothing moves any more.
_STILL_K: Final = 1e-12

# What an input without a probe reads: past the end of every thermocouple's range.
_OPEN_INPUT_F: Final = 2500.0


class LoopModel:
    """A PID loop on a first-order plant; temperatures are in Fahrenheit, as inside.

    Attributes:
        plant: What it heats.
        setpoint_f: Where the temperature is to be.
        mode: Off, auto or manual, as the controller's code.
        algorithm: Off, PID or on/off, as the controller's code.
        manual_percent: What the output gives in manual mode; cooling below zero.
        band_f: The heat proportional band.
        cool_band_f: The cool proportional band, which a heater has no use for.
        integral_s: The time integral; zero switches it off.
        derivative_s: The time derivative.
        input_error: The state of the input, as the controller's code.
    """

    def __init__(self, plant: ThermalPlant, *, well: int) -> None:
        """Start at the temperature of the room; `well` is the code of a good input."""
        self.plant = plant
        self.setpoint_f = 75.0
        self.mode = OFF
        self.algorithm = PID
        self.manual_percent = 0.0
        self.band_f = 25.0
        self.cool_band_f = 25.0
        self.integral_s = 180.0
        self.derivative_s = 0.0
        self.input_error = well
        self._well = well
        self._fraction = 0.0
        self._integral = 0.0
        self._solved_c = plant.ambient_c
        self._controlled_c = math.nan
        self._measured_f = self._fahrenheit
        self._next_s = -math.inf
        self._solved_s = -math.inf

    @property
    def temperature_c(self) -> float:
        """The temperature of the body, at the instant the loop has got to."""
        return self._solved_c

    @property
    def process_f(self) -> float:
        """What the input reads."""
        return self._fahrenheit if self.input_error == self._well else _OPEN_INPUT_F

    @property
    def active_mode(self) -> int:
        """The mode in force: a loop without its input is off."""
        lost = self.mode == AUTO and self.input_error != self._well
        return OFF if lost else self.mode

    @property
    def heat_percent(self) -> float:
        """What the heater gives."""
        return 100.0 * max(0.0, self._fraction)

    def advance(self, now_s: float) -> None:
        """Run the loop up to an instant."""
        if self._next_s == -math.inf:
            self._next_s = self._solved_s = now_s
        while self._next_s <= now_s:
            # Since the last control, not since the last look: that may have been just now.
            before_c, before = self._controlled_c, self._fraction
            self._solve(self._next_s)
            self._controlled_c = self._solved_c
            self._control()
            self._next_s += CONTROL_PERIOD_S
            # Nothing to decide, or nothing that moves: on to the last instant of the grid.
            if self._fraction == before and (
                self.active_mode != AUTO or abs(self._solved_c - before_c) < _STILL_K
            ):
                periods = math.floor((now_s - self._next_s) / CONTROL_PERIOD_S)
                self._next_s += max(0, periods) * CONTROL_PERIOD_S
        self._solve(now_s)

    @property
    def _fahrenheit(self) -> float:
        return to_fahrenheit(Scale.TEMPERATURE, self._solved_c)

    def _solve(self, until_s: float) -> None:
        elapsed_s = max(0.0, until_s - self._solved_s)
        self._solved_c = self.plant.temperature_after(self._solved_c, self._fraction, elapsed_s)
        self._solved_s = until_s

    def _control(self) -> None:
        before_f, self._measured_f = self._measured_f, self._fahrenheit
        if self.active_mode == MANUAL:
            self._fraction = self.manual_percent / 100.0
        elif self.active_mode == AUTO and self.algorithm == ON_OFF:
            self._fraction = 1.0 if self._measured_f < self.setpoint_f else 0.0
        elif self.active_mode == AUTO and self.algorithm == PID:
            self._fraction = self._pid(before_f)
        else:
            self._fraction = self._integral = 0.0

    def _pid(self, before_f: float) -> float:
        gain = 1.0 / max(self.band_f, 1e-3)
        error_f = self.setpoint_f - self._measured_f
        slope = (self._measured_f - before_f) / CONTROL_PERIOD_S
        integral = self._integral
        if self.integral_s > 0.0:
            integral += gain * error_f * CONTROL_PERIOD_S / self.integral_s
        wanted = gain * (error_f - self.derivative_s * slope) + integral
        fraction = min(max(wanted, 0.0), 1.0)
        # Winding up at a limit would overshoot; unwinding from it is let through.
        if wanted == fraction or (wanted > fraction) == (error_f < 0.0):
            self._integral = integral
        return fraction
