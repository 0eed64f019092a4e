"""One port has one actor, in one tree, on the whole machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import open_tree
from benchtree.spec import TreeSpec
from tests.tree.scripts import HOLD, run_script
from transports import PortOwnedError, SimLine, serve_pty


async def _names(folder: Path, link: str) -> list[str]:
    """Return three names of one port: the node, its symbolic link, and one by id."""
    by_id = trio.Path(folder / "by-id")
    await by_id.mkdir()
    path = by_id / "usb-FTDI_FT232R_A50285BI-if00-port0"
    await path.symlink_to(f"../{Path(link).name}")
    return [str(await trio.Path(link).resolve()), f"serial://{link}", str(path)]


async def test_three_names_of_one_port(tmp_path: Path) -> None:
    """A symbolic link, a path by id and the device node are one actor."""
    model = PowerSupplyModel()
    async with serve_pty(SimLine(model), link=tmp_path / "ttyBench") as address:
        names = await _names(tmp_path, address.removeprefix("serial://"))
        for first in names:
            async with open_tree() as tree:
                psu = await tree.add("psu", PowerSupply, first, unit_id="0")
                await psu.voltage.set(1.0)
                for number, name in enumerate(names):
                    with pytest.raises(ValueError, match="psu is already unit 0"):
                        await tree.add("twin", PowerSupply, name, unit_id="0")
                    other = await tree.add(f"other{number}", PowerSupply, name, unit_id=name)
                    assert other.bus is psu.bus
                assert len(tree.status()) == 1


async def test_two_trees_in_one_process(tmp_path: Path) -> None:
    """The second tree of a process is told that the first has the port, under any name."""
    async with serve_pty(SimLine(PowerSupplyModel()), link=tmp_path / "ttyBench") as address:
        names = await _names(tmp_path, address.removeprefix("serial://"))
        async with open_tree(TreeSpec(name="cell-3")) as tree, open_tree() as second:
            await tree.add("psu", PowerSupply, names[0])
            for name in names:
                with pytest.raises(PortOwnedError, match="cell-3") as refused:
                    await second.add("psu", PowerSupply, name)
                assert (refused.value.owner, refused.value.pid) == ("cell-3", os.getpid())
            await tree.remove("psu")
            await second.add("psu", PowerSupply, names[1])


async def test_two_processes(tmp_path: Path) -> None:
    """Another process is told owner and pid; a killed owner frees the port."""
    model = PowerSupplyModel()
    async with serve_pty(SimLine(model), link=tmp_path / "ttyBench") as address:
        names = await _names(tmp_path, address.removeprefix("serial://"))
        async with run_script(HOLD, names[1]) as other, open_tree() as tree:
            await other.hear("on")
            for name in names:
                with pytest.raises(PortOwnedError, match="held") as refused:
                    await tree.add("psu", PowerSupply, name)
                assert (refused.value.owner, refused.value.pid) == ("held", other.pid)
            assert await other.end(signal.SIGKILL) == -signal.SIGKILL
            psu = await tree.add("psu", PowerSupply, names[2])
            # Nobody was there to switch it off.
            assert await psu.output.get()
        assert not model.output_on
