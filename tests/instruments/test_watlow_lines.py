"""EZ-ZONE controllers on real lines, and in configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from trio.testing import MockClock

from actors import CommandError, RefusedError
from actors.instruments.watlow import (
    EzZone,
    EzZoneModbus,
    EzZoneModbusHighWordFirst,
    EzZoneStandardBus,
)
from benchtree import ConfigError, load_config, open_tree
from benchtree.config import check_simulation
from benchtree.drivers import find_driver
from transports import SERIAL, SimLine, serve_pty, serve_tcp

BENCH = """
[bus.furnace]
address = "serial:///dev/ttyFurnace"
profile = "rs485"

[bus.oven]
address = "serial:///dev/ttyOven"

[instrument.zone1]
bus = "furnace"
driver = "watlow"
unit_id = 1

[instrument.zone2]
bus = "furnace"
driver = "watlow"
unit_id = 16

[instrument.oven]
bus = "oven"
driver = "watlow.modbus"
unit_id = 247

[recording.main]
rate_hz = 10
parameters = ["process_value", "zone1.7001"]
"""

LINES = [
    pytest.param(EzZoneStandardBus, id="standard bus"),
    pytest.param(EzZoneModbus, id="modbus"),
]


@pytest.fixture(autouse=True)
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the owner files of a test to itself."""
    monkeypatch.setenv("BENCHTREE_OWNER_DIR", str(tmp_path / "owners"))


async def use(driver: type[EzZone], address: str) -> None:
    """Write and read two controllers at an address, one of them behind a fence."""
    async with open_tree() as tree:
        one = await tree.add("one", driver, address, unit_id="1")
        two = await tree.add("two", driver, address, unit_id="2")
        assert one.bus is two.bus
        await one.setpoint.set(200.0, confirm=True)
        await two.setpoint.set(100.0, instance=2, confirm=True)
        assert await one.setpoint.get() == pytest.approx(200.0, abs=1e-4)
        assert await two.setpoint.get(instance=2) == pytest.approx(100.0, abs=1e-4)
        samples = await tree.poll_many(["process_value"], instances=(1, 2))
        assert [each.value for each in samples] == [pytest.approx(23.0, abs=0.1)] * 4
        with pytest.raises(RefusedError):
            await one.setpoint.set(300.0)


@pytest.mark.parametrize("driver", LINES)
async def test_a_real_serial_port(driver: type[EzZone], tmp_path: Path) -> None:
    """Two controllers share one serial port, in real time."""
    async with serve_pty(
        SimLine(driver.simulate(["1", "2"])), link=tmp_path / "ttyFurnace"
    ) as address:
        await use(driver, address)


@pytest.mark.parametrize("driver", LINES)
async def test_a_real_gateway(driver: type[EzZone]) -> None:
    """Two controllers share the serial line behind a network gateway."""
    async with serve_tcp(SimLine(driver.simulate(["1", "2"])), keeps_late=True) as address:
        await use(driver, address)


@pytest.mark.parametrize("driver", LINES)
async def test_a_late_reply_on_a_real_port(driver: type[EzZone], tmp_path: Path) -> None:
    """A reply that comes after its deadline is never another parameter's value."""
    line = SimLine(driver.simulate(["1", "2"]))
    async with serve_pty(line, link=tmp_path / "ttyFurnace") as address, open_tree() as tree:
        once = evolve(driver.profiles.get("serial", SERIAL), attempts=1)
        zone = await tree.add("zone", driver, address, unit_id="1", profile=once)
        expected = await zone.integral_time.get()
        line.late(0.6)
        with pytest.raises(CommandError, match="no reply"):
            await zone.serial_number.get()
        assert await zone.integral_time.get() == expected


def written(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "bench.toml"
    path.write_text(text)
    return path


def test_drivers_by_name() -> None:
    """Each protocol has its name."""
    assert find_driver("watlow") is EzZoneStandardBus
    assert find_driver("watlow.modbus") is EzZoneModbus
    assert find_driver("watlow.modbus_high_word_first") is EzZoneModbusHighWordFirst


def test_a_good_file(tmp_path: Path) -> None:
    """Units and parameters are understood, the latter by number too, and can be simulated."""
    config = load_config(written(tmp_path, BENCH))
    assert [each.unit_id for each in config.tree.instruments] == ["1", "16", "247"]
    check_simulation(config)


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("unit_id = 16", "unit_id = 17", "unit_id: '17' is no address .* from 1 to 16"),
        ("unit_id = 247", "unit_id = 248", "unit_id: '248' is no address .* from 1 to 247"),
        ("unit_id = 16", "unit_id = 1", "unit_id: 1 is the unit of zone1 already"),
        ("zone1.7001", "zone1.7999", "parameters.*zone1 has no parameter '7999'"),
        ('driver = "watlow"\nunit_id = 16', 'driver = "watlow.modbus"\nunit_id = 16', "share"),
    ],
)
def test_a_wrong_file(good: str, bad: str, complaint: str, tmp_path: Path) -> None:
    """What does not fit the drivers is said where it is written."""
    assert good in BENCH
    with pytest.raises(ConfigError, match=complaint) as wrong:
        load_config(written(tmp_path, BENCH.replace(good, bad, 1)))
    assert len(wrong.value.mistakes) == 1


async def test_a_file_is_simulated(tmp_path: Path, autojump_clock: MockClock) -> None:
    """`--sim` puts controllers on each bus, with the addresses of the file."""
    config = load_config(written(tmp_path, BENCH))
    async with open_tree(config.tree, sim=True) as tree:
        samples = await tree.poll_many(["process_value", "zone1.4001"], instances=(1, 2))
        assert sorted(str(each.key) for each in samples) == [
            "oven.process_value",
            "oven.process_value[2]",
            "zone1.process_value",
            "zone1.process_value[2]",
            "zone2.process_value",
            "zone2.process_value[2]",
        ]
