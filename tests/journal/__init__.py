"""Journals of real processes: killed, or with a full disk."""
