"""A supervisor against a small model of OTP's, whatever happens to its children.

The model is written from the documentation of OTP's `supervisor` and of Elixir's
`DynamicSupervisor`: which children run after each event, how often each was started, and
when the supervisor gives up. It knows nothing of how ours does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hypothesis.strategies as st
import trio
import trio.testing
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from trio.testing import MockClock

from actors import (
    ChildSpec,
    ChildStatus,
    Events,
    Intensity,
    Restart,
    Started,
    Strategy,
    SupervisionError,
    Supervisor,
)

NAMES: Sequence[str] = ("a", "b", "c", "d")


@define(eq=False)
class Child:
    """One real child: its incarnations live until they are told how to end."""

    name: str
    log: list[str]
    starts: int = 0
    order: trio.Event = field(factory=trio.Event)
    error: Exception | None = None

    async def run(self, started: Started) -> None:
        """Live until told otherwise."""
        self.starts += 1
        self.order, self.error = trio.Event(), None
        self.log.append(f"+{self.name}")
        started()
        try:
            await self.order.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.log.append(f"-{self.name}")


@define
class ModelChild:
    """One child as OTP documents it."""

    restart: Restart
    running: bool
    starts: int


@define
class Model:
    """A supervisor as OTP documents it."""

    strategy: Strategy
    intensity: Intensity
    children: dict[str, ModelChild]
    restarts: list[float] = field(factory=list[float])
    gave_up: bool = False
    # What started (+) and what stopped (-), in this order.
    log: list[str] = field(factory=list[str])

    def ended(self, name: str, now_s: float, *, failed: bool) -> None:
        """React to a child that ended by itself."""
        child = self.children[name]
        self._down(name)
        if child.restart is Restart.TEMPORARY:
            del self.children[name]
            return
        if child.restart is Restart.TRANSIENT and not failed:
            return
        self.restarts = [at_s for at_s in self.restarts if now_s - at_s <= self.intensity.window_s]
        self.restarts.append(now_s)
        if len(self.restarts) > self.intensity.max_restarts:
            self.gave_up = True
            for each in reversed(self.children):
                self._down(each)
            return
        names = list(self.children)
        after = names.index(name)
        affected = {
            Strategy.ONE_FOR_ONE: [name],
            Strategy.ONE_FOR_ALL: names,
            Strategy.REST_FOR_ONE: names[after:],
        }[self.strategy]
        for each in reversed(affected):
            self._down(each)
        for each in affected:
            if self.children[each].restart is Restart.TEMPORARY:
                del self.children[each]
            else:
                self._up(each)

    def terminate(self, name: str) -> None:
        """Stop a child at somebody's request: it stays known, unless it is temporary."""
        self._down(name)
        if self.children[name].restart is Restart.TEMPORARY:
            del self.children[name]

    def restart(self, name: str) -> bool:
        """Start a stopped child at somebody's request; return whether that was possible."""
        child = self.children.get(name)
        if child is None or child.running:
            return False
        self._up(name)
        return True

    def add(self, name: str, restart: Restart) -> None:
        """Start a new child after the others."""
        self.children[name] = ModelChild(restart, running=False, starts=0)
        self._up(name)

    def remove(self, name: str) -> None:
        """Stop a child and forget it."""
        self._down(name)
        del self.children[name]

    def _up(self, name: str) -> None:
        self.children[name].running = True
        self.children[name].starts += 1
        self.log.append(f"+{name}")

    def _down(self, name: str) -> None:
        if self.children[name].running:
            self.children[name].running = False
            self.log.append(f"-{name}")


STEPS = st.one_of(
    st.tuples(st.just("fail"), st.sampled_from(NAMES)),
    st.tuples(st.just("end"), st.sampled_from(NAMES)),
    st.tuples(st.just("stop"), st.sampled_from(NAMES)),
    st.tuples(st.just("restart"), st.sampled_from(NAMES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("add"), st.sampled_from(NAMES)),
    st.tuples(st.just("wait"), st.sampled_from(("0.4", "1.1", "2.6"))),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    strategy=st.sampled_from(Strategy),
    classes=st.lists(st.sampled_from(Restart), min_size=1, max_size=4),
    max_restarts=st.integers(0, 4),
    steps=st.lists(STEPS, max_size=25),
)
def test_supervisor_does_as_otp_says(
    strategy: Strategy,
    classes: list[Restart],
    max_restarts: int,
    steps: list[tuple[str, str]],
) -> None:
    """Whatever ends, fails, is stopped, added or removed, the same children run as in OTP."""
    intensity = Intensity(max_restarts=max_restarts, window_s=2.0)
    trio.run(
        compare,
        strategy,
        dict(zip(NAMES, classes, strict=False)),
        intensity,
        steps,
        clock=MockClock(autojump_threshold=0.0),
    )


async def compare(
    strategy: Strategy,
    classes: dict[str, Restart],
    intensity: Intensity,
    steps: list[tuple[str, str]],
) -> None:
    """Take the same steps with a supervisor and with the model."""
    log: list[str] = []
    children = {name: Child(name, log) for name in NAMES}
    model = Model(strategy, intensity, {})
    for name, restart in classes.items():
        model.add(name, restart)
    # Removed children are new ones when they are added again.
    before = dict.fromkeys(NAMES, 0)

    def spec(name: str, restart: Restart) -> ChildSpec:
        return ChildSpec(name, children[name].run, restart=restart)

    supervisor = Supervisor(
        "family",
        [spec(name, each) for name, each in classes.items()],
        events=Events(),
        strategy=strategy,
        intensity=intensity,
    )
    gave_up = trio.Event()

    async def run() -> None:
        try:
            await supervisor.run(lambda: None)
        except SupervisionError:
            gave_up.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        for action, name in steps:
            if action == "wait":
                await trio.sleep(float(name))
                continue
            await step(action, name, model, supervisor, children, before, spec)
            await trio.testing.wait_all_tasks_blocked()
            assert gave_up.is_set() == model.gave_up
            assert log == model.log
            if model.gave_up:
                break
            running = {each.name: each.status is ChildStatus.UP for each in supervisor.children}
            assert running == {each: one.running for each, one in model.children.items()}
            for each, one in model.children.items():
                assert children[each].starts - before[each] == one.starts, each
        nursery.cancel_scope.cancel()


async def step(
    action: str,
    name: str,
    model: Model,
    supervisor: Supervisor,
    children: dict[str, Child],
    before: dict[str, int],
    spec: Callable[[str, Restart], ChildSpec],
) -> None:
    """Take one step with both."""
    known = model.children.get(name)
    match action:
        case "fail" | "end":
            if known is not None and known.running:
                children[name].error = RuntimeError(name) if action == "fail" else None
                children[name].order.set()
                model.ended(name, trio.current_time(), failed=action == "fail")
        case "stop":
            if known is not None:
                await supervisor.stop_child(name)
                model.terminate(name)
        case "restart":
            possible = model.restart(name)
            try:
                await supervisor.restart_child(name)
            except SupervisionError:
                assert not possible
            else:
                assert possible
        case "remove":
            if known is not None:
                await supervisor.remove_child(name)
                model.remove(name)
        case _:
            if known is None:
                before[name] = children[name].starts
                restart = Restart.TRANSIENT
                await supervisor.start_child(spec(name, restart))
                model.add(name, restart)
