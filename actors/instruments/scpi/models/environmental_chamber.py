"""An environmental chamber: air that follows its setpoints, a door, a protection; pure."""

from __future__ import annotations

import math
from typing import Final

from attrs import field, frozen
from attrs.validators import gt

from .entries import Action, Number, Query, RequestError, Switch
from .interpreter import ScpiModel

# Bits of the operation and questionable condition registers.
RAMPING: Final = 2
CONDITIONING: Final = 16
TOO_HOT: Final = 16
DOOR_OPEN: Final = 512
# Where the humidity can be controlled, in degrees Celsius.
_HUMID_FROM_C: Final = 10.0
_HUMID_TO_C: Final = 90.0


@frozen(kw_only=True)
class Room:
    """How quickly the air changes, and what is around it.

    Attributes:
        temperature_c: The temperature of the room, in degrees Celsius.
        humidity_percent: Its relative humidity.
        controlled_s: How long the air takes to follow a step of the setpoint to 63 %.
        idle_s: How long it takes to follow the room when nothing is conditioned.
        open_s: How long it takes with the door open.
        humidity_s: How long the humidity takes to follow its setpoint.
    """

    temperature_c: float = 23.0
    humidity_percent: float = 45.0
    controlled_s: float = field(default=60.0, validator=gt(0.0))
    idle_s: float = field(default=3600.0, validator=gt(0.0))
    open_s: float = field(default=30.0, validator=gt(0.0))
    humidity_s: float = field(default=120.0, validator=gt(0.0))


