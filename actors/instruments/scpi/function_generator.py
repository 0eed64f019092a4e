"""Function generators: a shape, its frequency and level, and bursts of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from actors.parameter import Assignment, Operation, Parameter, Setting

from .driver import ScpiInstrument
from .frames import UNAVAILABLE_FROM
from .instruments import SafeState
from .models import FunctionGeneratorModel

T = TypeVar("T")

HIGH_IMPEDANCE: Final = UNAVAILABLE_FROM
"""The load of an oscilloscope's input: infinity, as SCPI writes it."""

_SOURCE_OHM: Final = 50.0


class FunctionGenerator(ScpiInstrument):
    """A function generator of one channel, in the words of Keysight's 33500.

    Amplitude and offset are those across a load of `load` ohm; the generator does not measure
    it. Together they are limited by what that load gets: the device refuses what is beyond.
    Another `load` changes both, and what is restored of them with it; what was set before the
    first `load` is not restored, as nobody knows what it became.
    """

    function = Setting("FUNC", type=str, choices=("SIN", "SQU", "RAMP", "PULS", "NOIS", "DC"))
    frequency = Setting("FREQ", unit="Hz", low=1e-6, high=120e6)
    amplitude = Setting("VOLT", unit="V", low=1e-3, high=20.0)
    offset = Setting("VOLT:OFFS", unit="V", low=-10.0, high=10.0)
    phase = Setting("PHAS", unit="deg", low=-360.0, high=360.0)
    duty_cycle = Setting("FUNC:SQU:DCYC", unit="%", low=1.0, high=99.0)
    load = Setting("OUTP:LOAD", unit="ohm", low=1.0)
    burst_mode = Setting("BURS:STAT", type=bool)
    burst_cycles = Setting("BURS:NCYC", type=int, low=1, high=1_000_000)
    trigger_source = Setting("TRIG:SOUR", type=str, choices=("IMM", "EXT", "BUS"))
    output = Setting("OUTP", type=bool, hazardous=lambda on: on, requires=(load.is_set(),))
    burst = Operation(
        "*TRG", abort="ABOR", requires=(burst_mode.equals(True), trigger_source.equals("BUS"))
    )

    safe_state: ClassVar[SafeState] = (output.to(False),)
    model = FunctionGeneratorModel
    # Keysight and Agilent, and the simulated one.
    known_models = re.compile(r"33(2[1-5]0|[56][0-9]{2})[AB]|EDU3321[12]A|FG3000")

    def moved(
        self, assignment: Assignment[Any], held: Mapping[str, Any]
    ) -> Sequence[Assignment[Any]]:
        """Return what another load gets: what drives it stays as it is."""
        own = type(self)
        if assignment.setting is not own.load:
            return ()
        before = held.get(own.load.name)

        def across(setting: Setting[float]) -> Assignment[Any]:
            volts = held.get(setting.name)
            moved: Any = None
            if before is not None and volts is not None:
                moved = volts / _share(before) * _share(assignment.value)
            return Assignment(setting, moved)

        return across(own.amplitude), across(own.offset)

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply; a load that is infinite is `HIGH_IMPEDANCE`."""
        value = super().decode(parameter, raw)
        if value is None and parameter.name == type(self).load.name:
            infinite: Any = HIGH_IMPEDANCE
            return infinite  # type: ignore[no-any-return]  # the load is a float
        return value


def _share(load_ohm: float) -> float:
    """Return which share of the voltage behind its 50 ohm a load gets."""
    return 1.0 if load_ohm >= HIGH_IMPEDANCE else load_ohm / (load_ohm + _SOURCE_OHM)
