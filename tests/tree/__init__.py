"""Whole trees, in virtual time and over real ports."""
