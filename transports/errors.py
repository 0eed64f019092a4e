"""What can go wrong between a program and one physical bus.

Classes divide by what the caller does next: mend the call, retry, resynchronise,
reopen, or give up.
"""

from __future__ import annotations

from enum import Enum


class TransportError(Exception):
    """A fault of one bus, with what is known about it.

    Attributes:
        reason: What went wrong, in words, without the address.
        address: The bus as the user wrote it, or its key.
        sent: The bytes of the exchange that had been handed over.
        received: The bytes that had arrived for it, unframed.
        waited_s: How long the call had waited, in seconds.
        code: The number that a VISA library has for it, or None.
    """

    def __init__(
        self,
        reason: str,
        *,
        address: str = "",
        sent: bytes = b"",
        received: bytes = b"",
        waited_s: float | None = None,
        code: int | None = None,
    ) -> None:
        """Store the facts; the message is built from them."""
        super().__init__(reason)
        self.reason = reason
        self.address = address
        self.sent = sent
        self.received = received
        self.waited_s = waited_s
        self.code = code

    def __str__(self) -> str:
        """Return one line: where, what, and the bytes concerned."""
        where = f"{self.address}: " if self.address else ""
        facts: list[str] = []
        if self.sent:
            facts.append(f"sent {_excerpt(self.sent)}")
        if self.received and not self.reason.endswith(_excerpt(self.received)):
            facts.append(f"received {_excerpt(self.received)}")
        if self.waited_s is not None:
            facts.append(f"waited {self.waited_s:.3g} s")
        return f"{where}{self.reason}" + (f" ({', '.join(facts)})" if facts else "")


class AddressError(TransportError, ValueError):
    """The address cannot be understood: mend it."""


class PortOwnedError(TransportError):
    """Another tree or process owns this bus.

    Attributes:
        owner: The name of the owning tree, or "" where it left none.
        pid: The owner's process id, or None where it left none.
    """

    def __init__(
        self, reason: str, *, address: str = "", owner: str = "", pid: int | None = None
    ) -> None:
        """Store who owns the bus."""
        super().__init__(reason, address=address)
        self.owner = owner
        self.pid = pid


class ConnectProblem(Enum):
    """Why a bus cannot be opened: each kind has a mend of its own."""

    NO_SUCH_PORT = "no such port"
    """The device node is not there: nothing is plugged in, or the name is wrong."""
    NO_PERMISSION = "no permission"
    """The user may not open the port."""
    IN_USE = "in use"
    """Another program has the port open."""
    NOT_A_PORT = "not a port"
    """There is something of that name that is no port of this kind."""
    BAD_SETTINGS = "bad settings"
    """The port does not take the line settings."""
    UNKNOWN_HOST = "unknown host"
    """No name server knows the host."""
    REFUSED = "refused"
    """The host is there and nothing listens on that port of it."""
    UNREACHABLE = "unreachable"
    """Nothing answers under the host's address, or not in time."""
    MISSING_LIBRARY = "missing library"
    """An optional library, or what it needs of the machine, is not installed."""
    OTHER = "other"


class ConnectError(TransportError):
    """The bus cannot be opened now: no such port, refused, no permission.

    Attributes:
        problem: Why, as a kind.
    """

    def __init__(
        self,
        reason: str,
        *,
        address: str = "",
        waited_s: float | None = None,
        problem: ConnectProblem = ConnectProblem.OTHER,
        code: int | None = None,
    ) -> None:
        """Store why."""
        super().__init__(reason, address=address, waited_s=waited_s, code=code)
        self.problem = problem


class PeerLostError(TransportError):
    """The far end went away: unplugged, closed or reset. Reopen before retrying."""


class ReplyTimeoutError(TransportError):
    """No reply came in time. The line is stale: resynchronise before the next exchange."""


class LineBusyError(TransportError):
    """Another task has an exchange in flight on this line."""


class LineStaleError(TransportError):
    """An abandoned exchange still owes its reply: call `resync` first."""


class LineClosedError(TransportError):
    """The line was closed, or was never opened."""


class FrameError(TransportError):
    """Bytes arrived that are no frame: too long, or a broken check value."""


class UnsupportedError(TransportError):
    """The line, or the library that drives it, cannot do that; nothing was sent."""


class ForeignReplyError(TransportError):
    """The reply names another sender, function or parameter than was asked.

    The reason shows the reply: who sees it can tell what is at the far end.
    """

    def __init__(
        self,
        reason: str,
        *,
        address: str = "",
        sent: bytes = b"",
        received: bytes = b"",
        waited_s: float | None = None,
    ) -> None:
        """Add the reply to the reason."""
        shown = f"{reason}: {_excerpt(received)}" if received else reason
        super().__init__(shown, address=address, sent=sent, received=received, waited_s=waited_s)


def _excerpt(data: bytes, at_most: int = 60) -> str:
    shown = repr(data[:at_most])
    return shown if len(data) <= at_most else f"{shown}... {len(data)} bytes"
