"""The signal generators: one waveform each, of a table that is read again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from actors.parameter import Action, Assignment, Setting

from .part import Part

TABLE: Final = 16_384
"""How many points the table of a waveform has."""

OUTPUTS: Final = ("off", "out1", "out2", "both")
"""Where a module's signal goes directly."""

OFF: Final = "off"


class Asg(Part):
    """A signal generator of a board."""

    waveform = Setting("waveform", type=str)
    frequency = Setting("frequency", unit="Hz", low=0.0, high=62.5e6)
    amplitude = Setting("amplitude", unit="V", low=0.0, high=1.0)
    offset = Setting("offset", unit="V", low=-1.0, high=1.0)
    phase = Setting("start_phase", unit="deg", low=0.0, high=360.0)
    trigger_source = Setting("trigger_source", type=str)
    output = Setting("output_direct", type=str, choices=OUTPUTS)
    on = Setting("on", type=bool)
    cycles_per_burst = Setting("cycles_per_burst", type=int, low=0, high=2**32 - 1)
    bursts = Setting("bursts", type=int, low=0, high=2**32 - 1)
    delay_between_bursts = Setting(
        "delay_between_bursts", type=int, unit="us", low=0, high=2**32 - 1
    )

    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (output.to(OFF),)

    # The output comes last: nothing is put out before all else is as it should be.
    _order: ClassVar[Sequence[Setting[Any]]] = (
        waveform,
        frequency,
        amplitude,
        offset,
        phase,
        cycles_per_burst,
        bursts,
        delay_between_bursts,
        trigger_source,
        on,
        output,
    )

    async def setup(self, *, trigger_source: str = "immediately", **settings: Any) -> None:
        """Set several settings, by name, and start; the output comes last.

        All are checked before the first is written.

        Args:
            trigger_source: What starts the waveform.
            settings: The generator's settings by name, such as `frequency=1e3`.

        Raises:
            RefusedError: A name or a value is wrong: nothing was written.
            CommandError: One failed; those before it are written.
        """
        given = {"on": True, **settings, "trigger_source": trigger_source}
        known = {each.name: each for each in self._order}
        unknown = [name for name in given if name not in known]
        if unknown:
            raise self.refuse(
                "setup", f"there is no setting {unknown[0]!r}; there are: {', '.join(known)}"
            )
        for name, value in given.items():
            self.check("setup", known[name], value)
        for name, setting in known.items():
            if name in given:
                await self.ask(setting.to(given[name]))

    async def load(self, data: npt.ArrayLike) -> None:
        """Load a waveform of your own: 16384 points from -1 to 1, in units of the amplitude.

        It stays until `waveform` is set, and is loaded again where settings are restored.

        Raises:
            RefusedError: There are not as many, or they are out of range.
            CommandError: It failed.
        """
        arguments = {"asg": self.unit, "points": self._points(data)}
        await self.ask_plan(self.quick("load", "load", arguments, writes=True, setting="table"))

    def _points(self, data: npt.ArrayLike) -> npt.NDArray[np.float64]:
        takes = f"a table has {TABLE} numbers from -1 to 1"
        try:
            given = np.asarray(data)
        except ValueError as error:
            raise self.refuse("load", f"the points are no list of numbers; {takes}") from error
        if given.shape != (TABLE,):
            raise self.refuse("load", f"the points have the shape {given.shape}; {takes}")
        if given.dtype.kind not in "iuf":
            raise self.refuse("load", f"the points are no numbers ({given.dtype}); {takes}")
        points = given.astype(np.float64)
        wrong = np.flatnonzero(~(np.abs(points) <= 1.0))
        if len(wrong):
            where = int(wrong[0])
            raise self.refuse("load", f"point {where} is {points[where]:g}; {takes}")
        return points

    async def trigger(self) -> None:
        """Start the waveform now, from its start phase, whatever starts it otherwise.

        With `cycles_per_burst=1` and `trigger_source="off"` it is a single pulse.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        await self.ask_plan(self.quick("trigger", "fire", {"asg": self.unit}, writes=True))
