"""Hours of trouble leave nothing behind: no object, no byte, no task, no descriptor."""

from __future__ import annotations

import gc
import math
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from attrs import astuple, evolve, frozen

from benchtree.exercise import Exercise
from benchtree.faultplan import LEVELS, FaultPlan
from benchtree.simulate import Bench, simulate
from benchtree.spec import TreeSpec

from .bench import SPEC

HOUR_S = 3600.0
SMALL = evolve(
    SPEC,
    buses=[each for each in SPEC.buses if each.name in ("supply", "furnace", "line")],
    instruments=[
        each for each in SPEC.instruments if each.name in ("psu", "oven", "zone1", "zone2")
    ],
    supervisors=SPEC.supervisors[:1],
    recordings=[
        evolve(SPEC.recordings[0], parameters=["measured_voltage", "temperature", "process_value"])
    ],
)
"""A part of the bench, of every kind of bus: two hours of it take less than a minute."""

CALM_S = 300.0
"""How long before each measurement nothing goes wrong any more, in simulated seconds."""

LOOKS, LOOK_S = 20, 7.0
"""How often each quarter is measured at its end, and how far apart: the least of each counts."""


@frozen
class Use:
    """What the program holds.

    Attributes:
        objects: How many objects the garbage collector knows.
        traced: How many bytes were allocated and not given back.
        tasks: How many tasks live.
        descriptors: How many files and sockets are open.
        threads: How many threads there are.
    """

    objects: int
    traced: int
    tasks: int
    descriptors: int
    threads: int


def measure() -> Use:
    """Look, after what is garbage was collected."""
    gc.collect()
    return Use(
        len(gc.get_objects()),
        tracemalloc.get_traced_memory()[0],
        trio.lowlevel.current_statistics().tasks_living,
        count_descriptors(),
        threading.active_count(),
    )


def count_descriptors() -> int:
    """Return how many files and sockets are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def run_quarters(hours: float, spec: TreeSpec) -> list[Use]:
    """Simulate a bench in trouble; measure at the end of each quarter."""
    quarter_s = hours * HOUR_S / 4
    seen: list[Use] = []

    async def look(bench: Bench) -> None:
        for quarter in range(4):
            plan = FaultPlan.seeded(
                quarter, spec, duration_s=quarter_s - CALM_S, rates=LEVELS["heavy"]
            )
            # What waits for its time is memory, too: each quarter begins with the same.
            for fault in plan.faults:
                if fault.at_s + fault.for_s < quarter_s - CALM_S:
                    bench.inject(fault)
            await trio.sleep(quarter_s)
            await bench.calm()
            looks: list[Use] = []
            for _ in range(LOOKS):
                # Windows of a fixed length, which fill up to it: not what is looked for.
                bench.report(1.0, 1.0)  # hashes the lines of the trace that wait for that
                for line in bench.lines.values():
                    line.requests.clear()
                looks.append(measure())
                await trio.sleep(LOOK_S)
            # What is in hand at the moment comes and goes; what was left behind is in each.
            seen.append(Use(*(min(each) for each in zip(*map(astuple, looks), strict=True))))

    async def main(bench: Bench) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, bench)
            # Past the last measurement, so that all four see users at work.
            await Exercise(bench, 4 * (quarter_s + LOOKS * LOOK_S) + 300.0, abrupt=True).run()
            nursery.cancel_scope.cancel()

    # Without a limit: Trio forgets scopes that were left early only when their time has come.
    report = simulate(0, main, bench=spec, limit_s=math.inf)
    assert report.violations == ()
    return seen


def check(hours: float, spec: TreeSpec, note: Callable[[str, object], None]) -> None:
    """Fail if the last quarter left more behind than the second."""
    # A thread of an earlier test may end at any time; that is none of ours.
    descriptors, threads = count_descriptors(), set(threading.enumerate())
    tracemalloc.start()
    try:
        _, second, third, last = run_quarters(hours, spec)
    finally:
        tracemalloc.stop()
    note(
        "memory",
        f"{hours:g} simulated hours: objects {second.objects} -> {last.objects}, "
        f"traced {second.traced} -> {last.traced} bytes",
    )
    assert last.objects == pytest.approx(second.objects, rel=0.02), (second, third, last)
    assert last.traced == pytest.approx(second.traced, rel=0.02), (second, third, last)
    assert last.tasks == second.tasks
    assert last.descriptors == second.descriptors
    assert last.threads == second.threads
    gc.collect()
    assert count_descriptors() == descriptors
    assert set(threading.enumerate()) <= threads


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_two_hours(record_property: Callable[[str, object], None]) -> None:
    """Two simulated hours under heavy faults, users at work and a journal."""
    check(2.0, SMALL, record_property)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_day(record_property: Callable[[str, object], None]) -> None:
    """Twenty-four simulated hours."""
    check(24.0, SPEC, record_property)
