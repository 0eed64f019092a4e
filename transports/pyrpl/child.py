"""A worker process as its program sees it: started, spoken with, watched, and ended."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio
from attrs import define, field

from transports.clock import Clock
from transports.errors import ConnectError, ConnectProblem, TransportError

from .scratch import Scratch
from .wire import BrokenFrameError, Frame, FrameReader, Kind, encode, unpack

_log: Final = logging.getLogger(__name__)

PING_EVERY_S: Final = 0.4
"""How often the worker is asked whether it is there, in seconds."""

USER_DIR: Final = "PYRPL_USER_DIR"
"""The environment variable that says where PyRPL keeps its files."""

_PROBLEMS: Final[Mapping[str, ConnectProblem]] = {
    "missing": ConnectProblem.MISSING_LIBRARY,
    "address": ConnectProblem.UNKNOWN_HOST,
    "refused": ConnectProblem.UNREACHABLE,
}

_CHUNK: Final = 65_536
_TAIL: Final = 20
_OVERSLEPT_S: Final = 0.3
_LAST_WORDS_S: Final = 0.5
_LINGER_S: Final = 3.0


@define(eq=False)
class Call:
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


class WorkerProcess:
    """One worker process, and the tasks that speak with it."""

    def __init__(
        self,
        key: str,
        clock: Clock,
        dropped: Callable[[Frame], None],
        heartbeat_s: float,
    ) -> None:
        self.calls: dict[int, Call] = {}
        #: Set once no reply will come any more.
        self.gone = trio.Event()
        #: Why it is gone, or "".
        self.lost = ""
        self._key = key
        self._clock = clock
        self._dropped = dropped
        self._heartbeat_s = heartbeat_s
        self._process: trio.Process | None = None
        self._scratch: Scratch | None = None
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
        """Its process id, or None before it is started."""
        return None if self._process is None else self._process.pid

    def last_words(self) -> str:
        """Return what it wrote to its standard error last, to be added to a reason."""
        return f"; its last words: {self._tail[-1]}" if self._tail else ""

    async def start(self, command: Sequence[str], settings: bytes, *, keeps: bool) -> None:
        """Start the process and wait until it has reached the board.

        Unless it `keeps` something, all that it writes goes with it.
        """
        if not (keeps or USER_DIR in os.environ):
            self._scratch = Scratch()
        try:
            process = await self._launch(command)
        except BaseException:
            self._tidy()
            raise
        self._process = process
        trio.lowlevel.spawn_system_task(self._speak, process)
        self.post(Frame(Kind.SETTINGS, 0, settings))
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    async def _launch(self, command: Sequence[str]) -> trio.Process:
        environment = _environment()
        if self._scratch is not None:
            environment[USER_DIR] = str(self._scratch.path)
        return await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program, which stops its instruments
        )

    def _tidy(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()

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
        self._tidy()
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
                kind, text = unpack(frame.body)
                problem = _PROBLEMS.get(kind, ConnectProblem.OTHER)
                self._failure = ConnectError(str(text), address=self._key, problem=problem)
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


def _environment() -> dict[str, str]:
    """Let the process import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
