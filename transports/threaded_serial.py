"""Byte streams over serial ports where the event loop cannot wait for them: on Windows.

One thread per port reads and delivers to the event loop. Written from pyserial's source and
tested against ports made up for it and against pseudo-terminals; never run on Windows.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final, Protocol

import trio

from .base import LineCounters
from .errors import LineClosedError, PeerLostError

READ_WITHIN_S: Final = 0.5
"""The port's own read timeout: a cancellation that comes between two reads waits for it."""

OUTPUT_CHECK_S: Final = 0.002
STOP_CHECK_S: Final = 0.01


class Port(Protocol):
    """What is needed of a pyserial port with `timeout=READ_WITHIN_S` and `write_timeout=0`."""

    @property
    def port(self) -> str | None:
        """Its name."""
        ...

    @property
    def in_waiting(self) -> int:
        """How many bytes can be read at once; an OSError once the port is gone."""
        ...

    @property
    def out_waiting(self) -> int:
        """How many bytes have not left yet; an OSError once the port is gone."""
        ...

    def read(self, size: int = 1, /) -> bytes:
        """Return up to `size` bytes: fewer after the timeout or `cancel_read`."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Hand over `data` without waiting and return how much was taken."""
        ...

    def cancel_read(self) -> None:
        """End a read that another thread waits in."""
        ...

    def reset_input_buffer(self) -> None:
        """Discard unread input."""
        ...

    def reset_output_buffer(self) -> None:
        """Discard output that has not left."""
        ...

    def close(self) -> None:
        """Close the port."""
        ...


class ThreadedSerialStream:
    """A serial port that a thread reads, as a line needs it. Made inside a Trio run.

    Only the thread reads; the event loop writes, which does not wait.
    """

    def __init__(self, port: Port) -> None:
        """Own an open `port` and start to read it."""
        self._port = port
        self._token = trio.lowlevel.current_trio_token()
        self._arrived = bytearray()
        # Renewed whenever what was waited for has come.
        self._readable = trio.Event()
        # Set once the port is gone or closed; why it is gone.
        self._ended = trio.Event()
        self._lost: str | None = None
        self._closed = False
        # The driver may still read from it: it is kept until it has left.
        self._leaving = b""
        self._stop = threading.Event()
        # The thread closes the port, which must not be cancelled from then on.
        self._closing = threading.Lock()
        self._port_closed = False
        # A daemon: a driver that hangs in a read does not keep the program from ending.
        self._thread = threading.Thread(target=self._read, name=f"{port.port} reader", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Return the port and whether it is open."""
        state = "closed" if self._closed else "open"
        return f"<ThreadedSerialStream {self._port.port} {state}>"

    def write_nowait(self, data: bytes) -> int:
        """Hand over `data`, or nothing while earlier output has not left."""
        self._check()
        try:
            if self._port.out_waiting:
                return 0
            self._leaving = data
            return self._port.write(data) or 0
        except OSError as error:
            raise self._gone(error) from error

    async def wait_writable(self) -> None:
        """Wait until more can be written."""
        self._check()
        try:
            while not self._closed and self._port.out_waiting:  # noqa: ASYNC110 - no event tells
                await trio.sleep(OUTPUT_CHECK_S)
        except OSError as error:
            raise self._gone(error) from error
        self._check_open()
        await trio.lowlevel.checkpoint()

    def read_nowait(self) -> bytes:
        """Return what has arrived, or b"" when nothing has."""
        self._check_open()
        if not self._arrived:
            self._check()
        data = bytes(self._arrived)
        self._arrived.clear()
        self._readable = trio.Event()
        return data

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived or the far end went away."""
        self._check_open()
        if self._arrived or self._lost is not None:
            await trio.lowlevel.checkpoint()
            return
        await self._readable.wait()
        self._check_open()

    def flush_input(self) -> None:
        """Discard unread input: what was delivered, and what the driver holds."""
        self._arrived.clear()
        self._check()
        try:
            self._port.reset_input_buffer()
        except OSError as error:
            raise self._gone(error) from error

    def count_errors(self, counters: LineCounters) -> None:
        """Count nothing: the driver does not say."""

    async def wait_lost(self, every_s: float) -> None:
        """Return once the port is gone or the stream is closed; the thread tells."""
        del every_s
        await self._ended.wait()

    async def aclose(self) -> None:
        """Close, letting output that was handed over leave first.

        Cancellation discards that output and closes at once. Closing twice is harmless.
        A driver that hangs in a read keeps its thread, and the port, until it returns.
        """
        if self._closed:
            return
        self._closed = True
        try:
            while self._lost is None and self._unsent():  # noqa: ASYNC110 - no event tells
                await trio.sleep(OUTPUT_CHECK_S)
        finally:
            self._discard_output()
            self._end()
            self._stop.set()
            self._cancel_read()
        # A cancellation that came between two reads of the thread was for nothing.
        while self._thread.is_alive():
            await trio.sleep(STOP_CHECK_S)
            self._cancel_read()
        await trio.lowlevel.checkpoint()

    # What the thread does, and what it has the event loop do.

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                # The first byte is waited for; asking for more would wait for them too.
                data = self._port.read(1)
                waiting = self._port.in_waiting  # raises once the port is gone
                if waiting:
                    data += self._port.read(waiting)
                if data:
                    self._tell(data, None)
        except OSError as error:
            self._tell(b"", error)
        finally:
            self._stop.wait()
            with self._closing, suppress(OSError):
                self._port_closed = True
                self._port.close()

    def _tell(self, data: bytes, error: OSError | None) -> None:
        try:
            self._token.run_sync_soon(self._deliver, data, error)
        except trio.RunFinishedError:
            self._stop.set()

    def _deliver(self, data: bytes, error: OSError | None) -> None:
        if self._closed:
            return
        self._arrived += data
        if error is not None:
            self._lost = _in_words(error)
            self._ended.set()
        self._readable.set()

    # State.

    def _cancel_read(self) -> None:
        with self._closing:
            if not self._port_closed:
                self._port.cancel_read()

    def _end(self) -> None:
        self._readable.set()
        self._ended.set()

    def _check_open(self) -> None:
        if self._closed:
            raise LineClosedError("the line is closed")

    def _check(self) -> None:
        self._check_open()
        if self._lost is not None:
            raise PeerLostError(self._lost)

    def _gone(self, error: OSError) -> PeerLostError:
        if self._lost is None:
            self._lost = _in_words(error)
            self._end()
        return PeerLostError(self._lost)

    def _unsent(self) -> int:
        try:
            return self._port.out_waiting
        except OSError:
            return 0

    def _discard_output(self) -> None:
        try:
            if self._lost is None and self._unsent():
                self._port.reset_output_buffer()
        except OSError:
            self._lost = self._lost or "the port was unplugged"


def _in_words(error: OSError) -> str:
    return f"the port was unplugged: {error}"
