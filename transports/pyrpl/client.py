"""The line to a board: one worker process, and calls that overtake one another.

What the line promises: a reply is returned for the call it answers, or not at all. Calls are
told apart by number, so a late or cancelled one disturbs nobody and the line is never stale.
A worker that ends, or does not answer its heart-beat, is a line that is lost: every call in
flight fails at once, and the next opening starts another worker.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import trio
from attrs import asdict, define, evolve, field

from transports.base import Exchange, LineCounters, Reply
from transports.board import BoardSettings
from transports.clock import Clock, SystemClock, current_clock
from transports.errors import (
    ConnectError,
    ForeignReplyError,
    LineBusyError,
    LineClosedError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
)
from transports.line_state import LineState
from transports.profile import BusProfile, Resync

from .wire import BrokenFrameError, Frame, FrameReader, Kind, encode, pack, unpack

_log: Final = logging.getLogger(__name__)

REDPITAYA: Final = BusProfile(
    name="redpitaya",
    resync=Resync.REOPEN,
    reply_within_s=5.0,
    connect_within_s=60.0,
    close_within_s=3.0,
    queue_depth=256,
    safe_s=5.0,
    attempts=1,
    status_poll_s=0.01,
)
"""A Red Pitaya behind its worker process. Programming the board's logic takes its time."""

COMMAND: Final = (sys.executable, "-m", "transports.pyrpl")
"""Starts a worker process."""

PING_EVERY_S: Final = 0.4
"""How often the worker is asked whether it is there, in seconds."""

HEARTBEAT_S: Final = 2.4
"""How long a worker may be silent before it is killed, in seconds."""

MAX_IN_FLIGHT: Final = 256

_CHUNK: Final = 65_536
_TAIL: Final = 20
_OVERSLEPT_S: Final = 0.3
_LAST_WORDS_S: Final = 0.5
_LINGER_S: Final = 3.0


class Emulator(Protocol):
    """A board that is emulated, and lives as long as the line to it."""

    async def start(self) -> tuple[str, int]:
        """Start it unless it runs, and return where: a host and a port.

        Raises:
            TransportError: It cannot be started.
        """
        ...

    async def aclose(self) -> None:
        """End it. Twice is harmless."""
        ...


@define(eq=False)
class _Call:
    """A call in flight.

    Attributes:
        replied: Set once there is a reply, or none will come.
        body: The reply.
        received_ns: When it came.
        lost: Why none will come.
    """

    replied: trio.Event = field(factory=trio.Event)
    body: bytes | None = None
    received_ns: int = 0
    lost: str = ""


