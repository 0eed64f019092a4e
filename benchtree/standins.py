"""The device models that stand in for the instruments of a line."""

from __future__ import annotations

from collections.abc import Sequence

from actors import Instrument
from transports import BoardModel, DeviceModel, EchoModel, SharedLineModel

from .spec import InstrumentSpec


def model_of_line(
    instruments: Sequence[InstrumentSpec], *, addressed: bool, units: Sequence[str] = ()
) -> DeviceModel:
    """Return what stands in for the instruments of one line.

    Args:
        instruments: The instruments.
        addressed: Whether the line itself addresses them, as a GPIB board does.
        units: Who is on the line, where its address says so; else the instruments are.

    Raises:
        ValueError: A driver has no device model, or its model is alone on its line.
    """
    if addressed:
        return BoardModel(
            {each.unit_id or "": each.driver.simulate([None]) for each in instruments}
        )
    if not instruments:
        return EchoModel()  # something must be on the line
    drivers = {_unit(each): each.driver for each in instruments}
    on_line: Sequence[str | None] = units or [_unit(each) for each in instruments]
    kinds = tuple(dict.fromkeys(drivers.values()))
    if len(kinds) == 1:
        return kinds[0].simulate(on_line)
    for kind in kinds:
        kind.simulate(on_line)  # raises where it can only be alone
    first = kinds[0]
    models: dict[str, DeviceModel] = {}
    for kind in kinds:
        own = [each for each in on_line if drivers.get(each, first) is kind]
        if own:
            models |= dict.fromkeys([each or "" for each in own], kind.simulate(own))
    return SharedLineModel(models)


def _unit(spec: InstrumentSpec) -> str | None:
    driver: type[Instrument] = spec.driver
    return spec.unit_id or driver.default_unit
