"""Source-measure units: volts or amperes with a limit, and current-voltage curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from actors.faults import OVER_TEMPERATURE, FaultClass
from actors.parameter import Operation, Reading, Setting
from actors.ticket import Ticket

from .blocks import REAL, Array, Block, brief
from .instruments import SafeState
from .models import SourceMeasureModel
from .tracing import TracingInstrument

_ELEMENTS: Final = 4
_IN_COMPLIANCE: Final = 8
"""The bit of a point's status that says it was limited."""


@frozen(eq=False)
class Curve:
    """What a sweep measured; NaN where a point was out of range.

    Attributes:
        volts: The voltage across the load at each point.
        amperes: The current through it.
        t_s: When each was measured, in seconds from the first trigger.
        limited: At which points the unit was in compliance, so that the level was not reached.
    """

    volts: Array = field(repr=brief)
    amperes: Array = field(repr=brief)
    t_s: Array = field(repr=brief)
    limited: npt.NDArray[np.bool_] = field(repr=brief)


class SourceMeasureUnit(TracingInstrument):
    """A source-measure unit of one channel, in the words of Keysight's B2900.

    The output is switched on only once both limits have been set.
    """

    function = Setting("SOUR:FUNC:MODE", type=str, choices=("VOLT", "CURR"))
    voltage = Setting("SOUR:VOLT", unit="V", low=-210.0, high=210.0)
    current = Setting("SOUR:CURR", unit="A", low=-3.03, high=3.03)
    voltage_limit = Setting("SENS:VOLT:PROT", unit="V", low=1e-3, high=210.0)
    current_limit = Setting("SENS:CURR:PROT", unit="A", low=1e-9, high=3.03)
    integration_cycles = Setting("SENS:CURR:NPLC", low=0.01, high=100.0)
    four_wire = Setting("SENS:REM", type=bool)
    voltage_mode = Setting("SOUR:VOLT:MODE", type=str, choices=("FIX", "SWE"))
    sweep_start = Setting("SOUR:VOLT:STAR", unit="V", low=-210.0, high=210.0)
    sweep_stop = Setting("SOUR:VOLT:STOP", unit="V", low=-210.0, high=210.0)
    sweep_points = Setting("SOUR:VOLT:POIN", type=int, low=1, high=2500)
    trigger_count = Setting("TRIG:COUN", type=int, low=1, high=2500)
    output = Setting(
        "OUTP",
        type=bool,
        hazardous=lambda on: on,
        requires=(voltage_limit.is_set(), current_limit.is_set()),
    )
    measured_voltage = Reading("MEAS:VOLT", unit="V")
    measured_current = Reading("MEAS:CURR", unit="A")
    voltage_limited = Reading("SENS:VOLT:PROT:TRIP", type=bool)
    current_limited = Reading("SENS:CURR:PROT:TRIP", type=bool)
    measure = Operation("INIT", abort="ABOR", hazardous=True, requires=(output.equals(True),))

    safe_state: ClassVar[SafeState] = (output.to(False),)
    conditions: ClassVar[Mapping[int, FaultClass]] = {4: OVER_TEMPERATURE}
    reply_within_s: ClassVar[float] = 5.0
    model = SourceMeasureModel
    # Keysight B2900 and the simulated one.
    known_models = re.compile(r"B29[01][0-9][A-C]L?|SM2900")

    async def sweep(
        self, start_v: float, stop_v: float, points: int, *, confirm: bool = False
    ) -> Curve:
        """Sweep the voltage, measure at each point, and return the curve.

        Cancelling aborts it at the device; the output stays on. Arguments and errors as for
        `submit_sweep`.

        Raises:
            CommandError: It failed.
        """
        return await self.finish(await self.submit_sweep(start_v, stop_v, points, confirm=confirm))

    async def submit_sweep(
        self, start_v: float, stop_v: float, points: int, *, confirm: bool = False
    ) -> Ticket[Curve]:
        """Set a sweep up, begin it, and return its ticket, whose value is the curve.

        The voltage's mode is `SWE` from then on; set it to `FIX` to source one level again.

        Args:
            start_v: The first voltage, in volts.
            stop_v: The last one.
            points: How many there are.
            confirm: That driving the load through all of it is meant.

        Raises:
            RefusedError: A value is wrong, it is not confirmed, the output was not switched
                on, or it was not accepted.
            CommandError: The device refused a setting of the sweep.
        """
        kind = type(self)
        self.plan(kind.measure, confirm=confirm)  # before anything is set up
        for assignment in (
            kind.sweep_start.to(start_v),
            kind.sweep_stop.to(stop_v),
            kind.sweep_points.to(points),
            kind.trigger_count.to(points),
            kind.voltage_mode.to("SWE"),
        ):
            await self.ask(assignment)
        return await self.begin(kind.measure, _ASKS, _curve, before=_BEFORE, confirm=confirm)

    async def fetched(self) -> Curve:
        """Return what the last measurement left, a part of it where it was aborted.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed; with cause DEVICE, there is nothing.
        """
        return await self.fetch("fetched", _ASKS, _curve, before=_BEFORE)


_ASKS: Final = ("FETC:ARR?",)
_BEFORE: Final = (REAL, "FORM:ELEM:SENS VOLT,CURR,TIME,STAT")


def _curve(block: Block) -> Curve:
    numbers = block.reals()
    if len(numbers) % _ELEMENTS:
        raise ValueError(f"expected {_ELEMENTS} numbers for each point, got {len(numbers)}")
    volts, amperes, t_s, status = numbers.reshape(-1, _ELEMENTS).T
    if not np.all(np.isfinite(status)):
        raise ValueError("expected a status for each point, got one that is no number")
    limited: Any = status.astype(np.int64) & _IN_COMPLIANCE != 0
    return Curve(volts.copy(), amperes.copy(), t_s.copy(), limited)
