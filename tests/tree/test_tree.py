"""The tree as a script sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Cause,
    ChildStatus,
    RefusedError,
    SafeStateReached,
    Sample,
    Service,
    SupervisionError,
)
from actors.instruments.scpi import Multimeter, PowerSupply
from benchtree import Tree, TreeSpec, open_tree
from benchtree.spec import ActorSpec, BusSpec, InstrumentSpec, Kind, SupervisorSpec
from recorder import record
from tests.tree.kit import Witness, bench_of, refusal, supply, switch_on
from transports import (
    TCP,
    AddressError,
    Lines,
    LineState,
    PortOwnedError,
    SimLine,
    SimProcess,
    SimSpec,
    claim,
    serve_tcp,
)

PSU = "tcp://192.0.2.17:5025"
DMM = "tcp://192.0.2.18:5025"
MODEL = "actors.instruments.scpi.models:PowerSupplyModel"


class CrSupply(PowerSupply):
    """A supply whose replies end differently."""

    framing = Lines(b"\r")


async def test_the_script(autojump_clock: MockClock) -> None:
    """The script of the manual: add, set, switch on, read; the output is off afterwards."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, PSU)
        await psu.voltage.set(5.0)
        await psu.output.set(True, confirm=True)
        assert await psu.current.get() == pytest.approx(0.5)
        device = supply(tree, "psu")
        assert device.output_on
    assert not device.output_on


async def test_finding_instruments(autojump_clock: MockClock) -> None:
    """An instrument is found by name, and by name and driver."""
    async with open_tree(bench_of("a", "b"), sim=True) as tree:
        assert tree["a"] is tree.get("a", PowerSupply)
        assert "a" in tree
        assert "c" not in tree
        assert [each.name for each in tree.instruments] == ["a", "b"]
        assert repr(tree) == "<Tree bench: 2 buses, 2 instruments>"
        with pytest.raises(KeyError, match="no instrument is named 'c'; there are: a, b"):
            tree["c"]
        with pytest.raises(TypeError, match="a is a PowerSupply, not a Multimeter"):
            tree.get("a", Multimeter)


async def test_status(autojump_clock: MockClock) -> None:
    """The status shows every bus and instrument, and changes nothing."""
    async with open_tree(bench_of("a", "b"), sim=True) as tree:
        await tree.get("a", PowerSupply).voltage.get()
        first, second = tree.status()
        assert (first.name, second.name) == ("a", "b")
        assert first.instruments[0].service is Service.IN_SERVICE
        assert tree.root.children[0].status is ChildStatus.UP


