"""EZ-ZONE PM controllers, whatever line they are on."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from actors.bus import Bus
from actors.command import Plan
from actors.errors import DeviceError
from actors.faults import SENSOR_ERROR, Fault, FaultClass
from actors.instrument import Directive, Instrument
from actors.member import Identity
from actors.parameter import Action, Assignment, Parameter, Reading, Setting
from transports import GATEWAY, RS485, BusProfile, Exchange

from .entries import (
    CONTROL_MODE,
    ENTRIES,
    LOOPS,
    Entry,
    Kind,
    WireValue,
    to_celsius,
    to_fahrenheit,
)

T = TypeVar("T")

DEVICE_FAILURE: Final = FaultClass("DEVICE_FAILURE")
"""The controller took the request and failed at it."""

READ_BACK: Final = FaultClass("READ_BACK")
"""The controller took a value and does not hold it."""

MAKER: Final = "Watlow"

# Numbers are held as 32-bit floats, and some are rounded to what the display can show.
_TOLERANCE: Final = 0.01
_RELATIVE_TOLERANCE: Final = 1e-5


class EzZone(Instrument):
    """The base of the EZ-ZONE PM drivers; a subclass brings the protocol.

    Parameters go by name or by the number in the manual. What is there once per loop or
    alarm takes `instance`. Every setting is kept in the controller's EEPROM, which wears
    out, and so is hazardous: it needs `confirm=True`. After each write the value is read
    back, and the write fails when the controller does not hold it.

    Class attributes beside those of `Instrument`:

        entries: What is known of each parameter, by number; a subclass may add some.
        max_unit: The greatest address on the bus.
        reply_within_s: How long a reply may take, in seconds.

    Attributes:
        loops: How many control loops it has, as far as is known.
        fahrenheit: Whether temperatures travel in Fahrenheit; None while that is not known.
    """

    default_unit: ClassVar[str | None] = "1"
    recognised_units: ClassVar[Sequence[str]] = tuple("2345678")
    entries: ClassVar[Mapping[int, Entry]] = ENTRIES
    max_unit: ClassVar[int]
    reply_within_s: ClassVar[float] = 0.5
    wearing: ClassVar[frozenset[str]] = frozenset(
        {
            "setpoint",
            "manual_power",
            "control_mode",
            "heat_algorithm",
            "integral_time",
            "derivative_time",
            "heat_proportional_band",
            "cool_proportional_band",
            "alarm_high",
            "alarm_low",
            "display_units",
        }
    )

    process_value = Reading("4001", unit="degC")
    """The temperature; None while the input reports an error."""
    input_error = Reading("4002", type=str)
    setpoint = Setting("7001", unit="degC", low=-273.15, high=5537.0, hazardous=True)
    manual_power = Setting("7002", unit="%", low=-100.0, high=100.0, hazardous=True)
    control_mode = Setting("8001", type=str, choices=("off", "auto", "manual"), hazardous=True)
    control_mode_active = Reading("8002", type=str)
    heat_algorithm = Setting("8003", type=str, choices=("off", "PID", "on/off"), hazardous=True)
    integral_time = Setting("8006", unit="s", low=0.0, high=9999.0, hazardous=True)
    derivative_time = Setting("8007", unit="s", low=0.0, high=9999.0, hazardous=True)
    heat_proportional_band = Setting("8009", unit="K", low=0.0, high=5555.0, hazardous=True)
    cool_proportional_band = Setting("8012", unit="K", low=0.0, high=5555.0, hazardous=True)
    heat_power = Reading("8011", unit="%")
    """What the output gives."""
    alarm_high = Setting("9001", unit="degC", low=-273.15, high=5537.0, hazardous=True)
    alarm_low = Setting("9002", unit="degC", low=-273.15, high=5537.0, hazardous=True)
    alarm_state = Reading("9009", type=str)
    display_units = Setting("3005", type=str, choices=("C", "F"), hazardous=True)
    serial_number = Reading("1007", type=int)
    bus_protocol = Reading("17009", type=str)

    profiles: ClassVar[Mapping[str, BusProfile]] = {"serial": RS485, "tcp": GATEWAY}
    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (
        control_mode.to("off"),
        control_mode.to("off", instance=2),
    )

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make a controller on `bus`.

        Raises:
            ValueError: The unit is no address of the protocol.
        """
        super().__init__(name, bus, unit=unit)
        problem = self.unit_problem(self.unit)
        if problem is not None:
            raise ValueError(f"{name}: {problem}")
        self.address = int(self.unit or 0)
        self.loops = LOOPS
        self.fahrenheit: bool | None = True

    @classmethod
    def unit_problem(cls, unit: str | None) -> str | None:
        """Return what is wrong with a unit id, or None."""
        addresses = [str(address) for address in range(1, cls.max_unit + 1)]
        if unit is None or unit in addresses:
            return None
        return f"{unit!r} is no address of a controller; it is a number from 1 to {cls.max_unit}"

    @classmethod
    def find_parameter(cls, text: str) -> Parameter[Any] | None:
        """Return the parameter of that name or number, or None."""
        found = super().find_parameter(text)
        if found is not None:
            return found
        return next((each for each in cls.parameters.values() if each.header == text), None)

    @classmethod
    def instances_of(cls, parameter: Parameter[Any]) -> int:
        """Return how many of a parameter a controller of this kind can have."""
        return cls.entry_of(parameter).instances

    @classmethod
    def entry_of(cls, parameter: Parameter[Any]) -> Entry:
        """Return what is known of a parameter."""
        return cls.entries[int(parameter.header)]

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the frame that begins to carry out `directive`.

        Raises:
            ValueError: It is an action, of which there are none.
        """
        match directive:
            case Assignment(setting, value):
                entry = self.entry_of(setting)
                return self.write(entry, instance, self.to_wire(entry, value))
            case Parameter():
                return self.read(self.entry_of(directive), instance)
            case Action():
                raise ValueError(f"{directive!r}: an EZ-ZONE controller has no actions")

    def following(
        self, directive: Directive[Any], instance: int
    ) -> Callable[[bytes], Plan[Any] | None] | None:
        """Have what was written read back."""
        if not isinstance(directive, Assignment):
            return None
        entry = self.entry_of(directive.setting)
        step = Plan(
            name=f"{directive.setting.name}.read_back",
            exchange=self.read(entry, instance),
            decode=partial(self.confirm, directive),
        )
        return lambda raw: step if self.taken(raw) else None

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply; None where the controller has none to give."""
        entry = self.entry_of(parameter)
        wire = self.wire_value(entry, raw)
        if wire is None:
            return None
        self.note(entry, wire)
        value: Any = self.from_wire(entry, wire)
        return value  # type: ignore[no-any-return]  # it has the kind of the entry

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Raise why a write was not taken."""
        del directive
        if not self.taken(raw):
            raise DeviceError(self.refusal(raw))

    def confirm(self, assignment: Assignment[Any], raw: bytes) -> None:
        """Check that the controller holds what it was given.

        Raises:
            DeviceError: It does not, or does not say.
            ValueError: The reply does not fit.
        """
        if assignment.setting.name in self.wearing:
            self.note_wear(assignment.setting.name)
        entry = self.entry_of(assignment.setting)
        try:
            wire = self.wire_value(entry, raw)
        except DeviceError as error:
            text = f"it took {assignment.value!r} and would not say so: {error.fault.text}"
            raise DeviceError(Fault(READ_BACK, text, raw)) from error
        if wire is None or not _same(wire, self.to_wire(entry, assignment.value)):
            held = None if wire is None else self.from_wire(entry, wire)
            text = f"it was given {assignment.value!r} and holds {held!r}"
            raise DeviceError(Fault(READ_BACK, text, raw))
        self.note(entry, wire)

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return what reads whether the inputs of its loops work."""
        return self._input_plan(1, ())

    def _input_plan(self, loop: int, before: Sequence[Fault]) -> Plan[Sequence[Fault]]:
        read = self.read_plan(EzZone.input_error, loop)

        def faults(raw: bytes) -> Sequence[Fault]:
            said = read.decode(raw)
            if said == "none":
                return before
            return (*before, Fault(SENSOR_ERROR, f"the input of loop {loop}: {said}", raw))

        def then(raw: bytes) -> Plan[Sequence[Fault]] | None:
            try:
                return None if loop >= self.loops else self._input_plan(loop + 1, faults(raw))
            except (DeviceError, ValueError):
                return None

        return Plan(name="status", exchange=read.exchange, decode=faults, then=then)

    def safe_plans(self) -> Sequence[Plan[object]]:
        """Return what switches off the loops it has."""
        plans = zip(super().safe_plans(), self.safe_state, strict=True)
        return [
            plan
            for plan, each in plans
            if not (
                isinstance(each, Assignment)
                and self.entry_of(each.setting) is CONTROL_MODE
                and each.instance > self.loops
            )
        ]

    def from_wire(self, entry: Entry, wire: WireValue) -> WireValue | None:
        """Return a value as its declaration says: Celsius, kelvin, a word.

        Raises:
            ValueError: It is not of the parameter's kind.
        """
        match entry.kind, wire:
            case Kind.FLOAT, (int() | float()):
                if not math.isfinite(wire):
                    return None
                return to_celsius(entry.scale, wire) if self.fahrenheit else float(wire)
            case Kind.CODE, int():
                return entry.word(wire)
            case Kind.INTEGER, int():
                return wire
            case Kind.TEXT, str():
                return wire
            case _:
                raise ValueError(f"expected a {entry.kind.value} as {entry.id}, got {wire!r}")

    def to_wire(self, entry: Entry, value: WireValue) -> WireValue:
        """Return a value as it travels."""
        if isinstance(value, str):
            return entry.code(value) if entry.kind is Kind.CODE else value
        return to_fahrenheit(entry.scale, value) if self.fahrenheit else value

    def note(self, entry: Entry, wire: WireValue) -> None:
        """Learn from a value that the controller holds; there is nothing to learn here."""

    def identity_of(self, serial: WireValue | None, model: str | None = None) -> Identity:
        """Return who answered, by the serial number it gave.

        Raises:
            ValueError: That is no serial number.
        """
        match serial:
            case int():
                return Identity(MAKER, model, str(serial))
            case _:
                raise ValueError(f"expected a serial number, got {serial!r}")

    def note_loops(self, mode: WireValue | None) -> None:
        """Learn from the control mode of the second loop whether there is one."""
        self.loops = 2 if mode in CONTROL_MODE.words else 1

    # What a protocol brings.

    @abstractmethod
    def read(self, entry: Entry, instance: int) -> Exchange:
        """Return the exchange that reads a parameter."""

    @abstractmethod
    def write(self, entry: Entry, instance: int, wire: WireValue) -> Exchange:
        """Return the exchange that writes a parameter.

        Raises:
            ValueError: The value cannot travel.
        """

    @abstractmethod
    def wire_value(self, entry: Entry, raw: bytes) -> WireValue | None:
        """Return the value in a reply to a read; None where it is unavailable.

        Raises:
            DeviceError: The reply is an error of the controller.
            ValueError: The reply does not fit.
        """

    @abstractmethod
    def taken(self, raw: bytes) -> bool:
        """Return whether a reply says that a write was taken.

        An error and what does not fit say that it was not.
        """

    @abstractmethod
    def refusal(self, raw: bytes) -> Fault:
        """Return the controller's error in a reply.

        Raises:
            ValueError: There is none in it.
        """


def _same(held: WireValue, given: WireValue) -> bool:
    if isinstance(held, str) or isinstance(given, str):
        return held == given
    return math.isclose(held, given, rel_tol=_RELATIVE_TOLERANCE, abs_tol=_TOLERANCE)
