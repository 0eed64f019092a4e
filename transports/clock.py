"""The one place that stamps, waits and hops to threads.

Under Trio's own clock, stamps come from the operating system and blocking calls run in
threads. Under a virtual clock (`trio.testing.MockClock`), stamps follow Trio's time and
blocking calls run inline, so that a simulated bench needs no threads and repeats exactly.

Three time scales exist and never mix: `now_s` is Trio's time, for deadlines and schedules;
`mono_ns` is the monotonic clock, for stamps; `boot_s` goes on while the machine sleeps, for
leases.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar, TypeVarTuple

import trio
from trio.testing import MockClock

from .thread import CallThread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

VIRTUAL_EPOCH_NS: Final = 1_767_225_600_000_000_000
"""Where a virtual wall clock starts: 2026-01-01T00:00:00Z."""


class Clock(Protocol):
    """Stamps, waits, and thread hops."""

    @property
    def virtual(self) -> bool:
        """Whether time is simulated."""
        ...

    def now_s(self) -> float:
        """Return Trio's time in seconds: for deadlines and schedules only."""
        ...

    def mono_ns(self) -> int:
        """Return the monotonic clock in nanoseconds: for stamps only."""
        ...

    def utc_ns(self) -> int:
        """Return the wall clock in nanoseconds since 1970, UTC: for stamps only."""
        ...

    def boot_s(self) -> float:
        """Return the seconds since the machine was started, its sleep included."""
        ...

    async def sleep_until(self, when_s: float) -> None:
        """Wait until Trio's time is `when_s`."""
        ...

    async def park_until(self, lot: trio.lowlevel.ParkingLot, when_s: float) -> bool:
        """Wait until `lot` is unparked, or until `when_s`; return whether that was it.

        Then whoever else is parked there may be woken, too.
        """
        ...

    async def run_sync(
        self,
        blocking: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> T:
        """Run a blocking call without holding up the event loop.

        Give a `limiter` of its own to whatever may hang, so that it delays nobody else.
        Not cancellable unless `abandon_on_cancel`: the call then runs on unwatched after
        a cancellation, and must itself clean up what nobody will take from it.
        """
        ...

    def make_thread(self, name: str) -> CallThread:
        """Return a thread of its own for calls that may hang, one after the other.

        Raises:
            RuntimeError: Time is simulated: nothing runs beside the event loop.
        """
        ...


class SystemClock:
    """The clocks of the operating system, and real threads.

    Attributes:
        now_s: Returns Trio's time in seconds: that of the run in which this was made.
        mono_ns: Returns the operating system's monotonic clock, in nanoseconds.
        utc_ns: Returns the operating system's wall clock, in nanoseconds since 1970.
    """

    # Asked for every exchange and sample: without a call of Python's around each.
    mono_ns = staticmethod(time.monotonic_ns)
    utc_ns = staticmethod(time.time_ns)

    def __init__(self) -> None:
        """Take the clock of this Trio run, or of each that asks where it is made in none."""
        try:
            # Not through `trio.current_time`, which looks for it with three calls each time.
            self.now_s = trio.lowlevel.current_clock().current_time
        except RuntimeError:
            self.now_s = trio.current_time

    @property
    def virtual(self) -> bool:
        """Whether time is simulated: no."""
        return False

    def boot_s(self) -> float:
        """Return the operating system's clock that goes on while the machine sleeps."""
        return _boot_s()

    async def sleep_until(self, when_s: float) -> None:
        """Wait until Trio's time is `when_s`."""
        await trio.sleep_until(when_s)

    async def park_until(self, lot: trio.lowlevel.ParkingLot, when_s: float) -> bool:
        """Wait until `lot` is unparked, or until `when_s`; return whether that was it."""
        with trio.move_on_at(when_s) as scope:
            await lot.park()
        return scope.cancelled_caught

    async def run_sync(
        self,
        blocking: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> T:
        """Run `blocking` in a thread."""
        return await trio.to_thread.run_sync(
            blocking, *args, limiter=limiter, abandon_on_cancel=abandon_on_cancel
        )

    def make_thread(self, name: str) -> CallThread:
        """Return a real thread."""
        return CallThread(name)


class VirtualClock:
    """Stamps that follow a simulated Trio clock; blocking calls run inline.

    Attributes:
        utc_offset_ns: The wall clock at Trio time 0, in nanoseconds; a simulation steps
            it to show that nothing depends on it.
    """

    def __init__(self, utc_offset_ns: int = VIRTUAL_EPOCH_NS) -> None:
        """Start with the wall clock at `utc_offset_ns`."""
        self.utc_offset_ns = utc_offset_ns

    @property
    def virtual(self) -> bool:
        """Whether time is simulated: yes."""
        return True

    def now_s(self) -> float:
        """Return Trio's time in seconds."""
        return trio.current_time()

    def mono_ns(self) -> int:
        """Return Trio's time as nanoseconds."""
        return round(trio.current_time() * 1e9)

    def utc_ns(self) -> int:
        """Return the simulated wall clock, in nanoseconds since 1970."""
        return self.utc_offset_ns + self.mono_ns()

    def boot_s(self) -> float:
        """Return Trio's time: a simulated machine does not sleep."""
        return trio.current_time()

    async def sleep_until(self, when_s: float) -> None:
        """Wait until Trio's time is `when_s`."""
        await trio.sleep_until(when_s)

    async def park_until(self, lot: trio.lowlevel.ParkingLot, when_s: float) -> bool:
        """Wait until `lot` is unparked, or until `when_s`; return whether that was it."""
        with trio.move_on_at(when_s) as scope:
            await lot.park()
        return scope.cancelled_caught

    async def run_sync(
        self,
        blocking: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> T:
        """Run `blocking` inline, in zero virtual time, after a checkpoint."""
        del limiter, abandon_on_cancel  # nothing runs beside the event loop
        await trio.lowlevel.checkpoint()
        return blocking(*args)

    def make_thread(self, name: str) -> CallThread:
        """Refuse: nothing runs beside the event loop."""
        raise RuntimeError(f"{name} needs real time: nothing runs beside a simulated clock")


# Elsewhere a sleeping machine may stop the clock: a lease then lasts that much longer.
_boot_s: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic
)


_installed: trio.lowlevel.RunVar[Clock] = trio.lowlevel.RunVar("benchtree clock")


def current_clock() -> Clock:
    """Return the clock of this Trio run.

    The system's, unless the run's own clock is virtual or `install_clock` was called.

    Raises:
        RuntimeError: Called outside a Trio run.
    """
    try:
        return _installed.get()
    except LookupError:
        pass
    simulated = isinstance(trio.lowlevel.current_clock(), MockClock)
    clock: Clock = VirtualClock() if simulated else SystemClock()
    _installed.set(clock)
    return clock


def install_clock(clock: Clock) -> None:
    """Use `clock` for the rest of this Trio run."""
    _installed.set(clock)
