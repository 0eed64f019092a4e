"""How quickly things go wrong well: crash to service, refusal, emergency, stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import trio
from attrs import evolve

from actors import (
    BreakerPolicy,
    Bus,
    Cause,
    ChildSpec,
    CommandError,
    Events,
    MemberPolicy,
    Priority,
    Ref,
    RefusedError,
    Supervisor,
)
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from transports import SERIAL, Lines, MemoryHost, SimLine, StreamTransport

from .report import Measurement, median_of, percentile

ACTORS: Final = 1000
LATENCY_S: Final = 0.002


class _Fragile:
    def receive(self, message: str) -> str:
        if message == "crash":
            raise ValueError(message)
        return message


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure each way of going wrong by itself."""
    rounds = 3 if quick else 100
    yield from _latency("crash of an actor to its next answer", trio.run(_crash, rounds))
    yield from _latency(
        "crash of a bus to its next served command", trio.run(_crash_of_bus, rounds)
    )
    refusals, exchange_s, emergencies = trio.run(_bus, rounds)
    yield from _latency("refusal at an open breaker", refusals)
    yield from _latency(
        f"emergency behind an exchange of {LATENCY_S * 1e3:g} ms", emergencies, exchange_s
    )
    stops = [trio.run(_stop) for _ in range(max(3, rounds // 10))]
    yield Measurement(
        name=f"stop of {ACTORS} actors", value=median_of(stops) * 1e3, unit="ms", n=len(stops)
    )


def _latency(
    name: str, taken_s: list[float], exchange_s: float | None = None
) -> Iterable[Measurement]:
    for share in (0.5, 0.99):
        value_s = percentile(taken_s, share)
        yield Measurement(
            name=f"{name}, p{share * 100:.0f}",
            value=value_s * 1e6,
            unit="us",
            ratio=None if exchange_s is None else value_s / exchange_s,
            against=None if exchange_s is None else "one exchange",
            n=len(taken_s),
        )


async def _crash(rounds: int) -> list[float]:
    taken_s: list[float] = []
    for _ in range(rounds):
        ref: Ref[str, str] = Ref("fragile", _Fragile)
        supervisor = Supervisor("bench", [ref.spec()], events=Events())
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(supervisor.run, up.set)
            await up.wait()
            await ref.ask("hello")
            began_s = time.perf_counter()
            ref.tell_nowait("crash")
            await ref.ask("hello")
            taken_s.append(time.perf_counter() - began_s)
            nursery.cancel_scope.cancel()
    return taken_s


async def _crash_of_bus(rounds: int) -> list[float]:
    """Return how long it takes, opening and identifying anew included, in seconds."""
    taken_s: list[float] = []
    for _ in range(rounds):
        line = SimLine(PowerSupplyModel())
        bus, psu = _supply(line)
        child = ChildSpec("bus", bus.run, settle=bus.settle, restart_delay_s=bus.restart_delay_s)
        supervisor = Supervisor("bench", [child], events=Events())
        read = psu.read_plan(PowerSupply.voltage)
        fatal = evolve(read, decode=_crash_decoding)
        async with trio.open_nursery() as nursery:
            up = trio.Event()
            nursery.start_soon(supervisor.run, up.set)
            await up.wait()
            await psu.voltage.get()
            crash = await bus.submit(psu, fatal)
            if (await crash.outcome()).cause is not Cause.CRASHED:
                raise RuntimeError("it did not crash")
            taken_s.append(await _timed(psu.voltage.get))
            nursery.cancel_scope.cancel()
    return taken_s


def _crash_decoding(reply: bytes) -> float:
    raise TypeError(f"a mistake in a driver: {reply!r}")


def _supply(line: SimLine, breaker: BreakerPolicy | None = None) -> tuple[Bus, PowerSupply]:
    """Return a bus on that line, and the power supply on it."""
    transport = StreamTransport("bus", MemoryHost(line).connect, framing=Lines(), profile=SERIAL)
    bus = Bus("bus", transport, SERIAL, events=Events(), sequence=count(1), breaker=breaker)
    psu = PowerSupply("psu", bus)
    bus.attach(psu, MemberPolicy())
    return bus, psu


async def _bus(rounds: int) -> tuple[list[float], float, list[float]]:
    """Return the times of refusals, of an exchange, and of emergencies, in seconds."""
    line = SimLine(PowerSupplyModel(), latency_s=LATENCY_S)
    bus, psu = _supply(line, BreakerPolicy(failures=1, open_s=60.0, max_open_s=60.0))
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(bus.run, up.set)
        await up.wait()
        await psu.voltage.get()
        exchanges = [await _timed(psu.voltage.get) for _ in range(rounds)]
        emergencies: list[float] = []
        for _ in range(rounds):
            await psu.submit(PowerSupply.voltage)
            await trio.sleep(LATENCY_S / 2)  # its exchange is under way

            async def off() -> None:
                ticket = await psu.submit(PowerSupply.output.to(False), priority=Priority.EMERGENCY)
                await ticket.outcome()

            emergencies.append(await _timed(off))
            await bus.make_safe(["psu"], "the emergency")
            bus.rearm("psu")
        line.unplug()
        with suppress(CommandError):  # it opens the breaker
            await psu.voltage.get()
        refusals = [await _timed(_refused(psu)) for _ in range(rounds)]
        nursery.cancel_scope.cancel()
    return refusals, median_of(exchanges), emergencies


def _refused(psu: PowerSupply) -> Callable[[], Any]:
    async def ask() -> None:
        try:
            await psu.voltage.get()
        except RefusedError:
            return
        raise RuntimeError("it was not refused")

    return ask


async def _timed(call: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    await call()
    return time.perf_counter() - began_s


async def _stop() -> float:
    """Return how long it takes to stop many actors, in seconds."""
    refs: list[Ref[str, str]] = [Ref(f"actor{number}", _Fragile) for number in range(ACTORS)]
    supervisor = Supervisor("bench", [ref.spec() for ref in refs], events=Events())
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        began_s = time.perf_counter()
        nursery.cancel_scope.cancel()
    return time.perf_counter() - began_s
