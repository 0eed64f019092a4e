"""The pytest plugin: benches by file, table or value, seeds, faults, and what a failure says."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors import RefusedError
from actors.instruments.scpi import PowerSupply, PowerSupplyModel, TemperatureController
from benchtree.faultplan import FaultKind, FaultPlan, PlannedFault
from benchtree.simulate import Bench
from tools import ROOT
from tools.check_snippets import snippets

pytest_plugins = ("pytester",)

TABLES = {
    "bus": {
        "furnace": {"address": "serial:///dev/ttyUSB0"},
        "supply": {"address": "tcp://192.0.2.17:5025"},
    },
    "instrument": {
        "oven": {"bus": "furnace", "driver": TemperatureController},
        "psu": {"bus": "supply", "driver": "scpi.power_supply"},
    },
}


@pytest.mark.seeds(3)
@pytest.mark.bench(TABLES)
async def test_unplug(bench: Bench) -> None:
    """An instrument whose bus is unplugged is refused at once, and comes back."""
    oven = bench.get("oven", TemperatureController)
    bench.unplug("furnace", at_s=5, for_s=30)
    await trio.sleep(8)
    with pytest.raises(RefusedError) as refused:
        await oven.temperature.get()
    assert refused.value.retry_after_s is not None
    await trio.sleep(90)
    temperature = await oven.temperature.get()
    assert temperature is not None
    assert temperature > 0


@pytest.mark.bench(TABLES)
async def test_device(bench: Bench) -> None:
    """A test can look into the device that an instrument talks to."""
    psu = bench.get("psu", PowerSupply)
    await psu.voltage.set(7.5)
    bench.device("psu", PowerSupplyModel)
    with pytest.raises(TypeError, match="PowerSupplyModel"):
        bench.device("oven", PowerSupplyModel)
    assert await psu.voltage.get() == 7.5


@pytest.mark.bench(
    TABLES,
    faults=FaultPlan((PlannedFault(at_s=1.0, kind=FaultKind.CRASH, target="furnace"),)),
)
async def test_plan(bench: Bench) -> None:
    """The marker's faults happen."""
    await trio.sleep(2.0)
    oven = bench.get("oven", TemperatureController)
    with pytest.raises(Exception, match="crashed"):
        await oven.temperature.get()
    assert bench.injected["crash"] == 1


@pytest.mark.trio
@pytest.mark.bench(TABLES)
async def test_beside_pytest_trio(
    bench: Bench, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The fixtures of pytest-trio stand for what the simulation has."""
    assert autojump_clock is trio.lowlevel.current_clock()
    nursery.start_soon(trio.sleep_forever)
    await trio.sleep(3600)
    assert bench.seed == 0


async def test_plain_trio_test(autojump_clock: MockClock) -> None:
    """A test without the fixture is pytest-trio's, as ever."""
    await trio.sleep(3600)
    assert autojump_clock is trio.lowlevel.current_clock()


async def test_without_tree(bench: Bench) -> None:
    """Without a marker the bench is empty; instruments are added."""
    psu = await bench.tree.add("psu", PowerSupply, "sim://psu")
    await psu.voltage.set(1.0)
    assert await psu.voltage.get() == 1.0


ONE = """
[bus.supply]
address = "tcp://192.0.2.17:5025"
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
"""

FAILING = """
import pytest, trio
from actors.instruments.scpi import PowerSupply

BENCH = {{
    "bus": {{"supply": {{"address": "tcp://192.0.2.17:5025"}}}},
    "instrument": {{"psu": {{"bus": "supply", "driver": PowerSupply}}}},
}}

@pytest.mark.seeds(4)
@pytest.mark.bench(BENCH)
async def test_it(bench):
    psu = bench.get("psu", PowerSupply)
    await psu.voltage.get()
    {failing}
"""


@pytest.mark.parametrize(
    "failing",
    [
        "assert bench.seed != 2, 'wrong'",
        "bench.invariants.expect(bench.seed != 2, 0.0, 'mine', 'wrong')",
    ],
    ids=["assertion", "violation"],
)
def test_failure_says_how_to_replay(pytester: pytest.Pytester, failing: str) -> None:
    """A failing seed prints the command that replays it, and the last of its trace."""
    path = pytester.makepyfile(FAILING.format(failing=failing))
    result = pytester.runpytest("-o", "trio_mode=true")
    result.assert_outcomes(passed=3, failed=1)
    replay = f"replay it with: pytest '{path.name}::test_it[[]seed2[]]'"
    result.stdout.fnmatch_lines(["*wrong*", "*seed 2, the last of its trace:*", f"*{replay}*"])
    result.stdout.fnmatch_lines(["*#1 psu.voltage COMPLETED*"])
    # Nothing of what is between pytest and the test.
    printed = result.stdout.str()
    assert "simulate.py" not in printed
    assert "pytest_plugin.py" not in printed
    assert "_run.py" not in printed
    assert "hidden" not in printed
    again = pytester.runpytest("-o", "trio_mode=true", f"{path.name}::test_it[seed2]")
    again.assert_outcomes(failed=1)


def test_documented_test_is_short(pytester: pytest.Pytester) -> None:
    """A test of three instruments and an unplug, as the manual prints it, is 20 lines at most."""
    page = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
    saved = {each.direction: each.text for each in snippets(page)}
    for name in ("bench.toml", "test_bench.py"):
        pytester.path.joinpath(name).write_text(saved[name], encoding="utf-8")
    assert len(saved["test_bench.py"].splitlines()) <= 20
    assert saved["bench.toml"].count("[instrument.") == 3
    pytester.runpytest("-o", "trio_mode=true", "test_bench.py").assert_outcomes(passed=20)


def test_needs_async(pytester: pytest.Pytester) -> None:
    """A test that is not async is told that it must be."""
    pytester.makepyfile("def test_it(bench):\n    pass\n")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is async*"])


@pytest.mark.parametrize("asks", ["def test_it(psu)", "def test_it()"], ids=["fixture", "mark"])
def test_asks_for_the_bench_itself(pytester: pytest.Pytester, asks: str) -> None:
    """A test that gets the bench through something else is told to ask for it."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def psu(bench):
            return bench

        @pytest.mark.usefixtures("bench")
        async {asks}:
            pass
        """
    )
    result = pytester.runpytest("-o", "trio_mode=true")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the test asks for it itself*"])
    assert "KeyError" not in result.stdout.str()


