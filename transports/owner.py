"""One owner per bus: a file under lock that says who.

The files are in one folder per machine, whoever asks and whatever their environment says:
on POSIX `/tmp/benchtree-owners`, in which every user may lock every file. On Windows it is
the user's folder for temporary files. The environment variable BENCHTREE_OWNER_DIR names
another folder, and must then name the same one for every program that uses the ports: a
service with a `/tmp` of its own, or a container, needs that.

This is an agreement among programs that mean well, not protection against users.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final

from attrs import frozen

from .errors import ConnectError, PortOwnedError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

DIRECTORY_VARIABLE: Final = "BENCHTREE_OWNER_DIR"
"""The environment variable that names another folder for the owner files."""

_SHARED_FOLDER: Final = "/tmp/benchtree-owners"  # noqa: S108 - the one place that all users have
_ALL_MAY_ADD: Final = 0o1777
_ALL_MAY_LOCK: Final = 0o666
# Windows knows none of the three.
_FLAGS: Final = (
    os.O_RDWR
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)

# Locked bytes cannot be read by others on Windows: lock one beyond the text.
_LOCKED_AT: Final = 1 << 20
_TEXT_SIZE: Final = 4_096


class Owner:
    """The right to use one bus, held until `release` or the end of the process.

    Made by `claim`; a context manager that releases.
    """

    def __init__(self, key: str, tree: str, fd: int) -> None:
        """Hold the locked descriptor."""
        self.key = key
        self.tree = tree
        self._fd: int | None = fd

    def __repr__(self) -> str:
        """Return the key and whether it is held."""
        return f"<Owner {self.tree!r} of {self.key} {'released' if self._fd is None else 'held'}>"

    def __enter__(self) -> Owner:
        """Return this owner."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the bus."""
        self.release()

    def advertise(self, socket: str) -> None:
        """Let those who are refused know the name of a socket, beside the owner file."""
        if self._fd is not None:
            _write(self._fd, self.key, self.tree, socket)

    def surrender(self) -> int:
        """Give the locked descriptor away: whoever closes the last copy frees the bus.

        Raises:
            ValueError: It was released.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            raise ValueError(f"{self.key} was released")
        return fd

    def release(self) -> None:
        """Let others own the bus. Releasing twice is harmless."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # The file stays: removing it could pull it from under the next owner.
            try:
                os.ftruncate(fd, 0)
            finally:
                os.close(fd)


def claim(key: str, *, tree: str) -> Owner:
    """Become the owner of the bus with the canonical name `key`.

    Excludes other processes and other trees of this one. The operating system frees the
    bus when the owner ends, however it ends.

    Raises:
        PortOwnedError: Somebody else owns it; the error says who.
        ConnectError: The owner file cannot be written.
    """
    folder = _directory()
    _make_folder(folder, key)
    path = folder / _file_name(key)
    while True:
        fd = _open(path, key)
        if fd is None:
            continue
        try:
            if not _lock(fd):
                raise _owned(key, fd)
            if not _is_file(fd, path):
                os.close(fd)
                continue
            _sweep(folder, _read(fd))
            _write(fd, key, tree, "")
        except BaseException:
            os.close(fd)
            raise
        return Owner(key, tree, fd)


def adopt(key: str, fd: int, *, tree: str) -> Owner:
    """Become the owner of a bus whose locked descriptor another owner gave away."""
    _write(fd, key, tree, "")
    return Owner(key, tree, fd)


class OwnerState(Enum):
    """Whether an owner can do anything about its port."""

    RUNNING = "running"
    STOPPED = "stopped"
    """By a signal or a debugger: it keeps the port and answers nobody."""
    UNKNOWN = "unknown"
    """It left no name, or the operating system does not say."""


@frozen
class OwnerNote:
    """Who has a bus.

    Attributes:
        tree: The name of the owning tree, or "" where it left none.
        pid: Its process, or None where it left none.
        since_s: Since when, in seconds since 1970, UTC.
        socket: The name of its socket beside the owner file, or "".
    """

    tree: str = ""
    pid: int | None = None
    since_s: float = 0.0
    socket: str = ""

    def state(self) -> OwnerState:
        """Look whether its process can do anything now."""
        if self.pid is None or sys.platform != "linux":
            return OwnerState.UNKNOWN
        try:
            stated = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return OwnerState.UNKNOWN
        # After the name, which may hold anything, comes the state in one letter.
        letter = stated.rpartition(")")[2].split()[0]
        return OwnerState.STOPPED if letter in "Tt" else OwnerState.RUNNING

    def describe(self) -> str:
        """Return who it is, since when, and what can be done if it is stopped."""
        if self.pid is None:
            return "another process"
        since = datetime.fromtimestamp(self.since_s, tz=UTC)
        text = f"tree {self.tree!r} (process {self.pid}) since {since:%Y-%m-%d %H:%M:%S} UTC"
        if self.state() is OwnerState.STOPPED:
            text += (
                f"; that process is stopped and keeps it: kill -CONT {self.pid} lets it go on, "
                f"kill -KILL {self.pid} ends it, with its outputs as they are"
            )
        return text


