"""What a transport promises to the actor that owns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol, runtime_checkable

from attrs import define, frozen

from .line_state import LineState


class Signal(Enum):
    """What some lines can do beside carrying bytes; GPIB has all of it."""

    STATUS_BYTE = "status byte"
    """Read the status byte (a serial poll); the reply is its decimal number."""

    SERVICE_REQUEST = "service request"
    """Wait until the instrument requests service; the reply is its status byte."""

    CLEAR = "device clear"
    """Clear the instrument's input and output."""

    TRIGGER = "trigger"
    """Trigger the instrument."""

    LOCK = "lock"
    """Keep other programs from the instrument until UNLOCK, or until the line is closed."""

    UNLOCK = "unlock"
    """Let other programs use the instrument again."""


@frozen
class Exchange:
    """One write and its reply.

    Attributes:
        request: The bytes to send, terminator included.
        unit: Who on the bus is asked, where several share it.
        reply_within_s: How long the reply may take, in seconds; None when none comes.
        accepts: Whether an unframed reply can be the answer to this request. Where the
            protocol names its sender, this is where the name is checked. None accepts all.
            Instead of returning False it may raise ForeignReplyError, to say more.
        quiet_s: Where a reply is several frames and nothing says how many: the silence
            that ends it, in seconds. `reply_within_s` holds for the first frame, `accepts`
            for each; the reply is all of them, joined by line feeds, and together no
            longer than one frame may be. None where a reply is one frame.
        signal: What the line does instead of sending `request`, or None. Where it
            cannot, the exchange fails with UnsupportedError.
    """

    request: bytes
    unit: str | None = None
    reply_within_s: float | None = 1.0
    accepts: Callable[[bytes], bool] | None = None
    quiet_s: float | None = None
    signal: Signal | None = None


@frozen
class Reply:
    """The answer to one exchange.

    Attributes:
        data: The frame without its terminator; empty where no reply was due.
        sent_ns: Monotonic instant just before the first byte was handed over, in ns.
        received_ns: Monotonic instant at which the frame was complete, in ns.
    """

    data: bytes
    sent_ns: int
    received_ns: int


@define
class LineCounters:
    """What happened on a line since it was made. Counts never decrease.

    Attributes:
        opened: Times the line was opened.
        exchanges: Requests whose first byte was handed over.
        timeouts: Exchanges whose reply did not come in time.
        abandoned: Exchanges given up by their caller after the first byte.
        foreign: Replies that did not fit their question.
        unsolicited_bytes: Bytes that arrived while nothing was asked.
        resyncs: Times a stale line was brought back into step.
        parity_errors: As counted by the serial driver.
        framing_errors: As counted by the serial driver.
    """

    opened: int = 0
    exchanges: int = 0
    timeouts: int = 0
    abandoned: int = 0
    foreign: int = 0
    unsolicited_bytes: int = 0
    resyncs: int = 0
    parity_errors: int = 0
    framing_errors: int = 0


class Transport(Protocol):
    """Drives one physical bus. Used by one task at a time unless `max_in_flight` says more."""

    @property
    def key(self) -> str:
        """The canonical name of the bus: equal for two names of one port."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many exchanges may be in flight: 1 on a half-duplex line."""
        ...

    @property
    def state(self) -> LineState:
        """The state of the line."""
        ...

    @property
    def counters(self) -> LineCounters:
        """What happened on the line so far."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether a blocking call that was given up keeps the closed line from being opened."""
        ...

    async def wait_unstuck(self) -> None:
        """Return once nothing of that kind keeps the line from being opened."""
        ...

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return the exchanges whose replies may still arrive and disturb `unit`.

        Oldest first; empty exactly when no resynchronisation is needed before the
        next exchange with `unit`.
        """
        ...

    async def open(self) -> None:
        """Open the bus, flushing what the operating system had buffered.

        Raises:
            ConnectError: The bus cannot be opened now.
            PortOwnedError: Somebody else has it.
        """
        ...

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Send one request and return the matching reply, unframed.

        `commit` is called in the step that hands over the first byte, after pacing and
        flushing; when it raises, nothing is sent and the line stays as it was.
        Cancelling after that step leaves the line stale; call `resync` first.

        Raises:
            ReplyTimeoutError: Nothing came within `reply_within_s`.
            ForeignReplyError: A reply came that answers something else.
            FrameError: The bytes that came are no frame.
            PeerLostError: The far end went away; reopen before retrying.
            LineBusyError: Another exchange is in flight.
            LineStaleError: An abandoned exchange still owes its reply.
            LineClosedError: The line is not open.
            UnsupportedError: The line has no such signal.
        """
        ...

    async def resync(self, fence: Exchange | None = None) -> None:
        """Bring a stale line back into step; do nothing on a line in step.

        Args:
            fence: A harmless query other than those owed, to the unit that owes the
                reply, whose answer `accepts` recognises. What arrives before the answer
                is discarded; where none comes, everything that arrives while a reply can
                still be late.

        Raises:
            ConnectError: Reopening failed; the line is closed.
            PeerLostError: The far end went away; the line is closed.
            LineClosedError: The line is not open.
        """
        ...

    async def wait_lost(self) -> None:
        """Return when the far end is found gone while the line is idle.

        The line is CLOSED then. Never returns on a line that cannot tell.
        """
        ...

    async def aclose(self) -> None:
        """Close the line. Closing twice is harmless; cancellation still closes."""
        ...


@runtime_checkable
class RequestsService(Protocol):
    """A transport over which devices can ask to be asked, as on GPIB."""

    def tells_requests(self, unit: str | None) -> bool:
        """Return whether requests of this unit are told, as far as is known now."""
        ...

    async def service_requested(self) -> str | None:
        """Wait for the next request, and return the unit that makes it.

        Waits on a closed line too. Cancelling loses none.
        """
        ...
