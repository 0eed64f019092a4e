"""One port has many names and one key."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from transports import (
    AddressError,
    Lines,
    SerialSettings,
    canonical_key,
    default_profile,
    make_transport,
    parse_address,
    resolve_key,
)


def test_serial_with_options() -> None:
    """Every option of a serial line is read with its type."""
    address = parse_address(
        "serial:///dev/ttyUSB0?baudrate=38400&bytesize=7&parity=e&stopbits=1.5&rtscts=true"
        "&xonxoff=false&dsrdtr=true&read_buffer_size=4096&write_buffer_size=2048"
    )
    assert address.scheme == "serial"
    assert address.path == "/dev/ttyUSB0"
    assert address.options == SerialSettings(
        baudrate=38400,
        bytesize=7,
        parity="E",
        stopbits=1.5,
        rtscts=True,
        dsrdtr=True,
        read_buffer_size=4096,
        write_buffer_size=2048,
    )


@pytest.mark.parametrize(
    ("text", "scheme", "key"),
    [
        ("/dev/null", "serial", "serial:///dev/null"),
        ("/dev/null?baudrate=19200", "serial", "serial:///dev/null"),
        ("serial:///dev/../dev/null", "serial", "serial:///dev/null"),
        ("COM3", "serial", "serial://COM3"),
        ("com3", "serial", "serial://COM3"),
        (r"\\.\com3", "serial", "serial://COM3"),
        ("serial://com3?parity=O", "serial", "serial://COM3"),
        ("tcp://Bench-7.example:5025", "tcp", "tcp://bench-7.example:5025"),
        ("tcp://localhost:5025", "tcp", "tcp://127.0.0.1:5025"),
        ("tcp://LOCALHOST.:5025/", "tcp", "tcp://127.0.0.1:5025"),
        ("tcp://[::1]:5025", "tcp", "tcp://[::1]:5025"),
        ("tcp://[0:0::1]:5025", "tcp", "tcp://[::1]:5025"),
        (f"tcp://{'a' * 63}.example.:50", "tcp", f"tcp://{'a' * 63}.example:50"),
        ("tcp://büro.example:50", "tcp", "tcp://büro.example:50"),
        ("tcp://my_bench:50", "tcp", "tcp://my_bench:50"),
        ("sim://oven", "sim", "sim://oven"),
        ("redpitaya://RP-F0a1.local.", "redpitaya", "redpitaya://rp-f0a1.local"),
        ("redpitaya://localhost?config_name=lab", "redpitaya", "redpitaya://127.0.0.1"),
        ("redpitaya://127.0.0.1?port=80", "redpitaya", "redpitaya://127.0.0.1"),
        ("redpitaya://localhost?port=80&ssh=false", "redpitaya", "redpitaya://127.0.0.1:80"),
        ("redpitaya://[::1]", "redpitaya", "redpitaya://::1"),
        ("redpitaya://sim", "redpitaya", "redpitaya://sim"),
    ],
)
def test_keys(text: str, scheme: str, key: str) -> None:
    """Names of one port have one key, and the text is kept as written."""
    address = parse_address(text)
    assert (address.text, str(address), address.scheme) == (text, text, scheme)
    assert canonical_key(address) == key


def test_links_to_one_node(tmp_path: Path) -> None:
    """A symbolic link, a link to the link and the node itself are one port."""
    node = tmp_path / "ttyUSB0"
    node.touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    name = by_id / "usb-FTDI_FT232R_USB_UART_A9004Xyz-if00-port0"
    name.symlink_to("../ttyUSB0")
    nickname = tmp_path / "furnace port"
    nickname.symlink_to(name)
    keys = {
        canonical_key(parse_address(text))
        for text in (str(node), str(name), f"serial://{name}?baudrate=115200", str(nickname))
    }
    keys.add(canonical_key(parse_address(f"serial://{tmp_path}/furnace%20port")))
    assert keys == {f"serial://{node.resolve()}"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttyUSB0", "not an address; write serial:///dev/ttyUSB0"),
        ("", "not an address"),
        ("usb://GPIB0::5", "'usb' is not known; known are serial, tcp, visa, redpitaya, sim"),
        ("serial://dev/ttyUSB0", "absolute path"),
        ("serial://", "absolute path"),
        ("/dev/ttyS0?baud=9600", "'baud' is not known; known are baudrate, bytesize"),
        ("/dev/ttyS0?baudrate", "no value"),
        ("/dev/ttyS0?baudrate=fast", "baudrate is 'fast'; it must be a whole number"),
        ("/dev/ttyS0?baudrate=0", "baudrate is 0; it must be at least 1"),
        ("/dev/ttyS0?baudrate=9600&baudrate=1200", "given twice"),
        ("/dev/ttyS0?bytesize=9", "bytesize is 9; it must be one of 5, 6, 7, 8"),
        ("/dev/ttyS0?parity=X", "parity is X; it must be one of N, E, O, M, S"),
        ("/dev/ttyS0?stopbits=3", "stopbits is 3.0; it must be one of 1, 1.5, 2"),
        ("/dev/ttyS0?stopbits=two", "stopbits is 'two'; it must be a number"),
        ("/dev/ttyS0?rtscts=maybe", "rtscts is 'maybe'; it must be true or false"),
        ("/dev/ttyS0?read_buffer_size=0", "read_buffer_size is 0"),
        ("tcp://bench", "the port is missing; write tcp://host:port"),
        ("tcp://:5025", "the host is missing"),
        ("tcp://bench:0", "a number from 1 to 65535"),
        ("tcp://bench:65536", "a number from 1 to 65535"),
        ("tcp://bench:scpi", "the port is 'scpi'"),
        ("tcp://bench:" + "5" * 5_001, "a number from 1 to 65535"),
        ("tcp://a..b:50", "the host 'a..b' is no host name: each part between dots has 1 to 63"),
        (f"tcp://{'a' * 64}.example:50", "is no host name"),
        (f"tcp://{'ü' * 63}:50", "is no host name"),
        (f"tcp://{'a.' * 127}a:50", "the whole 253 at most"),
        ("tcp://a\0b:50", "a zero character"),
        ("serial:///dev/tty%00", "a zero character"),
        ("/dev/ttyS0?baudrate=" + "9" * 5_001, "baudrate has 5001 digits"),
        ("tcp://::1:5025", "brackets"),
        ("tcp://bench:5025?x=1", "takes no options"),
        ("sim://", "name is missing"),
        ("redpitaya://", "the host is missing; write redpitaya://HOST or redpitaya://sim"),
        ("redpitaya://rp:2222", "write redpitaya://HOST, and a port as ?port=2222&ssh=false"),
        ("redpitaya://rp?config_name=../lab", "it is a plain name, without folders"),
        ("redpitaya://rp?port=0", "the port is '0'; it must be a number from 1 to 65535"),
        ("redpitaya://rp?ssh=no", "ssh is 'no'; it must be true or false"),
        ("redpitaya://rp?gui=true", "'gui' is not known; known are config_name, port, ssh, user"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    """A mistake is named, with what would be right."""
    with pytest.raises(AddressError) as error:
        parse_address(text)
    assert says in str(error.value)
    assert error.value.address == text


async def test_known_host_is_looked_up() -> None:
    """A numeric address or a device needs no look-up; an unknown host keeps its name."""
    assert await resolve_key(parse_address("tcp://localhost:1")) == "tcp://127.0.0.1:1"
    assert await resolve_key(parse_address("tcp://192.0.2.1:1")) == "tcp://192.0.2.1:1"
    assert await resolve_key(parse_address("/dev/null")) == "serial:///dev/null"
    unknown = parse_address("tcp://nobody.invalid:1")
    assert await resolve_key(unknown) == "tcp://nobody.invalid:1"


async def test_own_host_name() -> None:
    """A name that resolves has the key of the address behind it."""
    name = trio.socket.gethostname()
    try:
        found = await trio.socket.getaddrinfo(name, None)
    except OSError:
        found = []
    numeric = {f"tcp://{each[4][0]!s}:1" for each in found}
    key = await resolve_key(parse_address(f"tcp://{name}:1"))
    assert key.replace("[", "").replace("]", "") in numeric | {f"tcp://{name.lower()}:1"}


async def test_nothing_is_looked_up_in_a_simulation(autojump_clock: MockClock) -> None:
    """Under a virtual clock a host keeps its name."""
    del autojump_clock
    assert await resolve_key(parse_address("tcp://example.org:1")) == "tcp://example.org:1"


def test_profiles() -> None:
    """Each scheme has the profile that suits it."""
    assert default_profile(parse_address("tcp://bench:1")).name == "tcp"
    assert default_profile(parse_address("/dev/ttyS0")).name == "serial"


def test_simulated_bus_needs_a_simulation() -> None:
    """Nothing can be opened under a `sim` address outside a simulation."""
    with pytest.raises(AddressError, match="simulation"):
        make_transport(parse_address("sim://oven"), framing=Lines())
