"""What a supervisor does when a child ends: pure decisions.

Rules:
1. A permanent child is always restarted, a transient one only after a failure, a
   temporary one never.
2. one_for_one restarts the child alone; one_for_all stops all others and restarts all;
   rest_for_one does so with the child and those started after it.
3. Siblings stop in reverse start order and start in start order. A temporary sibling
   that had to stop is dropped. Children that had ended by themselves start again with
   their group.
4. More than `max_restarts` restarts within `window_s` are refused: the supervisor gives
   up. Every restart of rule 1 counts, whether the child had failed or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum

from attrs import field, frozen, validators


class Restart(Enum):
    """Whether a child that ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(Enum):
    """Which siblings share a child's restart."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


@frozen
class Child:
    """What the decision needs to know of a child.

    Attributes:
        name: Its name.
        restart: Its restart class.
        running: Whether it has to be stopped before it can start.
    """

    name: str
    restart: Restart
    running: bool


@frozen
class Decision:
    """What to do, in this order.

    Attributes:
        restarts: Whether anything restarts, which costs one of the intensity.
        stop: Children to stop, in this order.
        drop: Children to forget.
        start: Children to start, in this order.
    """

    restarts: bool = False
    stop: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()


def decide(strategy: Strategy, children: Sequence[Child], ended: str, *, failed: bool) -> Decision:
    """Decide what follows from the end of the child named `ended`.

    Args:
        strategy: Which siblings share the restart.
        children: All children in start order, the ended one included.
        ended: The name of the child that ended.
        failed: Whether it ended by an exception.
    """
    index = next(i for i, child in enumerate(children) if child.name == ended)
    match children[index].restart:
        case Restart.TEMPORARY:
            return Decision(drop=(ended,))
        case Restart.TRANSIENT if not failed:
            return Decision()
        case _:
            pass
    group = {
        Strategy.ONE_FOR_ONE: children[index : index + 1],
        Strategy.ONE_FOR_ALL: children,
        Strategy.REST_FOR_ONE: children[index:],
    }[strategy]
    return Decision(
        restarts=True,
        stop=tuple(child.name for child in reversed(group) if child.running),
        drop=tuple(child.name for child in group if child.restart is Restart.TEMPORARY),
        start=tuple(child.name for child in group if child.restart is not Restart.TEMPORARY),
    )


@frozen
class Intensity:
    """How many restarts a supervisor bears.

    Attributes:
        max_restarts: The most restarts within the window; 0 bears none.
        window_s: The window in seconds.
    """

    max_restarts: int = field(default=3, validator=validators.ge(0))
    window_s: float = field(default=5.0, validator=validators.gt(0.0))


class RestartBudget:
    """Counts restarts in a sliding window."""

    def __init__(self, intensity: Intensity) -> None:
        """Start with an unused budget."""
        self._intensity = intensity
        self._restarts: deque[float] = deque()

    def spend(self, now_s: float) -> bool:
        """Count one restart at `now_s` and return whether the intensity still bears it."""
        while self._restarts and self._restarts[0] + self._intensity.window_s < now_s:
            self._restarts.popleft()
        self._restarts.append(now_s)
        return len(self._restarts) <= self._intensity.max_restarts
