"""What a benchmark reports: one measurement a line, for people or as JSON."""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import trio
from attrs import asdict, frozen

K = TypeVar("K")


@frozen(kw_only=True)
class Measurement:
    """One number and what it is held against.

    Attributes:
        name: The benchmark and the case.
        value: What was measured.
        unit: Its unit.
        ratio: `value` over the value of `against`, or None.
        against: What it is compared with, measured in the same run.
        budget: The most the ratio (or, without one, the value) may be; None for no budget.
        n: How many times it was measured.
        python: The version of Python that did what was measured.
    """

    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str | None = None
    budget: float | None = None
    n: int = 1
    python: str = platform.python_version()

    @property
    def ok(self) -> bool:
        """Whether it is within its budget."""
        if self.budget is None:
            return True
        return (self.value if self.ratio is None else self.ratio) <= self.budget

    def as_json(self) -> str:
        """Return it as one JSON object."""
        fields = asdict(self)
        last = {name: fields.pop(name) for name in ("n", "python")}
        return json.dumps({**fields, "ok": self.ok, **last, "trio": trio.__version__})

    def as_text(self) -> str:
        """Return it as one line for people."""
        text = f"{self.name:44} {self.value:10.2f} {self.unit:8}"
        if self.ratio is not None:
            text += f" {self.ratio:6.2f} x {self.against}"
        if self.budget is not None:
            text += f"  (at most {self.budget:g}: {'ok' if self.ok else 'MISSED'})"
        return text


Call = Callable[[], Awaitable[object]]
"""One case: called once, it does the thing measured once."""


async def interleave(cases: dict[str, Call], *, rounds: int, calls: int) -> dict[str, float]:
    """Return the median time of one call of each case, in microseconds.

    The cases take turns, so that a slow moment of the machine meets them all.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            began_s = time.perf_counter()
            for _ in range(calls):
                await call()
            taken[name].append((time.perf_counter() - began_s) / calls * 1e6)
    return {name: statistics.median(each) for name, each in taken.items()}


async def take_single_turns(
    cases: Mapping[str, Call], *, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Return the times of all calls of each case, in microseconds, the cases taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            for _ in range(calls):
                began_s = time.perf_counter()
                await call()
                taken[name].append((time.perf_counter() - began_s) * 1e6)
    return taken


def take_turns(cases: Mapping[K, Callable[[], float]], *, rounds: int) -> dict[K, float]:
    """Return the median of what each case returns, the cases taking turns."""
    found: dict[K, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    return {name: statistics.median(each) for name, each in found.items()}


def median_of(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(list(values))


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return how cost grows with size: the exponent of the power law that fits best."""
    fitted = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    )
    return fitted.slope


STEEPEST: Final = 1.15
"""The largest exponent that counts as linear."""


def growth(name: str, costs: Mapping[int, float]) -> Measurement:
    """Return how the cost of everything together grows with size, held against linear."""
    sizes = tuple(costs)
    return Measurement(
        name=name,
        value=slope(sizes, tuple(costs.values())),
        unit="log/log",
        against=f"linear, {sizes[0]:g} to {sizes[-1]:g}",
        budget=STEEPEST,
        n=len(sizes),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
