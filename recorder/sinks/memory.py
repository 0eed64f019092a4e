"""Samples kept in a list."""

from __future__ import annotations

from collections.abc import Sequence

from actors import Sample

from .base import BlockingSink


class MemorySink(BlockingSink):
    """Keeps samples in memory, without bound. An acknowledged sample survives nothing.

    Attributes:
        samples: Everything written so far, oldest first.
    """

    name = "memory"

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.samples: list[Sample] = []

    def write(self, samples: Sequence[Sample]) -> None:
        """Append the samples."""
        self.samples.extend(samples)

    def __repr__(self) -> str:
        """Return the number of samples."""
        return f"<MemorySink {len(self.samples)} samples>"
