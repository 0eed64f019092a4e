"""What a simulated instrument is: a pure state machine behind a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from attrs import frozen


@frozen
class SimReply:
    """Bytes that a device sends.

    Attributes:
        data: The bytes, terminator included.
        delay_s: How long the device takes for them, in seconds, before the line's own
            latency.
        unit: Which unit sends them, where several share the line; faults can be aimed
            at one unit.
    """

    data: bytes
    delay_s: float = 0.0
    unit: str | None = None


class DeviceModel(Protocol):
    """A device as seen from its line; no I/O, no clock, no Trio.

    Time comes in as an argument, never goes backwards, and starts anywhere: a model
    with dynamics integrates from the last instant it was given.
    """

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Take bytes as they arrive, whole requests or parts, and return the replies."""
        ...

    def reset(self, now_s: float) -> None:
        """Cycle the power: settings and half a request are lost, physics goes on."""
        ...


@runtime_checkable
class ServerModel(DeviceModel, Protocol):
    """A device that is a server, and knows when a client connects."""

    def connect(self, now_s: float) -> None:
        """Start over with a new client: half a request of the one before is lost."""
        ...
