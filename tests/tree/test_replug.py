"""Instruments that are unplugged and come back: elsewhere, changed, or as somebody else.

On pseudo-terminals, in real time.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from actors import (
    BreakerPolicy,
    BusLost,
    Cause,
    CommandError,
    IdentityMismatch,
    OnReconnect,
    RefusedError,
    Service,
)
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import Tree, open_tree
from benchtree.spec import InstrumentSpec, TreeSpec
from tests.tree.kit import Witness
from transports import PortOwnedError, SimLine, claim, serve_pty

NOTICED_S: Final = 0.5
"""Within what time the loss of an idle line is to be noticed."""

QUICK: Final = BreakerPolicy(open_s=0.05, max_open_s=0.1)


@contextmanager
def taken_nodes(count: int = 4) -> Generator[None]:
    """Take the next nodes of pseudo-terminals, so that who comes back gets another one."""
    ends = [end for _ in range(count) for end in os.openpty()]
    try:
        yield
    finally:
        for end in ends:
            os.close(end)


@asynccontextmanager
async def bench(
    address: str, on_reconnect: OnReconnect = OnReconnect.RESTORE
) -> AsyncGenerator[tuple[Tree, PowerSupply, Witness]]:
    """Run a tree with one power supply that has been identified."""
    seen = Witness()
    async with open_tree(TreeSpec(name="cell-3"), observer=seen) as tree:
        psu = await tree.add(
            "psu", PowerSupply, address, breaker=QUICK, on_reconnect=on_reconnect, timeout_s=0.3
        )
        await psu.voltage.set(5.0)
        yield tree, psu, seen


async def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait until something holds."""
    with trio.fail_after(within_s):
        while not true():  # noqa: ASYNC110 - there is no event for just any condition
            await trio.sleep(0.005)


def more_losses(seen: Witness, before: int) -> bool:
    """Return whether the bus was lost once more."""
    return len(seen.of(BusLost)) == before + 1


def service(tree: Tree) -> Service:
    """Return where the only instrument stands."""
    return tree.status()[0].instruments[0].service


def quarantine(tree: Tree) -> str:
    """Return why the only instrument is not in service."""
    return tree.status()[0].instruments[0].reason


@pytest.mark.parametrize("address", ["serial://{}", "ASRL{}::INSTR?backend=@py"])
async def test_back_under_another_node(address: str, tmp_path: Path) -> None:
    """The link is followed anew: identity, settings and ownership are those of the new node."""
    line = SimLine(PowerSupplyModel())
    link = tmp_path / "usb-Bench_PSU_1-if00"
    async with serve_pty(line, link=link), bench(address.format(link)) as (tree, psu, seen):
        old = psu.bus.key
        line.unplug()
        await until(lambda: seen.of(BusLost))
        with pytest.raises(RefusedError) as refused:
            await psu.voltage.get()
        assert refused.value.cause is Cause.BREAKER
        assert refused.value.retry_after_s is not None
        line.reset()  # it lost its settings with its power
        with taken_nodes():
            line.replug()
            await until(lambda: service(tree) is Service.IN_SERVICE)
        new = psu.bus.key
        assert new == f"serial://{link.resolve()}"
        assert new != old
        assert await psu.voltage.get() == 5.0
        with pytest.raises(PortOwnedError) as owned:
            claim(new, tree="another")
        assert owned.value.owner == "cell-3"
        claim(old, tree="another").release()
        # Every name of the port is the bus, the new node's as well.
        assert await tree.find_bus(str(link.resolve())) is psu.bus
        assert len(seen.of(BusLost)) == 1


async def test_how_soon_it_is_noticed(tmp_path: Path) -> None:
    """An idle line notices its loss within half a second, each time it is unplugged."""
    line = SimLine(PowerSupplyModel())
    took_s: list[float] = []
    async with (
        serve_pty(line, link=tmp_path / "tty") as address,
        bench(address) as (tree, _, seen),
    ):
        for _ in range(3):
            before = len(seen.of(BusLost))
            began_s = trio.current_time()
            line.unplug()
            await until(partial(more_losses, seen, before))
            took_s.append(trio.current_time() - began_s)
            line.replug()
            await until(lambda: service(tree) is Service.IN_SERVICE)
    # One of three, so that a machine with other things to do fails nobody.
    assert min(took_s) < NOTICED_S


