"""An exchange through a bus actor, against a blocking client on the same device."""

from __future__ import annotations

import itertools
import socket
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import serial
import trio

from actors import Bus, Events
from actors.instruments.scpi import PowerSupply
from transports import (
    BlockingSimProcess,
    Lines,
    SimSpec,
    default_profile,
    make_transport,
    parse_address,
)

from .report import Call, Measurement, interleave

_LATENCIES_S = (0.0, 0.0002, 0.002)
_QUESTION = b"VOLT?\n"
_BUDGETS = {"serial": (1.3, 1.05, 1.05), "tcp": (1.2, 1.2, 1.2)}


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure a pseudo-terminal and loopback TCP at several device latencies."""
    for kind, budgets in _BUDGETS.items():
        for latency_s, budget in zip(_LATENCIES_S, budgets, strict=True):
            yield _measure(kind, latency_s, budget, rounds=7 if quick else 21)


def _measure(kind: str, latency_s: float, budget: float, *, rounds: int) -> Measurement:
    calls = 200 if latency_s < 0.001 else 20
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = "actors.instruments.scpi:PowerSupplyModel"
        specs = [
            SimSpec(
                model=model,
                host="pty" if kind == "serial" else "tcp",
                link=str(folder / f"port{number}") if kind == "serial" else None,
                latency_s=latency_s,
            )
            for number in range(2)
        ]
        sim = stack.enter_context(BlockingSimProcess(specs))
        ours, theirs = sim.addresses
        ask = _blocking_client(kind, theirs, stack)
        times = trio.run(_interleave, ours, ask, rounds, calls)
    return Measurement(
        name=f"{kind}, device latency {latency_s * 1e3:g} ms",
        value=times["bus"],
        unit="us",
        ratio=times["bus"] / times["blocking"],
        against="a blocking client",
        budget=budget,
        n=rounds * calls,
    )


def _blocking_client(kind: str, address: str, stack: ExitStack) -> Callable[[], bytes]:
    parsed = parse_address(address)
    if kind == "serial":
        port = stack.enter_context(serial.Serial(str(parsed.path), 115_200, timeout=1))

        def ask_port() -> bytes:
            port.write(_QUESTION)
            return bytes(port.read_until(b"\n"))

        return ask_port
    connection = stack.enter_context(socket.create_connection((parsed.host, parsed.port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask_socket() -> bytes:
        connection.sendall(_QUESTION)
        return connection.recv(4096)

    return ask_socket


async def _interleave(
    address: str, ask: Callable[[], bytes], rounds: int, calls: int
) -> dict[str, float]:
    parsed = parse_address(address)
    profile = default_profile(parsed)
    events = Events()
    transport = make_transport(parsed, framing=Lines(), profile=profile)
    bus = Bus("bus", transport, profile, events=events, sequence=itertools.count(1))
    psu = PowerSupply("psu", bus)
    bus.attach(psu)
    plan = psu.read_plan(PowerSupply.voltage)

    async def through_bus() -> None:
        ticket = await bus.submit(psu, plan, watch_deadline=False)
        await ticket.outcome()

    async def blocking() -> None:
        ask()

    cases: dict[str, Call] = {"bus": through_bus, "blocking": blocking}
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(bus.run, up.set)
        await up.wait()
        await through_bus()
        times = await interleave(cases, rounds=rounds, calls=calls)
        nursery.cancel_scope.cancel()
    return times
