"""Keeps children alive: starts them in order, restarts what fails, stops in reverse.

What is restarted, and when to give up, is decided in `restart.py`; this file only acts.
A child is stopped through its own cancel scope, which is shielded from the
supervisor's: when the supervisor itself is cancelled, its children still stop one after
the other, each with its budget.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from enum import Enum, auto
from functools import partial
from typing import Protocol, TypeGuard

import trio
from attrs import define, frozen

from .errors import GaveUpError, SupervisionError
from .events import (
    ChildEnded,
    ChildOverdue,
    ChildRestarting,
    ChildStarted,
    Events,
    SupervisorGaveUp,
)
from .reply import ReplyChannel
from .restart import Child, Decision, Intensity, Restart, RestartBudget, Strategy, decide

Started = Callable[[], None]
"""Called by a child once it is up; its later siblings start then."""


class Settle(Protocol):
    """Ends what still waits for a child that will not work on it."""

    def __call__(self, reason: str, *, for_good: bool) -> None:
        """Answer everything that waits; `for_good` when the child does not come back."""
        ...


def _nothing_waits(reason: str, *, for_good: bool) -> None:
    del reason, for_good


def _at_once() -> float:
    return 0.0


async def no_farewell() -> None:
    """Do nothing before giving up."""


@frozen
class ChildSpec:
    """What a supervisor needs to know of a child.

    Attributes:
        name: Unique among its siblings.
        start: The child: an async callable that calls its argument once it is up, and
            then lives until it returns, fails or is cancelled.
        restart: Whether it is started again when it ends.
        stop_s: How long it may take to stop before that is reported.
        settle: Called when the child is down and what waits for it must be answered:
            after a stop, a removal, a sibling's restart, an end that no restart follows,
            and when its supervisor stops or gave up.
        restart_delay_s: How long a restart has to wait: its breaker's word, in seconds.
    """

    name: str
    start: Callable[[Started], Awaitable[None]]
    restart: Restart = Restart.PERMANENT
    stop_s: float = 5.0
    settle: Settle = _nothing_waits
    restart_delay_s: Callable[[], float] = _at_once


class ChildStatus(Enum):
    """Where a child stands."""

    STARTING = auto()
    UP = auto()
    RESTARTING = auto()
    DOWN = auto()


@frozen
class ChildInfo:
    """A child as seen from outside.

    Attributes:
        name: Its name.
        status: Where it stands.
        restarts: How often it was started again.
        error: What its last incarnation failed with.
    """

    name: str
    status: ChildStatus
    restarts: int
    error: Exception | None


@define(eq=False)
class _Child:
    spec: ChildSpec
    status: ChildStatus = ChildStatus.DOWN
    restarts: int = 0
    error: Exception | None = None
    # Set while an incarnation runs.
    scope: trio.CancelScope | None = None
    # The supervisor asked the last incarnation to stop: its end needs no reaction.
    stopping: bool = False
    # While RESTARTING: when it may start, in Trio time.
    due_s: float = -math.inf
    # Answered once the incarnation is up, or cannot be; None from then on.
    up: ReplyChannel[None] | None = None
    # Answered once the last incarnation has ended, for those who wait for that.
    ended: ReplyChannel[None] | None = None

    def take_up(self) -> ReplyChannel[None] | None:
        up, self.up = self.up, None
        return up


@frozen
class _Ended:
    """A child ended though nobody asked it to, or failed to restart."""

    child: _Child


@frozen
class _Request:
    """Somebody asks the supervisor to do something between two exits."""

    work: Callable[[], Awaitable[None]]
    reply: ReplyChannel[None]


class Supervisor:
    """One supervisor and its children. It is itself what a `ChildSpec` can start.

    Args:
        name: Its name in events and in the tree.
        children: What to start, in this order.
        strategy: Which siblings share a restart.
        intensity: How many restarts are borne.
        events: Where to report.
        farewell: Called once before the children are stopped because the intensity was
            exceeded; bounded by itself.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec] = (),
        *,
        events: Events,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        farewell: Callable[[], Awaitable[None]] = no_farewell,
    ) -> None:
        """Make a supervisor that does not run yet."""
        self.name = name
        self.strategy = strategy
        self.intensity = intensity or Intensity()
        self._events = events
        self._farewell = farewell
        self._specs = tuple(children)
        self._children: dict[str, _Child] = {}
        # False while no child is RESTARTING.
        self._may_restart = False
        self._nursery: trio.Nursery | None = None
        self._work: deque[_Ended | _Request] = deque()
        self._bell = trio.Event()
        for child, count in Counter(spec.name for spec in children).items():
            if count > 1:
                raise SupervisionError(f"{name}: two children are named {child}")

    def __repr__(self) -> str:
        """Return the name, the strategy and the children's states."""
        states = " ".join(f"{each.name}:{each.status.name}" for each in self.children)
        return f"<Supervisor {self.name} {self.strategy.value} {states}>"

    @property
    def children(self) -> Sequence[ChildInfo]:
        """The children in start order."""
        return tuple(
            ChildInfo(name, child.status, child.restarts, child.error)
            for name, child in self._children.items()
        )

    @trio.lowlevel.enable_ki_protection
    async def run(self, started: Started) -> None:
        """Start the children, keep them alive, and stop them when cancelled.

        Each run starts with the children given at first, whatever was added or removed.

        Raises:
            SupervisionError: A child failed to start at first; the others were stopped.
            GaveUpError: The intensity was exceeded; all children were stopped.
        """
        self._children = {spec.name: _Child(spec) for spec in self._specs}
        self._work.clear()
        failure: SupervisionError | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for child in tuple(self._children.values()):
                    await self._start(child)
                started()
                await self._supervise(RestartBudget(self.intensity))
            except SupervisionError as given_up:
                failure = given_up
            finally:
                # First, so that a child that asks while it stops is not waited for by
                # the one it waits for.
                self._refuse_requests()
                with trio.CancelScope(shield=True):
                    await self._stop_all("its supervisor stopped")
        if failure is not None:
            raise failure

    async def start_child(self, spec: ChildSpec) -> None:
        """Add a child and start it; return when it is up.

        Raises:
            SupervisionError: The name is taken, or the child failed to start and was
                forgotten.
        """

        async def work() -> None:
            if spec.name in self._children:
                raise SupervisionError(f"{self.name}: a child named {spec.name} exists already")
            child = self._children[spec.name] = _Child(spec)
            try:
                await self._start(child)
            except SupervisionError:
                del self._children[spec.name]
                spec.settle("it failed to start", for_good=True)
                raise

        await self._request(work)

    async def stop_child(self, name: str) -> None:
        """Stop a child; it stays known and is not restarted, unless with its group.

        A temporary child is forgotten.

        Raises:
            SupervisionError: No child has that name.
        """

        async def work() -> None:
            child = self._child(name)
            await self._end(child, "it was stopped")
            if child.spec.restart is Restart.TEMPORARY:
                del self._children[name]

        await self._request(work)

    async def restart_child(self, name: str) -> None:
        """Start a child that is down.

        Raises:
            SupervisionError: No child has that name, it is not down, or it failed to
                start, in which case it stays down.
        """

        async def work() -> None:
            child = self._child(name)
            if child.status is not ChildStatus.DOWN:
                raise SupervisionError(f"{self.name}: {name} is not down")
            try:
                await self._start(child)
            except SupervisionError:
                child.spec.settle("it failed to start", for_good=True)
                raise

        await self._request(work)

    async def remove_child(self, name: str) -> None:
        """Stop a child and forget it.

        Raises:
            SupervisionError: No child has that name.
        """

        async def work() -> None:
            await self._end(self._child(name), "it was removed")
            del self._children[name]

        await self._request(work)

    # What the supervisor's own task does.

    async def _supervise(self, budget: RestartBudget) -> None:
        while True:
            if self._work:
                match self._work.popleft():
                    case _Ended(child):
                        await self._react(child, budget)
                    case _Request(work, reply):
                        await self._serve(work, reply)
                continue
            waiting = self._restarting()
            next_s = min((child.due_s for child in waiting), default=math.inf)
            if next_s <= trio.current_time():
                await self._start_again([child for child in waiting if child.due_s <= next_s])
                continue
            self._bell = trio.Event()
            with trio.move_on_at(next_s):
                await self._bell.wait()

    def _restarting(self) -> Sequence[_Child]:
        """Return the children that wait for being started again."""
        if not self._may_restart:
            return ()  # thousands are started one by one: no look at all of them for each
        found = [each for each in self._children.values() if each.status is ChildStatus.RESTARTING]
        self._may_restart = bool(found)
        return found

    async def _react(self, child: _Child, budget: RestartBudget) -> None:
        name = child.spec.name
        down = child.status is ChildStatus.DOWN and not child.stopping
        if self._children.get(name) is not child or not down:
            return  # it was started, stopped or removed since
        decision = decide(
            self.strategy,
            [
                Child(each.spec.name, each.spec.restart, each.scope is not None)
                for each in self._children.values()
            ],
            name,
            # A supervisor that gave up has shut down in order: a transient one stays down.
            failed=child.error is not None and not isinstance(child.error, GaveUpError),
        )
        if not decision.restarts:
            child.spec.settle("it ended", for_good=True)
            for dropped in decision.drop:
                del self._children[dropped]
            return
        if not budget.spend(trio.current_time()):
            await self._give_up(child)
        await self._restart(child, decision)

    async def _give_up(self, child: _Child) -> None:
        name = child.spec.name
        error = None if child.error is None else describe(child.error)
        self._events.publish(SupervisorGaveUp(supervisor=self.name, child=name, error=error))
        await self._farewell()
        raise GaveUpError(
            f"{self.name}: more than {self.intensity.max_restarts} restarts within "
            f"{self.intensity.window_s:g} s, the last of {name}"
            + (f" after {error}" if error else "")
        ) from child.error

    async def _restart(self, child: _Child, decision: Decision) -> None:
        """Stop the group and note when it is due; `_supervise` starts it."""
        for name in decision.stop:
            sibling = self._children[name]
            await self._stop(sibling)
            sibling.spec.settle(f"it restarts with {child.spec.name}", for_good=False)
        for name in decision.drop:
            self._children.pop(name).spec.settle("it is temporary", for_good=True)
        group = [self._children[name] for name in decision.start]
        now_s = trio.current_time()
        child.due_s = now_s + child.spec.restart_delay_s()
        # A sibling that was held back already holds back the group it restarts with.
        due_s = max(each.due_s for each in group)
        self._may_restart = True
        for each in group:
            each.status = ChildStatus.RESTARTING
            each.due_s = due_s
            self._events.publish(
                ChildRestarting(
                    supervisor=self.name, child=each.spec.name, delay_s=max(0.0, due_s - now_s)
                )
            )

    async def _start_again(self, group: Sequence[_Child]) -> None:
        for child in group:
            child.restarts += 1
            try:
                await self._start(child)
            except SupervisionError:
                # Counts as one more restart; the rest of its group restarts with it.
                self._tell(_Ended(child))
                return

    async def _serve(self, work: Callable[[], Awaitable[None]], reply: ReplyChannel[None]) -> None:
        if reply.abandoned:
            return
        try:
            await work()
        except SupervisionError as error:
            reply.send_error(error)
        except BaseException:
            reply.send_error(self._stopping())
            raise
        else:
            reply.send(None)

    async def _start(self, child: _Child) -> None:
        """Start an incarnation and wait until it is up."""
        assert self._nursery is not None  # noqa: S101 - narrows for the type checkers
        up = child.up = ReplyChannel[None]()
        child.scope = trio.CancelScope(shield=True)
        child.stopping = False
        child.status = ChildStatus.STARTING
        child.error = None
        child.due_s = -math.inf
        name = f"{self.name}/{child.spec.name}"
        self._nursery.start_soon(self._incarnation, child, child.scope, name=name)
        await up.receive()

    async def _stop_all(self, reason: str) -> None:
        # Unwinds in reverse, and goes on when one raises.
        async with AsyncExitStack() as ends:
            for child in self._children.values():
                ends.push_async_callback(self._end, child, reason)

    async def _end(self, child: _Child, reason: str) -> None:
        """Stop a child that does not come back by itself."""
        await self._stop(child)
        child.spec.settle(reason, for_good=True)

    async def _stop(self, child: _Child) -> None:
        """Cancel a child and wait for its end; report it once its budget is spent."""
        child.stopping = True
        if child.scope is not None:
            ended = child.ended = child.ended or ReplyChannel[None]()
            child.scope.cancel()
            with trio.move_on_after(child.spec.stop_s):
                await ended.receive()
            if not ended.answered:
                self._events.publish(
                    ChildOverdue(
                        supervisor=self.name, child=child.spec.name, budget_s=child.spec.stop_s
                    )
                )
                await ended.receive()
        child.status = ChildStatus.DOWN
        child.due_s = -math.inf

    def _note_up(self, child: _Child, up: ReplyChannel[None]) -> None:
        if child.up is up:
            child.up = None
            child.status = ChildStatus.UP
            self._events.publish(ChildStarted(supervisor=self.name, child=child.spec.name))
            up.send(None)

    # What runs in a child's task.

    @trio.lowlevel.enable_ki_protection
    async def _incarnation(self, child: _Child, scope: trio.CancelScope) -> None:
        assert child.up is not None  # noqa: S101 - narrows for the type checkers
        error: Exception | None = None
        try:
            # Around the scope: a clean-up error may come out of it together with the
            # cancellation, and is a failure of the child like any other.
            with scope:
                await child.spec.start(partial(self._note_up, child, child.up))
        except Exception as failure:  # noqa: BLE001 - the supervision boundary
            error = failure
        except BaseException as interrupt:
            # Not the child's failure: it ends the supervisor, whose children stop in order.
            self._note_end(child, interrupt)
            raise
        self._note_end(child, error)
        child.error = error
        up = child.take_up()
        if error is not None and up is not None:
            refusal = SupervisionError(
                f"{self.name}: {child.spec.name} failed to start: {describe(error)}"
            )
            refusal.__cause__ = error
            up.send_error(refusal)
            return  # who started it decides what follows
        if up is not None:
            up.send(None)
        if not child.stopping:
            self._tell(_Ended(child))

    def _note_end(self, child: _Child, error: BaseException | None) -> None:
        child.scope = None
        child.status = ChildStatus.DOWN
        if child.ended is not None:
            child.ended.send(None)
            child.ended = None
        self._events.publish(
            ChildEnded(
                supervisor=self.name,
                child=child.spec.name,
                error=None if error is None else describe(error),
                stopped=child.stopping,
            )
        )

    # What other tasks call.

    async def _request(self, work: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is None:
            raise SupervisionError(f"{self.name} is not running")
        request = _Request(work, ReplyChannel())
        self._tell(request)
        await request.reply.receive()

    def _refuse_requests(self) -> None:
        """Refuse what waits and what comes."""
        self._nursery = None
        while self._work:
            if isinstance(left := self._work.popleft(), _Request):
                left.reply.send_error(self._stopping())

    def _stopping(self) -> SupervisionError:
        return SupervisionError(f"{self.name} is stopping")

    def _tell(self, work: _Ended | _Request) -> None:
        self._work.append(work)
        self._bell.set()

    def _child(self, name: str) -> _Child:
        try:
            return self._children[name]
        except KeyError:
            known = ", ".join(self._children) or "none"
            raise SupervisionError(f"{self.name}: no child {name}; there are: {known}") from None


def describe(error: BaseException) -> str:
    """Return an exception in one line, a group by its leaves."""
    if _is_group(error):
        return "; ".join(describe(each) for each in error.exceptions)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)
