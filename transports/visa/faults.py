"""What a VISA library raises, translated once: by what the caller does next."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from transports.errors import (
    ConnectError,
    ConnectProblem,
    FrameError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from pyvisa.errors import VisaIOError

INSTALL: Final = "PyVISA is not installed: pip install 'benchtree[visa]'"

TIMED_OUT: Final = frozenset({"VI_ERROR_TMO"})
UNSUPPORTED: Final = frozenset({
    "VI_ERROR_NSUP_OPER", "VI_ERROR_NIMPL_OPER", "VI_ERROR_NSUP_ATTR", "VI_ERROR_NSUP_MECH",
    "VI_ERROR_INV_EVENT", "VI_ERROR_INV_PROT",
})  # fmt: skip
# What came was no reply, or not all of one; the session goes on.
SPOILED: Final = frozenset({
    "VI_ERROR_ASRL_PARITY", "VI_ERROR_ASRL_FRAMING", "VI_ERROR_ASRL_OVERRUN",
    "VI_ERROR_INP_PROT_VIOL", "VI_ERROR_OUTP_PROT_VIOL", "VI_ERROR_RAW_RD_PROT_VIOL",
    "VI_ERROR_RAW_WR_PROT_VIOL", "VI_ERROR_BERR",
})  # fmt: skip
# Whoever else holds the lock goes on; this exchange did not take place.
_PROBLEMS: Final = {
    "VI_ERROR_RSRC_NFOUND": ConnectProblem.NO_SUCH_PORT,
    "VI_ERROR_INTF_NUM_NCONFIG": ConnectProblem.NO_SUCH_PORT,
    "VI_ERROR_NLISTENERS": ConnectProblem.NO_SUCH_PORT,
    "VI_ERROR_RSRC_BUSY": ConnectProblem.IN_USE,
    "VI_ERROR_RSRC_LOCKED": ConnectProblem.IN_USE,
    "VI_ERROR_NPERMISSION": ConnectProblem.NO_PERMISSION,
    "VI_ERROR_LIBRARY_NFOUND": ConnectProblem.MISSING_LIBRARY,
    "VI_ERROR_TMO": ConnectProblem.UNREACHABLE,
    "VI_ERROR_CONN_LOST": ConnectProblem.UNREACHABLE,
    "VI_ERROR_MACHINE_NAVAIL": ConnectProblem.UNREACHABLE,
}
# What pyvisa-py wants for a kind of resource, by what it says where that is missing.
_NEEDED: Final = {
    "PyUSB does not seem": "libusb-package",
    "PyUSB": "pyusb",
    "gpib-ctypes": "gpib-ctypes",
}
_WORDS: Final = {
    "VI_ERROR_RSRC_NFOUND": "there is no such instrument; is it plugged in and switched on?",
    "VI_ERROR_RSRC_BUSY": "the resource is in use by another program",
    "VI_ERROR_RSRC_LOCKED": "the resource is locked by another program",
    "VI_ERROR_NLISTENERS": "nobody listens at this address; is the instrument switched on?",
    "VI_ERROR_NCIC": "the board is not the controller in charge",
    "VI_ERROR_NPERMISSION": "no permission to use the resource",
    "VI_ERROR_CONN_LOST": "the connection was lost",
    "VI_ERROR_TMO": "no reply",
}


def open_error(error: Exception, name: str) -> TransportError:
    """Return why a resource cannot be opened."""
    if isinstance(error, TransportError):
        return error
    found = visa_error(error)
    # pyvisa-py says of whatever it meets in the network that there is no such resource.
    beneath = _beneath(error)
    if found is not None and beneath is None:
        problem = _PROBLEMS.get(found.abbreviation, ConnectProblem.OTHER)
        words = _in_words(found)
        if problem is ConnectProblem.NO_SUCH_PORT and name.upper().startswith("TCPIP"):
            problem, words = ConnectProblem.UNREACHABLE, f"nobody answers there: {words}"
        return ConnectError(words, address=name, problem=problem, code=int(found.error_code))
    # What is missing for a kind of resource comes as an explanation over several lines.
    why = " ".join(str(beneath or error).split()) or repr(error)
    reason = f"the resource cannot be opened: {why}"
    problem = _problem(beneath or error)
    if problem is ConnectProblem.MISSING_LIBRARY:
        needed = next((each for word, each in _NEEDED.items() if word in why), None)
        if needed is not None:
            # The last line is what Python says; those before it are said by the package's name.
            cause = str(error).strip().splitlines()[-1]
            reason = f"pyvisa-py needs more for this resource: pip install {needed} ({cause})"
    if problem is ConnectProblem.IN_USE:
        reason = "the port is in use by another program"
    code = None if found is None else int(found.error_code)
    return ConnectError(reason, address=name, problem=problem, code=code)


@contextmanager
def translated() -> Generator[None]:
    """Raise what the block raises as what `use_error` makes of it."""
    try:
        yield
    except TransportError:
        raise
    except Exception as error:
        raise use_error(error) from error


def use_error(error: Exception) -> TransportError:
    """Return what an operation on an open session ended with.

    PeerLostError where the session is of no use any more, whatever raised it: libraries
    let the errors of what they stand on through.
    """
    if isinstance(error, TransportError):
        return error
    if isinstance(error, NotImplementedError):
        return UnsupportedError("the VISA library cannot do that here")
    found = visa_error(error)
    if found is None:
        return PeerLostError(f"the connection broke: {str(error) or type(error).__name__}")
    reason, code = _in_words(found), int(found.error_code)
    if found.abbreviation in TIMED_OUT:
        return ReplyTimeoutError(reason, code=code)
    if found.abbreviation in UNSUPPORTED:
        return UnsupportedError(f"the VISA library cannot do that here: {reason}", code=code)
    if found.abbreviation in SPOILED:
        return FrameError(reason, code=code)
    return PeerLostError(reason, code=code)


def visa_error(error: Exception) -> VisaIOError | None:
    """Return the error as VISA's own, or None where it is something else's."""
    from pyvisa.errors import VisaIOError

    return error if isinstance(error, VisaIOError) else None


def _beneath(error: Exception) -> OSError | None:
    """Return what the operating system said first of all, if an error came of that."""
    first: OSError | None = None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            first = seen
        seen = seen.__cause__ or seen.__context__
    return first


def _problem(error: Exception) -> ConnectProblem:
    """Return the kind of an error that pyvisa-py lets through."""
    match error:
        case socket.gaierror():
            return ConnectProblem.UNKNOWN_HOST
        case ConnectionRefusedError():
            return ConnectProblem.REFUSED
        case FileNotFoundError():
            return ConnectProblem.NO_SUCH_PORT
        case PermissionError():
            return ConnectProblem.NO_PERMISSION
        case OSError(errno=errno.ENOENT):
            return ConnectProblem.NO_SUCH_PORT  # as pyserial says it
        case OSError(errno=errno.EACCES):
            return ConnectProblem.NO_PERMISSION
        case OSError(errno=errno.EBUSY | errno.EAGAIN):
            return ConnectProblem.IN_USE
        case ValueError() if "install" in str(error):
            return ConnectProblem.MISSING_LIBRARY
        case OSError():
            return ConnectProblem.UNREACHABLE
        case _:
            return ConnectProblem.OTHER


def _in_words(error: VisaIOError) -> str:
    name = error.abbreviation
    text = _WORDS.get(name) or error.description.rstrip(".")
    return f"{text} ({name}, {int(error.error_code)})"
