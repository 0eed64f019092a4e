"""The parameters of EZ-ZONE PM controllers and how each travels; pure.

An identifier is the number in the manual: class times 1000 plus member. On Modbus every
parameter has two registers; those of a further loop or alarm follow at a stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import field, frozen

WireValue: TypeAlias = int | float | str
"""A value as it travels; codes and whole numbers are ints."""

LOOPS: Final = 2
"""The most control loops, and analog inputs, of one controller."""

ALARMS: Final = 4
"""The most alarms of one controller."""


class Kind(Enum):
    """What a value is on the wire."""

    FLOAT = "float"
    INTEGER = "integer"
    CODE = "code"
    """A number that stands for a word."""
    TEXT = "text"


class Scale(Enum):
    """What a change between Fahrenheit and Celsius does to a number."""

    PLAIN = "plain"
    """Nothing: it is no temperature."""
    TEMPERATURE = "temperature"
    DIFFERENCE = "difference"


@frozen(kw_only=True)
class Entry:
    """One parameter.

    Attributes:
        id: Its number in the manual.
        kind: What its value is.
        register: Its first register on Modbus; None where it has none.
        stride: How many registers further the next instance is.
        instances: How many of it a controller can have.
        scale: What units do to it.
        words: What its codes mean.
    """

    id: int
    kind: Kind
    register: int | None
    stride: int = 0
    instances: int = 1
    scale: Scale = Scale.PLAIN
    words: Mapping[int, str] = field(factory=dict[int, str])

    def register_of(self, instance: int) -> int:
        """Return the first register of an instance.

        Raises:
            ValueError: It has no registers.
        """
        if self.register is None:
            raise ValueError(f"{self.id} cannot be read over Modbus")
        return self.register + (instance - 1) * self.stride

    def word(self, code: int) -> str:
        """Return what a code means; the number itself where that is not known."""
        return self.words.get(code, str(code))

    def code(self, word: str) -> int:
        """Return the code of a word.

        Raises:
            ValueError: There is none.
        """
        for code, known in self.words.items():
            if known == word:
                return code
        raise ValueError(f"{self.id} takes {', '.join(self.words.values())}, not {word!r}")


FAHRENHEIT: Final = 30
CELSIUS: Final = 15
NO_ERROR: Final = 61
OFF: Final = 62
AUTO: Final = 10
MANUAL: Final = 54

_INPUT_ERRORS: Final = MappingProxyType(
    {
        NO_ERROR: "none",
        65: "open",
        127: "shorted",
        140: "measurement error",
        139: "bad calibration",
        9: "ambient error",
        141: "RTD error",
        32: "fail",
    }
)
_MODES: Final = MappingProxyType({OFF: "off", AUTO: "auto", MANUAL: "manual"})
_ALARM_STATES: Final = MappingProxyType(
    {NO_ERROR: "none", 88: "startup", 12: "blocked", 8: "low", 7: "high", 28: "error"}
)

SERIAL_NUMBER: Final = Entry(id=1007, kind=Kind.INTEGER, register=12)
PART_NUMBER: Final = Entry(id=1009, kind=Kind.TEXT, register=None)
DISPLAY_UNITS: Final = Entry(
    id=3005,
    kind=Kind.CODE,
    register=1838,
    words=MappingProxyType({FAHRENHEIT: "F", CELSIUS: "C"}),
)
PROCESS_VALUE: Final = Entry(
    id=4001,
    kind=Kind.FLOAT,
    register=360,
    stride=80,
    instances=LOOPS,
    scale=Scale.TEMPERATURE,
)
INPUT_ERROR: Final = Entry(
    id=4002, kind=Kind.CODE, register=362, stride=80, instances=LOOPS, words=_INPUT_ERRORS
)
CONTROL_MODE: Final = Entry(
    id=8001, kind=Kind.CODE, register=1880, stride=70, instances=LOOPS, words=_MODES
)
PROTOCOL: Final = Entry(
    id=17009,
    kind=Kind.CODE,
    register=2492,
    words=MappingProxyType({1286: "standard bus", 1057: "modbus"}),
)


def _float(
    number: int,
    register: int,
    stride: int,
    scale: Scale = Scale.PLAIN,
    instances: int = LOOPS,
) -> Entry:
    return Entry(
        id=number,
        kind=Kind.FLOAT,
        register=register,
        stride=stride,
        instances=instances,
        scale=scale,
    )


ENTRIES: Final[Mapping[int, Entry]] = MappingProxyType(
    {
        entry.id: entry
        for entry in (
            SERIAL_NUMBER,
            PART_NUMBER,
            DISPLAY_UNITS,
            PROCESS_VALUE,
            INPUT_ERROR,
            _float(7001, 2160, 80, Scale.TEMPERATURE),
            _float(7002, 2162, 80),
            CONTROL_MODE,
            Entry(id=8002, kind=Kind.CODE, register=1882, stride=70, instances=LOOPS, words=_MODES),
            Entry(
                id=8003,
                kind=Kind.CODE,
                register=1884,
                stride=70,
                instances=LOOPS,
                words=MappingProxyType({OFF: "off", 71: "PID", 64: "on/off"}),
            ),
            _float(8006, 1894, 70),
            _float(8007, 1896, 70),
            _float(8009, 1890, 70, Scale.DIFFERENCE),
            _float(8011, 1904, 70),
            _float(8012, 1892, 70, Scale.DIFFERENCE),
            _float(9001, 1480, 50, Scale.TEMPERATURE, ALARMS),
            _float(9002, 1482, 50, Scale.TEMPERATURE, ALARMS),
            Entry(
                id=9009,
                kind=Kind.CODE,
                register=1496,
                stride=50,
                instances=ALARMS,
                words=_ALARM_STATES,
            ),
            PROTOCOL,
        )
    }
)
"""Every parameter the drivers and the device models know, by its number."""


def to_celsius(scale: Scale, fahrenheit: float) -> float:
    """Return a number that travelled in Fahrenheit, in Celsius or kelvin."""
    match scale:
        case Scale.PLAIN:
            return fahrenheit
        case Scale.TEMPERATURE:
            return (fahrenheit - 32.0) / 1.8
        case Scale.DIFFERENCE:
            return fahrenheit / 1.8


def to_fahrenheit(scale: Scale, celsius: float) -> float:
    """Return a number in Celsius or kelvin as it travels in Fahrenheit."""
    match scale:
        case Scale.PLAIN:
            return celsius
        case Scale.TEMPERATURE:
            return celsius * 1.8 + 32.0
        case Scale.DIFFERENCE:
            return celsius * 1.8