async def test_taken_name(autojump_clock: MockClock) -> None:
    """A second instrument of one name is refused and leaves the first as it was."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, PSU)
        with pytest.raises(ValueError, match="an instrument named psu exists already"):
            await tree.add("psu", PowerSupply, DMM)
        assert tree["psu"] is psu
        assert len(tree.status()) == 1
        await psu.voltage.set(1.0)


async def test_taken_port_needs_units(autojump_clock: MockClock) -> None:
    """Two instruments at one address share the bus, and need units to be told apart."""
    async with open_tree(sim=True) as tree:
        psu = await tree.add("psu", PowerSupply, PSU)
        with pytest.raises(ValueError, match="psu is already on this bus"):
            await tree.add("twin", PowerSupply, PSU)
        assert [each.name for each in tree.instruments] == ["psu"]
        twin = await tree.add("twin", PowerSupply, PSU, unit_id="2")
        assert twin.bus is psu.bus


async def test_other_framing_on_one_bus(autojump_clock: MockClock) -> None:
    """A driver that tells replies apart differently cannot join a bus."""
    async with open_tree(sim=True) as tree:
        await tree.add("psu", PowerSupply, PSU)
        with pytest.raises(ValueError, match="CrSupply cannot share the bus psu"):
            await tree.add("twin", CrSupply, PSU, unit_id="2")
        assert "twin" not in tree


async def test_missing_unit_on_a_shared_bus(autojump_clock: MockClock) -> None:
    """A profile of a shared bus asks for a unit; the failed addition leaves no bus."""
    async with open_tree(sim=True) as tree:
        with pytest.raises(ValueError, match="a unit id is needed"):
            await tree.add("psu", PowerSupply, PSU, profile=evolve(TCP, shared=True))
        assert tree.status() == ()
        await tree.add("psu", PowerSupply, PSU)


async def test_bad_address() -> None:
    """What is no address is refused, and leaves nothing behind."""
    async with open_tree() as tree:
        with pytest.raises(AddressError, match="not an address"):
            await tree.add("psu", PowerSupply, "dev/ttyUSB0")
        assert tree.status() == ()
        assert tree.root.children == ()


async def test_failed_additions_release_the_port() -> None:
    """An addition that fails after the port was claimed releases it again."""
    async with open_tree() as tree:
        with pytest.raises(ValueError, match="a unit id is needed"):
            await tree.add("psu", PowerSupply, PSU, profile=evolve(TCP, shared=True))
        claim(PSU, tree="other").release()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0):
            await tree.add("psu", PowerSupply, PSU)
        claim(PSU, tree="other").release()
        assert tree.root.children == ()
        assert tree.status() == ()


async def test_owned_port() -> None:
    """A port that another tree has is refused, and leaves nothing behind."""
    with claim(PSU, tree="other"):
        async with open_tree() as tree:
            with pytest.raises(PortOwnedError, match="other"):
                await tree.add("psu", PowerSupply, PSU)
            assert (tree.status(), tree.instruments, tree.root.children) == ((), (), ())


async def test_simultaneous_additions_share_a_bus(autojump_clock: MockClock) -> None:
    """Two tasks that add instruments at one address at once get one bus."""
    async with open_tree(sim=True) as tree:

        async def add(unit: str) -> None:
            await tree.add(f"psu{unit}", PowerSupply, PSU, unit_id=unit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, "1")
            nursery.start_soon(add, "2")
        assert len(tree.status()) == 1


async def test_remove_drives_safe(autojump_clock: MockClock) -> None:
    """A removed instrument is off before its bus closes, and its name is free again."""
    seen = Witness()
    async with open_tree(sim=True, observer=seen) as tree:
        psu = await tree.add("psu", PowerSupply, PSU)
        (device,) = await switch_on(tree, "psu")
        await tree.remove("psu")
        assert not device.output_on
        assert [each.reason for each in seen.of(SafeStateReached)] == ["psu is removed"]
        assert (tree.status(), tree.root.children, "psu" in tree) == ((), (), False)
        with pytest.raises(RefusedError) as refused:
            await psu.voltage.get()
        assert refused.value.cause is Cause.STOPPED
        with pytest.raises(KeyError):
            await tree.remove("psu")
        again = await tree.add("psu", PowerSupply, PSU)
        await again.voltage.set(1.0)


async def test_remove_one_of_two(autojump_clock: MockClock) -> None:
    """The bus stays while somebody is on it, and a newcomer may have the removed one's name."""
    async with open_tree(sim=True) as tree:
        await tree.add("a", PowerSupply, PSU, unit_id="1")
        b = await tree.add("b", PowerSupply, PSU, unit_id="2")
        await tree.remove("a")
        await b.voltage.set(1.0)
        a = await tree.add("a", PowerSupply, DMM)
        assert a.bus is not b.bus
        assert sorted(each.name for each in tree.status()) == ["a", "a-2"]


async def test_trip_and_rearm(autojump_clock: MockClock) -> None:
    """A tripped instrument is off and only read, until it is rearmed."""
    async with open_tree(bench_of("psu"), sim=True) as tree:
        psu = tree.get("psu", PowerSupply)
        (device,) = await switch_on(tree, "psu")
        assert (await tree.trip("psu", "a test")).error is None
        assert not device.output_on
        refused = await refusal(psu)
        assert refused is not None
        assert refused.cause is Cause.TRIPPED
        assert await psu.voltage.get() == 0.0
        tree.rearm("psu")
        assert await refusal(psu) is None
        with pytest.raises(KeyError):
            tree.rearm("none")
        with pytest.raises(KeyError):
            await tree.trip("none")


