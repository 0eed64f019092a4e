"""What the tree does to an instrument on its own is in the journal, with what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio
from trio.testing import MockClock

from actors import RowKind
from actors.instruments.scpi import PowerSupply, SignalGenerator
from benchtree import open_journal, open_tree
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import check_journal, read_entries

SPEC = TreeSpec(
    name="cell",
    buses=[
        BusSpec(name="supply", address="tcp://192.0.2.1:5025"),
        BusSpec(name="signals", address="tcp://192.0.2.2:5025"),
    ],
    instruments=[
        InstrumentSpec(name="psu", bus="supply", driver=PowerSupply),
        InstrumentSpec(name="generator", bus="signals", driver=SignalGenerator),
    ],
)


def told(path: Path, name: str) -> Sequence[tuple[str, str]]:
    """Return what the journal says of an instrument besides its commands."""
    return [
        (row.command, row.text)
        for _, row in read_entries(path, "instrument = ?", (name,))
        if row.kind is RowKind.EVENT
    ]


async def test_settings_that_are_restored(autojump_clock: MockClock, tmp_path: Path) -> None:
    """After it was unplugged a row says what was written again, and others that it was away."""
    path = tmp_path / "journal.sqlite"
    async with (
        open_journal(path, tree="cell") as journal,
        open_tree(SPEC, sim=True, journal=journal) as tree,
    ):
        await tree.get("psu", PowerSupply).voltage.set(4.75)
        tree.lines["supply"].unplug()
        await trio.sleep(5.0)
        tree.lines["supply"].replug()
        await trio.sleep(60.0)
    rows = told(path, "psu")
    sent = "voltage.set VOLT 4.75;:SYST:ERR?\\n"
    assert ("settings restored", f"voltage; left out: none; sent: {sent}") in rows
    assert [text for command, text in told(path, "supply") if command == "breaker"]
    assert check_journal(path).sound


async def test_safe_states(autojump_clock: MockClock, tmp_path: Path) -> None:
    """A trip's row is followed by one with each byte that made the instrument safe."""
    path = tmp_path / "journal.sqlite"
    async with (
        open_journal(path, tree="cell") as journal,
        open_tree(SPEC, sim=True, journal=journal) as tree,
    ):
        await tree.get("psu", PowerSupply).output.set(True, confirm=True)
        await tree.trip("psu", "smoke")
    rows = told(path, "psu")
    tripped = rows.index(("tripped", "smoke"))
    assert ("safe state reached", "smoke; sent: output.set OUTP 0;:SYST:ERR?\\n") in rows[tripped:]


async def test_operations_that_are_stopped(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Taking an operation back is a row with the device's own abort."""
    path = tmp_path / "journal.sqlite"
    async with (
        open_journal(path, tree="cell") as journal,
        open_tree(SPEC, sim=True, journal=journal) as tree,
    ):
        ticket = await tree.get("generator", SignalGenerator).sweep.submit()
        await trio.sleep(0.2)
        ticket.withdraw()
        await trio.sleep(1.0)
    assert ("stopped", "sent: ABOR;:SYST:ERR?\\n") in told(path, "generator")


async def test_breakers_that_are_forced(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Whoever takes a bus out of service leaves a row, and so does its way back."""
    path = tmp_path / "journal.sqlite"
    async with (
        open_journal(path, tree="cell") as journal,
        open_tree(SPEC, sim=True, journal=journal) as tree,
    ):
        tree.force_open("supply", "maintenance")
        tree.force_close("supply")
        await trio.sleep(1.0)
    rows = [text for command, text in told(path, "supply") if command == "breaker"]
    assert rows[0] == "open: maintenance"
    assert rows[-1].startswith("closed: ")
