"""`benchtree doctor`: every kind of failure is named, with what mends it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import termios
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.instruments.scpi.models import PowerSupplyModel
from benchtree.cli import main
from tests.application import fakes
from tests.application.commands import environment
from tests.support.visa_sim import plug_into_visa
from transports import BlockingSimProcess, SimLine, SimSpec, claim

IDENTITY = b"KEYSIGHT,E36312A,MY5300,1.0\n"
NO_ERROR = b'+0,"No error"\n'


@pytest.fixture(autouse=True)
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep owner files apart from those of others: numbers of pseudo-terminals come again."""
    monkeypatch.setenv("BENCHTREE_OWNER_DIR", str(tmp_path / "owners"))


def scpi(data: bytes) -> bytes:
    """Answer like an instrument that has no errors."""
    asked = [each for each in data.split(b"\n") if each]
    return b"".join(IDENTITY if each == b"*IDN?" else NO_ERROR for each in asked)


def write_bus(
    folder: Path, address: str, driver: str = "scpi.power_supply", *more: str, bus: str = ""
) -> Path:
    """Write a file with one bus and one instrument, `more` being further lines of its table."""
    file = folder / "bench.toml"
    lines = ["[bus.only]", f'address = "{address}"', bus]
    lines += ["[instrument.it]", 'bus = "only"', f'driver = "{driver}"', *more]
    file.write_text("\n".join(lines) + "\n")
    return file


def examined(file: Path, capsys: pytest.CaptureFixture[str], *, status: int = 1) -> dict[str, Any]:
    """Examine a file of one bus and return its report."""
    assert main(["doctor", str(file), "--json"]) == status
    (bus,) = json.loads(capsys.readouterr().out)
    assert bus["ok"] is (status == 0), bus
    return dict(bus)


@contextmanager
def holding(code: str, argument: str) -> Generator[subprocess.Popen[bytes]]:
    """Run code in another process that holds something until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{code}\nprint(1, flush=True)\ninput()", argument],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who answers is named with identity and latency; the exit code is 0."""
    specs = [
        SimSpec(model="actors.instruments.scpi:PowerSupplyModel"),
        SimSpec(
            model="tests.application.line_models:flow_line", host="pty", link=str(tmp_path / "mfc")
        ),
    ]
    with BlockingSimProcess(specs) as process:
        file = tmp_path / "bench.toml"
        file.write_text(f"""\
[bus.supply]
address = "{process.addresses[0]}"
[bus.gas]
address = "{process.addresses[1]}"
[bus.pretended]
address = "sim://psu"
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
identity = {{ serial = "SIM-PS-1" }}
[instrument.a]
bus = "gas"
driver = "alicat.flow_controller"
[instrument.c]
bus = "gas"
driver = "alicat"
unit_id = "C"
[instrument.none]
bus = "pretended"
driver = "scpi.power_supply"
""")
        assert main(["doctor", str(file)]) == 0
        text = capsys.readouterr().out
        assert "psu: ok: benchtree PS30-5 SIM-PS-1 1.0, " in text
        assert " ms\n" in text
        assert "(simulated)" in text
        assert text.endswith("all is well\n")
        assert main(["doctor", str(file), "--json"]) == 0
        buses = json.loads(capsys.readouterr().out)
        assert [each["unit"] for each in buses[1]["instruments"]] == ["A", "C"]
        assert 0 < buses[0]["instruments"][0]["latency_ms"] < 1000
        # Asking set nothing: the output is as it was.
        assert process.call(0, "ask_model", {"name": "output_on"}) is False


def test_connection_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens at that port of the host."""
    bus = examined(write_bus(tmp_path, f"tcp://127.0.0.1:{fakes.closed_port()}"), capsys)
    assert bus["trouble"] == "connection refused"
    assert "network interface" in bus["mend"]


def test_unknown_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No name server knows the host."""
    bus = examined(write_bus(tmp_path, "tcp://nobody.invalid:5025"), capsys)
    assert bus["trouble"] == "unknown host"
    assert "write its number" in bus["mend"]


