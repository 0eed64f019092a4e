"""Alicat instruments by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from transports import DeviceModel

from .driver import Alicat, Controller, FlowDevice
from .models import AlicatLineModel


class AnyAlicat(Alicat):
    """An Alicat device of a kind that it tells itself; a fleet makes it the driver that fits."""

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a line with these units on it, flow controllers all."""
        return AlicatLineModel.of("flow_controller", units)

    def specialised(self) -> Alicat:
        """Return the driver that fits what the device said it is, knowing what this one does."""
        driver = BY_KIND.get(self.kind)
        if driver is None:
            return self
        made = driver(self.name, self.bus, unit=self.unit)
        made.adopt(self)
        return made


class FlowMeter(FlowDevice):
    """A mass-flow meter."""

    lacks: ClassVar[Sequence[str]] = ("setpoint",)

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a line with these units on it."""
        return AlicatLineModel.of("flow_meter", units)


class FlowController(Controller, FlowDevice):
    """A mass-flow controller; safe when its setpoint is zero."""

    needs: ClassVar[Sequence[str]] = ("mass_flow", "setpoint")
    safe_state = (Controller.setpoint.to(0.0),)

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a line with these units on it."""
        return AlicatLineModel.of("flow_controller", units)


class PressureMeter(Alicat):
    """A pressure meter."""

    needs: ClassVar[Sequence[str]] = ("pressure",)
    lacks: ClassVar[Sequence[str]] = ("mass_flow", "setpoint")

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a line with these units on it."""
        return AlicatLineModel.of("pressure_meter", units)


class PressureController(Controller):
    """A pressure controller. Which pressure is safe is the process's affair: derive to say."""

    needs: ClassVar[Sequence[str]] = ("pressure", "setpoint")
    lacks: ClassVar[Sequence[str]] = ("mass_flow",)

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return a line with these units on it."""
        return AlicatLineModel.of("pressure_controller", units)


BY_KIND: Final[dict[str, type[Alicat]]] = {
    "flow_meter": FlowMeter,
    "flow_controller": FlowController,
    "pressure_meter": PressureMeter,
    "pressure_controller": PressureController,
}
"""The driver for each kind of device."""
