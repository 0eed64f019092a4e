"""Whole benches under a virtual clock."""
