"""A folder for a worker that is to keep nothing: PyRPL makes its files all the same.

The program owns it, not the worker, so that it goes with the worker however that ends. It is
locked for as long as its program runs; the next start removes what a killed one left.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

PREFIX: Final = "benchtree-pyrpl-"


class Scratch:
    """A folder of the user's own, until `remove`."""

    def __init__(self) -> None:
        """Make it, and remove those whose programs are gone."""
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_if_left(left)
        self.path, self._lock = _make()

    def __repr__(self) -> str:
        """Return the path and whether it is there."""
        return f"<Scratch {self.path} {'there' if self.path.exists() else 'removed'}>"

    def remove(self) -> None:
        """Remove it with all that is in it. Twice is harmless."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _make() -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(path)
        # Who starts at the same time may take it for one that was left, and remove it.
        if sys.platform == "win32" or (lock is not None and path.exists()):
            return path, lock
        if lock is not None:
            os.close(lock)


def _remove_if_left(folder: Path) -> None:
    lock = _lock(folder)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return the descriptor that holds the lock of a folder; None where others hold it."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:
        return None  # another user's, or gone by now
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
