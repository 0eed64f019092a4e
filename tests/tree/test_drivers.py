"""Which drivers a configuration can name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from actors.instruments.scpi import Multimeter
from benchtree.drivers import UnknownDriverError, driver_names, find_driver

MODULE = """
from actors.instruments.scpi import Multimeter

class Meter(Multimeter):
    pass

def no_driver():
    pass
"""
ENTRIES = """
[benchtree.drivers]
lab.meter = lab_meters:Meter
lab.function = lab_meters:no_driver
lab.gone = lab_meters_gone:Meter
scpi.multimeter = lab_meters:Meter
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that announces drivers."""
    (tmp_path / "lab_meters.py").write_text(MODULE)
    facts = tmp_path / "lab_meters-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-meters\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_built_in_drivers() -> None:
    """The drivers of this package are found by name."""
    assert find_driver("scpi.multimeter") is Multimeter
    assert {"scpi.multimeter", "scpi.power_supply"} <= set(driver_names())


def test_unknown_driver() -> None:
    """A name that means nothing is answered with those that do."""
    with pytest.raises(UnknownDriverError, match=r"'scpi\.toaster'; there are: .*scpi\.multimeter"):
        find_driver("scpi.toaster")


@pytest.mark.usefixtures("plugin")
def test_announced_driver() -> None:
    """Another package's driver is found by the name it announces."""
    driver = find_driver("lab.meter")
    assert (driver.__name__, issubclass(driver, Multimeter)) == ("Meter", True)
    assert "lab.meter" in driver_names()


@pytest.mark.usefixtures("plugin")
def test_built_in_names_are_taken() -> None:
    """Nobody replaces a built-in driver by announcing its name."""
    assert find_driver("scpi.multimeter") is Multimeter


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [("lab.function", "is not an Instrument"), ("lab.gone", "cannot be loaded: No module")],
)
def test_broken_announcements(name: str, message: str) -> None:
    """What is announced and is no driver, or cannot be imported, is named."""
    with pytest.raises(UnknownDriverError, match=message):
        find_driver(name)
