"""A library of somebody else: written for Trio's streams, careless as libraries are."""

from __future__ import annotations

import trio

from transports import HostedStream


class Meter:
    """A device that says back what it is told. It buffers, and checks nothing."""

    def __init__(self, stream: HostedStream) -> None:
        self._stream = stream
        self._received = b""
        self.level = 0.0

    async def query(self, text: str) -> str:
        """Send a line and return the next one, whosever it is."""
        await self._stream.send_all(f"{text}\n".encode())
        while b"\n" not in self._received:
            self._received += await self._stream.receive_some()
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    async def value(self, name: str) -> float:
        """Return a number that the device was told."""
        return float(await self.query(f"ECHO {name}"))

    async def set_level(self, level: float) -> float:
        """Set a level and return it as the device says it back."""
        self.level = float(await self.query(f"ECHO {level}"))
        return self.level

    async def break_down(self) -> None:
        """Fail as code does."""
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("a fault of the library")


async def open_meter(stream: HostedStream) -> Meter:
    """Make a meter and see that it is one."""
    meter = Meter(stream)
    if not (await meter.query("*IDN?")).startswith("benchtree,echo"):
        raise ValueError("no meter")
    return meter
