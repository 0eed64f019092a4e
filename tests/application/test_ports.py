"""`benchtree ports`: who is there, found at once, whatever hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.instruments.scpi.models import PowerSupplyModel
from benchtree import open_tree
from benchtree.cli import main
from benchtree.config import load_config
from benchtree.drivers import BUILT_IN
from tests.application import fakes
from tests.application.bare import hide_ports
from tests.application.commands import environment
from tests.support.visa_sim import plug_into_visa
from transports import (
    BlockingSimProcess,
    SimLine,
    SimSpec,
    claim,
    list_serial_ports,
    owner_of,
    port_users,
)

SCPI = "actors.instruments.scpi"
LIMIT_S = 3.0


@pytest.fixture(autouse=True)
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep owner files apart from those of others: numbers of pseudo-terminals come again."""
    monkeypatch.setenv("BENCHTREE_OWNER_DIR", str(tmp_path / "owners"))


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no ports but those of the test: nothing is said to anybody's real instruments."""
    hide_ports(monkeypatch, tmp_path / "none")


@contextmanager
def served(folder: Path) -> Generator[BlockingSimProcess]:
    """Serve a power supply, two flow controllers on a line, and a furnace controller."""
    links = folder / "by-id"
    links.mkdir()
    specs = [
        SimSpec(model=f"{SCPI}:PowerSupplyModel", host="pty", link=str(links / "usb-psu")),
        SimSpec(
            model="tests.application.line_models:flow_line", host="pty", link=str(links / "usb-mfc")
        ),
        SimSpec(
            model="tests.application.line_models:furnace_line",
            host="pty",
            link=str(links / "usb-furnace"),
        ),
    ]
    with BlockingSimProcess(specs) as process:
        yield process


@contextmanager
def silent_port(link: Path) -> Generator[int]:
    """Make a port at which nobody answers; yields the far end."""
    far, near = os.openpty()
    try:
        link.symlink_to(os.ttyname(near))
        yield far
    finally:
        os.close(near)
        os.close(far)


