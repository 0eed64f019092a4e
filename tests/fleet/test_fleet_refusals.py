"""Wrong calls: one clear error each, and no byte sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Cause, CommandError, Setting
from actors.instruments.alicat import FlowController, PressureController, Statistic
from benchtree import (
    DeviceGroup,
    DeviceResult,
    ErrorPolicy,
    Fleet,
    FleetClosedError,
    FleetError,
    PowerSupply,
    open_tree,
)
from tests.fleet.bench import CountedPort, lab
from transports import SerialSettings

Call = Callable[[DeviceGroup], Awaitable[Mapping[str, DeviceResult[Any]]]]

HALF_MS: Any = 1.5

WRONG: dict[str, tuple[Call, str]] = {
    "a setpoint above full scale": (
        lambda fleet: fleet.execute(FlowController.setpoint, {"port0A": 500.1}),
        "500.1 SCCM is out of range; it takes a number from 0 to 500 SCCM",
    ),
    "a negative setpoint": (
        lambda fleet: fleet.execute(FlowController.setpoint, {"port0A": -0.1}),
        "out of range",
    ),
    "an unknown gas": (
        lambda fleet: fleet.execute(FlowController.gas, {"port0A": "Xe-135"}),
        "'Xe-135' is not among its values; it takes one of 'Air'",
    ),
    "an unconfirmed tare": (
        lambda fleet: fleet.execute(FlowController.tare_flow, {"port0A": None}),
        "pass confirm=True",
    ),
    "an unconfirmed unit id": (
        lambda fleet: fleet.execute(FlowController.unit_id, {"port0A": "F"}),
        "pass confirm=True",
    ),
    "a unit id that is no letter": (
        lambda fleet: fleet.execute(FlowController.unit_id, {"port0A": "@"}, confirm=True),
        "not among its values",
    ),
    "a unit id that is taken": (
        lambda fleet: fleet.execute(FlowController.unit_id, {"port0A": "B"}, confirm=True),
        "port0B is unit B already",
    ),
    "a setting of another family": (
        lambda fleet: fleet.execute(PowerSupply.voltage, {"port0A": 1.0}),
        "is not declared by FlowController",
    ),
    "an unknown statistic": (
        lambda fleet: fleet.request(["entropy"], ["port0A"]),
        "no statistic is named 'entropy'; there are: pressure",
    ),
    "no statistic": (lambda fleet: fleet.request([], ["port0A"]), "takes 1 to 13"),
    "an average over no time": (
        lambda fleet: fleet.request([Statistic.MASS_FLOW], ["port0A"], averaging_ms=0),
        "averaging_ms is 0; it takes 1 to 9999",
    ),
    "an average over half a millisecond": (
        lambda fleet: fleet.request(["mass_flow"], ["port0A"], averaging_ms=HALF_MS),
        "averaging_ms is 1.5; it takes 1 to 9999",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("policy", ErrorPolicy)
async def test_wrong_argument(wrong: str, policy: ErrorPolicy, autojump_clock: MockClock) -> None:
    """What an instrument would refuse is its own error, under either policy."""
    call, message = WRONG[wrong]
    async with lab("AB", policy=policy) as made:
        before = made.sent("port0A")
        if policy is ErrorPolicy.RAISE:
            with pytest.raises(FleetError) as raised:
                await call(made.fleet)
            results: Mapping[str, DeviceResult[Any]] = raised.value.results
        else:
            results = await call(made.fleet)
        error = results["port0A"].error
        assert error is not None
        assert error.cause is Cause.VALIDATION
        assert error.instrument == "port0A"
        assert message in str(error)
        assert made.sent("port0A") == before


async def test_argument_of_an_action(autojump_clock: MockClock) -> None:
    """An action takes no argument."""
    argument: Any = 3
    async with lab("A") as made:
        before = made.sent("port0A")
        error = (await made.fleet.execute(FlowController.hold, {"port0A": argument}))[
            "port0A"
        ].error
        assert error is not None
        assert "it takes no argument, 3 was given" in str(error)
        assert made.sent("port0A") == before


async def test_unknown_name(autojump_clock: MockClock) -> None:
    """A name that nobody has is the call's error: nobody is asked."""
    setpoint: Setting[float] = FlowController.setpoint
    async with lab("A") as made:
        before = made.sent("port0A")
        for call in (
            lambda: made.fleet.poll(["port0A", "nobody"]),
            lambda: made.fleet.request(["mass_flow"], ["port0A", "nobody"]),
            lambda: made.fleet.execute(setpoint, {"port0A": 1.0, "nobody": 1.0}),
            lambda: made.fleet.remove("nobody"),
        ):
            with pytest.raises(
                KeyError, match="no instrument is named 'nobody'; there are: port0A"
            ):
                await call()
        with pytest.raises(KeyError, match="nobody"):
            made.fleet.get("nobody")
        assert made.sent("port0A") == before


async def test_text_in_place_of_a_setting(autojump_clock: MockClock) -> None:
    """What is no declared setting, reading or action is refused as such; so is no pattern."""
    async with lab("A") as made:
        before = made.sent("port0A")
        wrong: Any = "setpoint"
        with pytest.raises(TypeError, match="'setpoint' is no setting, reading or action"):
            await made.fleet.execute(wrong, {"port0A": 1.0})
        assert made.sent("port0A") == before
    async with open_tree() as tree:
        pattern: Any = ["mfc"]
        with pytest.raises(TypeError, match=r"\['mfc'\] is no pattern; it is a text such as 'mfc"):
            tree.fleet(pattern)


