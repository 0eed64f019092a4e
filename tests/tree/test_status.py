"""Faults that devices find by themselves: told once, and fatal ones trip and drive safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from actors import Instrument, LaneTripped, SafeStateReached, StatusFault, StatusUnknown
from actors.instruments.alicat import AlicatLineModel, FlowController
from actors.instruments.scpi import PowerSupply, PowerSupplyModel, TemperatureController
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import Tree, open_tree
from tests.tree.kit import Witness
from transports import SimReply

PERIOD_S = 10.5
"""The time between two looks at the status, and what looking takes."""


def _say(tree: Tree, text: str) -> None:
    """Tell the device something at itself."""
    model: Any = next(iter(tree.lines.values())).model
    model.receive(text.encode() + b"\n", trio.current_time())


def _heat(tree: Tree) -> None:
    model: Any = next(iter(tree.lines.values())).model
    model.too_hot = True
    model.settle()


def _alicat(**changes: float) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        model = next(iter(tree.lines.values())).model
        assert isinstance(model, AlicatLineModel)
        for name, value in changes.items():
            setattr(model.units["A"], name, value)

    return change


def _open_input(tree: Tree) -> None:
    model: Any = next(iter(tree.lines.values())).model
    model.controllers[1].loops[1].input_error = 65


async def _supply(psu: Any) -> None:
    await psu.voltage.set(5.0)
    await psu.output.set(True, confirm=True)


async def _oven(oven: Any) -> None:
    await oven.output.set(True, confirm=True)


async def _flow(mfc: Any) -> None:
    await mfc.setpoint.set(10.0)


async def _zone(zone: Any) -> None:
    await zone.setpoint.set(50.0, confirm=True)


def _output_off(tree: Tree) -> bool:
    model: Any = next(iter(tree.lines.values())).model
    return not model.output_on


def _closed(tree: Tree) -> bool:
    model: Any = next(iter(tree.lines.values())).model
    return bool(model.units["A"].setpoint == 0.0)


Case = tuple[type[Instrument], Callable[[Any], Any], Callable[[Tree], None], str, str, Any]

FATAL: dict[str, Case] = {
    "over-voltage": (
        PowerSupply,
        _supply,
        lambda tree: _say(tree, "VOLT:PROT 4"),
        "OVER_VOLTAGE",
        "bit 9 of its questionable conditions is set",
        _output_off,
    ),
    "over-current": (
        PowerSupply,
        _supply,
        lambda tree: _say(tree, "CURR:PROT:STAT ON;:CURR 0.1"),
        "OVER_CURRENT",
        "bit 10 of its questionable conditions is set",
        _output_off,
    ),
    "over-temperature": (
        PowerSupply,
        _supply,
        _heat,
        "OVER_TEMPERATURE",
        "bit 4 of its questionable conditions is set",
        _output_off,
    ),
    "a furnace too hot": (
        TemperatureController,
        _oven,
        lambda tree: _say(tree, "TEMP:PROT 20"),
        "OVER_TEMPERATURE",
        "bit 4 of its questionable conditions is set",
        _output_off,
    ),
    "gas too hot": (
        FlowController,
        _flow,
        _alicat(temperature=75.0),
        "OVER_TEMPERATURE",
        "its status says TOV",
        _closed,
    ),
    "too much pressure": (
        FlowController,
        _flow,
        _alicat(pressure=200.0),
        "OVER_PRESSURE",
        "its status says OPL",
        _closed,
    ),
}

OTHERS: dict[str, Case] = {
    "too much flow": (
        FlowController,
        _flow,
        _alicat(full_scale=5.0),
        "OVER_RANGE",
        "its status says MOV",
        None,
    ),
    "a broken thermocouple": (
        EzZoneStandardBus,
        _zone,
        _open_input,
        "SENSOR_ERROR",
        "the input of loop 2: open",
        None,
    ),
    "an error nobody asked for": (
        PowerSupply,
        _supply,
        lambda tree: _say(tree, "NONSENSE"),
        "REJECTED",
        "it answered -113, 'Undefined header'",
        None,
    ),
}


@pytest.mark.parametrize("kind", FATAL)
async def test_fatal(kind: str, autojump_clock: MockClock) -> None:
    """Found within one period: told once, tripped, driven safe and never tried again."""
    driver, begin, go_wrong, fault, text, is_safe = FATAL[kind]
    seen = Witness()
    async with open_tree(sim=True, observer=seen) as tree:
        device: Any = await tree.add("device", driver, "sim://device")
        await begin(device)
        await trio.sleep(PERIOD_S)
        assert not seen.of(StatusFault)
        go_wrong(tree)
        await trio.sleep(PERIOD_S)
        (told,) = seen.of(StatusFault)
        assert (told.instrument, told.fault, told.reason) == ("device", fault, text)
        (tripped,) = seen.of(LaneTripped)
        assert tripped.reason == f"{fault}: {text}"
        assert len(seen.of(SafeStateReached)) == 1
        assert is_safe(tree)
        # Whoever rearms it while that lasts has not mended it.
        await trio.sleep(3 * PERIOD_S)
        assert len(seen.of(LaneTripped)) == 1
        tree.rearm("device")
        await trio.sleep(PERIOD_S)
        assert len(seen.of(LaneTripped)) == 2
        assert len(seen.of(StatusFault)) == 1


@pytest.mark.parametrize("kind", OTHERS)
async def test_others(kind: str, autojump_clock: MockClock) -> None:
    """What is not fatal is told once, and the instrument goes on."""
    driver, begin, go_wrong, fault, text, _ = OTHERS[kind]
    seen = Witness()
    async with open_tree(sim=True, observer=seen) as tree:
        device: Any = await tree.add("device", driver, "sim://device")
        await begin(device)
        await trio.sleep(PERIOD_S)
        go_wrong(tree)
        await trio.sleep(3 * PERIOD_S)
        assert [(each.fault, each.reason) for each in seen.of(StatusFault)] == [(fault, text)]
        assert not seen.of(LaneTripped)
        assert device.bus.status().instruments[0].tripped is None


class Plain(PowerSupplyModel):
    """A supply without questionable conditions.

    Attributes:
        says_so: Whether it says so, as SCPI has it, or nothing at all.
    """

    says_so: ClassVar[bool] = True

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer what it knows."""
        if b"STAT:QUES" in data and not self.says_so:
            return []
        return super().receive(data.replace(b"STAT:QUES:COND", b"STAT:NONE"), now_s)


class Silent(Plain):
    """One that says nothing to what it does not know."""

    says_so: ClassVar[bool] = False


@pytest.mark.parametrize("kind", [Plain, Silent])
async def test_no_status(kind: type[Plain], autojump_clock: MockClock) -> None:
    """A device without that status is asked no more, and nothing else suffers from it."""
    seen = Witness()

    class Plainest(PowerSupply):
        model = kind

    async with open_tree(sim=True, observer=seen) as tree:
        psu = await tree.add("psu", Plainest, "sim://psu")
        await psu.voltage.set(5.0)
        for _ in range(60):
            await trio.sleep(5.0)
            await psu.voltage.set(5.0)
        (unknown,) = seen.of(StatusUnknown)
        assert unknown.instrument == "psu"
        if kind.says_so:
            assert "it does not know STAT:QUES:COND? and answered -113" in unknown.reason
        asked = [data for _, data in tree.lines["psu"].requests if b"STAT:QUES" in data]
        assert len(asked) == (1 if kind.says_so else 2)
        assert not seen.of(StatusFault)