async def test_code_of_ones_own(autojump_clock: MockClock) -> None:
    """Code runs under supervision; its name is taken while it runs, and free afterwards."""
    log: list[float] = []

    async def note(tree: Tree) -> None:
        log.append(trio.current_time())
        await trio.sleep(1.0)

    async with open_tree(sim=True) as tree:
        await tree.start("note", note)
        with pytest.raises(SupervisionError, match=r"actor\.note exists already"):
            await tree.start("note", note)
        await trio.sleep(2.0)
        assert tree.root.children == ()
        await tree.start("note", note)
        # Neither is the name of code that of an instrument.
        await tree.add("note", PowerSupply, PSU)
    assert log == [0.0, 2.0]


async def test_poll_many(autojump_clock: MockClock) -> None:
    """Whoever has a parameter is read, all buses at once; what cannot be read is left out."""
    async with open_tree(bench_of("a", "b", "c"), sim=True) as tree:
        for name in "abc":
            await tree.get(name, PowerSupply).voltage.set(2.0)
            tree.lines[name].latency_s = 0.1
        assert _read(await tree.poll_many(["voltage"])) == {"a", "b", "c"}
        assert _read(await tree.poll_many(["voltage"], names=["b"])) == {"b"}
        assert _read(await tree.poll_many(["b.voltage", "c.voltage"])) == {"b", "c"}
        assert trio.current_time() == pytest.approx(0.3)
        tree.lines["a"].unplug()
        await trio.lowlevel.checkpoint()
        assert _read(await tree.poll_many(["voltage"])) == {"b", "c"}


@pytest.mark.parametrize("way", ["poll_many", "partitions"])
async def test_what_cannot_be_read(way: str, autojump_clock: MockClock) -> None:
    """A parameter, a name or an instance that does not exist is a mistake of the caller."""
    async with open_tree(bench_of("a"), sim=True) as tree:

        async def read(
            parameter: str, names: tuple[str, ...] | None = None, instance: int = 1
        ) -> None:
            if way == "poll_many":
                await tree.poll_many([parameter], names=names, instances=[instance])
            else:
                tree.partitions([parameter], names=names, instances=[instance])

        with pytest.raises(ValueError, match="no instrument has colour"):
            await read("colour")
        with pytest.raises(ValueError, match="no instrument is named 'b'"):
            await read("voltage", ("b",))
        with pytest.raises(ValueError, match="more than one instance"):
            await read("voltage", None, 2)


async def test_partitions(autojump_clock: MockClock) -> None:
    """There is one partition per bus; instruments that come and go come into it and leave it."""
    async with open_tree(bench_of("a", "b"), sim=True) as tree:
        partitions = tree.partitions(["voltage", "a.current"])
        first, second = partitions
        assert [str(key) for key in first.keys] == ["a.voltage", "a.current"]
        await tree.remove("b")
        assert second.keys == ()
        assert list(partitions) == [first]
        await tree.add("c", PowerSupply, "sim://c")
        assert [[str(key) for key in each.keys] for each in partitions] == [
            ["a.voltage", "a.current"],
            ["c.voltage"],
        ]


async def test_recording_counts_disconnects(autojump_clock: MockClock) -> None:
    """Each loss of a bus counts once; an instrument that comes in mid-recording is recorded."""
    async with open_tree(bench_of("a", "b"), sim=True) as tree:
        await trio.sleep(1)
        async with record(
            tree, parameters=["voltage"], rate_hz=10, duration=60, buffer_size=600
        ) as recording:
            await trio.sleep(5)
            tree.lines["a"].unplug()
            await trio.sleep(10)
            tree.lines["a"].replug()
            await tree.add("c", PowerSupply, "sim://c")
            async for _ in recording.stream:
                pass
    summary = recording.summary
    assert summary.disconnects == 1
    assert summary.disconnects_by_device() == {"a": 1, "b": 0, "c": 0}
    by_device = summary.by_device()
    assert by_device["a"].expected == by_device["b"].read == 600
    assert 90 < by_device["a"].missing < 300
    assert by_device["c"].missing <= 2
    assert by_device["c"].expected == 449


def _read(samples: Sequence[Sample]) -> set[str]:
    return {each.device for each in samples}


async def _nothing(tree: Tree) -> None:
    del tree


