"""A simulated line inside the program: no I/O, every wait on an event."""

from __future__ import annotations

from collections import deque

import trio

from transports.base import LineCounters
from transports.clock import current_clock
from transports.errors import ConnectError, LineClosedError, PeerLostError

from .line import SimLine, TimedBytes


class _Wire:
    """The bytes between a device and whoever is connected."""

    def __init__(self) -> None:
        self._due: deque[TimedBytes] = deque()
        self._arrived = bytearray()
        self.changed = trio.lowlevel.ParkingLot()

    def add(self, replies: list[TimedBytes]) -> None:
        if replies:
            self._due.extend(replies)
            if self.changed:  # somebody is parked there
                self.changed.unpark_all()

    def take(self, now_s: float) -> bytes:
        while self._due and self._due[0][0] <= now_s:
            self._arrived += self._due.popleft()[1]
        if not self._arrived:
            return b""
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    def next_due_s(self) -> float | None:
        """Return when bytes can be taken, or None where none are on the way."""
        if self._arrived:
            return float("-inf")
        return self._due[0][0] if self._due else None

    def arrive(self) -> bool:
        """Let the next bytes arrive: their time has come, whatever rounding says.

        Returns whether there were any.
        """
        if not self._due:
            return False
        self._arrived += self._due.popleft()[1]
        return True


class MemoryHost:
    """Puts a simulated line into the program, at the end of `connect`.

    One connection at a time. Lives as long as the simulated instrument; no connection
    outlives an `unplug`.

    Args:
        line: The device and its line.
        keeps_late: Whether replies still on the way when a connection closes reach the
            next one, as on a serial line or behind a gateway.
    """

    def __init__(self, line: SimLine, *, keeps_late: bool = False) -> None:
        """Watch `line`."""
        self.line = line
        self._keeps_late = keeps_late
        self._wire = _Wire()
        self._stream: MemoryStream | None = None
        line.watch(self._note_change)

    def __repr__(self) -> str:
        """Return the line and whether anybody is connected."""
        return f"<MemoryHost {self.line!r} {'connected' if self._stream else 'free'}>"

    async def connect(self) -> MemoryStream:
        """Connect to the simulated device.

        Raises:
            ConnectError: It is unplugged, or somebody is connected already.
        """
        await trio.lowlevel.checkpoint()
        if not self.line.plugged:
            raise ConnectError("the simulated device is unplugged")
        if self._stream is not None and not self._stream.closed:
            raise ConnectError("the simulated line is in use")
        if not self._keeps_late:
            self._wire = _Wire()
        self._stream = MemoryStream(self.line, self._wire)
        return self._stream

    def _note_change(self) -> None:
        if self.line.plugged:
            self._wire.add(self.line.collect(trio.current_time()))
            return
        if self._stream is not None:
            self._stream.cut()
        self._wire = _Wire()


class MemoryStream:
    """One connection to a simulated line. Made by `MemoryHost.connect`."""

    def __init__(self, line: SimLine, wire: _Wire) -> None:
        """Carry bytes between `line` and the program."""
        self._line = line
        self._wire = wire
        self._clock = current_clock()
        self._cut = False
        self._gone = trio.Event()
        self.closed = False

    def __repr__(self) -> str:
        """Return the connection's condition."""
        condition = "closed" if self.closed else "lost" if self._cut else "open"
        return f"<MemoryStream {condition}>"

    def cut(self) -> None:
        """Break the connection from the far end."""
        self._cut = True
        self._gone.set()
        self._wire.changed.unpark_all()

    def write_nowait(self, data: bytes) -> int:
        """Hand over all of `data`."""
        if self.closed or self._cut:
            raise self._over()
        self._wire.add(self._line.receive(data, self._clock.now_s()))
        return len(data)

    async def wait_writable(self) -> None:
        """Return after a checkpoint: the simulated line takes everything."""
        await trio.lowlevel.checkpoint()

    def read_nowait(self) -> bytes:
        """Return what has arrived, or b"" when nothing has."""
        if self.closed or self._cut:
            raise self._over()
        return self._wire.take(self._clock.now_s())

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived or the far end went away."""
        waited = False
        while not (self._cut or self.closed):
            due_s = self._wire.next_due_s()
            if due_s is not None and due_s <= self._clock.now_s():
                break
            waited = True
            if due_s is None:
                await self._wire.changed.park()
                continue
            if await self._clock.park_until(self._wire.changed, due_s) and self._wire.arrive():
                break
        if not waited:
            await trio.lowlevel.checkpoint()
        if self.closed:
            raise LineClosedError("the line was closed meanwhile")

    async def wait_readable_until(self, when_s: float) -> bool:
        """Wait like `wait_readable`, but not beyond `when_s`; return whether that did."""
        due_s = self._wire.next_due_s()
        if due_s is not None and due_s < when_s:
            # Whatever happens meanwhile can only end the wait earlier.
            await self.wait_readable()
            return True
        with trio.CancelScope(deadline=when_s) as scope:
            await self.wait_readable()
        return not scope.cancelled_caught

    def flush_input(self) -> None:
        """Discard unread input."""
        self._wire.take(self._clock.now_s())

    def count_errors(self, counters: LineCounters) -> None:
        """Count nothing: a simulated line has no driver."""

    async def wait_lost(self, every_s: float) -> None:
        """Return once the far end is gone or the stream is closed."""
        del every_s  # nothing to look at: the loss is an event
        await self._gone.wait()

    async def aclose(self) -> None:
        """Close."""
        if not self.closed:
            self.closed = True
            self._gone.set()
            self._wire.changed.unpark_all()
        await trio.lowlevel.checkpoint()

    def _over(self) -> LineClosedError | PeerLostError:
        if self.closed:
            return LineClosedError("the line is closed")
        return PeerLostError("the simulated device was unplugged")