class PyrplTransport:
    """The line to one Red Pitaya.

    Args:
        key: The canonical name of the bus.
        settings: Where the board is.
        profile: The numbers of the bus.
        emulator: What stands in for the board; None for a real one.
        command: What starts the worker process.
        heartbeat_s: How long the worker may be silent before it is killed, in seconds.
    """

    max_in_flight: int = MAX_IN_FLIGHT
    #: Nothing here blocks in a call that cannot be ended.
    stuck: bool = False

    def __init__(
        self,
        key: str,
        settings: BoardSettings,
        profile: BusProfile = REDPITAYA,
        *,
        emulator: Emulator | None = None,
        command: Sequence[str] = COMMAND,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """Make a closed line; no process is started before `open`."""
        self.key = key
        self.counters = LineCounters()
        #: Frames that belonged to no call any more: late replies to calls given up.
        self.dropped = 0
        self._settings = settings
        self._emulator = emulator
        self._profile = profile
        self._command = tuple(command)
        self._heartbeat_s = heartbeat_s
        self._clock: Clock = SystemClock()  # the run's own from `open` on
        self._number = 0
        self._worker: _WorkerProcess | None = None

    def __repr__(self) -> str:
        """Return the key, the state and the counts."""
        return f"<PyrplTransport {self.key} {self.state.name} {self.counters}>"

    @property
    def state(self) -> LineState:
        """The state of the line: READY or CLOSED."""
        worker = self._worker
        return LineState.CLOSED if worker is None or worker.lost else LineState.READY

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None while there is none."""
        return None if self._worker is None else self._worker.pid

    def owed(self, unit: str | None = None) -> Sequence[Exchange]:
        """Return nothing: late replies are told by their numbers."""
        del unit
        return ()

    async def open(self) -> None:
        """Start a worker and wait until it has reached the board.

        Raises:
            ConnectError: The worker says why not, or takes longer than `connect_within_s`.
        """
        if self._worker is not None:
            if not self._worker.lost:
                raise LineBusyError("the line is open already", address=self.key)
            await self._end_worker()
        clock = current_clock()
        if clock.virtual:
            raise ConnectError(
                "a worker process lives in real time, not in a simulation's; "
                "use redpitaya://sim without a virtual clock",
                address=self.key,
            )
        self._clock = clock
        within_s = self._profile.connect_within_s
        settings = await self._find_board()
        worker = _WorkerProcess(self.key, clock, self._note_dropped, self._heartbeat_s)
        ready = False
        try:
            with trio.move_on_after(within_s):
                await worker.start(self._command, pack(asdict(settings)))
                ready = True
        finally:
            if not ready:
                with trio.CancelScope(shield=True):
                    await worker.end(0.0)
        if not ready:
            raise ConnectError(
                f"the worker process did not reach the board{worker.last_words()}",
                address=self.key,
                waited_s=within_s,
            )
        self._worker = worker
        self.counters.opened += 1

    async def _find_board(self) -> BoardSettings:
        """Return where the board is now."""
        if self._emulator is None:
            return self._settings
        try:
            host, port = await self._emulator.start()
        except TransportError as error:
            text = f"the emulator did not start: {error.reason}"
            raise ConnectError(text, address=self.key) from error
        return evolve(self._settings, host=host, port=port, ssh=False)

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Make one call and return its reply; many may be under way.

        Cancelling tells the worker, which stops what it does for the call.
        """
        worker = self._worker
        if worker is None or worker.lost:
            raise LineClosedError("the line is not open", address=self.key)
        await trio.lowlevel.checkpoint_if_cancelled()
        if commit is not None:
            commit()
        self._number += 1
        number, call = self._number, _Call()
        sent_ns = self._clock.mono_ns()
        worker.post(Frame(Kind.CALL, number, exchange.request))
        self.counters.exchanges += 1
        within_s = exchange.reply_within_s
        if within_s is None:
            return Reply(b"", sent_ns, self._clock.mono_ns())
        worker.calls[number] = call
        try:
            with trio.move_on_after(within_s):
                await call.replied.wait()
        finally:
            del worker.calls[number]
            if not call.replied.is_set():
                worker.post(Frame(Kind.CANCEL, number))
                self.counters.abandoned += 1
        if call.lost:
            raise PeerLostError(call.lost, address=self.key)
        if call.body is None:
            self.counters.abandoned -= 1
            self.counters.timeouts += 1
            raise ReplyTimeoutError("no reply", address=self.key, waited_s=within_s)
        if exchange.accepts is not None and not exchange.accepts(call.body):
            self.counters.foreign += 1
            raise ForeignReplyError("the reply does not fit", address=self.key, received=call.body)
        return Reply(call.body, sent_ns, call.received_ns)

    async def resync(self, fence: Exchange | None = None) -> None:
        """Do nothing: the line is never out of step."""
        del fence
        if self.state is LineState.CLOSED:
            raise LineClosedError("the line is not open", address=self.key)
        await trio.lowlevel.checkpoint()

    async def wait_unstuck(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def wait_lost(self) -> None:
        """Return when the worker has ended or was killed."""
        worker = self._worker
        if worker is None:
            await trio.sleep_forever()
        else:
            await worker.gone.wait()

    async def aclose(self) -> None:
        """Have the worker let go of the board and end; kill it if it takes too long.

        An emulated board outlives the loss of its worker, as a real one does.
        """
        outlives = self._worker is not None and bool(self._worker.lost)
        await self._end_worker()
        if self._emulator is not None and not outlives:
            with trio.CancelScope(shield=True):
                await self._emulator.aclose()

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            with trio.CancelScope(shield=True):
                await worker.end(self._profile.close_within_s)

    def _note_dropped(self, frame: Frame) -> None:
        self.dropped += 1
        self.counters.unsolicited_bytes += len(frame.body)


class _WorkerProcess:
    """One worker process, and the tasks that speak with it."""

    def __init__(
        self,
        key: str,
        clock: Clock,
        dropped: Callable[[Frame], None],
        heartbeat_s: float,
    ) -> None:
        self.calls: dict[int, _Call] = {}
        #: Set once no reply will come any more.
        self.gone = trio.Event()
        #: Why it is gone, or "".
        self.lost = ""
        self._key = key
        self._clock = clock
        self._dropped = dropped
        self._heartbeat_s = heartbeat_s
        self._process: trio.Process | None = None
        self._outbox: deque[bytes] = deque()
        self._more = trio.Event()
        self._heard = trio.Event()
        self._ended = trio.Event()
        self._ready = trio.Event()
        self._failure: TransportError | None = None
        # Whether its end is wanted.
        self._ending = False
        self._ponged_s = math.inf
        self._patient_until_s = -math.inf
        self._tail: deque[str] = deque(maxlen=_TAIL)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def last_words(self) -> str:
        """Return what it wrote to its standard error last, to be added to a reason."""
        return f"; its last words: {self._tail[-1]}" if self._tail else ""

    async def start(self, command: Sequence[str], settings: bytes) -> None:
        """Start the process and wait until it has reached the board."""
        self._process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the program, which stops its instruments
        )
        trio.lowlevel.spawn_system_task(self._speak, self._process)
        self.post(Frame(Kind.SETTINGS, 0, settings))
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def post(self, frame: Frame) -> None:
        """Hand a frame over to be sent."""
        self._outbox.append(encode(frame))
        self._more.set()

    async def end(self, within_s: float) -> None:
        """End the process, by force if it takes longer than `within_s`."""
        process = self._process
        if process is None:
            return
        self._ending = True
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(within_s):
            await self._ended.wait()
        if process.returncode is None:
            process.kill()
        await self._ended.wait()

    async def _speak(self, process: trio.Process) -> None:
        """Read, write and keep watch until the process has ended. A system task."""
        why = "the worker process ended"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process)
                nursery.start_soon(self._listen, process)
                nursery.start_soon(self._keep_watch, process)
                why = await self._read(process) or why
                if not self._ready.is_set():
                    with trio.move_on_after(_LAST_WORDS_S):
                        await self._heard.wait()
                self._lose(why)
                nursery.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - a system task must not fail
            self._lose(f"the line to the worker process failed: {error!r}")
        finally:
            with trio.CancelScope(shield=True):
                await self._bury(process)

    async def _bury(self, process: trio.Process) -> None:
        self._lose("the program ends")
        with trio.move_on_after(_LINGER_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()
        self._ended.set()

    def _lose(self, why: str) -> None:
        """Fail everything that waits for the worker."""
        if self.lost:
            return
        self.lost = why
        if self._ready.is_set() and not self._ending:
            _log.warning("%s: %s", self._key, why)
        for call in self.calls.values():
            # What was answered in the same breath is answered.
            if not call.replied.is_set():
                call.lost = why
                call.replied.set()
        if not self._ready.is_set():
            self._failure = ConnectError(f"{why}{self.last_words()}", address=self._key)
            self._ready.set()
        self.gone.set()

    async def _write(self, process: trio.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        while True:
            while self._outbox:
                try:
                    await process.stdin.send_all(self._outbox.popleft())
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # whoever reads finds the end
            self._more = trio.Event()
            await self._more.wait()

    async def _listen(self, process: trio.Process) -> None:
        """Keep the last that the process says beside the answers."""
        assert process.stderr is not None  # noqa: S101 - it was asked for
        rest = b""
        while data := await process.stderr.receive_some(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if text:
                    self._tail.append(text)
                    _log.debug("%s: the worker says: %s", self._key, text)
            rest = rest[-_CHUNK:]
        self._heard.set()

    async def _read(self, process: trio.Process) -> str:
        """Take what the worker sends until it ends; return why it is lost, if it says so."""
        assert process.stdout is not None  # noqa: S101 - it was asked for
        frames, why = FrameReader(), ""
        while data := await process.stdout.receive_some(_CHUNK):
            try:
                for frame in frames.feed(bytes(data)):
                    why = self._take(frame) or why
            except BrokenFrameError as error:
                process.kill()
                return f"the worker process sent something else than frames: {error}"
            if why:
                return why
        return ""

    def _take(self, frame: Frame) -> str:
        """Act on a frame; return why the board is lost if that is what it says."""
        match frame.kind:
            case Kind.REPLY:
                call = self.calls.get(frame.number)
                if call is None:
                    self._dropped(frame)
                else:
                    call.body, call.received_ns = frame.body, self._clock.mono_ns()
                    call.replied.set()
            case Kind.PONG:
                self._ponged_s = trio.current_time()
            case Kind.PATIENCE:
                patience_s = float(unpack(frame.body))
                self._ponged_s = trio.current_time()
                self._patient_until_s = trio.current_time() + patience_s
            case Kind.READY:
                self._ponged_s = trio.current_time()
                self._ready.set()
            case Kind.FAILED:
                _, text = unpack(frame.body)
                self._failure = ConnectError(str(text), address=self._key)
                self._ready.set()
            case Kind.LOST:
                return str(unpack(frame.body))
            case _:
                self._dropped(frame)
        return ""

    async def _keep_watch(self, process: trio.Process) -> None:
        """Ask the worker again and again whether it is there; kill it when it is not."""
        await self._ready.wait()
        while True:
            self.post(Frame(Kind.PING, 0))
            due_s = trio.current_time() + PING_EVERY_S
            await trio.sleep_until(due_s)
            now_s = trio.current_time()
            if now_s - due_s > _OVERSLEPT_S:
                # It is this program that was busy: what the worker said is unread yet.
                self._ponged_s = now_s
            silent_s = now_s - max(self._ponged_s, self._patient_until_s)
            if silent_s > self._heartbeat_s - PING_EVERY_S:
                self._lose(f"the worker process did not answer for {now_s - self._ponged_s:.1f} s")
                process.kill()
                return


def _environment() -> Mapping[str, str]:
    """Let the process import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
