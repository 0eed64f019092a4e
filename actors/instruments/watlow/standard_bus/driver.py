"""EZ-ZONE PM controllers on the Standard Bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from actors.command import Plan
from actors.errors import DeviceError
from actors.faults import REJECTED, Fault
from actors.instrument import Directive
from actors.instruments.watlow.entries import (
    CONTROL_MODE,
    DISPLAY_UNITS,
    INPUT_ERROR,
    NO_ERROR,
    PART_NUMBER,
    PROCESS_VALUE,
    PROTOCOL,
    SERIAL_NUMBER,
    Entry,
    WireValue,
)
from actors.instruments.watlow.models import StandardBusModel
from actors.instruments.watlow.zone import EzZone
from actors.member import Identity, Script
from actors.parameter import Parameter
from transports import DeviceModel, Exchange, Framing, Measured, SerialSettings

from .frames import (
    MAX_ADDRESS,
    PREAMBLE,
    READ,
    WRITE,
    ErrorReply,
    Request,
    ValueReply,
    decode_reply,
    encode_request,
    frame_length,
)

_FENCES: Final = (SERIAL_NUMBER, PROTOCOL, DISPLAY_UNITS)


class EzZoneStandardBus(EzZone):
    """An EZ-ZONE PM controller on the Standard Bus, at an address from 1 to 16.

    Temperatures travel in Fahrenheit here, whatever the display shows; they are converted,
    so that all of them are in degrees Celsius. A reply names its sender, class, member and
    instance, and all four are checked; a refusal names its sender only.
    """

    protocol: ClassVar[str] = "watlow"
    framing: ClassVar[Framing] = Measured(frame_length, PREAMBLE)
    serial_settings: ClassVar[SerialSettings | None] = SerialSettings(baudrate=38_400)
    recognised_at: ClassVar[Sequence[SerialSettings]] = (SerialSettings(baudrate=38_400),)
    max_unit: ClassVar[int] = MAX_ADDRESS

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return controllers that share a line."""
        return StandardBusModel([int(each or cls.default_unit or 1) for each in units])

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the frame that begins to carry out `directive`.

        Before a process value the state of its input is asked for.
        """
        if isinstance(directive, Parameter) and self.entry_of(directive) is PROCESS_VALUE:
            return self.read(INPUT_ERROR, instance)
        return super().encode(directive, instance)

    def following(
        self, directive: Directive[Any], instance: int
    ) -> Callable[[bytes], Plan[Any] | None] | None:
        """Have the process value read if its input is well, and what was written read back."""
        if not (isinstance(directive, Parameter) and self.entry_of(directive) is PROCESS_VALUE):
            return super().following(directive, instance)
        step = Plan(
            name=directive.name,
            exchange=self.read(PROCESS_VALUE, instance),
            decode=partial(self.decode, directive),
        )
        return lambda raw: step if _input_error(raw) == NO_ERROR else None

    def identify(self) -> Script[Identity]:
        """Ask for serial number and part number, and whether there is a second loop."""
        serial = self.wire_value(SERIAL_NUMBER, (yield self.read(SERIAL_NUMBER, 1)))
        part = _value_or_none((yield self.read(PART_NUMBER, 1)))
        self.note_loops(_value_or_none((yield self.read(CONTROL_MODE, 2))))
        return self.identity_of(serial, part if isinstance(part, str) else None)

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return a read of something that is not owed; its answer names itself."""
        requests = [each.request for each in owed]
        for entry in _FENCES:
            exchange = self.read(entry, 1)
            if exchange.request not in requests:
                accepts = partial(_names, self.address, READ, entry.id, 1)
                return Exchange(exchange.request, self.unit, self.reply_within_s, accepts)
        return None

    def read(self, entry: Entry, instance: int) -> Exchange:
        """Return the frame that reads a parameter."""
        request = encode_request(Request(self.address, entry.id, instance), entry.kind)
        return self._exchange(request, READ, entry, instance)

    def write(self, entry: Entry, instance: int, wire: WireValue) -> Exchange:
        """Return the frame that writes a parameter."""
        request = encode_request(Request(self.address, entry.id, instance, wire), entry.kind)
        return self._exchange(request, WRITE, entry, instance)

    def wire_value(self, entry: Entry, raw: bytes) -> WireValue | None:
        """Return the value in a reply; None where it says that the input has an error."""
        reply = decode_reply(raw)
        if isinstance(reply, ErrorReply):
            raise DeviceError(_fault(reply, raw))
        if reply.parameter == entry.id:
            return reply.value
        if entry is PROCESS_VALUE and reply.parameter == INPUT_ERROR.id:
            return None
        raise ValueError(f"expected a value of {entry.id}, got one of {reply.parameter}")

    def taken(self, raw: bytes) -> bool:
        """Return whether a reply confirms a write."""
        try:
            reply = decode_reply(raw)
        except ValueError:
            return False
        return isinstance(reply, ValueReply) and reply.service == WRITE

    def refusal(self, raw: bytes) -> Fault:
        """Return the error in a reply."""
        reply = decode_reply(raw)
        if isinstance(reply, ErrorReply):
            return _fault(reply, raw)
        raise ValueError(f"expected an answer to a write, got {raw.hex(' ')}")

    def _exchange(self, request: bytes, service: int, entry: Entry, instance: int) -> Exchange:
        accepts = partial(_answers, self.address, service, entry.id, instance)
        return Exchange(request, self.unit, self.reply_within_s, accepts)


def _answers(address: int, service: int, parameter: int, instance: int, raw: bytes) -> bool:
    """Return whether a frame can be the answer to this request, an error included."""
    try:
        reply = decode_reply(raw)
    except ValueError:
        return False
    if isinstance(reply, ErrorReply):
        return reply.address == address
    named = reply.address, reply.service, reply.parameter, reply.instance
    return named == (address, service, parameter, instance)


def _names(address: int, service: int, parameter: int, instance: int, raw: bytes) -> bool:
    """Return whether a frame is the answer to this request and to no other."""
    try:
        error = isinstance(decode_reply(raw), ErrorReply)
    except ValueError:
        return False
    return not error and _answers(address, service, parameter, instance, raw)


def _value_or_none(raw: bytes) -> WireValue | None:
    """Return the value in a reply, None where the controller has none such."""
    reply = decode_reply(raw)
    return None if isinstance(reply, ErrorReply) else reply.value


def _input_error(raw: bytes) -> WireValue | None:
    """Return the state of an input, None where the reply does not say."""
    try:
        reply = decode_reply(raw)
    except ValueError:
        return None
    if isinstance(reply, ValueReply) and reply.parameter == INPUT_ERROR.id:
        return reply.value
    return None


def _fault(reply: ErrorReply, raw: bytes) -> Fault:
    return Fault(REJECTED, f"it answered {reply.text}", raw)
