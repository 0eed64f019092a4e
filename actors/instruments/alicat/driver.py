"""Instruments of Alicat: several units on one line, each with a letter."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from attrs import evolve

from actors.bus import Bus
from actors.command import Plan
from actors.errors import DeviceError, RefusedError
from actors.faults import (
    IDENTITY_MISMATCH,
    OVER_PRESSURE,
    OVER_RANGE,
    OVER_TEMPERATURE,
    REJECTED,
    SENSOR_ERROR,
    Cause,
    Fault,
    FaultClass,
)
from actors.instrument import Directive, Instrument
from actors.member import Identity, Script
from actors.parameter import Action, Assignment, Parameter, Reading, Setting
from actors.validation import Limits
from transports import (
    GATEWAY,
    RS485,
    BusProfile,
    Exchange,
    Framing,
    Lines,
    ReplyTimeoutError,
    SerialSettings,
)

from .frames import (
    SETPOINT_OF,
    UNITS,
    Accept,
    DataFrame,
    Gas,
    Layout,
    Quantity,
    Statistic,
    accepting,
    accepting_pattern,
    command,
    decimal,
    decode_firmware,
    decode_gases,
    decode_layout,
    decode_maker_table,
    decode_numbers,
    decode_quantities,
    decode_words,
    firmware_shape,
    frame_or_rejection,
    is_rejected,
    last_word,
    numbers_shape,
    poll,
    quantity_shape,
    statistics,
    table_shape,
)

T = TypeVar("T")

QUIET_S: Final = 0.1
"""The silence that ends a table: ten times what the device lets pass between two rows."""

REPLY_S: Final = 0.5
"""How long a reply may take unless the instrument is told otherwise, in seconds."""

MAKER: Final = "Alicat"

_SIGNED: Final = frozenset({Statistic.GAUGE_PRESSURE, Statistic.DIFFERENTIAL_PRESSURE})


class FrameReading(Reading[T]):
    """A column of the data frame; all of them come with one exchange."""


class FrameSetting(Setting[T]):
    """A setting that is read in the data frame and written by a command of its own."""


class Alicat(Instrument):
    """Any Alicat device: what all of them have.

    What its data frame holds is read from the device when it is identified; a parameter
    that is not in it fails as rejected. Every reply is checked against the unit's letter,
    save that to `DV`, which bears none: there the line's step alone says whose it is.

    Attributes:
        layout: What the data frame holds; None before the device was identified.
        gases: The gases the device knows, by short name.
        full_scale: The largest setpoint; None where the device has none or did not say.
        firmware: Its version; "" before the device was identified.
    """

    protocol: ClassVar[str] = "alicat"
    framing: ClassVar[Framing] = Lines(b"\r", strip=b"\n")
    default_unit: ClassVar[str | None] = "A"
    profiles: ClassVar[Mapping[str, BusProfile]] = {
        "serial": RS485,
        "sim": RS485,
        "tcp": evolve(GATEWAY, shared=True),
    }
    serial_settings: ClassVar[SerialSettings | None] = SerialSettings(baudrate=19_200)
    wearing: ClassVar[frozenset[str]] = frozenset(
        {"gas", "mass_flow_unit", "setpoint_source", "tare_absolute_pressure", "unit_id"}
    )
    recognised_at: ClassVar[Sequence[SerialSettings]] = tuple(
        SerialSettings(baudrate=each) for each in (19_200, 9_600, 38_400, 57_600, 115_200)
    )
    recognised_units: ClassVar[Sequence[str]] = tuple("BCDEFGH")
    conditions: ClassVar[Mapping[str, FaultClass]] = {
        "ADC": SENSOR_ERROR,
        "OPL": OVER_PRESSURE,
        "TOV": OVER_TEMPERATURE,
        "POV": OVER_RANGE,
        "P2O": OVER_RANGE,
        "VOV": OVER_RANGE,
        "MOV": OVER_RANGE,
    }
    """What flags of the status say is wrong; the others name what the device is told to do."""
    # What the data frame of such a device must hold, and what it must not.
    needs: ClassVar[Sequence[str]] = ()
    lacks: ClassVar[Sequence[str]] = ()

    status = FrameReading("status", type=str)
    """The flags that are up, separated by spaces. Primer, "Device status codes"."""

    pressure: FrameReading[float] = FrameReading("2")
    temperature: FrameReading[float] = FrameReading("3")

    firmware_version = Reading("VE", type=str)
    """The version of its software: `VE`. Primer, "Device information"."""

    unit_id = Setting("@", type=str, choices=tuple(UNITS), hazardous=True)
    """The unit's letter: `A@ B`. Two units with one letter disturb each other. Primer,
    "Changing the unit ID"."""

    tare_pressure = Action("TP", hazardous=True)
    """Take the pressure now for zero gauge pressure: `TP`. Primer, "Tare"."""

    tare_absolute_pressure = Action("PC", hazardous=True)
    """Calibrate the absolute pressure to the barometer's: `PC`. Primer, "Tare"."""

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make an instrument that has not been identified."""
        super().__init__(name, bus, unit=unit)
        if self.letter not in tuple(UNITS):
            raise ValueError(f"{name}: {unit!r} is no unit id; it is a letter from A to Z")
        self.layout: Layout | None = None
        self.gases: Mapping[str, Gas] = {}
        self.full_scale: Quantity | None = None
        self.firmware = ""
        # The letters that it may go by since it was given them and nobody answered.
        self._may_be: list[str] = []
        # Before the layout is known, nothing fits.
        self._pattern: re.Pattern[bytes] = re.compile(b"(?!)")
        # The last frame that fitted: it need not be taken apart twice.
        self._found: re.Match[bytes] | None = None
        self._accepts: Accept = accepting_pattern(self._pattern)
        self._frame: Exchange | None = None
        self._poll: Plan[DataFrame] | None = None

    @property
    def within_s(self) -> float:
        """How long a reply may take, in seconds."""
        return REPLY_S if self.timeout_s is None else self.timeout_s

    @property
    def letter(self) -> str:
        """The unit's letter."""
        return self.unit or UNITS[0]

    @property
    def kind(self) -> str:
        """What it is, by its data frame: "flow_controller" and so on; "" if not known."""
        if self.layout is None:
            return ""
        medium = "flow" if self.layout.find("mass_flow") is not None else "pressure"
        return f"{medium}_{'meter' if self.layout.find('setpoint') is None else 'controller'}"

    def adopt(self, other: Alicat) -> None:
        """Take over what another driver of the same device learned of it."""
        self.timeout_s = other.timeout_s
        self.gases = other.gases
        self.full_scale = other.full_scale
        self.firmware = other.firmware
        if other.layout is not None:
            self._learn(other.layout)

    # Who it is.

    def identify(self) -> Script[Identity]:
        """Ask for the firmware (`VE`), the maker's table (`??M*`) and the layout (`??D*`).

        Then for the full scale of what a controller controls (`FPF`), and once for the
        gases of a flow device (`??G*`). Primer, "Device information".
        """
        version = yield from self._call()
        raw = yield self._table_exchange("M")
        self._raise_rejection(raw)
        rows = decode_maker_table(raw)
        model, serial = (last_word(rows.get(row), raw) for row in ("M04", "M05"))
        self.firmware = (
            # Firmware before 8v28 has no VE.
            last_word(rows.get("M09"), raw) if is_rejected(version) else decode_firmware(version)
        )
        yield from self._read_layout()
        assert self.layout is not None  # noqa: S101 - the step before sets it or raises
        wrong = [each for each in self.needs if self.layout.find(each) is None]
        wrong += [each for each in self.lacks if self.layout.find(each) is not None]
        if wrong:
            text = f"it is a {model}, which the driver alicat.{self.kind} is for"
            raise DeviceError(Fault(IDENTITY_MISMATCH, text, raw))
        if self.layout.find("gas") is not None and not self.gases:
            raw = yield self._table_exchange("G")
            self._raise_rejection(raw)
            self.gases = decode_gases(raw)
        return Identity(MAKER, model, serial, self.firmware)

    def _call(self) -> Generator[Exchange, bytes, bytes]:
        """Ask for the firmware by each letter that it may go by; go by the one that answers."""
        *others, last = self.letter, *self._may_be
        for letter in others:
            try:
                version = yield self._firmware_exchange(letter)
            except ReplyTimeoutError:
                continue
            self._go_by(letter)
            return version
        version = yield self._firmware_exchange(last)
        self._go_by(last)
        return version

    def _go_by(self, letter: str) -> None:
        """Take note of the letter that it answers to."""
        if self._may_be:
            self._may_be.clear()
            self.bus.keep_units(self.name, ())
        if letter != self.letter:
            self.unit = letter
            self.bus.forget_settings(self.name)
            if self.layout is not None:
                self._learn(self.layout)

    def recognise(self) -> Script[Identity]:
        """Ask for the maker's table (`??M*`) alone. Primer, "Device information"."""
        raw = yield self._table_exchange("M")
        self._raise_rejection(raw)
        rows = decode_maker_table(raw)
        model, serial, firmware = (last_word(rows.get(row), raw) for row in ("M04", "M05", "M09"))
        return Identity(MAKER, model, serial, firmware)

    def _read_layout(self) -> Generator[Exchange, bytes, None]:
        raw = yield self._table_exchange("D")
        self._raise_rejection(raw)
        self._learn(decode_layout(raw))
        exchange = self._full_scale_exchange()
        if exchange is not None:
            raw = yield exchange
            # Old firmware cannot say; then the device itself has to refuse.
            self.full_scale = None if is_rejected(raw) else decode_quantities(raw)[0]

    def _learn(self, layout: Layout) -> None:
        self.layout = layout
        self._forget_plans()
        self._pattern = layout.pattern(self.letter)
        self._accepts = frame_or_rejection(layout, self.letter)

    def _forget_plans(self) -> None:
        """Encode anew: the letter, the layout or the firmware may have changed."""
        self._reads.clear()
        self._safe = None
        self._frame = self._poll = None

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return `VE`, or a poll where a version is owed and nothing like a poll is."""
        version = self._firmware_exchange(self.letter)
        if all(each.request != version.request for each in owed):
            shape = firmware_shape(self.letter)
            return evolve(version, accepts=accepting(self.letter, shape, rejection=False))
        if self.layout is not None and all(each.request == version.request for each in owed):
            return Exchange(
                poll(self.letter), self.unit, self.within_s, accepting_pattern(self._pattern)
            )
        return None

    # What is sent, and what comes back.

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the exchange that carries out `directive`."""
        del instance
        match directive:
            case FrameReading() | FrameSetting():
                return self._frame_exchange()
            case Setting(header="@") | Reading(header="VE"):
                return self._firmware_exchange(self.letter)
            case Parameter(header=header):
                return self._ask(header, self._shape(header))
            case Action(header=header):
                request = command(self.letter, header)
                return Exchange(request, self.unit, self.within_s, self._accepts_frame)
            case Assignment(setting, value):
                return self._write(setting, value)

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply."""
        if isinstance(parameter, (FrameReading, FrameSetting)):
            return self._decode_column(raw, parameter)  # type: ignore[no-any-return]  # the column follows parameter.type
        self._raise_rejection(raw)
        value: Any
        if parameter.header == "@":
            value = self.letter
        elif parameter.header == "VE":
            value = decode_firmware(raw)
        elif parameter.type is float:
            value = decode_numbers(raw[1:])[0]
        elif parameter.type is int:
            value = int(decode_words(raw)[0])
        else:
            value = decode_words(raw)[-1]
        return value  # type: ignore[no-any-return]  # the branches follow parameter.type

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Check that the device took a write, by what it read back."""
        self._raise_rejection(raw)
        match directive:
            case Assignment(setting, value):
                self._check_written(setting, value, raw)
            case Action():
                self._decode_frame(raw)
            case Parameter():
                pass

    def following(
        self, directive: Directive[Any], instance: int
    ) -> Callable[[bytes], Plan[Any] | None] | None:
        """Ask who is there once a unit was given another letter."""
        if isinstance(directive, Assignment) and directive.setting.header == "@":
            return partial(
                self._greet, str(directive.value), partial(self._decode_greeting, directive)
            )
        return super().following(directive, instance)

    def _greet(self, letter: str, decode: Callable[[bytes], None], raw: bytes) -> Plan[Any]:
        del raw
        if letter not in (self.letter, *self._may_be):
            self._may_be.append(letter)
            self.bus.keep_units(self.name, self._may_be)
        # A data frame may come before the answer: captures do not say.
        accepts = accepting(letter, rb"%s +[ -~]+" % letter.encode())
        exchange = Exchange(command(letter, "VE"), letter, self.within_s, accepts, QUIET_S)
        return Plan(name="greeting", exchange=exchange, decode=decode)

    def _decode_greeting(self, directive: Assignment[Any], raw: bytes) -> None:
        letter = str(directive.value)
        shape = accepting(letter, firmware_shape(letter))
        if not shape(raw.rpartition(b"\n")[2]):
            raise ValueError(f"expected unit {letter} to answer, got {raw!r}")
        self._go_by(letter)

    def _check_written(self, setting: Setting[Any], value: Any, raw: bytes) -> None:
        held = decode_words(raw)
        text = self.gases[value].name if setting.name == "gas" else str(value)
        if text not in held:
            raise DeviceError(Fault(REJECTED, f"it holds {' '.join(held)}, not {text}", raw))

    def _write(self, setting: Setting[Any], value: Any) -> Exchange:
        match setting.header:
            case "@":
                taken = self.bus.units().get(value, self.name)
                if taken != self.name:
                    raise self._refused(f"{taken} is unit {value} already", "unit_id.set")
                return Exchange(command(self.letter, f"@ {value}"), self.unit, None)
            case "GS":
                words = f"GS {self.gases[value].number}"
                return self._ask(words, rb"%s +\d+ [ -~]+" % self.letter.encode())
            case header:
                return self._ask(f"{header} {value}", self._shape(header))

    def _shape(self, header: str) -> bytes:
        del header
        return rb"%s +[ -~]+" % self.letter.encode()

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return the poll, for the flags that are up in it."""
        return Plan(name="status", exchange=self._frame_exchange(), decode=self._conditions)

    def _conditions(self, raw: bytes) -> Sequence[Fault]:
        return [
            Fault(self.conditions[flag], f"its status says {flag}", raw)
            for flag in self._decode_frame(raw).status
            if flag in self.conditions
        ]

    def limits_of(self, setting: Setting[T]) -> Limits[T]:
        """Return what values a setting takes on this device."""
        limits: Limits[Any] = super().limits_of(setting)
        if setting.name == "gas" and self.gases:
            limits = evolve(limits, choices=tuple(self.gases))
        return limits

    def unit_of(self, parameter: Parameter[Any]) -> str | None:
        """Return the physical unit that the device's data frame gives a parameter."""
        column = None if self.layout is None else self.layout.find(parameter.name)
        return parameter.unit if column is None else column.unit

    # Everything at once.

    def poll_plans(self) -> Sequence[Plan[Any]]:
        """Return the one poll that gives the whole data frame."""
        if self._poll is None:
            plan = Plan(name="poll", exchange=self._frame_exchange(), decode=self._decode_frame)
            if self.layout is None:
                return (plan,)
            self._poll = plan
        return (self._poll,)

    def polled(self, values: Sequence[Any]) -> Mapping[str, Any]:
        """Return the data frame, which is a mapping."""
        frame: DataFrame = values[0]
        return frame

    def statistics_plan(
        self, wanted: Sequence[str | int], *, averaging_ms: int = 1
    ) -> Plan[Mapping[str, float | None]]:
        """Return the request (`DV`) for statistics averaged over a time.

        Args:
            wanted: `Statistic`s, or their names.
            averaging_ms: The time to average over, 1 to 9999 ms.

        Raises:
            RefusedError: A statistic is not known, there are none or more than 13, or the
                time is out of range (validation).
        """
        try:
            chosen = [
                Statistic.named(each) if isinstance(each, str) else Statistic(each)
                for each in wanted
            ]
            request = statistics(self.letter, chosen, averaging_ms)
        except ValueError as error:
            raise self._refused(str(error), "request") from error
        shape = numbers_shape(len(chosen))
        within_s = self.within_s + averaging_ms / 1000.0
        accepts = accepting(self.letter, shape)
        names = [each.name.lower() for each in chosen]

        def decode(raw: bytes) -> Mapping[str, float | None]:
            self._raise_rejection(raw)
            return dict(zip(names, decode_numbers(raw), strict=True))

        exchange = Exchange(request, self.unit, within_s, accepts)
        return Plan(name="request", exchange=exchange, decode=decode)

    # Exchanges.

    def _ask(self, words: str, shape: bytes) -> Exchange:
        request = command(self.letter, words)
        return Exchange(request, self.unit, self.within_s, accepting(self.letter, shape))

    def _frame_exchange(self) -> Exchange:
        if self._frame is None:
            self._frame = Exchange(poll(self.letter), self.unit, self.within_s, self._accepts_frame)
        return self._frame

    def _accepts_frame(self, raw: bytes) -> bool:
        # What fits changes with the layout, after this was planned.
        found = self._found = self._pattern.fullmatch(raw)
        return found is not None or self._accepts(raw)

    def _firmware_exchange(self, letter: str) -> Exchange:
        unit = self.unit if letter == self.letter else letter
        accepts = accepting(letter, firmware_shape(letter))
        return Exchange(command(letter, "VE"), unit, self.within_s, accepts)

    def _table_exchange(self, letter: Any) -> Exchange:
        accepts = accepting(self.letter, table_shape(self.letter, letter))
        request = command(self.letter, f"??{letter}*")
        return Exchange(request, self.unit, max(self.within_s, REPLY_S), accepts, QUIET_S)

    def _full_scale_exchange(self) -> Exchange | None:
        column = None if self.layout is None else self.layout.find("setpoint")
        if column is None or column.statistic is None:
            return None
        controlled = SETPOINT_OF.get(column.statistic)
        if controlled is None:
            return None
        return self._ask(f"FPF {int(controlled)}", quantity_shape(self.letter, 1))

    # Values.

    def _known_layout(self) -> Layout:
        if self.layout is None:
            raise ValueError("the layout of the device's data frame has not been read")
        return self.layout

    def _match_frame(self, raw: bytes) -> re.Match[bytes] | None:
        found = self._found
        if found is None or found.string is not raw:
            found = self._pattern.fullmatch(raw)
            # A frame has a number, and a rejection none: what is one is not the other.
            if found is None:
                self._raise_rejection(raw)
        return found

    def _decode_frame(self, raw: bytes) -> DataFrame:
        found = self._match_frame(raw)
        return self._known_layout().read(found, raw)

    def _decode_column(self, raw: bytes, parameter: Parameter[Any]) -> Any:
        found = self._match_frame(raw)
        layout = self._known_layout()
        if parameter.name == "status":
            return " ".join(layout.read(found, raw).status)
        try:
            return layout.read_one(found, raw, parameter.name)
        except KeyError:
            text = f"its data frame has no {parameter.name}; it has {', '.join(layout.units)}"
            raise DeviceError(Fault(REJECTED, text)) from None

    def _raise_rejection(self, raw: bytes) -> None:
        if is_rejected(raw):
            raise DeviceError(Fault(REJECTED, "it rejected the request", raw))

    def _refused(self, reason: str, name: str) -> RefusedError:
        return RefusedError(reason, cause=Cause.VALIDATION, instrument=self.name, command=name)


