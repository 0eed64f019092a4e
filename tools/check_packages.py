"""Name the Debian packages that the heavy tests need and this machine lacks."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Iterator
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


def main() -> int:
    """Run the check."""
    packages = list(missing())
    if packages:
        print(f"packages are missing: apt-get install {' '.join(packages)}")
    return 1 if packages else 0


if __name__ == "__main__":
    sys.exit(main())
