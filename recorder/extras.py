"""Libraries that are installed only by those who need them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingExtraError


def need(module: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        module: What to import.
        extra: The extra of this distribution that installs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module, extra) from error
