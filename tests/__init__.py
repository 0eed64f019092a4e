"""The tests of benchtree."""
