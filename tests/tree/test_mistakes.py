"""Wrong arguments: one error that names them, nothing on the wire, and the tree goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors.instruments.scpi import PowerSupply, SignalGenerator
from benchtree import Cause, Priority, RefusedError, Setting, Tree, open_tree
from tests.tree.kit import Witness, bench_of, supply


@asynccontextmanager
async def _tree() -> AsyncGenerator[tuple[Tree, Any, Witness]]:
    """Open a tree; its supply comes without types, as to somebody who checks none."""
    witness = Witness()
    async with open_tree(bench_of("psu"), sim=True, observer=witness) as tree:
        psu = tree.get("psu", PowerSupply)
        await psu.voltage.set(5.0)
        yield tree, psu, witness


DIRECTIVES: list[tuple[Callable[[Any], Awaitable[object]], str]] = [
    (lambda psu: psu.ask("voltage"), "'voltage' is no directive; it takes what a driver declares"),
    (lambda psu: psu.submit(None), "None is no directive"),
    (lambda psu: psu.submit(psu.voltage), "BoundSetting"),
    (lambda psu: psu.ask(5), "5 is no directive"),
    (lambda psu: psu.ask(SignalGenerator.sweep), "<Operation sweep '.*'> is not declared by"),
    (lambda psu: psu.voltage.get(instance="1"), "there is no instance '1' of it; there is only 1"),
    (lambda psu: psu.voltage.get(instance=None), "there is no instance None of it"),
    (lambda psu: psu.voltage.get(instance=1.0), r"there is no instance 1\.0 of it"),
    (lambda psu: psu.voltage.get(instance=True), "there is no instance True of it"),
    (
        lambda psu: psu.ask(PowerSupply.voltage.to(3.0), instance=2),
        r"instance 2 is for what is read; an assignment names its own: voltage\.to\(value, inst",
    ),
    (
        lambda psu: psu.submit(PowerSupply.clear_protection, instance=2, confirm=True),
        "instance 2 is for what is read; an action has none",
    ),
    (lambda psu: psu.output.set(True, confirm="no"), "True can do harm; pass confirm=True"),
    (lambda psu: psu.clear_protection(confirm="no"), "it can do harm; pass confirm=True"),
    (lambda psu: psu.voltage.set(1, priority=7), "priority is 7; it is one of Priority.EMERGENCY"),
    (lambda psu: psu.voltage.set(1, priority="high"), "priority is 'high'; it is one of"),
    (lambda psu: psu.output.set(True, confirm=True, priority=7), "priority is 7"),
    (
        lambda psu: psu.voltage.submit(1, after=[None]),
        r"after is \[None\]; it is a list of tickets",
    ),
    (lambda psu: psu.voltage.submit(1, after=5), "after is 5; it is a list of tickets"),
    (lambda psu: psu.voltage.set(10**400), r"10{59}\.\.\. V is out of range; it takes a number"),
    (lambda psu: psu.voltage.set(10**5000), "an integer of thousands of digits V is out of range"),
]


async def test_wrong_directives(autojump_clock: MockClock) -> None:
    """What is no directive, instance, priority or ticket is refused by name, and not sent."""
    async with _tree() as (tree, psu, _):
        sent = len(tree.lines["psu"].requests)
        for call, said in DIRECTIVES:
            with pytest.raises(RefusedError, match=f"(?s)psu: .*{said}") as refused:
                await call(psu)
            assert refused.value.cause is Cause.VALIDATION
            assert len(str(refused.value)) < 300
        ticket = await psu.voltage.submit(6.0)
        with pytest.raises(RefusedError, match=r"it is a list of tickets: after=\[ticket\]"):
            await psu.voltage.submit(7.0, after=ticket)
        await ticket.outcome()
        assert len(tree.lines["psu"].requests) == sent + 1


class Labelled(PowerSupply):
    """A supply that shows a text."""

    label = Setting("DISP:TEXT", type=str)


@pytest.mark.parametrize("text", ["5;OUTP 1", "a\nOUTP 1", "", "\u00fc"])
async def test_a_text_that_cannot_be_sent(text: str, autojump_clock: MockClock) -> None:
    """A text that the protocol would take for something else is refused by name, and not sent."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", Labelled, "sim://psu")
        await psu.voltage.set(5.0)
        sent = len(tree.lines["psu"].requests)
        with pytest.raises(
            RefusedError, match=r"psu: label\.set: expected one printable"
        ) as refused:
            await psu.label.set(text)
        assert refused.value.cause is Cause.VALIDATION
        assert repr(text) in str(refused.value)
        assert len(tree.lines["psu"].requests) == sent


