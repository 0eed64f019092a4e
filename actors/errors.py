"""What callers of actors and instruments can meet."""

from __future__ import annotations

import math

from .faults import Cause, Fault


class ActorError(Exception):
    """The root of everything this package raises on purpose."""


class DeviceError(ActorError):
    """An instrument answered with an error of its own; raised by `decode`.

    Attributes:
        fault: What the instrument reported.
    """

    def __init__(self, fault: Fault) -> None:
        """Store the fault; its text is the message."""
        super().__init__(str(fault))
        self.fault = fault


class CommandError(ActorError):
    """A command did not complete.

    Attributes:
        cause: Why.
        instrument: The instrument's name.
        command: The command's name, such as "voltage" or "voltage.set".
        may_have_executed: Whether the device may have carried it out all the same.
        retry_after_s: When asking again makes sense, in seconds from then; None when
            waiting does not help or is not known to.
        fault: The device's or line's fault behind it, where there is one.
    """

    def __init__(
        self,
        reason: str,
        *,
        cause: Cause,
        instrument: str,
        command: str,
        may_have_executed: bool = False,
        retry_after_s: float | None = None,
        fault: Fault | None = None,
    ) -> None:
        """Store the facts."""
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.instrument = instrument
        self.command = command
        self.may_have_executed = may_have_executed
        # Endless where a breaker was opened by hand.
        self.retry_after_s = None if retry_after_s == math.inf else retry_after_s
        self.fault = fault

    def __str__(self) -> str:
        """Return one line: instrument, command, cause and what may have happened."""
        text = f"{self.instrument}: {self.command}: {self.reason} ({self.cause.value})"
        if self.retry_after_s is not None:
            text += f", retry after {self.retry_after_s:.3g} s"
        if self.may_have_executed:
            text += ", may have executed"
        return text


class RefusedError(CommandError):
    """A command was not accepted: no byte of it was or will be sent."""


class AskError(ActorError):
    """An actor did not answer.

    Attributes:
        actor: Its name.
        cause: CRASHED, STOPPED, FULL, EXPIRED or CONFLICT (it waits for the asker itself).
    """

    def __init__(self, actor: str, cause: Cause, reason: str) -> None:
        """Store who and why."""
        super().__init__(f"{actor}: {reason} ({cause.value})")
        self.actor = actor
        self.cause = cause


class SupervisionError(ActorError):
    """A child could not be started, or is not known to its supervisor."""


class GaveUpError(SupervisionError):
    """A supervisor met more restarts than its intensity allows; it stopped its children."""


class IllegalCommandStepError(ActorError):
    """A step that the command table does not hold: a fault of the program."""


class IllegalLeaseStepError(ActorError):
    """A step that the lease table does not hold: a fault of the program."""


class LeaseLostError(ActorError):
    """A lease ended before its block did; its instruments were driven safe.

    Attributes:
        owner: Who held it.
        token: Its number.
        instruments: What it was for.
        why: What ended it: preempted, no sign of life, or taken away.
    """

    def __init__(self, owner: str, token: int, instruments: tuple[str, ...], why: str) -> None:
        """Store whose it was and what ended it."""
        super().__init__(f"the lease {token} of {owner!r} on {', '.join(instruments)} ended: {why}")
        self.owner = owner
        self.token = token
        self.instruments = instruments
        self.why = why
