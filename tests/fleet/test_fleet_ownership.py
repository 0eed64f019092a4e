"""Who opens, who closes: ports counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import CommandError, Event, Instrument, RefusedError, Service
from actors.instruments.alicat import FlowController, FlowMeter, PressureController, make_line
from benchtree import (
    DeviceAdded,
    DeviceCloseFailed,
    DeviceRemoved,
    DeviceResult,
    Fleet,
    PowerSupply,
    open_tree,
    record,
)
from recorder import PollSourceAdapter
from tests.fleet.bench import CountedPort, lab
from transports import LineState, SerialSettings, SimLine, serve_pty


async def test_last_one_closes_the_port(tmp_path: Path) -> None:
    """Two names for one port share one actor; the port closes after the last instrument."""
    line = SimLine(make_line("AB"))
    link = tmp_path / "tty"
    other = tmp_path / "by-id"
    other.symlink_to(link)
    async with serve_pty(line, link=link) as address, Fleet() as fleet:
        first = await fleet.add("a", address)
        second = await fleet.add("b", f"serial://{other}", unit_id="B")
        assert first.bus is second.bus
        bus = first.bus
        assert bus.transport.counters.opened == 1
        await fleet.remove("a")
        assert bus.status().line is LineState.READY
        assert list(await fleet.poll()) == ["b"]
        await fleet.remove("b")
        assert bus.status().line is LineState.CLOSED
        again = await fleet.add("a", address)
        assert again.bus is not bus


async def test_settings_of_a_shared_port(tmp_path: Path) -> None:
    """A second instrument cannot ask for other line settings than the port has."""
    line = SimLine(make_line("AB"))
    async with serve_pty(line, link=tmp_path / "tty") as address, Fleet() as fleet:
        settings = SerialSettings(baudrate=38_400)
        await fleet.add("a", address, serial=settings)
        with pytest.raises(ValueError, match="open with other settings"):
            await fleet.add("b", address, unit_id="B", serial=SerialSettings(baudrate=9_600))
        await fleet.add("b", address, unit_id="B", serial=settings)
        assert fleet.names == ("a", "b")


async def test_supplied_transport_is_never_closed(autojump_clock: MockClock) -> None:
    """A transport that was given stays open; it is told from others by being itself."""
    port, other = CountedPort("AB"), CountedPort("A")
    await port.transport.open()
    await other.transport.open()
    async with Fleet() as fleet:
        first = await fleet.add("a", port.transport)
        second = await fleet.add("b", port.transport, unit_id="B")
        third = await fleet.add("c", other.transport)
        assert first.bus is second.bus
        assert first.bus is not third.bus
        assert all(each.ok for each in (await fleet.poll()).values())
        await fleet.remove("a")
        await fleet.remove("b")
        assert (port.opened, port.closed) == (1, 0)
        await fleet.add("b", port.transport, unit_id="B")
    assert (port.opened, port.closed) == (1, 0)
    assert (other.opened, other.closed) == (1, 0)
    assert port.transport.state is LineState.READY
    await port.transport.aclose()
    await other.transport.aclose()


async def test_supplied_transport_that_is_lost(autojump_clock: MockClock) -> None:
    """Lost, a given transport is its owner's to open again; then its instruments answer."""
    port = CountedPort("A")
    await port.transport.open()
    async with lab() as made:
        await made.fleet.add("a", port.transport)
        port.line.unplug()
        assert not (await made.fleet.poll())["a"].ok
        port.line.replug()
        await trio.sleep(30)
        assert not (await made.fleet.poll())["a"].ok
        await port.transport.open()
        await trio.sleep(150)
        assert (await made.fleet.poll())["a"].ok
    await port.transport.aclose()


async def test_transport_that_is_not_open(autojump_clock: MockClock) -> None:
    """A transport that its owner has not opened cannot be added."""
    port = CountedPort("A")
    async with Fleet() as fleet:
        with pytest.raises(CommandError, match="whoever made it opens it"):
            await fleet.add("a", port.transport)
        assert fleet.names == ()
    assert (port.opened, port.closed) == (0, 0)


