"""What is measured point by point: transfer functions, quadratures, statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import trio

from .contract import Report

SETTLING_PERIODS: Final = 3.0
"""How many time constants of its filter a quadrature is given to settle."""

SETTLING_BANDWIDTHS: Final = 1.5
"""How long a point settles before it is summed up, in periods of the bandwidth.

PyRPL's own half a period leaves 3 % of the point before.
"""

_SAMPLE_S: Final = 0.002

_BLOCKS: Final = ((0x0, 2), (0x100, 10))
"""Where a demodulator keeps its settings: addresses, and how many words follow."""

_SELECTED: Final = ("input", "output_direct", "output_signal")
"""What PyRPL remembers of them, and would write again."""


async def sweep(
    rp: Any, analyzer: Any, report: Report, *, settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return a complex transfer function; each point is reported as it is measured.

    Its demodulator has its own settings back in the end.

    A report is the point's index, the frequency in Hz, the complex response and the
    amplitude in V.
    """
    del rp
    iq = analyzer.iq
    words = [(base, iq._reads(base, count)) for base, count in _BLOCKS]  # noqa: SLF001
    selected = {f"_{name}": getattr(iq, name) for name in _SELECTED}
    analyzer.setup(**settings)
    analyzer.sleeptimes = SETTLING_BANDWIDTHS
    frequencies = np.array(analyzer.frequencies, dtype=np.float64)
    responses = np.full(len(frequencies), np.nan, dtype=np.complex128)
    try:
        analyzer._prepare_averaging()  # noqa: SLF001 - PyRPL prepares and converts
        analyzer._start_trace_acquisition()  # noqa: SLF001
        for index, frequency in enumerate(frequencies):
            await analyzer._start_point_acquisition(index)  # noqa: SLF001
            analyzer.current_point = index
            await trio.sleep(max(0.0, analyzer._remaining_time()))  # noqa: SLF001
            await _wait_summed(iq)
            response, amplitude = analyzer._get_point(index)  # noqa: SLF001
            responses[index] = analyzer.data_avg[index] = complex(response)
            report([index, float(frequency), complex(response), float(amplitude)])
    finally:
        iq.amplitude = 0
        # As a whole: whoever waits for the module waits for a few exchanges only.
        for base, each in words:
            iq._writes(base, each)  # noqa: SLF001
        for name, value in selected.items():
            setattr(iq, name, value)
    return {"frequency": frequencies, "response": responses}


async def _wait_summed(iq: Any) -> None:
    """Wait until the board has summed up the point: reading it too early is an error."""
    # The board has no way to tell.
    while any(int(word) >> 31 for word in iq._reads(0x140, 4)):  # noqa: ASYNC110, SLF001
        await trio.sleep(_SAMPLE_S)


async def quadratures(rp: Any, iq: Any, report: Report, *, average_s: float) -> Mapping[str, float]:
    """Return both quadratures in V, each averaged over `average_s`.

    Only iq2 has its second quadrature among the signals. The others are turned by a quarter
    and back again, and given time to settle.
    """
    name = str(iq.name)
    first = await _mean(rp, name, average_s)
    if name == "iq2":
        second = await _mean(rp, "iq2_2", average_s)
    else:
        phase = float(iq.phase)
        bandwidths = [abs(each) for each in np.atleast_1d(iq.bandwidth) if each]
        settle_s = SETTLING_PERIODS / (2 * math.pi * min(bandwidths)) if bandwidths else 0.0
        try:
            iq.phase = (phase + 90.0) % 360.0
            await trio.sleep(settle_s)
            second = await _mean(rp, name, average_s)
        finally:
            iq.phase = phase
    del report
    return {"i": first, "q": second, "amplitude": math.hypot(first, second)}


async def statistics(
    rp: Any, sampler: Any, report: Report, *, signal: str, for_s: float
) -> Mapping[str, float]:
    """Return mean, standard deviation, least and greatest of a signal over `for_s`."""
    del rp, report
    values = await _sample(sampler, signal, for_s)
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values)),
        "min": min(values),
        "max": max(values),
        "count": len(values),
    }


async def _mean(rp: Any, signal: str, for_s: float) -> float:
    return float(np.mean(await _sample(rp.sampler, signal, for_s)))


async def _sample(sampler: Any, signal: str, for_s: float) -> list[float]:
    values = [float(getattr(sampler, signal))]
    until_s = trio.current_time() + for_s
    while trio.current_time() < until_s:
        await trio.sleep(_SAMPLE_S)
        values.append(float(getattr(sampler, signal)))
    return values
