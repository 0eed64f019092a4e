"""Measurements of benchtree, printed as JSON lines."""
