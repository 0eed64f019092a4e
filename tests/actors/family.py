"""Children whose life a test directs, and a supervisor that keeps them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing
from attrs import define, field

from actors import (
    ChildSpec,
    ChildStatus,
    Event,
    Events,
    Intensity,
    Restart,
    Started,
    Strategy,
    Supervisor,
)


@define(eq=False)
class Script:
    """What a child does, and what it and its supervisor did, in one log of the family.

    Attributes:
        name: The child's name.
        log: Shared by the family: "+a" started, "-a" ended, "settle a ..." and so on.
        start_errors: Raised by the next starts before they are up; None for a good one.
        late_s: How long a start takes.
        clean_up_s: How long stopping takes.
        clean_up_error: Raised while stopping.
        delay_s: What its breaker says to a restart.
    """

    name: str
    log: list[str]
    start_errors: list[Exception | None] = field(factory=list[Exception | None])
    late_s: float = 0.0
    clean_up_s: float = 0.0
    clean_up_error: Exception | None = None
    delay_s: float = 0.0
    _order: trio.Event = field(factory=trio.Event)
    _error: BaseException | None = None

    async def __call__(self, started: Started) -> None:
        """Live until told otherwise."""
        self._order, self._error = trio.Event(), None
        try:
            await trio.sleep(self.late_s)
            if self.start_errors and (error := self.start_errors.pop(0)) is not None:
                raise error
            self.log.append(f"+{self.name}")
            started()
            await self._order.wait()
            if self._error is not None:
                raise self._error
        except trio.Cancelled:
            if self.clean_up_s:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.clean_up_s)
            if self.clean_up_error is not None:
                raise self.clean_up_error from None
            raise
        finally:
            self.log.append(f"-{self.name}")

    def settle(self, reason: str, *, for_good: bool) -> None:
        """Note that the supervisor wants everything answered."""
        self.log.append(f"settle {self.name} {'for good' if for_good else 'for now'}: {reason}")

    def end(self) -> None:
        """Let the running incarnation return."""
        self._order.set()

    def fail(self, error: BaseException | None = None) -> None:
        """Let the running incarnation raise."""
        self._error = error or RuntimeError(f"{self.name} failed")
        self._order.set()

    def spec(self, restart: Restart = Restart.PERMANENT, *, stop_s: float = 5.0) -> ChildSpec:
        """Return the specification of this child."""
        return ChildSpec(
            self.name,
            self,
            restart=restart,
            stop_s=stop_s,
            settle=self.settle,
            restart_delay_s=lambda: self.delay_s,
        )


class Family:
    """A supervisor with scripted children and a log of what happens."""

    def __init__(
        self,
        names: str = "abc",
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        restart: Restart = Restart.PERMANENT,
        intensity: Intensity | None = None,
        classes: dict[str, Restart] | None = None,
        more: Sequence[ChildSpec] = (),
        stop_s: float = 5.0,
        farewell_s: float = 0.0,
    ) -> None:
        """Make a family whose children are named by single letters."""
        self.log: list[str] = []
        self.events: list[Event] = []
        self.scripts = {name: Script(name, self.log) for name in names}
        self.hub = Events()
        specs = [
            script.spec((classes or {}).get(name, restart), stop_s=stop_s)
            for name, script in self.scripts.items()
        ]
        self.supervisor = Supervisor(
            "family",
            [*specs, *more],
            events=self.hub,
            strategy=strategy,
            intensity=intensity or Intensity(max_restarts=10, window_s=5.0),
            farewell=self._farewell,
        )
        self.up = trio.Event()
        self.farewell_s = farewell_s

    async def _farewell(self) -> None:
        self.log.append("farewell")
        await trio.sleep(self.farewell_s)

    def __getitem__(self, name: str) -> Script:
        """Return the script of a child."""
        return self.scripts[name]

    def add(self, name: str) -> Script:
        """Return the script of one more child, which nobody has started yet."""
        script = self.scripts[name] = Script(name, self.log)
        return script

    async def run(self) -> None:
        """Run the supervisor, observing its events, until cancelled or it fails."""
        with self.hub.observed(self.events.append):
            await self.supervisor.run(self.up.set)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the supervisor in a task, from all children up until the block ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await self.up.wait()
            yield
            nursery.cancel_scope.cancel()

    def drain(self) -> list[str]:
        """Return the log so far and forget it."""
        log = list(self.log)
        self.log.clear()
        return log

    def lives(self) -> list[str]:
        """Return the starts and ends in the log so far and forget it."""
        return [line for line in self.drain() if line[0] in "+-"]

    def settled(self) -> list[str]:
        """Return what was settled in the log so far and forget it."""
        return [line for line in self.drain() if line.startswith("settle")]

    @property
    def statuses(self) -> dict[str, ChildStatus]:
        """Where the children stand."""
        return {child.name: child.status for child in self.supervisor.children}


async def quiet() -> None:
    """Let everything happen that happens without time passing."""
    await trio.testing.wait_all_tasks_blocked()