def test_unreachable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The host takes no connection within its time."""
    with fakes.full_host() as port:
        file = write_bus(
            tmp_path, f"tcp://127.0.0.1:{port}", bus="profile = { connect_within_s = 0.2 }"
        )
        bus = examined(file, capsys)
    assert bus["trouble"] == "unreachable"
    assert "ping 127.0.0.1" in bus["mend"]


def test_no_such_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The device node is not there; those that are, are named."""
    bus = examined(write_bus(tmp_path, f"serial://{tmp_path}/ttyUSB0"), capsys)
    assert bus["trouble"] == "no such port"
    assert "serial ports there are:" in bus["mend"]


def test_not_a_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The address names a file that is no port."""
    (tmp_path / "note.txt").touch()
    bus = examined(write_bus(tmp_path, f"serial://{tmp_path}/note.txt"), capsys)
    assert bus["trouble"] == "not a port"


def test_port_of_another_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another tree owns the port: it is named with its process, and not one byte is sent."""
    link = tmp_path / "tty"
    with fakes.port(link) as far:
        key = f"serial://{link.resolve()}"
        code = "import transports; owner = transports.claim(sys.argv[1], tree='cell-3')"
        with holding(code, key) as other:
            bus = examined(write_bus(tmp_path, f"serial://{link}"), capsys)
        assert bus["trouble"] == "port busy"
        assert "tree 'cell-3'" in bus["why"]
        assert f"kill {other.pid}" in bus["mend"]
        os.set_blocking(far, False)
        with pytest.raises(BlockingIOError):
            os.read(far, 1)
        other.wait()
        claim(key, tree="next").release()  # nothing is left behind


