"""VISA resource names: which bus a resource is on, and what VISA calls it.

One physical bus has one canonical name, however its resources are written: all of a GPIB
board, of a GPIB gateway in the network, and of one serial adapter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from attrs import frozen

from .errors import AddressError

_BEGINS: Final = re.compile(r"(?:gpib|usb|tcpip|asrl|prlgx|vxi|pxi|firewire)", re.IGNORECASE)
_BOARD: Final = re.compile(r"(gpib|usb|tcpip)(\d*)", re.IGNORECASE)
_GATEWAY_UNIT: Final = re.compile(r"((?:gpib|hpib)\d*)(?:,(\d+(?:,\d+)?))?", re.IGNORECASE)
_UNIT: Final = re.compile(r"(\d{1,2})(?:,(\d{1,2}))?")
_DEVICE: Final = re.compile(r"[\w.,-]+", re.ASCII)
_PRIMARY: Final = range(31)
_WRITE: Final = (
    "write GPIB0 or GPIB0::5::INSTR, USB0::0x1AB1::0x0588::SERIAL::INSTR, "
    "TCPIP::host::INSTR, TCPIP::host::hislip0::INSTR or ASRL/dev/ttyUSB0::INSTR"
)


class Medium(Enum):
    """What carries the messages of a bus."""

    SERIAL = "serial"
    TCP = "tcp"
    GPIB = "gpib"
    USBTMC = "usbtmc"
    LAN = "lan"
    RED_PITAYA = "redpitaya"
    SIM = "sim"


@frozen
class Resource:
    """What a VISA resource name says.

    Attributes:
        medium: What carries the messages.
        board: The bus as VISA writes it, such as `GPIB0`; a whole resource name where
            one instrument is alone on its bus.
        unit: The instrument on a board: its primary address, or primary and secondary
            with a comma between; None for the board itself, and where it is alone.
        host: The host of a network resource.
        port: The port of a socket.
        path: The device node or COM port of a serial one, or its number.
    """

    medium: Medium
    board: str
    unit: str | None = None
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def addressed(self) -> bool:
        """Whether several instruments share the bus, each read by its address."""
        return self.medium is Medium.GPIB

    def name(self, unit: str | None = None) -> str:
        """Return what VISA calls the instrument `unit`, or the one that the name says.

        Raises:
            AddressError: Nothing says which instrument of a board is meant, or wrongly.
        """
        if not self.addressed:
            return self.board
        asked = unit if unit is not None else self.unit
        if asked is None:
            raise AddressError(f"{self.board} is a board; its instruments need a unit id each")
        asked = read_unit(asked)
        if self.host:
            return f"{self.board},{asked}::INSTR"
        return f"{self.board}::{asked.replace(',', '::')}::INSTR"


def is_resource_name(text: str) -> bool:
    """Tell whether a text begins as VISA resource names do."""
    return _BEGINS.match(text) is not None


def read_unit(unit: str) -> str:
    """Return the address of an instrument on a GPIB board, as resource names have it.

    Raises:
        AddressError: It is none.
    """
    found = _UNIT.fullmatch(unit)
    if found is None or any(int(each) not in _PRIMARY for each in found.groups("0")):
        raise AddressError(
            f"the unit {unit!r} is no GPIB address; it must be a number from 0 to 30, or two "
            'with a comma between where the second is secondary, as "5" or "5,2"'
        )
    return ",".join(str(int(each)) for each in unit.split(","))


def parse_resource(text: str) -> Resource:
    """Read a VISA resource name.

    Raises:
        AddressError: The text is none that carries messages; the message says what is.
    """
    parts = text.split("::")
    if parts[0].upper().startswith("ASRL"):
        return _serial(parts)
    found = _BOARD.fullmatch(parts[0])
    if found is None:
        raise AddressError(f"{text!r} is no VISA resource name that carries messages; {_WRITE}")
    kind, board = found[1].upper(), int(found[2] or 0)
    *middle, last = parts[1:] or [""]
    if last.upper() not in _CLASSES:
        middle, last = parts[1:], "INSTR"
    return _READERS[kind](board, middle, last.upper())


def _serial(parts: list[str]) -> Resource:
    path = parts[0][len("ASRL") :]
    if not path or (parts[1:] and [each.upper() for each in parts[1:]] != ["INSTR"]):
        raise AddressError("write ASRL/dev/ttyUSB0::INSTR or ASRL3::INSTR")
    return Resource(Medium.SERIAL, f"ASRL{path}::INSTR", path=path)


def _gpib(board: int, parts: list[str], kind: str) -> Resource:
    if kind == "INTFC" and parts:
        raise AddressError(f"write GPIB{board}::INTFC or GPIB{board}")
    if kind == "SOCKET" or len(parts) > 2:
        raise AddressError(f"write GPIB{board}::5::INSTR, or GPIB{board}::5::2::INSTR")
    unit = read_unit(",".join(parts)) if parts else None
    return Resource(Medium.GPIB, f"GPIB{board}", unit=unit)


def _usb(board: int, parts: list[str], kind: str) -> Resource:
    if kind != "INSTR" or len(parts) not in (3, 4):
        raise AddressError("write USB0::VENDOR::MODEL::SERIAL::INSTR; only INSTR has messages")
    vendor, model = (_number(each) for each in parts[:2])
    interface = _number(parts[3]) if len(parts) == 4 else 0
    if not parts[2]:
        raise AddressError("the serial number is missing; write USB0::VENDOR::MODEL::SERIAL::INSTR")
    name = f"USB{board}::0x{vendor:04X}::0x{model:04X}::{parts[2]}::{interface}::INSTR"
    return Resource(Medium.USBTMC, name)


def _tcpip(board: int, parts: list[str], kind: str) -> Resource:
    host = parts[0] if parts else ""
    if not host or kind == "INTFC":
        raise AddressError("write TCPIP::host::INSTR or TCPIP::host::5025::SOCKET")
    if kind == "SOCKET":
        port = parts[1] if len(parts) == 2 else ""
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= 65_535):
            raise AddressError(
                "the port is missing or no number from 1 to 65535; write TCPIP::host::5025::SOCKET"
            )
        name = f"TCPIP{board}::{host}::{int(port)}::SOCKET"
        return Resource(Medium.TCP, name, host=host, port=int(port))
    device = parts[1] if len(parts) > 1 else "inst0"
    if len(parts) > 2 or not _DEVICE.fullmatch(device):
        raise AddressError("write TCPIP::host::inst0::INSTR or TCPIP::host::hislip0::INSTR")
    if device.startswith("hislip"):
        device = device.removesuffix(",4880")  # the port it has anyway
    gateway = _GATEWAY_UNIT.fullmatch(device)
    if gateway is not None:
        unit = read_unit(gateway[2]) if gateway[2] else None
        name = f"TCPIP{board}::{host}::{gateway[1].lower()}"
        return Resource(Medium.GPIB, name, unit=unit, host=host)
    return Resource(Medium.LAN, f"TCPIP{board}::{host}::{device}::INSTR", host=host)


def _number(text: str) -> int:
    try:
        number = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF:
        raise AddressError(f"{text!r} is no USB number; write it as 0x1AB1")
    return number


_CLASSES: Final = frozenset({"INSTR", "SOCKET", "INTFC", "RAW", "SERVANT", "BACKPLANE"})
_READERS: Final[Mapping[str, Callable[[int, list[str], str], Resource]]] = {
    "GPIB": _gpib,
    "USB": _usb,
    "TCPIP": _tcpip,
}