class EnvironmentalChamberModel(ScpiModel):
    """Air from -70 to 180 degrees Celsius and 10 to 98 % humidity, solved exactly.

    While it conditions, a working setpoint walks to the one set at the ramp rate, and the air
    follows it as a first-order system. Otherwise, or with the door open, the air follows the
    room. Air that is heated without humidity control gets drier, because its water stays the
    same. Above the protection level it switches itself off until that is cleared.

    Attributes:
        runaway_c: How far the air is driven above its working setpoint by a fault, in kelvin.
    """

    def __init__(
        self, *, room: Room | None = None, serial: str = "SIM-EC-1", idn: str | None = None
    ) -> None:
        """Switch the power on, the air that of the room."""
        self.runaway_c = 0.0
        self._room = room or Room()
        self._setpoint = Number(
            "[SOURce:]TEMPerature:SPOint", low=-70.0, high=180.0, default=23.0, unit="CEL"
        )
        self._ramp = Number("[SOURce:]TEMPerature:RAMP", low=0.0, high=20.0, default=0.0)
        self._protection = Number(
            "[SOURce:]TEMPerature:PROTection", low=-70.0, high=200.0, default=190.0, unit="CEL"
        )
        self._humidity_setpoint = Number(
            "[SOURce:]HUMidity:SPOint", low=10.0, high=98.0, default=50.0, unit="PCT"
        )
        self._humidity_control = Switch("[SOURce:]HUMidity:STATe")
        self._output = Switch("OUTPut[:STATe]", accept=self._accept_output)
        self._door_open = False
        self._tripped = False
        self._at_s = -math.inf
        self._air_c = self._room.temperature_c
        self._working_c = self._air_c
        self._humidity = self._room.humidity_percent
        super().__init__(
            (
                *(self._setpoint, self._ramp, self._protection, self._humidity_setpoint),
                *(self._humidity_control, self._output),
                Query("[SOURce:]TEMPerature:SPOint:ACTual", lambda: self._working_c),
                Query("MEASure[:SCALar]:TEMPerature", lambda: self._air_c),
                Query("MEASure[:SCALar]:HUMidity", lambda: self._humidity),
                Query("SENSe:DOOR", lambda: self._door_open),
                Action("OUTPut:PROTection:CLEar", self._clear_protection),
            ),
            idn=f"benchtree,EC180,{serial},1.0" if idn is None else idn,
        )

    @property
    def temperature_c(self) -> float:
        """The temperature of the air when it was last looked at, in degrees Celsius."""
        return self._air_c

    @property
    def humidity_percent(self) -> float:
        """The relative humidity of the air when it was last looked at."""
        return self._humidity

    @property
    def output_on(self) -> bool:
        """Whether it conditions the air, or would with the door closed."""
        return self._output.on

    @property
    def door_open(self) -> bool:
        """Whether the door is open."""
        return self._door_open

    @door_open.setter
    def door_open(self, opened: bool) -> None:
        self._door_open = opened

    @property
    def tripped(self) -> bool:
        """Whether the protection switched it off and was not cleared."""
        return self._tripped

    def advance(self, now_s: float) -> None:
        """Bring the air up to an instant."""
        elapsed_s = now_s - self._at_s if math.isfinite(self._at_s) else 0.0
        self._at_s = max(now_s, self._at_s)
        if elapsed_s > 0.0:
            before_c = self._air_c
            self._air_c = self._air_after(elapsed_s)
            self._humidity = self._humidity_after(before_c, elapsed_s)
        self._protect()

    def settle(self) -> None:
        """Have the protection look at once, and the working setpoint begin where the air is."""
        self._protect()
        if not self._output.on:
            self._working_c = self._air_c
        elif self._ramp.value == 0.0:
            self._working_c = self._setpoint.value

    def questionable_condition(self) -> int:
        """Report a tripped protection, and a door that was opened while it conditions."""
        opened = DOOR_OPEN if self._door_open and self._output.on else 0
        return (TOO_HOT if self._tripped else 0) | opened

    def operation_condition(self) -> int:
        """Report that it conditions, and that its working setpoint is on its way."""
        if not self._output.on:
            return 0
        ramping = self._working_c != self._setpoint.value
        return CONDITIONING | (RAMPING if ramping else 0)

    def reset(self, now_s: float) -> None:
        """Cycle the power: it conditions nothing; the air stays what it is."""
        self._tripped = False
        super().reset(now_s)

    def _air_after(self, elapsed_s: float) -> float:
        """Return the air's temperature some time later, and move the working setpoint."""
        room = self._room
        if self._door_open or not self._output.on:
            constant_s = room.open_s if self._door_open else room.idle_s
            return _follow(self._air_c, room.temperature_c, elapsed_s, constant_s)
        left_k = self._setpoint.value - self._working_c
        rate = math.copysign(self._ramp.value / 60.0, left_k)
        ramps_s = abs(left_k / rate) if rate else (math.inf if left_k else 0.0)
        first_s = min(elapsed_s, ramps_s) if rate else 0.0
        # Behind a ramp first-order air lags by the rate times its time constant.
        lag_k = rate * room.controlled_s
        aims_c = self._working_c + self.runaway_c - lag_k
        air_c = aims_c + rate * first_s
        air_c += (self._air_c - aims_c) * math.exp(-first_s / room.controlled_s)
        self._working_c += rate * first_s
        if first_s >= ramps_s:
            self._working_c = self._setpoint.value
        aims_c = self._working_c + self.runaway_c
        return _follow(air_c, aims_c, elapsed_s - first_s, room.controlled_s)

    def _humidity_after(self, before_c: float, elapsed_s: float) -> float:
        room = self._room
        # The water in the air stays; what it can hold changes.
        carried = self._humidity * _saturation(before_c) / _saturation(self._air_c)
        controls = self._output.on and self._humidity_control.on and not self._door_open
        if controls and _HUMID_FROM_C <= self._air_c <= _HUMID_TO_C:
            aims, constant_s = self._humidity_setpoint.value, room.humidity_s
        else:
            of_room = room.humidity_percent * _saturation(room.temperature_c)
            aims = of_room / _saturation(self._air_c)
            constant_s = room.open_s if self._door_open else room.idle_s
        return min(100.0, _follow(min(100.0, carried), aims, elapsed_s, constant_s))

    def _protect(self) -> None:
        if self._air_c > self._protection.value:
            self._tripped = True
        if self._tripped:
            self._output.restore()

    def _accept_output(self, on: bool) -> None:
        if on and (self._tripped or self._door_open):
            raise RequestError(-221)

    def _clear_protection(self) -> None:
        self._tripped = False


def _follow(from_: float, to: float, elapsed_s: float, constant_s: float) -> float:
    """Return where a first-order system is after some time."""
    return to + (from_ - to) * math.exp(-elapsed_s / constant_s)


def _saturation(temperature_c: float) -> float:
    """Return the pressure of saturated water vapour after Magnus, in hectopascal."""
    return 6.112 * math.exp(17.62 * temperature_c / (243.12 + temperature_c))
