"""The supervisor, cancelled at each of its checkpoints; and its callers at each of theirs."""

from __future__ import annotations

import math

import trio

from actors import (
    ChildStatus,
    GaveUpError,
    Intensity,
    Restart,
    Strategy,
    SupervisionError,
    supervisor,
)
from tests.support.cancellation import Ending, Hits, Scenario, sweep, unhit

from .family import Family, quiet


class Kept:
    """A family whose supervisor is the victim, and requests that all have to be answered."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.asked = 0
        self.answered = 0

    async def victim(self) -> None:
        """Run the supervisor."""
        await self.family.run()

    async def beside(self) -> None:
        """Let the children fail and ask the supervisor for everything there is."""
        family = self.family
        await family.up.wait()
        await self.live()

    async def live(self) -> None:
        """Do what this family does."""
        raise NotImplementedError

    async def ask(self, method: str, argument: object) -> None:
        """Ask the supervisor for something, and count the answer, whatever it is."""
        self.asked += 1
        with trio.CancelScope(shield=True):
            try:
                await getattr(self.family.supervisor, method)(argument)
            except SupervisionError:
                pass
            finally:
                self.answered += 1

    def check(self, ending: Ending) -> None:
        """Check that nothing is left, nothing is lost, and everything is answered."""
        family = self.family
        assert self.answered == self.asked
        assert ending.error is None or isinstance(ending.error, GaveUpError)
        check_all_down(family)


def check_all_down(family: Family) -> None:
    """Check that every child has ended, and that those up at the end ended in reverse."""
    alive: list[str] = []
    stopped: list[str] = []
    for line in family.log:
        name = line[1:]
        if line[0] == "+":
            alive.append(name)
            stopped.clear()
        elif line[0] == "-" and name in alive:
            alive.remove(name)
            stopped.append(name)
    assert alive == []
    assert {child.status for child in family.supervisor.children} <= {ChildStatus.DOWN}
    settled = [line.split()[1] for line in family.log if line.startswith("settle")]
    for child in family.supervisor.children:
        assert child.name in settled
    order = [child.name for child in family.supervisor.children]
    ends = [line.split()[1] for line in family.log if line.endswith("its supervisor stopped")]
    assert ends == [*reversed(order)]


class Restarting(Kept):
    """Slow starts, slow stops, group restarts, a delayed one, and one that fails to start."""

    def __init__(self) -> None:
        super().__init__(Family("abc", strategy=Strategy.REST_FOR_ONE, stop_s=1.0))
        for script in self.family.scripts.values():
            script.late_s = 0.5
            script.clean_up_s = 2.0

    async def live(self) -> None:
        """Let siblings restart together, at once and later."""
        family = self.family
        family["b"].fail()
        await trio.sleep(10.0)
        family["c"].start_errors = [RuntimeError("busy")]
        family["a"].delay_s = 5.0
        family["a"].fail()
        await trio.sleep(20.0)


class Changing(Kept):
    """Children are added, stopped, started again and removed, with slow starts and stops."""

    def __init__(self) -> None:
        super().__init__(Family("ab", stop_s=1.0, classes={"b": Restart.TRANSIENT}))
        for script in (*self.family.scripts.values(), self.family.add("x")):
            script.late_s = 0.5
            script.clean_up_s = 2.0

    async def live(self) -> None:
        """Ask for everything, some of it at the same time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ask, "start_child", self.family["x"].spec())
            nursery.start_soon(self.ask, "stop_child", "a")
            await quiet()
        await self.ask("restart_child", "a")
        self.family["b"].end()
        await self.ask("remove_child", "b")
        await self.ask("remove_child", "x")


class GivingUp(Kept):
    """The intensity is exceeded; the farewell takes its time."""

    def __init__(self) -> None:
        super().__init__(
            Family("ab", intensity=Intensity(max_restarts=0), farewell_s=1.0, stop_s=1.0)
        )
        self.family["b"].clean_up_s = 2.0

    async def live(self) -> None:
        """Let a child fail, and ask for something while the supervisor gives up."""
        self.family["a"].fail()
        await quiet()
        await self.ask("stop_child", "b")
        await trio.sleep_forever()


class Asking:
    """A caller is the victim; the supervisor goes on."""

    def __init__(self) -> None:
        self.family = Family("ab")
        for script in (*self.family.scripts.values(), self.family.add("x")):
            script.late_s = 0.5
            script.clean_up_s = 2.0
        self.over = trio.Event()
        self.steps: list[str] = []
        self.statuses: dict[str, ChildStatus] = {}

    async def victim(self) -> None:
        """Ask for everything, one after the other."""
        asked = self.family.supervisor
        try:
            await self.family.up.wait()
            await asked.start_child(self.family["x"].spec())
            self.steps.append("start")
            await asked.stop_child("a")
            self.steps.append("stop")
            await asked.restart_child("a")
            self.steps.append("restart")
            await asked.remove_child("x")
            self.steps.append("remove")
        finally:
            self.over.set()

    async def beside(self) -> None:
        """Keep the supervisor running, also once the victim is gone; then look."""
        with trio.CancelScope(shield=True):
            async with self.family.running():
                await self.over.wait()
                await trio.sleep(100.0)
                # It still serves others.
                await self.family.supervisor.stop_child("b")
                self.statuses = self.family.statuses

    def check(self, ending: Ending) -> None:
        """Check that a request is carried out whole or not at all."""
        assert ending.error is None
        assert ending.returned == (len(self.steps) == 4)
        assert self.statuses.pop("b") is ChildStatus.DOWN
        assert set(self.statuses.values()) <= {ChildStatus.UP, ChildStatus.DOWN}
        # The request in flight may have been carried out all the same.
        possible = [
            {"a": ChildStatus.UP},
            {"a": ChildStatus.UP, "x": ChildStatus.UP},
            {"a": ChildStatus.DOWN, "x": ChildStatus.UP},
            {"a": ChildStatus.UP, "x": ChildStatus.UP},
            {"a": ChildStatus.UP},
        ]
        done = len(self.steps)
        assert self.statuses in possible[done : done + 2]
        check_all_down(self.family)


def test_a_supervisor_cancelled_anywhere_leaves_nothing_behind() -> None:
    """Cancelled at each checkpoint in turn: children down in reverse, requests answered.

    And the scenarios reach every await of the supervisor that is not shielded.
    """
    hits = Hits()
    scenarios: list[type[Scenario]] = [Restarting, Changing, GivingUp, Asking]
    for scenario in scenarios:
        found = sweep(scenario, supervisor)
        assert found.runs > 5
        hits |= found
    assert (
        unhit(
            supervisor,
            hits,
            {
                "Supervisor.run: async with trio.open_nursery() as nursery:": (
                    "all children have ended when it is left: it waits for nothing"
                ),
                "Supervisor._stop_all": "only called under a shield",
                "Supervisor._incarnation": "a child's own scope is a shield",
            },
        )
        == []
    )


def test_the_sweep_itself_sees_an_await_that_nothing_reaches() -> None:
    """A check that misses nothing would be no check."""
    found = unhit(supervisor, Hits(), {"Supervisor.nowhere": "does not exist"})
    assert any("_bell.wait()" in line for line in found)
    assert "excuses nothing: Supervisor.nowhere" in found
    assert math.isfinite(len(found))
