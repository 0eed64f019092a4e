"""Hung, late, cancelled, garbled, foreign and unplugged: nobody else pays, no value is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Cause, RefusedError
from actors.instruments.alicat import DataFrame, FlowController, make_line
from benchtree import DeviceResult, Fleet, FleetError, record
from tests.fleet.bench import Lab, lab
from transports import SimLine, serve_pty, serve_tcp


async def test_hung_port_in_virtual_time(autojump_clock: MockClock) -> None:
    """One port of four hung for ever: the others of a 20 Hz recording miss nothing at all."""
    async with lab("A", "A", "A", "A") as made:
        made.line("port1A").hang()
        async with record(
            made.fleet, parameters=["mass_flow"], rate_hz=20, duration=60
        ) as recording:
            async for _ in recording.stream:
                pass
        counts = recording.summary.by_device()
        for name in ("port0A", "port2A", "port3A"):
            assert (counts[name].expected, counts[name].read) == (1200, 1200)
            assert counts[name].missing == counts[name].late == 0
        assert (counts["port1A"].expected, counts["port1A"].read) == (1200, 0)
        assert counts["port1A"].missing == 1200


async def test_hung_port_in_real_time(tmp_path: Path) -> None:
    """The same on four pseudo-terminals: the other three miss nothing."""
    lines = [SimLine(make_line("A"), latency_s=0.002) for _ in range(4)]
    async with trio.open_nursery() as nursery, Fleet() as fleet:
        for number, line in enumerate(lines):
            address = await nursery.start(_serve, line, tmp_path / f"port{number}")
            await fleet.add(f"port{number}", address)
        lines[1].hang()
        async with record(fleet, parameters=["mass_flow"], rate_hz=20, duration=3) as recording:
            async for _ in recording.stream:
                pass
        counts = recording.summary.by_device()
        assert counts["port1"].read == 0
        assert [counts[f"port{number}"].missing for number in (0, 2, 3)] == [0, 0, 0]
        assert [counts[f"port{number}"].read for number in (0, 2, 3)] == [60, 60, 60]
        await fleet.aclose()
        nursery.cancel_scope.cancel()


async def _serve(
    line: SimLine, link: Path, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    async with serve_pty(line, link=link) as address:
        task_status.started(address)
        await trio.sleep_forever()


UNITS = "ABCD"
FAULTS = ("late", "lose", "garble", "truncate", "duplicate", "foreign", "cancel", "hang")


def disturb(made: Lab, random: Random) -> None:
    """Arm one fault on the shared line."""
    line = made.line("port0A")
    unit, other = random.sample(UNITS, 2)
    match random.choice(FAULTS):
        case "late":
            line.late(random.choice([0.01, 0.3, 0.6, 0.9]), unit=random.choice([unit, None]))
        case "lose":
            line.lose(unit=unit)
        case "garble":
            line.garble(unit=unit)
        case "truncate":
            line.truncate(unit=unit)
        case "duplicate":
            line.duplicate(unit=unit)
        case "foreign":
            frame = f"{other} +099.00 +099.00 +099.00 +099.00 +099.00     N2\r"
            line.foreign(frame.encode(), unit=unit)
        case "hang":
            line.hang(unit)
        case _:
            pass


def check(kind: str, name: str, result: DeviceResult[Any]) -> None:
    """Check that a value is this unit's, and answers this question."""
    if result.error is not None:
        assert result.value is None
        assert result.error.instrument == name
        return
    index = UNITS.index(name[-1])
    value: Any = result.value
    match kind:
        case "poll":
            assert isinstance(value, DataFrame)
            assert value.unit == name[-1]
            assert value["pressure"] == 14.0 + index
            assert value["temperature"] == 20.0 + 0.5 * index
        case "request":
            assert value == {"pressure": 14.0 + index, "temperature": 20.0 + 0.5 * index}
        case "setpoint":
            assert value == 10.0 * (index + 1)
        case "loop":
            assert value == 37
        case _:
            assert value == "10v20.0-R24"


