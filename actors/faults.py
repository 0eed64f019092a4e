"""Why commands fail: causes, and the faults of devices and lines behind them."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen


class Cause(Enum):
    """Why a command was refused or failed."""

    VALIDATION = "validation"
    """The value, unit, capability or confirmation is wrong: mend the call."""
    LEASE = "lease"
    """Somebody else holds the instrument."""
    BREAKER = "breaker"
    """The instrument or its bus is known to be away; `retry_after_s` says until when."""
    FULL = "full"
    """The lane has no room and the caller did not want to wait."""
    CONFLICT = "conflict"
    """Another operation excludes this one."""
    DEPENDENCY = "dependency"
    """A command that had to come first failed, or what has to hold first does not."""
    JOURNAL = "journal"
    """The audit trail cannot be written."""
    WITHDRAWN = "withdrawn"
    """The caller took it back, or was cancelled."""
    EXPIRED = "expired"
    """The caller's deadline passed before the command was dispatched."""
    TRIPPED = "tripped"
    """The lane was tripped: only reads pass until it is rearmed."""
    DEVICE = "device"
    """The instrument answered that it will not or cannot."""
    TRANSPORT = "transport"
    """The line failed: no reply, a broken or foreign one, or no connection."""
    CRASHED = "crashed"
    """The actor failed while it worked on the command."""
    STOPPED = "stopped"
    """The tree, the bus or the instrument is stopping or was removed."""
    RETRIES_EXHAUSTED = "retries exhausted"
    """Every attempt failed; the last fault is attached."""


@frozen
class FaultClass:
    """One kind of fault; drivers add their own.

    Attributes:
        name: The word in logs and journals.
        fatal: Whether going on is unsafe: the lane is tripped, and nothing is retried.
        recoverable: Whether it may pass by itself, so that trying again makes sense.
    """

    name: str
    fatal: bool = False
    recoverable: bool = False

    def __attrs_post_init__(self) -> None:
        """Check that nothing fatal is retried."""
        if self.fatal and self.recoverable:
            raise ValueError(f"{self.name} cannot be both fatal and recoverable")


TIMEOUT: Final = FaultClass("TIMEOUT", recoverable=True)
BUSY: Final = FaultClass("BUSY", recoverable=True)
PARITY_ERROR: Final = FaultClass("PARITY_ERROR", recoverable=True)
FRAMING: Final = FaultClass("FRAMING", recoverable=True)
FOREIGN_REPLY: Final = FaultClass("FOREIGN_REPLY", recoverable=True)
DISCONNECTED: Final = FaultClass("DISCONNECTED", recoverable=True)
REJECTED: Final = FaultClass("REJECTED")
OVER_RANGE: Final = FaultClass("OVER_RANGE")
SENSOR_ERROR: Final = FaultClass("SENSOR_ERROR")
CALIBRATION_EXPIRED: Final = FaultClass("CALIBRATION_EXPIRED", fatal=True)
OVER_CURRENT: Final = FaultClass("OVER_CURRENT", fatal=True)
OVER_VOLTAGE: Final = FaultClass("OVER_VOLTAGE", fatal=True)
OVER_TEMPERATURE: Final = FaultClass("OVER_TEMPERATURE", fatal=True)
OVER_PRESSURE: Final = FaultClass("OVER_PRESSURE", fatal=True)
INTERLOCK_OPEN: Final = FaultClass("INTERLOCK_OPEN", fatal=True)
OPENED_BY_HAND: Final = FaultClass("OPENED_BY_HAND")
IDENTITY_MISMATCH: Final = FaultClass("IDENTITY_MISMATCH", fatal=True)


NOT_TAKEN: Final = frozenset({REJECTED, BUSY})
"""The faults with which a device says that it has not carried a command out."""


@frozen
class Fault:
    """One fault that happened.

    Attributes:
        kind: Its class.
        text: What happened, in words.
        raw: The bytes concerned, where there are any.
    """

    kind: FaultClass
    text: str
    raw: bytes = b""

    def __str__(self) -> str:
        """Return the class and the text."""
        return f"{self.kind.name}: {self.text}"
