"""Waveforms of the user's own in the signal generators, which PyRPL forgets at each set-up.

Whatever sets a generator up, such as choosing what starts it, has PyRPL fill the table with
its waveform again. A table that was loaded is what is filled in here, until a waveform is
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

_PLAIN = "dc"


class Tables:
    """The tables that were loaded, by the names of their generators.

    Args:
        generators: PyRPL's generators by name.
    """

    def __init__(self, generators: Mapping[str, Any]) -> None:
        """Watch over the generators; nothing is loaded yet."""
        self._loaded: dict[str, Points] = {}
        for name, generator in generators.items():
            self._watch(name, generator)

    def load(self, generator: Any, points: Points) -> None:
        """Fill a generator's table, for good."""
        if generator.waveform == "noise":
            # Noise has the amplitude mean something else, and the table stepped at random.
            generator.waveform = _PLAIN
        generator.data = points
        self._loaded[str(generator.name)] = points

    def _watch(self, name: str, generator: Any) -> None:
        # PyRPL looks both up on the object: what is put there comes first.
        waveform = cast("Any", type(generator)).waveform
        choose, set_up = waveform.set_value, generator._setup  # noqa: SLF001 - PyRPL's hook
        setting_up = False

        def set_value(owner: Any, value: str) -> str:
            loaded = self._loaded.get(name)
            if setting_up and loaded is not None:
                owner.data = loaded
                return value
            self._loaded.pop(name, None)
            chosen: str = choose(owner, value)
            return chosen

        def set_up_keeping() -> None:
            nonlocal setting_up
            setting_up = True
            try:
                set_up()
            finally:
                setting_up = False

        waveform.set_value = set_value
        generator._setup = set_up_keeping  # noqa: SLF001


def fire(generator: Any) -> None:
    """Start a waveform from its start phase, and leave what starts it otherwise as it is.

    PyRPL's own way forgets the phase, and stops what it has just started.
    """
    source = cast("Any", type(generator)).trigger_source
    before = generator.trigger_source
    generator.sm_reset = True
    generator.sm_reset = False
    # The register alone: setting the attribute would reset the generator once more.
    source.set_value(generator, "immediately")
    source.set_value(generator, before)
