"""A machine without ports of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from serial.tools import list_ports

from benchtree import finding
from transports import list_visa_resources


def hide_ports(patch: pytest.MonkeyPatch, by_id: Path) -> None:
    """Find no ports but those in `by_id` and in folders that a command names."""

    def find(backend: str) -> Sequence[str]:
        return list_visa_resources(backend) if backend else ()

    patch.setattr(list_ports, "comports", list)
    patch.setattr(finding, "BY_ID", by_id)
    patch.setattr(finding, "list_visa_resources", find)