@pytest.mark.parametrize("address", ["serial://{}", "ASRL{}::INSTR?backend=@py"])
def test_port_of_another_program(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that is no tree has the port open: its process is found."""
    link = tmp_path / "tty"
    code = "import serial; port = serial.Serial(sys.argv[1], exclusive=True)"
    with fakes.port(link), holding(code, str(link)) as other:
        bus = examined(write_bus(tmp_path, address.format(link)), capsys)
    assert bus["trouble"] == "port busy"
    assert f"process {other.pid}" in bus["why"]
    assert bus["mend"] == f"end it: kill {other.pid}"


def drop_rights() -> None:
    """Be refused what the modes of files refuse, even as root."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_no_permission(tmp_path: Path) -> None:
    """A port that one may not open: the group to join is named."""
    link = tmp_path / "tty"
    with fakes.port(link):
        link.resolve().chmod(0)
        file = write_bus(tmp_path, f"serial://{link}")
        done = subprocess.run(
            [sys.executable, "-m", "tests.application.console", "doctor", str(file)],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=drop_rights,
        )
    assert done.returncode == 1, done.stderr
    assert "no permission" in done.stdout
    assert "mend: join its group: sudo usermod -aG " in done.stdout


def test_settings_that_the_port_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that cannot do the line settings: they are named, and are what to mend."""

    def refuse(*_: object) -> None:
        raise termios.error(errno.EINVAL, "Invalid argument")

    link = tmp_path / "tty"
    with fakes.port(link):
        monkeypatch.setattr(termios, "tcsetattr", refuse)
        file = write_bus(tmp_path, f"serial://{link}?baudrate=12345&parity=M")
        bus = examined(file, capsys)
    assert bus["trouble"] == "bad settings"
    assert "12345" in bus["why"]
    assert bus["mend"] == "mend the options of the address"


def test_connection_that_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that hangs up when it is asked: it may serve somebody else."""
    with fakes.host_that_hangs_up() as port:
        (it,) = examined(write_bus(tmp_path, f"tcp://127.0.0.1:{port}"), capsys)["instruments"]
    assert it["trouble"] == "connection lost"
    assert "one connection at a time" in it["mend"]


def test_refused_by_the_instrument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An instrument that is there and will not say who it is: its driver may be another's."""
    link = tmp_path / "tty"
    with fakes.port(link, lambda _data, _speed: b"A ?\r"):
        file = write_bus(tmp_path, f"serial://{link}", "alicat")
        (it,) = examined(file, capsys)["instruments"]
    assert it["trouble"] == "refused by the instrument"
    assert "rejected the request" in it["why"]
    assert "driver" in it["mend"]


def test_pyvisa_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the optional library, the line that installs it is said."""
    for name in ("pyvisa", "pyvisa.highlevel"):
        monkeypatch.setitem(sys.modules, name, None)
    bus = examined(write_bus(tmp_path, "GPIB0::5::INSTR"), capsys)
    assert bus["trouble"] == "missing library"
    assert bus["mend"] == "pip install 'benchtree[visa]'"


def test_missing_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A VISA library that is not installed: what to install is said."""
    file = write_bus(tmp_path, "visa://USB0::0x1AB1::0x0588::X::INSTR?backend=none@ivi")
    bus = examined(file, capsys)
    assert bus["trouble"] == "missing library"
    assert bus["mend"].startswith("install NI-VISA")


@pytest.mark.parametrize(
    ("resource", "package"),
    [("USB0::0x1AB1::0x0588::X::INSTR", "pyusb"), ("GPIB0::5::INSTR", "gpib-ctypes")],
)
def test_what_pyvisa_py_needs(
    resource: str,
    package: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What pyvisa-py lacks for a kind of resource is told by the line that installs it."""
    told = {
        "pyusb": "Please install PyUSB to use this resource type.\nNo module named 'usb'",
        "gpib-ctypes": "Please install linux-gpib (Linux) or gpib-ctypes to use this.\nNo module",
    }

    def refuse(*_: object) -> None:
        raise ValueError(told[package])

    monkeypatch.setattr("pyvisa_py.highlevel.PyVisaLibrary.open", refuse)
    bus = examined(write_bus(tmp_path, f"{resource}?backend=@py"), capsys)
    found = bus["instruments"][0] if bus["trouble"] is None else bus
    assert found["trouble"] == "missing library"
    assert found["mend"] == f"pip install {package}"


def test_nobody_listens_under_visa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that is there without an instrument refuses, and is no serial port."""
    resource = f"TCPIP::127.0.0.1::hislip0,{fakes.closed_port()}::INSTR?backend=@py"
    bus = examined(write_bus(tmp_path, resource), capsys)
    assert bus["trouble"] == "connection refused"
    assert "TCPIP::127.0.0.1::5025::SOCKET" in bus["mend"]


def test_no_such_resource(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VISA knows no such instrument: those that it finds are named; another on its board, too."""
    file = write_bus(tmp_path, "GPIB0::9::INSTR?backend=@sim", "scpi")
    with plug_into_visa(SimLine(PowerSupplyModel(serial="FIVE")), "GPIB0::5::INSTR"):
        (it,) = examined(file, capsys)["instruments"]
        assert it["trouble"] == "no such port"
        assert it["mend"].endswith("VISA finds: GPIB0::5::INSTR")
        with file.open("a") as more:
            more.write('[bus.two]\naddress = "GPIB0::5::INSTR?backend=@sim"\n')
            more.write('[instrument.other]\nbus = "two"\ndriver = "scpi"\n')
        it, other = examined(file, capsys)["instruments"]
    assert other["trouble"] is None
    assert it["trouble"] == "unit missing"
    assert "unit 5 answers here" in it["mend"]


def test_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing comes back: cable, power and unit are to be looked at."""
    with fakes.host() as port:
        (it,) = examined(write_bus(tmp_path, f"tcp://127.0.0.1:{port}"), capsys)["instruments"]
    assert it["trouble"] == "silent"
    assert "switched on" in it["mend"]


def test_garbled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What comes back is nonsense at every speed that the driver knows."""
    link = tmp_path / "tty"
    with fakes.port(link, lambda _data, _speed: b"\xf8\x80\xfe\x00\xf8"):
        (it,) = examined(write_bus(tmp_path, f"serial://{link}"), capsys)["instruments"]
    assert it["trouble"] == "garbled"
    assert "xf8" in it["why"]
    assert "baud rate" in it["mend"]


def test_wrong_baud_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The instrument answers at another speed: which one is found."""
    link = tmp_path / "tty"

    def answer(data: bytes, speed: int) -> bytes:
        return scpi(data) if speed == termios.B19200 else b"\xf8\x80\xfe"

    with fakes.port(link, answer):
        (it,) = examined(write_bus(tmp_path, f"serial://{link}"), capsys)["instruments"]
        assert it["trouble"] == "wrong settings"
        assert "19200 baud" in it["why"]
        file = write_bus(tmp_path, f"serial://{link}?{it['mend'].split('?')[1].split()[0]}")
        (mended,) = examined(file, capsys, status=0)["instruments"]
    assert mended["identity"]["serial"] == "MY5300"


def test_wrong_identity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another instrument than the file says."""
    with fakes.host(scpi) as port:
        file = write_bus(
            tmp_path, f"tcp://127.0.0.1:{port}", "scpi", 'identity = { serial = "MY4711" }'
        )
        (it,) = examined(file, capsys)["instruments"]
    assert it["trouble"] == "wrong identity"
    assert "'MY5300', expected 'MY4711'" in it["why"]
    assert "[instrument.it]" in it["mend"]


def test_another_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Something answers that is none of the driver's."""
    with fakes.host(lambda _data: b"login:\n") as port:
        (it,) = examined(write_bus(tmp_path, f"tcp://127.0.0.1:{port}"), capsys)["instruments"]
    assert it["trouble"] == "another protocol"
    assert "login:" in it["why"]


def test_unit_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One unit of a shared line is silent; who answers instead is said."""
    model = "tests.application.line_models:flow_line"
    link = tmp_path / "mfc"
    with BlockingSimProcess([SimSpec(model=model, host="pty", link=str(link))]) as process:
        file = write_bus(tmp_path, process.addresses[0], "alicat", 'unit_id = "B"')
        (alone,) = examined(file, capsys)["instruments"]
        assert alone["trouble"] == "unit missing"
        assert "unit A, C answers here and is in no table" in alone["mend"]
        file = write_bus(tmp_path, process.addresses[0], "alicat", 'unit_id = "A"')
        with file.open("a") as more:
            more.write('[instrument.b]\nbus = "only"\ndriver = "alicat"\nunit_id = "B"\n')
        report = examined(file, capsys)
        a, b = report["instruments"]
    assert a["trouble"] is None
    assert b["trouble"] == "unit missing", report
    assert "unit A answers here, and so does unit C" in b["mend"]


def test_instruments_of_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the instruments of a board under VISA, the one that is silent is missing."""
    silent = SimLine(PowerSupplyModel())
    silent.hang()
    with (
        plug_into_visa(SimLine(PowerSupplyModel(serial="FIVE")), "GPIB0::5::INSTR"),
        plug_into_visa(silent, "GPIB0::7::INSTR"),
    ):
        file = write_bus(tmp_path, "visa://GPIB0?backend=@sim", "scpi", "unit_id = 5")
        with file.open("a") as more:
            more.write('[instrument.other]\nbus = "only"\ndriver = "scpi"\nunit_id = 7\n')
        it, other = examined(file, capsys)["instruments"]
    assert it["identity"]["serial"] == "FIVE"
    assert other["trouble"] == "unit missing"


def test_driver_for_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A controller under a meter's driver: the driver that fits is named."""
    model = "tests.application.line_models:flow_line"
    link = tmp_path / "mfc"
    with BlockingSimProcess([SimSpec(model=model, host="pty", link=str(link))]) as process:
        file = write_bus(tmp_path, process.addresses[0], "alicat.pressure_meter")
        (it,) = examined(file, capsys)["instruments"]
    assert it["trouble"] == "wrong identity"
    assert "alicat.flow_controller is for" in it["why"]


def test_driver_for_another_instrument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A supply under an oscilloscope's driver is there, and the driver for it is named."""
    with fakes.host(scpi) as port:
        file = write_bus(tmp_path, f"tcp://127.0.0.1:{port}", "scpi.oscilloscope")
        (it,) = examined(file, capsys, status=0)["instruments"]
        assert it["remark"] == "scpi.power_supply is the driver for it, not scpi.oscilloscope"
        assert main(["doctor", str(file)]) == 0
        assert "but:  scpi.power_supply is the driver" in capsys.readouterr().out
        (it,) = examined(write_bus(tmp_path, f"tcp://127.0.0.1:{port}"), capsys, status=0)[
            "instruments"
        ]
    assert it["remark"] is None


def test_one_dead_bus_delays_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Buses are examined at once, and none takes longer than it may."""
    with ExitStack() as stack:
        ports = [stack.enter_context(fakes.full_host()) for _ in range(4)]
        file = tmp_path / "bench.toml"
        file.write_text(
            "".join(
                f'[bus.b{port}]\naddress = "tcp://127.0.0.1:{port}"\n'
                f'[instrument.i{port}]\nbus = "b{port}"\ndriver = "scpi"\n'
                for port in ports
            )
        )
        began_s = time.monotonic()
        assert main(["doctor", str(file), "--within", "0.3", "--json"]) == 1
        assert time.monotonic() - began_s < 2.0
    assert {each["trouble"] for each in json.loads(capsys.readouterr().out)} == {"too slow"}
