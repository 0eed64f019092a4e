"""Serial ports that a thread reads, as on Windows, on a port made up for it.

The conformance checks run on it too, over pseudo-terminals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import serial
import trio
import trio.testing

from transports import (
    READ_WITHIN_S,
    ConnectError,
    ConnectProblem,
    LineClosedError,
    PeerLostError,
    SerialSettings,
    ThreadedSerialStream,
)
from transports import serial as ports


class MadeUpPort:
    """Behaves as pyserial's port on Windows does, as far as its source tells.

    Attributes:
        written: What was written.
        closed_by: The thread that closed it.
        reads: The sizes that were asked for.
    """

    port = "COM3"

    def __init__(self, *, hold_output: bool = False, deaf: int = 0) -> None:
        """Keep output if asked; do not hear the first `deaf` cancellations."""
        self.written = b""
        self.closed_by: threading.Thread | None = None
        self.reads: list[int] = []
        self.cancelled = 0
        self._hold_output = hold_output
        self._deaf = deaf
        self._waiting = bytearray()
        self._gone = False
        self._cancel = False
        self._changed = threading.Condition()

    @property
    def in_waiting(self) -> int:
        """How much can be read."""
        self._check()
        return len(self._waiting)

    @property
    def out_waiting(self) -> int:
        """How much has not left."""
        self._check()
        return len(self.written) if self._hold_output else 0

    def read(self, size: int = 1, /) -> bytes:
        """Wait for all of `size` bytes, the timeout, or a cancellation."""
        self.reads.append(size)
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._waiting) >= size or self._cancel or self._gone, READ_WITHIN_S
            )
            self._cancel = False
            self._check()
            data = bytes(self._waiting[:size])
            del self._waiting[:size]
            return data

    def write(self, data: bytes, /) -> int:
        """Take all of it."""
        self._check()
        self.written += data
        return len(data)

    def cancel_read(self) -> None:
        """End a read that goes on."""
        assert self.closed_by is None
        self.cancelled += 1
        if self.cancelled > self._deaf:
            with self._changed:
                self._cancel = True
                self._changed.notify_all()

    def reset_input_buffer(self) -> None:
        """Forget what has arrived."""
        self._check()
        self._waiting.clear()

    def reset_output_buffer(self) -> None:
        """Forget what has not left."""
        self.written = b""

    def close(self) -> None:
        """Close."""
        self.closed_by = threading.current_thread()

    def arrive(self, data: bytes) -> None:
        """Have bytes arrive."""
        with self._changed:
            self._waiting += data
            self._changed.notify_all()

    def vanish(self) -> None:
        """Be unplugged."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _check(self) -> None:
        if self._gone:
            raise serial.SerialException("ClearCommError failed (PermissionError(13, 'no access'))")


async def test_what_arrives_is_delivered() -> None:
    """Bytes come in order and at once, however many arrive together."""
    port = MadeUpPort()
    stream = ThreadedSerialStream(port)
    assert stream.read_nowait() == b""
    with trio.fail_after(READ_WITHIN_S / 2):
        for text in (b"A", b" longer reply\r\n"):
            port.arrive(text)
            heard = b""
            while heard != text:
                await stream.wait_readable()
                heard += stream.read_nowait()
    assert stream.write_nowait(b"*IDN?\n") == 6
    assert port.written == b"*IDN?\n"
    await stream.aclose()


async def test_closing_stops_the_thread() -> None:
    """A reader that waits is cancelled; the port is closed by its thread, and only once."""
    port = MadeUpPort(deaf=3)
    stream = ThreadedSerialStream(port)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(LineClosedError):
                await stream.wait_readable()

        nursery.start_soon(wait)
        nursery.start_soon(stream.wait_lost, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(READ_WITHIN_S / 2):
            await stream.aclose()
    await stream.aclose()
    assert port.closed_by is not None
    assert not port.closed_by.is_alive()
    for call in (stream.read_nowait, lambda: stream.write_nowait(b"x")):
        with pytest.raises(LineClosedError):
            call()


async def test_unplugged() -> None:
    """A port that vanishes is a loss for who waits, reads, writes and flushes."""
    port = MadeUpPort()
    stream = ThreadedSerialStream(port)
    port.arrive(b"last words")
    await stream.wait_readable()
    port.vanish()
    with trio.fail_after(READ_WITHIN_S):
        await stream.wait_lost(60.0)
        await stream.wait_readable()
    assert stream.read_nowait() == b"last words"
    calls: list[Callable[[], object]] = [
        stream.read_nowait,
        lambda: stream.write_nowait(b"x"),
        stream.flush_input,
    ]
    for call in calls:
        with pytest.raises(PeerLostError, match="unplugged"):
            call()
    await stream.aclose()


async def test_output_that_does_not_leave() -> None:
    """While output waits nothing more is taken; a cancelled closing discards it."""
    port = MadeUpPort(hold_output=True)
    stream = ThreadedSerialStream(port)
    assert stream.write_nowait(b"first") == 5
    assert stream.write_nowait(b"second") == 0
    with trio.move_on_after(0.05) as waiting:
        await stream.wait_writable()
    assert waiting.cancelled_caught
    with trio.move_on_after(0.05) as closing:
        await stream.aclose()
    assert closing.cancelled_caught
    assert port.written == b""


async def test_flushing_forgets_what_was_delivered() -> None:
    """What had arrived before answers no question."""
    port = MadeUpPort()
    stream = ThreadedSerialStream(port)
    port.arrive(b"late")
    await stream.wait_readable()
    stream.flush_input()
    assert stream.read_nowait() == b""
    await stream.aclose()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("could not open port 'COM9': FileNotFoundError(2, '')", ConnectProblem.NO_SUCH_PORT),
        ("could not open port 'COM3': PermissionError(13, 'denied')", ConnectProblem.IN_USE),
    ],
)
async def test_opening_on_windows(
    text: str, problem: ConnectProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pyserial's errors there have their number in the text only; the kind is found."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise serial.SerialException(text)

    monkeypatch.setattr(serial, "Serial", fail)
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ConnectError) as failed:
        await ports.connect_serial("COM3", SerialSettings())
    assert failed.value.problem is problem
