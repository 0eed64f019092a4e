"""The Standard Bus: its frames and the driver that speaks it."""
