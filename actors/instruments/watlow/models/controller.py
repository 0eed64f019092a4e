"""One EZ-ZONE PM controller, by its parameters; pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from actors.instruments.scpi.models import ThermalPlant
from actors.instruments.watlow.entries import (
    ALARMS,
    CELSIUS,
    ENTRIES,
    LOOPS,
    NO_ERROR,
    Entry,
    Kind,
    WireValue,
)

from .loop import LoopModel

_ALARM_LOW: Final = 8
_ALARM_HIGH: Final = 7
_ALARM_ERROR: Final = 28
_CLASSES: Final = {number // 1000 for number in ENTRIES}

# The settings of a loop by parameter: a name here is an attribute of the loop.
_LOOP_SETTINGS: Final = {
    7001: "setpoint_f",
    7002: "manual_percent",
    8001: "mode",
    8003: "algorithm",
    8006: "integral_s",
    8007: "derivative_s",
    8009: "band_f",
    8012: "cool_band_f",
}
_ALARM_SETTINGS: Final = (9001, 9002)
_DISPLAY_UNITS: Final = 3005


class Refusal(Enum):
    """Why a controller refuses."""

    NO_OBJECT = auto()
    NO_ATTRIBUTE = auto()
    NO_INSTANCE = auto()
    READ_ONLY = auto()


class RefusalError(Exception):
    """The controller refuses a request.

    Attributes:
        why: The reason.
    """

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.name)
        self.why = why


class ControllerModel:
    """A controller with one or two loops, each heating a body of its own.

    Values are as the Standard Bus carries them: temperatures in Fahrenheit. Settings
    survive a power cycle, as they are in the EEPROM. Numbers out of range are clamped and
    unknown codes ignored.

    Attributes:
        address: Its address on the line.
        serial: Its serial number.
        part_number: Its type.
        display_units: Fahrenheit or Celsius, as the code of parameter 3005.
        loops: Its control loops.
        set_point_high_f: The highest set point that it takes.
        eeprom_writes: How often a setting was written.
    """

    def __init__(
        self,
        address: int,
        *,
        serial: int | None = None,
        part_number: str = "PM6C1CA-AAAAAAA",
        loops: int = LOOPS,
        protocol: int = 1286,
        power_w: float = 500.0,
        loss_w_per_k: float = 0.4,
        heat_capacity_j_per_k: float = 250.0,
        ambient_c: float = 23.0,
    ) -> None:
        """Switch the power on: loops off, bodies at the temperature of the room."""
        self.address: Final = address
        self.serial: Final = 100_000 + address if serial is None else serial
        self.part_number: Final = part_number
        self.display_units = CELSIUS
        self.set_point_high_f = 9999.0
        self.eeprom_writes = 0
        plant = ThermalPlant(power_w, loss_w_per_k, heat_capacity_j_per_k, ambient_c)
        self.loops: Final = tuple(LoopModel(plant, well=NO_ERROR) for _ in range(loops))
        self._protocol = protocol
        self._alarms = {
            (number, instance): value
            for instance in range(1, ALARMS + 1)
            for number, value in zip(_ALARM_SETTINGS, (300.0, 32.0), strict=True)
        }

    def __repr__(self) -> str:
        return f"<ControllerModel {self.address} serial={self.serial} loops={len(self.loops)}>"

    def advance(self, now_s: float) -> None:
        """Bring the physics up to an instant."""
        for loop in self.loops:
            loop.advance(now_s)

    def has(self, entry: Entry, instance: int) -> bool:
        """Return whether there is such an instance of a parameter."""
        count = len(self.loops) if entry.instances == LOOPS else entry.instances
        return 1 <= instance <= count

    def read(self, number: int, instance: int) -> WireValue:
        """Return the value of a parameter.

        Raises:
            RefusalError: There is no such parameter or instance.
        """
        self._find(number, instance)
        match number:
            case 1007:
                return self.serial
            case 1009:
                return self.part_number
            case 17009:
                return self._protocol
            case 3005:
                return self.display_units
            case 9009:
                return self._alarm_state(instance)
            case 9001 | 9002:
                return self._alarms[number, instance]
            case _:
                return self._read_loop(number, self.loops[instance - 1])

    def write(self, number: int, instance: int, value: WireValue) -> None:
        """Set a parameter.

        Raises:
            RefusalError: There is no such parameter or instance, or it is only read.
        """
        entry = self._find(number, instance)
        if number not in (*_LOOP_SETTINGS, *_ALARM_SETTINGS, _DISPLAY_UNITS):
            raise RefusalError(Refusal.READ_ONLY)
        self.eeprom_writes += 1
        if isinstance(value, str) or (entry.kind is Kind.CODE and value not in entry.words):
            return
        if number == _DISPLAY_UNITS:
            self.display_units = int(value)
        elif number in _ALARM_SETTINGS:
            self._alarms[number, instance] = value
        else:
            self._write_loop(number, self.loops[instance - 1], value)

    def _find(self, number: int, instance: int) -> Entry:
        if number // 1000 not in _CLASSES:
            raise RefusalError(Refusal.NO_OBJECT)
        if number not in ENTRIES:
            raise RefusalError(Refusal.NO_ATTRIBUTE)
        if not self.has(ENTRIES[number], instance):
            raise RefusalError(Refusal.NO_INSTANCE)
        return ENTRIES[number]

    def _read_loop(self, number: int, loop: LoopModel) -> float:
        match number:
            case 4001:
                return loop.process_f
            case 4002:
                return loop.input_error
            case 8002:
                return loop.active_mode
            case 8011:
                return loop.heat_percent
            case _:
                value: float = getattr(loop, _LOOP_SETTINGS[number])
                return value

    def _write_loop(self, number: int, loop: LoopModel, value: float) -> None:
        match number:
            case 7001:
                value = min(max(value, -1999.0), self.set_point_high_f)
            case 7002:
                value = min(max(value, -100.0), 100.0)
            case 8001 | 8003:
                value = int(value)
            case _:
                value = min(max(value, 0.0), 9999.0)
        setattr(loop, _LOOP_SETTINGS[number], value)

    def _alarm_state(self, instance: int) -> int:
        loop = self.loops[0]
        if loop.input_error != NO_ERROR:
            return _ALARM_ERROR
        if loop.process_f > self._alarms[9001, instance]:
            return _ALARM_HIGH
        if loop.process_f < self._alarms[9002, instance]:
            return _ALARM_LOW
        return NO_ERROR
