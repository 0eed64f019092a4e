"""EZ-ZONE PM controllers on Modbus RTU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

from actors.bus import Bus
from actors.command import Priority
from actors.errors import DeviceError, RefusedError
from actors.faults import BUSY, REJECTED, Cause, Fault
from actors.instrument import Directive
from actors.instruments.watlow.entries import (
    CONTROL_MODE,
    DISPLAY_UNITS,
    FAHRENHEIT,
    NO_ERROR,
    PROCESS_VALUE,
    PROTOCOL,
    SERIAL_NUMBER,
    Entry,
    Kind,
    Scale,
    WireValue,
)
from actors.instruments.watlow.models import ModbusModel
from actors.instruments.watlow.zone import DEVICE_FAILURE, EzZone
from actors.member import Identity, Script
from actors.parameter import Assignment
from actors.ticket import Ticket
from transports import DeviceModel, Exchange, Framing, Measured, SerialSettings

from .frames import (
    DEVICE_BUSY,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    MAX_UNIT,
    READ,
    WRITE,
    ErrorReply,
    ReadReply,
    ReadRequest,
    WriteReply,
    WriteRequest,
    decode_reply,
    encode_request,
    float_of_words,
    int_of_words,
    reply_length,
    words_of_float,
    words_of_int,
)

# Every value has two registers; a process value is read with the state of its input.
_PLAIN: Final = 2
_WITH_STATE: Final = 4

_MODBUS: Final = 1057
"""What a controller says of its protocol when it speaks this one."""

# Neighbouring parameters of the first loop, in numbers that nothing else is read in:
# mode, active mode and algorithm; both bands, integral and derivative time.
_FENCES: Final = ((1880, 6), (1890, 8))


class EzZoneModbus(EzZone):
    """An EZ-ZONE PM controller on Modbus RTU, at an address from 1 to 247.

    Temperatures travel in the controller's display units, which are asked for whenever it
    is identified and noted whenever they are read or written through this driver; all of
    them are given in degrees Celsius. A reply to a read names its sender and function but
    not its registers: beside those two its length is checked.

    Class attributes beside those of `EzZone`:

        low_word_first: Which of a value's two registers comes first, as the controller is
            set up.
    """

    protocol: ClassVar[str] = "watlow.modbus"
    framing: ClassVar[Framing] = Measured(reply_length)
    serial_settings: ClassVar[SerialSettings | None] = SerialSettings(baudrate=9_600, parity="E")
    recognised_at: ClassVar[Sequence[SerialSettings]] = tuple(
        SerialSettings(baudrate=each, parity="E") for each in (9_600, 19_200, 38_400)
    )
    max_unit: ClassVar[int] = MAX_UNIT
    low_word_first: ClassVar[bool] = True

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make a controller on `bus` whose units are not known yet.

        Raises:
            ValueError: The unit is no address of the protocol.
        """
        super().__init__(name, bus, unit=unit)
        self.fahrenheit = None

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return controllers that share a line."""
        addresses = [int(each or cls.default_unit or 1) for each in units]
        return ModbusModel(addresses, low_word_first=cls.low_word_first)

    async def submit(
        self,
        directive: Any,
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        wait: bool = True,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[Any]:
        """Have a directive accepted; see `Instrument.submit`.

        Before the first temperature is written, waits until it is known in which units.
        """
        if wait and self._needs_units(directive):
            await super().ask(EzZone.display_units, priority=priority)
        return await super().submit(
            directive,
            instance=instance,
            confirm=confirm,
            priority=priority,
            wait=wait,
            after=after,
        )

    async def ask(
        self,
        directive: Any,
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """Carry out a directive and return its value; see `Instrument.ask`.

        Before the first temperature is written, waits until it is known in which units.
        """
        if self._needs_units(directive):
            await super().ask(EzZone.display_units, priority=priority)
        return await super().ask(directive, instance=instance, confirm=confirm, priority=priority)

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the frame that begins to carry out `directive`.

        Raises:
            RefusedError: It writes a temperature, and in which units is not known yet.
        """
        if self._needs_units(directive):
            raise RefusedError(
                "it has not said yet in which units its temperatures are",
                cause=Cause.BREAKER,
                instrument=self.name,
                command="set",
            )
        return super().encode(directive, instance)

    def _needs_units(self, directive: Directive[Any]) -> bool:
        return (
            self.fahrenheit is None
            and isinstance(directive, Assignment)
            and self.entry_of(directive.setting).scale is not Scale.PLAIN
        )

    def identify(self) -> Script[Identity]:
        """Ask for serial number and units, and whether there is a second loop."""
        serial = self.wire_value(SERIAL_NUMBER, (yield self.read(SERIAL_NUMBER, 1)))
        units = self.wire_value(DISPLAY_UNITS, (yield self.read(DISPLAY_UNITS, 1)))
        if units is None or units not in DISPLAY_UNITS.words:
            raise ValueError(f"expected Fahrenheit or Celsius as its units, got {units!r}")
        self.note(DISPLAY_UNITS, units)
        raw = yield self.read(CONTROL_MODE, 2)
        absent = isinstance(decode_reply(raw), ErrorReply)
        self.note_loops(None if absent else self.wire_value(CONTROL_MODE, raw))
        return self.identity_of(serial)

    def recognise(self) -> Script[Identity]:
        """Ask for the protocol, which names itself in a register, and the serial number.

        Other devices on Modbus have other things in these registers.
        """
        protocol = self.wire_value(PROTOCOL, (yield self.read(PROTOCOL, 1)))
        if protocol != _MODBUS:
            raise ValueError(f"expected the word for Modbus, got {protocol!r}")
        return self.identity_of(self.wire_value(SERIAL_NUMBER, (yield self.read(SERIAL_NUMBER, 1))))

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return a read in a number of registers that is not owed."""
        requests = [each.request for each in owed]
        for register, count in _FENCES:
            request = encode_request(ReadRequest(self.address, register, count))
            if request not in requests:
                accepts = partial(_holds, self.address, count)
                return Exchange(request, self.unit, self.reply_within_s, accepts)
        return None

    def read(self, entry: Entry, instance: int) -> Exchange:
        """Return the frame that reads a parameter; a process value with its input's state."""
        count = _WITH_STATE if entry is PROCESS_VALUE else _PLAIN
        request = ReadRequest(self.address, entry.register_of(instance), count)
        accepts = partial(_answers_read, self.address, count)
        return Exchange(encode_request(request), self.unit, self.reply_within_s, accepts)

    def write(self, entry: Entry, instance: int, wire: WireValue) -> Exchange:
        """Return the frame that writes a parameter."""
        match entry.kind, wire:
            case Kind.FLOAT, (int() | float()):
                words = words_of_float(wire, low_first=self.low_word_first)
            case _, int():
                words = words_of_int(wire, low_first=self.low_word_first)
            case _:
                raise ValueError(f"{wire!r} cannot travel as a {entry.kind.value} over Modbus")
        register = entry.register_of(instance)
        request = encode_request(WriteRequest(self.address, register, words))
        accepts = partial(_answers_write, self.address, register, len(words))
        return Exchange(request, self.unit, self.reply_within_s, accepts)

    def wire_value(self, entry: Entry, raw: bytes) -> WireValue | None:
        """Return the value in a reply; None where its input has an error."""
        reply = decode_reply(raw)
        match reply:
            case ErrorReply():
                raise DeviceError(_fault(reply, raw))
            case ReadReply(_, words) if len(words) == _PLAIN and entry is not PROCESS_VALUE:
                if entry.kind is Kind.FLOAT:
                    return float_of_words(words, low_first=self.low_word_first)
                return int_of_words(words, low_first=self.low_word_first)
            case ReadReply(_, words) if len(words) == _WITH_STATE and entry is PROCESS_VALUE:
                state = int_of_words(words[_PLAIN:], low_first=self.low_word_first)
                if state != NO_ERROR:
                    return None
                return float_of_words(words[:_PLAIN], low_first=self.low_word_first)
            case _:
                raise ValueError(f"expected the registers of {entry.id}, got {raw.hex(' ')}")

    def taken(self, raw: bytes) -> bool:
        """Return whether a reply confirms a write."""
        try:
            return isinstance(decode_reply(raw), WriteReply)
        except ValueError:
            return False

    def refusal(self, raw: bytes) -> Fault:
        """Return the exception in a reply."""
        reply = decode_reply(raw)
        if isinstance(reply, ErrorReply):
            return _fault(reply, raw)
        raise ValueError(f"expected an answer to a write, got {raw.hex(' ')}")

    def note(self, entry: Entry, wire: WireValue) -> None:
        """Learn which units temperatures travel in."""
        if entry is DISPLAY_UNITS:
            self.fahrenheit = wire == FAHRENHEIT


