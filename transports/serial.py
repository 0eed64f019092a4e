"""Byte streams over serial ports.

pyserial opens, configures and locks. On POSIX, reading and writing use a duplicate of its
descriptor, without blocking and without threads; on Windows a thread reads each port.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import serial
import trio

from .address import SerialSettings
from .base import LineCounters
from .clock import current_clock
from .errors import ConnectError, ConnectProblem, LineClosedError, PeerLostError
from .stream import ByteStream
from .threaded_serial import READ_WITHIN_S, ThreadedSerialStream

if sys.platform != "win32":
    import fcntl
    import grp
    import termios

    _OPEN_ERRORS: Final = (OSError, ValueError, termios.error)
else:
    _OPEN_ERRORS: Final = (OSError, ValueError)

READ_SIZE: Final = 4_096
OUTPUT_CHECK_S: Final = 0.002

# Linux asm-generic/ioctls.h and linux/serial.h: 11 counters (cts, dsr, rng, dcd, rx, tx,
# frame, overrun, parity, brk, buf_overrun) and 9 reserved words.
_TIOCGICOUNT: Final = 0x545D
_ICOUNT: Final = struct.Struct("20i")
_ICOUNT_FRAME: Final = 6
_ICOUNT_PARITY: Final = 8

# Opening may hang in a driver: it must not use up the threads of anybody else.
_OPEN_LIMITER: Final = trio.CapacityLimiter(256)


class SerialStream:
    """A serial port on POSIX, as a line needs it. Made by `connect_serial`."""

    def __init__(self, port: serial.Serial) -> None:
        """Own an open `port`."""
        self._port = port
        self._fd = os.dup(port.fileno())
        self._stream = trio.lowlevel.FdStream(self._fd)
        self._closed = False
        # The driver counts since it was loaded. None where it does not count at all.
        self._counted = _line_errors(self._fd)

    def __repr__(self) -> str:
        """Return the port and whether it is open."""
        return f"<SerialStream {self._port.port} {'closed' if self._closed else 'open'}>"

    def write_nowait(self, data: bytes) -> int:
        """Hand over as much of `data` as is taken at once."""
        if self._closed:
            raise LineClosedError("the line is closed")
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _lost(error) from error

    async def wait_writable(self) -> None:
        """Wait until more can be written."""
        if self._closed:
            raise LineClosedError("the line is closed")
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except trio.ClosedResourceError as error:
            raise LineClosedError("the line was closed meanwhile") from error

    def read_nowait(self) -> bytes:
        """Return what has arrived, or b"" when nothing has."""
        if self._closed:
            raise LineClosedError("the line is closed")
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _lost(error) from error
        if not data:
            raise PeerLostError("the port was unplugged")
        return data

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived or the far end went away."""
        if self._closed:
            raise LineClosedError("the line is closed")
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError as error:
            raise LineClosedError("the line was closed meanwhile") from error

    def flush_input(self) -> None:
        """Discard what the driver holds of unread input."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            raise _lost(error) from error

    def count_errors(self, counters: LineCounters) -> None:
        """Add the parity and framing errors that the driver counted since last time."""
        if self._closed or self._counted is None:
            return
        now = _line_errors(self._fd)
        if now is not None:
            counters.framing_errors += max(0, now[0] - self._counted[0])
            counters.parity_errors += max(0, now[1] - self._counted[1])
            self._counted = now

    async def wait_lost(self, every_s: float) -> None:
        """Return once the port is gone or the stream is closed."""
        while not (self._closed or self._is_gone()):  # noqa: ASYNC110 - no event tells
            await trio.sleep(every_s)

    async def aclose(self) -> None:
        """Close, letting output that was handed over leave first.

        Cancellation discards that output and closes at once. Closing twice is harmless.
        """
        if self._closed:
            return
        self._closed = True
        try:
            while _unsent(self._fd):  # noqa: ASYNC110 - no event tells
                await trio.sleep(OUTPUT_CHECK_S)
        finally:
            self._close_now()
        await trio.lowlevel.checkpoint()

    def _close_now(self) -> None:
        # The driver would wait for unsent output, half a minute behind a stopped flow.
        with suppress(OSError, termios.error):  # gone, and its output with it
            termios.tcflush(self._fd, termios.TCOFLUSH)
        self._stream.close()
        self._port.close()

    def _is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)
        return bool(poll.poll(0))


async def connect_serial(path: str, settings: SerialSettings) -> ByteStream:
    """Open the serial port at `path`, lock it and set it up.

    Cancelling abandons an opening that hangs; a port that opens later is closed again.

    Raises:
        ConnectError: The port cannot be opened; the message says why.
    """
    opening = _Opening(path, settings)
    try:
        port = await current_clock().run_sync(
            opening.run, limiter=_OPEN_LIMITER, abandon_on_cancel=True
        )
    except _OPEN_ERRORS as error:
        reason, problem = _in_words(error, path, settings)
        raise ConnectError(reason, address=path, problem=problem) from error
    except trio.Cancelled:
        opening.abandon()
        raise
    if sys.platform == "win32":
        return ThreadedSerialStream(port)
    return SerialStream(port)


class _Opening:
    """Opens a port in a thread; closes it again when nobody waits for it any more."""

    def __init__(self, path: str, settings: SerialSettings) -> None:
        self._path = path
        self._settings = settings
        self._lock = threading.Lock()
        self._abandoned = False
        self._port: serial.Serial | None = None

    def run(self) -> serial.Serial:
        chosen = self._settings
        windows = sys.platform == "win32"
        port = serial.Serial(
            # A path is followed anew each time: an adapter plugged in again may have
            # another node behind its link. A COM port's name is no path.
            self._path if windows else os.path.realpath(self._path),
            baudrate=chosen.baudrate,
            bytesize=chosen.bytesize,
            parity=chosen.parity,
            stopbits=chosen.stopbits,
            xonxoff=chosen.xonxoff,
            rtscts=chosen.rtscts,
            dsrdtr=chosen.dsrdtr,
            timeout=READ_WITHIN_S if windows else 0,
            write_timeout=0,
            exclusive=True,
        )
        try:
            _prepare(port, chosen)
        except BaseException:
            port.close()
            raise
        with self._lock:
            self._port = port
            if self._abandoned:
                port.close()
        return port

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._port is not None:
                self._port.close()


def _lost(error: Exception) -> PeerLostError:
    return PeerLostError(f"the port was unplugged: {_strerror(error)}")


def _strerror(error: Exception) -> str:
    code = _errno(error)
    return os.strerror(code) if code else str(error)


def _errno(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # termios.error is no OSError, but carries the same two arguments.
    first = error.args[0] if error.args else 0
    if isinstance(first, int):
        return first
    # pyserial puts another's error into its own text, without the number.
    context = error.__context__
    return _errno(context) if isinstance(context, Exception) else 0


def _windows_errno(error: Exception) -> int:
    """Return the number of an error; on Windows pyserial has it in its text only."""
    # Windows refuses access to a port that is open elsewhere.
    if "FileNotFoundError" in str(error):
        return errno.ENOENT
    return errno.EBUSY if "PermissionError" in str(error) else _errno(error)


def _in_words(error: Exception, path: str, settings: SerialSettings) -> tuple[str, ConnectProblem]:
    """Return why a port could not be opened, in words and as a kind."""
    match _windows_errno(error) if sys.platform == "win32" else _errno(error):
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            reason = "there is no such port; is the instrument plugged in?"
            return reason, ConnectProblem.NO_SUCH_PORT
        case errno.EACCES | errno.EPERM:
            reason = f"no permission to open the port; {_permission(path)}"
            return reason, ConnectProblem.NO_PERMISSION
        case errno.EAGAIN | errno.EBUSY:
            return "the port is in use by another program", ConnectProblem.IN_USE
        case errno.EINVAL:
            reason = f"the port does not take {settings}: {_strerror(error)}"
            return reason, ConnectProblem.BAD_SETTINGS
        case 0 if isinstance(error, ValueError):
            reason = f"the port does not take {settings}: {error}"
            return reason, ConnectProblem.BAD_SETTINGS
        case errno.ENOTTY | errno.EISDIR:
            reason = f"the port cannot be opened: it is no serial port ({_strerror(error)})"
            return reason, ConnectProblem.NOT_A_PORT
        case _:
            return f"the port cannot be opened: {_strerror(error)}", ConnectProblem.OTHER


def _permission(path: str) -> str:
    """Return what gives a user the right to open a port."""
    if sys.platform == "win32":
        return "run as a user who may"
    try:
        number = Path(path).stat().st_gid
        group = grp.getgrgid(number).gr_name
    except (OSError, KeyError):
        return "the folder it is in keeps its owner to itself"
    return f"join its group: sudo usermod -aG {group} $USER, then log in again"


def _prepare(port: serial.Serial, settings: SerialSettings) -> None:
    """Set up what pyserial does not by itself."""
    if sys.platform == "win32":
        if settings.read_buffer_size or settings.write_buffer_size:
            port.set_buffer_size(settings.read_buffer_size or 4_096, settings.write_buffer_size)
        return
    # An empty read is to mean a hang-up; pyserial's setting makes it mean "nothing yet".
    attributes = termios.tcgetattr(port.fileno())
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(port.fileno(), termios.TCSANOW, attributes)


def _unsent(fd: int) -> int:
    """Return how many bytes wait in the driver; none where it cannot tell."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0


def _line_errors(fd: int) -> tuple[int, int] | None:
    """Return framing and parity errors, or None where the driver does not count."""
    if sys.platform != "linux":
        return None
    try:
        counts = _ICOUNT.unpack(fcntl.ioctl(fd, _TIOCGICOUNT, bytes(_ICOUNT.size)))
    except OSError:
        return None
    return counts[_ICOUNT_FRAME], counts[_ICOUNT_PARITY]
