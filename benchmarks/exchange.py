"""An exchange through a bus actor, against a blocking client on the same kind of device.

Between the two stands the least that can be had under Trio: the bare bytes, nothing around them.

The simulated devices wait as an event loop does, in whole milliseconds: one of 0.2 ms answers
after 1 to 2 ms, to both alike.
"""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import serial
import trio
from attrs import frozen

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

from .report import Call, Measurement, interleave, percentile, take_single_turns

_CASES: Final = 3
"""Through a bus, the least, and blocking: a device each."""

_CALLS: Final = {0.0: 200, 0.0002: 60, 0.002: 20, 0.02: 4}
LATENCIES_S: Final = tuple(_CALLS)
BUSES: Final = 8
_QUESTION: Final = b"VOLT?\n"
_TOGETHER_S: Final = 0.02
_TOGETHER: Final = 1.25
"""What an exchange on each of several buses may take, by that on one."""

FOUR: Final = 4
_FOUR_S: Final = 0.002


@frozen(kw_only=True)
class Kind:
    """How a kind of bus is measured.

    Attributes:
        name: What it is called.
        host: What the simulated devices look like.
        address: Returns the bus's address, given the device's.
        client: Returns a call that asks a device without benchtree, given its address.
        least: Likewise a call that does so under Trio.
        against: What that client is.
        budgets: The most that the ratio may be, for each latency; None for no limit.
        added_us: The most that the median may be beyond the client's, in microseconds.
    """

    name: str
    host: str
    address: Callable[[str], str]
    client: Callable[[str, ExitStack], Callable[[], object]]
    least: Callable[[str, ExitStack], Call]
    against: str
    budgets: Sequence[float | None]
    added_us: float | None = None


def run_serial(*, quick: bool) -> Iterable[Measurement]:
    """Measure a pseudo-terminal at several device latencies, and eight at once."""
    yield from measure(SERIAL, quick=quick)
    yield _on_four(SERIAL, quick=quick)


def run_tcp(*, quick: bool) -> Iterable[Measurement]:
    """Measure loopback TCP likewise."""
    yield from measure(TCP, quick=quick)
    yield _on_four(TCP, quick=quick)


def measure(kind: Kind, *, quick: bool) -> Iterable[Measurement]:
    """Measure each latency, then several buses at once; one process has all the devices."""
    with ExitStack() as stack:
        latencies_s = [each_s for each_s in LATENCIES_S for _ in range(_CASES)]
        latencies_s += [_TOGETHER_S] * BUSES
        devices = _devices(kind, latencies_s, stack)
        for number, (latency_s, budget) in enumerate(zip(LATENCIES_S, kind.budgets, strict=True)):
            mine = devices[_CASES * number : _CASES * (number + 1)]
            yield from _measure(kind, mine, latency_s, budget, quick=quick)
        buses = [kind.address(each) for each in devices[-BUSES:]]
        rounds = 1 if quick else 15
        times = trio.run(_interleave_buses, buses, rounds)
    yield Measurement(
        name=f"{kind.name}, {BUSES} buses at once, device latency {_TOGETHER_S * 1e3:g} ms",
        value=times["all"],
        unit="us",
        ratio=times["all"] / times["one"],
        against="one bus",
        budget=_TOGETHER,
        n=rounds,
    )


def _measure(
    kind: Kind, devices: Sequence[str], latency_s: float, budget: float | None, *, quick: bool
) -> Iterable[Measurement]:
    rounds, calls = (1, 3) if quick else (21, _CALLS[latency_s])
    times = trio.run(_take_turns, kind, devices, rounds, calls)
    case = f"{kind.name}, device latency {latency_s * 1e3:g} ms"
    least, blocking = (percentile(times[each], 0.50) for each in ("least", "blocking"))
    yield Measurement(
        name=f"{case}, the least under Trio, p50",
        value=least,
        unit="us",
        ratio=least / blocking,
        against=kind.against,
        n=rounds * calls,
    )
    for share in (0.50, 0.99):
        through_bus, blocking = (percentile(times[each], share) for each in ("bus", "blocking"))
        held = share == 0.50
        yield Measurement(
            name=f"{case}, p{share * 100:.0f}",
            value=through_bus,
            unit="us",
            ratio=through_bus / blocking,
            against=kind.against,
            budget=budget if held else None,
            n=rounds * calls,
        )
        if held and kind.added_us is not None:
            yield Measurement(
                name=f"{case}, p50 beyond {kind.against}",
                value=through_bus - blocking,
                unit="us",
                budget=kind.added_us,
                n=rounds * calls,
            )


