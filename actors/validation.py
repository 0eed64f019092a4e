"""Is a value one that an instrument may be given? Checked before a byte is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import frozen

from .errors import RefusedError
from .faults import Cause

T = TypeVar("T")

_LONGEST: Final = 60


@frozen
class Limits(Generic[T]):
    """What values a setting takes.

    Attributes:
        type: float takes integers too; bool takes True and False only.
        unit: For messages.
        low: The least value, or None.
        high: The greatest value, or None.
        choices: The only values, or empty.
        hazardous: Whether a value can do harm and needs `confirm=True`.
    """

    type: type[T]
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    choices: Sequence[T] = ()
    hazardous: bool | Callable[[T], bool] = False

    def is_hazardous(self, value: T) -> bool:
        """Return whether `value` needs confirmation."""
        if isinstance(self.hazardous, bool):
            return self.hazardous
        return bool(self.hazardous(value))

    @staticmethod
    def plain(value: T) -> T:
        """Return a number of numpy's as Python's own, and anything else as it is."""
        item: Any = getattr(value, "item", None)
        if item is not None and getattr(value, "ndim", None) == 0:
            own: T = item()
            return own
        return value

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, and what would be right; None if nothing."""
        if not self._has_type(value):
            return f"{_said(value)} is {_with_article(type(value))}; it takes {self.describe()}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value!r} is not a finite number; it takes {self.describe()}"
        if self.choices and value not in self.choices:
            return f"{_said(value)} is not among its values; it takes {self.describe()}"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            below = self.low is not None and value < self.low
            above = self.high is not None and value > self.high
            if below or above:
                given = _said(value) + (f" {self.unit}" if self.unit else "")
                return f"{given} is out of range; it takes {self.describe()}"
        return None

    def same(self, wanted: T, found: object) -> bool:
        """Return whether `found` is `wanted`, as exactly as a device may round it.

        That is to 0.1 % of the value, or 0.01 % of the range where that is more.
        """
        if isinstance(wanted, bool) or not isinstance(wanted, float | int):
            return wanted == found
        if not isinstance(found, float | int):
            return False
        if self.type is int:
            return wanted == found
        span = 0.0
        if isinstance(self.low, float | int) and isinstance(self.high, float | int):
            span = float(self.high) - float(self.low)
        return math.isclose(wanted, found, rel_tol=1e-3, abs_tol=1e-4 * span)

    def describe(self) -> str:
        """Return in words what values are taken."""
        if self.choices:
            return "one of " + ", ".join(repr(each) for each in self.choices)
        if self.type is bool:
            return "True or False"
        if self.type not in (int, float):
            return _with_article(self.type)
        kind = "an integer" if self.type is int else "a number"
        low, high = self.low, self.high
        if low is not None and high is not None:
            return f"{kind} from {low:.12g} to {self._with_unit(high)}"
        if low is not None:
            return f"{kind} of at least {self._with_unit(low)}"
        if high is not None:
            return f"{kind} of at most {self._with_unit(high)}"
        return kind + (f" in {self.unit}" if self.unit else "")

    def _has_type(self, value: object) -> bool:
        if isinstance(value, bool):
            return self.type is bool
        return isinstance(value, (int, float) if self.type is float else self.type)

    def _with_unit(self, limit: float) -> str:
        return f"{limit:.12g}" + (f" {self.unit}" if self.unit else "")


class Named(Protocol):
    """What has a name once its driver is declared."""

    @property
    def name(self) -> str:
        """The name."""
        ...


@frozen
class Requirement:
    """What has to hold before an instrument is told something.

    Attributes:
        of: The setting or reading it is about.
        accepts: Whether a value of it will do.
        text: In words what it has to be, after the name.
        within_s: How old the last reading may be, in seconds; None for a setting, whose
            value is what it was last set to.
    """

    of: Named
    accepts: Callable[[Any], bool]
    text: str
    within_s: float | None = None


def check(limits: Limits[T], value: T, *, instrument: str, command: str, confirm: bool) -> None:
    """Check a value and its confirmation.

    Raises:
        RefusedError: With cause VALIDATION, naming instrument, command, the given value
            and what is allowed.
    """
    problem = limits.problem(value)
    if problem is None and limits.is_hazardous(value) and confirm is not True:
        problem = f"{value!r} can do harm; pass confirm=True if it is meant"
    if problem is not None:
        raise RefusedError(problem, cause=Cause.VALIDATION, instrument=instrument, command=command)


def _said(value: object) -> str:
    """Return a value as one would write it, but not at any length."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "an integer of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _with_article(kind: type) -> str:
    name = kind.__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
