"""Waiting for instants, on real and on virtual clocks."""

import math
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from transports.timer import make_timer


def open_descriptors() -> set[str]:
    """Return the numbers of this process's descriptors, as far as the system tells."""
    listing = Path("/proc/self/fd")
    return {entry.name for entry in listing.iterdir()} if listing.is_dir() else set()


async def test_never_wakes_early() -> None:
    """A wait ends at its instant or after it, never before."""
    with make_timer() as timer:
        for step in range(1, 60):
            when_s = trio.current_time() + step * 37e-6
            await timer.wait_until(when_s)
            assert trio.current_time() >= when_s


async def test_past_instant_is_a_checkpoint() -> None:
    """A wait for the past returns at once, and still lets others run and cancels."""
    with make_timer() as timer:
        await timer.wait_until(trio.current_time() - 1.0)
        with trio.CancelScope() as scope:
            scope.cancel()
            await timer.wait_until(trio.current_time() - 1.0)
        assert scope.cancelled_caught


async def test_cancelled_wait_leaves_the_timer_usable() -> None:
    """Cancelling a wait does not disturb the next one, sooner or later than the first."""
    with make_timer() as timer:
        with trio.move_on_after(0.001) as scope:
            await timer.wait_until(math.inf)
        assert scope.cancelled_caught
        when_s = trio.current_time() + 0.002
        await timer.wait_until(when_s)
        assert trio.current_time() >= when_s


async def test_expired_wait_does_not_shorten_the_next() -> None:
    """An expiry that nobody waited for is forgotten."""
    with make_timer() as timer:
        with trio.move_on_after(0) as scope:
            await timer.wait_until(trio.current_time() + 1e-6)
        assert scope.cancelled_caught
        await trio.sleep(0.002)
        when_s = trio.current_time() + 0.01
        await timer.wait_until(when_s)
        assert trio.current_time() >= when_s


async def test_virtual_clock_is_obeyed(autojump_clock: MockClock) -> None:
    """Under a virtual clock an hour passes at once, and the instant is exact."""
    del autojump_clock
    with make_timer() as timer:
        when_s = trio.current_time() + 3600.0
        await timer.wait_until(when_s)
        assert trio.current_time() == when_s


@pytest.mark.parametrize("times", [1, 2])
async def test_closing_gives_the_descriptor_back(times: int) -> None:
    """A closed timer holds no descriptor, however often it is closed."""
    before = open_descriptors()
    timer = make_timer()
    for _ in range(times):
        timer.close()
    if sys.platform == "linux":
        assert open_descriptors() == before
        with pytest.raises(trio.ClosedResourceError):
            await timer.wait_until(trio.current_time() + 1.0)


async def test_closing_wakes_the_waiter() -> None:
    """A task that waits while the timer is closed gets an error, not silence."""
    if sys.platform != "linux":
        return
    timer = make_timer()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await timer.wait_until(math.inf)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        timer.close()
