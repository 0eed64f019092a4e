"""Modbus RTU: its frames and the driver that speaks it."""
