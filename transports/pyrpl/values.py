"""PyRPL's objects as plain values, and what its attributes take."""

from __future__ import annotations

import math
from collections.abc import Iterable, KeysView, Mapping, ValuesView
from typing import Any, Final, cast

import numpy as np
import trio

from .desk import RefusedCallError

_POLL_S: Final = 0.01

_MOST_CHOICES: Final = 256


def plain(value: Any, path: str) -> Any:
    """Return a value that can travel.

    Raises:
        RefusedCallError: It is an object of PyRPL's own.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return cast("Any", value)
    if hasattr(value, "items"):
        return {str(key): plain(each, path) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, KeysView, ValuesView)):
        return [plain(each, path) for each in cast("Iterable[Any]", value)]
    what = f"{path} is an object ({type(value).__name__})"
    raise RefusedCallError("rejected", f"{what}: name an attribute or a method of it")


def member(owner: Any, name: str, path: str) -> Any:
    """Return an object's attribute by name.

    Raises:
        RefusedCallError: It has none of that name; says which it has.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        known = ", ".join(each for each in dir(owner) if not each.startswith("_"))
        raise RefusedCallError(
            "rejected", f"{path}: there is no {name!r}; there are: {known}"
        ) from None


async def finished(result: Any) -> Any:
    """Return what a call gave, once it is there where it gave a future.

    Cancelling cancels the future.
    """
    if not (hasattr(result, "done") and hasattr(result, "cancel")):
        return result
    try:
        # It makes progress whenever Qt's events are processed.
        while not result.done():  # noqa: ASYNC110 - it knows nothing of Trio
            await trio.sleep(_POLL_S)
    except BaseException:
        result.cancel()
        raise
    return result.result()


def attributes(module: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return what each attribute of a module takes, as far as PyRPL says."""
    found: dict[str, Mapping[str, Any]] = {}
    kind = cast("Any", type(module))
    for name in dir(kind):
        declared = getattr(kind, name, None)
        if name.startswith("_") or not hasattr(declared, "validate_and_normalize"):
            continue
        limits: dict[str, Any] = {}
        for bound in ("min", "max"):
            limit = getattr(declared, bound, None)
            if isinstance(limit, (int, float)) and math.isfinite(limit):
                limits[bound] = limit
        step = getattr(declared, "increment", None)
        # A register has steps of one size; what has none is rounded in ways of its own.
        if hasattr(declared, "norm") and isinstance(step, (int, float)) and step > 0:
            limits["step"] = float(step)
        choices = _choices(declared, module)
        if choices is not None:
            limits["choices"] = choices
        stages = getattr(declared, "_FILTERSTAGES", None)
        if stages is not None:
            limits["stages"] = int(stages(module))
        found[name] = limits
    return found


def _choices(declared: Any, module: Any) -> list[Any] | None:
    """Return the only values of an attribute; None where there are too many or none known."""
    listing = getattr(declared, "options", None) or getattr(declared, "valid_frequencies", None)
    if listing is None:
        return None
    try:
        options = listing(module)
        choices = [plain(each, "") for each in options]
    except Exception:  # noqa: BLE001 - PyRPL cannot say it for all of its attributes
        return None
    return choices if 0 < len(choices) <= _MOST_CHOICES else None
