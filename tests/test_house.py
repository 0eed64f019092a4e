"""The repository keeps its promises: types, pins, commands, and no host of a registry."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; .+)?")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.org|anaconda\.org)\b|--(?:extra-)?index-url"
)


def tracked_files() -> list[Path]:
    """Return the files that git follows and that are still there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def pins() -> dict[str, str]:
    """Return the pinned version of each library by its name."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [PIN.fullmatch(line) for line in lines]
    assert all(found), f"not a pin: {lines[found.index(None)]}"
    return {pin["name"]: pin["version"] for pin in found if pin is not None}


def requirements() -> list[str]:
    """Return every requirement of `pyproject.toml`: runtime, extras and build."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    lists: list[list[str]] = [
        pyproject["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
    ]
    return [requirement for some in lists for requirement in some]


@pytest.mark.parametrize("package", ["transports", "actors", "recorder", "benchtree"])
def test_each_package_carries_its_types(package: str) -> None:
    """A type checker takes the annotations of every package at their word."""
    assert (ROOT / package / "py.typed").is_file()


def test_every_requirement_is_pinned() -> None:
    """What pyproject asks for has one exact version in constraints.txt."""
    pinned = pins()
    for requirement in requirements():
        name = re.split(r"[\[<>=~! ]", requirement, maxsplit=1)[0]
        assert name in pinned or name == "benchtree", requirement


def test_trio_is_the_version_simulations_rely_on() -> None:
    """Deterministic scheduling has no public switch, so Trio is one exact version."""
    assert f"trio=={pins()['trio']}" in requirements()


@pytest.mark.parametrize(
    "target",
    ["demo", "test", "test-all", "check", "static", "coverage", "soak", "bench", "clean"],
)
def test_make_knows_its_targets(target: str) -> None:
    """Every command that the manual names can be made."""
    make = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert make.returncode == 0, make.stderr


def test_continuous_integration_can_start() -> None:
    """The script is executable and bash can parse it."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_no_file_names_a_registry() -> None:
    """Where libraries come from is the machine's business, never the repository's."""
    named = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path != Path(__file__)
        and REGISTRY_HOST.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert named == []
