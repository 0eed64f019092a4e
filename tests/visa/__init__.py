"""Tests of buses under VISA."""
