"""Controllers that share a line, on the Standard Bus or Modbus RTU; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from actors.instruments.watlow.entries import (
    CELSIUS,
    ENTRIES,
    Entry,
    Kind,
    to_celsius,
    to_fahrenheit,
)
from actors.instruments.watlow.modbus import frames as modbus
from actors.instruments.watlow.standard_bus import frames as standard
from transports.sim import SimReply

from .controller import ControllerModel, Refusal, RefusalError

THINKING_S: Final = 0.004
"""How long a controller takes for an answer, in seconds."""

SILENCE_S: Final = 0.05
"""After this long without a byte, in seconds, a new request begins."""

_CODES: Final[Mapping[Refusal, int]] = {
    Refusal.NO_OBJECT: standard.NO_OBJECT,
    Refusal.NO_ATTRIBUTE: standard.NO_ATTRIBUTE,
    Refusal.NO_INSTANCE: standard.NO_INSTANCE,
    Refusal.READ_ONLY: standard.ACCESS_DENIED,
}


class _LineModel:
    """What both kinds of line share: controllers, and half a request.

    Attributes:
        controllers: Them, by address.
    """

    def __init__(
        self, controllers: Sequence[ControllerModel | int], *, loops: int, protocol: int
    ) -> None:
        made = [
            ControllerModel(each, loops=loops, protocol=protocol) if isinstance(each, int) else each
            for each in controllers
        ]
        self.controllers: Final = {each.address: each for each in made}
        self._held = b""
        self._last_s = float("-inf")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(str, self.controllers))}>"

    def reset(self, now_s: float) -> None:
        """Cycle the power: half a request is lost, settings and physics stay."""
        self._held = b""
        for controller in self.controllers.values():
            controller.advance(now_s)

    def _hear(self, data: bytes, now_s: float) -> None:
        """Take bytes; silence ends what came before them."""
        if now_s - self._last_s > SILENCE_S:
            self._held = b""
        self._held += data
        self._last_s = now_s

    def _asked(self, address: int, now_s: float) -> ControllerModel | None:
        controller = self.controllers.get(address)
        if controller is not None:
            controller.advance(now_s)
        return controller


class StandardBusModel(_LineModel):
    """Controllers on one Standard Bus; damaged requests are ignored.

    Args:
        controllers: The controllers, or the addresses of usual ones.
        loops: How many loops the usual ones have.
        thinking_s: How long they take to answer, in seconds.
    """

    def __init__(
        self,
        controllers: Sequence[ControllerModel | int] = (1,),
        *,
        loops: int = 2,
        thinking_s: float = THINKING_S,
    ) -> None:
        super().__init__(controllers, loops=loops, protocol=1286)
        self._thinking_s = thinking_s

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Take bytes as they arrive, whole requests or parts, and return the replies."""
        self._hear(data, now_s)
        replies: list[SimReply] = []
        while (frame := self._next_frame()) is not None:
            request = standard.decode_request(frame)
            controller = None if request is None else self._asked(request.address, now_s)
            if request is not None and controller is not None:
                answer = _answer_standard(controller, request)
                replies.append(SimReply(answer, self._thinking_s, str(controller.address)))
        return replies

    def _next_frame(self) -> bytes | None:
        while (start := self._held.find(standard.PREAMBLE)) >= 0:
            self._held = self._held[start:]
            length = standard.frame_length(self._held)
            if length is None or len(self._held) < length:
                return None
            if length:
                frame, self._held = self._held[:length], self._held[length:]
                return frame
            # The length cannot be believed: the next preamble may be right behind it.
            self._held = self._held[len(standard.PREAMBLE) :]
        return None


