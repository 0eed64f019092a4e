"""Why somebody on a bench cannot be reached, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import trio
from attrs import frozen

from actors import IDENTITY_MISMATCH, DeviceError, current_clock
from transports import (
    Address,
    ConnectError,
    ConnectProblem,
    ForeignReplyError,
    FrameError,
    PeerLostError,
    PortOwnedError,
    ReplyTimeoutError,
    TransportError,
    list_serial_ports,
    list_visa_resources,
    port_users,
)

from .lines import LinePlan

_INSTALL: Final = re.compile(r"pip install \S+|install NI-VISA.*")
_SHOWN: Final = 40
_LISTED_WITHIN_S: Final = 2.0


class Trouble(Enum):
    """What can be wrong with a bus, or with an instrument on it."""

    NO_SUCH_PORT = "no such port"
    NO_PERMISSION = "no permission"
    PORT_BUSY = "port busy"
    NOT_A_PORT = "not a port"
    BAD_SETTINGS = "bad settings"
    UNKNOWN_HOST = "unknown host"
    CONNECTION_REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    MISSING_LIBRARY = "missing library"
    CONNECTION_LOST = "connection lost"
    SILENT = "silent"
    GARBLED = "garbled"
    WRONG_SETTINGS = "wrong settings"
    """It answers, though not with the line settings of the file."""
    FOREIGN = "another protocol"
    WRONG_IDENTITY = "wrong identity"
    UNIT_MISSING = "unit missing"
    REFUSED = "refused by the instrument"
    TOO_SLOW = "too slow"
    OTHER = "other"


@frozen
class Diagnosis:
    """What is wrong, and what mends it.

    Attributes:
        trouble: Its kind.
        why: What was seen, in words.
        mend: What to do.
    """

    trouble: Trouble
    why: str
    mend: str


_CONNECT: Final[Mapping[ConnectProblem, tuple[Trouble, str]]] = {
    ConnectProblem.BAD_SETTINGS: (Trouble.BAD_SETTINGS, "mend the options of the address"),
    ConnectProblem.UNKNOWN_HOST: (
        Trouble.UNKNOWN_HOST,
        "check how the host is written, or write its number, as in tcp://192.0.2.17:5025",
    ),
    ConnectProblem.OTHER: (Trouble.OTHER, "see the documentation of the transport"),
}


async def diagnose(error: TransportError | DeviceError | ValueError, plan: LinePlan) -> Diagnosis:
    """Return what an error says of a bus or an instrument, and what mends it."""
    match error:
        case DeviceError() if error.fault.kind is IDENTITY_MISMATCH:
            mend = "connect the right instrument, or mend driver and identity in the file"
            return Diagnosis(Trouble.WRONG_IDENTITY, error.fault.text, mend)
        case DeviceError():
            mend = "is it the driver for this instrument? see its manual for the error"
            return Diagnosis(Trouble.REFUSED, error.fault.text, mend)
        case PortOwnedError():
            mend = "wait until it has ended"
            if error.pid is not None:
                mend += f", or end it: kill {error.pid}"
            return Diagnosis(Trouble.PORT_BUSY, error.reason, mend)
        case ConnectError():
            return await _connect_diagnosis(error, plan)
        case PeerLostError():
            mend = "it may take one connection at a time: end other programs that use it"
            return Diagnosis(Trouble.CONNECTION_LOST, error.reason, mend)
        case ReplyTimeoutError(received=b""):
            return _silence(error, plan)
        case TransportError():
            return _misfit(error, error.received, plan)
        case ValueError():
            return _misfit(error, b"", plan)


async def _connect_diagnosis(error: ConnectError, plan: LinePlan) -> Diagnosis:
    """Return why a bus cannot be opened; a part of the reason may say what mends it."""
    why, _, told = error.reason.partition("; ")
    address = plan.address
    run_sync = current_clock().run_sync
    match error.problem:
        case ConnectProblem.NO_PERMISSION:
            return Diagnosis(Trouble.NO_PERMISSION, why, told or "run as a user who may")
        case ConnectProblem.NO_SUCH_PORT if address.scheme == "visa" and not address.path:
            mend = "plug the instrument in and switch it on, or mend the address; VISA finds: "
            there: Sequence[str] = ()
            with trio.move_on_after(_LISTED_WITHIN_S):
                there = await run_sync(_found_by_visa, address.backend, abandon_on_cancel=True)
            mend += ", ".join(there) or "nobody"
            return Diagnosis(Trouble.NO_SUCH_PORT, why, mend)
        case ConnectProblem.NO_SUCH_PORT | ConnectProblem.NOT_A_PORT:
            ports = await run_sync(list_serial_ports)
            names = ", ".join(each.name for each in ports) or "none"
            trouble = (
                Trouble.NO_SUCH_PORT
                if error.problem is ConnectProblem.NO_SUCH_PORT
                else Trouble.NOT_A_PORT
            )
            mend = f"plug the instrument in, or mend the address; serial ports there are: {names}"
            return Diagnosis(trouble, why, mend)
        case ConnectProblem.IN_USE:
            users = await run_sync(port_users, address.path) if address.path else ()
            if not users:
                return Diagnosis(Trouble.PORT_BUSY, why, "end the program that uses it")
            who = ", ".join(str(each) for each in users)
            pids = " ".join(str(each.pid) for each in users)
            return Diagnosis(Trouble.PORT_BUSY, f"{why}: {who}", f"end it: kill {pids}")
        case ConnectProblem.REFUSED:
            mend = (
                f"nothing listens at port {address.port}: switch its network interface on, or "
                "mend the port; many SCPI instruments use 5025"
                if address.port
                else f"nothing listens there: switch its {_service(address)} on, or write "
                f"TCPIP::{address.host}::5025::SOCKET if it has a raw socket only"
            )
            return Diagnosis(Trouble.CONNECTION_REFUSED, why, mend)
        case ConnectProblem.UNREACHABLE:
            mend = "is it switched on, and in this network?"
            if address.host:
                mend += f" try: ping {address.host}"
            return Diagnosis(Trouble.UNREACHABLE, str(error.reason), mend)
        case ConnectProblem.MISSING_LIBRARY:
            found = _INSTALL.search(error.reason)
            mend = found[0] if found else "install what it names"
            return Diagnosis(Trouble.MISSING_LIBRARY, error.reason, mend)
        case ConnectProblem.BAD_SETTINGS | ConnectProblem.UNKNOWN_HOST | ConnectProblem.OTHER:
            trouble, mend = _CONNECT[error.problem]
            return Diagnosis(trouble, error.reason, mend)


def _found_by_visa(backend: str) -> Sequence[str]:
    try:
        return list_visa_resources(backend)
    except TransportError:
        return ()


def _service(address: Address) -> str:
    """Return by what a resource in the network is reached that has no port of its own."""
    hislip = "::hislip" in address.text.lower()
    return "HiSLIP interface" if hislip else "VXI-11 interface (LXI)"


def _silence(error: ReplyTimeoutError, plan: LinePlan) -> Diagnosis:
    mend = "is it switched on, and set to remote control?"
    if plan.address.scheme == "serial":
        mend += (
            " check the cable (crossed or not), the baud rate and the unit id; "
            "benchtree ports FILE --identify asks as the other drivers would"
        )
    within = "" if error.waited_s is None else f" within {error.waited_s:g} s"
    return Diagnosis(Trouble.SILENT, f"not one byte came back{within}", mend)


def _misfit(error: Exception, received: bytes, plan: LinePlan) -> Diagnosis:
    """Return why an answer does not fit: nonsense, or sense from somebody else."""
    shown = f"{received[:_SHOWN]!r}" if received else str(error)
    text = isinstance(error, ForeignReplyError) and received.isascii()
    if text and received.decode("ascii").isprintable():
        mend = "connect what the driver is for, or name the driver of what is there"
        return Diagnosis(Trouble.FOREIGN, f"something else answers: {shown}", mend)
    if plan.address.scheme != "serial" and not isinstance(error, FrameError):
        mend = "is it the driver for this instrument?"
    else:
        mend = "check baud rate, parity and data bits against those of the instrument"
    return Diagnosis(Trouble.GARBLED, f"what came back is no answer: {shown}", mend)
