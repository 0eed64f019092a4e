"""Alicat devices on one shared line; pure.

What is simulated: flow that follows its setpoint, valves that hold, gases that make a
laminar element read high or low, a totaliser, and the status flags that follow from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from attrs import frozen

from transports import DeviceModel, SimReply

from .frames import LONGEST_AVERAGE_MS, MOST_STATISTICS, SETPOINT_OF, UNITS, Statistic

Kind = Literal["flow_meter", "flow_controller", "pressure_meter", "pressure_controller"]

LONGEST_REQUEST: Final = 256

STREAM_INTERVAL_S: Final = 0.05
STREAM_BURST: Final = 20

STANDARD_PSIA: Final = 14.696
STANDARD_K: Final = 298.15


@frozen
class GasProperties:
    """A gas of the device's table.

    Attributes:
        number: Its number in the device.
        name: Its short name.
        long_name: Its long name.
        viscosity_up: Its viscosity at 25 degrees, in micropoise: a laminar element shows
            a flow in inverse proportion to it.
    """

    number: int
    name: str
    long_name: str
    viscosity_up: float


GASES: Final[Mapping[str, GasProperties]] = {
    each.name: each
    for each in (
        GasProperties(0, "Air", "Air", 184.9),
        GasProperties(1, "Ar", "Argon", 226.2),
        GasProperties(2, "CH4", "Methane", 111.9),
        GasProperties(3, "CO", "Carbon_Monoxide", 177.9),
        GasProperties(4, "CO2", "Carbon_Dioxide", 149.3),
        GasProperties(6, "H2", "Hydrogen", 89.2),
        GasProperties(7, "He", "Helium", 198.5),
        GasProperties(8, "N2", "Nitrogen", 178.1),
        GasProperties(11, "O2", "Oxygen", 205.5),
    )
}

_MODELS: Final[Mapping[str, str]] = {
    "flow_meter": "M-{:g}SCCM-D",
    "flow_controller": "MC-{:g}SCCM-D",
    "pressure_meter": "P-{:g}PSIA-D",
    "pressure_controller": "PC-{:g}PSIA-D",
}

_FLAGS: Final = ("OPL", "POV", "P2O", "TOV", "VOV", "MOV", "TMF", "OVR", "COM", "HLD", "EXH")

# What a flow device bears, and the most its thermometer shows.
_LIMIT_PSIA: Final = 160.0
_HOTTEST_C: Final = 60.0

# Unit numbers by their names, and by how much they divide SCCM.
_FLOW_UNITS: Final[Mapping[int, tuple[str, float]]] = {12: ("SCCM", 1.0), 7: ("SLPM", 1000.0)}


class AlicatUnit:
    """One device on the line.

    Attributes:
        letter: Its unit id.
        kind: What it is.
        full_scale: The most it measures, in SCCM or PSIA.
        setpoint: What it controls to, in SCCM or PSIA.
        flow: What flows, in SCCM.
        inlet: What flows through a meter, in SCCM.
        pressure: In PSIA.
        temperature: In degrees Celsius.
        gas: The gas it is set to.
        true_gas: The gas that flows; None for the one it is set to.
        held: Whether the valves are held, and if so whether closed.
        exhausting: Whether the exhaust valve is open.
        total: What has flowed since the totaliser was reset, in standard cubic centimetres.
        streaming: Whether it sends by itself and answers nothing.
        source: Who sets the setpoint.
        old: Whether it has the layout table of older firmware.
        heard: How many requests it was given.
    """

    def __init__(
        self,
        letter: str,
        kind: Kind = "flow_controller",
        *,
        full_scale: float | None = None,
        time_constant_s: float = 0.15,
        serial: str | None = None,
        old: bool = False,
    ) -> None:
        """Switch it on: nothing flows."""
        index = UNITS.index(letter)
        flows = kind in ("flow_meter", "flow_controller")
        self.letter = letter
        self.kind: Kind = kind
        self.full_scale = full_scale or (500.0 if flows else 100.0)
        self.setpoint = 0.0
        self.flow = 0.0
        self.inlet = 0.0
        # Each a little different, so that no value can be taken for another unit's.
        self.pressure = 14.0 + index
        self.temperature = 20.0 + 0.5 * index
        self.gas = GASES["N2" if flows else "Air"]
        self.true_gas: GasProperties | None = None
        self.held: Literal["", "HP", "HC"] = ""
        self.exhausting = False
        self.total = 0.0
        self.overrun = False
        self.streaming = False
        self.source = "S"
        self.old = old
        self.heard = 0
        self._serial = serial or str(521_641 + index)
        self._time_constant_s = time_constant_s
        self._flow_unit = 12
        self._zero = 0.0
        self._now_s: float | None = None

    def __repr__(self) -> str:
        """Return the letter, the kind and what flows."""
        return f"<AlicatUnit {self.letter} {self.kind} flow={self.flow:.2f}>"

    @property
    def flows(self) -> bool:
        """Whether it measures flow."""
        return self.kind.startswith("flow")

    @property
    def controls(self) -> bool:
        """Whether it has a setpoint."""
        return self.kind.endswith("controller")

    @property
    def model(self) -> str:
        """The model number."""
        return _MODELS[self.kind].format(self.full_scale)

    @property
    def shown(self) -> float:
        """The mass flow it shows, in SCCM: a wrong gas makes it show a wrong flow."""
        true_gas = self.true_gas or self.gas
        return self.flow * true_gas.viscosity_up / self.gas.viscosity_up - self._zero

    @property
    def status(self) -> list[str]:
        """The flags that are up."""
        up = {
            "OPL": self.flows and self.pressure > _LIMIT_PSIA,
            "TOV": self.temperature > _HOTTEST_C,
            "MOV": self.flows and abs(self.shown) > 1.28 * self.full_scale,
            "POV": not self.flows and self.pressure > 1.28 * self.full_scale,
            "OVR": self.overrun,
            "HLD": bool(self.held),
            "EXH": self.exhausting,
        }
        return [flag for flag in _FLAGS if up.get(flag)]

    def advance(self, now_s: float) -> None:
        """Let time pass: flow and pressure approach where they are driven to."""
        before_s, self._now_s = self._now_s, now_s
        elapsed_s = 0.0 if before_s is None else max(0.0, now_s - before_s)
        share = 1.0 - math.exp(-elapsed_s / self._time_constant_s)
        was = self.flow
        if not self.controls:
            target = self.inlet
        elif self.held == "HC" or self.exhausting:
            target = 0.0
        elif self.held == "HP":
            target = self.flow
        else:
            target = self.setpoint if self.flows else 0.0
        self.flow += (target - self.flow) * share
        self.total += (was + self.flow) / 2.0 * elapsed_s / 60.0
        if self.total > 9_999_999.0:
            self.total, self.overrun = 0.0, True
        if self.controls and not self.flows and not self.held:
            self.pressure += (self.setpoint - self.pressure) * share

    def reset(self) -> None:
        """Cycle the power."""
        self.setpoint = 0.0
        self.held, self.exhausting, self.streaming = "", False, False

    def answer(self, words: str) -> list[str]:
        """Return the lines that answer a request, given without the letter."""
        self.heard += 1
        head, *rest = words.split() or [""]
        table = {"??M*": self._maker_rows, "??D*": self._layout_rows, "??G*": self._gas_rows}
        if head in table:
            return table[head]()
        simple: dict[str, Callable[[list[str]], str | None]] = {
            "": lambda _: self.frame(),
            "VE": lambda _: None if self.old else f"{self.letter}   {self._firmware}",
            "DV": self._statistics,
            "LS": self._set_setpoint,
            "LSS": self._set_source,
            "LV": lambda _: f"{self.letter} {37 if self.flows else 34}",
            "FPF": self._full_scale,
            "DCU": self._set_unit,
            "GS": self._set_gas,
            "VD": lambda _: f"{self.letter} {self._drive():.2f}",
            "T": self._tare,
            "TP": lambda _: self.frame(),
            "PC": lambda _: self.frame(),
            "HP": lambda _: self._hold("HP"),
            "HC": lambda _: self._hold("HC"),
            "C": lambda _: self._hold(""),
            "E": self._exhaust,
        }
        controls_only = head in {"LS", "LSS", "LV", "VD", "HP", "HC", "C", "E"}
        flows_only = head in {"GS", "T", "DCU"}
        carried_out = simple.get(head)
        if (
            carried_out is None
            or (controls_only and not self.controls)
            or (flows_only and not self.flows)
        ):
            return [f"{self.letter} ?"]
        try:
            answer = carried_out(rest)
        except (ValueError, IndexError, KeyError):
            answer = None
        if answer is None:
            # A rejected DV bears no letter either.
            return ["?" if head == "DV" else f"{self.letter} ?"]
        return [answer]

    def frame(self) -> str:
        """Return the data frame."""
        columns = [self._value(code) for code in self._columns()]
        text = " ".join(_number(each) for each in columns)
        gas = f" {self.gas.name:>6}" if self.flows else ""
        flags = "".join(f" {flag}" for flag in self.status)
        return f"{'@' if self.streaming else self.letter} {text}{gas}{flags}"

    @property
    def _firmware(self) -> str:
        return "5v12" if self.old else "10v20.0-R24 Jan  9 2025,15:04:07"

    def _columns(self) -> list[Statistic]:
        if self.flows:
            codes = [
                Statistic.PRESSURE,
                Statistic.TEMPERATURE,
                Statistic.VOLUMETRIC_FLOW,
                Statistic.MASS_FLOW,
            ]
            return codes + ([Statistic.MASS_FLOW_SETPOINT] if self.controls else [])
        return [Statistic.PRESSURE] + ([Statistic.PRESSURE_SETPOINT] if self.controls else [])

    def _value(self, code: int) -> float | None:
        factor = _FLOW_UNITS[self._flow_unit][1]
        values: dict[int, float] = {Statistic.PRESSURE: self.pressure}
        if self.flows:
            kelvin = self.temperature + 273.15
            volume = self.shown * STANDARD_PSIA / self.pressure * kelvin / STANDARD_K
            values[Statistic.TEMPERATURE] = self.temperature
            values[Statistic.VOLUMETRIC_FLOW] = volume
            values[Statistic.MASS_FLOW] = self.shown / factor
            values[Statistic.TOTAL_MASS] = self.total
        if self.controls:
            code_of = Statistic.MASS_FLOW_SETPOINT if self.flows else Statistic.PRESSURE_SETPOINT
            values[code_of] = self.setpoint / (factor if self.flows else 1.0)
        return values.get(code)

    def _unit(self, code: int) -> tuple[int, str]:
        if code in (Statistic.MASS_FLOW, Statistic.MASS_FLOW_SETPOINT):
            return self._flow_unit, _FLOW_UNITS[self._flow_unit][0]
        if code == Statistic.VOLUMETRIC_FLOW:
            return 12, "CCM"
        return (2, "`C") if code == Statistic.TEMPERATURE else (10, "PSIA")

    def _maker_rows(self) -> list[str]:
        rows = {
            "M00": "ALICAT SCIENTIFIC",
            "M01": "www.example.com",
            "M02": "Ph 000-000-0000",
            "M03": "simulated",
            "M04": f"Model Number {self.model}",
            "M05": f"Serial Number {self._serial}",
            "M06": "Date Manufactured 01/01/2025",
            "M07": "Date Calibrated   01/01/2025",
            "M08": "Calibrated By     XX",
            "M09": f"Software Revision {self._firmware.split()[0]}",
        }
        return [f"{self.letter}  {row} {text}" for row, text in rows.items()]

    def _layout_rows(self) -> list[str]:
        labels = {
            Statistic.PRESSURE: "Abs Press",
            Statistic.TEMPERATURE: "Flow Temp",
            Statistic.VOLUMETRIC_FLOW: "Volu Flow",
            Statistic.MASS_FLOW: "Mass Flow",
            Statistic.MASS_FLOW_SETPOINT: "Mass Flow Setpt",
            Statistic.PRESSURE_SETPOINT: "Abs Press Setpt",
        }
        rows: list[str] = []
        if self.old:
            rows.append("NAME_______________________ TYPE_____ MinVal_ MaxVal_ UNITS__")
            rows.append(f"{'Unit ID':27} char      A       Z       na")
            for code in self._columns():
                unit = self._unit(code)[1].strip("`")
                rows.append(f"{labels[code]:27} signed    -999.99 +999.99 {unit}")
            if self.flows:
                rows.append(f"{'Gas':27} string    na      na      na")
            rows += [f"{'Status':27} string    na      {flag}     na" for flag in _FLAGS]
        else:
            rows.append("ID_ NAME______________________ TYPE_______ WIDTH NOTES______")
            rows.append(f"700 {'Unit ID':26} string          1")
            for code in self._columns():
                number, unit = self._unit(code)
                rows.append(
                    f"{int(code):03} {labels[code]:26} s decimal     7/2 {number:03} 02 {unit}"
                )
            if self.flows:
                rows.append(f"703 {'Gas':26} string          6")
            rows.append(f"701 {'*Error':26} string          3 ADC")
            rows += [f"702 {'*Status':26} string          3 {flag}" for flag in _FLAGS]
        return [f"{self.letter} D{index:02} {row}" for index, row in enumerate(rows)]

    def _gas_rows(self) -> list[str]:
        if not self.flows:
            return [f"{self.letter} ?"]
        return [f"{self.letter} G{gas.number:02} {gas.name:>8}" for gas in GASES.values()]

    def _statistics(self, words: list[str]) -> str | None:
        averaging_ms, *codes = (int(word) for word in words)
        if not 1 <= averaging_ms <= LONGEST_AVERAGE_MS or not 1 <= len(codes) <= MOST_STATISTICS:
            return None
        return " ".join(_number(self._value(code)) for code in codes)

    def _set_setpoint(self, words: list[str]) -> str | None:
        factor = _FLOW_UNITS[self._flow_unit][1] if self.flows else 1.0
        code, unit = self._unit(Statistic.MASS_FLOW if self.flows else Statistic.PRESSURE)
        before = self.setpoint
        if words and self.source == "S":
            wanted = float(words[0]) * factor
            if not 0.0 <= wanted <= self.full_scale:
                return None
            self.setpoint = wanted
        shown = before if words else self.setpoint
        return (
            f"{self.letter} {_number(shown / factor)} {_number(self.setpoint / factor)} "
            f"{code} {unit}"
        )

    def _set_source(self, words: list[str]) -> str | None:
        if words and words[0] not in ("S", "A", "U"):
            return None
        self.source = words[0] if words else self.source
        return f"{self.letter} {self.source}"

    def _full_scale(self, words: list[str]) -> str | None:
        code = int(words[0])
        if self.old or code in SETPOINT_OF or self._value(code) is None:
            return None
        number, unit = self._unit(code)
        factor = _FLOW_UNITS[self._flow_unit][1] if self.flows else 1.0
        return f"{self.letter} {_number(self.full_scale / factor)} {number} {unit}"

    def _set_unit(self, words: list[str]) -> str | None:
        code = int(words[0])
        if len(words) > 1:
            if code != Statistic.MASS_FLOW or int(words[1]) not in _FLOW_UNITS:
                return None
            self._flow_unit = int(words[1])
        number, unit = self._unit(code)
        return f"{self.letter} {number} {unit}"

    def _set_gas(self, words: list[str]) -> str | None:
        if words:
            self.gas = next(gas for gas in GASES.values() if gas.number == int(words[0]))
        return f"{self.letter} {self.gas.number} {self.gas.name} {self.gas.long_name}"

    def _drive(self) -> float:
        closed = self.held == "HC" or self.exhausting
        return 0.0 if closed else 100.0 * self.setpoint / self.full_scale

    def _tare(self, words: list[str]) -> str:
        if words:
            self.total, self.overrun = 0.0, False
        else:
            self._zero += self.shown
        return self.frame()

    def _hold(self, held: Literal["", "HP", "HC"]) -> str:
        self.held = held
        if not held:
            self.exhausting = False
        return self.frame()

    def _exhaust(self, words: list[str]) -> str:
        del words
        self.exhausting = True
        return self.frame()


class AlicatLineModel:
    """Any number of Alicat units on one line. Nobody answers for a unit that is not there.

    Attributes:
        units: The units, by their letters.
    """

    def __init__(self, units: Sequence[AlicatUnit], *, reply_s: float = 0.0) -> None:
        """Connect the units; each takes `reply_s` seconds to answer."""
        self.units = {each.letter: each for each in units}
        self.reply_s = reply_s
        self._held = b""

    def __repr__(self) -> str:
        """Return the letters."""
        return f"<AlicatLineModel {''.join(self.units)}>"

    @classmethod
    def of(cls, kind: Kind, letters: Sequence[str | None]) -> DeviceModel:
        """Return a line of units of one kind; None stands for unit A."""
        return cls([AlicatUnit(letter or UNITS[0], kind) for letter in letters])

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer the requests that `data` completes."""
        *lines, self._held = (self._held + data).split(b"\r")
        self._held = self._held[-LONGEST_REQUEST:]
        for unit in self.units.values():
            unit.advance(now_s)
        replies: list[SimReply] = []
        for line in lines:
            replies += self._answer(line.decode("latin-1").strip())
        for unit in self.units.values():
            if unit.streaming and data:
                frame = f"{unit.frame()}\r".encode()
                replies += [SimReply(frame, STREAM_INTERVAL_S, unit.letter)] * STREAM_BURST
        return replies

    def reset(self, now_s: float) -> None:
        """Cycle the power of all units."""
        self._held = b""
        for unit in self.units.values():
            unit.advance(now_s)
            unit.reset()

    def setpoints(self) -> dict[str, float]:
        """Return the setpoints by letter, for those who ask from another process."""
        return {letter: unit.setpoint for letter, unit in self.units.items()}

    def _answer(self, line: str) -> Sequence[SimReply]:
        if line.startswith("@@"):
            # Whoever streams takes that letter, and stops.
            for unit in tuple(self.units.values()):
                if unit.streaming:
                    unit.streaming = False
                    self._rename(unit, line[2:].strip())
            return []
        asked = self.units.get(line[:1])
        return [] if asked is None or asked.streaming else self._answer_as(asked, line)

    def _answer_as(self, unit: AlicatUnit, line: str) -> Sequence[SimReply]:
        if line[1:].lstrip().startswith("@"):
            letter = line.rpartition("@")[2].strip()
            if letter in UNITS and letter:
                self._rename(unit, letter)
            unit.streaming = not letter
            return []
        return [
            SimReply(f"{text}\r".encode("latin-1"), self.reply_s, unit.letter)
            for text in unit.answer(line[1:].strip())
        ]

    def _rename(self, unit: AlicatUnit, letter: str) -> None:
        del self.units[unit.letter]
        unit.letter = letter
        self.units[letter] = unit


def make_line(
    units: str = "A",
    kind: Kind = "flow_controller",
    *,
    full_scale: float | None = None,
    reply_s: float = 0.0,
) -> AlicatLineModel:
    """Return a line with a unit of one kind for each letter of `units`."""
    made = [AlicatUnit(letter, kind, full_scale=full_scale) for letter in units]
    return AlicatLineModel(made, reply_s=reply_s)


def _number(value: float | None) -> str:
    return "--" if value is None else f"{value:+07.2f}"
