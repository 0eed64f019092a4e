"""Instruments on one GPIB board share one actor, however they are written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from actors.instruments.scpi import Multimeter, PowerSupply
from benchtree import ConfigError, load_config, open_tree
from benchtree.config import read_tree
from transports import AddressError

BOARD = {
    "bus": {"gpib": {"address": "GPIB0"}},
    "instrument": {
        "psu": {"bus": "gpib", "driver": "scpi.power_supply", "unit_id": 5},
        "dmm": {"bus": "gpib", "driver": "scpi.multimeter", "unit_id": 7},
    },
}
APART = {
    "bus": {"one": {"address": "GPIB0::5::INSTR"}, "two": {"address": "GPIB::07::INSTR"}},
    "instrument": {
        "psu": {"bus": "one", "driver": "scpi.power_supply"},
        "dmm": {"bus": "two", "driver": "scpi.multimeter"},
    },
}


@pytest.mark.parametrize(("tables", "bus"), [(BOARD, "gpib"), (APART, "one")])
def test_a_board_in_a_file(tables: dict[str, object], bus: str) -> None:
    """By unit ids on one bus, or by full names on two: it is one bus with two units."""
    tree = read_tree(tables)
    assert [each.name for each in tree.buses] == [bus]
    assert tree.buses[0].profile is not None
    assert (tree.buses[0].profile.name, tree.buses[0].profile.shared) == ("gpib", True)
    assert [(each.bus, each.unit_id) for each in tree.instruments] == [(bus, "5"), (bus, "7")]


@pytest.mark.parametrize("tables", [BOARD, APART])
async def test_a_simulated_board(tables: dict[str, object], autojump_clock: MockClock) -> None:
    """Each instrument on a simulated board has a device of its own."""
    async with open_tree(read_tree(tables), sim=True) as tree:
        psu, dmm = tree.get("psu", PowerSupply), tree.get("dmm", Multimeter)
        assert psu.bus is dmm.bus
        await psu.voltage.set(5.0)
        assert await psu.voltage.get() == 5.0
        assert await dmm.voltage.get() is not None
        spare = await tree.add("spare", PowerSupply, "GPIB0::9::INSTR")
        assert spare.bus is psu.bus
        assert await spare.voltage.get() == 0.0
        with pytest.raises(ValueError, match="unit 9"):
            await tree.add("again", PowerSupply, "GPIB0", unit_id="9")
        with pytest.raises(AddressError, match="names unit 5"):
            await tree.add("other", PowerSupply, "GPIB0::5::INSTR", unit_id="6")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('[instrument.c]\nbus = "one"\ndriver = "scpi.multimeter"\nunit_id = 6', "names unit 5"),
        ('[instrument.c]\nbus = "two"\ndriver = "scpi.multimeter"', "7 is the unit of dmm already"),
        (
            (
                '[bus.board]\naddress = "GPIB0"\n[instrument.c]\nbus = "board"\n'
                'driver = "scpi.multimeter"'
            ),
            "instrument.c.unit_id: is missing; several units share bus.one",
        ),
        (
            (
                '[bus.board]\naddress = "GPIB0"\n[instrument.c]\nbus = "board"\n'
                'driver = "scpi.multimeter"\nunit_id = 31'
            ),
            "'31' is no GPIB address",
        ),
        (
            (
                '[bus.three]\naddress = "GPIB0::8"\nrequired = true\n'
                '[instrument.c]\nbus = "three"\ndriver = "scpi.multimeter"'
            ),
            "bus.three.required: is that of a board which bus.one is too; say it there",
        ),
        (
            '[supervisor.all]\nchildren = ["bus.one", "bus.two"]',
            "bus.two is the same board as bus.one; name bus.one",
        ),
    ],
)
def test_mistakes(tmp_path: Path, more: str, says: str) -> None:
    """What two names of one board contradict each other in is said, with the line."""
    path = tmp_path / "bench.toml"
    path.write_text(f"""
[bus.one]
address = "GPIB0::5::INSTR"
[bus.two]
address = "GPIB0::7::INSTR"
[instrument.psu]
bus = "one"
driver = "scpi.power_supply"
[instrument.dmm]
bus = "two"
driver = "scpi.multimeter"
{more}
""")
    with pytest.raises(ConfigError) as wrong:
        load_config(path)
    assert says in str(wrong.value)
    assert len(wrong.value.mistakes) == 1
