"""Periodic voltages over time; pure."""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt
from attrs import frozen

Array = npt.NDArray[np.float64]


class Shape(Enum):
    """What a period looks like, by the word that SCPI has for it."""

    SINE = "SIN"
    SQUARE = "SQU"
    RAMP = "RAMP"
    PULSE = "PULS"
    NOISE = "NOIS"
    DC = "DC"


@frozen(kw_only=True)
class Signal:
    """A voltage over time.

    Attributes:
        shape: What a period looks like.
        frequency_hz: How often it comes back, in hertz.
        amplitude_v: How far it swings to either side, in volts.
        offset_v: What it swings about, in volts.
        phase_deg: Where in its period it is at time 0, in degrees.
        duty: Which share of its period a square or pulse is high.
    """

    shape: Shape = Shape.SINE
    frequency_hz: float = 1e3
    amplitude_v: float = 1.0
    offset_v: float = 0.0
    phase_deg: float = 0.0
    duty: float = 0.5

    def at(self, time_s: Array) -> Array:
        """Return the voltage at each of some instants."""
        swing: Array
        turn = (time_s * self.frequency_hz + self.phase_deg / 360.0) % 1.0
        match self.shape:
            case Shape.SINE:
                swing = np.sin(2.0 * np.pi * turn)
            case Shape.SQUARE | Shape.PULSE:
                swing = np.where(turn < self.duty, 1.0, -1.0)
            case Shape.RAMP:
                swing = 2.0 * turn - 1.0
            case Shape.NOISE:
                # The same instants hear the same noise.
                seed = abs(int(float(time_s[0]) * 1e9)) if len(time_s) else 0
                swing = np.random.default_rng(seed).uniform(-1.0, 1.0, len(time_s))
            case _:
                swing = np.zeros_like(time_s)
        return self.offset_v + self.amplitude_v * swing

    def next_crossing_s(self, level_v: float, after_s: float, *, slope: str) -> float | None:
        """Return when it next goes through a level: `POS` upwards, `NEG` downwards, `EITH`."""
        if self.shape is Shape.DC or self.frequency_hz <= 0.0:
            return None
        time_s = after_s + np.linspace(0.0, 2.0 / self.frequency_hz, 4001)
        above = self.at(time_s) - level_v
        rises = (above[:-1] < 0.0) & (above[1:] >= 0.0)
        falls = (above[:-1] >= 0.0) & (above[1:] < 0.0)
        found = {"POS": rises, "NEG": falls}.get(slope, rises | falls)
        (places,) = np.nonzero(found)
        if not len(places):
            return None
        first = int(places[0])
        before, behind = float(above[first]), float(above[first + 1])
        step_s = float(time_s[1] - time_s[0])
        return float(time_s[first]) + step_s * before / (before - behind)
