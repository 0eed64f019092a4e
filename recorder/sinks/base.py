"""What every sink does, and what its acknowledgement means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

import trio

from actors import Sample, current_clock
from recorder.errors import SinkClosedError

CLOSE_WITHIN_S: Final = 10.0
"""How long closing a sink may hold up a cancelled task."""


class SampleSink(Protocol):
    """Somewhere to keep samples."""

    @property
    def name(self) -> str:
        """What the sink is called in reports."""
        ...

    async def open(self) -> None:
        """Make the target.

        Raises:
            TargetExistsError: The target is already there.
        """
        ...

    def write(self, samples: Sequence[Sample]) -> None:
        """Keep all of `samples`, or raise and keep none. Blocking; called in a thread.

        Returning acknowledges them: each sink documents what they survive from then on.
        Calls come one at a time, not always from the same thread.
        """
        ...

    async def aclose(self) -> None:
        """Close the target. Closing twice is harmless."""
        ...


@runtime_checkable
class Retryable(Protocol):
    """A sink that may fail for a while and be well again."""

    @property
    def spill_path(self) -> Path | None:
        """Where samples wait while it fails, unless told otherwise; None for nowhere."""
        ...

    def may_retry(self, error: Exception) -> bool:
        """Return whether a write that raised `error` may succeed if it is tried again.

        A sink that says so writes samples that it has already kept, unknown to the caller,
        no second time when the same samples are written again.
        """
        ...


class BlockingSink:
    """The life of a sink whose opening and closing block: both happen in a thread.

    Subclasses give `name`, `open_blocking`, `write` and `close_blocking`.
    """

    name: str = "sink"

    @property
    def spill_path(self) -> Path | None:
        """Where samples wait while it fails, unless told otherwise: nowhere."""
        return None

    def may_retry(self, error: Exception) -> bool:
        """Return whether the same write may succeed later: not after a mistake in the samples."""
        return isinstance(error, OSError)

    def __init__(self) -> None:
        """Start closed."""
        self._limiter = trio.CapacityLimiter(1)

    def open_blocking(self) -> None:
        """Make the target."""

    def write(self, samples: Sequence[Sample]) -> None:
        """Keep all of `samples`, or raise and keep none."""
        raise NotImplementedError

    def close_blocking(self) -> None:
        """Close the target; harmless where it is closed."""

    async def open(self) -> None:
        """Make the target, in a thread.

        Cancelling takes effect once it is made, and leaves it to be closed.

        Raises:
            TargetExistsError: The target is already there.
        """
        await current_clock().run_sync(self.open_blocking, limiter=self._limiter)

    async def aclose(self) -> None:
        """Close the target, in a thread, even when cancelled."""
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await current_clock().run_sync(
                self.close_blocking, limiter=self._limiter, abandon_on_cancel=True
            )

    async def __aenter__(self) -> Self:
        """Open the sink."""
        try:
            await self.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the sink."""
        await self.aclose()


def closed(name: str) -> SinkClosedError:
    """Return the error for a write to a sink that is not open."""
    return SinkClosedError(f"{name} is not open")