def ports(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command and return what it wrote."""
    assert main(["ports", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def listed(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what is listed, by the name of the link or the address."""
    places = json.loads(ports(*arguments, "--json", capsys=capsys))
    return {Path(each["address"]).name: each for each in places}


def looked(*arguments: str | Path, cwd: Path) -> tuple[dict[str, Any], float]:
    """Run the command in a process of its own; return what it lists, and the seconds it took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.application.bare_console", "ports", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    places = json.loads(done.stdout)
    took_s = float(done.stderr.splitlines()[-1])
    return {Path(each["address"]).name: each for each in places}, took_s


def test_three_healthy_and_five_dead(tmp_path: Path) -> None:
    """All are told apart within one deadline: nobody who is dead delays the others.

    A second of the three is left for Python to start.
    """
    with ExitStack() as stack:
        stack.enter_context(served(tmp_path))
        links = tmp_path / "by-id"
        stack.enter_context(silent_port(links / "usb-silent"))
        (links / "usb-unplugged").symlink_to("/dev/pts/no-such-node")
        hosts = {
            "refused": fakes.closed_port(),
            "mute": stack.enter_context(fakes.host()),
            "full": stack.enter_context(fakes.full_host()),
        }
        file = tmp_path / "bench.toml"
        file.write_text(
            "".join(
                f'[bus.{name}]\naddress = "tcp://127.0.0.1:{port}"\n'
                f'[instrument.of_{name}]\nbus = "{name}"\ndriver = "scpi.power_supply"\n'
                for name, port in hosts.items()
            )
        )
        found, took_s = looked(file, "--identify", "--json", "--links", links, cwd=tmp_path)
    assert took_s < LIMIT_S - 1.0
    assert len(found) == 8
    psu, flow, furnace = (found[f"usb-{name}"] for name in ("psu", "mfc", "furnace"))
    assert psu["instruments"][0]["driver"] == "scpi.power_supply"
    assert psu["instruments"][0]["identity"]["serial"] == "SIM-PS-1"
    assert [each["unit"] for each in flow["instruments"]] == ["A", "C"]
    assert flow["instruments"][0]["driver"] == "alicat"
    assert flow["instruments"][0]["settings"]["baudrate"] == 19_200
    assert furnace["instruments"][0]["driver"] == "watlow"
    assert found["usb-silent"]["state"] == "nobody answers"
    assert found["usb-unplugged"]["state"].startswith("unplugged")
    states = {each["bus"]: each["state"] for each in found.values() if each["bus"]}
    assert "refused" in states["refused"]
    assert "no reply" in states["mute"]
    assert states["full"] == "no answer in time"


async def polled(file: Path) -> dict[str, bool]:
    """Run the bench of a file and poll everybody on it; return who gave readings."""
    async with open_tree(file) as tree:
        results = await tree.fleet().poll()
        return {name: each.ok for name, each in results.items()}


def test_tables_for_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `--toml` prints is a bench that `check` accepts and that runs, identities included."""
    with served(tmp_path), silent_port(tmp_path / "by-id" / "usb-silent"):
        text = ports("--toml", "--within", "5", "--links", tmp_path / "by-id", capsys=capsys)
        file = tmp_path / "found.toml"
        file.write_text(text)
        assert main(["check", str(file)]) == 0
        answered = trio.run(polled, file)
    assert "usb-silent: nobody answers" in text
    instruments = load_config(file).tree.instruments
    assert answered == {each.name: True for each in instruments}
    assert {each.identity.serial for each in instruments} >= {"SIM-PS-1"}
    assert sorted(str(each.unit_id) for each in instruments) == ["1", "A", "C", "None"]
    assert all(
        str(tmp_path / "by-id") in each["address"] for each in tomllib.loads(text)["bus"].values()
    )


def test_every_scpi_family_is_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What answers `*IDN?` is given the driver of its family, not the bare one."""
    models = {
        name: type(driver.simulate([None])).__name__
        for name, driver in BUILT_IN.items()
        if name.startswith("scpi.")
    }
    specs = [
        SimSpec(
            model=f"actors.instruments.scpi.models:{model}",
            host="pty",
            link=str(tmp_path / f"usb-{model}"),
        )
        for model in models.values()
    ]
    with BlockingSimProcess(specs):
        text = ports("--toml", "--within", "5", "--links", tmp_path, capsys=capsys)
    found = tomllib.loads(text)["instrument"].values()
    assert {each["driver"] for each in found} == set(models)
    assert len(models) >= 10


def test_a_port_of_another_process_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who owns it is listed with its process, and not one byte is sent there."""
    code = (
        "import sys, transports; owner = transports.claim(sys.argv[1], tree='cell-3'); "
        "print(1, flush=True); input()"
    )
    link = tmp_path / "usb-owned"
    with silent_port(link) as far:
        os.set_blocking(far, False)
        with subprocess.Popen(
            [sys.executable, "-c", code, f"serial://{link.resolve()}"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            owned = listed("--identify", "--links", tmp_path, capsys=capsys)["usb-owned"]
            assert owned["owner_pid"] == other.pid
            assert f"in use by tree 'cell-3' (process {other.pid})" == owned["state"]
            other.kill()
        with pytest.raises(BlockingIOError):
            os.read(far, 1)
        # Killed, it left its name behind, and owns nothing.
        assert owner_of(f"serial://{link.resolve()}") is None


def test_a_port_that_another_program_has_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that is no tree is named too, where the operating system tells."""
    code = (
        "import sys, serial; port = serial.Serial(sys.argv[1], exclusive=True); "
        "print(1, flush=True); input()"
    )
    link = tmp_path / "usb-locked"
    with (
        silent_port(link),
        subprocess.Popen(
            [sys.executable, "-c", code, str(link)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
    ):
        assert other.stdout is not None
        other.stdout.readline()
        assert [each.pid for each in port_users(str(link))] == [other.pid]
        locked = listed("--identify", "--links", tmp_path, capsys=capsys)["usb-locked"]
        assert locked["owner_pid"] == other.pid
        assert f"process {other.pid}" in locked["state"]
        other.kill()


def test_listing_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--identify` no port is opened; the table names link and node."""
    with silent_port(tmp_path / "usb-free") as far:
        os.set_blocking(far, False)
        text = ports("--links", tmp_path, capsys=capsys)
        line = next(each for each in text.splitlines() if "usb-free" in each)
        assert str((tmp_path / "usb-free").resolve()) in line
        assert line.rstrip().endswith("free")
        with pytest.raises(BlockingIOError):
            os.read(far, 1)


def test_ports_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that the file has is named by its bus, and asked first as the file says."""
    with served(tmp_path):
        link = tmp_path / "by-id" / "usb-mfc"
        file = tmp_path / "bench.toml"
        file.write_text(
            f'[bus.gas]\naddress = "serial://{link.resolve()}?baudrate=57600"\n'
            '[instrument.mfc]\nbus = "gas"\ndriver = "alicat"\n'
        )
        found = listed(
            file, "--identify", "--within", "5", "--links", tmp_path / "by-id", capsys=capsys
        )
    assert found["usb-mfc"]["bus"] == "gas"
    assert found["usb-mfc"]["instruments"][0]["settings"]["baudrate"] == 57_600
    assert found["usb-psu"]["bus"] is None


def test_visa_resources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What VISA finds is asked too, instruments of one board in turn; tables name the library."""
    with ExitStack() as stack:
        for address, serial in ((5, "FIVE"), (7, "SEVEN")):
            line = SimLine(PowerSupplyModel(serial=serial))
            stack.enter_context(plug_into_visa(line, f"GPIB0::{address}::INSTR"))
        hung = SimLine(PowerSupplyModel())
        hung.hang()
        stack.enter_context(plug_into_visa(hung, "USB0::0x1AB1::0x0588::X::INSTR"))
        found = listed("--identify", "--within", "5", "--backend", "@sim", capsys=capsys)
        answers = {
            name: [each["identity"]["serial"] for each in place["instruments"]]
            for name, place in found.items()
            if place["kind"] == "visa"
        }
        assert answers == {
            "GPIB0::5::INSTR?backend=%40sim": ["FIVE"],
            "GPIB0::7::INSTR?backend=%40sim": ["SEVEN"],
            "USB0::0x1AB1::0x0588::X::0::INSTR?backend=%40sim": [],
        }
        text = ports("--toml", "--within", "5", "--backend", "@sim", capsys=capsys)
    tables = tomllib.loads(text)
    (board,) = (name for name, each in tables["bus"].items() if "GPIB" in each["address"])
    assert tables["bus"][board]["address"] == "visa://GPIB0?backend=%40sim"
    on_board = [each for each in tables["instrument"].values() if each["bus"] == board]
    assert [each["unit_id"] for each in on_board] == ["5", "7"]
    file = tmp_path / "found.toml"
    file.write_text(text)
    assert main(["check", str(file)]) == 0


def test_a_board_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its instruments are asked once each, as the file says; who is not in it comes to its bus."""
    file = tmp_path / "bench.toml"
    file.write_text(
        '[bus.rack]\naddress = "visa://GPIB0?backend=@sim"\n'
        + "".join(
            f'[instrument.psu{unit}]\nbus = "rack"\ndriver = "scpi.power_supply"\n'
            f"unit_id = {unit}\n"
            for unit in (5, 7, 9)
        )
    )
    with ExitStack() as stack:
        for unit in (5, 7, 11):
            line = SimLine(PowerSupplyModel(serial=f"N{unit}"))
            stack.enter_context(plug_into_visa(line, f"GPIB0::{unit}::INSTR"))
        arguments = (file, "--within", "5", "--backend", "@sim")
        found = listed(*arguments, "--identify", capsys=capsys)
        text = ports(*arguments, "--toml", capsys=capsys)
    assert {each["bus"] for each in found.values() if each["kind"] == "visa"} == {"rack"}
    rack = found["GPIB0?backend=@sim"]
    assert [each["unit"] for each in rack["instruments"]] == ["5", "7"]
    assert "unit 9: GPIB0::9::INSTR: there is no such instrument" in rack["state"]
    file.write_text(text)
    assert main(["check", str(file)]) == 0
    tables = tomllib.loads(text)
    assert list(tables["bus"]) == ["rack"]
    units = [each["unit_id"] for each in tables["instrument"].values()]
    assert sorted(units, key=int) == ["5", "7", "11"]


def test_what_visa_finds_and_is_no_bus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cards in a chassis are listed as what they are, and keep nobody else off the list."""
    names = ["PXI0::14::INSTR", "GPIB0::9::INSTR", "VICP::scope::INSTR"]

    def found_by_visa(_backend: str) -> list[str]:
        return names

    monkeypatch.setattr("benchtree.finding.list_visa_resources", found_by_visa)
    found = listed("--identify", "--backend", "@sim", capsys=capsys)
    assert [each.partition("?")[0] for each in found] == names
    states = [each["state"] for each in found.values()]
    assert states[0] == states[2]
    assert "no address of a bus" in states[0]
    assert "no such instrument" in states[1]
    text = ports("--toml", "--backend", "@sim", capsys=capsys)
    assert "# visa://PXI0::14::INSTR" in text


def test_all_buses_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ports that the machine does not list are looked at, and all behind a gateway are asked."""
    flow = "tests.application.line_models:flow_line"
    specs = [
        SimSpec(model=flow, host="pty", link=str(tmp_path / "mfc")),
        SimSpec(model=flow, host="tcp"),
    ]
    with BlockingSimProcess(specs) as process:
        buses = {
            "gas": process.addresses[0],
            "gateway": process.addresses[1],
            "gone": f"serial://{tmp_path}/usb-gone",
        }
        file = tmp_path / "bench.toml"
        file.write_text(
            "".join(f'[bus.{name}]\naddress = "{each}"\n' for name, each in buses.items())
            + "".join(
                f'[instrument.{name}]\nbus = "{bus}"\ndriver = "alicat"\nunit_id = "{name[0]}"\n'
                for bus, name in (
                    ("gas", "A1"),
                    ("gateway", "A2"),
                    ("gateway", "B2"),
                    ("gateway", "C2"),
                    ("gone", "A3"),
                )
            )
        )
        arguments = (file, "--identify", "--within", "5", "--backend", "@sim")
        found = {each["bus"]: each for each in listed(*arguments, capsys=capsys).values()}
    assert [each["unit"] for each in found["gas"]["instruments"]] == ["A", "C"]
    assert [each["unit"] for each in found["gateway"]["instruments"]] == ["A", "C"]
    assert found["gateway"]["state"].startswith("unit B: ")
    assert found["gone"]["state"] == "unplugged: it is not there"


def test_two_links_to_one_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked once, by its first name; its instrument is in one table."""
    folders = [tmp_path / "by-id", tmp_path / "mine"]
    for folder in folders:
        folder.mkdir()
    psu = SimSpec(model=f"{SCPI}:PowerSupplyModel", host="pty", link=str(folders[0] / "usb-psu"))
    with BlockingSimProcess([psu]):
        (folders[1] / "psu").symlink_to((folders[0] / "usb-psu").resolve())
        links = [each for folder in folders for each in ("--links", folder)]
        text = ports("--toml", "--backend", "@sim", *links, capsys=capsys)
    tables = tomllib.loads(text)
    assert [each["bus"] for each in tables["instrument"].values()] == ["psu"]
    assert f"mine/psu: another name of serial://{folders[0]}/usb-psu" in text


def test_links_of_a_folder_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder may be given as seen from here; one that is not there is told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with silent_port(tmp_path / "mine" / "usb-a"):
        found = listed("--links", "mine", "--backend", "@sim", capsys=capsys)
    assert found["usb-a"]["address"] == f"serial://{tmp_path}/mine/usb-a"
    assert main(["ports", "--links", "yours"]) == 2
    assert "--links yours: there is no such folder" in capsys.readouterr().err


def test_owner_while_it_is_held() -> None:
    """Looking at an owner neither claims nor frees."""
    key = "serial:///dev/looked-at"
    assert owner_of(key) is None
    with claim(key, tree="cell-3"):
        note = owner_of(key)
        assert note is not None
        assert (note.tree, note.pid) == ("cell-3", os.getpid())
    assert owner_of(key) is None


def test_links_are_listed_once(tmp_path: Path) -> None:
    """A link to a node stands for it; a file that is no link is none of them."""
    (tmp_path / "note.txt").touch()
    with silent_port(tmp_path / "usb-a"):
        found = [each for each in list_serial_ports([tmp_path]) if "usb-a" in each.name]
        assert [each.node for each in found] == [str((tmp_path / "usb-a").resolve())]
    assert not any("note" in each.name for each in list_serial_ports([tmp_path]))


def test_a_wrong_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    """A deadline that makes no sense is refused."""
    assert main(["ports", "--within", "0"]) == 2
    assert "--within is 0" in capsys.readouterr().err
