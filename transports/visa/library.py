"""The VISA libraries of this program: each loaded once, with one resource manager."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from transports.errors import ConnectError, ConnectProblem

from .faults import INSTALL, open_error

if TYPE_CHECKING:
    from pyvisa.highlevel import VisaLibraryBase
    from pyvisa.typing import VISARMSession


class Library:
    """One VISA library and its resource manager, which is closed after the last session.

    Made by `borrow`. PyVISA's own `ResourceManager` is not used: there is one of it in the
    program, and whoever closes it closes everybody's sessions.

    Attributes:
        visa: PyVISA's wrapper of the library.
    """

    def __init__(self, name: str, visa: VisaLibraryBase) -> None:
        """Open the resource manager."""
        self.name = name
        self.visa = visa
        self.manager: VISARMSession = visa.open_default_resource_manager()[0]
        self.users = 0

    def __repr__(self) -> str:
        """Return the library and how many use it."""
        return f"<Library {self.name or 'default'} users={self.users}>"

    def give_back(self) -> None:
        """End one use; the last closes the resource manager."""
        with _turn(self.name):
            self.users -= 1
            if self.users == 0:
                _libraries.pop(self.name, None)
                self.visa.close(self.manager)


_libraries: Final[dict[str, Library]] = {}
# One for each: a library that hangs when it is opened or closed keeps no other one waiting.
_turns: Final[dict[str, threading.Lock]] = {}


def borrow(name: str) -> Library:
    """Return the library of that name, such as "@py"; "" is the one that PyVISA finds.

    Blocks. Each use ends with `Library.give_back`.

    Raises:
        ConnectError: PyVISA, the library or what it needs is missing.
    """
    with _turn(name):
        library = _libraries.get(name)
        if library is None:
            library = _libraries[name] = _load(name)
        library.users += 1
        return library


def _turn(name: str) -> threading.Lock:
    return _turns.setdefault(name, threading.Lock())


def _load(name: str) -> Library:
    try:
        from pyvisa.highlevel import open_visa_library
    except ImportError as error:
        raise ConnectError(INSTALL, problem=ConnectProblem.MISSING_LIBRARY) from error
    try:
        return Library(name, open_visa_library(name))
    except (ImportError, OSError, ValueError) as error:
        raise ConnectError(_missing(name), problem=ConnectProblem.MISSING_LIBRARY) from error
    except Exception as error:
        raise open_error(error, name) from error


def _missing(name: str) -> str:
    """Return in one line what is to be installed for a library that cannot be loaded."""
    if name.endswith("@py"):
        return "pyvisa-py is not installed: pip install 'benchtree[visa]'"
    if name.endswith("@sim"):
        return "pyvisa-sim is not installed or cannot read its file: pip install pyvisa-sim"
    return (
        "no VISA library is installed: install NI-VISA or Keysight IO Libraries, or write "
        "?backend=@py after the address for pyvisa-py"
    )
