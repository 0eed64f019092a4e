"""Buses under VISA: GPIB, USBTMC, VXI-11, HiSLIP, and serial ports where that is wanted."""

from __future__ import annotations

from .transport import VisaTransport

__all__ = ["VisaTransport"]