def test_fixture_of_another_event_loop(pytester: pytest.Pytester) -> None:
    """An async fixture, which pytest-trio runs with its own tests alone, is told by name."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        async def warm():
            return 42

        @pytest.mark.trio
        async def test_it(bench, warm):
            pass
        """
    )
    result = pytester.runpytest("-o", "trio_mode=true")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the fixture 'warm' runs in an event loop of pytest-trio*"])


@pytest.mark.parametrize("wrong", ["", "'3'", "0"], ids=["none", "text", "zero"])
def test_seeds_are_a_number(pytester: pytest.Pytester, wrong: str) -> None:
    """A wrong number of seeds is told in one line, and never an empty test."""
    pytester.makepyfile(
        f"import pytest\n\n@pytest.mark.seeds({wrong})\nasync def test_it(bench):\n    pass\n"
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a whole number above 0*"])


@pytest.mark.parametrize(
    ("marker", "wrong"),
    [
        ("faults='hevy'", "*faults='hevy' is no level of faults*did you mean 'heavy'?"),
        ("fault='heavy'", "*bench knows no 'fault'; did you mean 'faults'?"),
        ("faults='absent.toml'", "*absent.toml does not exist*"),
        ("faults=3", "*faults=3 must be one of none, light, heavy, a FaultPlan*"),
        ("limit_s='1'", "*limit_s='1' must be a number above 0*"),
        ("3", "*bench takes a file's name, a dict of tables or a TreeSpec, not 3"),
        ("{}, 'heavy'", "*bench takes one tree*faults='heavy'"),
    ],
)
def test_wrong_marker(pytester: pytest.Pytester, marker: str, wrong: str) -> None:
    """A wrong marker is told once, in one line that says what would be right."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.seeds(20)
        @pytest.mark.bench({marker})
        async def test_it(bench):
            pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([wrong])
    assert "Traceback" not in result.stdout.str()


def test_wrong_plan_in_marker(pytester: pytest.Pytester) -> None:
    """A damaged plan is told with its file and line, and nothing else."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bench("bench.toml", faults="plan.toml")
        async def test_it(bench):
            pass
        """
    )
    pytester.path.joinpath("bench.toml").write_text(ONE)
    pytester.path.joinpath("plan.toml").write_text('[[fault]]\nat_s = 1\nkind = "unplug"\n')
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*plan.toml:1: fault[[]0].target: unplug names a bus as its target; it is missing*"]
    )
    for noise in ("Error", "exception occurred", "hidden"):
        assert noise not in result.stdout.str()


def test_markers_are_known(pytester: pytest.Pytester) -> None:
    """The markers are declared, so that strict projects can use them."""
    result = pytester.runpytest("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.bench(*", "@pytest.mark.seeds(*"])


def test_bench_from_a_file(pytester: pytest.Pytester) -> None:
    """A name is that of a file beside the test; its mistakes are the test's."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bench("bench.toml", faults="light", faults_for_s=60)
        async def test_it(bench):
            assert [each.name for each in bench.tree.instruments] == ["psu"]

        @pytest.mark.bench("wrong.toml")
        async def test_wrong(bench):
            pass
        """
    )
    pytester.path.joinpath("bench.toml").write_text(ONE)
    pytester.path.joinpath("wrong.toml").write_text("[bus.supply]\nadress = 1\n")
    result = pytester.runpytest("-o", "trio_mode=true")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*wrong.toml:2: bus.supply.adress*"])


def test_imports_lazily(pytester: pytest.Pytester) -> None:
    """A run without a simulated bench imports no simulation."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            for name in ("benchtree.faultplan", "benchtree.tree", "actors", "trio", "numpy"):
                assert name not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