async def test_supplied_bus_goes_on(autojump_clock: MockClock) -> None:
    """An instrument on a given bus is taken off it; the bus and its others go on."""
    async with open_tree() as tree:
        own = await tree.add("own", FlowController, "sim://line?units=AB")
        async with Fleet() as fleet:
            added = await fleet.add("b", own.bus, unit_id="B")
            assert added.bus is own.bus
            assert isinstance(added, FlowController)
            assert (await fleet.poll())["b"].ok
            await fleet.remove("b")
            assert [each.name for each in own.bus.status().instruments] == ["own"]
            await fleet.add("b", own.bus, unit_id="B")
        assert [each.name for each in own.bus.status().instruments] == ["own"]
        assert await own.pressure.get() == 14.0


async def test_ready_instrument_is_only_looked_at(autojump_clock: MockClock) -> None:
    """An instrument that was given keeps its setpoint, its bus and its tree."""
    async with open_tree() as tree:
        own = await tree.add("own", FlowController, "sim://line")
        await own.setpoint.set(50.0)
        async with Fleet() as fleet:
            assert await fleet.add("mine", own) is own
            assert (await fleet.poll())["mine"].ok
            await fleet.remove("mine")
            await fleet.add("mine", own)
        assert await own.setpoint.get() == 50.0


async def test_lone_instrument_is_a_source(autojump_clock: MockClock) -> None:
    """An instrument can be recorded alone, under its own name or an adapter's."""
    async with open_tree() as tree:
        own = await tree.add("own", FlowController, "sim://line")
        assert await own.pressure.get() == 14.0
        for source, name in ((own, "own"), (PollSourceAdapter("other", own), "other")):
            async with record(source, parameters=["pressure"], rate_hz=10, duration=1) as made:
                samples = [each async for batch in made.stream for each in batch]
            assert [(each.device, each.value) for each in samples] == [(name, 14.0)] * 10
            assert made.summary.samples_missing == 0
        async with record(
            own, parameters=["own.pressure"], rate_hz=10, duration=1, names=["ignored"]
        ) as made:
            assert len([batch async for batch in made.stream]) == 10
        (sample,) = await own.poll_many(["pressure"], names=["ignored"])
        assert (sample.device, sample.value) == ("own", 14.0)
        with pytest.raises(ValueError, match="no instrument has colour"):
            await own.poll_many(["colour"])


async def test_samples_of_two_are_told_apart(autojump_clock: MockClock) -> None:
    """Two instruments that their trees call alike are not recorded as one."""
    async with open_tree() as tree, open_tree() as other, Fleet() as fleet:
        await fleet.add("left", await tree.add("mfc", FlowController, "sim://left"))
        right = await other.add("mfc", FlowController, "sim://right")
        with pytest.raises(ValueError, match="right: left is recorded as mfc already"):
            await fleet.add("right", right)
        with pytest.raises(ValueError, match="mfc: left is recorded as mfc already"):
            await fleet.add("mfc", "sim://third")
        assert fleet.names == ("left",)


async def test_view_on_a_tree(autojump_clock: MockClock) -> None:
    """`tree.fleet` looks at what matches; closing it closes nothing of the tree's."""
    async with open_tree() as tree:
        for name in ("mfc1", "mfc2"):
            await tree.add(name, FlowController, f"sim://{name}")
        psu = await tree.add("psu", PowerSupply, "sim://psu")
        fleet = tree.fleet("mfc*")
        assert fleet.names == ("mfc1", "mfc2")
        assert list(await fleet.poll()) == ["mfc1", "mfc2"]
        everything = await tree.fleet().poll()
        assert everything["psu"].value == {"measured_voltage": 0.0, "current": 0.0, "power": 0.0}
        await fleet.aclose()
        assert len(tree.instruments) == 3
        assert await psu.voltage.get() == 0.0


