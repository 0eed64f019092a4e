"""The commands of a whole tree, listed and watched."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors import CommandMoved, CommandState
from actors.instruments.scpi import PowerSupply
from benchtree import open_tree
from benchtree.watch import KEPT, Watch


async def test_listed_and_watched(autojump_clock: MockClock) -> None:
    """Each step of each command is seen in order; what is not finished is listed."""
    async with open_tree(sim=True) as tree:
        one = await tree.add("one", PowerSupply, "sim://one")
        two = await tree.add("two", PowerSupply, "sim://two")
        await one.voltage.get()
        await two.voltage.get()
        tree.lines["one"].hang()
        with tree.watch() as moves:
            stuck = await one.voltage.submit(1.0)
            await two.voltage.set(2.0)
            assert list(tree.tickets()) == [stuck]
            seen: list[CommandMoved] = []
            with trio.move_on_after(0.1):
                async for move in moves:
                    seen.append(move)  # noqa: PERF401 - it never ends by itself
            of_two = [each.state for each in seen if each.instrument == "two"]
            assert of_two == [
                CommandState.QUEUED,
                CommandState.DISPATCHED,
                CommandState.ACKNOWLEDGED,
                CommandState.COMPLETED,
            ]
            assert stuck.withdraw() is False
        tree.lines["one"].unhang()


async def test_nobody_waits_for_who_watches() -> None:
    """Steps that nobody takes are dropped and counted; the newest are kept."""
    watch = Watch()
    for seq in range(KEPT + 5):
        watch.note(
            CommandMoved(
                bus="b",
                instrument="i",
                command="c",
                seq=seq,
                state=CommandState.QUEUED,
                writes=False,
                urgent=False,
            )
        )
    assert watch.missed == 5
    assert (await anext(watch)).seq == 5
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.0):
        async for _ in watch:
            pass
