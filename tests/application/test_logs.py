"""From events to log lines: levels, counting of what repeats, and outlets that are slow."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    BreakerChanged,
    BreakerState,
    BusLost,
    Cause,
    ChildEnded,
    ChildStarted,
    CommandFinished,
    Event,
    IdentityMismatch,
    InstrumentIdentified,
    ReadFailed,
    SafeStateFailed,
    SettingsRefused,
    SettingsRestored,
)
from benchtree.logs import QUIET_S, EventLog, open_logbook

S = 1_000_000_000


def stamped(event: Event, at_s: float = 0.0) -> Event:
    """Return an event that happened at a given time."""
    return evolve(event, mono_ns=round(at_s * S), utc_ns=round(at_s * S))


def failed_read(at_s: float, cause: Cause = Cause.BREAKER, instrument: str = "dmm") -> Event:
    """Return a periodic read that failed."""
    return ReadFailed(
        instrument=instrument,
        parameter="voltage",
        error="it is away",
        cause=cause,
        mono_ns=round(at_s * S),
        utc_ns=0,
    )


def written(change: Cause | None) -> Event:
    """Return a write that finished, or failed."""
    error = None if change is None else "no"
    return CommandFinished(
        instrument="psu", command="voltage.set", seq=1, error=error, cause=change
    )


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (lambda: ChildStarted(supervisor="root", child="a"), "debug"),
        (lambda: ChildEnded(supervisor="a", child="b", error=None, stopped=True), "debug"),
        (lambda: ChildEnded(supervisor="a", child="b", error="x", stopped=False), "error"),
        (lambda: written(None), "debug"),
        (lambda: written(Cause.WITHDRAWN), "debug"),
        (lambda: written(Cause.TRANSPORT), "warning"),
        (lambda: failed_read(0.0), "warning"),
        (lambda: BusLost(bus="a", reason="unplugged"), "warning"),
        (lambda: breaker(BreakerState.OPEN), "warning"),
        (lambda: breaker(BreakerState.HALF_OPEN), "debug"),
        (lambda: breaker(BreakerState.CLOSED), "info"),
        (lambda: InstrumentIdentified(instrument="a", identity="b"), "info"),
        (lambda: IdentityMismatch(instrument="a", expected="b", found="c"), "error"),
        (lambda: SettingsRestored(instrument="a", settings=("b",), left_out=()), "info"),
        (lambda: SettingsRestored(instrument="a", settings=(), left_out=("b",)), "warning"),
        (lambda: SettingsRefused(instrument="a", settings=("b = 1",), reason="c"), "error"),
        (lambda: SafeStateFailed(instrument="a", reason="b", error="c"), "error"),
    ],
)
async def test_levels(event: Callable[[], Event], level: str) -> None:
    """Routine is quiet, faults of the bench are warnings, what needs a person is an error."""
    with structlog.testing.capture_logs() as lines:
        EventLog()(event())
    assert [line["log_level"] for line in lines] == [level]


def breaker(state: BreakerState) -> Event:
    """Return a change of a breaker."""
    return BreakerChanged(name="a", state=state, retry_after_s=1.0, reason="b")


async def test_repeated_failures_are_counted() -> None:
    """One line at once, one for each quiet time with the number since, one when it is over."""
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for tenth in range(250):
            log(failed_read(tenth / 10))
        log(stamped(InstrumentIdentified(instrument="dmm", identity="x"), 25.0))
        log(failed_read(26.0))
    assert [(line["event"], line.get("repeated", line.get("times"))) for line in lines] == [
        ("read failed", None),
        ("read failed", round(QUIET_S * 10) - 1),
        ("read failed", round(QUIET_S * 10) - 1),
        ("failed more often", 49),
        ("instrument identified", None),
        ("read failed", None),
    ]


async def test_each_instrument_and_cause_is_counted_alone() -> None:
    """One instrument's silence hides neither another's nor another cause."""
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            log(failed_read(0.0))
            log(failed_read(0.0, Cause.TRANSPORT))
            log(failed_read(0.0, instrument="psu"))
    assert len(lines) == 3


async def test_lines_reach_the_file_whole(tmp_path: Path) -> None:
    """Lines of events, of structlog and of the standard library are kept, tracebacks too."""
    path = tmp_path / "run.log"
    async with open_logbook(to_stderr=False) as logbook:
        logbook.keep_in(path)
        EventLog()(BusLost(bus="meter", reason="unplugged"))
        logging.getLogger("elsewhere").warning("a poll failed: %s", "why")
        try:
            raise RuntimeError("not foreseen")
        except RuntimeError:
            structlog.get_logger().exception("an observer failed")
        assert "bus lost" in logbook.recent[0]
    text = path.read_text()
    assert "bus=meter" in text
    assert "a poll failed: why" in text
    assert "RuntimeError: not foreseen" in text


async def test_every_line_has_a_stamp_of_one_form(tmp_path: Path) -> None:
    """Events, other lines and those of the standard library sort by their first word."""
    path = tmp_path / "run.log"
    async with open_logbook(to_stderr=False) as logbook:
        logbook.keep_in(path)
        EventLog()(stamped(BusLost(bus="meter", reason="unplugged"), 1_700_000_000.9345))
        structlog.get_logger().warning("a line")
        await trio.to_thread.run_sync(logging.getLogger("elsewhere").warning, "from a thread")
    stamps = [line.split()[0] for line in path.read_text().splitlines()]
    assert stamps[0] == "2023-11-14T22:13:20.934Z"
    assert len(stamps) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each) for each in stamps)


async def test_a_stuck_outlet_holds_up_nobody(autojump_clock: MockClock) -> None:
    """Lines beyond what is kept are dropped, and the place says how many."""
    got: list[str] = []
    async with open_logbook(to_stderr=False) as logbook:
        logbook.add(got.append)
        logger = structlog.get_logger()
        for count in range(2_100):
            logger.warning("line", count=count)
    (text,) = got
    first, second, *_ = text.splitlines()
    assert first == "(100 lines were dropped here)"
    assert "count=100" in second


async def test_an_outlet_that_fails_is_given_up(tmp_path: Path) -> None:
    """A log that cannot be written ends nothing else."""
    got: list[str] = []
    async with open_logbook(to_stderr=False) as logbook:
        logbook.keep_in(tmp_path / "missing" / "run.log")
        logbook.add(got.append)
        structlog.get_logger().warning("line")
    assert len(got) == 1
