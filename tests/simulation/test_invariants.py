"""What the checker of simulated benches takes for a reply, and for a hazard."""

from __future__ import annotations

import pytest

from actors import CommandMoved, CommandState
from actors.instruments.scpi import PowerSupply
from benchtree.invariants import HAZARD_ASKED, OWN_REPLY, Invariants
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec

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
