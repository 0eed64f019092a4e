"""Telling a lost connection from a failed read, for sources of others."""

from __future__ import annotations

from random import Random
from typing import Final

import trio

from actors import current_clock

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0

_JITTER: Final = 0.1


def is_connection_error(error: BaseException) -> bool:
    """Return whether an error says that the connection itself is gone.

    That is any OSError but a timeout, EOFError, Trio's errors of broken and closed resources,
    a class whose name ends in `ConnectionError` (libraries have roots of their own), and a
    group that holds one of these.
    """
    match error:
        case BaseExceptionGroup():
            return any(is_connection_error(each) for each in error.exceptions)
        case TimeoutError():
            return False
        case OSError() | EOFError() | trio.BrokenResourceError() | trio.ClosedResourceError():
            return True
        case _:
            return any(kind.__name__.endswith("ConnectionError") for kind in type(error).__mro__)


class Backoff:
    """Growing waits between attempts: doubled each time, up to a bound, and jittered.

    Where time is simulated the jitter is that of the name, so that a run can be repeated;
    else no two processes that lost the same server return at the same instants.
    """

    def __init__(
        self, name: str, first_s: float = FIRST_WAIT_S, longest_s: float = LONGEST_WAIT_S
    ) -> None:
        """Begin with `first_s`."""
        self._random = Random(name if current_clock().virtual else None)  # noqa: S311 - jitter is no secret
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s * self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._next_s = self._first_s
