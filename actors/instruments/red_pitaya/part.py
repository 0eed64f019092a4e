"""A module of a board beside others, and what passes its operation."""

from __future__ import annotations

from attrs import frozen

from actors.bus import Bus

from .module import Module


@frozen
class ModuleStatus:
    """What a module is doing.

    Attributes:
        module: Its name in PyRPL.
        doing: The operation that has it, or None.
        waiting: How many operations wait for it.
        since_s: For how long it has been at it, in seconds; None when it is free.
    """

    module: str
    doing: str | None
    waiting: int
    since_s: float | None


async def ask_status(lane: Module, module: str) -> ModuleStatus:
    """Ask in one lane what a module is doing.

    Raises:
        RefusedError: It was not accepted.
        CommandError: It failed.
    """
    said = await lane.ask_plan(lane.quick("status", "status", {"module": module}))
    return ModuleStatus(said["module"], said["doing"], said["waiting"], said["since_s"])


async def tell_stop(lane: Module, module: str) -> bool:
    """End in one lane the operation that uses a module; return whether there was one.

    Raises:
        RefusedError: It was not accepted.
        CommandError: It failed.
    """
    return bool(await lane.ask_plan(lane.quick("stop", "stop", {"module": module}, writes=True)))


class Part(Module):
    """A module of a board. Its operation holds its lane; what passes it takes the board's."""

    def __init__(
        self, name: str, bus: Bus, *, unit: str | None = None, board: Module | None = None
    ) -> None:
        """Make a module of `board` on `bus`; its unit is its name in PyRPL."""
        super().__init__(name, bus, unit=unit)
        self._board: Module = self if board is None else board

    async def get_status(self) -> ModuleStatus:
        """Return what it is doing, at once, whatever that is.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        return await ask_status(self._board, self.unit or "")

    async def stop(self) -> bool:
        """End the operation that uses it, at once; return whether there was one.

        Whoever waits for the operation is told that it was stopped.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        return await tell_stop(self._board, self.unit or "")


class Library(Part):
    """The lane of what is called by path: it may be held while others go on."""
