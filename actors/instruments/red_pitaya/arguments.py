"""Checks of arguments that are no settings, before anything travels."""

from __future__ import annotations

from typing import Any, Final

from actors.validation import Limits, check

LONGEST_S: Final = 3600.0
"""How long anything may be told to take, in seconds."""

SHORTEST_S: Final = 0.001


def check_time(
    instrument: str,
    command: str,
    name: str,
    value: object,
    *,
    low: float = SHORTEST_S,
    high: float = LONGEST_S,
) -> None:
    """Check an argument that is a time in seconds.

    Raises:
        RefusedError: It is no number, or out of range.
    """
    _check(Limits(float, "s", low, high), value, instrument, f"{command}.{name}")


def check_count(instrument: str, command: str, name: str, value: object) -> None:
    """Check an argument that says how many.

    Raises:
        RefusedError: It is no integer from 1 on.
    """
    _check(Limits(int, None, 1, 1_000_000_000), value, instrument, f"{command}.{name}")


def check_text(instrument: str, command: str, name: str, value: object) -> None:
    """Check an argument that is a text.

    Raises:
        RefusedError: It is something else.
    """
    _check(Limits(str), value, instrument, f"{command}.{name}")


def check_volts(instrument: str, command: str, name: str, value: object) -> None:
    """Check an argument that is a voltage above 0.

    Raises:
        RefusedError: It is no number, or out of range.
    """
    _check(Limits(float, "V", 1e-6, 2.0), value, instrument, f"{command}.{name}")


def _check(limits: Limits[Any], value: object, instrument: str, command: str) -> None:
    check(limits, value, instrument=instrument, command=command, confirm=False)
