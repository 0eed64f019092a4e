"""alicatlib's device object on a bus of benchtree. Needs Python 3.13 and alicatlib 0.3.1.

python alicatlib_hosted.py serial:///dev/ttyUSB0?baudrate=19200
"""

from __future__ import annotations

import sys

import anyio
import trio
from alicatlib import open_device
from alicatlib.errors import AlicatTimeoutError

from actors.instruments.hosted import HostedInstrument
from benchtree import Reading, Setting, open_tree
from transports import HostedStream, Hosting


class StreamAsTransport:
    """What alicatlib calls a transport, over the stream that benchtree lends."""

    label = "benchtree"
    is_open = True

    def __init__(self, stream: HostedStream) -> None:
        """Take a stream."""
        self._stream = stream
        self._held = b""

    async def open(self) -> None:
        """Do nothing: the bus opens."""

    async def close(self) -> None:
        """Do nothing: the bus closes."""

    async def reopen(self, *, baudrate: int) -> None:
        """Refuse: the line belongs to the bus."""
        raise NotImplementedError(f"the bus sets the line up, not {baudrate} baud")

    async def write(self, data: bytes, *, timeout: float) -> None:  # noqa: ASYNC109
        """Send all of `data`."""
        with anyio.fail_after(timeout):
            await self._stream.send_all(data)

    async def read_until(self, separator: bytes, timeout: float) -> bytes:  # noqa: ASYNC109
        """Return what comes up to a separator."""
        with anyio.move_on_after(timeout):
            while separator not in self._held:
                self._held += await self._stream.receive_some()
        line, found, rest = self._held.partition(separator)
        if not found:
            raise AlicatTimeoutError("no reply")
        self._held = rest
        return line + found

    async def read_available(self, idle_timeout: float, max_bytes: int | None = None) -> bytes:
        """Return what comes until nothing comes any more."""
        del max_bytes
        data, self._held = self._held, b""
        while True:
            more = b""
            with anyio.move_on_after(idle_timeout):
                more = await self._stream.receive_some()
            if not more:
                return data
            data += more

    async def drain_input(self) -> None:
        """Discard what is held; the bus discards the rest before each call."""
        self._held = b""


async def open_alicat(stream: HostedStream):  # noqa: ANN201 - alicatlib's own type
    """Make alicatlib's device."""
    return await open_device(StreamAsTransport(stream), unit_id="A", recover_from_stream=False)


async def identify(device):  # noqa: ANN001, ANN201 - alicatlib's own type
    """Return who it is, as alicatlib found out."""
    info = device.info
    return ["Alicat", info.model, info.serial, str(info.firmware)]


async def mass_flow(device):  # noqa: ANN001, ANN201 - alicatlib's own type
    """Poll, and return one value of the frame."""
    return (await device.poll()).values["Mass_Flow"]


async def setpoint(device, *value):  # noqa: ANN001, ANN002, ANN201 - alicatlib's own type
    """Write or read the setpoint."""
    return (await device.setpoint(*value)).requested


class AlicatlibController(HostedInstrument):
    """A mass-flow controller through alicatlib."""

    hosting = Hosting(
        open_alicat, {"identify": identify, "mass_flow": mass_flow, "setpoint": setpoint}
    )
    mass_flow = Reading("mass_flow", unit="SCCM")
    setpoint = Setting("setpoint", unit="SCCM", low=0.0, high=500.0)


async def main(address: str) -> None:
    """Set a flow and read it."""
    async with open_tree() as tree:
        mfc = await tree.add("mfc", AlicatlibController, address)
        await mfc.setpoint.set(50.0)
        await trio.sleep(1.0)
        print(await mfc.mass_flow.get(), await mfc.setpoint.get())  # noqa: T201 - a script


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
