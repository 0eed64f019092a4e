"""A heated body that loses heat to the room; pure."""

from __future__ import annotations

import math

from attrs import field, frozen
from attrs.validators import ge, gt


@frozen
class ThermalPlant:
    """A first-order thermal plant, solved exactly.

    Attributes:
        power_w: What the heater gives at full power, in watts.
        loss_w_per_k: Heat lost for each kelvin above the room, in watts.
        heat_capacity_j_per_k: Heat for each kelvin of warming, in joules.
        ambient_c: The temperature of the room, in degrees Celsius.
    """

    power_w: float = field(validator=ge(0.0))
    loss_w_per_k: float = field(validator=gt(0.0))
    heat_capacity_j_per_k: float = field(validator=gt(0.0))
    ambient_c: float

    @property
    def time_constant_s(self) -> float:
        """How long a step takes to get to 63 %, in seconds."""
        return self.heat_capacity_j_per_k / self.loss_w_per_k

    def settled_c(self, fraction: float) -> float:
        """Return where the temperature ends at a constant fraction of full power."""
        return self.ambient_c + fraction * self.power_w / self.loss_w_per_k

    def temperature_after(self, start_c: float, fraction: float, elapsed_s: float) -> float:
        """Return the temperature after `elapsed_s` at a constant fraction of full power."""
        settled_c = self.settled_c(fraction)
        return settled_c + (start_c - settled_c) * math.exp(-elapsed_s / self.time_constant_s)
