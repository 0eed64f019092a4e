"""One instrument under VISA has many names, and one board one key."""

from __future__ import annotations

from pathlib import Path

import pytest

from transports import AddressError, canonical_key, default_profile, parse_address


@pytest.mark.parametrize(
    ("text", "unit", "key"),
    [
        ("GPIB0", None, "visa://GPIB0"),
        ("GPIB0::INTFC", None, "visa://GPIB0"),
        ("GPIB::5::INSTR", "5", "visa://GPIB0"),
        ("gpib0::07", "7", "visa://GPIB0"),
        ("GPIB0::5::2::INSTR", "5,2", "visa://GPIB0"),
        ("visa://GPIB0::7::INSTR?backend=@py", "7", "visa://GPIB0"),
        ("GPIB1::7::INSTR", "7", "visa://GPIB1"),
        ("TCPIP::Gateway::gpib0,5::INSTR", "5", "visa://TCPIP::gateway::gpib0"),
        ("TCPIP0::gateway::gpib0", None, "visa://TCPIP::gateway::gpib0"),
        ("USB0::0x1ab1::0x588::DS1::INSTR", None, "visa://USB0::0x1AB1::0x0588::DS1::0::INSTR"),
        ("USB::6833::1416::DS1::0::INSTR", None, "visa://USB0::0x1AB1::0x0588::DS1::0::INSTR"),
        ("TCPIP::Scope.::INSTR", None, "visa://TCPIP::scope::inst0::INSTR"),
        ("TCPIP1::scope::inst0::INSTR", None, "visa://TCPIP::scope::inst0::INSTR"),
        ("TCPIP::::1::INSTR", None, None),
        ("TCPIP::10.0.0.1::hislip0::INSTR", None, "visa://TCPIP::10.0.0.1::hislip0::INSTR"),
        ("TCPIP::10.0.0.1::hislip0,4880::INSTR", None, "visa://TCPIP::10.0.0.1::hislip0::INSTR"),
        ("TCPIP::scope::5025::SOCKET", None, "tcp://scope:5025"),
        ("visa://TCPIP::Scope::5025::SOCKET", None, "tcp://scope:5025"),
        ("ASRL/dev/null::INSTR", None, "serial:///dev/null"),
        ("visa://ASRL/dev/null::INSTR?baudrate=19200", None, "serial:///dev/null"),
        ("ASRLCOM3::INSTR", None, "serial://COM3"),
        ("GPIB0::5::INSTR?backend=@sim", "5", "visa://GPIB0?backend=@sim"),
    ],
)
def test_keys(text: str, unit: str | None, key: str | None) -> None:
    """Every spelling of a resource has its bus's key, and says which unit is meant."""
    if key is None:
        with pytest.raises(AddressError):
            parse_address(text)
        return
    address = parse_address(text)
    assert (address.unit, canonical_key(address)) == (unit, key)


@pytest.mark.parametrize(
    ("text", "scheme", "profile"),
    [
        ("GPIB0::5::INSTR", "visa", "gpib"),
        ("USB0::0x1AB1::0x0588::DS1::INSTR", "visa", "usbtmc"),
        ("TCPIP::scope::hislip0::INSTR", "visa", "lan"),
        ("ASRL/dev/ttyUSB0::INSTR", "visa", "serial"),
        ("TCPIP::scope::5025::SOCKET", "tcp", "tcp"),
        ("visa://TCPIP::scope::5025::SOCKET", "visa", "tcp"),
    ],
)
def test_profiles(text: str, scheme: str, profile: str) -> None:
    """What carries the messages chooses the profile; a raw socket goes without VISA."""
    address = parse_address(text)
    assert (address.scheme, default_profile(address).name) == (scheme, profile)


def test_by_id_link_is_the_port_it_names(tmp_path: Path) -> None:
    """VISA's name of a serial port and its own are one port, through links too."""
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    keys = {
        canonical_key(parse_address(f"{before}{tmp_path / name}{after}"))
        for before, after in (("serial://", ""), ("ASRL", "::INSTR"), ("visa://ASRL", ""))
        for name in ("ttyUSB0", "by-id")
    }
    assert keys == {f"serial://{(tmp_path / 'ttyUSB0').resolve()}"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GPIB0::31", "a number from 0 to 30"),
        ("GPIB0::5::2::1::INSTR", "write GPIB0::5::INSTR"),
        ("VXI0::1::INSTR", "write GPIB0 or GPIB0::5::INSTR"),
        ("USB0::1", "write USB0::VENDOR::MODEL::SERIAL::INSTR"),
        ("USB0::x::2::S::INSTR", "'x' is no USB number"),
        ("USB0::1::2::S::RAW", "only INSTR has messages"),
        ("TCPIP::h::x::SOCKET", "no number from 1 to 65535"),
        ("TCPIP", "write TCPIP::host::INSTR"),
        ("ASRL", "write ASRL/dev/ttyUSB0::INSTR"),
        ("visa://", "is no VISA resource name"),
        ("visa://GPIB0?backend=ni", "known are @py, @sim, @ivi"),
        ("visa://GPIB0?baudrate=9600", "known are backend, chunk_size"),
        ("visa://GPIB0?chunk_size=0", "it must be at least 1"),
        ("ASRL/dev/null?baud=9600", "the option 'baud' is not known"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    """What is wrong is said, with what would be right."""
    with pytest.raises(AddressError) as wrong:
        parse_address(text)
    assert says in str(wrong.value)
