"""Simulated lines as data, and the messages about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What can be sent to the process and back."""


@frozen(kw_only=True)
class SimSpec:
    """One simulated line, as data.

    Attributes:
        model: The device model's class or factory, as "package.module:Name".
        arguments: Keyword arguments for it.
        host: What the line looks like: a TCP endpoint or a serial port.
        link: Where a serial port's symbolic link goes.
        port: Which TCP port; 0 takes a free one.
        latency_s: How long bytes travel, in seconds.
        keeps_late: Whether late replies outlive a TCP connection.
        one_client: Whether a new TCP connection ends the one before it.
    """

    model: str
    arguments: Mapping[str, Json] = field(factory=dict[str, Json])
    host: Literal["tcp", "pty"] = "tcp"
    link: str | None = None
    port: int = 0
    latency_s: float = 0.0
    keeps_late: bool = False
    one_client: bool = False


def encode(message: Mapping[str, Json]) -> bytes:
    """Return the message as one line of JSON."""
    return json.dumps(message).encode() + b"\n"