def _on_four(kind: Kind, *, quick: bool) -> Measurement:
    """Measure many queries on each of four buses, against as many on one of them."""
    buses, rounds, calls = (1, 1, 3) if quick else (FOUR, 20, 100)
    with ExitStack() as stack:
        # A process each: devices do not wait for one another's event loop.
        addresses = [_devices(kind, [_FOUR_S], stack)[0] for _ in range(buses)]
        one_s, all_s = trio.run(_take_turns_at_querying, addresses, rounds, calls)
    asked = f"{rounds * calls} queries on each of {buses} buses"
    return Measurement(
        name=f"{kind.name}, {asked}, device latency {_FOUR_S * 1e3:g} ms",
        value=all_s,
        unit="s",
        ratio=all_s / one_s,
        against="on one bus",
        budget=1.2,
        n=rounds * calls,
    )


def _devices(kind: Kind, latencies_s: Sequence[float], stack: ExitStack) -> Sequence[str]:
    """Start simulated power supplies in a process of their own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    specs = [
        SimSpec(
            model="actors.instruments.scpi:PowerSupplyModel",
            host="pty" if kind.host == "pty" else "tcp",
            link=str(folder / f"port{number}") if kind.host == "pty" else None,
            latency_s=latency_s,
        )
        for number, latency_s in enumerate(latencies_s)
    ]
    return stack.enter_context(BlockingSimProcess(specs)).addresses


def _serial_client(address: str, stack: ExitStack) -> Callable[[], bytes]:
    path = str(parse_address(address).path)
    port = stack.enter_context(serial.Serial(path, 115_200, timeout=1))

    def ask() -> bytes:
        port.write(_QUESTION)
        return bytes(port.read_until(b"\n"))

    return ask


def _tcp_client(address: str, stack: ExitStack) -> Callable[[], bytes]:
    parsed = parse_address(address)
    connection = stack.enter_context(socket.create_connection((parsed.host, parsed.port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> bytes:
        connection.sendall(_QUESTION)
        return connection.recv(4096)

    return ask


def _least_over_serial(address: str, stack: ExitStack) -> Call:
    handle = os.open(str(parse_address(address).path), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    stream = trio.lowlevel.FdStream(handle)
    stack.callback(stream.close)

    async def ask() -> None:
        await stream.send_all(_QUESTION)
        await stream.receive_some()

    return ask


def _least_over_tcp(address: str, stack: ExitStack) -> Call:
    parsed = parse_address(address)
    connection = stack.enter_context(socket.create_connection((parsed.host, parsed.port)))
    connection.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))

    async def ask() -> None:
        await stream.send_all(_QUESTION)
        await stream.receive_some()

    return ask


def _as_it_is(address: str) -> str:
    return address


SERIAL: Final = Kind(
    name="serial",
    host="pty",
    address=_as_it_is,
    client=_serial_client,
    least=_least_over_serial,
    against="blocking pyserial",
    budgets=(1.3, 1.05, 1.05, 1.05),
)
TCP: Final = Kind(
    name="tcp",
    host="tcp",
    address=_as_it_is,
    client=_tcp_client,
    least=_least_over_tcp,
    against="a blocking socket",
    budgets=(1.2, 1.2, 1.2, 1.2),
)


async def _take_turns(
    kind: Kind, devices: Sequence[str], rounds: int, calls: int
) -> dict[str, list[float]]:
    ours, bare, theirs = devices
    with ExitStack() as stack:
        ask = kind.client(theirs, stack)
        least = kind.least(bare, stack)

        async def blocking() -> None:
            ask()

        async with running([kind.address(ours)]) as (through_bus,):
            await blocking()
            await least()
            cases: dict[str, Call] = {"bus": through_bus, "least": least, "blocking": blocking}
            return await take_single_turns(cases, rounds=rounds, calls=calls)


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
