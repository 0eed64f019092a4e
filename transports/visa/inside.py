"""What can be learned and done beside VISA's own functions, where pyvisa-py drives.

VISA has no way to see that a connection is gone, that a reply lies there unasked, or to
end a read from outside. pyvisa-py's sessions are made of sockets and ports that can; those
of other libraries are closed, and everything here says so.

Seen in pyvisa-py 0.8: a socket session has a `socket` as `interface` and keeps what came
after a terminator in `_pending_buffer`; a serial one has a pyserial port; a HiSLIP one
has an object with two sockets, `_sync` and `_async`; a VXI-11 one has a client with `sock`.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from serial import SerialBase

if TYPE_CHECKING:
    from pyvisa.highlevel import VisaLibraryBase
    from pyvisa.typing import VISASession

_GONE: Final = (
    select.POLLRDHUP | select.POLLHUP | select.POLLERR if hasattr(select, "POLLRDHUP") else 0
)


class Inside:
    """The inside of one open session, as far as it can be seen.

    The thread of the bus makes and closes it; `lost` and `interrupt` may be called by
    others meanwhile.
    """

    def __init__(self, visa: VisaLibraryBase, handle: VISASession) -> None:
        """Look into a session that was opened just now.

        Raises:
            OSError: It is a connection that was refused, or a port that another program has;
                pyvisa-py does not look.
        """
        self._visa = visa
        self._handle = handle
        # pyvisa-sim has sessions too, without anything in them.
        sessions: Any = getattr(visa, "sessions", None)
        self._session: Any = sessions.get(handle) if sessions else None
        self._interface: Any = getattr(self._session, "interface", None)
        if isinstance(self._interface, socket.socket):
            error = self._interface.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            # VISA's own default; a question in two writes would wait for an acknowledgement.
            self._interface.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif isinstance(self._interface, SerialBase):
            # Else it shares the port with any program, and both hear half of the replies.
            self._interface.exclusive = True
        # Duplicates: the numbers of closed descriptors are given to others.
        self._watched = [os.dup(number) for number in self._descriptors()] if _GONE else []

    @property
    def simulated(self) -> bool:
        """Whether nothing real is behind it."""
        return self._session is not None and self._interface is None

    @property
    def sees_input(self) -> bool:
        """Whether `has_input` knows."""
        return isinstance(self._interface, socket.socket)

    def has_input(self) -> bool:
        """Return whether bytes have arrived that nobody has read."""
        if getattr(self._session, "_pending_buffer", b""):
            return True
        return bool(select.select([self._interface], [], [], 0)[0])

    def lost(self) -> bool:
        """Return whether the far end is gone. Reads nothing."""
        if not self._watched:
            return False
        poll = select.poll()
        for each in self._watched:
            poll.register(each, _GONE)
        # Not one that was closed just now, which shows as invalid.
        return any(event & _GONE for _, event in poll.poll(0))

    def interrupt(self) -> bool:
        """End a read that goes on in another thread; the session is of no use after it.

        Returns whether that is possible here.
        """
        with suppress(OSError):
            for each in self._sockets():
                each.shutdown(socket.SHUT_RDWR)
        if isinstance(self._interface, socket.socket):
            # Its read loop takes an empty read for "nothing yet".
            self._interface.close()
        elif callable(cancel := getattr(self._interface, "cancel_read", None)):
            with suppress(OSError, TypeError):
                cancel()
                self._interface.close()
        return bool(self._watched)

    def close(self) -> None:
        """Stop looking, and let pyvisa-py forget the session, which it keeps for ever."""
        watched, self._watched = self._watched, []
        for each in watched:
            os.close(each)
        if self._session is not None:
            getattr(self._visa, "sessions", {}).pop(self._handle, None)

    def _sockets(self) -> Iterator[socket.socket]:
        for holder in (self._session, self._interface):
            yield from _sockets_of(holder)

    def _descriptors(self) -> Sequence[int]:
        found = [each.fileno() for each in self._sockets()]
        if not found and hasattr(self._interface, "cancel_read"):
            found = [int(self._interface.fileno())]
        return [each for each in found if each >= 0]


def close_leftovers(error: BaseException) -> None:
    """Close what an opening that failed had opened: pyvisa-py leaves it lying about."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in walk_tb(seen.__traceback__):
            for each in _sockets_of(frame.f_locals.get("self")):
                each.close()
        seen = seen.__cause__ or seen.__context__


def _sockets_of(holder: object) -> Iterator[socket.socket]:
    for name in ("interface", "_sync", "_async", "sock"):
        found = getattr(holder, name, None)
        if isinstance(found, socket.socket):
            yield found
