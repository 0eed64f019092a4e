"""What a worker serves: a board, and what its calls do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from attrs import frozen

INSTALL: Final = 'pip install "benchtree[pyrpl]"'

Report: TypeAlias = Callable[[Any], None]
"""Says how far an operation is; for the operation to call."""


class BoardLostError(Exception):
    """The board is gone: nothing that follows can work."""


class StartError(Exception):
    """The board cannot be reached; the message says why.

    Attributes:
        kind: "missing" (something is not installed), "address" (mend the address), "owned"
            or "refused" (it may work later).
    """

    def __init__(self, kind: str, text: str) -> None:
        """Store both."""
        super().__init__(text)
        self.kind = kind


@frozen
class Quick:
    """A call that takes no time worth mentioning.

    Attributes:
        run: Carries it out.
        writes: The module whose registers it writes, or None.
        touches: Further modules that it writes to.
    """

    run: Callable[[], Any]
    writes: str | None = None
    touches: frozenset[str] = frozenset()


@frozen
class Operation:
    """A call that takes its time while others go on.

    Attributes:
        module: The module it is an operation of.
        run: Carries it out; cancelling it leaves the module ready for the next one.
        needs: Further modules that it uses.
        blocks_s: How long `run` may keep everybody else waiting before there is something to
            await, in seconds.
        kept: How many of its reports wait for whoever asks; None for all of them. Older
            ones give way.
    """

    module: str
    run: Callable[[Report], Awaitable[Any]]
    needs: frozenset[str] = frozenset()
    blocks_s: float = 0.0
    kept: int | None = None


class Board(Protocol):
    """What a worker serves."""

    def plan(self, name: str, arguments: Mapping[str, Any]) -> Quick | Operation:
        """Return what a call does.

        Raises:
            RefusedCallError: There is no such call, or its arguments are wrong.
        """
        ...

    def name_of(self, module: str) -> str:
        """Return what a module is called, whatever its caller calls it.

        Raises:
            RefusedCallError: There is none.
        """
        ...

    def beat(self) -> None:
        """Make sure that the board is there.

        Raises:
            BoardLostError: It is not.
        """
        ...

    def tick(self) -> None:
        """Do the chores of the board's library."""
        ...

    def switch_off(self) -> None:
        """Switch every output off."""
        ...

    def close(self) -> None:
        """Let go of the board."""
        ...
