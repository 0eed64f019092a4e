"""Simulated devices of several kinds on one line, each of which answers to its own address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import DeviceModel, SimReply


class SharedLineModel:
    """Devices that all hear what is said on their line, and answer what is for them.

    Attributes:
        devices: The devices by their addresses; one may stand for several.
    """

    def __init__(self, devices: Mapping[str, DeviceModel]) -> None:
        """Connect the devices."""
        self.devices = dict(devices)
        self._each = tuple({id(each): each for each in devices.values()}.values())

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Hand the bytes to everybody, and return what anybody replies."""
        return [reply for each in self._each for reply in each.receive(data, now_s)]

    def reset(self, now_s: float) -> None:
        """Cycle the power of all."""
        for each in self._each:
            each.reset(now_s)
