"""Leases: who may command what, in one tree and among processes."""
