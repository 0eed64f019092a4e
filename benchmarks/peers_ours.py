"""What benchtree does with simulated devices, for comparison with other libraries.

Run by the interpreter that has them, so that all are measured on the same Python. It prints
one JSON object:

    bare LIBRARY PORT N          the time of each of N writes and reads under Trio, in seconds
    exchanges LIBRARY PORT N     the time of each of N questions, in seconds
    record LIBRARY PORT HZ S     how many samples a recording of S seconds gave
    poll LIBRARY N PORT...       the time of each of N polls of all ports, in seconds
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio

from actors import Reading
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import DeviceResult, open_tree
from benchtree.drivers import find_driver
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import record as record_samples
from transports import SERIAL

WARM: Final = 5
"""How many calls go before those that are timed."""

DRIVERS: Final[Mapping[str, str]] = {"alicatlib": "alicat.flow_controller", "watlowlib": "watlow"}
REQUESTS: Final = {
    "alicatlib": b"A\r",
    "watlowlib": bytes.fromhex("55FF0510000006E8010301040101E399"),
}
# Each is one exchange; the driver of ours looks at the input error before a process value.
PARAMETERS: Final = {"alicatlib": "mass_flow", "watlowlib": "heat_power"}


async def bare(library: str, port: str, count: str) -> Sequence[float]:
    """Return how long it takes to write and read without anything around it."""
    handle = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    async with trio.lowlevel.FdStream(handle) as stream:

        async def ask() -> None:
            await stream.send_all(REQUESTS[library])
            await stream.receive_some()

        return await _timed(ask, int(count))


async def exchanges(library: str, port: str, count: str) -> Sequence[float]:
    """Return how long it takes to ask the device of one port, each time."""
    async with open_tree(_bench(library, [port])) as tree:
        (device,) = tree.instruments
        if library == "alicatlib":
            (plan,) = device.poll_plans()  # the whole data frame, as there
            return await _timed(partial(device.ask_plan, plan), int(count))
        parameter = device.parameters[PARAMETERS[library]]
        assert isinstance(parameter, Reading)
        return await _timed(partial(device.ask, parameter), int(count))


async def poll(library: str, count: str, *ports: str) -> Sequence[float]:
    """Return how long a poll of all ports takes, each time."""
    async with open_tree(_bench(library, ports)) as tree:
        fleet = tree.fleet()

        async def everybody() -> None:
            if library == "alicatlib":
                results: Mapping[str, DeviceResult[Any]] = await fleet.poll()
            else:
                wanted = dict.fromkeys(fleet)
                results = await fleet.execute(EzZoneStandardBus.heat_power, wanted)
            if not all(each.ok for each in results.values()):
                raise RuntimeError(f"{results}")

        return await _timed(everybody, int(count))


async def record(library: str, port: str, rate_hz: str, seconds: str) -> int:
    """Return how many samples a recording gave."""
    async with open_tree(_bench(library, [port])) as tree:
        await tree.fleet().poll()  # until it is identified
        async with record_samples(
            tree,
            parameters=[PARAMETERS[library]],
            rate_hz=float(rate_hz),
            duration=float(seconds),
        ) as recording:
            async for batch in recording.stream:
                del batch
    return recording.summary.samples_read


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


async def _timed(call: Callable[[], Awaitable[object]], count: int) -> Sequence[float]:
    for _ in range(WARM):
        await call()
    times_s: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        await call()
        times_s.append(time.perf_counter() - began_s)
    return times_s


MEASURES: Final[Mapping[str, Callable[..., Awaitable[object]]]] = {
    "bare": bare, "exchanges": exchanges, "record": record, "poll": poll,
}  # fmt: skip


async def main(*arguments: str) -> None:
    """Measure one thing and print it."""
    measure, *words = arguments
    sys.stdout.write(json.dumps(await MEASURES[measure](*words)) + "\n")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