async def test_duplicate_name(autojump_clock: MockClock) -> None:
    """A name is given once; the port of the second is not even opened."""
    port = CountedPort()
    async with lab("A") as made:
        before = made.sent("port0A")
        with pytest.raises(ValueError, match="an instrument named port0A exists already"):
            await made.fleet.add("port0A", port.transport)
        with pytest.raises(ValueError, match="an instrument named port0A exists already"):
            await made.fleet.add("port0A", "sim://port0", unit_id="B")
        assert made.sent("port0A") == before
        assert not port.line.requests


async def test_name_that_is_being_added(autojump_clock: MockClock) -> None:
    """Of two additions of one name at once, one is refused."""
    refused: list[str] = []
    async with lab() as made:

        async def add(address: str) -> None:
            try:
                await made.fleet.add("mfc", address)
            except ValueError as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, "sim://one")
            nursery.start_soon(add, "sim://two")
        assert refused == ["an instrument named mfc exists already"]
        assert made.fleet.names == ("mfc",)


async def test_unit_that_is_taken(autojump_clock: MockClock) -> None:
    """Two instruments cannot be one unit, and the first is not disturbed."""
    async with lab("A") as made:
        with pytest.raises(ValueError, match="port0A is already unit A"):
            await made.fleet.add("again", "sim://port0")
        assert made.fleet.names == ("port0A",)
        assert (await made.fleet.poll())["port0A"].ok


async def test_serial_with_what_is_open(autojump_clock: MockClock) -> None:
    """Line settings are for ports that the fleet opens itself."""
    port = CountedPort()
    await port.transport.open()
    async with lab("A") as made:
        controller = made.fleet.get("port0A")
        for source in (port.transport, controller.bus, controller, "tcp://192.0.2.1:4000"):
            with pytest.raises(ValueError, match="serial="):
                await made.fleet.add("other", source, unit_id="B", serial=SerialSettings())
        assert made.fleet.names == ("port0A",)
    assert not port.line.requests
    await port.transport.aclose()


async def test_bad_timeout_and_driver(autojump_clock: MockClock) -> None:
    """A timeout of nothing and an unknown driver are said before anything is opened."""
    async with lab() as made:
        with pytest.raises(ValueError, match="timeout_s is 0"):
            await made.fleet.add("mfc", "sim://one", timeout_s=0)
        with pytest.raises(LookupError, match="no driver is named 'alikat'"):
            await made.fleet.add("mfc", "sim://one", driver="alikat")
        with pytest.raises(ValueError, match="is no unit id; it is a letter from A to Z"):
            await made.fleet.add("mfc", "sim://one", unit_id="AB")
        with pytest.raises(ValueError, match="an instrument needs a name"):
            await made.fleet.add("", "sim://one")
        nothing: Any = None
        with pytest.raises(TypeError, match="mfc: None is no address, opened transport, bus or"):
            await made.fleet.add("mfc", nothing)
        no_driver: Any = int
        with pytest.raises(TypeError, match="mfc: <class 'int'> is no driver"):
            await made.fleet.add("mfc", "sim://one", driver=no_driver)
        assert not made.tree.lines
        assert not made.tree.instruments


async def test_closed_fleet(autojump_clock: MockClock) -> None:
    """A closed fleet answers every call with the same error, and sends nothing."""
    async with lab("A") as made:
        line = made.line("port0A")
        await made.fleet.aclose()
        sent = len(line.requests)
        await made.fleet.aclose()
        assert made.fleet.closed
        calls: list[Callable[[], Awaitable[object]]] = [
            made.fleet.poll,
            lambda: made.fleet.request(["mass_flow"]),
            lambda: made.fleet.execute(FlowController.setpoint, {"port0A": 1.0}),
            lambda: made.fleet.add("b", "sim://b"),
            lambda: made.fleet.remove("port0A"),
            lambda: made.fleet.poll_many(["mass_flow"]),
        ]
        for call in calls:
            with pytest.raises(FleetClosedError, match="the fleet is closed"):
                await call()
        assert len(line.requests) == sent


async def test_fleet_that_was_not_entered(autojump_clock: MockClock) -> None:
    """A fleet has no tree before it is entered, and is entered once."""
    fleet = Fleet()
    with pytest.raises(FleetClosedError, match="enter it with `async with`"):
        await fleet.poll()
    async with fleet:
        assert await fleet.poll() == {}
        with pytest.raises(FleetClosedError, match="entered once"):
            await fleet.__aenter__()
    assert fleet.closed
    with pytest.raises(FleetClosedError, match="entered once"):
        await fleet.__aenter__()


@pytest.mark.parametrize("driver", ["alicat.flow_meter", PressureController])
async def test_driver_of_another_kind(
    driver: str | type[PressureController], autojump_clock: MockClock
) -> None:
    """A driver that does not fit the device is an error that names the one that does."""
    port = CountedPort()
    await port.transport.open()
    async with lab() as made:
        with pytest.raises(CommandError, match=r"which the driver alicat\.flow_controller is for"):
            await made.fleet.add("mfc", port.transport, driver=driver)
        assert not made.tree.instruments
        assert made.fleet.names == ()
    await port.transport.aclose()
