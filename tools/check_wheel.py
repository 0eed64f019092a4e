"""Build the wheel, look inside, and import it from outside the checkout.

It is installed alone into a throw-away environment that sees the libraries of
the one running this check, so what the packages find there is the wheel itself.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

from tools import PACKAGES, ROOT

# Runs inside the throw-away environment.
PROBE = f"""
import importlib, importlib.metadata, pathlib, sys
for name in {PACKAGES!r}:
    path = pathlib.Path(importlib.import_module(name).__file__)
    if not path.is_relative_to(sys.prefix):
        sys.exit(f"{{name}} comes from {{path}}, not from the wheel")
for script in importlib.metadata.distribution("benchtree").entry_points:
    script.load()
"""


class WheelError(Exception):
    """The wheel is not what users should get."""


def main(root: Path = ROOT) -> int:
    """Build and examine the wheel of `root`; return 1 if something is wrong, else 0."""
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        directory = Path(name)
        try:
            wheel = build(root, directory)
            examine(wheel)
            install_and_import(wheel, directory, root)
        except WheelError as error:
            print(f"wheel: {error}")
            return 1
        print(f"wheel: {wheel.name} is complete and imports on its own")
        return 0


def build(root: Path, directory: Path) -> Path:
    """Build the wheel of `root` into `directory`.

    Raises:
        WheelError: The build failed; the message holds its output.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), "."]
    _run("building", command, root)
    (wheel,) = directory.glob("*.whl")
    return wheel


def examine(wheel: Path) -> None:
    """Check that the wheel holds the four packages with their types, and nothing else.

    Raises:
        WheelError: A file is missing, or does not belong to users.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in PACKAGES:
        for needed in (f"{package}/__init__.py", f"{package}/py.typed"):
            if needed not in names:
                raise WheelError(f"{needed} is missing")
    for name in sorted(names):
        top = name.partition("/")[0]
        if top not in PACKAGES and not top.endswith(".dist-info"):
            raise WheelError(f"{name} should not be in it")


def install_and_import(wheel: Path, directory: Path, root: Path) -> None:
    """Install the wheel alone, then import its packages and load its entry points.

    pip runs in `root`, where a relative PIP_CONSTRAINT finds its file; the packages
    are imported in `directory`, where only an installed one can be found.

    Raises:
        WheelError: Installing or importing failed; the message holds the output.
    """
    home = directory / "environment"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    _run("installing", [*pip, "--no-deps", "--no-index", str(wheel)], root)
    # Only now: pip would take this checkout's own installation for an older version.
    packages = sysconfig.get_path("purelib", "venv", {"base": str(home)})
    Path(packages, "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    _run("importing", [str(python), "-I", "-c", PROBE], directory)


def _run(doing: str, command: list[str], cwd: Path) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise WheelError(f"{doing} failed:\n{done.stdout}")


if __name__ == "__main__":
    sys.exit(main())
