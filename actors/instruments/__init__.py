"""Families of instruments: frames, drivers and device models."""