async def test_ten_thousand_polls_on_a_faulty_line(autojump_clock: MockClock) -> None:
    """No value is credited to the wrong unit or the wrong command, whatever the line does."""
    random = Random(7)
    seen: Counter[bool] = Counter()
    setpoints = {f"port0{unit}": 10.0 * (index + 1) for index, unit in enumerate(UNITS)}
    async with lab(UNITS, timeout_s=0.25) as made:
        await made.fleet.execute(FlowController.setpoint, setpoints)
        while sum(seen.values()) < 10_000:
            if random.random() < 0.1:
                disturb(made, random)
            kind = random.choice(["poll", "poll", "request", "setpoint", "firmware", "loop"])
            limit_s = random.choice([0.0, 0.001, 0.02, 0.3]) if random.random() < 0.1 else 60.0
            results: Any = {}
            with trio.move_on_after(limit_s):
                match kind:
                    case "poll":
                        results = await made.fleet.poll()
                    case "request":
                        results = await made.fleet.request(["pressure", "temperature"])
                    case "setpoint":
                        results = await made.fleet.execute(FlowController.setpoint, setpoints)
                    case "loop":
                        asked = dict.fromkeys(setpoints)
                        results = await made.fleet.execute(FlowController.loop_variable, asked)
                    case _:
                        asked = dict.fromkeys(setpoints)
                        results = await made.fleet.execute(FlowController.firmware_version, asked)
            for name, result in results.items():
                check(kind, name, result)
                seen[result.ok] += 1
            if random.random() < 0.05:
                made.line("port0A").unhang(answer=random.random() < 0.5)
                await trio.sleep(3)
        assert seen[True] > 5_000
        assert seen[False] > 100


async def test_cancelled_poll_then_identification(autojump_clock: MockClock) -> None:
    """After a cancelled poll, a question for the identification gets the identification."""
    async with lab("AB") as made:
        for unit in "AB":
            for delay_s in (0.0, 0.001, 0.02, 0.1):
                made.line("port0A").late(0.05)
                with trio.move_on_after(delay_s):
                    await made.fleet.poll([f"port0{unit}"])
                asked = {"port0A": None, "port0B": None}
                results = await made.fleet.execute(FlowController.firmware_version, asked)
                assert [each.value for each in results.values()] == ["10v20.0-R24"] * 2
                polled = await made.fleet.poll()
                assert [each.value["pressure"] for each in polled.values() if each.value] == [
                    14,
                    15,
                ]


async def test_reply_to_a_request_names_nobody(autojump_clock: MockClock) -> None:
    """A late reply to `DV`, which bears no letter, is not taken for another unit's."""
    async with lab("AB") as made:
        for _ in range(20):
            made.line("port0A").late(0.6, unit="A")
            results = await made.fleet.request(["pressure"])
            assert results["port0B"].value == {"pressure": 15.0}
            assert not results["port0A"].ok
            again = await made.fleet.request(["pressure"])
            assert [each.value for each in again.values()] == [
                {"pressure": 14.0},
                {"pressure": 15.0},
            ]


async def test_unplug_and_replug(autojump_clock: MockClock) -> None:
    """Unplugged, a port gives errors; plugged in again, values, with the same objects."""
    async with lab("AB", "A") as made:
        line = made.line("port0A")
        controller = made.fleet.get("port0A")
        line.unplug()
        gone = await made.fleet.poll()
        assert [each.ok for each in gone.values()] == [False, False, True]
        later = (await made.fleet.poll())["port0A"].error
        assert isinstance(later, RefusedError)
        assert later.cause is Cause.BREAKER
        assert later.retry_after_s is not None
        line.replug()
        await trio.sleep(30)
        back = await made.fleet.poll()
        assert [each.ok for each in back.values()] == [True, True, True]
        assert made.fleet.get("port0A") is controller


