"""One port and two processes: preempted, handed over and back, killed, stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

from actors import (
    BreakerPolicy,
    BusAwaited,
    BusLent,
    BusLost,
    BusReturned,
    Event,
    LaneRearmed,
    SafeStateFailed,
    SafeStateReached,
    Service,
)
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import Cause, RefusedError, Tree, TreeSpec, open_tree
from tests.tree.kit import Witness
from tests.tree.scripts import Script, run_script
from tests.tree.test_replug import taken_nodes, until
from transports import PortOwnedError, SimLine, serve_pty

ANNEAL: Final = """
import sys
import trio
from actors.instruments.scpi import PowerSupply
from benchtree import TreeSpec, open_tree

async def main(address: str, priority: int, polite: bool) -> None:
    async with open_tree(TreeSpec(name="cell-3", wait=True, priority=priority)) as tree:
        psu = await tree.add("psu", PowerSupply, address)
        print("open", flush=True)
        for number in range(1, 10):
            try:
                await anneal(tree, psu, number, polite)
            except Exception as error:
                print(type(error).__name__, flush=True)

async def anneal(tree, psu, number: int, polite: bool) -> None:
    async with tree.lease("psu", owner="annealing", priority=priority, grace_s=1.0) as lease:
        await psu.voltage.set(5.0)
        await psu.output.set(True, confirm=True)
        print(f"on {number}", flush=True)
        if not polite:
            await trio.sleep_forever()
        await lease.preempted.wait()
        await psu.voltage.set(1.0)
        print("safe point", flush=True)

priority = int(sys.argv[2])
trio.run(main, sys.argv[1], priority, sys.argv[3] == "polite")
"""
"""Switches a supply on under a lease, again and again."""


def _calibration(priority: int = 5, *, wait: bool = True) -> TreeSpec:
    return TreeSpec(name="calibration", priority=priority, wait=wait)


@asynccontextmanager
async def _annealing(
    tmp_path: Path, *, priority: int = 0, polite: bool = True
) -> AsyncGenerator[tuple[PowerSupplyModel, str, Script]]:
    model = PowerSupplyModel()
    async with serve_pty(SimLine(model), link=tmp_path / "ttyBench") as address:
        manner = "polite" if polite else "rude"
        async with run_script(ANNEAL, address, f"{priority}", manner) as script:
            await script.hear("on 1")
            assert model.output_on
            yield model, address, script


class Seen(Witness):
    """Sees events, and lets others wait for them."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self._more = trio.Event()

    def __call__(self, event: Event) -> None:
        """See an event."""
        super().__call__(event)
        self._more.set()

    async def until(self, holds: Callable[[Event], bool]) -> None:
        """Wait until an event was seen that `holds` accepts."""
        while not any(map(holds, self.events)):
            self._more = trio.Event()
            await self._more.wait()

    async def until_told(self, text: str) -> None:
        """Wait until somebody who waits for a port was told this."""
        await self.until(lambda event: isinstance(event, BusAwaited) and text in event.text)


def _kinds(folder: Path) -> list[str]:
    return sorted(each.suffix for each in folder.iterdir())


def _sockets(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.suffix == ".socket"]


async def _stop(script: Script) -> None:
    """Stop a process, and wait until it stands still."""
    script.signal(signal.SIGSTOP)
    await trio.to_thread.run_sync(os.waitid, os.P_PID, script.pid, os.WSTOPPED)


async def test_handed_over_and_back(tmp_path: Path) -> None:
    """The holder reaches its safe point and hands the port over; it gets it back afterwards."""
    witness = Seen()
    async with _annealing(tmp_path) as (model, address, other):
        async with open_tree(_calibration(), observer=witness) as tree:
            psu = await tree.add("psu", PowerSupply, address)
            await other.hear("safe point")
            # Driven safe before it was handed over.
            assert not model.output_on
            assert await psu.voltage.get() == 1.0
            await psu.voltage.set(2.0)
        first = witness.of(BusAwaited)[0].text
        assert f"tree 'cell-3' (process {other.pid}) since 20" in first
        await other.hear("on 2")
        assert model.voltage_v > 0.0
        assert await other.end(signal.SIGTERM) == 143
        assert not model.output_on


async def test_holder_that_does_not_listen(tmp_path: Path) -> None:
    """After its grace the lease is revoked, its block ends, and the port comes, safe."""
    async with _annealing(tmp_path, polite=False) as (model, address, other):
        began_s = trio.current_time()
        async with open_tree(_calibration()) as tree:
            psu = await tree.add("psu", PowerSupply, address)
            assert trio.current_time() - began_s >= 0.9
            assert not model.output_on
            await other.hear("LeaseLostError")
            await psu.voltage.set(2.0)
        await other.hear("on 2")
        assert await other.end(signal.SIGTERM) == 143


