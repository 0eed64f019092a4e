"""The oscilloscope: traces of both inputs, once, again and again, or rolling."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from actors.parameter import Reading, Setting
from actors.ticket import Ticket

from .arguments import LONGEST_S, check_count, check_time
from .feed import Feed
from .part import Part

_log: Final = logging.getLogger(__name__)

POINTS: Final = 16_384
"""How many points a trace has."""

CLOCK_HZ: Final = 125e6

FULL_SCALE_V: Final = 1.0

DAY_S: Final = 86_400.0
"""The longest time that a trigger can be waited for, in seconds."""

LONGEST_TRACE_S: Final = 20.0
"""More than the longest trace takes, in seconds."""

Array = npt.NDArray[np.float64]


@frozen
class Summary:
    """A channel in four numbers, in V.

    Attributes:
        mean: Its mean.
        std: Its standard deviation.
        low: Its lowest point.
        high: Its highest point.
    """

    mean: float
    std: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return them on one line."""
        return f"{self.mean:.4g} +- {self.std:.4g} V, {self.low:.4g} to {self.high:.4g} V"


@frozen(eq=False)
class Trace:
    """Both channels over time.

    Attributes:
        time: The instants in s, from the trigger; or from now back, where it rolls.
        ch1: The first channel in V; not a number where a rolling trace has none yet.
        ch2: The second channel in V.
    """

    time: Array
    ch1: Array
    ch2: Array

    def __str__(self) -> str:
        """Return how long it is and what is in it."""
        first, second = self.summaries
        span_s = self.time[-1] - self.time[0]
        return f"{len(self.time)} points over {span_s:.4g} s; ch1 {first}; ch2 {second}"

    @property
    def summaries(self) -> tuple[Summary, Summary]:
        """Each channel's mean, standard deviation and peaks."""
        return _summary(self.ch1), _summary(self.ch2)


def _summary(volts: Array) -> Summary:
    known = volts[np.isfinite(volts)]
    if not len(known):
        return Summary(np.nan, np.nan, np.nan, np.nan)
    low, high = float(known.min()), float(known.max())
    return Summary(float(known.mean()), float(known.std()), low, high)


