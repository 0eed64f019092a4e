"""Calls of the worker process as exchanges, and its answers as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.errors import DeviceError
from actors.faults import REJECTED, Fault, FaultClass
from transports import Exchange, unpack
from transports import pack as _pack

OPERATION_FAILED: Final = FaultClass("OPERATION_FAILED")
"""The board's library took the call and failed at it."""

STOPPED: Final = FaultClass("STOPPED")
"""Somebody stopped the operation, or switched the outputs off."""

_KINDS: Final[Mapping[str, FaultClass]] = {
    "rejected": REJECTED,
    "busy": REJECTED,
    "conflict": REJECTED,
    "unknown": OPERATION_FAILED,
    "aborted": STOPPED,
}


def call(
    name: str,
    arguments: Mapping[str, Any],
    unit: str | None,
    within_s: float,
    *,
    wait: bool = True,
) -> Exchange:
    """Return the exchange that makes a call of the worker process.

    Without `wait` an operation is refused where its module is in use.
    """
    return Exchange(_pack([name, dict(arguments), wait]), unit, within_s)


def answer(raw: bytes) -> Any:
    """Return the value in an answer.

    Raises:
        DeviceError: The call was refused, or failed.
        ValueError: The bytes are no answer.
    """
    done, *rest = unpack(raw)
    if done:
        return rest[0]
    kind, text = rest
    raise DeviceError(Fault(_KINDS.get(kind, OPERATION_FAILED), str(text), raw))
