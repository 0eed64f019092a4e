"""Install the Debian packages that the heavy tests need, or name those that this machine lacks.

They are installed where that needs no password: as root, or with sudo that asks for none.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

QT: Final = {
    "libegl1": "libEGL.so.1",
    "libgl1": "libGL.so.1",
    "libxkbcommon0": "libxkbcommon.so.0",
    "libdbus-1-3": "libdbus-1.so.3",
    "libfontconfig1": "libfontconfig.so.1",
    "libglib2.0-0": "libglib-2.0.so.0",
}
"""The packages that PyRPL's Qt binding needs, with a library of each."""


def missing() -> Iterator[str]:
    """Yield the packages that are not installed."""
    # Debian keeps PostgreSQL's programs for administrators off the path.
    if not shutil.which("initdb") and not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        yield "postgresql"
    for package, library in QT.items():
        if not loads(library):
            yield package


def loads(library: str) -> bool:
    """Return whether a shared library is there."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def installer() -> Sequence[str] | None:
    """Return what installs packages without asking, or None where nothing does."""
    apt, sudo = shutil.which("apt-get"), shutil.which("sudo")
    if apt is None:
        return None
    if os.geteuid() == 0:
        return (apt,)
    if sudo is not None and _runs([sudo, "-n", "true"]):
        return (sudo, "-n", apt)
    return None


def install(command: Sequence[str], packages: Sequence[str]) -> bool:
    """Install packages and return whether that worked."""
    quietly = ("-qq", "-o", "Dpkg::Use-Pty=0")
    return _runs([*command, "update", *quietly]) and _runs(
        [*command, "install", "--yes", "--no-install-recommends", *quietly, *packages]
    )


def _runs(command: Sequence[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode == 0


def main() -> int:
    """Run the check; return 1 where something is missing still."""
    packages = list(missing())
    command = installer() if packages else None
    if command is not None:
        print(f"installing packages: {' '.join(packages)}")
        install(command, packages)
        packages = list(missing())
    if packages:
        print(f"packages are missing: apt-get install {' '.join(packages)}")
    return 1 if packages else 0


if __name__ == "__main__":
    sys.exit(main())
