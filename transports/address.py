"""Names of buses: what a user writes, and the one canonical name behind it."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from attrs import fields, frozen

from .board import PORT, BoardSettings, read_board
from .errors import AddressError
from .resource import Medium, Resource, is_resource_name, parse_resource, read_unit

_COM_PORT: Final = re.compile(r"(?:\\\\\.\\)?(com\d+)", re.IGNORECASE)
_DIGITS: Final = 9
"""Longer numbers are mistakes, and some too long to be read at all."""

_HOST_SIZE: Final = 253
_BACKEND: Final = re.compile(r".*@(?:py|sim|ivi)")
_MEDIA: Final = {
    "serial": Medium.SERIAL,
    "tcp": Medium.TCP,
    "redpitaya": Medium.RED_PITAYA,
    "sim": Medium.SIM,
}
_TRUTHS: Final = {"true": True, "false": False}
_ALLOWED: Final[Mapping[str, tuple[object, ...]]] = {
    "bytesize": (5, 6, 7, 8),
    "parity": ("N", "E", "O", "M", "S"),
    "stopbits": (1, 1.5, 2),
}


CHUNK_SIZE: Final = 131_072
"""How many bytes VISA reads at once unless told otherwise."""


@frozen
class SerialSettings:
    """How a serial line is set up.

    A value that no port takes raises AddressError.

    Attributes:
        baudrate: In bits per second.
        bytesize: Data bits: 5 to 8.
        parity: N (none), E (even), O (odd), M (mark) or S (space).
        stopbits: 1, 1.5 or 2.
        xonxoff: Software flow control.
        rtscts: Hardware flow control by RTS and CTS.
        dsrdtr: Hardware flow control by DSR and DTR.
        read_buffer_size: The driver's input buffer in bytes, where it can be set (Windows).
        write_buffer_size: The driver's output buffer in bytes, where it can be set (Windows).
    """

    baudrate: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1.0
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False
    read_buffer_size: int | None = None
    write_buffer_size: int | None = None

    def __attrs_post_init__(self) -> None:
        """Check every value."""
        for name in ("baudrate", "read_buffer_size", "write_buffer_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise AddressError(f"{name} is {number}; it must be at least 1")
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if value not in allowed:
                choice = ", ".join(f"{each}" for each in allowed)
                raise AddressError(f"{name} is {value}; it must be one of {choice}")


@frozen
class Address:
    """Where a bus is.

    Attributes:
        text: As the user wrote it.
        scheme: "serial", "tcp", "visa", "redpitaya" or "sim".
        path: The device node or COM port of a serial bus, the name of a simulated one.
        host: The host of a network bus, without brackets.
        port: The port of a TCP endpoint.
        options: The line settings of a serial bus, else None.
        units: The units on a simulated line, each a letter; empty for those that are asked for.
        resource: What a VISA resource name says, else None.
        backend: The VISA library, as "@py"; "" for the one that PyVISA finds.
        chunk_size: How many bytes VISA reads at once.
        board: Where a Red Pitaya is, else None.
    """

    text: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    options: SerialSettings | None = None
    units: tuple[str, ...] = ()
    resource: Resource | None = None
    backend: str = ""
    chunk_size: int = CHUNK_SIZE
    board: BoardSettings | None = None

    def __str__(self) -> str:
        """Return the text as written."""
        return self.text

    @property
    def medium(self) -> Medium:
        """What carries the messages, whoever drives it."""
        return _MEDIA[self.scheme] if self.resource is None else self.resource.medium

    @property
    def unit(self) -> str | None:
        """The instrument that the address names, where it stands for a bus of several."""
        return None if self.resource is None else self.resource.unit

    @property
    def addressed(self) -> bool:
        """Whether several instruments share the bus, each read by its address."""
        return self.resource is not None and self.resource.addressed

    def unit_of(self, unit_id: str | None) -> str | None:
        """Return the unit that an instrument at this address is, its unit id being `unit_id`.

        Raises:
            AddressError: The two name different instruments, or it is no unit of the bus.
        """
        if self.resource is None or not self.addressed:
            return unit_id
        if unit_id is None:
            return self.unit
        unit = read_unit(unit_id)
        if self.unit not in (None, unit):
            raise AddressError(
                f"the unit id is {unit_id}, but {self.text} names unit {self.unit}; "
                f"leave one of them out, or write {self.resource.board} as the address"
            )
        return unit


def parse_address(text: str) -> Address:
    """Read an address such as `serial:///dev/ttyUSB0?baudrate=38400` or `tcp://host:5025`.

    A plain device path or COM port is a serial port with default settings. A plain VISA
    resource name is driven by VISA, save a raw socket (`TCPIP::host::5025::SOCKET`), which
    needs none: write `visa://` before it to have VISA all the same.

    Raises:
        AddressError: The text is no address; the message says what would be one.
    """
    try:
        return _parse(text)
    except AddressError as error:
        error.address = text
        raise


def canonical_key(address: Address) -> str:
    """Return the bus's canonical name: equal for two names of one port.

    Symbolic links are followed now, so a link that moves to another port changes the key.
    Host names other than `localhost` are kept as they are.
    """
    match address.scheme:
        case "tcp":
            return _tcp_key(_canonical_host(address.host), address.port)
        case "serial" if _COM_PORT.fullmatch(address.path):
            return f"serial://{address.path.upper()}"
        case "serial":
            # Not a blocking call worth a thread: it reads a few directory entries.
            return f"serial://{os.path.realpath(address.path)}"
        case "visa" if address.resource is not None:
            return _visa_key(address, address.resource)
        case "redpitaya" if address.board is not None:
            return _board_key(address, address.board)
        case scheme:
            return f"{scheme}://{address.path}"


def _parse(text: str) -> Address:
    if "\0" in unquote(text):
        raise AddressError("no address has a zero character in it")
    scheme, mark, rest = text.partition("://")
    if not mark and is_resource_name(text):
        scheme, rest = "visa", text
    elif not mark:
        scheme, rest = "serial", text
        if not (text.startswith("/") or _COM_PORT.fullmatch(text.partition("?")[0])):
            raise AddressError(
                "not an address; write serial:///dev/ttyUSB0, COM3, tcp://host:port or "
                "GPIB0::5::INSTR"
            )
    body, _, query = rest.partition("?")
    options = _read_query(query)
    match scheme:
        case "serial":
            return _serial_address(text, unquote(body), options)
        case "tcp":
            _refuse_options(options, scheme)
            host, port = _read_endpoint(body)
            return Address(text, scheme, host=host, port=port)
        case "visa":
            return _visa_address(text, unquote(body), options, forced=bool(mark or options))
        case "sim":
            units = options.pop("units", "")
            _refuse_options(options, scheme)
            if not body:
                raise AddressError("the name is missing; write sim://name")
            return Address(text, scheme, path=body, units=tuple(units))
        case "redpitaya":
            board = read_board(unquote(body), options)
            _check_host(board.host)
            return Address(text, scheme, host="" if board.emulated else board.host, board=board)
        case _:
            known = "serial, tcp, visa, redpitaya, sim"
            raise AddressError(f"the scheme {scheme!r} is not known; known are {known}")


def _serial_address(text: str, path: str, options: Mapping[str, str]) -> Address:
    com_port = _COM_PORT.fullmatch(path)
    if com_port is not None:
        path = com_port[1].upper()
    elif not path.startswith("/"):
        raise AddressError(
            "the port must be an absolute path or a COM port; write serial:///dev/ttyUSB0 "
            "(three slashes) or serial://COM3"
        )
    return Address(text, "serial", path=path, options=_serial_settings(options))


def _visa_address(text: str, name: str, options: dict[str, str], *, forced: bool) -> Address:
    resource = parse_resource(name)
    if resource.host:
        _check_host(resource.host)
    if resource.medium is Medium.TCP and not forced:
        return Address(text, "tcp", host=resource.host, port=resource.port)
    backend = options.pop("backend", "")
    if backend and not _BACKEND.fullmatch(backend):
        raise AddressError(
            f"the backend {backend!r} is not known; known are @py, @sim, @ivi, and a library's "
            "path before one of them"
        )
    chunk_size = _read_int("chunk_size", options.pop("chunk_size", str(CHUNK_SIZE)))
    if chunk_size < 1:
        raise AddressError("chunk_size is 0; it must be at least 1")
    serial = resource.medium is Medium.SERIAL
    if options and not serial:
        raise AddressError(
            f"the option {next(iter(options))!r} is not known here; known are backend, chunk_size"
        )
    return Address(
        text,
        "visa",
        path=resource.path,
        host=resource.host,
        port=resource.port,
        options=_serial_settings(options) if serial else None,
        resource=resource,
        backend=backend,
        chunk_size=chunk_size,
    )


def _board_key(address: Address, board: BoardSettings) -> str:
    if board.emulated:
        return f"redpitaya://{board.host}"
    host = _canonical_host(address.host)
    # A board has one server; several on one host are emulators.
    alone = board.ssh or board.port == PORT
    return f"redpitaya://{host}" if alone else f"redpitaya://{host}:{board.port}"


def _visa_key(address: Address, resource: Resource) -> str:
    if address.backend.endswith("@sim"):
        # What is simulated is nobody else's port.
        return f"visa://{resource.board}?backend={address.backend}"
    host = _canonical_host(address.host) if address.host else ""
    match resource.medium:
        case Medium.TCP:
            return _tcp_key(host, address.port)
        case Medium.SERIAL if address.path.startswith("/"):
            return f"serial://{os.path.realpath(address.path)}"
        case Medium.SERIAL if (com_port := _COM_PORT.fullmatch(address.path)) is not None:
            return f"serial://{com_port[1].upper()}"
        case Medium.SERIAL if sys.platform == "win32":
            return f"serial://COM{address.path}"
        case _ if host:
            # The number of the interface is VISA's own affair.
            return f"visa://TCPIP::{host}::{resource.board.split('::', 2)[2]}"
        case _:
            return f"visa://{resource.board}"


def _read_query(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, mark, value = part.partition("=")
        if not (name and mark and value):
            raise AddressError(f"the option {part!r} has no value; write ?name=value&name=value")
        if name in options:
            raise AddressError(f"the option {name!r} is given twice")
        options[name] = unquote(value)
    return options


def _refuse_options(options: Mapping[str, str], scheme: str) -> None:
    if options:
        taken = "no option but units" if scheme == "sim" else "no options"
        raise AddressError(f"{scheme} takes {taken}; {', '.join(options)} given")


def _serial_settings(options: Mapping[str, str]) -> SerialSettings:
    left = dict(options)

    def number(name: str, default: int) -> int:
        return _read_int(name, left.pop(name)) if name in left else default

    def size(name: str) -> int | None:
        return _read_int(name, left.pop(name)) if name in left else None

    def truth(name: str) -> bool:
        value = left.pop(name, "false")
        if value.lower() not in _TRUTHS:
            raise AddressError(f"{name} is {value!r}; it must be true or false")
        return _TRUTHS[value.lower()]

    settings = SerialSettings(
        baudrate=number("baudrate", 9600),
        bytesize=number("bytesize", 8),
        parity=left.pop("parity", "N").upper(),
        stopbits=_read_float("stopbits", left.pop("stopbits", "1")),
        xonxoff=truth("xonxoff"),
        rtscts=truth("rtscts"),
        dsrdtr=truth("dsrdtr"),
        read_buffer_size=size("read_buffer_size"),
        write_buffer_size=size("write_buffer_size"),
    )
    if left:
        known = ", ".join(each.name for each in fields(SerialSettings))
        raise AddressError(f"the option {next(iter(left))!r} is not known; known are {known}")
    return settings


def _read_int(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise AddressError(f"{name} is {text!r}; it must be a whole number")
    if len(text) > _DIGITS:
        raise AddressError(f"{name} has {len(text)} digits; it must have {_DIGITS} at most")
    return int(text)


def _read_float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AddressError(f"{name} is {text!r}; it must be a number") from None


def _read_endpoint(body: str) -> tuple[str, int]:
    host, mark, port = body.rstrip("/").rpartition(":")
    if not mark:
        raise AddressError("the port is missing; write tcp://host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError("an IPv6 address goes into brackets; write tcp://[::1]:5025")
    if not host:
        raise AddressError("the host is missing; write tcp://host:port")
    _check_host(host)
    readable = port.isascii() and port.isdigit() and len(port) <= _DIGITS
    number = int(port) if readable else 0
    if not 1 <= number <= 65_535:
        raise AddressError(f"the port is {port!r}; it must be a number from 1 to 65535")
    return host, number


def _check_host(host: str) -> None:
    """Refuse what no name server is asked for."""
    try:
        size = len(host.encode("idna"))
    except UnicodeError:
        size = None
    if size is None or size > _HOST_SIZE:
        raise AddressError(
            f"the host {host!r} is no host name: each part between dots has 1 to 63 characters, "
            f"and the whole {_HOST_SIZE} at most"
        )


def _canonical_host(host: str) -> str:
    lowered = host.lower().rstrip(".")
    if lowered == "localhost":
        return "127.0.0.1"
    return str(ipaddress.ip_address(lowered)) if _is_numeric(lowered) else lowered


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _tcp_key(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
