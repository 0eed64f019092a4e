"""Values are checked before a byte is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Cause, Limits, RefusedError
from actors.validation import check

VOLTAGE = Limits(float, "V", 0.0, 30.0)
GOOD: list[tuple[Limits[Any], object]] = [
    (VOLTAGE, 0.0),
    (VOLTAGE, 30.0),
    (VOLTAGE, 12),
    (Limits(float), -1e300),
    (Limits(int, None, 1, 8), 8),
    (Limits(bool), True),
    (Limits(bool), False),
    (Limits(str), "anything"),
    (Limits(str, choices=("SINE", "SQUARE")), "SINE"),
    (Limits(float, "Hz", choices=(10.0, 100.0)), 10),
]
BAD: list[tuple[Limits[Any], object, str]] = [
    (VOLTAGE, 30.000001, "30.000001 V is out of range; it takes a number from 0 to 30 V"),
    (VOLTAGE, -0.1, "-0.1 V is out of range; it takes a number from 0 to 30 V"),
    (VOLTAGE, math.nan, "nan is not a finite number; it takes a number from 0 to 30 V"),
    (Limits(float), math.inf, "inf is not a finite number; it takes a number"),
    (VOLTAGE, True, "True is a bool; it takes a number from 0 to 30 V"),
    (VOLTAGE, "12", "'12' is a str; it takes a number from 0 to 30 V"),
    (VOLTAGE, None, "None is a NoneType; it takes a number from 0 to 30 V"),
    (Limits(float, "V", low=1.0), 0, "0 V is out of range; it takes a number of at least 1 V"),
    (Limits(float, high=1e6), 1234567.0, "1234567.0 is out of range; it takes a number of at"),
    (Limits(int, None, 1, 8), 1.0, "1.0 is a float; it takes an integer from 1 to 8"),
    (Limits(int, None, 1, 8), 10**400, "is out of range; it takes an integer from 1 to 8"),
    (Limits(int, "counts"), "x", "'x' is a str; it takes an integer in counts"),
    (Limits(bool), 1, "1 is an int; it takes True or False"),
    (Limits(str), 3, "3 is an int; it takes a str"),
    (Limits(str, choices=("SINE",)), "RAMP", "'RAMP' is not among its values; it takes one of"),
]


@pytest.mark.parametrize(("limits", "value"), GOOD)
def test_a_value_within_the_limits_passes(limits: Limits[Any], value: object) -> None:
    """Bounds belong to the range, and an integer is a number."""
    assert limits.problem(value) is None
    check(limits, value, instrument="psu", command="voltage.set", confirm=False)


@pytest.mark.parametrize(("limits", "value", "said"), BAD)
def test_a_value_outside_is_refused_with_what_is_allowed(
    limits: Limits[Any], value: object, said: str
) -> None:
    """A refusal names instrument, command, the given value and what would be right."""
    with pytest.raises(RefusedError) as refused:
        check(limits, value, instrument="psu", command="voltage.set", confirm=True)
    error = refused.value
    assert error.cause is Cause.VALIDATION
    assert (error.instrument, error.command) == ("psu", "voltage.set")
    assert said in str(error)
    assert not error.may_have_executed


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_a_number_passes_exactly_within_its_bounds(value: float) -> None:
    """No number outside the bounds passes, whatever its size."""
    assert (VOLTAGE.problem(value) is None) == (0.0 <= value <= 30.0)


@pytest.mark.parametrize(
    ("limits", "value", "harms"),
    [
        (Limits(bool, hazardous=True), False, True),
        (Limits(bool), True, False),
        (Limits(float, hazardous=lambda volts: volts > 5.0), 5.0, False),
        (Limits(float, hazardous=lambda volts: volts > 5.0), 6.0, True),
    ],
)
def test_a_harmful_value_needs_confirmation(
    limits: Limits[Any], value: object, harms: bool
) -> None:
    """Only a value that can do harm is refused unless it is confirmed."""
    assert limits.is_hazardous(value) is harms
    check(limits, value, instrument="psu", command="output.set", confirm=True)
    if harms:
        with pytest.raises(RefusedError, match="confirm=True"):
            check(limits, value, instrument="psu", command="output.set", confirm=False)
    else:
        check(limits, value, instrument="psu", command="output.set", confirm=False)


def test_a_wrong_value_is_never_asked_whether_it_harms() -> None:
    """The check of harm sees only values of the right type and range."""
    limits: Limits[Any] = Limits(float, "V", 0.0, 30.0, hazardous=lambda volts: volts > 5.0)
    with pytest.raises(RefusedError, match="is a str"):
        check(limits, "x", instrument="psu", command="voltage.set", confirm=True)
