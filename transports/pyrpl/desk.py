"""Who works with which module of the board. Pure bookkeeping; waiting is the worker's.

Rules:
1. A module has one operation at a time. Others wait for it in the order they came, or are
   refused.
2. An operation that needs further modules takes all of them at once, or is refused: it never
   waits for one while it holds another.
3. What only reads a register asks nobody. What writes one is refused while an operation that
   would not survive it has the module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define


class RefusedCallError(Exception):
    """A call is not carried out; nothing of it happened.

    Attributes:
        kind: "rejected" (mend the call), "busy", "conflict", "unknown", "aborted" or "failed".
        text: Why, in words.
    """

    def __init__(self, kind: str, text: str) -> None:
        """Store both."""
        super().__init__(text)
        self.kind = kind
        self.text = text


@define(eq=False)
class Place:
    """An operation's place at the desk.

    Attributes:
        module: The module it is an operation of.
        needs: Further modules that it uses.
        name: What it is called.
        called: Told once it may begin.
        granted: Whether it may.
    """

    module: str
    needs: frozenset[str]
    name: str
    called: Callable[[], None]
    granted: bool = False

    @property
    def modules(self) -> frozenset[str]:
        """All modules that it uses."""
        return self.needs | {self.module}


class Desk:
    """Hands out the modules of one board."""

    def __init__(self) -> None:
        """Start with every module free."""
        self._working: dict[str, Place] = {}
        self._waiting: dict[str, deque[Place]] = {}

    def take(self, place: Place, *, wait: bool) -> None:
        """Give a place its modules, now or when its turn comes; `called` tells.

        Raises:
            RefusedCallError: Another module's operation uses one of them (conflict), or this
                one's does and `wait` is False (busy).
        """
        self._check(place)
        queue = self._waiting.get(place.module)
        running = self._working.get(place.module)
        if running is None and not queue:
            self._grant(place)
        elif not wait:
            doing = place.name if running is None else running.name
            raise RefusedCallError("busy", f"{place.module} is busy with {doing}")
        else:
            self._waiting.setdefault(place.module, deque()).append(place)

    def leave(self, place: Place) -> None:
        """Give the modules back, or the place in the queue; who is next is called."""
        if place.granted:
            for module in place.modules:
                del self._working[module]
            place.granted = False
        else:
            queue = self._waiting.get(place.module, deque())
            if place in queue:
                queue.remove(place)
        for module in place.modules:
            self._call_next(module)

    def check_write(self, module: str, what: str) -> None:
        """Check that a register of a module may be written now.

        Raises:
            RefusedCallError: An operation has the module.
        """
        place = self._working.get(module)
        if place is None:
            return
        if place.module == module:
            raise RefusedCallError("busy", f"{what}: {module} is busy with {place.name}")
        raise RefusedCallError("conflict", f"{what}: {_uses(place, module)}")

    def doing(self, module: str) -> str | None:
        """Return which operation uses a module, or None."""
        place = self._working.get(module)
        return None if place is None else place.name

    def waiting(self, module: str) -> int:
        """Return how many operations wait for a module."""
        return len(self._waiting.get(module, ()))

    def _check(self, place: Place) -> None:
        for module in sorted(place.modules):
            other = self._working.get(module)
            if other is not None and other.module != place.module:
                raise RefusedCallError("conflict", f"{place.name}: {_uses(other, module)}")

    def _grant(self, place: Place) -> None:
        place.granted = True
        for module in place.modules:
            self._working[module] = place
        place.called()

    def _call_next(self, module: str) -> None:
        queue = self._waiting.get(module)
        if queue and module not in self._working:
            # Whoever finds a further module taken is refused by `confirm` once it is called.
            place = queue.popleft()
            try:
                self._check(place)
            except RefusedCallError:
                place.called()
                self._call_next(module)
            else:
                self._grant(place)

    def confirm(self, place: Place) -> None:
        """Check, once called, that the place has its modules.

        Raises:
            RefusedCallError: Another module's operation took one of them meanwhile.
        """
        if not place.granted:
            self._check(place)
            raise RefusedCallError("conflict", f"{place.name}: its modules were taken meanwhile")


def _uses(place: Place, module: str) -> str:
    return f"{place.name} uses {module}; wait for it or stop it"
