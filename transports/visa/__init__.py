"""Buses under VISA: GPIB, USBTMC, VXI-11, HiSLIP, and serial ports where that is wanted."""

from __future__ import annotations

from .listing import list_visa_resources
from .transport import VisaTransport

__all__ = ["VisaTransport", "list_visa_resources"]
