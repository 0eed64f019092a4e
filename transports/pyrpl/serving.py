"""The inside of a worker process: calls come in, run side by side, and are answered once.

Whatever is quick runs at once, in the step that read it. An operation runs in a task of its
own, which holds its module, or waits for it. It is followed from outside by its token: "begin"
and "poll" are answered at once, the latter with what is new, "finish" once with what came of
it, and "stop" when its module is free. Called by its own name instead, it is answered when it is
done.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import trio
from attrs import define, field

from .contract import Board, BoardLostError, Operation
from .desk import Desk, Place, RefusedCallError
from .wire import Frame, FrameReader, Kind, encode, pack, unpack

TICK_S: Final = 0.05
"""How often the board's library gets to do its own chores, in seconds."""

MOST_KEPT: Final = 64
"""How many operations are remembered whose end nobody asked for."""

_CHUNK: Final = 65_536


@define(eq=False)
class _Running:
    """An operation from its call to its answer.

    Attributes:
        place: Its place at the desk.
        turn: Set once it may begin.
        scope: What it runs in.
        done: Set once it is over and its modules are free.
        reports: What it reported and nobody has asked for.
        answer: What came of it, once it is over.
        began_s: Since when it has its module, in Trio time.
        aborted: Why it is ended from inside the worker, or None.
    """

    place: Place
    turn: trio.Event
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    done: trio.Event = field(factory=trio.Event)
    reports: deque[Any] = field(factory=deque[Any])
    answer: list[Any] | None = None
    began_s: float | None = None
    aborted: str | None = None


