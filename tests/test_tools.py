"""The repository's own checks find what they are there to find."""

import zipfile
from pathlib import Path

import pytest

from tools import PACKAGES, ROOT, check_packages
from tools.check_imports import crossings, impurities
from tools.check_snippets import Snippet, SnippetError, run, snippets
from tools.check_wheel import WheelError, examine


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write `files` below `root`, an `__init__.py` beside each, and return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (path.parent / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    "statement",
    [
        "from transports.base import Reply",
        "from transports import base",
        "import transports.base",
        "def later():\n    from transports.base import Reply",
        "if TYPE_CHECKING:\n    from transports.base import Reply",
        "from transports.sim.engine import Line",
    ],
)
def test_entering_through_a_module_is_found(tmp_path: Path, statement: str) -> None:
    """No spelling and no place of an import hides that it bypasses the door."""
    root = plant(
        tmp_path,
        {"transports/base.py": "", "transports/sim/engine.py": "", "actors/bus.py": statement},
    )
    (complaint,) = crossings(root)
    assert complaint.startswith("actors/bus.py:")
    assert "enters transports." in complaint


@pytest.mark.parametrize(
    "statement",
    ["from transports import Reply", "import transports", "from transports.sim import Line"],
)
def test_entering_through_a_package_is_fine(tmp_path: Path, statement: str) -> None:
    """The `__init__.py` of a package is its door, also inside another package."""
    root = plant(tmp_path, {"transports/sim/engine.py": "", "actors/bus.py": statement})
    (root / "transports/__init__.py").touch()
    assert list(crossings(root)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import trio",
        "import os.path",
        "from time import monotonic",
        "def late():\n    import socket",
        "def read():\n    return open('x')",
        "from .base import Reply",
        "from transports.base import Reply",
    ],
)
def test_a_pure_file_that_reaches_out_is_found(tmp_path: Path, text: str) -> None:
    """A clock, I/O or Trio is found directly and through a module of the same package."""
    root = plant(tmp_path, {"transports/framing.py": text, "transports/base.py": "import trio"})
    found = [complaint for complaint in impurities(root) if "not there" not in complaint]
    assert len(found) == 1
    assert "a pure file" in found[0]


def test_a_pure_file_that_moved_is_found(tmp_path: Path) -> None:
    """A rename cannot take a file off the list of pure ones unseen."""
    missing = [complaint for complaint in impurities(tmp_path) if "not there" in complaint]
    assert any(complaint.startswith("transports/framing.py") for complaint in missing)


def test_blocks_are_found_with_their_lines_and_directions() -> None:
    """A block knows where it begins; a comment directs only the block right below it."""
    page = (
        "<!-- snippet: bench.toml -->\n\n```toml\na = 1\n```\n"
        "<!-- snippet: lost.py -->\ntext\n```python\nb = 2\n```\n"
        "- item\n\n  ```text\n  c\n  ```\n"
    )
    assert list(snippets(page)) == [
        Snippet(3, "toml", "a = 1\n", "bench.toml"),
        Snippet(8, "python", "b = 2\n", None),
        Snippet(13, "text", "c\n", None),
    ]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "raise SystemExit(3)\n"),
        ("console", "$ false\n"),
        ("console", "$ false\n$ true\n"),
        ("console", "just output\n"),
        ("toml", "a = \n"),
        ("bash", "true\n"),
        ("", "anything\n"),
    ],
)
def test_a_block_that_fails_is_found(tmp_path: Path, language: str, text: str) -> None:
    """A bad status, bad TOML and a block nobody would run are all failures."""
    with pytest.raises(SnippetError):
        run(Snippet(1, language, text), tmp_path, tmp_path)


def test_a_block_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    """A child that holds the output open does not hold up the check."""
    with pytest.raises(SnippetError, match="still running"):
        run(Snippet(1, "console", "$ sleep 600 & sleep 600\n"), tmp_path, tmp_path, limit_s=0.2)


def test_a_named_block_serves_the_blocks_after_it(tmp_path: Path) -> None:
    """A page can show a file and then the command that reads it."""
    run(Snippet(1, "toml", "a = 1\n", "conf/bench.toml"), tmp_path, tmp_path)
    run(Snippet(5, "python", "b = 2\n", "lab.py"), tmp_path, tmp_path)
    run(Snippet(9, "python", "import lab\nassert lab.b == 2\n"), tmp_path, tmp_path)
    run(Snippet(13, "console", "$ grep a \\\n  conf/bench.toml\na = 1\n"), tmp_path, tmp_path)


def test_a_block_can_run_in_the_checkout(tmp_path: Path) -> None:
    """A command such as `make` finds the repository around it."""
    page, checkout = tmp_path / "page", tmp_path / "checkout"
    page.mkdir()
    checkout.mkdir()
    run(Snippet(1, "console", "$ touch here\n", "in the checkout"), page, checkout)
    assert (checkout / "here").exists()


def wheel_of(directory: Path, names: set[str]) -> Path:
    """Write a wheel that holds empty files of these names."""
    wheel = directory / "benchtree-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return wheel


COMPLETE = {f"{package}/{name}" for package in PACKAGES for name in ("__init__.py", "py.typed")}


def test_a_complete_wheel_passes(tmp_path: Path) -> None:
    """Four packages, their types and the metadata are what belongs in a wheel."""
    examine(wheel_of(tmp_path, COMPLETE | {"benchtree-0.dist-info/RECORD"}))


@pytest.mark.parametrize(
    "names",
    [COMPLETE - {"actors/py.typed"}, COMPLETE | {"tests/test_bus.py"}, COMPLETE | {"setup.py"}],
)
def test_a_wrong_wheel_is_found(tmp_path: Path, names: set[str]) -> None:
    """Missing types and files that users should not get are found."""
    with pytest.raises(WheelError):
        examine(wheel_of(tmp_path, names))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks a library is told the Debian package to install."""

    def absent(library: str) -> bool:
        return library != "libEGL.so.1"

    monkeypatch.setattr(check_packages, "loads", absent)
    assert "libegl1" in list(check_packages.missing())
    assert "libgl1" not in list(check_packages.missing())


@pytest.mark.parametrize("root", [True, False])
def test_missing_packages_are_installed_where_that_asks_nobody(
    root: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who may install packages gets them; who may not is told which, in one line."""
    asked = tmp_path / "asked"
    apt, initdb = tmp_path / "apt-get", tmp_path / "initdb"
    apt.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    initdb.write_text("#!/bin/sh\n")
    for program in (apt, initdb):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)

    def absent(library: str) -> bool:
        return library != "libEGL.so.1" or asked.exists()

    monkeypatch.setattr(check_packages, "loads", absent)
    assert check_packages.main() == (0 if root else 1)
    said = capsys.readouterr().out.splitlines()
    if root:
        assert said == ["installing packages: libegl1"]
        assert [line.split()[0] for line in asked.read_text().splitlines()] == ["update", "install"]
        assert asked.read_text().split()[-1] == "libegl1"
    else:
        assert said == ["packages are missing: apt-get install libegl1"]


def test_ci_installs_what_is_checked_for() -> None:
    """The list of CI names every package that the heavy tests are refused without."""
    run = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (listed,) = [line for line in run.splitlines() if line.startswith("PACKAGES=")]
    assert {"postgresql", *check_packages.QT} == set(listed.partition("=")[2].strip('"').split())
