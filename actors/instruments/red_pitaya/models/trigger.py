"""The trigger module; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from .generator import CLOCK_HZ, Generator
from .physics import Physics
from .scope import first_edge
from .settings import MODULE, TRIG
from .waves import Floats
from .words import Memory, signed

_POINTS: Final = 2048
_FINER: Final = 128
_RISING: Final = (1, 3)
_FALLING: Final = (2, 3)
_BASE: Final = TRIG * MODULE


class Trigger:
    """Waits for its input to cross the threshold, and remembers when.

    It looks at so many instants of each stretch of time that it sees periodic signals; a
    short pulse in a long silence can escape it.

    Args:
        physics: Where the signals come from.
        dsp: The registers of the signal processing modules.
        generator: Whose phase is put out at a trigger.
        notify: Called at a trigger.
    """

    def __init__(
        self, physics: Physics, dsp: Memory, generator: Generator, notify: Callable[[], None]
    ) -> None:
        """Be disarmed."""
        self._physics = physics
        self._dsp = dsp
        self._generator = generator
        self._notify = notify
        self._armed = False
        self._at_s = 0.0
        self._above: bool | None = None
        self._below: bool | None = None

    def __repr__(self) -> str:
        return f"<Trigger armed={self._armed}>"

    def arm(self, *, armed: bool) -> None:
        """Arm or disarm it."""
        self._armed = armed
        self._above = self._below = None
        self._physics.set_flag(0.0)

    def word(self, place: int) -> int:
        """Return a register."""
        match place:
            case 0x100:
                return int(self._armed)
            case 0x15C | 0x160:
                return round(self._physics.now_s * CLOCK_HZ) >> (32 if place == 0x160 else 0)
            case 0x164 | 0x168:
                return round(self._at_s * CLOCK_HZ) >> (32 if place == 0x168 else 0)
            case _:
                return self._dsp[_BASE + place]

    def watch(self, from_s: float, to_s: float) -> None:
        """Look for an edge in a stretch of time."""
        source = self._dsp[_BASE + 0x108]
        if not self._armed or not source or to_s <= from_s:
            return
        at_s = np.linspace(from_s, to_s, _POINTS)
        over = self._over(at_s)
        hysteresis_v = abs(signed(self._dsp[_BASE + 0x11C], 14)) / 8192
        rise, self._above = first_edge(over, hysteresis_v, self._above)
        fall, self._below = first_edge(-over, hysteresis_v, self._below)
        found = [rise] if source in _RISING else []
        found += [fall] if source in _FALLING else []
        edges = [edge for edge in found if edge is not None]
        if edges:
            after = min(edges)
            finer_s = np.linspace(float(at_s[max(after - 1, 0)]), float(at_s[after]), _FINER)
            beyond = self._over(finer_s) * (1 if after == rise else -1) >= 0
            beyond[-1] = True
            self._at_s = float(finer_s[np.argmax(beyond)])
            self._armed = bool(self._dsp[_BASE + 0x104] & 1)
            self._physics.set_flag(self._output())
            self._notify()

    def _over(self, at_s: Floats) -> Floats:
        """Return the input as seen from the threshold."""
        volts = self._physics.sample(self._dsp[_BASE] & 0xF, at_s)
        return volts - signed(self._dsp[_BASE + 0x118], 14) / 8192

    def _output(self) -> float:
        if not self._dsp[_BASE + 0x10C]:
            return 1.0
        offset = self._dsp[_BASE + 0x110] / (1 << 14)
        turns = (self._generator.phase(self._at_s) + offset + 0.5) % 1.0 - 0.5
        return abs(2 * turns) if self._dsp[_BASE + 0x104] & 2 else 2 * turns