class Worker:
    """Serves one board over a pair of pipes."""

    def __init__(
        self, board: Board, requests: trio.abc.ReceiveStream, answers: trio.abc.SendStream
    ) -> None:
        """Read requests from one stream; write answers to the other."""
        self._board = board
        self._requests = requests
        self._answers = answers
        self._send, self._outgoing = trio.open_memory_channel[bytes](math.inf)
        self._unsent = 0
        self._sent = trio.Event()
        self._desk = Desk()
        self._running: list[_Running] = []
        # Operations that are followed, by token.
        self._followed: dict[str, _Running] = {}
        # Calls that wait for something, by number.
        self._waiting: dict[int, trio.CancelScope] = {}
        self._lost: BoardLostError | None = None
        self._serving = trio.CancelScope()
        #: Cancellations of calls that were not there any more.
        self.unknown = 0
        self._following: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "begin": self._begin,
            "poll": self._poll,
            "finish": self._finish,
            "stop": self._stop,
            "off": self._off,
        }

    async def serve(self, frames: FrameReader) -> None:
        """Serve until the requests end or the board is lost.

        Raises:
            trio.BrokenResourceError: Nobody reads the answers.
        """
        async with trio.open_nursery() as outer:
            outer.start_soon(self._write)
            with self._send:
                self._post(Kind.READY, 0)
                with self._serving:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._tick)
                        await self._read(frames, nursery)
                        nursery.cancel_scope.cancel()
                if self._lost is not None:
                    self._post(Kind.LOST, 0, str(self._lost))

    async def _write(self) -> None:
        async for data in self._outgoing:
            await self._answers.send_all(data)
            self._unsent -= 1
            self._sent.set()

    async def _flush(self) -> None:
        """Wait until what was posted has left."""
        while self._unsent:
            self._sent = trio.Event()
            await self._sent.wait()

    def _post(self, kind: Kind, number: int, value: Any = None) -> None:
        data = encode(Frame(kind, number, pack(value)))
        self._send.send_nowait(data)
        self._unsent += 1

    def _lose(self, lost: BoardLostError) -> None:
        self._lost = self._lost or lost
        self._serving.cancel()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            try:
                self._board.tick()
            except BoardLostError as lost:
                self._lose(lost)

    async def _read(self, frames: FrameReader, nursery: trio.Nursery) -> None:
        data: bytes | bytearray = b""
        while True:
            for frame in frames.feed(bytes(data)):
                try:
                    self._take(frame, nursery)
                except BoardLostError as lost:
                    self._lose(lost)
                    return
            data = await self._requests.receive_some(_CHUNK)
            if not data:
                return

    def _take(self, frame: Frame, nursery: trio.Nursery) -> None:
        match frame.kind:
            case Kind.PING:
                self._board.beat()
                self._post(Kind.PONG, frame.number)
            case Kind.CANCEL:
                waiting = self._waiting.get(frame.number)
                if waiting is None:
                    self.unknown += 1
                else:
                    waiting.cancel()
            case Kind.CALL:
                self._call(frame, nursery)
            case _:
                pass

    def _call(self, frame: Frame, nursery: trio.Nursery) -> None:
        number = frame.number
        work: Callable[[], Awaitable[Any]]
        try:
            name, arguments, wait = unpack(frame.body)
            match name:
                case "status":
                    value = self._status(str(arguments["module"]))
                case _ if name in self._following:
                    work = partial(self._following[name], nursery, wait, **arguments)
                    self._wait_for(number, nursery, work)
                    return
                case _:
                    planned = self._board.plan(name, arguments)
                    if isinstance(planned, Operation):
                        work = partial(self._carry_out, nursery, name, planned, wait)
                        self._wait_for(number, nursery, work)
                        return
                    if planned.writes is not None:
                        for module in (planned.writes, *sorted(planned.touches)):
                            self._desk.check_write(module, name)
                    value = planned.run()
            answer = [True, value]
        except BoardLostError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller is told, whatever it is
            answer = _refused(error)
        self._answer(number, answer)

    def _answer(self, number: int, answer: list[Any]) -> None:
        try:
            self._post(Kind.REPLY, number, answer)
        except (TypeError, ValueError) as error:
            self._post(Kind.REPLY, number, [False, "failed", str(error)])

    def _wait_for(
        self, number: int, nursery: trio.Nursery, work: Callable[[], Awaitable[Any]]
    ) -> None:
        """Answer a call once `work` is done; not at all if it is cancelled before."""
        scope = self._waiting[number] = trio.CancelScope()

        async def wait() -> None:
            answer: list[Any] | None = None
            try:
                with scope:
                    answer = [True, await work()]
            except BoardLostError as lost:
                self._lose(lost)
                return
            except Exception as error:  # noqa: BLE001 - the caller is told, whatever it is
                answer = _refused(error)
            finally:
                del self._waiting[number]
            if answer is not None:
                self._answer(number, answer)

        nursery.start_soon(wait)

    # Operations.

    async def _carry_out(
        self, nursery: trio.Nursery, name: str, operation: Operation, wait: bool
    ) -> Any:
        """Carry out an operation; cancelling ends it."""
        running = self._start(nursery, name, operation, wait)
        try:
            await running.done.wait()
        finally:
            running.scope.cancel()
        return _outcome(running)

    def _start(
        self, nursery: trio.Nursery, name: str, operation: Operation, wait: bool
    ) -> _Running:
        """Start an operation, which waits for its module where that is in use.

        Raises:
            RefusedCallError: It conflicts with another one, or `wait` is False and it would wait.
        """
        turn = trio.Event()
        place = Place(operation.module, operation.needs, name, turn.set)
        self._desk.take(place, wait=wait)
        running = _Running(place, turn, reports=deque(maxlen=operation.kept))
        self._running.append(running)
        nursery.start_soon(self._operate, running, operation)
        return running

    async def _operate(self, running: _Running, operation: Operation) -> None:
        try:
            with running.scope:
                await running.turn.wait()
                self._desk.confirm(running.place)
                running.began_s = trio.current_time()
                running.answer = [True, await (await self._begun(running, operation))]
        except BoardLostError as lost:
            self._lose(lost)
        except Exception as error:  # noqa: BLE001 - the caller is told, whatever it is
            running.answer = _refused(error)
        finally:
            self._running.remove(running)
            self._desk.leave(running.place)
            if running.answer is None:
                running.answer = [False, "aborted", running.aborted or "it was ended"]
            running.done.set()

    async def _begun(self, running: _Running, operation: Operation) -> Awaitable[Any]:
        """Begin an operation and return the rest of it; whoever watches is told if that blocks."""
        if not operation.blocks_s:
            return operation.run(running.reports.append)
        self._post(Kind.PATIENCE, 0, operation.blocks_s)
        try:
            await self._flush()
            return operation.run(running.reports.append)
        finally:
            self._post(Kind.PATIENCE, 0, 0.0)

    async def _begin(
        self,
        nursery: trio.Nursery,
        wait: bool,
        *,
        token: str,
        name: str,
        arguments: Mapping[str, Any],
    ) -> None:
        planned = self._board.plan(name, arguments)
        if not isinstance(planned, Operation):
            raise RefusedCallError("rejected", f"{name} is no operation: call it")
        while len(self._followed) >= MOST_KEPT:
            over = next((key for key, each in self._followed.items() if each.done.is_set()), None)
            if over is None:
                raise RefusedCallError("busy", f"{MOST_KEPT} operations are under way")
            del self._followed[over]
        self._followed[token] = self._start(nursery, name, planned, wait)

    async def _poll(self, nursery: trio.Nursery, wait: bool, *, token: str) -> Mapping[str, Any]:
        del nursery, wait
        running = self._follow(token)
        reports = [*running.reports]
        running.reports.clear()
        return {
            "done": running.done.is_set(),
            "reports": reports,
            "waits": self._waits(running),
        }

    def _waits(self, running: _Running) -> str:
        """Return what an operation waits for, or "" where it has its module."""
        place = running.place
        if place.granted or running.done.is_set():
            return ""
        return f"it waits for {place.module}, which is busy with {self._desk.doing(place.module)}"

    async def _finish(self, nursery: trio.Nursery, wait: bool, *, token: str) -> Any:
        del nursery, wait
        running = self._follow(token)
        await running.done.wait()
        self._followed.pop(token, None)
        return _outcome(running)

    async def _stop(
        self,
        nursery: trio.Nursery,
        wait: bool,
        *,
        token: str | None = None,
        module: str | None = None,
    ) -> bool:
        """End an operation, or whatever uses a module; return whether there was one."""
        del nursery, wait
        module = None if module is None else self._board.name_of(module)
        if token is not None:
            running = self._followed.pop(token, None)
            ended = [] if running is None or running.done.is_set() else [running]
        else:
            ended = self._working_with(module)
        await self._abort(ended, "it was stopped")
        return bool(ended)

    async def _off(self, nursery: trio.Nursery, wait: bool) -> None:
        """End everything, then switch every output off."""
        del nursery, wait
        await self._abort([*self._running], "the outputs were switched off")
        self._board.switch_off()

    async def _abort(self, ended: list[_Running], why: str) -> None:
        for each in ended:
            each.aborted = why
            each.scope.cancel()
        for each in ended:
            await each.done.wait()

    def _follow(self, token: str) -> _Running:
        running = self._followed.get(token)
        if running is None:
            raise RefusedCallError("unknown", "no such operation is under way")
        return running

    def _working_with(self, module: str | None) -> list[_Running]:
        """Return the operation that has a module, if there is one."""
        return [
            each for each in self._running if each.place.granted and module in each.place.modules
        ]

    def _status(self, module: str) -> Mapping[str, Any]:
        module = self._board.name_of(module)
        began_s = next((each.began_s for each in self._working_with(module)), None)
        return {
            "module": module,
            "doing": self._desk.doing(module),
            "waiting": self._desk.waiting(module),
            "since_s": None if began_s is None else trio.current_time() - began_s,
        }


def _outcome(running: _Running) -> Any:
    """Return what an operation gave, or raise why it gave nothing."""
    done, *rest = running.answer or [False, "aborted", "it was ended"]
    if done:
        return rest[0]
    raise RefusedCallError(*rest)


def _refused(error: Exception) -> list[Any]:
    """Return the answer to a call that failed."""
    if isinstance(error, RefusedCallError):
        return [False, error.kind, error.text]
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return [False, "failed", words]