class ModbusModel(_LineModel):
    """Controllers on one Modbus RTU line; damaged requests are ignored.

    Args:
        controllers: The controllers, or the addresses of usual ones.
        loops: How many loops the usual ones have.
        low_word_first: Which of a value's two registers comes first.
    """

    def __init__(
        self,
        controllers: Sequence[ControllerModel | int] = (1,),
        *,
        loops: int = 2,
        low_word_first: bool = True,
    ) -> None:
        super().__init__(controllers, loops=loops, protocol=1057)
        self._low_first = low_word_first
        self._places: Final = {
            entry.register_of(instance): (entry, instance)
            for entry in ENTRIES.values()
            if entry.register is not None
            for instance in range(1, entry.instances + 1)
        }

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Take bytes as they arrive, whole requests or parts, and return the replies."""
        self._hear(data, now_s)
        replies: list[SimReply] = []
        while (request := self._next_request()) is not None:
            controller = self._asked(request.unit, now_s)
            if controller is not None:
                answer = modbus.encode_reply(self._answer(controller, request))
                replies.append(SimReply(answer, THINKING_S, str(controller.address)))
        return replies

    def _next_request(self) -> modbus.Request | None:
        length = modbus.request_length(self._held)
        if length is None or len(self._held) < length:
            return None
        request = modbus.decode_request(self._held[:length]) if length else None
        # Where a damaged request ends cannot be told: only silence begins the next one.
        self._held = b"" if request is None else self._held[length:]
        return request

    def _answer(self, controller: ControllerModel, request: modbus.Request) -> modbus.Reply:
        illegal = modbus.ILLEGAL_ADDRESS
        match request:
            case modbus.ReadRequest(unit, register, count):
                words = self._read(controller, register, count)
                if words is None:
                    return modbus.ErrorReply(unit, modbus.READ, illegal)
                return modbus.ReadReply(unit, words)
            case modbus.WriteRequest(unit, register, words):
                place = self._places.get(register)
                if place is None or len(words) != 2 or not controller.has(*place):
                    return modbus.ErrorReply(unit, modbus.WRITE, illegal)
                try:
                    controller.write(place[0].id, place[1], self._value(controller, place, words))
                except RefusalError:
                    return modbus.ErrorReply(unit, modbus.WRITE, illegal)
                return modbus.WriteReply(unit, register, len(words))

    def _read(self, controller: ControllerModel, register: int, count: int) -> Sequence[int] | None:
        """Return the content of registers; None where one of them does not exist."""
        words: list[int] = []
        first = register - 1 if register - 1 in self._places else register
        for each in range(first, register + count, 2):
            place = self._places.get(each)
            if place is None or not controller.has(*place):
                return None
            words += self._words(controller, place)
        skipped = register - first
        return words[skipped : skipped + count]

    def _words(self, controller: ControllerModel, place: tuple[Entry, int]) -> Sequence[int]:
        entry, instance = place
        value = controller.read(entry.id, instance)
        if isinstance(value, str):
            raise TypeError(f"{entry.id} is a text and has no registers")
        if entry.kind is not Kind.FLOAT:
            return modbus.words_of_int(int(value), low_first=self._low_first)
        if controller.display_units == CELSIUS:
            value = to_celsius(entry.scale, value)
        return modbus.words_of_float(value, low_first=self._low_first)

    def _value(
        self, controller: ControllerModel, place: tuple[Entry, int], words: Sequence[int]
    ) -> float:
        entry, _ = place
        if entry.kind is not Kind.FLOAT:
            return modbus.int_of_words(words, low_first=self._low_first)
        value = modbus.float_of_words(words, low_first=self._low_first)
        celsius = controller.display_units == CELSIUS
        return to_fahrenheit(entry.scale, value) if celsius else value


def _answer_standard(controller: ControllerModel, request: standard.Request) -> bytes:
    number, instance = request.parameter, request.instance
    service = standard.READ if request.value is None else standard.WRITE
    try:
        if request.value is None:
            value = controller.read(number, instance)
        else:
            controller.write(number, instance, request.value)
            # A write is answered with what was sent, whether it is kept or not.
            value = request.value
    except RefusalError as refusal:
        return standard.encode_reply(standard.ErrorReply(controller.address, _CODES[refusal.why]))
    reply = standard.ValueReply(controller.address, service, number, instance, value)
    return standard.encode_reply(reply, ENTRIES[number].kind)