BUSES = [BusSpec(name="a", address=PSU), BusSpec(name="b", address=DMM)]
ON_A = [InstrumentSpec(name="psu", bus="a", driver=PowerSupply)]
MISTAKES: dict[str, tuple[str, TreeSpec]] = {
    "an instrument without a bus": (
        "there is no bus named c",
        TreeSpec(buses=BUSES, instruments=[InstrumentSpec(name="x", bus="c", driver=PowerSupply)]),
    ),
    "two buses of one name": (
        "a bus named a exists already",
        TreeSpec(buses=[*BUSES, BusSpec(name="a", address="tcp://192.0.2.19:1")]),
    ),
    "two buses for one port": (
        "tcp://192.0.2.17:05025 is the port of a already",
        TreeSpec(buses=[*BUSES, BusSpec(name="c", address="tcp://192.0.2.17:05025")]),
    ),
    "two instruments of one name": (
        "psu",
        TreeSpec(
            buses=BUSES,
            instruments=[*ON_A, InstrumentSpec(name="psu", bus="b", driver=PowerSupply)],
        ),
    ),
    "drivers that do not fit": (
        "frame their replies differently",
        TreeSpec(
            buses=BUSES,
            instruments=[
                *ON_A,
                InstrumentSpec(name="x", bus="a", driver=CrSupply, unit_id="2"),
            ],
        ),
    ),
    "a child that does not exist": (
        r"there is no bus\.c",
        TreeSpec(buses=BUSES, supervisors=[SupervisorSpec(name="g", children=[(Kind.BUS, "c")])]),
    ),
    "a supervisor that does not exist": (
        r"there is no supervisor\.h",
        TreeSpec(supervisors=[SupervisorSpec(name="g", children=[(Kind.SUPERVISOR, "h")])]),
    ),
    "a child of two": (
        r"bus\.a has more than one place",
        TreeSpec(
            buses=BUSES,
            supervisors=[
                SupervisorSpec(name=name, children=[(Kind.BUS, "a")]) for name in ("g", "h")
            ],
        ),
    ),
    "a circle": (
        "its own child",
        TreeSpec(
            supervisors=[
                SupervisorSpec(name="g", children=[(Kind.SUPERVISOR, "h")]),
                SupervisorSpec(name="h", children=[(Kind.SUPERVISOR, "g")]),
            ],
        ),
    ),
    "two supervisors of one name": (
        "two supervisors have one name",
        TreeSpec(supervisors=[SupervisorSpec(name="g", children=[])] * 2),
    ),
    "two actors of one name": (
        "two actors are named x",
        TreeSpec(actors=[ActorSpec(name="x", start=_nothing), ActorSpec(name="x", start=_nothing)]),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_specification_that_contradicts_itself(mistake: str) -> None:
    """A wrong specification opens no tree, and owns no port afterwards."""
    message, spec = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        async with open_tree(spec):
            raise AssertionError("it was opened")
    for each in BUSES:
        claim(each.address, tree="other").release()


async def test_bus_without_instruments(autojump_clock: MockClock) -> None:
    """A bus on which nothing is runs all the same, simulated too."""
    async with open_tree(TreeSpec(buses=BUSES), sim=True) as tree:
        await trio.sleep(1.0)
        assert [each.line for each in tree.status()] == [LineState.READY, LineState.READY]
        late = await tree.add("psu", PowerSupply, PSU)
        assert late.bus.name == "a"


async def test_host_names_share_a_bus() -> None:
    """`localhost` and its number are one bus, whichever comes first."""
    async with serve_tcp(SimLine(PowerSupply.simulate([None]))) as address:
        by_name = address.replace("127.0.0.1", "localhost")
        for first, second in ((address, by_name), (by_name, address)):
            async with open_tree() as tree:
                one = await tree.add("one", PowerSupply, first, unit_id="1")
                two = await tree.add("two", PowerSupply, second, unit_id="2")
                assert one.bus is two.bus


async def test_nothing_is_left() -> None:
    """After a tree there are no tasks, descriptors or owned ports more than before."""
    async with SimProcess([SimSpec(model=MODEL)]) as process:
        address = process.lines[0].address

        async def use() -> tuple[int, int]:
            async with open_tree() as tree:
                psu = await tree.add("psu", PowerSupply, address)
                await psu.voltage.set(1.0)
                await tree.start("wait", _sleep)
            return _descriptors(), trio.lowlevel.current_statistics().tasks_living

        assert await use() == await use()
        claim(address, tree="other").release()


async def _sleep(tree: Tree) -> None:
    del tree
    await trio.sleep_forever()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
