"""Polling many ports at once, against one port and against bare Trio on the same ports."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import trio

from benchtree import Fleet
from transports import BlockingSimProcess, SimSpec, parse_address

from .report import Measurement

_PORTS = 32
_LATENCY_S = 0.02
# A pause between two polls: the line's own silence must not be what is measured.
_CADENCE_S = 0.06
_MODEL = "actors.instruments.alicat:make_line"


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure the time and the processor time of a poll of 32 ports of 20 ms."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        links = [str(folder / f"port{number}") for number in range(_PORTS)]
        links.append(str(folder / "shared"))
        specs = [
            SimSpec(
                model=_MODEL,
                arguments={"units": "ABCD" if link.endswith("shared") else "A"},
                host="pty",
                link=link,
                latency_s=_LATENCY_S,
            )
            for link in links
        ]
        sim = stack.enter_context(BlockingSimProcess(specs))
        yield from trio.run(_measure, sim.addresses, 20 if quick else 100)


async def _measure(addresses: Sequence[str], rounds: int) -> list[Measurement]:
    *ports, shared = addresses
    one_s: list[float] = []
    all_s: list[float] = []
    four_s: list[float] = []
    ours_s: list[float] = []
    bare_s: list[float] = []
    async with Fleet() as fleet:
        async with trio.open_nursery() as nursery:
            for number, address in enumerate(ports):
                nursery.start_soon(fleet.add, f"port{number}", address)
        for letter in "ABCD":
            await fleet.add(f"unit{letter}", shared, unit_id=letter)
        names = [f"port{number}" for number in range(len(ports))]
        four = [f"unit{letter}" for letter in "ABCD"]
        bare = [await _open(address) for address in ports]
        for _ in range(rounds):
            for chosen, times in (([names[0]], one_s), (names, all_s), (four, four_s)):
                await trio.sleep(_CADENCE_S)
                began_s, worked_s = time.perf_counter(), time.process_time()
                results = await fleet.poll(chosen)
                times.append(time.perf_counter() - began_s)
                if len(chosen) == len(names):
                    ours_s.append(time.process_time() - worked_s)
                assert all(each.ok for each in results.values())
            await trio.sleep(_CADENCE_S)
            worked_s = time.process_time()
            async with trio.open_nursery() as nursery:
                for stream in bare:
                    nursery.start_soon(_ask, stream)
            bare_s.append(time.process_time() - worked_s)
        for stream in bare:
            await stream.aclose()
    one, everything, turns, ours, plain = (
        statistics.median(each) for each in (one_s, all_s, four_s, ours_s, bare_s)
    )
    return [
        Measurement(
            name=f"poll of {_PORTS} ports of 20 ms",
            value=everything * 1e6,
            unit="us",
            ratio=everything / one,
            against="a poll of one port",
            budget=1.25,
            n=rounds,
        ),
        Measurement(
            name="poll of 4 units on one port of 20 ms",
            value=turns * 1e6,
            unit="us",
            ratio=turns / one,
            against="a poll of one port",
            n=rounds,
        ),
        Measurement(
            name=f"processor time of a poll of {_PORTS} ports",
            value=ours * 1e6,
            unit="us",
            ratio=ours / plain,
            against="bare Trio on the same ports",
            budget=2.5,
            n=rounds,
        ),
    ]


async def _open(address: str) -> trio.lowlevel.FdStream:
    path = parse_address(address).path
    handle = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    return trio.lowlevel.FdStream(handle)


async def _ask(stream: trio.lowlevel.FdStream) -> None:
    await stream.send_all(b"A\r")
    received = b""
    while not received.endswith(b"\r"):
        received += await stream.receive_some()
