"""A simulated GPIB board: several devices on one line, each asked by its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import evolve

from transports.base import Exchange, Reply
from transports.stream import StreamTransport

from .model import DeviceModel, SimReply

# A real board addresses its instruments beside the data; here the address comes before it.
_BEGIN: Final = b"\x02"
_END: Final = b"\x03"


class BoardModel:
    """Devices behind one board, each with an address. Every request comes whole.

    Args:
        devices: The devices by their addresses.
    """

    def __init__(self, devices: Mapping[str, DeviceModel]) -> None:
        """Plug the devices in."""
        self.devices = dict(devices)

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Hand a request to the device that it is for; nobody answers for another."""
        unit, _, request = data.removeprefix(_BEGIN).partition(_END)
        device = self.devices.get(unit.decode())
        if device is None:
            return []
        return [evolve(each, unit=unit.decode()) for each in device.receive(request, now_s)]

    def reset(self, now_s: float) -> None:
        """Cycle the power of all."""
        for device in self.devices.values():
            device.reset(now_s)


class BoardTransport(StreamTransport):
    """The line to a `BoardModel`."""

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Send one request to its unit and return the matching reply."""
        return await super().exchange(addressed(exchange), commit=commit)

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring the line back into step."""
        await super().resync(None if fence is None else addressed(fence))


def addressed(exchange: Exchange) -> Exchange:
    """Return an exchange with the address of its unit before its request."""
    unit = (exchange.unit or "").encode()
    return evolve(exchange, request=_BEGIN + unit + _END + exchange.request)
