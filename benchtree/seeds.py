"""Many seeds of one simulation, on all processors."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def run_seeds(
    run: Callable[[int], T], seeds: Sequence[int], *, jobs: int | None = None
) -> Iterator[T]:
    """Yield what `run` returns for each seed, in the order in which they are done.

    Each call is made in one of several processes, to which `run` and what it returns have
    to travel: a function of a module, or a `functools.partial` of one. Whoever stops early
    ends the processes with it. What `run` raises comes out.

    Args:
        run: Simulates a seed.
        seeds: All seeds.
        jobs: How many processes; None for one on each processor. With 1, all is done here.
    """
    count = min(jobs or os.cpu_count() or 1, len(seeds))
    if count <= 1:
        yield from map(run, seeds)
        return
    # Ctrl-C reaches every process of a terminal: this one ends the others.
    with multiprocessing.get_context("spawn").Pool(
        count, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        yield from pool.imap_unordered(run, seeds)
