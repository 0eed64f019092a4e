"""A simulated Red Pitaya."""

from .board import RedPitayaModel

__all__ = ["RedPitayaModel"]
