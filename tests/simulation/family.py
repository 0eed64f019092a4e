"""A family of zone controllers that share a line; requests and replies name the unit.

A request is `@3 PV?` or `@3 SP=50.0`, its reply begins with the same word up to the sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from attrs import define

from actors import (
    Action,
    Assignment,
    DeviceError,
    Fault,
    FaultClass,
    Identity,
    Instrument,
    Parameter,
    Reading,
    Script,
    Setting,
)
from transports import DeviceModel, Exchange, Framing, Lines, SimReply

T = TypeVar("T")

REFUSED = FaultClass("REFUSED")


@define
class Zone:
    """One unit."""

    setpoint: float = 20.0
    on: bool = False
    answered: int = 0


class ZonesModel:
    """The units on one line. Every reading is another one, so that none passes for another.

    Attributes:
        zones: The units by their addresses.
    """

    def __init__(self, units: Sequence[str]) -> None:
        """Put these units on the line."""
        self.zones = {unit: Zone() for unit in units}
        self._held = b""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer the requests that `data` completes."""
        del now_s
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[-256:]
        return [reply for line in lines if (reply := self._answer(line.decode())) is not None]

    def reset(self, now_s: float) -> None:
        """Forget settings and half a request."""
        del now_s
        self._held = b""
        for zone in self.zones.values():
            zone.setpoint, zone.on = 20.0, False

    def _answer(self, line: str) -> SimReply | None:
        address, _, request = line.partition(" ")
        zone = self.zones.get(address.removeprefix("@"))
        if zone is None:
            return None
        name, sign, value = request[:2], request[2:3], request[3:]
        if sign == "=":
            match name:
                case "SP":
                    zone.setpoint = float(value)
                case "ON":
                    zone.on = value == "1"
                case _:
                    value = "!"
        else:
            zone.answered += 1
            match name:
                case "PV":
                    value = f"{20.0 + zone.answered / 1024:.6f}"
                case "PO":
                    value = f"{zone.answered / 4096:.6f}"
                case "SP":
                    value = repr(zone.setpoint)
                case "ON":
                    value = str(int(zone.on))
                case "ID":
                    value = f"acme zone SN{address[1:]}"
                case _:
                    value = "!"
        reply = f"{address} {name}{sign}{value}\n"
        return SimReply(reply.encode(), delay_s=0.002, unit=address[1:])


class ZoneController(Instrument):
    """One zone of a furnace."""

    protocol: ClassVar[str] = "zone"
    framing: ClassVar[Framing] = Lines(b"\n")

    process_value = Reading("PV", unit="degC")
    power = Reading("PO", unit="%")
    setpoint = Setting("SP", unit="degC", low=0.0, high=400.0)
    heater = Setting("ON", type=bool, hazardous=lambda on: on)

    safe_state = (heater.to(False),)

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return all units on one line."""
        return ZonesModel([unit for unit in units if unit is not None])

    def encode(
        self, directive: Parameter[Any] | Assignment[Any] | Action, instance: int = 1
    ) -> Exchange:
        """Return the line that carries out `directive`."""
        del instance  # a unit has one loop
        match directive:
            case Assignment(setting, value):
                return self._exchange(
                    f"{setting.header}=", repr(value) if setting.type is float else str(int(value))
                )
            case _:
                return self._exchange(f"{directive.header}?")

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply."""
        text = raw.decode("ascii").partition("?")[2]
        if text == "!":
            raise DeviceError(Fault(REFUSED, "it does not know that", raw))
        if parameter.type is bool and text not in ("0", "1"):
            raise ValueError(f"expected 0 or 1, got {text!r}")
        value: Any = text == "1" if parameter.type is bool else float(text)
        return value  # type: ignore[no-any-return]  # the branches follow parameter.type

    def decode_written(
        self, directive: Parameter[Any] | Assignment[Any] | Action, raw: bytes
    ) -> None:
        """Check that the unit says the value back."""
        if raw.endswith(b"!"):
            raise DeviceError(Fault(REFUSED, "it does not know that", raw))
        if raw != self.encode(directive).request.rstrip():
            raise ValueError(f"expected what was written, got {raw!r}")

    def identify(self) -> Script[Identity]:
        """Ask who it is."""
        raw = yield self._exchange("ID?")
        maker, model, serial = raw.decode("ascii").partition("?")[2].split(" ")
        return Identity(maker, model, serial)

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return the question who it is, or one that it does not know."""
        for question in ("ID?", "ZZ?"):
            exchange = self._exchange(question)
            if all(each.request != exchange.request for each in owed):
                return exchange
        return None

    def _exchange(self, word: str, value: str = "") -> Exchange:
        start = f"@{self.unit} {word}".encode()
        return Exchange(
            start + value.encode() + b"\n",
            self.unit,
            0.5,
            lambda frame: frame.startswith(start),
        )
