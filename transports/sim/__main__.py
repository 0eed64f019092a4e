"""Run simulated lines as `SimProcess` asks for them."""

from __future__ import annotations

import trio

from .serving import run_lines

trio.run(run_lines)
