"""Waits for instants, more exactly than an event loop's own time-outs.

`epoll` rounds its time-out up to whole milliseconds, which is most of a slot at 1 kHz.
On Linux a timer is therefore a descriptor that becomes readable at its instant; elsewhere,
and under a virtual clock, it is Trio's own sleep.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Final, Protocol, Self

import trio

from .clock import Clock, current_clock

_LEAD_S: Final = 20e-6
"""How much earlier a descriptor is armed: less than what the kernel and Trio take to wake a
task. Whoever is woken earlier still spins for the rest."""

_LONGEST_ARM_S: Final = 86_400.0
"""A descriptor is armed for at most this long and then armed again: no overflow at infinity."""


class Timer(Protocol):
    """Something to wait on, over and over, by one task at a time."""

    async def wait_until(self, when_s: float) -> None:
        """Wait until Trio's time is `when_s`; at once where that has passed.

        Always a checkpoint. Cancelling leaves the timer ready for the next wait.
        """
        ...

    def close(self) -> None:
        """Give the timer's resources back. Closing twice is harmless."""
        ...

    def __enter__(self) -> Self:
        """Return the timer."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the timer."""
        ...


def make_timer() -> Timer:
    """Return the best timer for this Trio run.

    Raises:
        RuntimeError: Called outside a Trio run.
    """
    clock = current_clock()
    if sys.platform == "linux" and not clock.virtual:
        try:
            return _DescriptorTimer(_create_descriptor())
        except OSError:
            # Sandboxes may forbid the call, and descriptors may have run out: be less exact.
            return _SleepTimer(clock)
    return _SleepTimer(clock)


class _Closing:
    """The closing of a timer."""

    def close(self) -> None:
        """Give back nothing."""

    def __enter__(self) -> Self:
        """Return the timer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the timer."""
        self.close()


class _SleepTimer(_Closing):
    """Trio's own sleep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def wait_until(self, when_s: float) -> None:
        """Sleep until `when_s`."""
        await self._clock.sleep_until(when_s)


if sys.platform == "linux":

    class _DescriptorTimer(_Closing):
        """A timer descriptor, waited for as any other descriptor."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor

        async def wait_until(self, when_s: float) -> None:
            """Arm the descriptor for `when_s` and wait for it."""
            if self._descriptor < 0:
                raise trio.ClosedResourceError("this timer is closed")
            left_s = when_s - trio.current_time()
            if left_s <= 0:
                await trio.lowlevel.checkpoint()
                return
            while left_s > 0:
                # Arming forgets an earlier expiry, so nothing has to be read afterwards, and
                # a cancelled wait leaves nothing behind.
                delay_s = min(left_s - _LEAD_S, _LONGEST_ARM_S)
                _arm(self._descriptor, max(1, round(delay_s * 1e9)))
                await trio.lowlevel.wait_readable(self._descriptor)
                while 0 < (left_s := when_s - trio.current_time()) <= _LEAD_S:
                    pass

        def close(self) -> None:
            """Close the descriptor; a task that waits for it gets ClosedResourceError."""
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                trio.lowlevel.notify_closing(descriptor)
                os.close(descriptor)

    if sys.version_info >= (3, 13):

        def _create_descriptor() -> int:
            return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

        def _arm(descriptor: int, delay_ns: int) -> None:
            os.timerfd_settime_ns(descriptor, initial=delay_ns)

    else:
        import ctypes

        class _Timespec(ctypes.Structure):
            _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

        class _Itimerspec(ctypes.Structure):
            _fields_ = (("interval", _Timespec), ("value", _Timespec))

        # These calls never block. `PyDLL` keeps the interpreter lock across them; releasing
        # it would hand it to a writer thread, and cost the wait that the timer saves.
        _LIBC: Final = ctypes.PyDLL(None, use_errno=True)

        def _create_descriptor() -> int:
            descriptor: int = _LIBC.timerfd_create(
                time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
            )
            _check(descriptor)
            return descriptor

        def _arm(descriptor: int, delay_ns: int) -> None:
            seconds, nanoseconds = divmod(delay_ns, 1_000_000_000)
            spec = _Itimerspec(value=_Timespec(seconds, nanoseconds))
            _check(_LIBC.timerfd_settime(descriptor, 0, ctypes.byref(spec), None))

        def _check(result: int) -> None:
            if result < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
