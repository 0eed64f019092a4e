"""Tests of waiting for instants."""
