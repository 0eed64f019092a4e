"""An exchange under VISA through a bus actor, against PyVISA alone on the same kind of device."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack

import pyvisa
import trio
from pyvisa.resources import MessageBasedResource

from transports import BlockingSimProcess, SimSpec, parse_address

from .exchange import running
from .report import Measurement, median_of

_LATENCIES_S = (0.0, 0.002)
_BUDGET_US = 110.0
"""What the actor and the hop to the thread of the bus may cost together."""


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure pyvisa-py on a loopback socket at two device latencies."""
    for latency_s in _LATENCIES_S:
        yield from _measure(latency_s, rounds=7 if quick else 31)


def _measure(latency_s: float, *, rounds: int) -> Iterable[Measurement]:
    calls = 100 if latency_s < 0.001 else 20
    model = "actors.instruments.scpi:PowerSupplyModel"
    spec = SimSpec(model=model, host="tcp", latency_s=latency_s)
    with ExitStack() as stack:
        devices = stack.enter_context(BlockingSimProcess([spec, spec])).addresses
        ours, theirs = (_resource(each) for each in devices)
        manager = pyvisa.ResourceManager("@py")
        stack.callback(manager.close)
        alone = manager.open_resource(theirs)
        assert isinstance(alone, MessageBasedResource)
        alone.read_termination = alone.write_termination = "\n"
        times = trio.run(_medians, f"visa://{ours}?backend=@py", alone, rounds, calls)
    yield Measurement(
        name=f"visa, device latency {latency_s * 1e3:g} ms: beyond PyVISA",
        value=times["bus"] - times["blocking"],
        unit="us",
        against="blocking PyVISA",
        budget=_BUDGET_US,
        n=rounds * calls,
    )
    yield Measurement(
        name=f"visa, device latency {latency_s * 1e3:g} ms",
        value=times["bus"],
        unit="us",
        ratio=times["bus"] / times["blocking"],
        against="blocking PyVISA",
        n=rounds * calls,
    )


async def _medians(
    address: str, alone: MessageBasedResource, rounds: int, calls: int
) -> dict[str, float]:
    """Return the medians of single exchanges, in microseconds; the two take turns."""
    taken: dict[str, list[float]] = {"bus": [], "blocking": []}

    async def blocking() -> None:
        alone.query("VOLT?")

    async with running([address]) as (through_bus,):
        for _ in range(rounds):
            for name, call in (("bus", through_bus), ("blocking", blocking)):
                for _ in range(calls):
                    began_s = time.perf_counter()
                    await call()
                    taken[name].append((time.perf_counter() - began_s) * 1e6)
    return {name: median_of(each) for name, each in taken.items()}


def _resource(address: str) -> str:
    return f"TCPIP::127.0.0.1::{parse_address(address).port}::SOCKET"
