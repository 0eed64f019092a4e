"""An ask to a supervised actor, against a call under a lock."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import trio

from actors import Events, Ref, Supervisor

from .report import Call, Measurement, interleave


class _Echo:
    def receive(self, message: int) -> int:
        return message


class _AsyncEcho:
    async def receive(self, message: int) -> int:
        return message


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure one caller and ten."""
    return trio.run(_measure, 9 if quick else 31, 200 if quick else 1000)


async def _measure(rounds: int, calls: int) -> list[Measurement]:
    plain: Ref[int, int] = Ref("plain", _Echo)
    nested: Ref[int, int] = Ref("nested", _AsyncEcho)
    supervisor = Supervisor("bench", [plain.spec(), nested.spec()], events=Events())
    lock = trio.Lock()

    async def under_lock() -> None:
        async with lock:
            pass

    async def ten(call: Call) -> None:
        async with trio.open_nursery() as callers:
            for _ in range(10):
                callers.start_soon(call)

    cases: dict[str, Call] = {
        "lock": under_lock,
        "ask": lambda: plain.ask(1),
        "ask, async handler": lambda: nested.ask(1),
    }
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(supervisor.run, up.set)
        await up.wait()
        one = await interleave(cases, rounds=rounds, calls=calls)
        many = await interleave(
            {name: partial(ten, call) for name, call in cases.items()},
            rounds=rounds,
            calls=max(1, calls // 10),
        )
        nursery.cancel_scope.cancel()
    budgets = {"ask": (3.0, 1.05), "ask, async handler": (4.5, None)}
    return [
        Measurement(
            name=f"{name}, {callers} caller{'s' if callers > 1 else ''}",
            value=times[name] / callers,
            unit="us",
            ratio=times[name] / times["lock"],
            against="a call under trio.Lock",
            budget=budgets[name][callers > 1],
            n=rounds * calls,
        )
        for callers, times in ((1, one), (10, many))
        for name in budgets
    ]
