"""Operations that go on after their exchange: how they are followed, and called off; pure.

Rules:
1. An operation holds its instrument's lane and leaves the bus to others.
2. It is followed by harmless questions that are answered at once, never by one that the
   device answers when it is done.
3. Whoever may have left one running owes the device its abort.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from attrs import field, frozen, validators

from transports import Exchange

T_co = TypeVar("T_co", covariant=True)


class Acknowledge(Enum):
    """What tells that the hardware has taken or carried out a command that writes."""

    NONE = "none"
    """Nothing: it is taken for done once it is sent."""
    REPLY = "reply"
    """The protocol's own reply."""
    ECHO = "echo"
    """The device sends back what it was sent."""
    STATUS_BYTE = "status byte"
    """`*OPC` raises a bit of the status byte, which is asked for between other commands."""
    EVENT_STATUS = "event status"
    """`*OPC` raises a bit of the event status register, which reading clears."""
    SERVICE_REQUEST = "service request"
    """`*OPC` makes the device request service, where the transport can tell; the status
    byte is asked for all the same."""

    @property
    def by_status(self) -> bool:
        """Whether it is a status that acknowledges, asked for until it does."""
        return self in (
            Acknowledge.STATUS_BYTE,
            Acknowledge.EVENT_STATUS,
            Acknowledge.SERVICE_REQUEST,
        )


@frozen(kw_only=True)
class Progress:
    """How far an operation has come.

    Attributes:
        done: Whether it is over.
        fraction: How much of it is done, from 0 to 1; None where the device does not say.
        doing: What it is at, in words, such as "it waits for the trigger"; "" where the device
            does not say.
        said: What the device said, as it came.
    """

    done: bool
    fraction: float | None = None
    doing: str = ""
    said: bytes = b""


@frozen(kw_only=True)
class Overlap(Generic[T_co]):
    """How an operation is followed once the device has been told to start it.

    Attributes:
        poll: Asks how far it has come; harmless, and answered at once.
        judge: Reads the answer; raises DeviceError where the operation failed, ValueError
            where the answer does not fit.
        finish: Asks how it went and what came of it, once it is done; None where nothing.
        result: Turns that answer into the value; raises as `judge` does.
        abort: Stops it; None where the device cannot.
        within_s: How long it may take, in seconds, before it is called off as failed.
        by_status: Whether it is the status that acknowledges the command, not the reply to
            its start.
        on_request: Whether the device requests service when it is done, so that its status
            is asked for at once where the transport can tell.
    """

    poll: Exchange
    judge: Callable[[bytes], Progress]
    result: Callable[[bytes], T_co]
    finish: Exchange | None = None
    abort: Exchange | None = None
    within_s: float = field(default=3600.0, validator=validators.gt(0.0))
    by_status: bool = False
    on_request: bool = False
