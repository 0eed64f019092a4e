"""Simulated lines as resources of pyvisa-sim."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError
from pyvisa.highlevel import open_visa_library
from pyvisa.rname import to_canonical_name

from transports import SimLine


class _Plugged:
    """What pyvisa-sim takes for a device: a line, read byte by byte from any thread.

    An instrument whose messages have ends keeps the rules of IEEE 488.2: a message ends in
    a line feed, and a new request discards a reply that nobody read.
    """

    def __init__(self, line: SimLine, *, marks_ends: bool) -> None:
        self.line = line
        self.resource_name: str | None = None
        self._marks_ends = marks_ends
        self._lock = threading.Lock()
        self._due: deque[tuple[float, bytes]] = deque()
        self._output = bytearray()
        line.watch(self._note_change)

    def write(self, data: bytes) -> None:
        with self._lock:
            self._check()
            self._arrive()
            if self._marks_ends:
                self._output.clear()
            self._due.extend(self.line.receive(bytes(data), time.monotonic()))

    def read(self) -> tuple[bytes, bool]:
        with self._lock:
            self._check()
            self._arrive()
            if not self._output:
                return b"", False
            byte = bytes(self._output[:1])
            del self._output[:1]
            return byte, byte == b"\n"

    def _check(self) -> None:
        if not self.line.plugged:
            raise VisaIOError(StatusCode.error_connection_lost)

    def _arrive(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            self._output += self._due.popleft()[1]

    def _note_change(self) -> None:
        with self._lock:
            if self.line.plugged:
                self._due.extend(self.line.collect(time.monotonic()))
            else:
                self._due.clear()
                self._output.clear()


class _Devices:
    """What is plugged in, by canonical resource name, in place of pyvisa-sim's own list."""

    def __init__(self) -> None:
        self.held: dict[str, _Plugged] = {}

    def __getitem__(self, name: str) -> _Plugged:
        device = self.held[name]
        if not device.line.plugged:
            raise KeyError(name)
        return device

    def list_resources(self) -> Sequence[str]:
        return tuple(name for name, device in self.held.items() if device.line.plugged)


_DEVICES: Final = _Devices()


@contextmanager
def plug_into_visa(line: SimLine, resource: str) -> Generator[None]:
    """Have pyvisa-sim find `line` at a resource, while it is plugged in."""
    library: Any = open_visa_library("@sim")
    library.devices = _DEVICES
    name = to_canonical_name(resource)
    _DEVICES.held[name] = _Plugged(line, marks_ends=not name.startswith("ASRL"))
    try:
        yield
    finally:
        del _DEVICES.held[name]
