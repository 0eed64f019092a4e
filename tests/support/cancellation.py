"""Cancels a scenario at each of its checkpoints in turn, and tells which awaits that hit.

A scenario is made anew for every run. One run is left undisturbed; then the victim is
cancelled at its first checkpoint, at its second, and so on to its last. Tasks may take
turns differently from run to run, so places that were seen but not hit by counting are
aimed at one by one. `unhit` compares the hits with the source: every await that is not
shielded has to be among them.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeAlias

import trio
from attrs import define, field, frozen
from trio.abc import Instrument
from trio.testing import MockClock

Line: TypeAlias = tuple[str, int]
"""A file and a line in it."""

Place: TypeAlias = tuple[Line, ...]
"""Where a task waits: its frames within the watched modules, outermost first."""

_PROBE_S = -1e9
"""A deadline earlier than any other, to ask whether a task would feel the scope's."""


@frozen
class Ending:
    """How the victim's run ended.

    Attributes:
        checkpoint: At which of its checkpoints it was cancelled, from 1; None if it was
            left alone.
        error: What it raised; None when it returned or was merely cancelled.
        returned: Whether it came to its own end.
    """

    checkpoint: int | None
    error: BaseException | None
    returned: bool


class Scenario(Protocol):
    """One run: a victim, what goes on beside it, and what has to hold afterwards."""

    async def victim(self) -> object:
        """Do what gets cancelled."""
        ...

    async def beside(self) -> None:
        """Do what goes on meanwhile; once it returns, a victim that still runs is stopped.

        It is cancelled when the victim ends. To leave the victim to itself, sleep.
        """
        ...

    def check(self, ending: Ending) -> None:
        """Check what has to hold once everything has ended."""
        ...


@define
class Hits:
    """What the runs of one or more scenarios met.

    Attributes:
        runs: How many runs there were.
        lines: The lines at which a task waited when the cancellation reached it.
    """

    runs: int = 0
    lines: set[Line] = field(factory=set[Line])

    def __or__(self, other: Hits) -> Hits:
        """Return both together."""
        return Hits(self.runs + other.runs, self.lines | other.lines)


def sweep(make: Callable[[], Scenario], *modules: ModuleType, limit_s: float = 3600.0) -> Hits:
    """Run a scenario once undisturbed and once for each checkpoint, cancelled there.

    Every run has a virtual clock of its own and has to end within `limit_s` of its time,
    so that a run that hangs is a failure. A failed check says where it was cancelled.
    """
    files = frozenset(str(module.__file__) for module in modules)
    hits = Hits()
    seen: set[Place] = set()
    hit: set[Place] = set()

    def once(aim: int | Place | None) -> bool:
        watch = _Watch(files, aim)
        _run(make(), watch, limit_s)
        hits.runs += 1
        seen.update(watch.seen)
        if watch.fired is not None:
            hit.add(watch.fired)
            hits.lines.update(watch.fired)
        return watch.fired is not None

    once(None)
    count = 1
    while once(count):
        count += 1
    for place in sorted(seen - hit):
        if place not in hit:
            once(place)
    return hits


def unhit(module: ModuleType, hits: Hits, shielded: Mapping[str, str]) -> list[str]:
    """Return the awaits of a module that no cancellation has hit, as "function:line: text".

    An await within `with ...(shield=True)` needs no hit. `shielded` names functions, or
    single lines as "function: text", that need none either, each with its reason; an entry
    that excuses nothing is reported too, so that the list stays true.
    """
    path = str(module.__file__)
    source = Path(path).read_text(encoding="utf-8")
    lines = source.splitlines()
    excuses = dict.fromkeys(shielded, False)
    missed: list[str] = []
    for function, first, last in _awaits(ast.parse(source)):
        if any((path, line) in hits.lines for line in range(first, last + 1)):
            continue
        text = lines[first - 1].strip()
        names = [name for name in (function, f"{function}: {text}") if name in excuses]
        if names:
            excuses.update(dict.fromkeys(names, True))
        else:
            missed.append(f"{function}:{first}: {text}")
    idle = [f"excuses nothing: {name}" for name, used in excuses.items() if not used]
    return missed + idle


