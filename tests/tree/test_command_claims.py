"""What is promised of commands on whole benches: pairing, parallel buses, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, RefusedError
from actors.instruments.scpi import Multimeter, PowerSupply
from benchtree import Reading, Setting, Tree, open_journal, open_tree
from recorder import read_entries

QUERIES = 10_000


class Probe(PowerSupply):
    """A supply that may be switched on once its voltage was set."""

    voltage = Setting("VOLT", unit="V", low=0.0, high=30.0)
    output = Setting("OUTP", type=bool, hazardous=lambda on: on, requires=(voltage.is_set(),))
    safe_state: ClassVar[Any] = (output.to(False),)


async def test_two_tasks_on_one_board(autojump_clock: MockClock) -> None:
    """Four instruments on a GPIB board, two tasks, 10 000 queries: none is paired wrongly.

    Now and then a question is abandoned with its answer on the way, or comes late.
    """
    async with open_tree(sim=True) as tree:
        supplies = [
            await tree.add(f"psu{each}", PowerSupply, f"GPIB0::{each}::INSTR")
            for each in range(1, 5)
        ]
        for number, psu in enumerate(supplies, start=1):
            await psu.voltage.set(float(number))
            await psu.current_limit.set(number / 10.0)
        (line,) = tree.lines.values()
        wrong: list[object] = []
        done = [0, 0]

        async def hammer(task: int) -> None:
            random = Random(task)
            while done[task] < QUERIES // 2:
                number = random.randint(1, 4)
                psu = supplies[number - 1]
                asked, expected = random.choice(
                    [(psu.voltage, float(number)), (psu.current_limit, number / 10.0)]
                )
                if random.random() < 0.01:
                    line.latency_s = 0.002
                    with trio.move_on_after(0.001):
                        await asked.get()
                    line.latency_s = 0.0
                value = await asked.get()
                if value != expected:
                    wrong.append((number, value))
                done[task] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hammer, 0)
            nursery.start_soon(hammer, 1)
        assert sum(done) == QUERIES
        assert not wrong
        assert supplies[0].bus is supplies[3].bus


async def asked(tree: Tree, count: int, *names: str) -> float:
    """Return how long it takes to ask each of these so often, all at once."""

    async def ask(name: str) -> None:
        psu = tree.get(name, PowerSupply)
        for _ in range(count):
            await psu.voltage.get()

    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(ask, name)
    return trio.current_time() - began_s


async def test_independent_buses(autojump_clock: MockClock) -> None:
    """Exchanges of four buses are under way at once: they take as long as those of one.

    What only waits is counted, whatever else the machine does. `python -m benchmarks tcp
    serial` holds 2000 queries on each of four processes to 1.2 times those of one.
    """
    names = [f"psu{each}" for each in range(4)]
    async with open_tree(sim=True) as tree:
        for each, name in enumerate(names):
            psu = await tree.add(name, PowerSupply, f"tcp://192.0.2.{each + 1}:5025")
            await psu.voltage.get()
            tree.lines[psu.bus.name].latency_s = 0.002
        assert len(tree.lines) == len(names)
        alone_s = await asked(tree, 500, names[0])
        assert alone_s >= 500 * 0.002
        assert await asked(tree, 500, *names) / alone_s < 1.05


class Mistaken(PowerSupply):
    """A supply with a reading that the device does not know."""

    ripple = Reading("MEAS:RIPP", unit="V")


async def test_an_unknown_question_blames_nobody_else(autojump_clock: MockClock) -> None:
    """What the device keeps of a question it did not know fails no write and no safe state."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", Mistaken, "sim://psu")
        await psu.output.set(True, confirm=True)
        for volts in (3.0, 4.0):
            with trio.move_on_after(1.5), pytest.raises(CommandError):
                await psu.ask(Mistaken.ripple)
            await psu.voltage.set(volts)
            assert await psu.voltage.get() == volts
        with trio.move_on_after(1.5), pytest.raises(CommandError):
            await psu.ask(Mistaken.ripple)
        assert (await tree.trip("psu")).error is None
        assert await psu.output.get() is False