@pytest.mark.parametrize("priority", [0, 5])
async def test_killed_holder(priority: int, tmp_path: Path, owners: Path) -> None:
    """A killed holder frees the port at once, whoever waits for it."""
    witness = Seen()
    async with (
        _annealing(tmp_path, priority=7) as (model, address, other),
        open_tree(_calibration(priority), observer=witness) as tree,
    ):
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                await witness.until_told("does not go before")
                left.extend(_sockets(owners))
                assert await other.end(signal.SIGKILL) == -signal.SIGKILL
                killed_s.append(trio.current_time())

            left: list[Path] = []
            killed_s: list[float] = []
            nursery.start_soon(kill)
            psu = await tree.add("psu", PowerSupply, address)
            assert trio.current_time() - killed_s[0] < 5.0
        # Nobody was there to switch it off.
        assert model.output_on
        await psu.output.set(False)
        assert model.voltage_v == 0.0
        # Its socket is gone, too; ours comes as soon as the tree has the port.
        assert len(left) == 1
        assert left[0] not in _sockets(owners)
        await until(lambda: _kinds(owners) == [".owner", ".socket"])
    assert _kinds(owners) == [".owner"]


async def test_stopped_holder(tmp_path: Path) -> None:
    """A stopped holder keeps the port; who waits is told its process and what to do."""
    witness = Seen()
    async with _annealing(tmp_path) as (model, address, other):
        await _stop(other)
        async with open_tree(_calibration(9), observer=witness) as tree:
            async with trio.open_nursery() as nursery:

                async def let_go_on() -> None:
                    stopped = f"kill -CONT {other.pid} lets it go on"
                    await witness.until_told(stopped)
                    assert model.output_on
                    other.signal(signal.SIGCONT)

                nursery.start_soon(let_go_on)
                await tree.add("psu", PowerSupply, address)
            assert not model.output_on
            told = [each.text for each in witness.of(BusAwaited)]
            assert any(f"(process {other.pid})" in each and "stopped" in each for each in told)
        await other.hear("on 2")
        assert await other.end(signal.SIGTERM) == 143


async def test_refused_without_waiting(tmp_path: Path) -> None:
    """Who does not wait is told at once who has the port, and whether that one is stopped."""
    async with _annealing(tmp_path) as (_, address, other):
        async with open_tree(_calibration(9, wait=False)) as tree:
            await _stop(other)
            with pytest.raises(PortOwnedError) as refused:
                await tree.add("psu", PowerSupply, address)
            other.signal(signal.SIGCONT)
            assert (refused.value.owner, refused.value.pid) == ("cell-3", other.pid)
            assert "stopped" in str(refused.value)
        assert await other.end(signal.SIGTERM) == 143


async def test_waiting_holds_up_nobody(tmp_path: Path) -> None:
    """While one instrument waits for its port, others are added; two that wait get one bus."""
    witness = Seen()
    async with (
        _annealing(tmp_path) as (_, address, other),
        open_tree(_calibration(-1), observer=witness) as tree,
    ):
        async with trio.open_nursery() as nursery:
            for unit in ("1", "2"):
                nursery.start_soon(partial(tree.add, unit_id=unit), unit, PowerSupply, address)
            await witness.until_told("it is free when that tree ends")
            await tree.add("meter", PowerSupply, "sim://meter")
            assert await other.end(signal.SIGTERM) == 143
        assert tree["1"].bus is tree["2"].bus
        with pytest.raises(ValueError, match="exists already"):
            await tree.add("meter", PowerSupply, address)


async def test_equal_priority_waits_for_the_end(tmp_path: Path) -> None:
    """Nobody hands a port over to an equal; it is free when its tree has ended, and safe."""
    witness = Seen()
    async with (
        _annealing(tmp_path, priority=5) as (model, address, other),
        open_tree(_calibration(5), observer=witness) as tree,
        trio.open_nursery() as nursery,
    ):

        async def end() -> None:
            await witness.until_told("its priority is 5")
            assert model.output_on
            assert await other.end(signal.SIGTERM) == 143

        nursery.start_soon(end)
        await tree.add("psu", PowerSupply, address)
        assert not model.output_on


@asynccontextmanager
async def _lending(
    tmp_path: Path,
) -> AsyncGenerator[tuple[Tree, Seen, Script, PowerSupplyModel]]:
    """Open a tree here, and have its port go to another process."""
    witness = Seen()
    model = PowerSupplyModel()
    async with (
        serve_pty(SimLine(model), link=tmp_path / "ttyBench") as address,
        open_tree(TreeSpec(name="mine"), observer=witness) as tree,
    ):
        psu = await tree.add("psu", PowerSupply, address)
        await psu.voltage.set(3.0)
        await psu.output.set(True, confirm=True)
        async with run_script(ANNEAL, address, "5", "polite") as other:
            await other.hear("on 1")
            yield tree, witness, other, model
            if not witness.of(BusReturned):
                assert await other.end(signal.SIGTERM) == 143