async def test_failed_add_leaves_nothing(autojump_clock: MockClock) -> None:
    """A unit that does not answer is not added, and its port is closed again."""
    async with lab("A") as made:
        bus = made.fleet.get("port0A").bus
        with pytest.raises(CommandError, match="no reply"):
            await made.fleet.add("silent", "sim://port0", unit_id="C")
        assert made.fleet.names == ("port0A",)
        assert [each.name for each in bus.status().instruments] == ["port0A"]
        with pytest.raises(CommandError):
            await made.fleet.add("silent", "sim://other?units=A", unit_id="C")
        assert list(made.tree.lines) == ["port0A"]
        assert (await made.fleet.poll())["port0A"].ok


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.1, 0.2, 0.3])
async def test_cancelled_add_leaves_nothing(delay_s: float, autojump_clock: MockClock) -> None:
    """An addition that is cancelled at any moment leaves no bus and no name."""
    port = CountedPort("A")
    port.line.latency_s = 0.01
    await port.transport.open()
    async with lab() as made:
        with trio.move_on_after(delay_s) as scope:
            await made.fleet.add("a", port.transport)
        assert scope.cancelled_caught
        assert made.fleet.names == ()
        assert not made.tree.instruments
        assert not made.tree.status()
        await made.fleet.add("a", port.transport)
        assert (await made.fleet.poll())["a"].ok
    await port.transport.aclose()


async def test_driver_follows_the_device(autojump_clock: MockClock) -> None:
    """The plain driver becomes the one of the device's kind, without a second identification."""
    kinds = {
        "alicat.flow_meter": FlowMeter,
        "alicat.flow_controller": FlowController,
        "alicat.pressure_controller": PressureController,
    }
    async with lab() as made:
        for number, (name, kind) in enumerate(kinds.items()):
            # The line's devices are of the kind of the first driver on it.
            scout = await made.fleet.add(f"scout{number}", f"sim://{number}?units=AB", driver=name)
            sent = made.sent(f"scout{number}")
            found = await made.fleet.add(f"found{number}", f"sim://{number}", unit_id="B")
            assert type(scout) is type(found) is kind
            asked = [data[1:] for _, data in list(made.line(f"scout{number}").requests)[sent:]]
            assert asked.count(b"VE\r") == 1
            assert all(each.ok for each in (await made.fleet.poll()).values())


async def test_remove_during_a_poll(autojump_clock: MockClock) -> None:
    """A removal waits for the poll that is with the instrument; the poll gets its value."""
    async with lab("AB") as made:
        made.line("port0A").latency_s = 0.2
        polled: dict[str, DeviceResult[Any]] = {}

        async def poll() -> None:
            polled.update(await made.fleet.poll())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(0.01)
            nursery.start_soon(made.fleet.remove, "port0B")
        assert [each.ok for each in polled.values()] == [True, True]
        assert made.fleet.names == ("port0A",)


async def test_cancelled_removal(autojump_clock: MockClock) -> None:
    """A removal cancelled while it waits for a poll has removed nothing."""
    async with lab("A") as made:
        made.line("port0A").latency_s = 0.2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.fleet.poll)
            await trio.sleep(0.01)
            with trio.move_on_after(0.05) as scope:
                await made.fleet.remove("port0A")
        assert scope.cancelled_caught
        assert made.fleet.names == ("port0A",)
        assert (await made.fleet.poll())["port0A"].ok


async def test_remove_during_a_recording(autojump_clock: MockClock) -> None:
    """A removal does not end a recording; the others miss nothing."""
    async with lab("AB", "A") as made:
        async with (
            record(made.fleet, parameters=["mass_flow"], rate_hz=10, duration=6) as recording,
            trio.open_nursery() as nursery,
        ):

            async def leave() -> None:
                await trio.sleep(2.03)
                await made.fleet.remove("port0B")
                await trio.sleep(1)
                await made.fleet.add("new", "sim://new")

            nursery.start_soon(leave)
            async for _ in recording.stream:
                pass
        counts = recording.summary.by_device()
        assert (counts["port0A"].read, counts["port0A"].missing) == (60, 0)
        assert (counts["port1A"].read, counts["port1A"].missing) == (60, 0)
        assert counts["port0B"].missing == 0
        assert counts["new"].read > 20


