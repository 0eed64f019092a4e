"""What settings take of which the board knows a few values only, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from attrs import evolve, frozen

from actors.validation import Limits

T = TypeVar("T")

STAGES: Final = 4
"""The most filters that any module has in a row."""

TURN_DEG: Final = 360.0

_CLOSE: Final = 1e-3


@frozen
class Fine(Limits[float]):
    """A number of which the board takes the nearest of many values, evenly spaced.

    Attributes:
        step: How far they are apart.
        turn: After how much it is the same again, as an angle is; None for never.
    """

    step: float = 0.0
    turn: float | None = None

    def same(self, wanted: float, found: object) -> bool:
        """Return whether `found` is what the board makes of `wanted`."""
        if not isinstance(found, (int, float)):
            return False
        apart = abs(found - wanted)
        if self.turn is None:
            return apart <= max(_CLOSE * abs(wanted), self.step)
        apart %= self.turn
        return min(apart, self.turn - apart) <= max(_CLOSE, self.step)


@frozen
class Stepped(Limits[float]):
    """A number of which the board takes a value nearby.

    Attributes:
        steps: The values it has, in order; empty where they are not known yet.
    """

    steps: Sequence[float] = ()

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, and what would be right; None if nothing."""
        found = super().problem(value)
        if found is None and isinstance(value, (int, float)):
            found = _outside(float(value), self.steps, self.unit)
        return found

    def same(self, wanted: float, found: object) -> bool:
        """Return whether `found` is what the board makes of `wanted`."""
        return isinstance(found, (int, float)) and _nearby(wanted, found, self.steps)


@frozen
class Filters(Limits[list[float]]):
    """The corner frequencies of filters in a row: 0 for none, negative for a high-pass.

    Attributes:
        steps: The corner frequencies there are, in order; empty where not known yet.
        stages: How many filters there are.
    """

    steps: Sequence[float] = ()
    stages: int = STAGES

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, and what would be right; None if nothing."""
        if not isinstance(value, list):
            kind = type(value).__name__
            return f"{value!r} is no list but {kind}; it takes {self.describe()}"
        corners = cast("list[object]", value)
        if not 1 <= len(corners) <= self.stages:
            return f"{len(corners)} were given; it takes {self.describe()}"
        for corner in corners:
            if isinstance(corner, bool) or not isinstance(corner, (int, float)):
                return f"{corner!r} in it is no number; it takes {self.describe()}"
            if not math.isfinite(corner):
                return f"{corner!r} in it is not finite; it takes {self.describe()}"
            outside = _outside(float(corner), self.steps, self.unit)
            if outside is not None:
                return outside
        return None

    def describe(self) -> str:
        """Return in words what values are taken."""
        many = "1" if self.stages == 1 else f"1 to {self.stages}"
        text = f"a list of {many} corner frequencies in {self.unit}, such as [1000.0]"
        return text + "; 0 is none, a negative one a high-pass"

    def same(self, wanted: list[float], found: object) -> bool:
        """Return whether `found` is what the board makes of `wanted`."""
        if not isinstance(found, list):
            return False
        corners = cast("list[float]", found)
        filled = [*wanted, *[0.0] * (len(corners) - len(wanted))]
        return len(filled) == len(corners) and all(
            _nearby(each, corner, self.steps) for each, corner in zip(filled, corners, strict=True)
        )


def narrowed(limits: Limits[T], said: Mapping[str, Any]) -> Limits[T]:
    """Return what a setting takes: what is declared, narrowed by what PyRPL says of it."""
    low, high, choices = said.get("min"), said.get("max"), said.get("choices")
    kind: Any = limits.type
    if kind in (int, float):
        if low is not None:
            limits = evolve(limits, low=low if limits.low is None else max(low, limits.low))
        if high is not None:
            limits = evolve(limits, high=high if limits.high is None else min(high, limits.high))
    if kind is list:
        stages = int(said.get("stages", STAGES))
        lists: Any = kind
        filters: Any = Filters(lists, limits.unit, steps=_sorted(choices), stages=stages)
        return cast("Limits[T]", filters)
    if kind is float and choices:
        stepped: Any = Stepped(kind, limits.unit, limits.low, limits.high, steps=_sorted(choices))
        return cast("Limits[T]", stepped)
    step = said.get("step")
    if kind is float and step:
        turn = TURN_DEG if limits.unit == "deg" else None
        fine: Any = Fine(kind, limits.unit, limits.low, limits.high, step=step, turn=turn)
        return cast("Limits[T]", fine)
    if choices and kind in (int, str) and all(isinstance(each, kind) for each in choices):
        limits = evolve(limits, choices=tuple(choices))
    return limits


def _sorted(choices: Sequence[float] | None) -> Sequence[float]:
    return tuple(sorted(choices or ()))


def _outside(value: float, steps: Sequence[float], unit: str | None) -> str | None:
    """Return what is wrong with a value that would become quite another one."""
    sizes = [abs(each) for each in steps if each]
    if not sizes or (value == 0.0 and 0 in steps):
        return None
    least, most = min(sizes), max(sizes)
    if least * (1.0 - _CLOSE) <= abs(value) <= most * (1.0 + _CLOSE):
        return None
    none = "0 or " if 0 in steps else ""
    return f"{value:g} {unit} is out of range; it takes {none}{least:.4g} to {most:.4g} {unit}"


def _nearby(wanted: float, found: float, steps: Sequence[float]) -> bool:
    """Return whether `found` is the step that is wanted, or one of the two next to it."""
    if math.isclose(wanted, found, rel_tol=_CLOSE):
        return True
    if any(math.isclose(wanted, each, rel_tol=_CLOSE) for each in steps):
        return False
    low, high = sorted((wanted, found))
    edge = _CLOSE * (high - low)
    return bool(steps) and not any(low + edge < each < high - edge for each in steps)
