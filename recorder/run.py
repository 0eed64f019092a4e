"""Run folders: one per run, never reused, and recognisable when their process was killed.

`runs/<UTC start>-<name>-<id>/` holds the samples, the configuration that was used and
`metadata.json`. While the run goes on its process holds a lock on `run.lock`, which the
system frees however the process ends. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from attrs import frozen

from .errors import RecorderError

CONFIG_FILE: Final = "bench.toml"
METADATA_FILE: Final = "metadata.json"
LOCK_FILE: Final = "run.lock"
SAMPLES_FILE: Final = "samples.sqlite"

_FORMAT: Final = 1
_LOCKED: Final = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class RunState(Enum):
    """What became of a run."""

    RUNNING = "running"
    """Its process lives and holds the lock."""

    FINISHED = "finished"
    """It was closed, with an exit status."""

    KILLED = "killed"
    """Nobody holds its lock, and it was never closed."""


@frozen
class RunInfo:
    """What a run folder says about itself.

    Attributes:
        path: The folder.
        state: What became of the run.
        metadata: The contents of `metadata.json`; empty where it is missing or unreadable.
    """

    path: Path
    state: RunState
    metadata: Mapping[str, object]


class Run:
    """A run folder that belongs to this process. Call it from one thread at a time.

    Attributes:
        path: The folder.
        run_id: The folder's name.
    """

    def __init__(self, path: Path, lock: int, metadata: dict[str, object]) -> None:
        """Take over a locked folder; use `create_run`."""
        self.path = path
        self.run_id = path.name
        self._lock = lock
        self._metadata = metadata

    @property
    def samples_path(self) -> Path:
        """Where the samples belong."""
        return self.path / SAMPLES_FILE

    @property
    def metadata(self) -> Mapping[str, object]:
        """What `metadata.json` says."""
        return dict(self._metadata)

    def update(self, **entries: object) -> None:
        """Set entries of the metadata and write them: completely or not at all.

        Raises:
            RecorderError: The run is closed.
        """
        if self._lock < 0:
            raise RecorderError(f"run {self.run_id} is closed")
        metadata = {**self._metadata, **entries}
        write_metadata(self.path, metadata)
        self._metadata = metadata

    def set_instruments(self, identities: Mapping[str, object]) -> None:
        """Write which instruments were found, by name."""
        self.update(instruments=dict(identities))

    def finish(
        self,
        *,
        exit_status: int,
        finished_utc_ns: int,
        recordings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Write how the run ended and give the folder up.

        Args:
            exit_status: The exit code of the process.
            finished_utc_ns: The wall clock, in ns since 1970.
            recordings: Each recording's `AcquisitionSummary.as_dict()`.
        """
        try:
            self.update(
                finished_utc=_utc_text(finished_utc_ns),
                exit_status=exit_status,
                recordings={name: dict(summary) for name, summary in (recordings or {}).items()},
            )
        finally:
            self.close()

    def close(self) -> None:
        """Give the lock up. A run closed without `finish` counts as killed."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the run."""
        self.close()

    def __repr__(self) -> str:
        """Return the folder and whether it is open."""
        return f"<Run {self.path} {'closed' if self._lock < 0 else 'open'}>"


def create_run(
    root: str | os.PathLike[str],
    *,
    tree_name: str,
    started_utc_ns: int,
    config_text: str | None = None,
    config_name: str | None = None,
    short_id: str | None = None,
) -> Run:
    """Make a new run folder below `root` and lock it.

    Args:
        root: The folder of all runs; made where it is missing.
        tree_name: Goes into the folder's name, its unusual characters replaced.
        started_utc_ns: The wall clock, in ns since 1970.
        config_text: The configuration exactly as it was read, kept as `bench.toml`; None for
            a tree that was made by a script.
        config_name: Where the configuration came from.
        short_id: The end of the folder's name; None for a random one.

    Raises:
        OSError: The folder cannot be made; FileExistsError where `short_id` is taken.
    """
    parent = Path(root)
    parent.mkdir(parents=True, exist_ok=True)
    path = _make_folder(parent, tree_name, started_utc_ns, short_id)
    lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _lock_now(lock)
        encoded = None if config_text is None else config_text.encode()
        if encoded is not None:
            _write_durably(path / CONFIG_FILE, encoded)
        run = Run(path, lock, {})
        run.update(
            format=_FORMAT,
            run=path.name,
            tree=tree_name,
            started_utc=_utc_text(started_utc_ns),
            finished_utc=None,
            exit_status=None,
            host=platform.node(),
            pid=os.getpid(),
            versions={
                "benchtree": _version("benchtree"),
                "python": platform.python_version(),
                "trio": _version("trio"),
            },
            configuration={
                "name": config_name,
                "sha256": None if encoded is None else hashlib.sha256(encoded).hexdigest(),
            },
            instruments={},
            recordings={},
        )
        sync_folder(parent)
    except BaseException:
        os.close(lock)
        raise
    return run


def find_runs(root: str | os.PathLike[str]) -> list[RunInfo]:
    """Return the runs below `root`, oldest first; none where there is no such folder."""
    parent = Path(root)
    if not parent.is_dir():
        return []
    return [read_run(path.parent) for path in sorted(parent.glob(f"*/{LOCK_FILE}"))]


def read_run(path: str | os.PathLike[str]) -> RunInfo:
    """Return what one run folder says about itself, without changing anything in it."""
    folder = Path(path)
    # The lock first: a run that is closed in between then reads as finished.
    running = _is_locked(folder / LOCK_FILE)
    metadata: Mapping[str, object] = {}
    try:
        loaded: object = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        loaded = None
    if isinstance(loaded, dict):
        metadata = cast("dict[str, object]", loaded)
    if metadata.get("exit_status") is not None:
        state = RunState.FINISHED
    else:
        state = RunState.RUNNING if running else RunState.KILLED
    return RunInfo(folder, state, metadata)


@contextmanager
def holding(path: Path) -> Generator[bool]:
    """Hold the lock of a run for the length of the block, if its process is gone.

    Yields whether it does; nobody else can take the run for one that goes on or is over.
    """
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR)
    try:
        try:
            _lock_nowait(descriptor)
        except OSError as error:
            if error.errno not in _LOCKED:
                raise
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _make_folder(parent: Path, tree_name: str, started_utc_ns: int, short_id: str | None) -> Path:
    stamp = _datetime(started_utc_ns).strftime("%Y%m%dT%H%M%SZ")
    name = re.sub(r"[^\w.-]+", "_", tree_name) or "tree"
    while True:
        path = parent / f"{stamp}-{name}-{short_id or secrets.token_hex(3)}"
        try:
            path.mkdir()
        except FileExistsError:
            if short_id is not None:
                raise
        else:
            return path


def write_metadata(folder: Path, metadata: Mapping[str, object]) -> None:
    """Replace the metadata of a run by a complete new file, also across a power cut."""
    _write_atomically(folder / METADATA_FILE, json.dumps(metadata, indent=2) + "\n")


def _write_atomically(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    _write_durably(new, text.encode())
    new.replace(path)
    sync_folder(path.parent)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk knows which files a folder holds."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock_now(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _lock_nowait(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock_now(descriptor: int) -> None:
        # Waits: somebody listing the runs may be looking at this very moment.
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _lock_nowait(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _try_lock(descriptor)
    except OSError as error:
        if error.errno not in _LOCKED:
            raise
        return True
    finally:
        os.close(descriptor)
    return False


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _utc_text(utc_ns: int) -> str:
    return _datetime(utc_ns).isoformat()


def _datetime(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns // 1000 / 1e6, tz=UTC)