async def test_one_fault_for_the_exchange_in_flight(tmp_path: Path) -> None:
    """Unplugged during an exchange: it fails at once as DISCONNECTED, and nothing else does."""
    line = SimLine(PowerSupplyModel())
    async with (
        serve_pty(line, link=tmp_path / "tty") as address,
        bench(address) as (_, psu, seen),
    ):
        psu.timeout_s = 30.0
        line.hang()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(CommandError) as failed, trio.fail_after(5.0):
                    await psu.output.set(False)
                assert failed.value.fault is not None
                assert failed.value.fault.kind.name == "DISCONNECTED"

            requests = len(line.requests)
            nursery.start_soon(ask)
            await until(lambda: len(line.requests) > requests)
            line.unplug()
        assert len(seen.of(BusLost)) == 1


async def test_swapped_instrument(tmp_path: Path) -> None:
    """Another instrument behind the same link is refused for good; the right one is not."""
    link = tmp_path / "tty"
    served = SimLine(PowerSupplyModel(serial="RIGHT"))
    other = SimLine(PowerSupplyModel(serial="WRONG"))
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve_pty(other, link=link))
        other.unplug()
        await stack.enter_async_context(serve_pty(served, link=link))
        tree, psu, seen = await stack.enter_async_context(bench(address))
        served.unplug()
        await until(lambda: seen.of(BusLost))
        other.replug()
        # Asked again and again, it stays who it is.
        await until(lambda: len(seen.of(IdentityMismatch)) > 2)
        assert service(tree) is Service.QUARANTINED
        assert "IDENTITY_MISMATCH" in quarantine(tree)
        with pytest.raises(RefusedError, match=r"IDENTITY_MISMATCH.*'WRONG', expected 'RIGHT'"):
            await psu.voltage.set(7.0)
        assert not any(b"VOLT" in data for _, data in other.requests)
        other.unplug()
        served.replug()
        await until(lambda: service(tree) is Service.IN_SERVICE)
        assert await psu.voltage.get() == 5.0


async def test_kept_out_until_rearmed(tmp_path: Path) -> None:
    """With on_reconnect = "quarantine" it comes back into service by `rearm` only."""
    line = SimLine(PowerSupplyModel())
    async with (
        serve_pty(line, link=tmp_path / "tty") as address,
        bench(address, OnReconnect.QUARANTINE) as (tree, psu, seen),
    ):
        line.unplug()
        await until(lambda: seen.of(BusLost))
        line.reset()
        line.requests.clear()
        line.replug()
        await until(lambda: "waits to be rearmed" in quarantine(tree))
        with pytest.raises(RefusedError, match="rearmed"):
            await psu.voltage.get()
        assert not any(b"VOLT 5" in data for _, data in line.requests)
        tree.rearm("psu")
        await until(lambda: service(tree) is Service.IN_SERVICE)
        assert await psu.voltage.get() == 5.0


def test_a_policy_goes_by_its_value_too() -> None:
    """A script may write what a file says; what is no policy is refused, not taken for another."""
    for given in ("quarantine", OnReconnect.QUARANTINE):
        policy: Any = given
        spec = InstrumentSpec(name="psu", bus="psu", driver=PowerSupply, on_reconnect=policy)
        assert spec.on_reconnect is OnReconnect.QUARANTINE
    wrong: Any = "quarantined"
    with pytest.raises(ValueError, match="'quarantined' is not a valid OnReconnect"):
        InstrumentSpec(name="psu", bus="psu", driver=PowerSupply, on_reconnect=wrong)


async def test_adapters_that_change_places(tmp_path: Path) -> None:
    """Two links that come back with each other's node: both follow, neither blocks the other."""
    links = [tmp_path / "by-id-a", tmp_path / "by-id-b"]
    lines = [SimLine(PowerSupplyModel(serial=name)) for name in "AB"]
    async with (
        serve_pty(lines[0], link=tmp_path / "node0"),
        serve_pty(lines[1], link=tmp_path / "node1"),
        open_tree() as tree,
    ):
        nodes = [(tmp_path / f"node{number}").resolve() for number in range(2)]
        for link, node in zip(links, nodes, strict=True):
            link.symlink_to(node)
        psus = [
            await tree.add(f"psu{number}", PowerSupply, str(link), breaker=QUICK)
            for number, link in enumerate(links)
        ]
        for psu in psus:
            await psu.voltage.get()
        # The kernel hangs both up, and hands the nodes out the other way round.
        for link, node in zip(links, reversed(nodes), strict=True):
            link.unlink()
            link.symlink_to(node)
        lines[0].model, lines[1].model = lines[1].model, lines[0].model
        for psu in psus:
            await psu.bus.transport.aclose()
        await until(
            lambda: (
                [each.bus.key for each in psus] == [f"serial://{nodes[1]}", f"serial://{nodes[0]}"]
            )
        )
        await until(
            lambda: all(
                each.service is Service.IN_SERVICE
                for status in tree.status()
                for each in status.instruments
            )
        )