class FlowDevice(Alicat):
    """What flow meters and flow controllers have."""

    needs: ClassVar[Sequence[str]] = ("mass_flow",)

    volumetric_flow: FrameReading[float] = FrameReading("4")
    mass_flow: FrameReading[float] = FrameReading("5")
    total_mass: FrameReading[float] = FrameReading("9")
    """What has flowed since the totaliser was reset, where the data frame has it."""

    gas = FrameSetting("GS", type=str)
    """The gas, by its short name: `GS`. Primer, "Active gas", firmware 10v05 and later."""

    mass_flow_unit = Setting("DCU 5", type=int, low=1, hazardous=True)
    """The unit of mass flow, by its number in the device: `DCU`. Every setpoint means
    something else afterwards. Primer, "Engineering units"."""

    tare_flow = Action("T", hazardous=True)
    """Take the flow now for zero: `T`. Primer, "Tare"."""

    reset_totalizer = Action("T 1", hazardous=True)
    """Set the first totaliser to zero: `T 1`, for a bare `T` tares. Primer, "Totalizers"."""

    def following(
        self, directive: Directive[Any], instance: int
    ) -> Callable[[bytes], Plan[Any] | None] | None:
        """Read the layout and the full scale anew once a unit has changed."""
        if isinstance(directive, Assignment) and directive.setting.header.startswith("DCU"):
            written = partial(self.decode_written, directive)
            return partial(self._relearn, self._read_layout(), written)
        return super().following(directive, instance)

    def _relearn(
        self, script: Generator[Exchange, bytes, None], done: Callable[[bytes], None], raw: bytes
    ) -> Plan[Any] | None:
        if is_rejected(raw):
            return None
        # Earlier settings were meant in another unit.
        self.bus.forget_settings(self.name)

        def step(exchange: Exchange) -> Plan[Any]:
            def then(reply: bytes) -> Plan[Any] | None:
                try:
                    return step(script.send(reply))
                except (StopIteration, DeviceError, ValueError):
                    return None

            return Plan(name="layout", exchange=exchange, decode=lambda _: done(raw), then=then)

        return step(next(script))


