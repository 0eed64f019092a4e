"""What benchtree does with simulated devices, for comparison with other libraries.

Run by the interpreter that has them, so that all are measured on the same Python:

    peers_ours LIBRARY PORT...

It opens the devices of the ports and says so with an empty line; then it does what each line of
its input asks for, and prints what that gave as a line of JSON:

    bare PORT N          the time of each of N writes and reads under Trio, in seconds
    exchanges WHAT N     the time of each of N readings of the first device, in seconds
    record HZ S          how many readings a recording of S seconds gave
    poll WHAT N          the time of each of N polls of all devices, in seconds
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import trio

from actors import Reading, Setting
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import Tree, open_tree
from benchtree.drivers import find_driver
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import record as record_samples
from transports import SERIAL

from .peers_turns import serve, timed

DRIVERS: Final[Mapping[str, str]] = {"alicatlib": "alicat.flow_controller", "watlowlib": "watlow"}
REQUESTS: Final = {
    "alicatlib": b"A\r",
    "watlowlib": bytes.fromhex("55FF0510000006E80103010701018776"),
}
RECORDED: Final[Mapping[str, Sequence[str]]] = {
    "alicatlib": [
        "pressure", "temperature", "volumetric_flow", "mass_flow", "setpoint", "gas", "status"
    ],
    "watlowlib": ["setpoint"],
}  # fmt: skip
"""What is recorded: of an Alicat the whole data frame, which is one exchange."""
PARAMETERS: Final[Mapping[str, Reading[float] | Setting[float]]] = {
    "setpoint": EzZoneStandardBus.setpoint,
    "process_value": EzZoneStandardBus.process_value,
}


class Ours:
    """The open devices of one library, driven by benchtree."""

    def __init__(self, library: str, tree: Tree) -> None:
        """Take over a tree that runs."""
        self._library = library
        self._tree = tree

    async def bare(self, port: str, count: str) -> Sequence[float]:
        """Return how long it takes to write and read without anything around it."""
        handle = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        async with trio.lowlevel.FdStream(handle) as stream:

            async def ask() -> None:
                await stream.send_all(REQUESTS[self._library])
                await stream.receive_some()

            return await timed(ask, int(count))

    async def exchanges(self, what: str, count: str) -> Sequence[float]:
        """Return how long it takes to ask the first device, each time."""
        device = self._tree.instruments[0]
        if what == "data frame":
            (plan,) = device.poll_plans()
            return await timed(partial(device.ask_plan, plan), int(count))
        return await timed(partial(device.ask, PARAMETERS[what]), int(count))

    async def poll(self, what: str, count: str) -> Sequence[float]:
        """Return how long a poll of all devices takes, each time."""
        fleet = self._tree.fleet()

        async def everybody() -> None:
            given = await (fleet.poll() if what == "data frame" else fleet.poll_many([what]))
            if len(given) != len(fleet):
                raise RuntimeError(f"{given}")

        return await timed(everybody, int(count))

    async def record(self, rate_hz: str, seconds: str) -> int:
        """Return how many readings a recording gave, each of all that is recorded."""
        recorded = RECORDED[self._library]
        async with record_samples(
            self._tree, parameters=recorded, rate_hz=float(rate_hz), duration=float(seconds)
        ) as recording:
            async for batch in recording.stream:
                del batch
        return recording.summary.samples_read // len(recorded)


def _bench(library: str, ports: Sequence[str]) -> TreeSpec:
    """Return a bench with one device on each port.

    Each is alone on its line, as the other libraries take it to be: no silence between two
    talkers has to be kept.
    """
    driver = find_driver(DRIVERS[library])
    return TreeSpec(
        buses=[
            BusSpec(name=f"port{number}", address=port, profile=SERIAL)
            for number, port in enumerate(ports)
        ],
        instruments=[
            InstrumentSpec(name=f"device{number}", bus=f"port{number}", driver=driver)
            for number in range(len(ports))
        ],
    )


async def main(*arguments: str) -> None:
    """Open the devices, and measure until the input ends."""
    library, *ports = arguments
    async with open_tree(_bench(library, ports)) as tree:
        await tree.fleet().poll()  # until all are identified
        ours = Ours(library, tree)
        await serve(
            {
                "bare": ours.bare,
                "exchanges": ours.exchanges,
                "record": ours.record,
                "poll": ours.poll,
            }
        )


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
