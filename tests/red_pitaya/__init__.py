"""The simulated Red Pitaya, by its registers and under the real PyRPL."""