class EzZoneModbusHighWordFirst(EzZoneModbus):
    """An EZ-ZONE PM controller on Modbus RTU that is set up to send the high word first."""

    recognised_at: ClassVar[Sequence[SerialSettings]] = (SerialSettings(parity="E"),)
    low_word_first: ClassVar[bool] = False


def _answers_read(unit: int, count: int, raw: bytes) -> bool:
    """Return whether a frame can be the answer to this read, an error included."""
    try:
        reply = decode_reply(raw)
    except ValueError:
        return False
    if isinstance(reply, ErrorReply):
        return (reply.unit, reply.function) == (unit, READ)
    return isinstance(reply, ReadReply) and (reply.unit, len(reply.words)) == (unit, count)


def _answers_write(unit: int, register: int, count: int, raw: bytes) -> bool:
    """Return whether a frame can be the answer to this write, an error included."""
    try:
        reply = decode_reply(raw)
    except ValueError:
        return False
    if isinstance(reply, ErrorReply):
        return (reply.unit, reply.function) == (unit, WRITE)
    return reply == WriteReply(unit, register, count)


def _holds(unit: int, count: int, raw: bytes) -> bool:
    """Return whether a frame holds that many registers of the unit."""
    try:
        reply = decode_reply(raw)
    except ValueError:
        return False
    return isinstance(reply, ReadReply) and (reply.unit, len(reply.words)) == (unit, count)


def _fault(reply: ErrorReply, raw: bytes) -> Fault:
    if reply.code in (ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE):
        kind = REJECTED
    else:
        kind = BUSY if reply.code == DEVICE_BUSY else DEVICE_FAILURE
    return Fault(kind, f"it answered {reply.text}", raw)