def owner_of(key: str) -> OwnerNote | None:
    """Return who owns a bus now, without claiming it; None where nobody does."""
    try:
        fd = os.open(_directory() / _file_name(key), _FLAGS)
    except OSError:
        return None
    try:
        note = _read(fd)
        # Whoever releases a bus empties the file; whoever is killed does not.
        return None if note.pid is None or _lock(fd, shared=True) else note
    finally:
        os.close(fd)


def look(key: str) -> OwnerNote:
    """Return what the last owner of a bus left in its file, whether it owns it still or not."""
    try:
        with (_directory() / _file_name(key)).open("rb") as file:
            return _read(file.fileno())
    except OSError:
        return OwnerNote()


def folder_of_owners() -> Path:
    """Return the folder of the owner files, which may not be there yet."""
    return _directory()


def _owned(key: str, fd: int) -> PortOwnedError:
    note = _read(fd)
    return PortOwnedError(
        f"the bus is owned by {note.describe()}", address=key, owner=note.tree, pid=note.pid
    )


def _sweep(folder: Path, before: OwnerNote) -> None:
    """Remove the socket that a killed owner left behind."""
    if before.socket:
        with suppress(OSError):  # it is another user's
            (folder / Path(before.socket).name).unlink()


def _write(fd: int, key: str, tree: str, socket: str) -> None:
    """Say who owns a bus, in one step: a reader sees the old text or the new one."""
    said = {"pid": os.getpid(), "tree": tree, "key": key, "socket": socket}
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, json.dumps(said).encode().ljust(_TEXT_SIZE))


def _read(fd: int) -> OwnerNote:
    """Return what the owner wrote; nothing in the instant before it has."""
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        said = json.loads(os.read(fd, _TEXT_SIZE))
        since_s = os.fstat(fd).st_mtime
        return OwnerNote(str(said["tree"]), int(said["pid"]), since_s, str(said["socket"]))
    except (ValueError, KeyError, TypeError):
        return OwnerNote()


def _directory() -> Path:
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "benchtree-owners"
    return Path(_SHARED_FOLDER)


def _make_folder(folder: Path, key: str) -> None:
    """Make the folder unless it is there, for all users whatever this one's umask."""
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            folder.chmod(_ALL_MAY_ADD)
        except FileExistsError:
            pass
        mode = folder.lstat().st_mode
    except OSError as error:
        what = f"the folder of the owner files, {folder}, cannot be made: {error.strerror}"
        raise ConnectError(what, address=key) from error
    if not stat.S_ISDIR(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "no folder"
        what = f"{folder} is {kind}, and cannot hold the owner files"
        raise ConnectError(f"{what}; remove it or set {DIRECTORY_VARIABLE}", address=key)


def _open(path: Path, key: str) -> int | None:
    """Open an owner file, made if need be; None where another process is just making it.

    Where all may add files, the kernel may refuse to "open or create" another user's file,
    even one that all may write. So it is one or the other.
    """
    try:
        try:
            fd = os.open(path, _FLAGS)
        except FileNotFoundError:
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _ALL_MAY_LOCK)
            if sys.platform != "win32":
                os.fchmod(fd, _ALL_MAY_LOCK)
    except FileExistsError:
        return None
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        what = f"the owner file {path} cannot be opened: {reason}"
        raise ConnectError(what, address=key) from error
    found = os.fstat(fd)
    # Nothing is written through a second name of some other file.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise ConnectError(f"{path} is no owner file; remove it", address=key)
    return fd


def _is_file(fd: int, path: Path) -> bool:
    """Return whether the descriptor still is what others open: it may have been removed."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _file_name(key: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", key).strip("-")[-80:]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.owner"


def _lock(fd: int, *, shared: bool = False) -> bool:
    """Lock without waiting; return whether that worked. The Windows half is untested."""
    try:
        if sys.platform == "win32":
            os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            os.lseek(fd, 0, os.SEEK_SET)
        else:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
