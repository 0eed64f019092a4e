"""Where a Red Pitaya is, as an address says it: `redpitaya://HOST?config_name=NAME`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from .errors import AddressError

PORT: Final = 2222
"""Where PyRPL's server on a board listens."""

EMULATOR: Final = "sim"
"""The host that stands for an emulator in a process of its own."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TRUTHS: Final = {"true": True, "false": False}
_KNOWN: Final = ("config_name", "port", "ssh", "user")


@frozen(kw_only=True)
class BoardSettings:
    """Where a board is and how it is reached.

    Attributes:
        host: Its host name or address; "sim" for an emulator of its own.
        port: The port of the server on the board.
        config_name: The PyRPL configuration to use and to save in; None to save nothing.
        ssh: Whether PyRPL starts the server through a secure shell; False where one runs.
        user: Who logs in there. The password is in REDPITAYA_PASSWORD, "root" where not.
    """

    host: str
    port: int = PORT
    config_name: str | None = None
    ssh: bool = True
    user: str = "root"

    @property
    def emulated(self) -> bool:
        """Whether an emulator is to be started."""
        return self.host == EMULATOR


def read_board(body: str, options: Mapping[str, str]) -> BoardSettings:
    """Return what an address says after its scheme.

    Raises:
        AddressError: It says something wrong; the message says what would be right.
    """
    left = dict(options)
    host = body.rstrip("/").removeprefix("[").removesuffix("]")
    if not host:
        raise AddressError("the host is missing; write redpitaya://HOST or redpitaya://sim")
    if "/" in host or (":" in host and not body.startswith("[")):
        raise AddressError("write redpitaya://HOST, and a port as ?port=2222&ssh=false")
    config_name = left.pop("config_name", None)
    if config_name is not None and not _NAME.fullmatch(config_name):
        raise AddressError(
            f"config_name is {config_name!r}; it is a plain name, without folders or .yml"
        )
    port = left.pop("port", str(PORT))
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536):
        raise AddressError(f"the port is {port!r}; it must be a number from 1 to 65535")
    ssh = left.pop("ssh", "true").lower()
    if ssh not in _TRUTHS:
        raise AddressError(f"ssh is {ssh!r}; it must be true or false")
    user = left.pop("user", "root")
    if left:
        known = ", ".join(_KNOWN)
        raise AddressError(f"the option {next(iter(left))!r} is not known; known are {known}")
    return BoardSettings(
        host=host, port=int(port), config_name=config_name, ssh=_TRUTHS[ssh], user=user
    )
