"""Whatever a run does, its journal tells what happened to each command, once and in order."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import CommandError, CommandState, Priority, RefusedError, RowKind, Ticket
from benchtree import PowerSupply, Tree, open_journal, open_tree
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import check_journal, read_entries

NAMES = ("psu", "heater")

SPEC = TreeSpec(
    name="any",
    buses=[BusSpec(name=name, address=f"tcp://192.0.2.{n}:5025") for n, name in enumerate(NAMES)],
    instruments=[InstrumentSpec(name=name, bus=name, driver=PowerSupply) for name in NAMES],
)

DEEDS = ("write", "hazard", "read", "withdraw", "emergency", "trip", "rearm", "unplug", "replug")


@define
class Step:
    """One thing that somebody does."""

    deed: str
    name: str
    pause_s: float
    patience_s: float


steps = st.lists(
    st.builds(
        Step,
        deed=st.sampled_from(DEEDS),
        name=st.sampled_from(NAMES),
        pause_s=st.sampled_from([0.0, 0.0, 0.001, 0.05, 1.0, 8.0]),
        patience_s=st.sampled_from([math.inf, math.inf, 0.0, 0.02]),
    ),
    max_size=40,
)


@define
class User:
    """Does what it is told, and keeps the tickets.

    Attributes:
        tickets: The commands that change an instrument and were accepted.
        refused: How many were not.
    """

    tickets: list[Ticket[Any]] = field(factory=list[Ticket[Any]])
    refused: int = 0

    async def do(self, tree: Tree, step: Step) -> None:
        """Do one thing."""
        instrument = tree.get(step.name, PowerSupply)
        line = tree.lines[step.name]
        match step.deed:
            case "unplug":
                line.unplug()
            case "replug":
                line.replug()
            case "trip":
                with trio.move_on_after(step.patience_s):
                    await tree.trip(step.name, "a test")
            case "rearm":
                with suppress(RefusedError):  # driving it safe is still owed
                    tree.rearm(step.name)
            case "read":
                with suppress(CommandError), trio.move_on_after(step.patience_s):
                    await instrument.measured_voltage.get()
            case _:
                await self._submit(instrument, step)

    async def _submit(self, instrument: PowerSupply, step: Step) -> None:
        on = step.deed in ("hazard", "withdraw")
        directive: Any = instrument.output.to(on) if on else instrument.voltage.to(1.0)
        if step.deed == "emergency":
            directive = instrument.output.to(False)
        priority = Priority.EMERGENCY if step.deed == "emergency" else Priority.NORMAL
        try:
            with trio.move_on_after(step.patience_s):
                ticket: Ticket[Any] = await instrument.submit(
                    directive, confirm=True, priority=priority, wait=False
                )
                self.tickets.append(ticket)
                if step.deed == "withdraw":
                    ticket.withdraw()
        except RefusedError:
            self.refused += 1


@given(steps)
@settings(max_examples=40, deadline=None)
def test_any_run(choices: list[Step]) -> None:
    """Each accepted write has a life along the table and the outcome that its ticket has."""
    user = User()

    async def main(path: Path) -> None:
        async with (
            open_journal(path, tree="any") as journal,
            open_tree(SPEC, sim=True, journal=journal) as tree,
        ):
            for step in choices:
                await user.do(tree, step)
                await trio.sleep(step.pause_s)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        trio.run(main, path, clock=MockClock(autojump_threshold=0.0))
        report = check_journal(path)
        rows = [row for _, row in read_entries(path)]
    assert report.sound, (report.broken, report.troubles)
    assert report.ended
    ends = {
        row.seq: row
        for row in rows
        if row.kind is RowKind.COMMAND and row.seq and row.state and row.state.final
    }
    # A hazardous command may be refused after it was entered: it has a row, and no ticket.
    assert {ticket.seq for ticket in user.tickets} <= set(ends)
    for ticket in user.tickets:
        end = ends[ticket.seq]
        assert (end.state, end.attempt) == (ticket.state, ticket.attempts)
        if ticket.attempts:
            assert end.may_have_executed or end.state is CommandState.FAILED
        else:
            assert not end.may_have_executed
    lives = [row.seq or 0 for row in rows if row.kind is RowKind.COMMAND]
    begun = [row for row in rows if row.state is CommandState.QUEUED]
    assert sorted(row.seq or 0 for row in begun) == sorted(ends) == sorted(set(lives))
    assert all(row.request for row in begun)
