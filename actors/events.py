"""What happens on a bench, as values handed to observers.

Logging, the terminal view and tests are observers like any other; events come first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog
from attrs import field, frozen

from transports import current_clock

from .breaker import BreakerState
from .command import CommandState
from .faults import Cause


def _mono_ns() -> int:
    return current_clock().mono_ns()


def _utc_ns() -> int:
    return current_clock().utc_ns()


@frozen(kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        mono_ns: When, on the monotonic clock.
        utc_ns: When, on the wall clock, in ns since 1970.
    """

    mono_ns: int = field(factory=_mono_ns, repr=False)
    utc_ns: int = field(factory=_utc_ns, repr=False)


@frozen(kw_only=True)
class ChildStarted(Event):
    """A child reported that it is up."""

    supervisor: str
    child: str


@frozen(kw_only=True)
class ChildEnded(Event):
    """A child ended.

    Attributes:
        error: What it failed with, in words; None when it returned or was stopped.
        stopped: Whether its supervisor had told it to.
    """

    supervisor: str
    child: str
    error: str | None
    stopped: bool


@frozen(kw_only=True)
class ChildRestarting(Event):
    """A child will be started again, `delay_s` seconds from now."""

    supervisor: str
    child: str
    delay_s: float


@frozen(kw_only=True)
class ChildOverdue(Event):
    """A child has not ended within its stop budget; it is still waited for."""

    supervisor: str
    child: str
    budget_s: float


@frozen(kw_only=True)
class SupervisorGaveUp(Event):
    """A supervisor met more restarts than it bears and stopped its children."""

    supervisor: str
    child: str
    error: str | None


@frozen(kw_only=True)
class BusOpened(Event):
    """A bus's connection was opened."""

    bus: str


@frozen(kw_only=True)
class BusLost(Event):
    """A bus failed: its connection was lost or refused, or nobody on it answers."""

    bus: str
    reason: str


@frozen(kw_only=True)
class BreakerChanged(Event):
    """A breaker changed its state.

    Attributes:
        name: The bus or instrument it belongs to.
        retry_after_s: How long commands are refused, where it opened.
        reason: What made it change.
    """

    name: str
    state: BreakerState
    retry_after_s: float | None
    reason: str


@frozen(kw_only=True)
class InstrumentIdentified(Event):
    """An instrument answered with its identity and is in service."""

    instrument: str
    identity: str


@frozen(kw_only=True)
class InstrumentQuarantined(Event):
    """An instrument is out of service until a probe succeeds."""

    instrument: str
    reason: str


@frozen(kw_only=True)
class IdentityMismatch(Event):
    """Another instrument answers where this one is expected; it stays out of service."""

    instrument: str
    expected: str
    found: str


@frozen(kw_only=True)
class SettingsRestored(Event):
    """After a reconnection, intended settings were written again.

    Attributes:
        settings: Which.
        left_out: Which were not, because they can do harm or somebody rearmed the instrument
            after it had refused them.
        sent: What was sent for each of `settings`, in letters.
    """

    instrument: str
    settings: tuple[str, ...]
    left_out: tuple[str, ...]
    sent: tuple[str, ...] = ()


@frozen(kw_only=True)
class SettingsRefused(Event):
    """After a reconnection, an instrument would not take what it held before; it stays out.

    Rearming it lets it in without them.

    Attributes:
        settings: Which it refused, and what they were to be.
        reason: What it said.
    """

    instrument: str
    settings: tuple[str, ...]
    reason: str


@frozen(kw_only=True)
class OperationStopped(Event):
    """A device was told to stop what it was busy with, or may have been left busy with.

    Attributes:
        sent: What was sent, in letters.
    """

    instrument: str
    sent: str


@frozen(kw_only=True)
class CommandFinished(Event):
    """A command other than a successful read reached its outcome."""

    instrument: str
    command: str
    seq: int
    error: str | None
    cause: Cause | None


