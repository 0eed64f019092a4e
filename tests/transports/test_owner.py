"""One owner per bus, on the whole machine."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transports import ConnectError, PortOwnedError, claim

KEY = "serial:///dev/ttyUSB0"
HOLD = """
import os, sys
from transports import TransportError, claim
user = int(sys.argv[2])
if os.getuid() == 0 and user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
try:
    claim(sys.argv[1], tree="other")
except TransportError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("claimed", flush=True)
sys.stdin.read()
"""
OTHER_USER = 65_534
"""Nobody. Where the tests run as a user who cannot become another, it is the same one."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the owner files of a test to itself."""
    chosen = tmp_path / "owners"
    monkeypatch.setenv("BENCHTREE_OWNER_DIR", str(chosen))
    return chosen


def _start(key: str, user: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, key, str(user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def _other_process(key: str = KEY, user: int = 0) -> Generator[subprocess.Popen[str]]:
    with _start(key, user) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        yield process
        if process.poll() is None:
            process.kill()


def _run(key: str, user: int) -> str:
    """Return what a process says that tries to own a bus, and ends."""
    with _start(key, user) as process:
        return process.communicate(timeout=30)[0]


def test_second_claim_in_one_process() -> None:
    """Two trees of one process cannot own one bus; the second is told who does."""
    with claim(KEY, tree="cell-3") as owner:
        with pytest.raises(PortOwnedError, match="cell-3") as refused:
            claim(KEY, tree="cell-4")
        assert (refused.value.owner, refused.value.pid) == ("cell-3", os.getpid())
        assert refused.value.address == KEY
        assert "held" in repr(owner)
    with claim(KEY, tree="cell-4"):
        pass


def test_release_twice() -> None:
    """Releasing twice is harmless, also after somebody else's claim."""
    first = claim(KEY, tree="first")
    first.release()
    with claim(KEY, tree="second"):
        first.release()
        with pytest.raises(PortOwnedError):
            claim(KEY, tree="third")


def test_other_buses_are_free() -> None:
    """Owning one bus says nothing about another with a similar name."""
    with claim("tcp://a-b:1", tree="one"), claim("tcp://a/b:1", tree="two"):
        pass


def test_other_process() -> None:
    """Another process's claim excludes this one's, and names its process and tree."""
    with _other_process() as process:
        with pytest.raises(PortOwnedError) as refused:
            claim(KEY, tree="mine")
        assert (refused.value.owner, refused.value.pid) == ("other", process.pid)


def test_killed_owner() -> None:
    """The bus of a killed owner is free at once."""
    with _other_process() as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with claim(KEY, tree="mine") as owner:
            assert owner.tree == "mine"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Use the folder of the whole machine, and return a key that nothing else uses."""
    monkeypatch.delenv("BENCHTREE_OWNER_DIR")
    key = f"sim://{uuid.uuid4().hex}"
    yield key
    for path in Path("/tmp/benchtree-owners").glob(f"*{key.removeprefix('sim://')}*"):
        path.unlink()


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR", "HOME"])
def test_other_environment(
    variable: str, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs exclude each other whatever their environments say."""
    monkeypatch.setenv(variable, str(tmp_path))
    with _other_process(machine) as process:
        monkeypatch.delenv(variable)
        with pytest.raises(PortOwnedError) as refused:
            claim(machine, tree="mine")
        assert (refused.value.owner, refused.value.pid) == ("other", process.pid)


def test_owner_of_another_user(machine: str) -> None:
    """A bus that another user owns is refused, and is ours once they have ended."""
    with _other_process(machine, user=OTHER_USER) as process:
        with pytest.raises(PortOwnedError) as refused:
            claim(machine, tree="mine")
        assert (refused.value.owner, refused.value.pid) == ("other", process.pid)
    with claim(machine, tree="mine"):
        pass


def test_other_user_is_refused(machine: str) -> None:
    """Another user is told who owns the bus, however strict the owner's umask."""
    before = os.umask(0o077)
    try:
        owner = claim(machine, tree="mine")
    finally:
        os.umask(before)
    with owner:
        refused = _run(machine, user=OTHER_USER)
        assert f"the bus is owned by tree 'mine' (process {os.getpid()})" in refused
    assert _run(machine, user=OTHER_USER) == "claimed\n"


def test_all_users_may_use_the_folder(folder: Path) -> None:
    """Whatever the umask, every user may add owner files and lock them, and remove no other's."""
    before = os.umask(0o077)
    try:
        with claim(KEY, tree="mine"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
            (path,) = folder.iterdir()
            assert path.suffix == ".owner"
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    """A folder that leads elsewhere is refused, and nothing is written there."""
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConnectError, match=r"is a symbolic link.*BENCHTREE_OWNER_DIR"):
        claim(KEY, tree="mine")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to, None])
def test_file_that_is_another(
    make: Callable[[Path, Path], None] | None, folder: Path, tmp_path: Path
) -> None:
    """What is planted in place of an owner file is refused, and what it leads to is left alone."""
    with claim(KEY, tree="mine"):
        (path,) = folder.iterdir()
    path.unlink()
    other = tmp_path / "other"
    other.write_text("precious")
    if make is None:
        os.mkfifo(path)
    else:
        make(path, other)
    with pytest.raises(ConnectError, match="owner file"):
        claim(KEY, tree="mine")
    assert other.read_text() == "precious"


def test_file_that_was_removed(folder: Path) -> None:
    """A file that was cleaned away is made again."""
    for _ in range(2):
        with claim(KEY, tree="mine"):
            (path,) = folder.iterdir()
        path.unlink()


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is closed to a user is an error that names it, not a free bus."""
    # Not in the test's own folder: other users do not get that far.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("BENCHTREE_OWNER_DIR", folder)
        Path(folder).chmod(0o555)
        refused = _run(KEY, user=OTHER_USER)
        assert refused.startswith(f"ConnectError: {KEY}: the owner file {folder}/")
        assert "cannot be opened: Permission denied" in refused


def test_folder_that_cannot_be_made(folder: Path) -> None:
    """Without a place for the file there is no ownership, and the error says where."""
    folder.write_text("in the way")
    with pytest.raises(ConnectError, match="owners"):
        claim(KEY, tree="mine")


def test_unreadable_entry(folder: Path) -> None:
    """An owner that left no readable entry still owns."""
    with claim(KEY, tree="mine"):
        for path in folder.iterdir():
            path.write_text("{")
        with pytest.raises(PortOwnedError, match="another process") as refused:
            claim(KEY, tree="second")
        assert refused.value.pid is None
