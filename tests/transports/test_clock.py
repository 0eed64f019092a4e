"""Stamps, waits and thread hops, real and virtual."""

from __future__ import annotations

import threading
import time

import trio
from trio.testing import MockClock

from transports import SystemClock, VirtualClock, current_clock, install_clock


async def test_system_clock() -> None:
    """Under Trio's own clock stamps are the system's and blocking calls run in threads."""
    clock = current_clock()
    assert not clock.virtual
    before = time.monotonic_ns()
    assert before <= clock.mono_ns() <= time.monotonic_ns()
    assert abs(clock.utc_ns() - time.time_ns()) < 1_000_000_000
    assert clock.now_s() <= trio.current_time()
    assert await clock.run_sync(threading.get_ident) != threading.get_ident()


async def test_virtual_clock(autojump_clock: MockClock) -> None:
    """Under a virtual clock stamps follow virtual time and blocking calls run inline."""
    del autojump_clock
    clock = current_clock()
    assert clock.virtual
    mono_ns, utc_ns = clock.mono_ns(), clock.utc_ns()
    await trio.sleep(3600)
    assert clock.mono_ns() - mono_ns == 3600 * 10**9
    assert clock.utc_ns() - utc_ns == 3600 * 10**9
    assert await clock.run_sync(threading.get_ident) == threading.get_ident()


async def test_stepped_wall_clock(autojump_clock: MockClock) -> None:
    """A stepped wall clock leaves the monotonic one alone."""
    del autojump_clock
    clock = VirtualClock(utc_offset_ns=0)
    install_clock(clock)
    assert current_clock() is clock
    clock.utc_offset_ns = -(10**12)
    assert clock.utc_ns() == clock.mono_ns() - 10**12


async def test_abandoned_call() -> None:
    """A call that may be abandoned does not hold up its caller's cancellation."""
    release = threading.Event()
    with trio.move_on_after(0.02) as scope:
        await SystemClock().run_sync(release.wait, abandon_on_cancel=True)
    release.set()
    assert scope.cancelled_caught
