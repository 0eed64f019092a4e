"""Python's garbage collector, which holds everything up while it looks at every object."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# Python 3.12 freezes some hundred objects by itself.
_FROZEN_BY_PYTHON: Final = gc.get_freeze_count()

_SPARED: Final[set[object]] = set()
"""Who goes on now that wants it spared."""


@contextmanager
def spared_collector() -> Generator[None]:
    """Let the collector look only at what is made from now on.

    What was imported takes it 4 to 50 ms to look at, which costs slots where one records fast.
    What somebody else has frozen stays as it is.
    """
    if not _SPARED:
        if gc.get_freeze_count() > _FROZEN_BY_PYTHON:
            yield
            return
        gc.freeze()
    this = object()
    _SPARED.add(this)
    try:
        yield
    finally:
        _SPARED.remove(this)
        if not _SPARED:
            gc.unfreeze()
