"""An instrument's place on its bus: who it must be, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen, validators

from transports import Exchange

from .breaker import Breaker, BreakerPolicy
from .command import Moves, Plan
from .faults import Fault
from .inbox import Lane
from .reply import ReplyChannel
from .ticket import Ticket

T = TypeVar("T")

Script: TypeAlias = Generator[Exchange, bytes, T]
"""Several exchanges as one step: yields each, is sent its reply, returns the result."""


@frozen
class Identity:
    """Who an instrument says it is. None where its protocol does not say.

    Attributes:
        maker: Who built it.
        model: The type.
        serial: The serial number.
        firmware: The version of its software.
    """

    maker: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None

    def __str__(self) -> str:
        """Return what is known, on one line."""
        known = [each for each in (self.maker, self.model, self.serial, self.firmware) if each]
        return " ".join(known) or "unverified"

    def contradiction(self, expected: Identity) -> str | None:
        """Return what differs from `expected` where both say something, or None."""
        for name in ("maker", "model", "serial"):
            mine, theirs = getattr(self, name), getattr(expected, name)
            if mine is not None and theirs is not None and mine != theirs:
                return f"{name} is {mine!r}, expected {theirs!r}"
        return None

    def merged(self, found: Identity) -> Identity:
        """Return what to expect from now on: this, and what `found` adds to it.

        The firmware is left open: an update does not make another instrument.
        """
        return evolve(
            self,
            maker=self.maker or found.maker,
            model=self.model or found.model,
            serial=self.serial or found.serial,
        )


class OnReconnect(Enum):
    """What happens to an instrument's settings when it comes back."""

    RESTORE = "restore"
    """Intended settings are written again, save hazardous ones."""
    QUARANTINE = "quarantine"
    """It stays out of service until it is rearmed."""


class Service(Enum):
    """Whether an instrument takes commands."""

    CONNECTING = "connecting"
    """Not identified since the line was opened."""
    RECOVERING = "recovering"
    """In its declared recovery window: silence is no fault."""
    IN_SERVICE = "in service"
    QUARANTINED = "quarantined"
    """Out of service until a probe succeeds."""


_AWAY: Final = (Service.CONNECTING, Service.RECOVERING)