async def test_removed_one_is_safe(autojump_clock: MockClock) -> None:
    """What is removed, or left at the end, is driven safe before its port closes."""
    async with lab("AB", "A") as made:
        units = [made.unit(name) for name in made.fleet.names]
        setpoints = dict.fromkeys(made.fleet.names, 100.0)
        await made.fleet.execute(FlowController.setpoint, setpoints)
        await made.fleet.remove("port0B")
        assert [each.setpoint for each in units] == [100.0, 0.0, 100.0]
        await made.fleet.aclose()
        assert [each.setpoint for each in units] == [0.0, 0.0, 0.0]


async def test_failing_close_strands_nobody(autojump_clock: MockClock) -> None:
    """One that cannot be taken out is reported; the others close, the last added first."""
    seen: list[Event] = []
    ports = [CountedPort("A") for _ in range(3)]
    for port in ports:
        await port.transport.open()
    async with open_tree(observer=seen.append) as tree:
        fleet = tree.fleet()
        for number, port in enumerate(ports):
            await fleet.add(f"mfc{number}", port.transport)
        # Somebody else took it off the tree: the fleet's own removal must fail.
        await tree.remove("mfc1")
        await fleet.aclose()
        assert fleet.closed
        assert not tree.instruments
    failed = [each.name for each in seen if isinstance(each, DeviceCloseFailed)]
    removed = [each.name for each in seen if isinstance(each, DeviceRemoved)]
    assert failed == ["mfc1"]
    assert removed == ["mfc2", "mfc0"]
    for port in ports:
        assert (port.opened, port.closed) == (1, 0)
        await port.transport.aclose()


async def test_closing_while_adding(autojump_clock: MockClock) -> None:
    """An addition under way when the fleet closes is undone, and says that it is closed."""
    errors: list[str] = []
    async with lab() as made:

        async def add() -> None:
            try:
                await made.fleet.add("late", "sim://late")
            except RuntimeError as error:
                errors.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            await trio.sleep(0.05)
            await made.fleet.aclose()
        assert errors == ["the fleet is closed"]
        assert not made.tree.instruments
        assert not made.tree.lines


async def test_events(autojump_clock: MockClock) -> None:
    """Additions tell port, model and firmware; removals tell the port."""
    async with lab("A") as made:
        added = [each for each in made.seen if isinstance(each, DeviceAdded)]
        assert [(each.name, each.port) for each in added] == [
            ("port0A", made.fleet.get("port0A").bus.key)
        ]
        assert (added[0].model, added[0].firmware) == ("MC-500SCCM-D", "10v20.0-R24")
        await made.fleet.remove("port0A")
        assert isinstance(made.seen[-1], DeviceRemoved)


async def test_cancelled_fleet_closes(tmp_path: Path) -> None:
    """A fleet whose body is cancelled drives safe and closes its ports."""
    line = SimLine(make_line("A"))
    async with serve_pty(line, link=tmp_path / "tty") as address:
        fleet = Fleet()
        scope = trio.CancelScope()
        added: Instrument | None = None
        with scope:
            async with fleet:
                added = await fleet.add("a", address)
                await fleet.execute(FlowController.setpoint, {"a": 10.0})
                scope.cancel()
                await trio.sleep_forever()
        assert fleet.closed
        assert added is not None
        assert added.bus.transport.state is LineState.CLOSED
        assert line.model.setpoints() == {"A": 0.0}  # type: ignore[attr-defined]


async def test_quarantined_one_is_refused_and_stays(autojump_clock: MockClock) -> None:
    """One silent unit of a line is refused after a few polls; its neighbours answer on."""
    async with lab("ABC") as made:
        made.line("port0A").hang("B")
        for _ in range(5):
            results = await made.fleet.poll()
            assert [each.ok for each in results.values()] == [True, False, True]
        error = (await made.fleet.poll())["port0B"].error
        assert isinstance(error, RefusedError)
        status = made.fleet.get("port0B").bus.status()
        assert [each.service for each in status.instruments] == [
            Service.IN_SERVICE,
            Service.QUARANTINED,
            Service.IN_SERVICE,
        ]
