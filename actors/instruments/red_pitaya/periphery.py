"""What else is on a board: sampler, trigger, lamps and pins, slow outputs."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, ClassVar, Final

from attrs import frozen

from actors.parameter import Action, Assignment, Parameter, Reading, Setting

from .arguments import check_text, check_time
from .generator import OFF, OUTPUTS
from .part import Part

PINS: Final = 8
"""How many pins each side of the expansion connector has."""


@frozen
class Statistics:
    """A signal over some time, in V.

    Attributes:
        mean: Its mean.
        std: Its standard deviation.
        low: The lowest sample.
        high: The highest sample.
        count: How many samples there were.
    """

    mean: float
    std: float
    low: float
    high: float
    count: int


class Sampler(Part):
    """The present value of every signal of a board."""

    in1 = Reading("in1", unit="V")
    in2 = Reading("in2", unit="V")
    out1 = Reading("out1", unit="V")
    out2 = Reading("out2", unit="V")
    asg0 = Reading("asg0", unit="V")
    asg1 = Reading("asg1", unit="V")
    pid0 = Reading("pid0", unit="V")
    pid1 = Reading("pid1", unit="V")
    pid2 = Reading("pid2", unit="V")
    iq0 = Reading("iq0", unit="V")
    iq1 = Reading("iq1", unit="V")
    iq2 = Reading("iq2", unit="V")
    iq2_2 = Reading("iq2_2", unit="V")
    iir = Reading("iir", unit="V")
    trig = Reading("trig", unit="V")

    async def statistics(self, signal: str = "in1", for_s: float = 0.1) -> Statistics:
        """Sample a signal for `for_s` and return its mean, deviation and peaks.

        Raises:
            RefusedError: There is no such signal, or it was not accepted.
            CommandError: It failed.
        """
        check_text(self.name, "statistics", "signal", signal)
        if signal not in self.parameters:
            known = ", ".join(self.parameters)
            raise self.refuse("statistics", f"there is no signal {signal!r}; there are: {known}")
        check_time(self.name, "statistics", "for_s", for_s, low=0.0)
        plan = self.operation(
            "statistics",
            {"signal": signal, "for_s": for_s},
            lambda said: Statistics(
                said["mean"], said["std"], said["min"], said["max"], said["count"]
            ),
            within_s=for_s + 10.0,
        )
        return await self.finish(await self.start(plan))


class Trigger(Part):
    """The trigger of a board, on any of its signals."""

    input = Setting("input", type=str)
    output = Setting("output_direct", type=str, choices=OUTPUTS)
    output_signal = Setting("output_signal", type=str)
    trigger_source = Setting("trigger_source", type=str)
    threshold = Setting("threshold", unit="V", low=-1.0, high=1.0)
    hysteresis = Setting("hysteresis", unit="V", low=-1.0, high=1.0)
    phase_offset = Setting("phase_offset", unit="deg", low=0.0, high=360.0)
    auto_rearm = Setting("auto_rearm", type=bool)
    phase_abs = Setting("phase_abs", type=bool)
    armed = Setting("armed", type=bool)

    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (output.to(OFF),)

    moving: ClassVar[Set[str]] = frozenset({"armed"})


class Hk(Part):
    """The lamps and the expansion pins of a board; pin 0 is instance 1."""

    led = Setting("led", type=int, low=0, high=255)
    pin_p = Setting("expansion_P", type=bool)
    pin_n = Setting("expansion_N", type=bool)
    drives_p = Setting("expansion_P_output", type=bool)
    drives_n = Setting("expansion_N_output", type=bool)

    # A pin that is not driven reads as what others put on it.
    unread: ClassVar[Set[str]] = frozenset({"pin_p", "pin_n"})

    @classmethod
    def instances_of(cls, parameter: Parameter[Any]) -> int:
        """Return how many pins there are, or 1 for the lamps."""
        return 1 if parameter.name == "led" else PINS

    def path(self, parameter: Parameter[Any], instance: int) -> str:
        """Return the attribute of a lamp or a pin, as PyRPL names it."""
        if parameter.name == "led":
            return super().path(parameter, instance)
        side, mark, rest = parameter.header.partition("_output")
        return f"{self.unit}.{side}{instance - 1}{mark}{rest}"


class Ams(Part):
    """The slow outputs of a board."""

    dac0 = Setting("dac0", unit="V", low=0.0, high=1.8)
    dac1 = Setting("dac1", unit="V", low=0.0, high=1.8)
    dac2 = Setting("dac2", unit="V", low=0.0, high=1.8)
    dac3 = Setting("dac3", unit="V", low=0.0, high=1.8)


class Pwm(Part):
    """A slow output that follows one of the board's signals."""

    input = Setting("input", type=str)
