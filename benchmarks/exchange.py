"""An exchange through a bus actor, against a blocking client on the same device."""

from __future__ import annotations

import itertools
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import serial
import trio

from actors import Bus, Events, Plan
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

_LATENCIES_S = (0.0, 0.0002, 0.002, 0.02)
_QUESTION = b"VOLT?\n"
_BUDGETS = {"serial": (1.3, 1.05, 1.05, 1.05), "tcp": (1.2, 1.2, 1.2, 1.2)}
_BUSES = 8
_TOGETHER_S = 0.02
_FOUR = 4
_FOUR_S = 0.002


def run_serial(*, quick: bool) -> Iterable[Measurement]:
    """Measure a pseudo-terminal at several device latencies, and eight at once."""
    return _run("serial", quick=quick)


def run_tcp(*, quick: bool) -> Iterable[Measurement]:
    """Measure loopback TCP likewise."""
    return _run("tcp", quick=quick)


def _run(kind: str, *, quick: bool) -> Iterable[Measurement]:
    for latency_s, budget in zip(_LATENCIES_S, _BUDGETS[kind], strict=True):
        yield _measure(kind, latency_s, budget, rounds=7 if quick else 21)
    yield _together(kind, rounds=5 if quick else 15)
    yield _on_four(kind, rounds=5 if quick else 20)


def _measure(kind: str, latency_s: float, budget: float, *, rounds: int) -> Measurement:
    calls = 200 if latency_s < 0.001 else 20 if latency_s < 0.01 else 4
    with ExitStack() as stack:
        ours, theirs = _devices(kind, 2, latency_s, stack)
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


def _together(kind: str, *, rounds: int) -> Measurement:
    """Measure an exchange on each of several buses at once, against one on one of them."""
    with ExitStack() as stack:
        addresses = _devices(kind, _BUSES, _TOGETHER_S, stack)
        times = trio.run(_interleave_buses, addresses, rounds)
    return Measurement(
        name=f"{kind}, {_BUSES} buses at once, device latency {_TOGETHER_S * 1e3:g} ms",
        value=times["all"],
        unit="us",
        ratio=times["all"] / times["one"],
        against="one bus",
        budget=1.25,
        n=rounds,
    )


def _on_four(kind: str, *, rounds: int) -> Measurement:
    """Measure many queries on each of four buses, against as many on one of them."""
    calls = 100
    with ExitStack() as stack:
        # A process each: devices do not wait for one another's event loop.
        addresses = [_devices(kind, 1, _FOUR_S, stack)[0] for _ in range(_FOUR)]
        one_s, all_s = trio.run(_take_turns_at_querying, addresses, rounds, calls)
    return Measurement(
        name=f"{kind}, {rounds * calls} queries on each of {_FOUR} buses, {_FOUR_S * 1e3:g} ms",
        value=all_s,
        unit="s",
        ratio=all_s / one_s,
        against="on one bus",
        budget=1.2,
        n=rounds * calls,
    )


def _devices(kind: str, count: int, latency_s: float, stack: ExitStack) -> Sequence[str]:
    """Start so many simulated power supplies in a process of their own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    specs = [
        SimSpec(
            model="actors.instruments.scpi:PowerSupplyModel",
            host="pty" if kind == "serial" else "tcp",
            link=str(folder / f"port{number}") if kind == "serial" else None,
            latency_s=latency_s,
        )
        for number in range(count)
    ]
    return stack.enter_context(BlockingSimProcess(specs)).addresses


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
    async def blocking() -> None:
        ask()

    async with running([address]) as (through_bus,):
        cases: dict[str, Call] = {"bus": through_bus, "blocking": blocking}
        return await interleave(cases, rounds=rounds, calls=calls)


async def _interleave_buses(addresses: Sequence[str], rounds: int) -> dict[str, float]:
    async with running(addresses) as asks:

        async def everybody() -> None:
            async with trio.open_nursery() as nursery:
                for ask in asks:
                    nursery.start_soon(ask)

        cases: dict[str, Call] = {"one": asks[0], "all": everybody}
        return await interleave(cases, rounds=rounds, calls=2)


async def _take_turns_at_querying(
    addresses: Sequence[str], rounds: int, calls: int
) -> tuple[float, float]:
    """Return how long the queries of one bus took in all, and those of all buses at once."""
    one_s = all_s = 0.0
    async with running(addresses) as asks:

        async def query(ask: Call) -> None:
            for _ in range(calls):
                await ask()

        for _ in range(rounds):
            began_s = time.perf_counter()
            await query(asks[0])
            between_s = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for ask in asks:
                    nursery.start_soon(query, ask)
            one_s += between_s - began_s
            all_s += time.perf_counter() - between_s
    return one_s, all_s


@asynccontextmanager
async def running(addresses: Sequence[str]) -> AsyncGenerator[Sequence[Call]]:
    """Run a bus for each address; give a call for each that makes one exchange on it."""
    events = Events()
    asks: list[Call] = []
    async with trio.open_nursery() as nursery:
        for number, address in enumerate(addresses):
            parsed = parse_address(address)
            profile = default_profile(parsed)
            transport = make_transport(parsed, framing=Lines(), profile=profile)
            bus = Bus(
                f"bus{number}", transport, profile, events=events, sequence=itertools.count(1)
            )
            psu = PowerSupply(f"psu{number}", bus)
            bus.attach(psu)
            up = trio.Event()
            nursery.start_soon(bus.run, up.set)
            await up.wait()
            asks.append(partial(_ask, bus, psu, psu.plan(PowerSupply.voltage)))
        for ask in asks:
            await ask()
        yield asks
        nursery.cancel_scope.cancel()


async def _ask(bus: Bus, psu: PowerSupply, plan: Plan[Any]) -> None:
    ticket = await bus.submit(psu, plan, watch_deadline=False)
    await ticket.outcome()
