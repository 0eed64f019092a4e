"""Faults that simulations found in the real code: each with its plan, and what it was."""

from __future__ import annotations

import trio

from benchtree.faultplan import FaultKind, FaultPlan, PlannedFault
from benchtree.simulate import Bench, simulate
from recorder import ReadsFailed, record
from transports import RS485

from .bench import SPEC, run_seed
from .family import ZoneController


def test_unread_series_are_named_in_order() -> None:
    """What a poll did not give is named in the order in which it was asked for.

    It was kept in a set of names, whose order differs from process to process: reports
    differed, and the same seed gave another trace.
    """
    plan = FaultPlan(
        (PlannedFault(at_s=3.5, kind=FaultKind.HANG, target="line", unit="3", for_s=20.0),)
    )
    wanted = [f"zone{number}.process_value" for number in (8, 1, 7, 2, 6, 3, 5, 4)]
    seen: list[tuple[str, ...]] = []

    async def main(bench: Bench) -> None:
        def note(event: object) -> None:
            if isinstance(event, ReadsFailed):
                seen.append(event.series)

        async with record(
            bench.tree, parameters=wanted, rate_hz=4.0, duration=12.0, observer=note
        ) as recording:
            async for _ in recording.stream:
                pass
        await trio.sleep(60.0)

    assert not simulate(0, main, bench=SPEC, faults=plan).violations
    assert seen
    for series in seen:
        assert list(series) == [each for each in wanted if each in series]


def test_what_is_not_sent_yet_lets_the_safe_state_go_first() -> None:
    """A read that waits for pacing when its instrument is tripped is sent after the safe state.

    The bus had it in hand already, looked at trips of writes alone before the first byte, and
    sent it: whoever was in danger waited for one exchange that was not in flight yet.
    """
    asked: list[bytes] = []

    async def main(bench: Bench) -> None:
        zone = bench.get("zone1", ZoneController)
        await trio.sleep(1.0)
        await zone.process_value.get()
        ticket = await zone.submit(ZoneController.process_value)
        await trio.sleep(RS485.pacing_s / 2)
        await bench.tree.trip("zone1")
        assert (await ticket.outcome()).error is None
        asked.extend(data for _, data in list(bench.lines["line"].requests)[-2:])

    assert not simulate(0, main, bench=SPEC, faults=FaultPlan()).violations
    assert asked == [b"@1 ON=0\n", b"@1 PV?\n"]


def test_bus_that_crashes_while_it_is_opened_for_the_safe_state() -> None:
    """Who trips an instrument of a bus that is down is told that it could not be reached.

    With no incarnation running, whoever asks for the safe state opens the line itself: an
    exception in the code of the line came out of `trip`. It crashed seed 141 of ten minutes.
    """
    assert not run_seed(141, 600.0).violations
