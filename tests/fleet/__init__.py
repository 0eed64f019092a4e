"""Tests of many instruments at once."""
