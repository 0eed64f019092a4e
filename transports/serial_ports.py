"""Which serial ports there are, and which processes have them open."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen
from serial.tools import list_ports

BY_ID: Final = Path("/dev/serial/by-id")
"""Where Linux keeps links to USB adapters that stay the same wherever they are plugged in."""

# Whoever serves a pseudo-terminal may hold both of its ends open.
_PSEUDO: Final = "/dev/pts/"
_LOCK: Final = re.compile(r"FLOCK\s+\w+\s+\w+\s+(\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)")


@frozen(kw_only=True)
class SerialPort:
    """One serial port, as the operating system describes it.

    Attributes:
        name: What to write into an address: a link that stays the same, or the node.
        node: The device node or COM port.
        vendor: Who built the adapter, or its USB vendor id; "" where that is not known.
        product: What it is, or its USB product id.
        serial_number: That of the adapter.
    """

    name: str
    node: str
    vendor: str = ""
    product: str = ""
    serial_number: str = ""


@frozen
class PortUser:
    """A process that has a port open.

    Attributes:
        pid: Its id.
        command: The name of its program, or "".
    """

    pid: int
    command: str

    def __str__(self) -> str:
        """Return the process in words."""
        return f"process {self.pid}" + (f" ({self.command})" if self.command else "")


def list_serial_ports(folders: Sequence[Path] = (BY_ID,)) -> Sequence[SerialPort]:
    """Return the machine's serial ports, and what the links in `folders` point to.

    A link that points nowhere is listed too: its instrument is unplugged. Blocks for some
    milliseconds.
    """
    links = {
        str(link): os.path.realpath(link)
        for folder in folders
        if folder.is_dir()
        for link in sorted(folder.iterdir())
        if link.is_symlink()
    }
    known = {each.device: each for each in list_ports.comports()}
    found: list[SerialPort] = []
    for name, node in (*links.items(), *((node, node) for node in sorted(known))):
        if name == node and node in links.values():
            continue
        about = known.get(node)
        if about is None:
            found.append(SerialPort(name=name, node=node))
            continue
        found.append(
            SerialPort(
                name=name,
                node=node,
                vendor=about.manufacturer or _usb(about.vid),
                product=about.product or _usb(about.pid),
                serial_number=about.serial_number or "",
            )
        )
    return found


def port_users(path: str) -> Sequence[PortUser]:
    """Return the processes that have a port open, as far as this user may know.

    Those that hold a lock on it come first. None but on Linux. Of a pseudo-terminal those
    that lock it alone: another may be the one that serves it. Blocks for some milliseconds.
    """
    if sys.platform != "linux":
        return ()
    node = os.path.realpath(path)
    pids = dict.fromkeys(_lockers(node))
    if not node.startswith(_PSEUDO):
        pids |= dict.fromkeys(_openers(node))
    return [PortUser(pid, _command(pid)) for pid in pids if pid != os.getpid()]


def _usb(number: int | None) -> str:
    return "" if number is None else f"{number:04x}"


def _lockers(node: str) -> Iterator[int]:
    try:
        about = Path(node).stat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return
    mine = os.major(about.st_dev), os.minor(about.st_dev), about.st_ino
    for pid, major, minor, inode in _LOCK.findall(locks):
        if (int(major, 16), int(minor, 16), int(inode)) == mine:
            yield int(pid)


def _openers(node: str) -> Iterator[int]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(fd.readlink()) == node for fd in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:
            continue  # somebody else's, or it has ended


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