@pytest.mark.parametrize("name", [None, 5, "", " ", "a/b", "psu\n"])
async def test_what_is_no_name(name: Any, autojump_clock: MockClock) -> None:
    """Nothing is added under a name that leases, journals and recordings cannot say."""
    async with open_tree(sim=True) as tree:
        with pytest.raises(ValueError, match="name"):
            await tree.add(name, PowerSupply, "sim://psu")
        assert not tree.instruments
        assert not tree.status()


async def test_assigned_instead_of_set(autojump_clock: MockClock) -> None:
    """Nobody replaces a setting, a reading or an action by assigning to it."""
    async with _tree() as (tree, psu, _):
        for name, value, said in (
            ("voltage", 5.5, r"psu\.voltage: write it with `await psu\.voltage\.set\(5\.5\)`"),
            ("current", 1.0, r"psu\.current is only read, with `await psu\.current\.get\(\)`"),
            ("clear_protection", True, r"psu\.clear_protection is an action"),
        ):
            with pytest.raises(AttributeError, match=said):
                setattr(psu, name, value)
        assert await tree.get("psu", PowerSupply).voltage.get() == 5.0


@pytest.mark.parametrize("value", [np.int64(7), np.float32(7.0), np.float64(7.0), np.array(7.0)])
async def test_numbers_of_numpy(value: Any, autojump_clock: MockClock) -> None:
    """A number of numpy's is a number, and what is intended is Python's own."""
    async with _tree() as (tree, psu, _):
        await psu.voltage.set(value)
        assert await psu.voltage.get() == 7.0
        plan = psu.bus.intended("psu")["voltage"]
        assert type(plan.readback.wanted) in (int, float)
        await psu.output.set(np.bool_(True), confirm=True)
        assert supply(tree, "psu").output_on
        with pytest.raises(RefusedError, match="nan is not a finite number"):
            await psu.voltage.set(np.float64("nan"))


async def test_an_emergency_that_can_do_harm(autojump_clock: MockClock) -> None:
    """Switching on needs its confirmation as an emergency, too; switching off does not."""
    async with _tree() as (tree, psu, _):
        async with tree.lease("psu", owner="annealing"):
            pass
        sent = len(tree.lines["psu"].requests)
        for _ in range(2):
            with pytest.raises(RefusedError, match="True can do harm; pass confirm=True"):
                await psu.output.set(True, priority=Priority.EMERGENCY)
            with pytest.raises(RefusedError, match="True can do harm; pass confirm=True"):
                await psu.output.submit(True, priority=Priority.EMERGENCY)
        assert len(tree.lines["psu"].requests) == sent
        assert tree.status()[0].instruments[0].tripped is None
        await psu.output.set(False, priority=Priority.EMERGENCY)


LEASES: list[tuple[dict[str, Any], str]] = [
    ({"priority": "high"}, "priority is 'high'; it is an integer"),
    ({"priority": float("nan")}, "priority is nan; it is an integer"),
    ({"priority": True}, "priority is True; it is an integer"),
    ({"reads": "exclusiv"}, "reads is 'exclusiv'; it is 'shared' or 'exclusive'"),
    ({"reads": True}, "reads is True; it is 'shared' or 'exclusive'"),
    ({"owner": 5}, "owner is 5; it says in words whose the lease is"),
    ({"owner": ""}, "owner is ''; it says"),
    ({"ttl_s": 0}, "ttl_s is 0; it is a time in seconds, above 0"),
    ({"ttl_s": "5"}, "ttl_s is '5'; it is a time in seconds, above 0"),
    ({"ttl_s": float("nan")}, "ttl_s is nan; it is a time in seconds, above 0"),
    ({"grace_s": -1.0}, r"grace_s is -1\.0; it is a time in seconds, 0 or more"),
]


async def test_wrong_leases(autojump_clock: MockClock) -> None:
    """What a lease cannot be asked for with is named, and leaves those of others alone."""
    async with _tree() as (tree, psu, _):
        untyped: Any = tree
        for terms, said in LEASES:
            with pytest.raises(ValueError, match=said):
                untyped.lease("psu", **{"owner": "annealing", **terms})
            with trio.fail_after(1):
                async with tree.lease("psu", owner="etching"):
                    await psu.voltage.set(1.0)
        with pytest.raises(ValueError, match="is no name; a lease takes names or patterns"):
            untyped.lease(psu, owner="annealing")
        with pytest.raises(ValueError, match="at least one instrument"):
            untyped.lease(owner="annealing")
        with pytest.raises(KeyError) as unknown:
            tree.force_open("nope")
        assert str(unknown.value).count("psu") == 1
