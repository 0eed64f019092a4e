"""What the checker of simulated benches takes for well, and for wrong."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from attrs import evolve

from actors import CommandError, CommandMoved, CommandState, Intensity, Strategy
from actors.instruments.scpi import PowerSupply
from benchtree.faultplan import FaultKind, FaultPlan, PlannedFault
from benchtree.invariants import HAZARD_ASKED, OWN_REPLY, RESTART_ORDER, Invariants
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, Kind, SupervisorSpec, TreeSpec

from .bench import SPEC

ASKED_NS = 5_000


def violations(reply: bytes, *said: bytes) -> list[str]:
    """Return what the checker notes when a bus that said `said` completes with `reply`."""
    invariants = Invariants(TreeSpec(), prompt_s=10.0, broken=lambda: None)
    invariants.see("line", b"??D*\r", ASKED_NS, said)
    for state in CommandState.QUEUED, CommandState.DISPATCHED, CommandState.COMPLETED:
        invariants.observe(
            CommandMoved(
                bus="line",
                instrument="flow",
                command="read the format",
                seq=1,
                state=state,
                writes=False,
                urgent=False,
                sent_ns=ASKED_NS,
                reply=reply if state is CommandState.COMPLETED else b"",
            )
        )
    return [each.invariant for each in invariants.violations if each.invariant == OWN_REPLY]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"A 1", (b"A 1\r",)),
        (b"A D00\nA D01", (b"A D00\rA D01\r",)),
        (b"A D00\nA D01", (b"A D00\r", b"A D01\r")),
    ],
)
async def test_a_reply_that_was_said_is_its_own(reply: bytes, said: tuple[bytes, ...]) -> None:
    """One line, or several put together without their ends."""
    assert violations(reply, *said) == []


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"A 1", ()),
        (b"A 1", (b"B 1\r",)),
        (b"A 1", (b"A ", b"1\r")),
        (b"A D00\nA D01", ()),
        (b"A D00\nA D01", (b"A D00\r", b"B D01\r")),
        (b"A D01\nA D00", (b"A D00\rA D01\r",)),
    ],
)
async def test_a_reply_that_nobody_said_is_noted(reply: bytes, said: tuple[bytes, ...]) -> None:
    """Nothing, another's, one cut in two, or lines that were swapped."""
    assert violations(reply, *said) == [OWN_REPLY]


@pytest.mark.parametrize("before", [b"", b"*CLS;:"])
def test_a_hazard_that_nobody_asked_for_is_noted(before: bytes) -> None:
    """Whether or not errors that were left are cleared in the same request."""
    bench = TreeSpec(
        buses=[BusSpec(name="supply", address="tcp://192.0.2.9:5025")],
        instruments=[InstrumentSpec(name="psu", bus="supply", driver=PowerSupply)],
    )

    async def main(bench: Bench) -> None:
        bench.invariants.see("supply", before + b"OUTP 1;:SYST:ERR?\n", ASKED_NS, ())

    (violation,) = simulate(0, main, bench=bench).violations
    assert violation.invariant == HAZARD_ASKED


NESTED = evolve(
    SPEC,
    supervisors=[
        SupervisorSpec(
            name="outer",
            strategy=Strategy.REST_FOR_ONE,
            children=[(Kind.BUS, "supply"), (Kind.SUPERVISOR, "inner")],
            intensity=Intensity(max_restarts=9, window_s=60.0),
        ),
        SupervisorSpec(
            name="inner",
            strategy=Strategy.ONE_FOR_ALL,
            children=[(Kind.BUS, "aux"), (Kind.ACTOR, "ramp")],
            intensity=Intensity(max_restarts=1, window_s=60.0),
        ),
    ],
    recordings=[],
)
"""A group within a group: the outer one starts the inner one again."""


def test_a_group_that_is_started_again_begins_anew() -> None:
    """Its children were taken for restarted twice in a row, and its restarts for too many."""
    struck = [(5.0, "actor.ramp"), (15.0, "supply"), (25.0, "actor.ramp"), (35.0, "supply")]
    plan = FaultPlan(
        tuple(
            PlannedFault(at_s=at_s, kind=FaultKind.CRASH, target=target) for at_s, target in struck
        )
    )

    async def main(bench: Bench) -> None:
        for _ in range(50):
            await trio.sleep(1.0)
            with suppress(CommandError):
                await bench.get("psu", PowerSupply).current.get()

    report = simulate(0, main, bench=NESTED, faults=plan)
    assert report.restarts
    assert report.checked[RESTART_ORDER]
    assert report.violations == ()


def test_a_group_that_gave_up_and_was_started_again_is_expected_back() -> None:
    """Only what is left down is left out of what must be back."""
    crash = PlannedFault(at_s=5.0, kind=FaultKind.CRASH, target="actor.ramp", count=2)

    async def main(bench: Bench) -> None:
        await trio.sleep(20.0)
        assert bench.invariants.restarts
        assert not bench.invariants.gave_up

    assert simulate(0, main, bench=NESTED, faults=FaultPlan((crash,))).violations == ()
