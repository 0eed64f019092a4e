"""Where commands are written down, and hazardous ones before they may go."""

from __future__ import annotations

from typing import Protocol

from .errors import ActorError
from .events import CommandMoved, CommandRefused


class LedgerError(ActorError):
    """A command could not be written down; the message says why."""


class Ledger(Protocol):
    """Keeps what happens to commands. A tree gives it to its buses.

    Only `enter` may wait. Of a read it is told how it ended, unless it asks for `everything`.
    """

    @property
    def everything(self) -> bool:
        """Whether each step of each read is noted as well."""
        ...

    async def enter(self, queued: CommandMoved) -> None:
        """Return once a hazardous command is on disk; it may be noted later, or not.

        Emergencies and what drives instruments safe are never brought here. Cancelled, it
        may be on disk or not; `strike` follows then, as after any entry whose command is not
        accepted after all.

        Raises:
            LedgerError: It cannot be written.
        """
        ...

    def strike(self, failed: CommandMoved) -> None:
        """Note that a command whose entry was begun was refused: it ends here, unsent."""
        ...

    def note(self, moved: CommandMoved) -> None:
        """Note that a command was accepted or took a step."""
        ...

    def note_failed_read(self, failed: CommandMoved) -> None:
        """Note that a read failed."""
        ...

    def note_refused(self, refused: CommandRefused) -> None:
        """Note that a command was not accepted."""
        ...

    def count_read(self, instrument: str) -> None:
        """Note that a read gave its value."""
        ...
