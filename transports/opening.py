"""From an address to a line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from .address import Address, SerialSettings, canonical_key
from .base import Transport
from .errors import AddressError
from .framing import Framing
from .hosted import HostedTransport, Hosting
from .profile import GPIB, LAN, SERIAL, TCP, USBTMC, BusProfile
from .pyrpl import REDPITAYA, Emulator, PyrplTransport, check_installed
from .resource import Medium
from .serial import connect_serial
from .stream import ByteStream, StreamTransport
from .tcp import connect_tcp
from .visa import VisaTransport

_USUAL: Final[Mapping[Medium, BusProfile]] = {
    Medium.TCP: TCP,
    Medium.GPIB: GPIB,
    Medium.USBTMC: USBTMC,
    Medium.LAN: LAN,
    Medium.RED_PITAYA: REDPITAYA,
}


def default_profile(address: Address) -> BusProfile:
    """Return the profile of a bus whose configuration names none."""
    return _USUAL.get(address.medium, SERIAL)


def make_transport(
    address: Address,
    *,
    framing: Framing,
    profile: BusProfile | None = None,
    hosting: Hosting[Any] | None = None,
    locate: Callable[[], Awaitable[str]] | None = None,
) -> Transport:
    """Return a closed line to `address`; nothing is touched before `open`.

    With `hosting` it carries the calls of a library instead of framed exchanges. With
    `locate` the bus's canonical name is found anew by each `open`; see `StreamTransport`.

    Raises:
        AddressError: A `sim` address, which exists inside a simulation only; or a library
            is to be hosted under VISA.
    """
    numbers = profile or default_profile(address)
    match address.scheme:
        case "serial":
            settings = address.options or SerialSettings()

            async def connect() -> ByteStream:
                return await connect_serial(address.path, settings)

        case "tcp":

            async def connect() -> ByteStream:
                return await connect_tcp(address.host, address.port)

        case "visa" if hosting is None:
            return VisaTransport(address, framing, numbers, locate=locate)

        case "visa":
            raise AddressError(
                "a hosted library needs bytes, not messages; write a serial or tcp address",
                address=address.text,
            )

        case _:
            raise AddressError("only a simulation provides this bus", address=address.text)
    key = canonical_key(address)
    if hosting is not None:
        return HostedTransport(key, connect, hosting, numbers, locate=locate)
    return StreamTransport(key, connect, framing, numbers, locate=locate)


def make_board_transport(
    address: Address, *, profile: BusProfile | None = None, emulator: Emulator | None = None
) -> PyrplTransport:
    """Return a closed line to a Red Pitaya; no process is started before `open`.

    Args:
        address: Where it is.
        profile: The numbers of the bus; None for the usual ones.
        emulator: What `redpitaya://sim` stands for.

    Raises:
        AddressError: It is not the address of a Red Pitaya, or of an emulator that is not there.
        ConnectError: PyRPL is not installed; says in one line what to install.
    """
    board = address.board
    if board is None:
        raise AddressError("this is no Red Pitaya; write redpitaya://HOST", address=address.text)
    if board.emulated and emulator is None:
        raise AddressError("there is no emulator for it here", address=address.text)
    check_installed(address.text)
    numbers = profile or default_profile(address)
    return PyrplTransport(canonical_key(address), board, numbers, emulator=emulator)
