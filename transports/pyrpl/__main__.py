"""Be the worker process of one Red Pitaya."""

from __future__ import annotations

from .board import open_board
from .process import run_worker

run_worker(open_board)
