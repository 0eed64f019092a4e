"""The controllers: proportional and integral, behind filters."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, ClassVar, Final

import trio
from attrs import frozen

from actors.instrument import Directive
from actors.parameter import Action, Assignment, Reading, Setting
from transports import Exchange

from .arguments import check_time, check_volts
from .generator import OFF, OUTPUTS
from .part import Part

GAIN: Final = 2047.999
"""The largest proportional gain."""

INTEGRAL_HZ: Final = 38_856.18
"""The largest integral gain: where it is as large as 1, in Hz."""

SAMPLE_S: Final = 0.01
"""How often the error is looked at, in seconds."""


@frozen
class Settled:
    """How a controller came to rest.

    Attributes:
        error: The error in the end, in V.
        after_s: How long it took, the time of being stable included, in seconds.
    """

    error: float
    after_s: float


class Pid(Part):
    """A controller of a board. This board has no differential gain."""

    input = Setting("input", type=str)
    output = Setting("output_direct", type=str, choices=OUTPUTS)
    setpoint = Setting("setpoint", unit="V", low=-1.0, high=1.0)
    p = Setting("p", low=-GAIN, high=GAIN)
    i = Setting("i", unit="Hz", low=-INTEGRAL_HZ, high=INTEGRAL_HZ)
    ival = Setting("ival", unit="V", low=-4.0, high=4.0)
    input_filter: Setting[list[float]] = Setting("inputfilter", type=list, unit="Hz")
    min_voltage = Setting("min_voltage", unit="V", low=-1.0, high=1.0)
    max_voltage = Setting("max_voltage", unit="V", low=-1.0, high=1.0)
    paused = Setting("paused", type=bool)
    pause_gains = Setting("pause_gains", type=str)
    error = Reading("error", unit="V")
    value = Reading("current_output_signal", unit="V")

    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (output.to(OFF),)

    moving: ClassVar[Set[str]] = frozenset({"ival"})

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the call that carries out `directive`."""
        if directive is type(self).error:
            return self.call("error", {"pid": self.unit})
        return super().encode(directive, instance)

    async def reset(self) -> None:
        """Empty the integrator.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        await self.ask(type(self).ival.to(0.0))

    async def wait_stable(self, tolerance: float, for_s: float) -> Settled:
        """Wait until the error has stayed within `tolerance` for `for_s`.

        Others go on using the controller. The caller's scope is the deadline.

        Args:
            tolerance: The largest error, in V.
            for_s: How long it has to stay within, in seconds; up to an hour.

        Raises:
            RefusedError: A value is wrong, or the error cannot be read now.
            CommandError: Reading it failed.
        """
        check_volts(self.name, "wait_stable", "tolerance", tolerance)
        check_time(self.name, "wait_stable", "for_s", for_s, low=0.0)
        began_s = due_s = trio.current_time()
        since_s: float | None = None
        while True:
            error = await self.ask(type(self).error)
            now_s = trio.current_time()
            if error is None or abs(error) > tolerance:
                since_s = None
            elif since_s is None:
                since_s = now_s
            if error is not None and since_s is not None and now_s - since_s >= for_s:
                return Settled(error, now_s - began_s)
            due_s = max(due_s + SAMPLE_S, now_s)
            await trio.sleep_until(due_s)
