"""The connection to the board, made so that its end is noticed.

PyRPL reads from a plain socket: an end of file keeps it reading for ever, and a time-out
makes it reconnect five times behind everybody's back, which on a real board kills the server.
Here both are the end of the board, said once and at once.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from .contract import BoardLostError, StartError

CONNECT_WITHIN_S: Final = 3.0
"""How long the board may take to accept the connection, in seconds."""

_AGAIN_S: Final = 0.1


class BoardSocket(socket.socket):
    """A socket that raises BoardLostError in place of everything PyRPL would retry."""

    #: Whether a server that was just started may refuse the connection for a while.
    patient: bool = False
    #: The last one that was made: there is one board.
    latest: BoardSocket | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make a socket like any other."""
        super().__init__(*arguments, **options)
        self.lost: str | None = None
        self._where = "the board"
        BoardSocket.latest = self

    def connect(self, address: Any) -> None:
        """Connect, or say why not.

        Raises:
            StartError: It cannot be done.
        """
        self._where = f"{address[0]}:{address[1]}"
        until = time.monotonic() + CONNECT_WITHIN_S
        self.settimeout(CONNECT_WITHIN_S)
        while True:
            try:
                super().connect(address)
            except ConnectionRefusedError as error:
                if BoardSocket.patient and time.monotonic() < until:
                    time.sleep(_AGAIN_S)
                    continue
                text = f"{self._where} refused the connection: no server runs there"
                raise StartError("refused", text) from error
            except TimeoutError as error:
                text = f"{self._where} did not answer within {CONNECT_WITHIN_S:g} s"
                raise StartError("refused", text) from error
            except socket.gaierror as error:
                raise StartError("address", f"no host is called {address[0]}") from error
            except OSError as error:
                text = f"{self._where} cannot be reached: {error.strerror or error}"
                raise StartError("refused", text) from error
            return

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return exactly `size` bytes.

        Raises:
            BoardLostError: The far end closed, failed, or went silent.
        """
        received = bytearray()
        while len(received) < size:
            self._check()
            try:
                data = super().recv(size - len(received), flags)
            except TimeoutError:
                raise self._lose("did not answer") from None
            except OSError as error:
                raise self._lose(f"failed: {error.strerror or error}") from error
            if not data:
                raise self._lose("closed the connection")
            received += data
        return bytes(received)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of `data`.

        Raises:
            BoardLostError: It could not be sent.
        """
        if self.lost is not None and bytes(data[:1]) == b"c":
            return len(data)  # the farewell to a board that is gone
        self._check()
        try:
            super().sendall(data, flags)
        except OSError as error:
            raise self._lose(f"failed: {error.strerror or error}") from error
        return len(data)

    def _check(self) -> None:
        if self.lost is not None:
            raise BoardLostError(self.lost)

    def _lose(self, how: str) -> BoardLostError:
        self.lost = f"the board at {self._where} {how}"
        return BoardLostError(self.lost)


class SocketModule:
    """Stands in for the module `socket` where PyRPL makes its connection."""

    socket = BoardSocket

    def __getattr__(self, name: str) -> Any:
        """Return everything else as it is."""
        return getattr(socket, name)


class NoShell:
    """Stands in for the secure shell to a board whose server runs already."""

    def __init__(self, hostname: str = "", **options: Any) -> None:
        """Connect to nothing."""
        del options
        self.hostname = hostname
        self.channel = self

    def ask(self, question: str = "") -> str:
        """Return nothing, whatever is asked."""
        del question
        return ""

    def startscp(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
