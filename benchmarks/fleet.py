"""Polling 8 and 32 ports at once, against one port and against bare Trio on as many."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from benchtree import Fleet
from transports import BlockingSimProcess, SimSpec, parse_address

from .report import Measurement

PORTS: Final = (1, 8, 32)
_LATENCY_S = 0.02
# A pause between two polls: the line's own silence must not be what is measured.
_CADENCE_S = 0.06
_MODEL = "actors.instruments.alicat:make_line"


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure the time and the processor time of polls of ports of 20 ms."""
    sizes, letters = ((1, 2), "AB") if quick else (PORTS, "ABCD")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # An idle line throws away what it did not ask for: bare Trio has ports of its own.
        kinds = ("bare", "port")
        links = [str(folder / f"{kind}{number}") for kind in kinds for number in range(sizes[-1])]
        links.append(str(folder / "shared"))
        specs = [
            SimSpec(
                model=_MODEL,
                arguments={"units": letters if link.endswith("shared") else "A"},
                host="pty",
                link=link,
                latency_s=_LATENCY_S,
            )
            for link in links
        ]
        sim = stack.enter_context(BlockingSimProcess(specs))
        yield from trio.run(_measure, sim.addresses, sizes, letters, 1 if quick else 40)


async def _measure(
    addresses: Sequence[str], sizes: Sequence[int], letters: str, rounds: int
) -> list[Measurement]:
    bare_ports, (*ports, shared) = addresses[: sizes[-1]], addresses[sizes[-1] :]
    names = [f"port{number}" for number in range(len(ports))]
    units = [f"unit{letter}" for letter in letters]
    chosen = [names[:size] for size in sizes] + [units]
    taken_s: list[list[float]] = [[] for _ in chosen]
    ours_s: list[float] = []
    bare_s: list[float] = []
    async with Fleet() as fleet:
        async with trio.open_nursery() as nursery:
            for name, address in zip(names, ports, strict=True):
                nursery.start_soon(fleet.add, name, address)
        for name in units:
            await fleet.add(name, shared, unit_id=name[-1])
        bare = [await _open(address) for address in bare_ports]
        for _ in range(rounds):
            for those, times in zip(chosen, taken_s, strict=True):
                await trio.sleep(_CADENCE_S)
                began_s, worked_s = time.perf_counter(), time.process_time()
                results = await fleet.poll(those)
                times.append(time.perf_counter() - began_s)
                if those == names:
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
    one_s, *others_s = (statistics.median(each) for each in taken_s)
    found = [
        Measurement(name="poll of 1 port of 20 ms", value=one_s * 1e6, unit="us", n=rounds),
        *(
            Measurement(
                name=f"poll of {size} ports of 20 ms",
                value=each_s * 1e6,
                unit="us",
                ratio=each_s / one_s,
                against="a poll of one port",
                budget=1.25,
                n=rounds,
            )
            for size, each_s in zip(sizes[1:], others_s, strict=False)
        ),
        Measurement(
            name=f"poll of {len(letters)} units on one port of 20 ms",
            value=others_s[-1] * 1e6,
            unit="us",
            ratio=others_s[-1] / one_s,
            against="a poll of one port",
            n=rounds,
        ),
    ]
    ours, plain = statistics.median(ours_s), statistics.median(bare_s)
    found.append(
        Measurement(
            name=f"processor time of a poll of {sizes[-1]} ports",
            value=ours * 1e6,
            unit="us",
            ratio=ours / plain,
            against="bare Trio on as many ports",
            budget=2.5,
            n=rounds,
        )
    )
    return found


async def _open(address: str) -> trio.lowlevel.FdStream:
    path = parse_address(address).path
    handle = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    return trio.lowlevel.FdStream(handle)


async def _ask(stream: trio.lowlevel.FdStream) -> None:
    await stream.send_all(b"A\r")
    received = b""
    while not received.endswith(b"\r"):
        received += await stream.receive_some()