@frozen(kw_only=True, slots=False)  # made in a third less time: each command makes four
class CommandMoved(Event):
    """A command was accepted or took a step; published for observers that ask for it.

    Attributes:
        bus: The bus it goes over.
        instrument: The instrument.
        command: What is asked.
        seq: The command's number.
        state: The state it is in now.
        writes: Whether it changes the instrument.
        urgent: Whether it is an emergency.
        target: The resource as a URI.
        caller: Who gave the directive.
        lease: The fencing token it was given under, or None.
        hazardous: Whether it can do harm.
        request: What is sent first.
        deadline_s: When its caller stops caring, in Trio time; None for never.
        attempt: How often its first byte was handed over.
        acknowledgement: What the hardware said when it acknowledged; empty before.
        sent_ns: When its answered exchange began, in monotonic ns; None without an answer.
        reply: The reply as it came, unframed; empty without one.
        cause: Why it failed, or None.
        error: Why it failed in words, or None.
        may_have_executed: Whether the device carried it out or may have, so far.
    """

    bus: str
    instrument: str
    command: str
    seq: int
    state: CommandState
    writes: bool
    urgent: bool
    target: str = ""
    caller: str = ""
    lease: int | None = None
    hazardous: bool = False
    request: bytes = b""
    deadline_s: float | None = None
    attempt: int = 0
    acknowledgement: bytes = b""
    sent_ns: int | None = None
    reply: bytes = b""
    cause: Cause | None = None
    error: str | None = None
    may_have_executed: bool = False

    def later(
        self,
        *,
        mono_ns: int,
        utc_ns: int,
        state: CommandState,
        attempt: int,
        acknowledgement: bytes,
        sent_ns: int | None,
        reply: bytes,
        cause: Cause | None,
        error: str | None,
        may_have_executed: bool,
    ) -> CommandMoved:
        """Return a later step of the same command, at a third of what a new event costs."""
        told = vars(self).copy()
        told["state"] = state
        told["attempt"] = attempt
        told["acknowledgement"] = acknowledgement
        told["sent_ns"] = sent_ns
        told["reply"] = reply
        told["cause"] = cause
        told["error"] = error
        told["may_have_executed"] = may_have_executed
        step = CommandMoved.__new__(CommandMoved)
        # An event is frozen as soon as somebody else can see it.
        object.__setattr__(step, "__dict__", told)
        object.__setattr__(step, "mono_ns", mono_ns)
        object.__setattr__(step, "utc_ns", utc_ns)
        return step


@frozen(kw_only=True)
class AttemptFailed(Event):
    """An attempt at a command failed, and will be repeated.

    Attributes:
        attempt: Which: 1 for the first.
        fault: What it failed with.
        again_in_s: How long until the next one.
    """

    bus: str
    instrument: str
    command: str
    seq: int
    attempt: int
    fault: str
    again_in_s: float


@frozen(kw_only=True)
class AttemptBegun(Event):
    """A command goes over its line once more; published for observers that ask for it."""

    bus: str
    instrument: str
    command: str
    seq: int
    attempt: int


@frozen(kw_only=True)
class CommandRefused(Event):
    """A bus did not accept a command; published for observers that ask for it.

    Attributes:
        writes: Whether it would have changed the instrument.
        target: The resource as a URI.
        caller: Who gave the directive.
        error: Why, in words.
    """

    bus: str
    instrument: str
    command: str
    cause: Cause
    writes: bool = False
    target: str = ""
    caller: str = ""
    error: str = ""


@frozen(kw_only=True)
class ReadFailed(Event):
    """A periodic read gave no value."""

    instrument: str
    parameter: str
    error: str
    cause: Cause


@frozen(kw_only=True)
class LaneTripped(Event):
    """An instrument takes only reads from now on, until it is rearmed."""

    instrument: str
    reason: str
    failed: int


@frozen(kw_only=True)
class LaneRearmed(Event):
    """A tripped instrument takes commands again."""

    instrument: str


@frozen(kw_only=True)
class SafeStateDue(Event):
    """A tripped instrument will be driven safe again: it was away, or was written to since."""

    instrument: str
    reason: str


@frozen(kw_only=True)
class SafeStateReached(Event):
    """An instrument was driven to its safe state.

    Attributes:
        sent: What was sent for it, in letters.
    """

    instrument: str
    reason: str
    sent: tuple[str, ...] = ()


@frozen(kw_only=True)
class SafeStateOwed(Event):
    """An instrument could not be driven safe; it will be, first thing on reconnection."""

    instrument: str
    reason: str
    error: str


@frozen(kw_only=True)
class SafeStateFailed(Event):
    """An instrument could not be driven safe before everything closed."""

    instrument: str
    reason: str
    error: str


@frozen(kw_only=True)
class StateDrifted(Event):
    """A device does not hold what it was told.

    Attributes:
        setting: Which setting.
        wanted: What it was told.
        found: What it says.
        action: What is done about it.
    """

    instrument: str
    setting: str
    wanted: object
    found: object
    action: str


@frozen(kw_only=True)
class WriteResolved(Event):
    """It was found out whether a write was carried out whose answer never came."""

    instrument: str
    command: str
    executed: bool


@frozen(kw_only=True)
class StatusFault(Event):
    """A device's status says that something is wrong with it."""

    instrument: str
    fault: str
    reason: str