async def test_unplug_and_replug_a_terminal(tmp_path: Path) -> None:
    """The same on a pseudo-terminal, polled all the while."""
    line = SimLine(make_line("AB"))
    async with serve_pty(line, link=tmp_path / "tty") as address, Fleet() as fleet:
        await fleet.add("a", address)
        await fleet.add("b", address, unit_id="B")
        assert all(each.ok for each in (await fleet.poll()).values())
        line.unplug()
        with pytest.raises(FleetError) as gone:
            await fleet.poll()
        assert len(gone.value.exceptions) == 2
        line.replug()
        results: Mapping[str, DeviceResult[Any]] = {}
        with trio.fail_after(20):
            while not results:
                try:
                    results = await fleet.poll()
                except FleetError:
                    await trio.sleep(0.05)
        assert [each.value is not None for each in results.values()] == [True, True]


async def test_over_a_gateway() -> None:
    """Units behind a serial gateway on the network are polled like those on a port."""
    line = SimLine(make_line("AB"))
    async with serve_tcp(line, keeps_late=True) as address, Fleet() as fleet:
        await fleet.add("a", address)
        await fleet.add("b", address, unit_id="B")
        results = await fleet.poll()
        assert [frame["pressure"] for each in results.values() if (frame := each.value)] == [14, 15]
        line.lose()
        with pytest.raises(FleetError) as lost:
            await fleet.poll()
        assert list(lost.value.results) == ["a", "b"]
        assert lost.value.results["b"].ok
        assert all(each.ok for each in (await fleet.poll()).values())


async def test_streaming_unit(autojump_clock: MockClock) -> None:
    """A unit that begins to stream is a fault that says so, never a value; stopped, it is back."""
    async with lab("A") as made:
        unit = made.unit("port0A")
        unit.streaming = True
        for _ in range(5):
            assert (await made.fleet.poll())["port0A"].error is not None
        assert "streams" in str((await made.fleet.poll())["port0A"].error)
        unit.streaming = False
        await trio.sleep(150)
        assert (await made.fleet.poll())["port0A"].ok


async def test_streaming_unit_is_not_added(autojump_clock: MockClock) -> None:
    """A unit that streams cannot be added, and the error says why."""
    async with lab("B") as made:
        line = made.line("port0B")
        unit = made.unit("port0B")
        unit.streaming = True
        with pytest.raises(Exception, match="streams"):
            await made.fleet.add("again", made.fleet.get("port0B").bus, unit_id="A")
        assert made.fleet.names == ("port0B",)
        assert line.plugged


@pytest.mark.parametrize("unit", ["A", "B"])
async def test_fence_goes_to_the_unit_that_owes(unit: str, autojump_clock: MockClock) -> None:
    """After a reply that did not come, the unit that owes it is asked before anybody else."""
    async with lab("AB") as made:
        line = made.line("port0A")
        line.lose(unit=unit)
        before = made.sent("port0A")
        await made.fleet.request(["pressure"], [f"port0{unit}"])
        await made.fleet.poll(["port0B", "port0A"])
        sent = [data for _, data in list(line.requests)[before:]]
        assert sent == [f"{unit}DV 1 2\r".encode(), f"{unit}VE\r".encode(), b"B\r", b"A\r"]


async def test_fence_when_the_firmware_is_owed(autojump_clock: MockClock) -> None:
    """Where the firmware itself is owed, another question is the fence."""
    async with lab("AB") as made:
        line = made.line("port0A")
        line.late(0.7, unit="A")
        before = made.sent("port0A")
        asked = await made.fleet.execute(FlowController.firmware_version, {"port0A": None})
        assert not asked["port0A"].ok
        polled = await made.fleet.poll()
        assert [frame["pressure"] for each in polled.values() if (frame := each.value)] == [14, 15]
        sent = [data for _, data in list(line.requests)[before:]]
        assert sent == [b"AVE\r", b"A\r", b"A\r", b"B\r"]
