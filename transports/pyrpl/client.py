"""The line to a board: one worker process, and calls that overtake one another.

What the line promises: a reply is returned for the call it answers, or not at all. Calls are
told apart by number, so a late or cancelled one disturbs nobody and the line is never stale.
A worker that ends, or does not answer its heart-beat, is a line that is lost: every call in
flight fails at once, and the next opening starts another worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final, Protocol

import trio
from attrs import asdict, evolve

from transports.base import Exchange, LineCounters, Reply
from transports.board import BoardSettings
from transports.clock import Clock, SystemClock, current_clock
from transports.errors import (
    ConnectError,
    ConnectProblem,
    ForeignReplyError,
    LineBusyError,
    LineClosedError,
    PeerLostError,
    ReplyTimeoutError,
    TransportError,
)
from transports.line_state import LineState
from transports.profile import BusProfile, Resync

from .child import Call, WorkerProcess
from .contract import INSTALL
from .wire import Frame, Kind, pack

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

HEARTBEAT_S: Final = 2.4
"""How long a worker may be silent before it is killed, in seconds."""

MAX_IN_FLIGHT: Final = 256


def check_installed(address: str) -> None:
    """Make sure that a worker process will find PyRPL, without importing it.

    Raises:
        ConnectError: It will not; says in one line what to install.
    """
    if find_spec("pyrpl") is None:
        text = f"PyRPL is not installed: {INSTALL}"
        raise ConnectError(text, address=address, problem=ConnectProblem.MISSING_LIBRARY)


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
        self._worker: WorkerProcess | None = None

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
        worker = WorkerProcess(self.key, clock, self._note_dropped, self._heartbeat_s)
        ready = False
        try:
            with trio.move_on_after(within_s):
                keeps = settings.config_name is not None
                await worker.start(self._command, pack(asdict(settings)), keeps=keeps)
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
        number, call = self._number, Call()
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