@frozen(kw_only=True)
class StatusUnknown(Event):
    """A device does not know the status that its driver asks for; it is asked no more."""

    instrument: str
    reason: str


@frozen(kw_only=True)
class StateUnchecked(Event):
    """An instrument could not be looked at: what it drifts to or what fails in it is not seen.

    It is told once, until it could be looked at again.
    """

    instrument: str
    for_s: float
    reason: str


@frozen(kw_only=True)
class LeaseEvent(Event):
    """Something happened to a lease.

    Attributes:
        token: Its number.
        owner: Who asked for it, in words.
        instruments: What it is for.
    """

    token: int
    owner: str
    instruments: tuple[str, ...]


@frozen(kw_only=True)
class LeaseQueued(LeaseEvent):
    """A lease has to wait for others.

    Attributes:
        waits_for: Who is in the way, in words.
    """

    waits_for: str


@frozen(kw_only=True)
class LeaseGranted(LeaseEvent):
    """A lease is held from now on: nobody else commands its instruments."""


@frozen(kw_only=True)
class LeasePreempted(LeaseEvent):
    """A lease has to give way: it ends `grace_s` seconds from now unless given back before."""

    by: str
    grace_s: float


@frozen(kw_only=True)
class LeaseReprieved(LeaseEvent):
    """Nobody waits any more for whom a lease had to give way: it goes on."""


@frozen(kw_only=True)
class LeaseReleased(LeaseEvent):
    """A lease was given back."""


@frozen(kw_only=True)
class LeaseExpired(LeaseEvent):
    """A lease was lost: its holder gave no sign of life. Its instruments are driven safe."""

    reason: str


@frozen(kw_only=True)
class LeaseRevoked(LeaseEvent):
    """A lease was lost: taken away, or its holder failed. Its instruments are driven safe."""

    reason: str


@frozen(kw_only=True)
class BusAwaited(Event):
    """Another tree has a port that is needed.

    Attributes:
        key: The canonical name of the bus.
        text: Who has it, since when, and what can be done.
    """

    key: str
    text: str


@frozen(kw_only=True)
class BusLent(Event):
    """A port was handed to another tree, everything on it safe; it comes back in turn."""

    bus: str
    to: str


@frozen(kw_only=True)
class BusReturned(Event):
    """A port that was handed to another tree is used here again."""

    bus: str


@frozen(kw_only=True)
class MemoryWorn(Event):
    """Settings that a device stores for good are written more often than its memory bears.

    Attributes:
        command: The setting or action written last.
        writes: How many such writes the instrument was given in all.
        last_minute: How many of them within the last minute.
    """

    instrument: str
    command: str
    writes: int
    last_minute: int


@frozen(kw_only=True)
class ServiceRequestsUntold(Event):
    """A service request is to acknowledge a command, on a line that tells of none.

    Its status is asked for instead. Said once of each instrument.

    Attributes:
        poll_s: How often, in seconds.
    """

    bus: str
    instrument: str
    command: str
    poll_s: float


Observer = Callable[[Event], None]


class Events:
    """Hands every event to every observer, in the order they subscribed."""

    def __init__(self) -> None:
        """Start without observers."""
        self._observers: tuple[Observer, ...] = ()
        self._of_commands: tuple[Observer, ...] = ()
        #: Whether anybody wants to see every step of every command.
        self.detailed = False

    def publish(self, event: Event) -> None:
        """Hand `event` to all observers; one that raises is logged and harms nobody."""
        self._hand(event, self._observers)

    def publish_step(self, event: CommandMoved | CommandRefused | AttemptBegun) -> None:
        """Hand a step of a command to those who want to see every one."""
        self._hand(event, self._of_commands)

    def _hand(self, event: Event, observers: tuple[Observer, ...]) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - an observer must not stop what it observes
                structlog.get_logger("benchtree").exception("an observer failed", event_seen=event)

    @contextmanager
    def observed(self, observer: Observer, *, commands: bool = False) -> Generator[None]:
        """Let `observer` see every event published within the block.

        With `commands`, it sees every step of every command accepted within it too.
        """
        self._observers = (*self._observers, observer)
        if commands:
            self._of_commands = (*self._of_commands, observer)
            self.detailed = True
        try:
            yield
        finally:
            self._observers = _without(self._observers, observer)
            if commands:
                self._of_commands = _without(self._of_commands, observer)
                self.detailed = bool(self._of_commands)


def _without(observers: tuple[Observer, ...], observer: Observer) -> tuple[Observer, ...]:
    """Return the observers less one subscription of `observer`."""
    place = observers.index(observer)
    return observers[:place] + observers[place + 1 :]
