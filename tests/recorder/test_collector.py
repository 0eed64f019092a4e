"""What the garbage collector looks at while one records."""

from __future__ import annotations

import gc

from trio.testing import MockClock

from recorder import record

from .sources import Bench, Bus
from .test_record import PARAMETERS


async def test_only_what_is_made_meanwhile_is_looked_at(autojump_clock: MockClock) -> None:
    """From the first recording's beginning to the last one's end, and again all afterwards."""
    before = len(gc.get_objects())
    bench = Bench(Bus("oven", takes_s=0.01))
    async with record(bench, parameters=PARAMETERS, rate_hz=10):
        assert len(gc.get_objects()) < before / 10
        async with record(bench, parameters=PARAMETERS, rate_hz=5):
            pass
        assert len(gc.get_objects()) < before / 10
    assert len(gc.get_objects()) > before / 2
    assert gc.get_freeze_count() == 0


async def test_what_you_froze_stays_so(autojump_clock: MockClock) -> None:
    """Whoever has frozen what there is decides when it is looked at again."""
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        bench = Bench(Bus("oven", takes_s=0.01))
        async with record(bench, parameters=PARAMETERS, rate_hz=10):
            pass
        # What went away since is no longer counted.
        assert gc.get_freeze_count() > frozen / 2
    finally:
        gc.unfreeze()
