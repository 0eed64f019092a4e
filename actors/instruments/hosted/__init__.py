"""Instruments that a library of somebody else talks to."""

from __future__ import annotations

from .driver import HostedInstrument

__all__ = ["HostedInstrument"]
