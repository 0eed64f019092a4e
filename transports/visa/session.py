"""One VISA resource, used by the thread of its bus: every method blocks.

Nothing here is safe to call from two threads; what is says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from transports.address import SerialSettings
from transports.base import Exchange, Reply, Signal
from transports.errors import (
    ForeignReplyError,
    FrameError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
)
from transports.framing import Framing, Lines
from transports.resource import Medium

from .faults import open_error, translated, use_error
from .inside import Inside, close_leftovers

if TYPE_CHECKING:
    from pyvisa.constants import ResourceAttribute
    from pyvisa.typing import VISASession

    from .library import Library

_OPEN_BLOCK: Final = b"#0"
_SECOND_NS: Final = 1_000_000_000


@frozen
class Settings:
    """What the sessions of one bus have in common.

    Attributes:
        medium: What carries the messages.
        framing: How replies are told apart.
        max_frame: The longest reply that is no block, in bytes.
        chunk_size: How many bytes are read at once.
        serial: The line settings of a serial port, else None.
        write_within_s: How long a write may take.
        mono_ns: The clock of the stamps, and of the deadlines here.
    """

    medium: Medium
    framing: Framing
    max_frame: int
    chunk_size: int
    serial: SerialSettings | None
    write_within_s: float
    mono_ns: Callable[[], int]


class Session:
    """An open resource. Made by `open_session`."""

    def __init__(self, library: Library, handle: VISASession, settings: Settings) -> None:
        """Set the session up.

        Raises:
            OSError: The connection was refused.
        """
        from pyvisa.constants import VI_ATTR_ASRL_AVAIL_NUM, ResourceAttribute, StatusCode

        self._visa = library.visa
        self._handle = handle
        self._settings = settings
        self._attribute = ResourceAttribute
        # By number: PyVISA's name for it is misspelt, and may be mended one day.
        self._waiting_attribute = ResourceAttribute(VI_ATTR_ASRL_AVAIL_NUM)
        self._more: Final = StatusCode.success_max_count_read
        self.inside = Inside(library.visa, handle)
        self._framer = settings.framing.framer(settings.max_frame)
        # Whether the medium itself marks the end of a message.
        self._marks_ends = settings.medium not in (Medium.SERIAL, Medium.TCP)
        terminator = settings.framing.terminator if isinstance(settings.framing, Lines) else b""
        self._terminator = terminator[-1:]
        self._terminated: bool | None = None
        self._timeout_ms = -1
        # A read that stops at the chunk's size is nothing to warn of, nor is one at END.
        self._quiet = cast(
            "AbstractContextManager[object]",
            library.visa.ignore_warning(handle, self._more, StatusCode.success_device_not_present),
        )
        self._quiet.__enter__()
        if settings.serial is not None:
            self._set_up_port(settings.serial)
        if self._terminator and not self._marks_ends:
            self._set(ResourceAttribute.termchar, self._terminator[0])
        self._told: Callable[..., None] | None = None
        # How the message that is being read began, its first two bytes.
        self._begun = b""
        self._stop_at_terminator(stop=bool(self._terminator) and not self._marks_ends)

    def converse(self, exchange: Exchange) -> tuple[Reply, int]:
        """Make one exchange; return the reply, and how many bytes lay there unasked.

        Raises:
            TransportError: What went wrong; everything is translated.
        """
        mono_ns = self._settings.mono_ns
        try:
            unasked = self.discard_input()
            sent_ns = mono_ns()
            data = self._answer(exchange, sent_ns)
            return Reply(data, sent_ns, mono_ns()), unasked
        except ReplyTimeoutError as silent:
            silent.waited_s = exchange.reply_within_s
            raise
        except TransportError:
            raise
        except Exception as error:
            raise use_error(error) from error

    def ask_fence(self, fence: Exchange, by_ns: int) -> bool:
        """Ask a fence and discard everything before its answer; return whether it came.

        Raises:
            TransportError: The session is of no use any more.
        """
        try:
            with translated():
                self.discard_input()
                self.write(fence.request)
                return self._find_answer(fence, by_ns)
        except ReplyTimeoutError:
            return False

    def clear(self) -> None:
        """Clear the device, and forget what is held of a reply.

        Raises:
            TransportError: It cannot be cleared: open it anew.
        """
        self._framer.clear()
        with translated():
            self._visa.clear(self._handle)

    def tell_requests(self, note: Callable[[], None]) -> bool:
        """Have `note` called in a thread of the library when the device requests service.

        Returns whether the library can tell; then each request is to be followed by
        `take_request`, without which there is no other.
        """
        from pyvisa.constants import EventMechanism, EventType

        def handle(*_: object) -> int:
            note()
            return 0  # what a call from C has to return, whatever PyVISA's types say

        # Kept here: the library keeps no reference.
        self._told = cast("Callable[..., None]", handle)
        kind = EventType.service_request
        try:
            with translated():
                self._visa.install_visa_handler(self._handle, kind, self._told)
                self._visa.enable_event(self._handle, kind, EventMechanism.handler)
        except TransportError:
            return False
        return True

    def take_request(self) -> None:
        """Read the status byte that goes with a request, so that there can be another."""
        with suppress(TransportError), translated():
            self._visa.read_stb(self._handle)

    def drop_input(self) -> None:
        """Discard what lies there unasked, where that can be seen.

        Raises:
            TransportError: The session is of no use any more.
        """
        with translated():
            self.discard_input()

    def close(self) -> None:
        """Close the session, whatever its condition. Twice is harmless."""
        self._quiet.__exit__(None, None, None)
        with suppress(Exception):
            self._visa.uninstall_all_visa_handlers(self._handle)
        try:
            self._visa.close(self._handle)
        except Exception:  # noqa: BLE001, S110 - what is broken is closed all the same
            pass
        finally:
            self.inside.close()

    def discard_input(self) -> int:
        """Discard what lies there unasked, where that can be seen; return how many bytes.

        An instrument whose messages have ends discards it by itself when it is asked next.
        """
        count = self._framer.clear()
        self._begun = b""
        if self._marks_ends:
            return count
        if self._settings.medium is Medium.SERIAL and not self.inside.simulated:
            while waiting := self._waiting():
                self._stop_at_terminator(stop=False)
                count += len(self._read(waiting, _SECOND_NS)[0])
        elif self.inside.sees_input:
            while self.inside.has_input() and not self.inside.lost():
                count += len(self._read(1, _SECOND_NS)[0])
        else:
            # pyvisa-sim does not look at all unless it has a moment.
            moment_ns = 1_000_000 if self.inside.simulated else 0
            with suppress(ReplyTimeoutError):
                while True:
                    count += len(self._read(1, moment_ns)[0])
        return count

    def write(self, data: bytes) -> None:
        """Send a request."""
        if not data:
            return
        self._limit(round(self._settings.write_within_s * _SECOND_NS))
        try:
            self._visa.write(self._handle, data)
        except Exception as error:
            why = use_error(error)
            if isinstance(why, ReplyTimeoutError):
                # Half a request stays in the far end's input: only a new session helps.
                why = PeerLostError("the far end takes no more bytes", code=why.code)
            raise why from error

    def _answer(self, exchange: Exchange, sent_ns: int) -> bytes:
        within_s = exchange.reply_within_s
        if exchange.signal is not None:
            return self._signal(exchange.signal, within_s)
        self.write(exchange.request)
        if within_s is None:
            return b""
        return self._receive(exchange, sent_ns + round(within_s * _SECOND_NS))

    def _find_answer(self, fence: Exchange, by_ns: int) -> bool:
        while self._settings.mono_ns() < by_ns:
            try:
                frame = self._read_frame(by_ns)
            except FrameError:
                continue  # garbage is discarded like any other late reply
            if fence.accepts is None or fence.accepts(frame):
                return True
        return False

    def _receive(self, exchange: Exchange, by_ns: int) -> bytes:
        frame = self._read_frame(by_ns)
        _check(exchange, frame, "the reply answers something else")
        if exchange.quiet_s is None:
            return frame
        frames = [frame]
        room = self._settings.max_frame - len(frame)
        quiet_ns = round(exchange.quiet_s * _SECOND_NS)
        while (part := self._read_part(quiet_ns)) is not None:
            _check(exchange, part, "a part of the reply answers something else")
            room -= len(part) + 1
            if room < 0:
                limit = self._settings.max_frame
                raise FrameError(f"no silence within {limit} bytes", received=part)
            frames.append(part)
        return b"\n".join(frames)

    def _read_part(self, quiet_ns: int) -> bytes | None:
        """Return the next of several frames, or None when it stays quiet instead."""
        now_ns = self._settings.mono_ns
        if (frame := self._framer.next_frame()) is not None:
            return frame
        try:
            # One byte by itself: a read that times out loses what it had read.
            frame = self._read_more(1, now_ns() + quiet_ns)
        except ReplyTimeoutError:
            return None
        try:
            return self._read_frame(now_ns() + quiet_ns) if frame is None else frame
        except ReplyTimeoutError as error:
            raise FrameError("the last part of the reply has no end") from error

    def _read_frame(self, by_ns: int) -> bytes:
        """Return the next frame.

        Raises:
            ReplyTimeoutError: It did not come in time.
            FrameError: What came is none.
        """
        while True:
            missing = self._framer.missing()
            if self._marks_ends or (missing == 1 and self._terminator):
                self._stop_at_terminator(stop=not self._marks_ends)
                count = self._settings.chunk_size
            else:
                self._stop_at_terminator(stop=False)
                count = min(missing, self._settings.chunk_size)
            frame = self._read_more(count, by_ns)
            if frame is not None:
                return frame

    def _read_more(self, count: int, by_ns: int) -> bytes | None:
        """Read once; return the frame that this completes, or None."""
        left_ns = by_ns - self._settings.mono_ns()
        if left_ns <= 0:
            raise ReplyTimeoutError("no reply")
        data, ended = self._read(count, left_ns)
        self._framer.feed(data)
        if not self._marks_ends:
            return self._framer.next_frame()
        self._begun = (self._begun + data[:2])[:2]
        if ended:
            self._begun = b""
            frame = self._framer.end_message()
            if frame is None:
                raise ReplyTimeoutError("an empty message came")
            return frame
        # Some libraries do not say that a message ended when it filled the chunk. Only a
        # block without a length has nothing else to end it.
        return None if self._begun == _OPEN_BLOCK else self._framer.next_frame()

    def _read(self, count: int, within_ns: int) -> tuple[bytes, bool]:
        """Read at most `count` bytes; return them, and whether something ended there."""
        self._limit(within_ns)
        try:
            data, status = self._visa.read(self._handle, count)
        except Exception as error:
            raise use_error(error) from error
        return data, status != self._more

    def _signal(self, signal: Signal, within_s: float | None) -> bytes:
        from pyvisa import constants

        self._limit(round((within_s or self._settings.write_within_s) * _SECOND_NS))
        visa, handle = self._visa, self._handle
        match signal:
            case Signal.STATUS_BYTE:
                return str(visa.read_stb(handle)[0]).encode()
            case Signal.SERVICE_REQUEST:
                kind = constants.EventType.service_request
                visa.enable_event(handle, kind, constants.EventMechanism.queue)
                context = visa.wait_on_event(handle, kind, self._timeout_ms)[1]
                visa.close(context)
                return str(visa.read_stb(handle)[0]).encode()
            case Signal.CLEAR:
                visa.clear(handle)
            case Signal.TRIGGER:
                status = visa.assert_trigger(handle, constants.TriggerProtocol.default)
                visa.handle_return_value(handle, status)
            case Signal.LOCK:
                visa.lock(handle, constants.Lock.exclusive, self._timeout_ms)
            case Signal.UNLOCK:
                visa.unlock(handle)
        return b""

    def _limit(self, within_ns: int) -> None:
        """Have VISA give up after so long; it counts in milliseconds."""
        timeout_ms = max(0, math.ceil(within_ns / 1_000_000))
        if timeout_ms != self._timeout_ms:
            self._set(self._attribute.timeout_value, timeout_ms)
            self._timeout_ms = timeout_ms

    def _waiting(self) -> int:
        return int(self._visa.get_attribute(self._handle, self._waiting_attribute)[0] or 0)

    def _stop_at_terminator(self, *, stop: bool) -> None:
        """Have reads end at the terminator, or only when they have all that was asked for."""
        if self._terminated is stop:
            return
        self._terminated = stop
        if self._settings.medium is Medium.SERIAL:
            from pyvisa.constants import SerialTermination

            end = SerialTermination.termination_char if stop else SerialTermination.none
            self._set(self._attribute.asrl_end_in, end)
        self._set(self._attribute.termchar_enabled, stop)

    def _set_up_port(self, serial: SerialSettings) -> None:
        from pyvisa.constants import ControlFlow, Parity, StopBits

        attribute = self._attribute
        flow = ControlFlow.none
        for on, each in (
            (serial.xonxoff, ControlFlow.xon_xoff),
            (serial.rtscts, ControlFlow.rts_cts),
            (serial.dsrdtr, ControlFlow.dtr_dsr),
        ):
            flow |= each if on else ControlFlow.none
        parities = dict(zip("NOEMS", Parity, strict=True))
        self._set(attribute.asrl_baud_rate, serial.baudrate)
        self._set(attribute.asrl_data_bits, serial.bytesize)
        self._set(attribute.asrl_parity, parities[serial.parity])
        self._set(attribute.asrl_stop_bits, StopBits(round(serial.stopbits * 10)))
        self._set(attribute.asrl_flow_control, flow)

    def _set(self, attribute: ResourceAttribute, value: object) -> None:
        self._visa.set_attribute(self._handle, attribute, value)


def open_session(library: Library, name: str, settings: Settings, within_s: float) -> Session:
    """Open a resource.

    Raises:
        ConnectError: It cannot be opened now; the message says why.
    """
    from pyvisa.constants import AccessModes

    try:
        handle, status = library.visa.open(
            library.manager, name, AccessModes.no_lock, max(1, round(within_s * 1_000))
        )
        if status < 0:
            library.visa.handle_return_value(None, status)
    except Exception as error:
        close_leftovers(error)
        raise open_error(error, name) from error
    try:
        return Session(library, handle, settings)
    except Exception as error:
        library.visa.close(handle)
        raise open_error(error, name) from error


def _check(exchange: Exchange, frame: bytes, wrong: str) -> None:
    if exchange.accepts is not None and not exchange.accepts(frame):
        raise ForeignReplyError(wrong, received=frame)