class Controller(Alicat):
    """What flow controllers and pressure controllers have."""

    needs: ClassVar[Sequence[str]] = ("setpoint",)

    setpoint: FrameSetting[float] = FrameSetting("LS")
    """What the device controls to: `LS`, read back in its reply. Primer, "Setpoint",
    firmware 9v00 and later."""

    setpoint_source = Setting(
        "LSS", type=str, choices=("S", "A", "U"), hazardous=lambda source: source != "S"
    )
    """Who sets it: S the line, A the analogue input, U the front panel: `LSS`. With A or U the
    device takes no setpoint from the line; what drives it safe takes it back. Primer,
    "Setpoint source"."""

    loop_variable = Reading("LV", type=int)
    """The statistic that is controlled: `LV`. Primer, "Loop control variable"."""

    valve_drive = Reading("VD", unit="%")
    """How far the first valve is driven: `VD`. Primer, "Valve drive", firmware 8v18."""

    hold = Action("HP")
    """Hold the valves where they are: `HP`. Primer, "Valve control"."""

    hold_closed = Action("HC", hazardous=True)
    """Close the valves and hold them: `HC`. Primer, "Valve control"."""

    cancel_hold = Action("C")
    """Control again: `C`. Primer, "Valve control"."""

    exhaust = Action("E", hazardous=True)
    """Close the inlet and open the exhaust valve: `E`. Primer, "Valve control"."""

    def made_safe_plans(self) -> tuple[Plan[object], ...]:
        """Return what drives the device safe, whoever sets its setpoint until then."""
        plans = zip(super().made_safe_plans(), self.safe_state, strict=True)
        return tuple(
            evolve(plan, then=partial(self._take_back, plan))
            if isinstance(each, Assignment) and each.setting.name == "setpoint"
            else plan
            for plan, each in plans
        )

    def _take_back(self, plan: Plan[object], raw: bytes) -> Plan[object] | None:
        """Return what makes the line the source of a setpoint that was not taken."""

        def again(_: bytes) -> Plan[object]:
            return plan

        try:
            plan.decode(raw)
        except DeviceError:
            source = self.encode(Controller.setpoint_source.to("S"))
            return evolve(plan, exchange=source, then=again)
        except ValueError:
            pass
        return None

    def limits_of(self, setting: Setting[T]) -> Limits[T]:
        """Return what values a setting takes: a setpoint no more than the full scale."""
        limits: Limits[Any] = super().limits_of(setting)
        full = self.full_scale
        if setting.name == "setpoint" and full is not None and full.value is not None:
            column = None if self.layout is None else self.layout.find("setpoint")
            controlled = SETPOINT_OF.get((column and column.statistic) or 0)
            low = -full.value if controlled in _SIGNED else 0.0
            limits = evolve(limits, low=low, high=full.value, unit=full.unit)
        return limits

    def _write(self, setting: Setting[Any], value: Any) -> Exchange:
        if setting.name == "setpoint":
            return self._ask(f"LS {decimal(value)}", quantity_shape(self.letter, 2))
        return super()._write(setting, value)

    def _check_written(self, setting: Setting[Any], value: Any, raw: bytes) -> None:
        if setting.name != "setpoint":
            super()._check_written(setting, value, raw)
            return
        _, held = decode_quantities(raw)
        if held.value is None or abs(held.value - value) > 10.0**-held.decimals:
            text = f"it holds a setpoint of {held.value} {held.unit}, not {value}"
            raise DeviceError(Fault(REJECTED, text, raw))
