"""SCPI drivers work under VISA unchanged, in a tree."""

from __future__ import annotations

import trio

from actors.instruments.scpi import Multimeter, PowerSupply
from actors.instruments.scpi.models import MultimeterModel, PowerSupplyModel
from benchtree import open_tree
from tests.support.hislip import serve_hislip
from tests.support.visa_sim import plug_into_visa
from transports import SimLine


async def test_scpi_drivers_under_visa() -> None:
    """A power supply by HiSLIP, and two instruments on one GPIB board: settings and readings."""
    supply = SimLine(PowerSupplyModel())
    with (
        plug_into_visa(SimLine(PowerSupplyModel()), "GPIB6::5::INSTR"),
        plug_into_visa(SimLine(MultimeterModel()), "GPIB6::7::INSTR"),
    ):
        async with serve_hislip(supply) as port, open_tree() as tree:
            lan = await tree.add(
                "lan", PowerSupply, f"TCPIP::127.0.0.1::hislip0,{port}::INSTR?backend=@py"
            )
            psu = await tree.add("psu", PowerSupply, "GPIB6::5::INSTR?backend=@sim")
            dmm = await tree.add("dmm", Multimeter, "GPIB6?backend=@sim", unit_id="7")
            assert psu.bus is dmm.bus
            with trio.fail_after(20):
                for each, volts in ((lan, 3.0), (psu, 4.0)):
                    await each.voltage.set(volts)
                    assert await each.voltage.get() == volts
                assert await dmm.voltage.get() is not None
