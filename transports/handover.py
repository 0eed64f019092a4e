"""Ports that go from process to process: who waits for one, and how it is handed over.

The owner of a bus listens at a socket beside its owner file. Who wants the bus connects,
says who it is and how important, and waits. To hand the bus over, the owner passes the
locked descriptor of the owner file through that connection: the lock goes from one process
to the other without ever being free. A connection that ends says that its process has.

Where there are no such sockets, those who wait look again and again whether the bus is free.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import trio
from attrs import frozen

from .clock import current_clock
from .errors import PortOwnedError
from .owner import Owner, OwnerNote, OwnerState, adopt, claim, folder_of_owners, look

LOOK_S: Final = 0.5
"""How often those who wait look at a port whose owner tells them nothing, in seconds."""

SILENT_S: Final = 2.0
"""How long an owner may leave somebody who asks for its port without a word, in seconds."""

_SUPPORTED: Final = hasattr(socket, "AF_UNIX") and hasattr(socket, "CMSG_LEN")
# What is handed over is not for the children of this process.
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LONGEST_PATH: Final = 100
_LONGEST_LINE: Final = 4_096
_BACKLOG: Final = 16
_MODE: Final = 0o666


@frozen(kw_only=True)
class Waiting:
    """What somebody who waits for a port is told.

    Attributes:
        key: The canonical name of the bus.
        owner: Who has it.
        state: Whether the owner can do anything about it.
        said: What the owner said last, or "".
    """

    key: str
    owner: OwnerNote
    state: OwnerState
    said: str = ""

    def describe(self) -> str:
        """Return in one line who has the port, since when, and what to do."""
        text = f"waiting for {self.key}: it is owned by {self.owner.describe()}"
        return f"{text}; {self.said}" if self.said else text


class Applicant:
    """Somebody who waits for a port of this process.

    Attributes:
        tree: The name of its tree.
        pid: Its process.
        priority: How important it is.
        gone: Set once it waits no more.
    """

    def __init__(self, connection: trio.socket.SocketType) -> None:
        """Take over a new connection."""
        self.tree = ""
        self.pid = 0
        self.priority = 0
        self.gone = trio.Event()
        self._connection = connection

    def __repr__(self) -> str:
        """Return who it is and how important."""
        return f"<Applicant {self.describe()} priority={self.priority}>"

    def describe(self) -> str:
        """Return who it is."""
        return f"tree {self.tree!r} (process {self.pid})"

    async def tell(self, text: str) -> None:
        """Say how things stand. One that cannot be told is gone."""
        try:
            await self._connection.send(_line({"said": text}))
        except OSError:
            self.gone.set()

    async def give(self, owner: Owner) -> bool:
        """Hand the bus over; return whether it was still there to take it."""
        fd = owner.surrender()
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            await self._connection.sendmsg([_line({"yours": True})], rights)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    async def listen(self, changed: Callable[[], None]) -> None:
        """Take what it says until it goes."""
        try:
            lines = _Lines(self._connection)
            while (said := await lines.next()) is not None:
                self.tree, self.pid = str(said["tree"]), int(said["pid"])
                self.priority = int(said["priority"])
                changed()
        except (OSError, ValueError, KeyError, TypeError):
            return  # whoever says something else is none of ours
        finally:
            self.gone.set()
            changed()


class Desk:
    """Where others ask for a port of this process.

    Attributes:
        changed: Set when somebody came, went or became more important; see `renew`.
    """

    def __init__(self, owner: Owner) -> None:
        """Listen for those who want what `owner` has, once it is entered."""
        self.changed = trio.Event()
        self._owner = owner
        self._applicants: list[Applicant] = []
        self._scope = trio.CancelScope()
        self._path = folder_of_owners() / f"{secrets.token_hex(6)}.socket"

    async def run(self, *, task_status: trio.TaskStatus[Desk]) -> None:
        """Listen until closed or cancelled; everybody who waits is sent away then."""
        if not _SUPPORTED:
            task_status.started(self)
            with self._scope:
                await trio.sleep_forever()
            return
        with self._scope, trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                with _short(self._path) as path:
                    await listener.bind(path)
                self._path.chmod(_MODE)
                listener.listen(_BACKLOG)
                self._owner.advertise(self._path.name)
                async with trio.open_nursery() as nursery:
                    task_status.started(self)
                    while True:
                        connection, _ = await listener.accept()
                        nursery.start_soon(self._attend, connection)
            finally:
                self._path.unlink(missing_ok=True)

    def applicants(self) -> Sequence[Applicant]:
        """Return who waits, the most important first, then who came first."""
        return sorted(
            (each for each in self._applicants if each.pid), key=lambda each: -each.priority
        )

    def close(self) -> None:
        """Listen no more."""
        self._scope.cancel()

    def renew(self) -> None:
        """Have `changed` wait for the next change."""
        self.changed = trio.Event()

    async def _attend(self, connection: trio.socket.SocketType) -> None:
        applicant = Applicant(connection)
        self._applicants.append(applicant)
        with connection:
            try:
                await applicant.listen(self._note)
            finally:
                self._applicants.remove(applicant)

    def _note(self) -> None:
        self.changed.set()


async def await_port(
    key: str,
    *,
    tree: str,
    priority: Callable[[], int],
    told: Callable[[Waiting], None],
    changed: Callable[[], trio.Event] | None = None,
) -> Owner:
    """Become the owner of a bus, as soon as whoever has it gives it up.

    Args:
        key: The canonical name of the bus.
        tree: The name of the tree that will own it.
        priority: How important that is; a higher one has the owner hand it over.
        told: Is told who has the bus, at first and whenever that changes.
        changed: Gives the event that says that `priority` has changed.

    Raises:
        ConnectError: The owner file cannot be written.
    """
    last: Waiting | None = None

    def tell(waiting: Waiting) -> None:
        nonlocal last
        if waiting != last:
            last = waiting
            told(waiting)

    while True:
        try:
            return await current_clock().run_sync(lambda: claim(key, tree=tree))
        except PortOwnedError:
            note = await current_clock().run_sync(look, key)
        queue = _Queue(key, note, tell)
        owner = await queue.wait(tree, priority, changed)
        if owner is not None:
            return owner


class _Queue:
    """A place among those who wait for one owner of a bus."""

    def __init__(self, key: str, note: OwnerNote, tell: Callable[[Waiting], None]) -> None:
        self._key = key
        self._note = note
        self._tell = tell
        self._said = ""
        self._heard = trio.Event()

    async def wait(
        self,
        tree: str,
        priority: Callable[[], int],
        changed: Callable[[], trio.Event] | None,
    ) -> Owner | None:
        """Wait until the bus is handed over, or None when it is to be tried again."""
        connection = await self._connect()
        if connection is None:
            self._say(await self._state())
            await trio.sleep(LOOK_S)
            return None
        got: Owner | None = None
        with connection:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                nursery.start_soon(self._ask, connection, tree, priority, changed)
                with suppress(OSError, ValueError):  # whoever was at the other end has ended
                    got = await self._hear(connection, tree)
                nursery.cancel_scope.cancel()
        if got is None:
            # Somebody else may be quicker, over and over.
            await trio.sleep(LOOK_S / 10)
        return got

    async def _connect(self) -> trio.socket.SocketType | None:
        if not (_SUPPORTED and self._note.socket):
            return None
        connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(folder_of_owners() / Path(self._note.socket).name) as path:
                await connection.connect(path)
        except OSError:
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        return connection

    async def _ask(
        self,
        connection: trio.socket.SocketType,
        tree: str,
        priority: Callable[[], int],
        changed: Callable[[], trio.Event] | None,
    ) -> None:
        """Say who waits, and again when that becomes more important."""
        while True:
            more = None if changed is None else changed()
            said = {"tree": tree, "pid": os.getpid(), "priority": priority()}
            with suppress(OSError):
                await connection.send(_line(said))
            if more is None:
                return
            await more.wait()

    async def _hear(self, connection: trio.socket.SocketType, tree: str) -> Owner | None:
        lines = _Lines(connection)
        try:
            while (said := await lines.next()) is not None:
                if said.get("yours") and lines.fds:
                    return adopt(self._key, lines.fds.pop(), tree=tree)
                self._heard.set()
                self._said = str(said.get("said", ""))
                self._say(await self._state())
        finally:
            for fd in lines.fds:
                os.close(fd)
        return None

    async def _watch(self) -> None:
        """Look whether the owner can answer at all."""
        with trio.move_on_after(SILENT_S) as silence:
            self._say(await self._state())
            await self._heard.wait()
        if silence.cancelled_caught:
            self._said = "it does not answer"
        while True:
            self._say(await self._state())
            await trio.sleep(2.0 * LOOK_S)

    async def _state(self) -> OwnerState:
        return await current_clock().run_sync(self._note.state)

    def _say(self, state: OwnerState) -> None:
        self._tell(Waiting(key=self._key, owner=self._note, state=state, said=self._said))


class _Lines:
    """What comes over a connection: a table a line, and descriptors.

    Attributes:
        fds: The descriptors that came and that nobody took yet.
    """

    def __init__(self, connection: trio.socket.SocketType) -> None:
        self.fds: list[int] = []
        self._connection = connection
        self._held = b""

    async def next(self) -> dict[str, Any] | None:
        """Return the next table, or None at the end.

        Raises:
            OSError: The connection broke.
            ValueError: Something else came.
        """
        while b"\n" not in self._held:
            if len(self._held) > _LONGEST_LINE:
                raise ValueError("a line without end")
            room = socket.CMSG_LEN(struct.calcsize("i"))
            data, rights, _, _ = await self._connection.recvmsg(_LONGEST_LINE, room, _CLOEXEC)
            for level, kind, content in rights:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds += struct.unpack("i", content[: struct.calcsize("i")])
            if not data:
                return None
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        said = json.loads(line)
        return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


@contextmanager
def _short(path: Path) -> Generator[str]:
    """Give a name for a socket that fits where a path does not."""
    if len(os.fsencode(path)) < _LONGEST_PATH:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
