"""Your own actors: an object that answers one message at a time, and refs to it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast

import trio

from .command import Priority
from .errors import ActorError, AskError
from .faults import Cause
from .inbox import Inbox, InboxFullError
from .reply import ReplyChannel
from .restart import Restart
from .supervisor import ChildSpec, Started

M = TypeVar("M")
R = TypeVar("R")
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

INBOX_BOUND: Final = 1024
"""How many messages wait for an actor before askers have to."""


class Actor(Protocol[M_contra, R_co]):
    """Answers messages one at a time. A crash makes a new one, with new state.

    `receive` may be a plain function, which is quicker, or async, which may ask others.
    It runs under the asker's deadline and cancellation. An `ActorError` it raises is the
    asker's answer; any other exception is a crash.
    """

    def receive(self, message: M_contra) -> R_co | Awaitable[R_co]:
        """Answer `message`."""
        ...


class _Letter(ReplyChannel[R], Generic[M, R]):
    """One message, and the channel for its answer."""

    __slots__ = ("deadline_s", "message", "scope")

    def __init__(self, message: M, deadline_s: float) -> None:
        super().__init__()
        self.message = message
        self.deadline_s = deadline_s
        # The scope its handler runs in, once an async handler works on it.
        self.scope: trio.CancelScope | None = None


_Pending: TypeAlias = tuple[_Letter[M, R], Awaitable[R]]


class _Cell:
    """Where an actor stands, whatever its incarnation; told of by refs."""

    __slots__ = ("awaits", "down", "name", "task", "waits_for")

    def __init__(self, name: str) -> None:
        self.name = name
        # The task of the running incarnation.
        self.task: trio.lowlevel.Task | None = None
        # The actor whose answer that task waits for.
        self.waits_for: _Cell | None = None
        # Why nothing is answered any more, or None.
        self.down: str | None = None
        # Whether its handler may wait for something, and so needs its askers' deadlines.
        self.awaits = True


_current: ContextVar[_Cell | None] = ContextVar("benchtree actor", default=None)


class Ref(Generic[M, R]):
    """A name for an actor that outlives its incarnations."""

    # Made by the thousand: a dictionary for each would weigh as much as the rest.
    __slots__ = ("__weakref__", "_cell", "_inbox", "_lane", "_make", "name")

    def __init__(self, name: str, make: Callable[[], Actor[M, R]]) -> None:
        """Make a ref to the actor that `make` makes; nothing runs yet."""
        self.name = name
        self._make = make
        self._cell = _Cell(name)
        self._inbox: Inbox[_Letter[M, R]] = Inbox()
        self._lane = self._inbox.add_lane(name, INBOX_BOUND)

    def __repr__(self) -> str:
        """Return the name and how many messages wait."""
        return f"<Ref {self.name} waiting={len(self._inbox)}>"

    async def ask(self, message: M) -> R:
        """Send `message` and return the answer; the caller's scope is the deadline.

        A caller cancelled before its turn costs the actor nothing.

        Raises:
            AskError: The actor crashed on it, is stopped, waits for the asker itself, or
                a deadline that the asker moved after asking has cut it short.
            ActorError: What the actor's handler raised as its answer.
        """
        mine = _current.get()
        asker = mine if mine is not None and mine.task is trio.lowlevel.current_task() else None
        if asker is not None or self._cell.down is not None:
            self._check(asker)
        # Looking the deadline up costs a tenth of an ask.
        deadline_s = trio.current_effective_deadline() if self._cell.awaits else math.inf
        letter: _Letter[M, R] = _Letter(message, deadline_s)
        if asker is not None:
            asker.waits_for = self._cell
        try:
            try:
                self._inbox.put_nowait(self._lane, letter)
            except InboxFullError:
                await self._inbox.put(self._lane, letter, check=lambda: self._check(asker))
            return await letter.receive()
        except trio.Cancelled:
            waited = self._inbox.discard(self._lane, letter, Priority.NORMAL)
            if not waited and letter.scope is not None:
                letter.scope.cancel()
            raise
        finally:
            if asker is not None:
                asker.waits_for = None

    def tell_nowait(self, message: M) -> None:
        """Send `message`; nobody waits for an answer.

        Raises:
            AskError: The actor is stopped, or its inbox is full.
        """
        self._check(None)
        try:
            self._inbox.put_nowait(self._lane, _Letter(message, math.inf))
        except InboxFullError:
            raise AskError(self.name, Cause.FULL, "the inbox is full") from None

    def spec(self, *, restart: Restart = Restart.PERMANENT, stop_s: float = 5.0) -> ChildSpec:
        """Return the child specification that keeps the actor alive."""
        return ChildSpec(self.name, self._run, restart=restart, stop_s=stop_s, settle=self._settle)

    def _check(self, asker: _Cell | None) -> None:
        if self._cell.down is not None:
            raise AskError(self.name, Cause.STOPPED, self._cell.down)
        if asker is None:
            return
        asked: _Cell | None = self._cell
        while asked is not None:
            if asked is asker:
                raise AskError(
                    self.name, Cause.CONFLICT, f"it waits for {asker.name}, which asks it"
                )
            asked = asked.waits_for

    @trio.lowlevel.enable_ki_protection
    async def _run(self, started: Started) -> None:
        cell = self._cell
        actor = self._make()
        cell.task = trio.lowlevel.current_task()
        cell.down = None
        cell.awaits = iscoroutinefunction(actor.receive)
        _current.set(cell)
        started()
        del started
        first: _Pending[M, R] | None = None
        try:
            if not cell.awaits:
                # Nothing of it is ever cancelled: it needs no scope.
                while (first := self._answer_waiting(actor)) is None:
                    await self._inbox.wait()
            while True:
                # One scope serves many messages: it is renewed only once it was used.
                with trio.CancelScope() as scope:
                    await self._serve(actor, scope, first)
                first = None
        finally:
            cell.task = None

    def _answer_waiting(self, actor: Actor[M, R]) -> _Pending[M, R] | None:
        """Answer what waits now; return the first message whose answer is to be awaited."""
        # No more than that: an actor that tells itself things lets others run.
        for _ in range(self._lane.count):
            letter = self._inbox.take_nowait()
            if letter is not None and (answer := self._begin(actor, letter)) is not None:
                return letter, answer
        return None

    async def _serve(
        self, actor: Actor[M, R], scope: trio.CancelScope, first: _Pending[M, R] | None
    ) -> None:
        """Answer messages until `scope` is cancelled: too late for one, not meant for the next."""
        if first is not None:
            await self._finish(*first, scope)
            if scope.cancel_called:
                return
        while True:
            for _ in range(self._lane.count):
                letter = self._inbox.take_nowait()
                if letter is not None and (answer := self._begin(actor, letter)) is not None:
                    await self._finish(letter, answer, scope)
                    if scope.cancel_called:
                        return
            await self._inbox.wait()

    def _begin(self, actor: Actor[M, R], letter: _Letter[M, R]) -> Awaitable[R] | None:
        """Answer at once, or return what is still to be awaited for the answer."""
        try:
            answer: Any = actor.receive(letter.message)
        except ActorError as error:
            letter.send_error(error)
        except BaseException as crash:
            self._fail(letter, crash)
            raise
        else:
            # A look at the abstract base class would take longer than all of this.
            if hasattr(answer, "__await__"):
                self._cell.awaits = True
                return cast("Awaitable[R]", answer)
            letter.send(answer)
        return None

    async def _finish(
        self, letter: _Letter[M, R], answer: Awaitable[R], scope: trio.CancelScope
    ) -> None:
        letter.scope = scope
        if letter.deadline_s != math.inf:
            scope.deadline = letter.deadline_s
        try:
            letter.send(await answer)
        except ActorError as error:
            letter.send_error(error)
        except BaseException as crash:
            if scope.cancel_called and not isinstance(crash, Exception):
                letter.send_error(AskError(self.name, Cause.EXPIRED, "the asker's time was up"))
            else:
                self._fail(letter, crash)
            raise
        finally:
            letter.scope = None
            if letter.deadline_s != math.inf:
                scope.deadline = math.inf

    def _fail(self, letter: _Letter[M, R], crash: BaseException) -> None:
        if isinstance(crash, Exception):
            error = AskError(self.name, Cause.CRASHED, f"it failed: {crash!r}")
            error.__cause__ = crash
        else:
            error = AskError(self.name, Cause.STOPPED, "it was stopped")
        letter.send_error(error)

    def _settle(self, reason: str, *, for_good: bool) -> None:
        """Answer everything that waits; nothing of it will be worked on."""
        if for_good:
            self._cell.down = reason
        for letter in self._inbox.empty(self._lane):
            letter.send_error(AskError(self.name, Cause.STOPPED, reason))
