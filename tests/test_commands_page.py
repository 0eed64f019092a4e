"""What the manual says of commands is what the code does."""

from __future__ import annotations

from attrs import fields

from actors import BreakerPolicy
from tools import ROOT
from tools.draw_commands import fault_table, life, profile_table
from transports import PROFILES, BusProfile

COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_diagram_is_drawn_from_the_table() -> None:
    """The page's diagram is `python -m tools.draw_commands`."""
    assert f"```mermaid\n{life()}```" in COMMANDS


def test_every_fault_is_in_its_table() -> None:
    """The page's table of faults is drawn from the classes."""
    assert fault_table() in COMMANDS


def test_every_profile_and_its_keys_are_documented() -> None:
    """Each kind of bus has a row with its reason, and each number a row that explains it."""
    for name in PROFILES:
        assert f"| `{name}` |" in CONFIGURATION
    assert profile_table() in CONFIGURATION
    for each in (*fields(BusProfile), *fields(BreakerPolicy)):
        assert f"`{each.name}`" in CONFIGURATION
