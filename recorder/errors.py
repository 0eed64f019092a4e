"""What can go wrong between a reading and its file."""

from __future__ import annotations


class RecorderError(Exception):
    """The root of the recorder's errors."""


class TargetExistsError(RecorderError):
    """A sink was pointed at something that is already there; nothing is overwritten.

    Attributes:
        target: What is already there.
    """

    def __init__(self, target: str) -> None:
        """Name the target."""
        super().__init__(f"{target} is already there and is not overwritten; choose a new name")
        self.target = target


class SinkError(RecorderError):
    """A sink did not take what it was given.

    Attributes:
        sink: The sink's name.
        unwritten: How many samples it never acknowledged.
        spill: The journal that keeps them, where they were kept; None where they are lost.
    """

    def __init__(self, sink: str, unwritten: int, reason: str, spill: str | None = None) -> None:
        """Name the sink, the loss and the reason."""
        where = f" (they are kept in {spill})" if spill else ""
        super().__init__(f"{sink}: {unwritten} samples not written{where}: {reason}")
        self.sink = sink
        self.unwritten = unwritten
        self.spill = spill


class SinkClosedError(RecorderError):
    """A sink was written to before it was opened, or after it was closed."""


class MissingExtraError(RecorderError):
    """An optional library is not installed.

    Attributes:
        module: The library.
        extra: The extra that installs it.
    """

    def __init__(self, module: str, extra: str) -> None:
        """Say how to install it."""
        package = module.partition(".")[0]
        super().__init__(
            f"{package} is not installed; install it with: pip install 'benchtree[{extra}]'"
        )
        self.module = module
        self.extra = extra


class NoSamplesError(RecorderError):
    """A folder or file holds no samples that can be read."""


class JournalError(RecorderError):
    """A journal is not there, is none, or cannot be read."""
