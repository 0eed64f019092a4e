"""Tests of the instrument families."""