async def test_commands_while_it_is_lent(tmp_path: Path) -> None:
    """While others have the port, commands are refused naming them; then all goes on."""
    async with _lending(tmp_path) as (tree, witness, other, model):
        psu = tree.get("psu", PowerSupply)
        for refused_call in (psu.voltage.get, psu.current.get):
            with pytest.raises(RefusedError, match=rf"'cell-3' \(process {other.pid}\)") as refused:
                await refused_call()
            assert refused.value.cause is Cause.LEASE
        assert (await tree.trip("psu", "the operator")).error is None
        assert tree.status()[0].lent == f"tree 'cell-3' (process {other.pid})"
        assert [each.instrument for each in witness.of(SafeStateReached)] == ["psu"]
        (lent,) = witness.of(BusLent)
        assert lent.bus == "psu"
        assert await other.end(signal.SIGTERM) == 143
        await witness.until(lambda event: isinstance(event, LaneRearmed))
        await witness.until(lambda event: isinstance(event, BusReturned))
        await psu.output.set(False)
        # What is safe stays so; the rest is as it was set here.
        assert not model.output_on
        assert await psu.voltage.get() == 3.0


async def test_wanted_back(tmp_path: Path) -> None:
    """A lease of a higher priority here has the other process hand the port back."""
    async with _lending(tmp_path) as (tree, witness, other, model):
        with trio.fail_after(15):
            async with tree.lease("psu", owner="alarm", priority=9):
                await tree.get("psu", PowerSupply).voltage.set(4.0)
                assert not model.output_on
        await other.hear("safe point")
        assert len(witness.of(BusReturned)) == 1
        # The port goes on to whoever waits in turn.
        await other.hear("on 2")
        assert await other.end(signal.SIGTERM) == 143


async def _run(address: str, *, task_status: trio.TaskStatus[Script]) -> None:
    async with run_script(ANNEAL, address, "5", "polite") as script:
        await script.hear("on 1")
        task_status.started(script)


PATIENT: Final = """
import sys
import trio
from actors import RefusedError
from actors.instruments.scpi import PowerSupply
from actors import BreakerPolicy
from benchtree import TreeSpec, open_tree

async def main(address: str, priority: int) -> None:
    spec = TreeSpec(name="patient", wait=True, priority=priority)
    async with open_tree(spec) as tree:
        print("waiting", flush=True)
        breaker = BreakerPolicy(open_s=0.1, max_open_s=0.2)
        psu = await tree.add("psu", PowerSupply, address, breaker=breaker)
        print("added", flush=True)
        while True:
            try:
                await psu.voltage.set(7.0)
                break
            except RefusedError:
                await trio.sleep(0.05)
        print("set", flush=True)
        await trio.sleep_forever()

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""
"""Waits for a supply, however long, and sets its voltage."""


async def _wait_for_it(
    address: str, priority: int, *, task_status: trio.TaskStatus[Script]
) -> None:
    async with run_script(PATIENT, address, str(priority)) as script:
        await script.hear("waiting")
        task_status.started(script)


@pytest.mark.parametrize("priority", [0, 5])
async def test_port_moves_while_another_waits(priority: int, tmp_path: Path) -> None:
    """A port that moves to another node has one owner at any time, whoever waits for it.

    An equal waits on until the port is free, wherever it is; a more important tree gets it.
    """
    witness = Seen()
    model = PowerSupplyModel()
    line = SimLine(model)
    breaker = BreakerPolicy(open_s=0.05, max_open_s=0.1)
    async with (
        serve_pty(line, link=tmp_path / "ttyBench") as address,
        trio.open_nursery() as nursery,
    ):
        async with open_tree(TreeSpec(name="mine"), observer=witness) as tree:
            psu = await tree.add("psu", PowerSupply, address, breaker=breaker)
            await psu.voltage.set(3.0)
            old = psu.bus.key
            # A holder that takes its time keeps the desk busy while the port moves.
            async with tree.lease("psu", owner="annealing", grace_s=1.0) as lease:
                other = await nursery.start(_wait_for_it, address, priority)
                if priority:
                    await lease.preempted.wait()
                else:
                    await trio.sleep(0.3)
                line.unplug()
                await witness.until(lambda event: isinstance(event, BusLost))
                with taken_nodes():
                    line.replug()
                    await until(lambda: psu.bus.key != old)
            if priority:
                await other.hear("set")
                assert model.setpoint_v == 7.0
            else:
                await until(lambda: tree.status()[0].instruments[0].service is Service.IN_SERVICE)
                await psu.voltage.set(4.0)
                assert model.setpoint_v == 4.0
        await other.hear("set")
        assert model.setpoint_v == 7.0
        assert await other.end(signal.SIGTERM) == 143


async def test_stop_while_it_is_lent(tmp_path: Path) -> None:
    """A tree that stops leaves what others have alone."""
    witness = Seen()
    model = PowerSupplyModel()
    async with (
        serve_pty(SimLine(model), link=tmp_path / "ttyBench") as address,
        trio.open_nursery() as nursery,
    ):
        async with open_tree(TreeSpec(name="mine"), observer=witness) as tree:
            await tree.add("psu", PowerSupply, address)
            other = await nursery.start(_run, address)
            assert len(witness.of(SafeStateReached)) == 1
        assert len(witness.of(SafeStateReached)) == 1
        assert not witness.of(SafeStateFailed)
        assert model.output_on
        assert await other.end(signal.SIGTERM) == 143
