"""Red Pitaya boards, and the device model that stands in for them."""

from __future__ import annotations

from .models import RedPitayaModel

__all__ = ["RedPitayaModel"]
