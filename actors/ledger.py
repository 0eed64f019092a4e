"""Where hazardous commands are written down before they may go."""

from __future__ import annotations

from typing import Protocol

from .errors import ActorError
from .events import CommandMoved


class LedgerError(ActorError):
    """A command could not be written down; the message says why."""


class Ledger(Protocol):
    """Keeps on disk which hazardous commands were accepted. A tree gives it to its buses.

    Emergencies and what drives instruments safe are never brought here.
    """

    async def enter(self, queued: CommandMoved) -> None:
        """Return once `queued` is on disk; the same event may be published later, or not.

        Cancelled, it may be on disk or not; `strike` follows then, as after any entry
        whose command is not accepted after all.

        Raises:
            LedgerError: It cannot be written.
        """
        ...

    def strike(self, failed: CommandMoved) -> None:
        """Note that a command whose entry was begun was refused: it ends here, unsent."""
        ...
