"""The life of a command, as a table.

    QUEUED -> DISPATCHED -> ACKNOWLEDGED -> COMPLETED, and from the first three FAILED

Rules:
1. A command is QUEUED once accepted; a refused one never is.
2. DISPATCHED is taken in the step that hands over the first byte.
3. ACKNOWLEDGED is taken when the hardware has answered.
4. COMPLETED and FAILED are final; every accepted command reaches one of them once.
5. An illegal step raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum, auto
from typing import Final, Generic, TypeAlias, TypeVar

from attrs import frozen

from transports import Exchange, Reply

from .errors import CommandError, IllegalCommandStepError
from .faults import Cause, Fault
from .lease import Hold
from .operation import Overlap
from .retry import RetryPolicy

T_co = TypeVar("T_co", covariant=True)

Moves: TypeAlias = "Callable[[Mapping[str, Plan[object]]], Mapping[str, Plan[object] | None]]"
"""Given what was intended before, what else a write makes of it; see `Plan.moves`."""


class CommandState(Enum):
    """How far a command has come.

    Attributes:
        final: Whether nothing follows.
    """

    final: bool

    QUEUED = auto()
    DISPATCHED = auto()
    ACKNOWLEDGED = auto()
    COMPLETED = auto()
    FAILED = auto()

    # Looked up for every step: the name needs no hash of its own.
    __hash__ = object.__hash__

    def __init__(self, _: int) -> None:
        # Asked several times for each command.
        self.final = self._name_ in ("COMPLETED", "FAILED")


class CommandEvent(Enum):
    """What can happen to a command."""

    DISPATCH = auto()
    ACKNOWLEDGE = auto()
    COMPLETE = auto()
    FAIL = auto()

    # Looked up for every step: the name needs no hash of its own.
    __hash__ = object.__hash__


TRANSITIONS: Final[Mapping[tuple[CommandState, CommandEvent], CommandState]] = {
    (CommandState.QUEUED, CommandEvent.DISPATCH): CommandState.DISPATCHED,
    (CommandState.DISPATCHED, CommandEvent.ACKNOWLEDGE): CommandState.ACKNOWLEDGED,
    (CommandState.ACKNOWLEDGED, CommandEvent.COMPLETE): CommandState.COMPLETED,
    (CommandState.QUEUED, CommandEvent.FAIL): CommandState.FAILED,
    (CommandState.DISPATCHED, CommandEvent.FAIL): CommandState.FAILED,
    (CommandState.ACKNOWLEDGED, CommandEvent.FAIL): CommandState.FAILED,
}


def advance(state: CommandState, event: CommandEvent) -> CommandState:
    """Return the state that follows `event` in `state`.

    Raises:
        IllegalCommandStepError: The table has no such step.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalCommandStepError(f"{event.name} is not legal in {state.name}") from None


class Priority(IntEnum):
    """Who goes first within a lane. An emergency goes first on the whole bus."""

    EMERGENCY = 0
    """Reserved room, trips the lane, waits for at most one exchange and one resync."""
    HIGH = 1
    NORMAL = 2
    LOW = 3
    """For periodic polls: anything a person or a program asks goes first."""


# What is asked for with every command, by its own name: Python 3.11 takes as long to find a
# member in its class as to call a function.
QUEUED: Final = CommandState.QUEUED
DISPATCH: Final = CommandEvent.DISPATCH
ACKNOWLEDGE: Final = CommandEvent.ACKNOWLEDGE
COMPLETE: Final = CommandEvent.COMPLETE
EMERGENCY: Final = Priority.EMERGENCY
LOW: Final = Priority.LOW


@frozen(kw_only=True)
class Readback:
    """How to find out whether a device holds what it was told.

    Attributes:
        read: Returns what reads it; harmless. Raises where its driver cannot.
        wanted: What it was told.
        agrees: Whether a value that was read is what it was told.
    """

    read: Callable[[], Plan[object]]
    wanted: object
    agrees: Callable[[object], bool]


def spell(data: bytes) -> str:
    """Return bytes in letters; those that are none are escaped."""
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")


@frozen(kw_only=True)
class Plan(Generic[T_co]):
    """What to send for a directive, and how to understand the answer.

    Attributes:
        name: What is asked, such as "voltage" or "voltage.set".
        exchange: The bytes to send, and what answers them.
        decode: The expected response: turns the reply into the value; raises DeviceError
            when the instrument reports an error, ValueError when the reply does not fit.
        writes: Whether it changes the instrument. Only reads pass a tripped lane.
        hazardous: Whether it can do harm.
        idempotent: Whether carrying it out twice is the same as once.
        setting: The setting it establishes, if it does.
        brings: Writes whose settings an operation brings along: once it has begun, the device
            holds them as if they had been written.
        moves: Given what was intended before, which other settings the device changes with
            this one: a write for what each is then, None where that cannot be known. None
            where it changes none.
        readback: How to find out whether the device holds it; None where that is not known.
        then: Given a reply, the step that has to follow it before the command is done;
            None where that reply is the one to decode. Raises nothing: what is wrong with
            a reply is for `decode` to say. A step's exchange must be a harmless read.
        overlap: How it is followed where it goes on after its exchange. Its value is then
            that of `overlap.result`; `decode` checks what the device said to the start.
        retry: How often it is tried; None for what its bus says.
        unmet: What has to hold before it is sent and is known not to, in words; asked in the
            step that hands over the first byte. None where nothing has to.
    """

    name: str
    exchange: Exchange
    decode: Callable[[bytes], T_co]
    writes: bool = False
    hazardous: bool = False
    idempotent: bool = True
    setting: str | None = None
    brings: Sequence[Plan[object]] = ()
    moves: Moves | None = None
    readback: Readback | None = None
    then: Callable[[bytes], Plan[T_co] | None] | None = None
    overlap: Overlap[T_co] | None = None
    retry: RetryPolicy | None = None
    unmet: Callable[[], str | None] | None = None

    @property
    def spelled(self) -> str:
        """What is asked and the bytes that are sent first, in letters."""
        return f"{self.name} {spell(self.exchange.request)}"


@frozen
class Command(Generic[T_co]):
    """One accepted directive to one instrument.

    Attributes:
        seq: Its number: rises with every command of the tree.
        target: The resource as a URI, such as "benchtree://cell-3/psu/voltage".
        instrument: The instrument's name.
        priority: Who goes first within the lane.
        deadline_s: When the caller stops caring, in Trio time.
        plan: What to send, what to expect, and what it can do.
        caller: Who gave the directive.
        lease: The lease it was given under, or None.
        once: Whether it is tried once only, whatever its plan and its bus say.
    """

    seq: int
    target: str
    instrument: str
    priority: Priority
    deadline_s: float
    plan: Plan[T_co]
    caller: str = ""
    lease: Hold | None = None
    once: bool = False


@frozen(kw_only=True)
class Outcome(Generic[T_co]):
    """How a command ended.

    Attributes:
        value: The decoded value; None unless it completed.
        error: What it failed with; None when it completed.
        reply: The reply and its instants, where one came.
    """

    value: T_co | None = None
    error: CommandError | None = None
    reply: Reply | None = None

    @property
    def ok(self) -> bool:
        """Whether the command completed."""
        return self.error is None

    @property
    def cause(self) -> Cause | None:
        """Why it failed, or None."""
        return None if self.error is None else self.error.cause

    @property
    def fault(self) -> Fault | None:
        """The fault behind a failure, where there is one."""
        return None if self.error is None else self.error.fault

    @property
    def may_have_executed(self) -> bool:
        """Whether the device carried it out or may have."""
        return self.error is None or self.error.may_have_executed