class Device(Protocol):
    """What a bus needs to know of an instrument."""

    @property
    def name(self) -> str:
        """Its name in the tree."""
        ...

    @property
    def unit(self) -> str | None:
        """Its address on a shared bus."""
        ...

    @property
    def group(self) -> str | None:
        """What it is a part of together with others of its bus; None where it stands alone.

        Parts of one thing are tripped, driven safe and rearmed together.
        """
        ...

    def identify(self) -> Script[Identity]:
        """Ask who it is.

        Each exchange says what it accepts: a line that was just opened may still carry
        the answer to something that was asked before.
        """
        ...

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return a harmless query whose answer cannot be taken for one of those owed."""
        ...

    def safe_plans(self) -> Sequence[Plan[object]]:
        """Return what drives it safe, in this order."""
        ...


@frozen(kw_only=True)
class MemberPolicy:
    """How a bus treats one instrument.

    Attributes:
        breaker: When it is quarantined, and for how long.
        expect: Who it must be; what is None may be anything.
        on_reconnect: What happens to its settings when it comes back.
        recovery_s: How long it may stay silent after its line was opened, in seconds.
    """

    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    expect: Identity = field(factory=Identity)
    on_reconnect: OnReconnect = OnReconnect.RESTORE
    recovery_s: float = field(default=0.0, validator=validators.ge(0.0))


@frozen
class SafeOutcome:
    """Whether an instrument was driven safe.

    Attributes:
        instrument: Its name.
        error: Why it could not be reached, or None when it is safe.
    """

    instrument: str
    error: str | None


class Next(Enum):
    """What an engaged lane waits to do, before anything else."""

    TRY_AGAIN = "try again"
    ASK_PROGRESS = "ask for progress"
    ASK_RESULT = "ask for the result"
    ABORT = "abort"


@define(eq=False)
class Engagement:
    """A command that has a lane for itself though it is not on the line.

    Attributes:
        ticket: The command.
        then: What comes next.
        due_s: When, in Trio time.
        fault: What its last attempt failed with, or None.
        ends_s: When an operation is called off as failed, in Trio time.
    """

    ticket: Ticket[Any]
    then: Next
    due_s: float
    fault: Fault | None = None
    ends_s: float = math.inf


@define(eq=False)
class Member:
    """The bus's notes on one instrument.

    Attributes:
        lane: Its queue; held exactly while it is not in service.
        service: Whether it takes commands.
        tripped: Why only reads are taken, or None.
        passing: Whether that is only until it has been driven safe.
        identity: Who answered last, or None before any did.
        expected: Who must answer from now on.
        reason: Why it is not in service.
        silent: Whether it is quarantined for giving no usable answer.
        answered: Whether it has said who it is since the line was opened, and is right.
        served: Whether it has ever been in service.
        confirmed: Whether it may return to service under `on_reconnect = "quarantine"`.
        probe_at_s: When to identify it next, in Trio time; infinite while in service.
        intended: What its settings should be, in the order they were made.
        may_be: Units that it may go by beside its own: it was told to, and said nothing.
        doubts: Settings whose last write may have been carried out or not, and that write.
        unrestored: Whether it was away, and its settings were not written again since.
        refused: Intended settings that it would not take back, for which it is kept out.
        waived: Those that it is let in without: somebody rearmed it after it was told.
        touched: Whether it may have left its safe state since it was last driven there.
        safe_reason: Why it must be driven safe, while that is still owed.
        safe_tries: How often that was tried since it was owed.
        safe_unsaid: Whether it came to be owed that once more, and nobody was told.
        safe_told: Where whoever waits is told how trying went: why not, or None.
        engagement: What has its lane while it is not on the line, or None.
        left_running: What stops an operation that it may be busy with, or None.
    """

    device: Device
    policy: MemberPolicy
    lane: Lane[Ticket[Any]]
    breaker: Breaker
    expected: Identity
    service: Service = Service.CONNECTING
    tripped: str | None = None
    passing: bool = False
    identity: Identity | None = None
    reason: str = "not connected yet"
    silent: bool = False
    answered: bool = False
    served: bool = False
    confirmed: bool = True
    probe_at_s: float = 0.0
    intended: dict[str, Plan[object]] = field(factory=dict[str, Plan[object]])
    may_be: tuple[str, ...] = ()
    doubts: dict[str, Plan[object]] = field(factory=dict[str, Plan[object]])
    unrestored: bool = False
    refused: dict[str, Plan[object]] = field(factory=dict[str, Plan[object]])
    waived: dict[str, Plan[object]] = field(factory=dict[str, Plan[object]])
    touched: bool = True
    safe_reason: str | None = None
    safe_tries: int = 0
    safe_unsaid: bool = False
    safe_told: ReplyChannel[str | None] = field(factory=ReplyChannel[str | None])
    engagement: Engagement | None = None
    left_running: Exchange | None = None

    @property
    def name(self) -> str:
        """The instrument's name."""
        return self.device.name

    @property
    def known(self) -> bool:
        """Whether it is who it must be, as far as was seen: it may be told things."""
        return self.answered and self.breaker.closed

    @property
    def recovering(self) -> bool:
        """Whether its recovery window is still to end before it can answer."""
        return self.policy.recovery_s > 0.0 and self.service in _AWAY

    def intend(self, plan: Plan[object]) -> None:
        """Note that the device was told to hold a setting."""
        if plan.setting is None:
            return
        moved = self._moved_by(plan)
        self._hold(plan.setting, plan)
        # After what moved them: on the way back it moves them once more.
        for name, held in moved.items():
            if name in self.doubts:
                self._hold(name, None)  # which of two was moved is not known
            elif name in self.intended:
                self._hold(name, held)

    def doubt(self, plan: Plan[object]) -> None:
        """Note that the device was told to hold a setting, and may hold it or not."""
        setting = plan.setting
        if setting is None:
            return
        if plan.moves is not None:
            plan = evolve(plan, moves=_as_of(dict(self.intended), self._moved_by(plan)))
        self.doubts[setting] = plan

    def may_have_moved(self, name: str) -> bool:
        """Return whether a write that is in doubt has moved an intended setting if it was done."""
        held = self.intended.get(name)
        return any(
            doubt.moves is not None and doubt.moves(self.intended).get(name, held) is not held
            for doubt in self.doubts.values()
        )

    def waive(self) -> None:
        """Go on without the settings that it would not take back."""
        self.waived.update(self.refused)
        self.refused.clear()

    def settle(self) -> None:
        """Note that its settings were written again, but for those that were waived."""
        for name, plan in self.waived.items():
            if self.intended.get(name) is plan:
                del self.intended[name]
        self.waived.clear()
        self.refused.clear()
        self.unrestored = False

    def _moved_by(self, plan: Plan[object]) -> Mapping[str, Plan[object] | None]:
        """Return what a write moves, and to where; None where that is not known."""
        if plan.moves is None:
            return {}
        moved = plan.moves(self.intended)
        doubt = None if plan.setting is None else self.doubts.get(plan.setting)
        if doubt is None or doubt.moves is None:
            return moved
        # What was written after the write in doubt was written for one value of it or the other.
        before = doubt.moves(self.intended)
        return {
            name: None if before.get(name) is self.intended.get(name) else held
            for name, held in moved.items()
        }

    def _hold(self, name: str, plan: Plan[object] | None) -> None:
        self.doubts.pop(name, None)
        self.intended.pop(name, None)
        if plan is not None:
            self.intended[name] = plan


def _as_of(before: Mapping[str, Plan[object]], moved: Mapping[str, Plan[object] | None]) -> Moves:
    """Return what was moved, by a write that may have been done, of what was intended before.

    What is intended since is as it was written, and moved by nothing.
    """

    def since(present: Mapping[str, Plan[object]]) -> Mapping[str, Plan[object] | None]:
        return {
            name: held if present.get(name) is before.get(name) else present.get(name)
            for name, held in moved.items()
        }

    return since


@frozen(kw_only=True)
class InstrumentStatus:
    """An instrument as seen from outside.

    Attributes:
        name: Its name.
        service: Whether it takes commands.
        tripped: Why only reads are taken, or None.
        identity: Who answered last, or None before any did.
        reason: Why it is not in service, or "".
        retry_after_s: When the next probe is due, in seconds from now.
        waiting: How many commands wait in its lane.
        safe_owed: Whether driving it safe is still owed.
        engaged: The command that holds its lane while it is not on the line, or None.
    """

    name: str
    service: Service
    tripped: str | None
    identity: Identity | None
    reason: str
    retry_after_s: float | None
    waiting: int
    safe_owed: bool
    engaged: str | None = None
