"""The Red Pitaya's worker process and its line."""
