"""An ask to a supervised actor, against a call under a lock and against other actors.

An ask to an instrument is what a journal makes longer: that is measured here too.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import pykka
import trio
import trio.testing

from actors import Events, Ref, Supervisor

from . import journal
from .report import Measurement, take_turns

CALLERS: Final = (1, 10, 100, 1000)
TIMERS: Final = 10_000
BUDGETS: Final = {
    "ask": {1: 3.0, 10: 1.05, 100: 1.05, 1000: 1.05},
    "ask, async handler": {1: 4.5},
}


class _Echo:
    def receive(self, message: int) -> int:
        return message


class _AsyncEcho:
    async def receive(self, message: int) -> int:
        return message


class _Pykka(pykka.ThreadingActor):
    def on_receive(self, message: int) -> int:
        return message


class Costs(trio.abc.Instrument):
    """Counts passes of the scheduler and steps of tasks."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.passes = 0
        self.steps = 0

    def before_io_wait(self, timeout: float) -> None:
        """Count a pass."""
        del timeout
        self.passes += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        del task
        self.steps += 1


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure what an ask costs, alone and among many."""
    rounds, calls = (2, 100) if quick else (11, 3000)
    for name, count in zip(("passes", "steps"), trio.run(_count), strict=True):
        yield Measurement(name=f"ask, {name}", value=count, unit=name, budget=2, n=100)
    for callers in CALLERS:
        yield from _compare(callers, rounds, max(calls, 3 * callers))
    yield from _among_others(rounds, calls, 100 if quick else TIMERS)
    yield from journal.run(quick=quick)


def _compare(callers: int, rounds: int, calls: int) -> Iterable[Measurement]:
    each = calls // callers
    fewer = {"pykka": min(each, 100)}
    times = take_turns(
        {
            "lock": lambda: trio.run(_hammer_lock, callers, each),
            "ask": lambda: trio.run(_hammer_ask, _Echo, callers, each),
            "ask, async handler": lambda: trio.run(_hammer_ask, _AsyncEcho, callers, each),
            "asyncio queue, future and semaphore": lambda: asyncio.run(
                _hammer_asyncio(callers, each)
            ),
            "pykka": lambda: _hammer_pykka(callers, fewer["pykka"]),
        },
        rounds=rounds,
    )
    for name, time_us in times.items():
        if name != "lock":
            yield Measurement(
                name=f"{name}, {callers} caller{'s' if callers > 1 else ''}",
                value=time_us,
                unit="us",
                ratio=time_us / times["lock"],
                against="a call under trio.Lock",
                budget=BUDGETS.get(name, {}).get(callers),
                n=rounds * fewer.get(name, each) * callers,
            )


def _among_others(rounds: int, calls: int, timers: int) -> Iterable[Measurement]:
    times = take_turns(
        {
            "ask": lambda: trio.run(_hammer_ask, _Echo, 1, calls),
            "within a deadline": lambda: trio.run(_hammer_in_time, calls),
            f"with {timers} pending timers": lambda: trio.run(_hammer_beside_timers, calls, timers),
        },
        rounds=rounds,
    )
    for name, time_us in times.items():
        if name != "ask":
            yield Measurement(
                name=f"ask, {name}",
                value=time_us,
                unit="us",
                ratio=time_us / times["ask"],
                against="an ask without",
                n=rounds * calls,
            )


@asynccontextmanager
async def actor(make: Callable[[], Any]) -> AsyncGenerator[Ref[int, int]]:
    """Run one supervised actor."""
    ref: Ref[int, int] = Ref("echo", make)
    supervisor = Supervisor("bench", [ref.spec()], events=Events())
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        yield ref
        nursery.cancel_scope.cancel()


async def _count() -> tuple[float, float]:
    async with actor(_Echo) as ref:
        await ref.ask(0)
        costs = Costs()
        trio.lowlevel.add_instrument(costs)
        for _ in range(100):
            await ref.ask(0)
        trio.lowlevel.remove_instrument(costs)
    return costs.passes / 100, costs.steps / 100


async def hammer(call: Callable[[], Awaitable[object]], callers: int, each: int) -> float:
    """Return how long one call takes, in microseconds, when many tasks call."""

    async def one() -> None:
        for _ in range(each):
            await call()

    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(one)
    return (time.perf_counter() - began_s) / (callers * each) * 1e6


async def _hammer_lock(callers: int, each: int) -> float:
    lock = trio.Lock()

    async def call() -> None:
        async with lock:
            pass

    return await hammer(call, callers, each)


async def _hammer_ask(make: Callable[[], Any], callers: int, each: int) -> float:
    async with actor(make) as ref:
        return await hammer(partial(ref.ask, 1), callers, each)


async def _hammer_in_time(calls: int) -> float:
    async with actor(_Echo) as ref:

        async def call() -> None:
            with trio.fail_after(10):
                await ref.ask(1)

        return await hammer(call, 1, calls)


async def _hammer_beside_timers(calls: int, timers: int) -> float:
    async with actor(_Echo) as ref, trio.open_nursery() as nursery:
        for number in range(timers):
            nursery.start_soon(trio.sleep, 1000 + number)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()  # what so many new tasks owe, not what an ask does
        time_us = await hammer(partial(ref.ask, 1), 1, calls)
        nursery.cancel_scope.cancel()
    return time_us


async def _hammer_asyncio(callers: int, each: int) -> float:
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()
    device = asyncio.Semaphore(1)

    async def work() -> None:
        while True:
            message, answer = await queue.get()
            async with device:
                answer.set_result(message)

    async def one() -> None:
        for _ in range(each):
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            await queue.put((1, answer))
            await answer

    worker = asyncio.create_task(work())
    began_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(callers)))
    time_us = (time.perf_counter() - began_s) / (callers * each) * 1e6
    worker.cancel()
    await asyncio.wait([worker])
    return time_us


def _hammer_pykka(callers: int, each: int) -> float:
    ref = _Pykka.start()
    try:
        began_s = time.perf_counter()
        for _ in range(each):
            # A thread for each caller would measure threads; they ask at once all the same.
            for answer in [ref.ask(1, block=False) for _ in range(callers)]:
                answer.get()
        return (time.perf_counter() - began_s) / (callers * each) * 1e6
    finally:
        ref.stop()
