"""One value read from one device, with the instants of its own exchange."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import frozen

Value: TypeAlias = float | int | bool | str | None
"""What a scalar reading can be. None: the device reports the value as unavailable."""


class SampleKey(NamedTuple):
    """What a recording expects once per slot.

    Attributes:
        device: The instrument's name in its tree.
        parameter: The parameter's name.
        instance: Which of several equal ones (loop, channel), from 1.
    """

    device: str
    parameter: str
    instance: int = 1

    def __str__(self) -> str:
        """Return `device.parameter`, with the instance where it is not the first."""
        return f"{self.device}.{self.parameter}" + (
            f"[{self.instance}]" if self.instance != 1 else ""
        )


@frozen(eq=False)
class Waveform:
    """Many values that were read at once, and the axis along which they lie.

    Attributes:
        values: The values, in the unit of their sample.
        axis: Where each of them lies; equally long.
        axis_name: What the axis is, such as "time" or "frequency".
        axis_unit: Its unit.
    """

    values: npt.NDArray[np.float64]
    axis: npt.NDArray[np.float64]
    axis_name: str = "time"
    axis_unit: str = "s"

    def __attrs_post_init__(self) -> None:
        """Check that the axis fits the values."""
        if self.values.ndim != 1 or self.values.shape != self.axis.shape:
            raise ValueError(
                f"{self.values.shape} values do not lie along an axis of {self.axis.shape}"
            )


@frozen
class Sample:
    """One value and when it was measured.

    The stamps are integers of its own exchange; date-times are made on access.

    Attributes:
        device: The instrument's name in its tree.
        address: The unit on the bus, or the bus itself where only one unit is on it.
        protocol: The instrument family, such as "scpi".
        parameter: The parameter's name.
        parameter_id: The name or number that travels on the wire.
        instance: Which of several equal ones (loop, channel), from 1.
        value: The value, in `unit`; None where the device reports it as unavailable, or where
            there is a waveform.
        unit: The physical unit, or None for plain numbers and texts.
        requested_ns: Monotonic instant just before the request's first byte, in ns.
        received_ns: Monotonic instant at which the reply was complete, in ns.
        received_utc_ns: The wall clock at `received_ns`, in ns since 1970.
        raw: The reply as it came, unframed.
        t_midpoint_mono_ns: Middle of the device's own integration window, in monotonic
            ns; None unless the device integrates and says so.
        waveform: The values, where many were read at once.
    """

    device: str
    address: str | int
    protocol: str
    parameter: str
    parameter_id: str | int
    instance: int
    value: Value
    unit: str | None
    requested_ns: int
    received_ns: int
    received_utc_ns: int
    raw: bytes = b""
    t_midpoint_mono_ns: int | None = None
    waveform: Waveform | None = None

    @property
    def key(self) -> SampleKey:
        """What identifies the sample's series."""
        return SampleKey(self.device, self.parameter, self.instance)

    @property
    def t_mono_ns(self) -> int:
        """The midpoint of the exchange on the monotonic clock, in ns: the join key."""
        return (self.requested_ns + self.received_ns) // 2

    @property
    def t_utc_ns(self) -> int:
        """The midpoint of the exchange on the wall clock, in ns since 1970."""
        return self.received_utc_ns - (self.received_ns - self.t_mono_ns)

    @property
    def t_utc(self) -> datetime:
        """The midpoint of the exchange, UTC."""
        return _datetime(self.t_utc_ns)

    @property
    def requested_at(self) -> datetime:
        """When the request went out, UTC."""
        return _datetime(self.received_utc_ns - (self.received_ns - self.requested_ns))

    @property
    def received_at(self) -> datetime:
        """When the reply was complete, UTC."""
        return _datetime(self.received_utc_ns)

    @property
    def latency_s(self) -> float:
        """How long the exchange took, in seconds of monotonic time."""
        return (self.received_ns - self.requested_ns) / 1e9


def _datetime(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns // 1000 / 1e6, tz=UTC)
