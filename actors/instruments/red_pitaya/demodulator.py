"""The lock-in amplifiers, and the network analyser that works with one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from actors.parameter import Action, Assignment, Reading, Setting
from actors.ticket import Ticket

from .arguments import check_time
from .feed import Feed
from .generator import OFF, OUTPUTS
from .part import Part

GAIN: Final = 63.999
"""The largest gain of a demodulator's output."""

_SPARE_S: Final = 30.0


@frozen
class Quadratures:
    """A demodulated signal.

    Attributes:
        i: The part in phase, in V.
        q: The part a quarter behind, in V.
    """

    i: float
    q: float

    @property
    def amplitude(self) -> float:
        """Its amplitude, in V."""
        return math.hypot(self.i, self.q)

    @property
    def phase(self) -> float:
        """Its phase, in degrees."""
        return math.degrees(math.atan2(self.q, self.i))


class Iq(Part):
    """A modulator and demodulator of a board."""

    input = Setting("input", type=str)
    output = Setting("output_direct", type=str, choices=OUTPUTS)
    output_signal = Setting("output_signal", type=str)
    frequency = Setting("frequency", unit="Hz", low=0.0, high=62.5e6)
    bandwidth: Setting[list[float]] = Setting("bandwidth", type=list, unit="Hz")
    ac_bandwidth = Setting("acbandwidth", unit="Hz", low=0.0)
    phase = Setting("phase", unit="deg", low=0.0, high=360.0)
    amplitude = Setting("amplitude", unit="V", low=-1.0, high=1.0)
    gain = Setting("gain", low=-GAIN, high=GAIN)
    quadrature_factor = Setting("quadrature_factor", low=-131_072.0, high=131_071.0)
    on = Setting("on", type=bool)
    value = Reading("current_output_signal", unit="V")

    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (output.to(OFF),)

    async def quadratures(self, *, average_s: float = 0.05, wait: bool = True) -> Quadratures:
        """Measure both quadratures through the sampler, each averaged over `average_s`.

        The output signal must be "quadrature". iq0 and iq1 are turned by a quarter and back
        for the second one: their output changes meanwhile.

        Raises:
            RefusedError: A value is wrong, or it was not accepted.
            CommandError: It failed.
        """
        check_time(self.name, "quadratures", "average_s", average_s, low=0.0)
        plan = self.operation(
            "quadratures",
            {"iq": self.unit, "average_s": average_s},
            lambda said: Quadratures(float(said["i"]), float(said["q"])),
            within_s=2 * average_s + _SPARE_S,
            wait=wait,
        )
        return await self.finish(await self.start(plan, wait=wait))


@frozen
class Point:
    """One point of a transfer function.

    Attributes:
        index: Its place in the sweep, from 0.
        frequency_hz: Where it was measured, in Hz.
        response: What came back for 1 V.
        amplitude: What was put out, in V.
    """

    index: int
    frequency_hz: float
    response: complex
    amplitude: float


@frozen(eq=False)
class TransferFunction:
    """What came back for 1 V, over the frequency.

    Attributes:
        frequency_hz: The frequencies in Hz.
        response: The complex responses.
    """

    frequency_hz: npt.NDArray[np.float64]
    response: npt.NDArray[np.complex128]


class NetworkAnalyzer(Part):
    """The network analyser of a board. It works with iq2, which must be off."""

    start_frequency = Setting("start_freq", unit="Hz", low=0.03, high=62.5e6)
    stop_frequency = Setting("stop_freq", unit="Hz", low=0.03, high=62.5e6)
    points = Setting("points", type=int, low=1, high=1_000_000)
    resolution_bandwidth = Setting("rbw", unit="Hz", low=1.0, high=62.5e6)
    amplitude = Setting("amplitude", unit="V", low=0.0, high=1.0)
    input = Setting("input", type=str)
    output = Setting("output_direct", type=str, choices=OUTPUTS)
    ac_bandwidth = Setting("acbandwidth", unit="Hz", low=0.0)
    logarithmic = Setting("logscale", type=bool)
    averages = Setting("average_per_point", type=int, low=1)

    def sweep(
        self,
        start_hz: float,
        stop_hz: float,
        points: int,
        *,
        amplitude: float = 0.1,
        input: str = "in1",  # noqa: A002 - the board's own word
        output: str = "out1",
        bandwidth_hz: float = 1e3,
        averages: int = 1,
        logarithmic: bool = True,
        wait: bool = True,
    ) -> Feed[Point, TransferFunction]:
        """Measure a transfer function point by point: `async for point in ...sweep(...):`.

        The whole of it is the feed's `result()`. Its end, however it comes, switches the
        excitation off.

        Args:
            start_hz: The first frequency.
            stop_hz: The last one.
            points: How many there are.
            amplitude: What is put out, in V.
            input: What is measured.
            output: Where it is put out; "off" to use the signal inside of the board only.
            bandwidth_hz: The resolution; a point takes 2.5 of its periods. Where it is not well
                below the frequency, a point may be off by some percent.
            averages: How many periods of the bandwidth a point is averaged over.
            logarithmic: Whether the frequencies are spaced by a factor.
            wait: Whether to wait for another sweep; without it, that is a refusal (conflict).

        Raises:
            RefusedError: A value is wrong; or, from the first item on, it was not accepted.
            CommandError: From the first item on: it failed, as where iq2 is in use.
        """
        kind = type(self)
        given: dict[Setting[Any], Any] = {
            kind.start_frequency: start_hz,
            kind.stop_frequency: stop_hz,
            kind.points: points,
            kind.amplitude: amplitude,
            kind.input: input,
            kind.output: output,
            kind.resolution_bandwidth: bandwidth_hz,
            kind.averages: averages,
            kind.logarithmic: logarithmic,
        }
        settings = self.checked("sweep", given)
        # The bandwidth that the board has may be half of what is wanted.
        within_s = (points + 3) * (1.5 + averages) * 3.0 / bandwidth_hz + points * 0.1 + _SPARE_S

        async def start(reports: Any) -> Ticket[TransferFunction]:
            plan = self.operation(
                "sweep",
                {"settings": settings},
                lambda said: TransferFunction(said["frequency"], said["response"]),
                within_s=within_s,
                reports=reports,
                brings=given,
                wait=wait,
            )
            return await self.start(plan, wait=wait)

        return Feed(start, lambda report: Point(*report), kept=None)
