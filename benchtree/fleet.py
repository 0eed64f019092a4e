"""Many instruments with a tree of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import trio

from actors import Observer

from .group import DeviceGroup
from .opening import open_tree
from .results import ErrorPolicy, FleetClosedError
from .spec import TreeSpec


class Fleet(DeviceGroup):
    """Many instruments on many buses, asked with one call; an async context manager.

    It runs a tree of its own: every bus is an actor, supervised and reconnected. Leaving
    it drives safe and closes what was added, the last added first.

    Args:
        error_policy: What becomes of errors: all in one `FleetError`, or in the results.
        observer: Sees every event of the fleet's tree from the very first on.
    """

    def __init__(
        self,
        *,
        error_policy: ErrorPolicy = ErrorPolicy.RAISE,
        observer: Observer | None = None,
    ) -> None:
        """Make a fleet that is not open yet."""
        super().__init__(None, error_policy=error_policy)
        self._observer = observer
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open it, without instruments.

        Raises:
            FleetClosedError: It was open before.
        """
        if self._closed or self._host is not None:
            raise FleetClosedError("a fleet is entered once")
        opening = open_tree(TreeSpec(name="fleet"), observer=self._observer)
        self._host = await self._stack.enter_async_context(opening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Close it, whatever happened."""
        # The tree must be left, too, whatever is cancelled meanwhile.
        with trio.CancelScope(shield=True):
            await self.aclose()
        return bool(await self._stack.__aexit__(kind, error, trace))