async def test_somebody_elses_errors_keep_nobody_unsafe(autojump_clock: MockClock) -> None:
    """Errors that others made at the device are not taken for a safe state that it refused."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "sim://psu")
        await psu.output.set(True, confirm=True)
        for _ in range(3):
            tree.lines["psu"].model.receive(b"NOSUCH 1\n", trio.current_time())
        assert (await tree.trip("psu")).error is None
        assert await psu.output.get() is False


async def test_cancelled_on_the_line(autojump_clock: MockClock) -> None:
    """What its caller was cancelled for is not written again seconds later."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, "sim://psu")
        await psu.voltage.set(1.0)
        tree.lines["psu"].lose(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(psu.voltage.set, 4.0)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        await psu.current.get()
        await trio.sleep(10.0)
        assert sum(data.startswith(b"VOLT 4") for _, data in tree.lines["psu"].requests) == 1


Wrong = Callable[[Tree, Any], Awaitable[object]]


async def _dependent(tree: Tree, psu: Any) -> object:
    return await psu.voltage.submit(1.0, after=[await _failed(tree)])


async def _failed(tree: Tree) -> Any:
    other = tree.get("other", PowerSupply)
    tree.lines["other"].hang()
    ticket = await other.voltage.submit(1.0)
    other.bus.trip("other", "a test")
    await ticket.outcome()
    tree.lines["other"].unhang()
    return ticket


WRONG: dict[str, tuple[Wrong, Cause, str]] = {
    "range": (
        lambda _, psu: psu.voltage.set(31.0),
        Cause.VALIDATION,
        r"psu: voltage.set: 31.0 V is out of range; it takes a number from 0 to 30 V",
    ),
    "unit": (
        lambda _, psu: psu.voltage.set("5 mV"),
        Cause.VALIDATION,
        r"psu: voltage.set: '5 mV' is a str; it takes a number from 0 to 30 V",
    ),
    "capability": (
        lambda _, psu: psu.ask(Multimeter.resistance),
        Cause.VALIDATION,
        r"psu: resistance: .* is not declared by Probe; it takes voltage, ",
    ),
    "hazard": (
        lambda _, psu: psu.output.set(True),
        Cause.VALIDATION,
        r"psu: output.set: True can do harm; pass confirm=True",
    ),
    "requirement": (
        lambda _, psu: psu.output.set(True, confirm=True),
        Cause.DEPENDENCY,
        r"psu: output.set: before True voltage must be set; it was not set",
    ),
    "predecessor": (
        _dependent,
        Cause.DEPENDENCY,
        r"psu: voltage.set: command \d+, other: voltage.set, had to come first and failed",
    ),
    "foreign lease": (
        lambda _, psu: psu.voltage.set(1.0),
        Cause.LEASE,
        r"psu: voltage.set: .*'annealing'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_bad_input(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    """Refused before a byte is sent, with what was given and what would be right; journaled."""
    call, cause, says = WRONG[kind]
    journaled = tmp_path / "journal.sqlite"
    async with (
        open_journal(journaled) as journal,
        open_tree(sim=True, journal=journal) as tree,
    ):
        psu = await tree.add("psu", Probe, "sim://psu")
        await tree.add("other", PowerSupply, "sim://other")
        await settled(psu)
        await settled(tree.get("other", PowerSupply))
        before = len(tree.lines["psu"].requests)
        over = trio.Event()
        async with AsyncExitStack() as stack:
            if kind == "foreign lease":
                held = trio.Event()

                async def hold() -> None:
                    async with tree.lease("psu", owner="annealing", ttl_s=30.0):
                        held.set()
                        await over.wait()

                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(hold)
                await held.wait()
            with pytest.raises(RefusedError, match=says) as refused:
                await call(tree, psu)
            assert refused.value.cause is cause
            assert not refused.value.may_have_executed
            assert len(tree.lines["psu"].requests) == before
            over.set()
    rows = [row for _, row in read_entries(journaled, "kind = 'refused'")]
    if kind == "capability":
        # It was to be read only: counted, as all reads are.
        assert not rows
        (counted,) = [
            row.text for _, row in read_entries(journaled, "kind = 'count' AND instrument = 'psu'")
        ]
        assert counted.endswith("1 were refused")
    else:
        (row,) = rows
        assert (row.cause, row.text) == (cause, str(refused.value))
        assert row.target == f"benchtree://bench/psu/{refused.value.command}"
        assert "test_bad_input" in row.caller


async def settled(instrument: PowerSupply) -> None:
    """Wait until an instrument answers."""
    await instrument.current.get()