class _Watch(Instrument):
    """Counts the victim's checkpoints and cancels it at the one aimed at."""

    def __init__(self, files: frozenset[str], aim: int | Place | None) -> None:
        self.scope = trio.CancelScope()
        self.seen: set[Place] = set()
        self.fired: Place | None = None
        self.count = 0
        self._files = files
        self._aim = aim
        self._root: trio.lowlevel.Task | None = None

    async def run(self, victim: Callable[[], Awaitable[object]]) -> None:
        """Run the victim: this task and all that it starts."""
        self._root = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                await victim()
        finally:
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See where the task waits now, and whether this is the place."""
        ended = inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED
        if ended or self.scope.cancel_called or not self._within(task):
            return
        frames = [(frame.f_code, line) for frame, line in task.iter_await_frames()]
        names = [code.co_name for code, _ in frames]
        if not self._feels() or _defers(names):
            return
        place = tuple(
            (code.co_filename, line) for code, line in frames if code.co_filename in self._files
        )
        self.seen.add(place)
        self.count += 1
        if self._aim in (self.count, place):
            self.fired = place
            self.scope.cancel()

    def _within(self, task: trio.lowlevel.Task) -> bool:
        each: trio.lowlevel.Task | None = task
        while each is not None and each is not self._root:
            nursery = each.parent_nursery
            each = None if nursery is None else nursery.parent_task
        return each is not None

    def _feels(self) -> bool:
        """Return whether the task that has just stepped would feel a cancellation."""
        if trio.current_effective_deadline() == -math.inf:
            return False  # it is being cancelled by something of its own
        before_s, self.scope.deadline = self.scope.deadline, _PROBE_S
        feels = trio.current_effective_deadline() == _PROBE_S
        self.scope.deadline = before_s
        return feels


def _defers(names: list[str]) -> bool:
    """Return whether a cancellation that comes in this wait is felt only after it."""
    if "cancel_shielded_checkpoint" not in names:
        return False
    return names[names.index("cancel_shielded_checkpoint") - 1] != "checkpoint"


def _run(scenario: Scenario, watch: _Watch, limit_s: float) -> None:
    raised: list[BaseException] = []
    returned: list[bool] = []

    async def victim(beside: trio.CancelScope) -> None:
        async def whole() -> None:
            await scenario.victim()
            returned.append(True)

        try:
            await watch.run(whole)
        except BaseException as error:
            raised.append(error)
            if not isinstance(error, Exception):
                raise
        finally:
            beside.cancel()

    async def main() -> None:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as beside:
                    nursery.start_soon(victim, beside)
                    await scenario.beside()
                watch.scope.cancel()

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
        checkpoint = None if watch.fired is None else watch.count
        error = raised[0] if raised else None
        scenario.check(Ending(checkpoint, error, bool(returned)))
    except BaseException as failure:
        if watch.fired is not None:
            lines = ", ".join(f"{Path(file).name}:{line}" for file, line in watch.fired)
            failure.add_note(f"cancelled at checkpoint {watch.count}: {lines or 'elsewhere'}")
        raise


def _awaits(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Yield function, first and last line of every await that is not lexically shielded."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = function
            match child:
                case ast.With() if any(_shields(item.context_expr) for item in child.items):
                    continue
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    inner = f"{function}.{child.name}" if function else child.name
                case ast.Await():
                    yield function, child.lineno, child.end_lineno or child.lineno
                case ast.AsyncWith() | ast.AsyncFor():
                    yield function, child.lineno, child.body[0].lineno - 1
                case ast.comprehension() if child.is_async:
                    end = child.iter.end_lineno
                    yield function, child.target.lineno, end or child.target.lineno
                case _:
                    pass
            yield from walk(child, inner)

    yield from walk(tree, "")


def _shields(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and any(
        keyword.arg == "shield"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is True
        for keyword in call.keywords
    )
