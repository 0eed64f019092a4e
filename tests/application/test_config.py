"""What a configuration file means, and what is said of a broken one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields

from actors import BreakerPolicy, Identity, Intensity, OnReconnect, Restart, Strategy
from actors.instruments.scpi import PowerSupply, TemperatureController
from benchtree import ConfigError, load_config
from benchtree.config import check_simulation
from benchtree.spec import Kind
from recorder import OverflowPolicy
from transports import RS485, BusProfile, Resync

GOOD = """\
[tree]
name = "cell-3"
drain_s = 1

[bus.furnace]
address = "serial:///dev/ttyUSB7?baudrate=38400&rtscts=true"
profile = { name = "rs485", pacing_s = 0.005 }
breaker = { failures = 5, open_s = 1.0 }
required = true

[bus.supply]
address = "tcp://192.0.2.17:5025"

[instrument.zone1]
bus = "furnace"
driver = "scpi.temperature_controller"
unit_id = 1
recovery_s = 2

[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
identity = { serial = "MY5300" }
on_reconnect = "quarantine"

[supervisor.heat]
strategy = "rest_for_one"
children = ["bus.supply", "bus.furnace", "actor.ramp"]
max_restarts = 1
window_s = 60

[actor.ramp]
start = "cell3_ramp:ramp"
restart = "permanent"

[recording.main]
rate_hz = 10
parameters = ["zone1.temperature", "current"]
sinks = ["sqlite", "csv"]
overflow = "drop_oldest"
"""

RAMP = "async def ramp(tree): ...\ndef plain(tree): ...\nasync def two(tree, more): ...\n"


def written(folder: Path, text: str) -> Path:
    """Write a configuration, and the module its actor comes from."""
    (folder / "cell3_ramp.py").write_text(RAMP)
    (folder / "cell3_broken.py").write_text("import nothing_of_that_name\n")
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(path: Path) -> list[str]:
    """Return what is said of a broken file, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for each in caught.value.mistakes:
        assert str(each).startswith(f"{path}")
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    return [str(each).removeprefix(f"{path}").removeprefix(":") for each in caught.value.mistakes]


def test_good_file(tmp_path: Path) -> None:
    """Every key means what the manual says."""
    config = load_config(written(tmp_path, GOOD))
    assert config.text == GOOD
    tree = config.tree
    assert (tree.name, tree.drain_s) == ("cell-3", 1.0)
    furnace, supply = tree.buses
    assert furnace.profile is not None
    assert furnace.profile.name == "rs485"
    assert furnace.profile.pacing_s == 0.005
    assert furnace.profile.max_frame == RS485.max_frame
    assert furnace.breaker == BreakerPolicy(failures=5, open_s=1.0)
    assert (furnace.required, supply.required) == (True, False)
    zone1, psu = tree.instruments
    assert (zone1.driver, zone1.unit_id, zone1.recovery_s) == (TemperatureController, "1", 2.0)
    assert (psu.driver, psu.identity) == (PowerSupply, Identity(serial="MY5300"))
    assert psu.on_reconnect is OnReconnect.QUARANTINE
    (heat,) = tree.supervisors
    assert heat.strategy is Strategy.REST_FOR_ONE
    assert heat.intensity == Intensity(1, 60.0)
    assert heat.children == [(Kind.BUS, "supply"), (Kind.BUS, "furnace"), (Kind.ACTOR, "ramp")]
    (ramp,) = tree.actors
    assert ramp.restart is Restart.PERMANENT
    assert ramp.start.__qualname__ == "ramp"
    (main,) = tree.recordings
    assert (main.rate_hz, main.sinks) == (10.0, ("sqlite", "csv"))
    assert main.overflow is OverflowPolicy.DROP_OLDEST


OTHER: dict[str, Any] = {
    "resync": "drain",
    "queue_depth": 7,
    "attempts": 2,
    "max_frame": 99,
    "shared": False,
    "retry_jitter": 0.5,
}
"""Values that no profile has; a time may be 0.125 s."""


@pytest.mark.parametrize("key", [each.name for each in fields(BusProfile) if each.name != "name"])
def test_each_number_of_a_profile_can_be_changed(key: str, tmp_path: Path) -> None:
    """The file changes this number of a profile, and no other."""
    value: Any = OTHER.get(key, 0.125)
    written_value = str(value).lower() if isinstance(value, bool) else repr(value)
    text = GOOD.replace("pacing_s = 0.005", f"{key} = {written_value}".replace("'", '"'))
    profile = load_config(written(tmp_path, text)).tree.buses[0].profile
    changed: Any = {key: Resync(value) if key == "resync" else value}
    assert profile == evolve(RS485, **changed)
    assert profile != RS485


def test_numbers_alone_change_the_usual_profile(tmp_path: Path) -> None:
    """A profile without a name is that of the address's kind."""
    text = GOOD.replace(
        'address = "tcp://192.0.2.17:5025"',
        'address = "tcp://192.0.2.17:5025"\nprofile = { safe_s = 1, resync = "fence" }',
    )
    profile = load_config(written(tmp_path, text)).tree.buses[1].profile
    assert profile is not None
    assert (profile.name, profile.safe_s, profile.resync.value) == ("tcp", 1.0, "fence")


def replaced(old: str, new: str) -> str:
    """Return the good file with one thing changed."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


BROKEN = {
    "unknown section": ("[buses.x]\n" + GOOD, r"1: buses: is not known; did you mean 'bus'\?"),
    "unknown key": (
        replaced("on_reconnect", "on_reconect"),
        r"24: instrument.psu.on_reconect: is not known; did you mean 'on_reconnect'\?",
    ),
    "unknown key inside": (
        replaced("open_s = 1.0", "opens_s = 1.0"),
        r"8: bus.furnace.breaker.opens_s: is not known; did you mean 'open_s'\?",
    ),
    "missing key": (
        replaced('address = "tcp://192.0.2.17:5025"', ""),
        "11: bus.supply.address: is missing",
    ),
    "wrong type": (
        replaced("rate_hz = 10", 'rate_hz = "10"'),
        "37: recording.main.rate_hz: must be a number, not the text '10'",
    ),
    "truth for a number": (
        replaced("recovery_s = 2", "recovery_s = true"),
        "18: instrument.zone1.recovery_s: must be a number, not true",
    ),
    "not a table": (
        replaced("{ failures = 5, open_s = 1.0 }", "3"),
        "8: bus.furnace.breaker: must be a table, not the number 3",
    ),
    "not tables": (
        "recording = 3\n" + GOOD.partition("[recording.main]")[0],
        "1: recording: must hold tables",
    ),
    "wrong element": (
        replaced('"zone1.temperature", ', "7, "),
        r"38: recording.main.parameters\[0\]: must be text, not the number 7",
    ),
    "out of range": (
        replaced("pacing_s = 0.005", "pacing_s = -1"),
        "7: bus.furnace.profile.pacing_s: is -1; it must be >= 0",
    ),
    "endless": (
        replaced("rate_hz = 10", "rate_hz = inf"),
        "37: recording.main.rate_hz: must be a finite number, not inf",
    ),
    "bounds that do not fit": (
        replaced("open_s = 1.0", "open_s = 500"),
        "8: bus.furnace.breaker: max_open_s = 120.0 is less than open_s = 500.0",
    ),
    "unknown choice": (
        replaced("rest_for_one", "rest_for_all"),
        "27: supervisor.heat.strategy: 'rest_for_all' is not known; it must be one of one_for_one",
    ),
    "unknown word": (
        replaced("drain_s = 1", 'journal = "reads"'),
        "3: tree.journal: 'reads' is not known; it must be one of writes, all",
    ),
    "no word": (
        replaced("drain_s = 1", "journal = true"),
        "3: tree.journal: must be one of writes, all, not true",
    ),
    "unknown profile": (
        replaced('name = "rs485"', 'name = "rs-485"'),
        r"7: bus.furnace.profile.name: no profile is named 'rs-485'; did you mean 'rs485'\?",
    ),
    "bad address": (
        replaced("tcp://192.0.2.17:5025", "tcp://192.0.2.17"),
        r"12: bus.supply.address: .* the port is missing; write tcp://host:port",
    ),
    "bad line setting": (
        replaced("baudrate=38400", "baudrate=fast"),
        "6: bus.furnace.address: .* baudrate is 'fast'; it must be a whole number",
    ),
    "missing bus": (
        replaced('bus = "supply"', 'bus = "suply"'),
        r"21: instrument.psu.bus: no bus is named 'suply'; did you mean 'supply'\?",
    ),
    "no instrument": (
        GOOD + '[bus.spare]\naddress = "COM3"\n',
        "41: bus.spare: no instrument is on it",
    ),
    "unknown driver": (
        replaced("scpi.power_supply", "scpi.powersupply"),
        r"22: instrument.psu.driver: no driver is named .*; did you mean 'scpi.power_supply'\?",
    ),
    "cyclic supervisors": (
        GOOD
        + '[supervisor.a]\nchildren = ["supervisor.b"]\n'
        + '[supervisor.b]\nchildren = ["supervisor.a"]\n',
        "42: supervisor.a.children: the supervisors go round in a circle",
    ),
    "its own child": (
        GOOD + '[supervisor.a]\nchildren = ["supervisor.a"]\n',
        "42: supervisor.a.children: the supervisors go round in a circle",
    ),
    "two places": (
        GOOD + '[supervisor.more]\nchildren = ["bus.supply"]\n',
        r"42: supervisor.more.children\[0\]: bus.supply is a child of supervisor.heat already",
    ),
    "unknown child": (
        replaced('"actor.ramp"', '"actor.rmap"'),
        r"28: supervisor.heat.children\[2\]: there is no actor.rmap; did you mean 'actor.ramp'\?",
    ),
    "instrument as child": (
        replaced('"actor.ramp"', '"instrument.psu"'),
        r"28: supervisor.heat.children\[2\]: instrument.psu starts with its bus",
    ),
    "odd name": (
        GOOD + '[bus."a b"]\naddress = "COM3"\n',
        '41: bus."a b": a name is made of letters',
    ),
    "unit missing": (
        replaced("unit_id = 1\n", ""),
        "14: instrument.zone1.unit_id: is missing; several units share bus.furnace",
    ),
    "unit twice": (
        GOOD
        + '[instrument.zone2]\nbus = "furnace"\ndriver = "scpi.temperature_controller"\n'
        + 'unit_id = "1"\n',
        "44: instrument.zone2.unit_id: 1 is the unit of zone1 already",
    ),
    "two on a line for one": (
        GOOD + '[instrument.psu2]\nbus = "supply"\ndriver = "scpi.power_supply"\n',
        "41: instrument.psu2.unit_id: is missing; psu is on bus.supply already",
    ),
    "unknown parameter": (
        replaced("zone1.temperature", "zone1.temprature"),
        r"38: recording.main.parameters\[0\]: zone1 has no .*; did you mean 'temperature'\?",
    ),
    "parameter of nobody": (
        replaced('"current"', '"resistance"'),
        r"38: recording.main.parameters\[1\]: no instrument has 'resistance'",
    ),
    "parameter of a stranger": (
        replaced("zone1.temperature", "zone9.temperature"),
        r"38: recording.main.parameters\[0\]: no instrument is named 'zone9'; did you mean 'zone1'",
    ),
    "unknown sink": (
        replaced('"csv"', '"hdf5"'),
        r"39: recording.main.sinks\[1\]: no sink is named 'hdf5'; there are: sqlite, csv, jsonl",
    ),
    "postgres without a server": (
        replaced('"csv"', '"postgres"'),
        r"39: recording.main.sinks\[1\]: say how to reach the server: postgres = \"host=",
    ),
    "sink twice": (
        replaced('"csv"', '"sqlite"'),
        r"39: recording.main.sinks\[1\]: sqlite is there twice",
    ),
    "no names": (
        replaced('sinks = ["sqlite"', 'names = []\nsinks = ["sqlite"'),
        "39: recording.main.names: is empty; leave it out to read all instruments",
    ),
    "no instances": (
        replaced('sinks = ["sqlite"', 'instances = []\nsinks = ["sqlite"'),
        "39: recording.main.instances: is empty; leave it out to read the first of each",
    ),
    "too high an instance": (
        replaced('sinks = ["sqlite"', 'instances = [1, 2]\nsinks = ["sqlite"'),
        r"39: recording.main.instances\[1\]: nothing that is read has an instance 2",
    ),
    "no module": (
        replaced("cell3_ramp:ramp", "cell3_rmap:ramp"),
        "33: actor.ramp.start: cell3_rmap cannot be imported: ModuleNotFoundError",
    ),
    "broken module": (
        replaced("cell3_ramp:ramp", "cell3_broken:ramp"),
        "33: actor.ramp.start: cell3_broken cannot be imported: ModuleNotFoundError",
    ),
    "no function": (
        replaced("cell3_ramp:ramp", "cell3_ramp:rampe"),
        r"33: actor.ramp.start: cell3_ramp has no rampe; did you mean 'ramp'\?",
    ),
    "no async function": (
        replaced("cell3_ramp:ramp", "cell3_ramp:plain"),
        "33: actor.ramp.start: cell3_ramp:plain is not an async function",
    ),
    "too many arguments": (
        replaced("cell3_ramp:ramp", "cell3_ramp:two"),
        "33: actor.ramp.start: cell3_ramp:two is called with the tree and nothing else",
    ),
    "no name of a function": (
        replaced("cell3_ramp:ramp", "cell3_ramp"),
        "33: actor.ramp.start: 'cell3_ramp' names no function",
    ),
    "invalid TOML": (
        replaced("drain_s = 1", "drain_s = = 1"),
        "3: this is not valid TOML: Invalid value",
    ),
    "unfinished TOML": ('[tree]\nname = """never', "2: this is not valid TOML"),
    "key twice": (
        replaced("drain_s = 1", 'name = "x"'),
        "3: this is not valid TOML: Cannot overwrite a value",
    ),
    "number of many digits": (
        replaced("drain_s = 1", "drain_s = " + "1" * 5_001),
        "3: a whole number has too many digits",
    ),
    "number of many bits": (
        replaced("failures = 5", "failures = 0x" + "f" * 5_001),
        "8: bus.furnace.breaker.failures: is a whole number of more than 64 bits",
    ),
    "number no float holds": (
        replaced('"current"]', f"1{'0' * 400}]"),
        r"38: recording.main.parameters\[1\]: is a whole number of more than 64 bits",
    ),
    "host with a gap": (
        replaced("tcp://192.0.2.17:5025", "tcp://a..b:50"),
        "12: bus.supply.address: tcp://a..b:50: the host 'a..b' is no host name",
    ),
    "zero character": (
        replaced("tcp://192.0.2.17:5025", r"serial:///dev/\u0000"),
        "12: bus.supply.address: .*no address has a zero character",
    ),
    "long name of the tree": (
        replaced("cell-3", "c" * 65),
        "2: tree.name: the name has 65 characters; it must have 64 at most",
    ),
    "long name of a bus": (
        GOOD.replace("bus.supply", f"bus.{'s' * 65}").replace('"supply"', f'"{"s" * 65}"'),
        f"11: bus.{'s' * 65}: the name has 65 characters; it must have 64 at most",
    ),
    "long name of an instrument": (
        replaced("instrument.psu", f"instrument.{'p' * 65}"),
        f"20: instrument.{'p' * 65}: the name has 65 characters; it must have 64 at most",
    ),
    "nothing": ("", "1: there is nothing to run"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_file(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is reported alone: line, path, what is wrong and what would be right."""
    (mistake,) = mistakes(written(tmp_path, text))
    assert re.match(said, mistake), mistake


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    """A file with many mistakes, some of them in one table, is reported in one go, in order."""
    text = (
        GOOD.replace("drain_s = 1", "drain_s = -1")
        .replace('bus = "supply"', 'bus = "suply"')
        .replace('bus = "furnace"\n', 'bus = "furnace"\nwrong = 1\n')
        .replace('"actor.ramp"', '"actor.rmap"')
        .replace("rate_hz = 10", "rate_hz = 0")
        .replace("zone1.temperature", "zone1.temprature")
    )
    found = mistakes(written(tmp_path, text))
    assert [each.partition(": ")[2].partition(": ")[0] for each in found] == [
        "tree.drain_s",
        "instrument.zone1.wrong",
        "instrument.psu.bus",
        "supervisor.heat.children[2]",
        "recording.main.rate_hz",
        "recording.main.parameters[0]",
    ]
    lines = [int(each.partition(":")[0]) for each in found]
    assert lines == sorted(lines)


def test_two_names_for_one_port(tmp_path: Path) -> None:
    """A symbolic link and the device behind it are one port, on which one bus can be."""
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    text = "".join(
        f'[bus.{name}]\naddress = "{tmp_path / port}"\n'
        f'[instrument.{name}1]\nbus = "{name}"\ndriver = "scpi.multimeter"\n'
        for name, port in (("a", "ttyUSB0"), ("b", "by-id"))
    )
    (mistake,) = mistakes(written(tmp_path, text))
    assert mistake.startswith("7: bus.b.address: is the same port as bus.a (serial:///")


def unreadable(folder: Path) -> Path:
    """Return a file that is not there."""
    return folder / "missing.toml"


def directory(folder: Path) -> Path:
    """Return a folder where a file is expected."""
    return folder


def pipe(folder: Path) -> Path:
    """Return a pipe into which nobody writes."""
    path = folder / "pipe.toml"
    os.mkfifo(path)
    return path


def device(folder: Path) -> Path:
    """Return a file without an end."""
    del folder
    return Path("/dev/zero")


def no_text(folder: Path) -> Path:
    """Return a file that is no UTF-8."""
    path = folder / "latin1.toml"
    path.write_bytes(b'[tree]\nname = "\xe5"\n')
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (unreadable, " cannot be read: No such file or directory"),
        (directory, " cannot be read: it is a directory, no file"),
        (pipe, " cannot be read: it is a device, pipe or socket, no file"),
        (device, " cannot be read: it is a device, pipe or socket, no file"),
        (no_text, "2: the byte 0xe5 is not UTF-8; save the file as UTF-8"),
    ],
    ids=["missing", "folder", "pipe", "device", "not UTF-8"],
)
def test_unreadable_file(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    """A file that cannot be read is reported as one, with the line where there is one."""
    assert mistakes(make(tmp_path)) == [said]


def test_byte_order_mark(tmp_path: Path) -> None:
    """The mark that some editors begin a file with is no part of it, nor moves any mistake."""
    path = written(tmp_path, f"\ufeff{GOOD}")
    assert load_config(path).text == GOOD
    path.write_bytes(b"\xef\xbb\xbf[tree]\nname = '\xe5'\n")
    assert mistakes(path) == ["2: the byte 0xe5 is not UTF-8; save the file as UTF-8"]


def test_names_of_64_characters(tmp_path: Path) -> None:
    """The longest names that are allowed."""
    config = load_config(written(tmp_path, replaced("cell-3", "\u00fc" * 64)))
    assert config.tree.name == "\u00fc" * 64


def test_modules_beside_the_file_and_in_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor's module can be in either place."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "cell3_here.py").write_text(RAMP)
    monkeypatch.chdir(here)
    path = written(there, replaced("cell3_ramp:ramp", "cell3_here:ramp"))
    assert load_config(Path(os.path.relpath(path))).tree.actors[0].name == "ramp"


def test_a_bus_that_cannot_be_simulated_is_named(tmp_path: Path) -> None:
    """A model that is alone on its line cannot stand for two units."""
    text = GOOD + (
        '[instrument.zone2]\nbus = "furnace"\ndriver = "scpi.temperature_controller"\nunit_id = 2\n'
    )
    config = load_config(written(tmp_path, text))
    with pytest.raises(ConfigError, match=r"bench.toml:5: bus.furnace: .* alone on its line"):
        check_simulation(config)
