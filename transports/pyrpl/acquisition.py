"""Traces of the scope: armed, waited for and read while everything else goes on.

PyRPL arms and converts; waiting and reading are ours, because its own acquisition keeps to
itself until it is done. A trace is read in pieces, with a breath for others between two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import trio
import trio.lowlevel

from .contract import Report
from .desk import RefusedCallError

POINTS: Final = 16_384

CHUNK_WORDS: Final = 2_048
"""How many words are read at a time."""

PROGRESS_S: Final = 0.05
"""How often an acquisition says how far it is, in seconds."""

POLL_S: Final = 0.002

WAITING_S: Final = 0.01
"""How often the scope is asked for a trigger that may be long in coming."""

SPARE_S: Final = 10.0
"""How much longer than its duration an acquisition that waits for no trigger may take."""

ROLLING_FROM_S: Final = 0.1
"""The shortest trace that can roll, in seconds."""

_DATA: Final = (0x10000, 0x20000)
_FULL_SCALE: Final = 1 << 13

Trace = dict[str, Any]


async def acquire(
    rp: Any, scope: Any, report: Report, *, settings: Mapping[str, Any], averages: int = 1
) -> Trace:
    """Return one trace of both inputs, the mean of so many acquisitions.

    Reports how far it is, as a share from 0 to 1; while it waits for the trigger, that.

    Raises:
        RefusedCallError: It waits for no trigger, and takes longer than it may.
    """
    del rp
    _set_up(scope, settings, rolling=False)
    try:
        return await _acquire(scope, report, averages)
    finally:
        _disarm(scope)


async def stream(
    rp: Any, scope: Any, report: Report, *, settings: Mapping[str, Any], count: int | None
) -> int:
    """Report one trace after the other, `count` or until cancelled; return how many."""
    del rp
    _set_up(scope, settings, rolling=False)
    taken = 0
    try:
        while count is None or taken < count:
            report(await _acquire(scope, None, 1))
            taken += 1
    finally:
        _disarm(scope)
    return taken


async def roll(
    rp: Any,
    scope: Any,
    report: Report,
    *,
    settings: Mapping[str, Any],
    every_s: float,
    count: int | None,
) -> int:
    """Report what the scope has seen last, again and again; return how often.

    Each report is as long as the trace; what is not known yet is not-a-number.
    """
    del rp
    _set_up(scope, settings, rolling=True)
    duration = float(scope.duration)
    if duration <= ROLLING_FROM_S:
        raise RefusedCallError(
            "rejected",
            f"a trace of {duration:.3g} s is too short to roll: it takes more than "
            f"{ROLLING_FROM_S:g} s; choose a longer duration or a higher decimation",
        )
    taken = 0
    try:
        scope._start_acquisition_rolling_mode()  # noqa: SLF001 - PyRPL arms
        began_s = due_s = trio.current_time()
        while count is None or taken < count:
            due_s += every_s
            await trio.sleep_until(due_s)
            report(await _read_rolling(scope, trio.current_time() - began_s))
            taken += 1
    finally:
        _disarm(scope)
    return taken


def _set_up(scope: Any, settings: Mapping[str, Any], *, rolling: bool) -> None:
    # Every setting counts at once, whatever PyRPL's `setup` lists.
    scope.rolling_mode = rolling
    for name, value in settings.items():
        setattr(scope, name, value)


def _disarm(scope: Any) -> None:
    scope._reset_writestate_machine = True  # noqa: SLF001 - PyRPL's own way to disarm
    scope._acquisition_started = False  # noqa: SLF001


async def _acquire(scope: Any, report: Report | None, averages: int) -> Trace:
    total: npt.NDArray[np.float64] | None = None
    for index in range(averages):
        traces = await _acquire_once(scope, report, index / averages, 1 / averages)
        total = traces if total is None else total + traces
    assert total is not None  # noqa: S101 - there is at least one
    times = np.asarray(scope.times, dtype=np.float64)
    return _trace(times, total / averages)


async def _acquire_once(
    scope: Any, report: Report | None, before: float, share: float
) -> npt.NDArray[np.float64]:
    scope._start_trace_acquisition()  # noqa: SLF001 - PyRPL arms
    duration_s = float(scope.duration)
    source = str(scope.trigger_source)
    untriggered = source != "immediately"
    began_s = reported_s = trio.current_time()
    while True:
        now_s = trio.current_time()
        left_s = duration_s - (now_s - began_s)
        if left_s <= 0 and scope.curve_ready():
            break
        if not untriggered and left_s < -SPARE_S:
            text = f"a trace of {duration_s:.3g} s was not there {SPARE_S:g} s after its time"
            raise RefusedCallError("failed", text)
        if report is not None and now_s - reported_s >= PROGRESS_S:
            reported_s = now_s
            untriggered = untriggered and bool(scope._trigger_armed)  # noqa: SLF001
            if untriggered:
                report(f"it waits for the trigger {source!r}")
            else:
                report(before + share * min(1.0, (now_s - began_s) / duration_s))
        poll_s = WAITING_S if untriggered else POLL_S
        await trio.sleep(min(max(left_s, poll_s), PROGRESS_S))
    # Where the trace begins in the ring.
    first = int(scope._write_pointer_trigger + scope._trigger_delay_register + 1)  # noqa: SLF001
    return np.stack([np.roll(await _read(scope, base), -first) for base in _DATA])


async def _read(scope: Any, base: int) -> npt.NDArray[np.float64]:
    """Return a channel's ring in volts."""
    words = np.empty(POINTS, dtype=np.int32)
    for start in range(0, POINTS, CHUNK_WORDS):
        words[start : start + CHUNK_WORDS] = scope._reads(base + 4 * start, CHUNK_WORDS)  # noqa: SLF001
        await trio.lowlevel.checkpoint()
    words &= (_FULL_SCALE << 1) - 1
    words[words >= _FULL_SCALE] -= _FULL_SCALE << 1
    return words / float(_FULL_SCALE)


async def _read_rolling(scope: Any, since_s: float) -> Trace:
    duration = float(scope.duration)
    before = int(scope._write_pointer_current)  # noqa: SLF001
    raw = [await _read(scope, base) for base in _DATA]
    after = int(scope._write_pointer_current)  # noqa: SLF001
    # What was written while it was read belongs to another round of the ring.
    spoiled = (after - before) % POINTS
    known = min(POINTS, int(since_s / duration * POINTS))
    rolled = np.stack([np.roll(each, -before) for each in raw]).astype(np.float64)
    rolled[:, : max(spoiled, POINTS - known)] = np.nan
    times = (np.arange(POINTS, dtype=np.float64) - (POINTS - 1)) * (duration / POINTS)
    return _trace(times, rolled)


def _trace(times: npt.NDArray[np.float64], volts: npt.NDArray[np.float64]) -> Trace:
    return {"time": times, "ch1": volts[0], "ch2": volts[1]}