class Scope(Part):
    """The oscilloscope of a board, two channels of 16384 points each."""

    input1 = Setting("input1", type=str)
    input2 = Setting("input2", type=str)
    decimation = Setting("decimation", type=int, choices=[1 << power for power in range(17)])
    duration = Setting("duration", unit="s", low=POINTS / CLOCK_HZ, high=65_536 * POINTS / CLOCK_HZ)
    average = Setting("average", type=bool)
    trigger_source = Setting("trigger_source", type=str)
    trigger_delay = Setting("trigger_delay", unit="s", low=-10.0, high=8.59)
    threshold = Setting("threshold", unit="V", low=-FULL_SCALE_V, high=FULL_SCALE_V)
    hysteresis = Setting("hysteresis", unit="V", low=-FULL_SCALE_V, high=FULL_SCALE_V)
    voltage_in1 = Reading("voltage_in1", unit="V")
    voltage_in2 = Reading("voltage_in2", unit="V")

    one_with: ClassVar[Mapping[str, str]] = {"decimation": "duration"}

    #: How the settings of an acquisition are called.
    _acquired: ClassVar[Mapping[str, Setting[Any]]] = {
        "input1": input1,
        "input2": input2,
        "decimation": decimation,
        "duration": duration,
        "average": average,
        "trigger_source": trigger_source,
        "trigger_delay": trigger_delay,
        "threshold": threshold,
        "hysteresis": hysteresis,
    }

    async def single(
        self,
        *,
        averages: int = 1,
        timeout_s: float | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> Trace:
        """Acquire one trace of both channels and return it.

        Everything else on the board goes on meanwhile. Cancelling ends the acquisition.

        Args:
            averages: How many acquisitions the trace is the mean of.
            timeout_s: How long it may take, trigger included, in seconds; without it, as
                long as the settings say, or an hour where a trigger is waited for. The
                caller's deadline counts, too.
            wait: Whether to wait for another operation of the scope; without it, that one
                is a refusal (conflict).
            settings: The scope's settings by name, such as `duration=0.1` or
                `input1="in1"`; they stay. Those left out are as they are.

        Raises:
            RefusedError: A value is wrong, or it was not accepted.
            CommandError: It failed.
        """
        ticket = await self.submit_single(
            averages=averages, timeout_s=timeout_s, wait=wait, **settings
        )
        return await self.finish(ticket)

    async def submit_single(
        self,
        *,
        averages: int = 1,
        timeout_s: float | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> Ticket[Trace]:
        """Start an acquisition and return its ticket; see `single`.

        Its `progress` says how much of the time has passed; `withdraw` ends it.
        """
        check_count(self.name, "single", "averages", averages)
        if timeout_s is not None:
            check_time(self.name, "single", "timeout_s", timeout_s, high=DAY_S)
        given = self._settings("single", settings)
        plan = self.operation(
            "single",
            {"settings": self.checked("single", given), "averages": averages},
            self._logged,
            # The worker knows which trigger there is, and ends what takes longer than it may.
            within_s=max(LONGEST_S, averages * LONGEST_TRACE_S) if timeout_s is None else timeout_s,
            brings=given,
            wait=wait,
        )
        return await self.start(plan, wait=wait)

    def stream(
        self, *, count: int | None = None, wait: bool = True, **settings: Any
    ) -> Feed[Trace, int]:
        """Return traces one after the other: `async for trace in rp.scope.stream():`.

        `count` of them, or until it is left. Settings as for `single`. A reader that is
        too slow misses the oldest.
        """
        if count is not None:
            check_count(self.name, "stream", "count", count)
        given = self._settings("stream", settings)
        arguments = {"settings": self.checked("stream", given), "count": count}
        return self._feed("stream", arguments, given, wait)

    def rolling(
        self,
        *,
        every_s: float = 0.1,
        count: int | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> Feed[Trace, int]:
        """Return what the scope has seen last, again and again, while it goes on sampling.

        Takes a duration of more than 0.1 s. Settings as for `single`.
        """
        check_time(self.name, "rolling", "every_s", every_s)
        if count is not None:
            check_count(self.name, "rolling", "count", count)
        given = self._settings("rolling", settings)
        checked = self.checked("rolling", given)
        arguments = {"settings": checked, "every_s": every_s, "count": count}
        return self._feed("roll", arguments, given, wait)

    def _feed(
        self,
        name: str,
        arguments: Mapping[str, Any],
        given: Mapping[Setting[Any], Any],
        wait: bool,
    ) -> Feed[Trace, int]:
        async def start(reports: Any) -> Ticket[int]:
            plan = self.operation(
                name,
                arguments,
                int,
                within_s=_ENDLESS_S,
                reports=reports,
                brings=given,
                wait=wait,
            )
            return await self.start(plan, wait=wait)

        return Feed(start, self._logged, kept=_KEPT)

    def _settings(self, command: str, given: Mapping[str, Any]) -> dict[Setting[Any], Any]:
        unknown = [name for name in given if name not in self._acquired]
        if unknown:
            known = ", ".join(self._acquired)
            raise self.refuse(command, f"there is no setting {unknown[0]!r}; there are: {known}")
        if {"decimation", "duration"} <= given.keys():
            raise self.refuse(command, "the decimation says the duration: give one of the two")
        return {self._acquired[name]: each for name, each in given.items()}

    def _logged(self, answer: Any) -> Trace:
        trace = Trace(answer["time"], answer["ch1"], answer["ch2"])
        if _log.isEnabledFor(logging.INFO):
            _log.info("%s: %s", self.name, trace)
        return trace


_ENDLESS_S: Final = 366 * 86_400.0
_KEPT: Final = 8
"""Traces are large."""
