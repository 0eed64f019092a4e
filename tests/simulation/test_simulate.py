"""`simulate`: repeatable, virtual, without threads and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve

from actors import Cause, CommandError, Identity, RefusedError, Script
from actors.instruments.scpi import PowerSupply, PowerSupplyModel
from benchtree import ScpiInstrument
from benchtree.exercise import Exercise
from benchtree.faultplan import FaultKind, FaultPlan, PlannedFault
from benchtree.invariants import IDENTITY_FIRST, NOTHING_LEFT, SAFE_AT_END
from benchtree.repeatable import SimulationError
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from transports import current_clock, make_timer

from .bench import SPEC, run_harsh
from .conftest import SEEDS

ROOT = Path(__file__).parents[2]

ONE = TreeSpec(
    buses=[BusSpec(name="supply", address="tcp://192.0.2.17:5025")],
    instruments=[InstrumentSpec(name="psu", bus="supply", driver=PowerSupply)],
)

PRINT_HASH = "from tests.simulation.bench import run_harsh; print(run_harsh(3).trace_hash)"


def print_hash(python: str, **environment: str) -> str:
    """Return the trace hash of one seed as another process finds it."""
    return subprocess.run(
        [python, "-c", PRINT_HASH],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_same_seed_same_trace_in_two_processes() -> None:
    """The order of sets and dicts of objects leaves no trace: hash seeds do not matter."""
    one = print_hash(sys.executable, PYTHONHASHSEED="1")
    other = print_hash(sys.executable, PYTHONHASHSEED="2")
    assert one == other == run_harsh(3).trace_hash
    assert run_harsh(4).trace_hash != one


def other_pythons() -> list[str]:
    """Return the other supported interpreters that are on this machine."""
    found: list[str] = []
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
    for minor in (11, 12, 13):
        name = f"python3.{minor}"
        if sys.version_info[:2] == (3, minor):
            continue
        here = [folder / name for folder in folders if (folder / name).is_file()]
        # What pyenv puts on the path may stand for a version that is not chosen.
        found += [str(each) for each in here if "shims" not in each.parts][:1]
    return found


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_same_trace_on_every_python(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each Python that is here finds the same trace."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = run_harsh(3).trace_hash
    versions = [f"{sys.version_info.major}.{sys.version_info.minor}"]
    for python in other_pythons():
        environment = tmp_path / Path(python).name
        subprocess.run([python, "-m", "venv", str(environment)], check=True)
        inside = str(environment / "bin" / "python")
        # The checkout itself is found through PYTHONPATH.
        install = [inside, "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt"]
        subprocess.run([*install, *project["dependencies"]], cwd=ROOT, check=True)
        assert print_hash(inside) == expected, python
        versions.append(Path(python).name.removeprefix("python"))
    record_property(SEEDS, f"the same trace {expected} on Python {', '.join(versions)}")


async def shuffle(seen: list[int]) -> None:
    """Note in which order ten tasks run that all can."""

    async def note(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(note, number)


def orders(seeds: list[int]) -> list[tuple[int, ...]]:
    """Return the order that each seed gives."""
    found: list[tuple[int, ...]] = []
    for seed in seeds:
        seen: list[int] = []

        async def main(bench: Bench, seen: list[int] = seen) -> None:
            del bench
            await shuffle(seen)

        simulate(seed, main)
        found.append(tuple(seen))
    return found


def test_canary() -> None:
    """Trio still has the private names that make it repeatable, and they still work.

    When this fails, a release of Trio has changed how it shuffles tasks or keeps threads:
    mend `benchtree/repeatable.py` before anything else.
    """
    scheduler = vars(import_module("trio._core._run"))
    assert isinstance(scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"], bool)
    assert hasattr(scheduler["_r"], "seed")
    threads = vars(import_module("trio._core._thread_cache"))
    assert isinstance(threads["THREAD_CACHE"], threads["ThreadCache"])
    assert orders([1, 1, 2, 2, 1]) == [orders([1])[0]] * 2 + [orders([2])[0]] * 2 + orders([1])
    assert len(set(orders(list(range(20))))) > 15


def test_leaves_chance_alone() -> None:
    """After a simulation Trio shuffles as it did before."""
    scheduler = vars(import_module("trio._core._run"))
    before = scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"], scheduler["_r"].getstate()
    orders([1])
    assert (scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"], scheduler["_r"].getstate()) == before


async def in_thread(bench: Bench) -> None:
    """Hop to a thread as Trio does."""
    del bench
    await trio.to_thread.run_sync(lambda: None)


async def in_own_thread(bench: Bench) -> None:
    """Start a thread."""
    del bench
    threading.Thread(target=lambda: None).start()


async def in_process(bench: Bench) -> None:
    """Start a process."""
    del bench
    await trio.run_process([sys.executable, "-c", ""])


@pytest.mark.parametrize("main", [in_thread, in_own_thread, in_process])
def test_no_thread_and_no_process(main: Callable[[Bench], Awaitable[object]]) -> None:
    """Whatever would run beside virtual time is refused where it is tried."""
    trio.run(trio.to_thread.run_sync, lambda: None)  # one that is idle must not be used either
    before = threading.active_count()
    with pytest.raises(SimulationError, match="no thread or process keeps virtual time"):
        simulate(0, main)
    assert threading.active_count() == before


def test_heavy_run_starts_no_thread() -> None:
    """A whole bench with sinks and faults needs none."""
    before = threading.active_count()
    assert not run_harsh(0).violations
    assert threading.active_count() == before


def test_time_is_virtual() -> None:
    """Clocks, timers and blocking calls follow the simulation."""

    async def main(bench: Bench) -> None:
        assert current_clock() is bench.clock
        began_s = trio.current_time()
        with make_timer() as timer:
            await timer.wait_until(began_s + 3600.0)
        assert trio.current_time() == began_s + 3600.0
        assert await current_clock().run_sync(threading.get_ident) == threading.get_ident()

    report = simulate(0, main)
    assert report.simulated_s == pytest.approx(3600.0)
    assert report.real_s < 5.0


def test_limit() -> None:
    """A simulation that is not done in time is an error, after an orderly stop."""

    async def main(bench: Bench) -> None:
        del bench
        await trio.sleep(100.0)

    with pytest.raises(SimulationError, match="not done after 50 simulated seconds"):
        simulate(0, main, limit_s=50.0)


def test_what_main_raises_comes_out() -> None:
    """An error of the test is not wrapped, and tells the last of the trace and violations."""

    async def main(bench: Bench) -> None:
        await bench.get("psu", PowerSupply).voltage.get()
        bench.invariants.expect(False, 1.0, "mine", "it is wrong")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as raised:
        simulate(5, main, bench=ONE)
    assert any("seed 5" in note and "psu.voltage" in note for note in raised.value.__notes__)
    assert "violated: 1.000000 s: mine: it is wrong" in raised.value.__notes__


def test_trace_ends_where_it_failed() -> None:
    """What is shown of the trace led to the failure: the stop of a large tree is longer."""

    async def main(bench: Bench) -> None:
        await bench.get("psu", PowerSupply).current.get()
        raise LookupError("mine")

    with pytest.raises(LookupError) as raised:
        simulate(0, main, bench=SPEC)
    (told,) = [note for note in raised.value.__notes__ if "the last of its trace" in note]
    assert "psu.current COMPLETED" in told
    assert "the end of the program" not in told


def test_trace_ends_with_the_first_violation() -> None:
    """What is shown of the trace led to what was violated first, whatever happened later."""

    async def main(bench: Bench) -> None:
        psu = bench.get("psu", PowerSupply)
        await psu.current.get()
        bench.invariants.expect(False, trio.current_time(), "mine", "wrong")
        await trio.sleep(600.0)
        bench.invariants.expect(False, trio.current_time(), "mine", "wrong again")

    report = simulate(0, main, bench=SPEC)
    assert len(report.violations) == 2
    assert float(report.last[-1].split()[0]) <= report.violations[0].at_s
    assert any("psu.current COMPLETED" in each for each in report.last)


def test_calm_comes_after_every_fault() -> None:
    """A fault that was injected while the bench ran is waited for as a planned one is."""
    plan = FaultPlan((PlannedFault(at_s=1.0, kind=FaultKind.UNPLUG, target="supply", for_s=3.0),))

    async def main(bench: Bench) -> None:
        await bench.calm()
        assert trio.current_time() == pytest.approx(4.0, abs=0.1)
        bench.unplug("supply", at_s=5.0, for_s=20.0)
        await bench.calm()
        assert trio.current_time() == pytest.approx(29.0, abs=0.1)
        bench.unplug("supply", for_s=500.0)
        await Exercise(bench, 10.0).run()

    assert not simulate(0, main, bench=ONE, faults=plan).violations


def test_added_instruments_are_watched() -> None:
    """What is added to a running bench meets faults, and invariants, as what was there before."""

    async def main(bench: Bench) -> None:
        psu = await bench.tree.add("psu", PowerSupply, "tcp://192.0.2.17:5025")
        assert await psu.voltage.get() == 0.0
        bench.inject(PlannedFault(at_s=0.0, kind=FaultKind.CRASH_DECODING, target="psu"))
        await trio.sleep(1.0)
        with pytest.raises(CommandError) as crashed:
            await psu.voltage.get()
        assert crashed.value.cause is Cause.CRASHED
        await trio.sleep(5.0)
        bench.unplug("psu", for_s=5.0)
        await trio.sleep(1.0)
        with pytest.raises(RefusedError):
            await psu.voltage.get()
        with pytest.raises(SimulationError, match="no bus is named 'pzu'; did you mean 'psu'"):
            bench.unplug("pzu", for_s=5.0)
        await trio.sleep(20.0)
        await bench.tree.remove("psu")
        await bench.tree.add("psu", PowerSupply, "tcp://192.0.2.17:5025")
        await bench.get("psu", PowerSupply).voltage.get()

    report = simulate(0, main)
    assert not report.violations
    assert report.checked[SAFE_AT_END] == 1
    assert report.checked[IDENTITY_FIRST] > 0


def test_standstill_is_reported() -> None:
    """Something that goes on for ever without time passing is an error, not a hang."""

    async def main(bench: Bench) -> None:
        while True:
            bench.inject(PlannedFault(at_s=0.0, kind=FaultKind.RESET, target="supply"))
            await trio.lowlevel.checkpoint()

    with pytest.raises(SimulationError, match="time stands still"):
        simulate(0, main, bench=ONE)


def test_simulations_do_not_nest() -> None:
    """A simulation inside another one is refused."""

    async def main(bench: Bench) -> None:
        del bench
        simulate(1, main)

    with pytest.raises(SimulationError, match="inside another one"):
        simulate(0, main)


def test_planned_cancellation() -> None:
    """The planned number of callers is cancelled, each after the planned patience."""
    plan = FaultPlan(
        (PlannedFault(at_s=1.0, kind=FaultKind.CANCELLED, target="supply", by_s=0.001, count=2),)
    )
    answered: list[int] = []

    async def main(bench: Bench) -> None:
        psu = bench.get("psu", PowerSupply)
        await trio.sleep(2.0)
        for number in range(4):
            began_s = trio.current_time()
            with bench.caller("psu"):
                await psu.voltage.get()
                answered.append(number)
            if number not in answered:
                assert trio.current_time() == pytest.approx(began_s + 0.001)
            await trio.sleep(1.0)

    report = simulate(0, main, bench=ONE, faults=FaultPlan.from_toml(plan.to_toml(), tree=ONE))
    assert not report.violations
    assert answered == [2, 3]
    assert report.faults == {"cancelled": 1}


def test_signals_leave_no_trace() -> None:
    """A signal that comes meanwhile, as of a resized window, changes nothing.

    It woke Trio's own task that signals wake, which was shuffled with the others: the
    same seed gave another trace.
    """
    expected = run_harsh(3).trace_hash

    def nothing(*_: object) -> None: ...

    before = signal.signal(signal.SIGALRM, nothing)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        assert run_harsh(3).trace_hash == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_red_pitaya_is_refused() -> None:
    """A bus that needs a real process is refused, with what to use instead."""
    spec = evolve(ONE, buses=[BusSpec(name="board", address="redpitaya://192.0.2.9")])

    async def main(bench: Bench) -> None:
        del bench

    with pytest.raises(SimulationError, match="redpitaya://sim in real time instead"):
        simulate(0, main, bench=spec)


class Speechless(PowerSupply):
    """A supply whose protocol has no question for who it is."""

    def identify(self) -> Script[Identity]:
        """Ask nothing."""
        yield from ()
        return Identity()


class Modelless(ScpiInstrument):
    """An instrument that nobody has made a model of."""


def test_instrument_that_cannot_be_identified() -> None:
    """A protocol without an identity can be simulated: the instrument stays unverified."""

    async def main(bench: Bench) -> None:
        await bench.get("psu", Speechless).voltage.set(2.0)
        bench.unplug("supply", for_s=5.0)
        await trio.sleep(30.0)
        assert await bench.get("psu", Speechless).voltage.get() == 2.0

    spec = evolve(ONE, instruments=[evolve(ONE.instruments[0], driver=Speechless)])
    assert not simulate(0, main, bench=spec).violations


def test_instrument_without_a_model_is_refused() -> None:
    """A bus that nothing can stand for is refused with its name."""

    async def main(bench: Bench) -> None:
        del bench

    spec = evolve(ONE, instruments=[evolve(ONE.instruments[0], driver=Modelless)])
    with pytest.raises(SimulationError, match="supply: Modelless has no device model"):
        simulate(0, main, bench=spec)


def test_unknown_target_is_refused() -> None:
    """A fault that names nothing is refused with what there is."""

    async def main(bench: Bench) -> None:
        bench.unplug("suply", for_s=1.0)

    plan = FaultPlan((PlannedFault(at_s=0.0, kind=FaultKind.UNPLUG, target="supplie", for_s=1.0),))
    with pytest.raises(SimulationError, match="no bus is named 'supplie'; did you mean"):
        simulate(0, main, bench=ONE, faults=plan)
    with pytest.raises(SimulationError, match="no bus is named 'suply'; did you mean"):
        simulate(0, main, bench=ONE)


def test_overlapping_outages_end_with_the_last() -> None:
    """Two planned outages that overlap leave the line unplugged until both are over."""

    async def main(bench: Bench) -> None:
        bench.unplug("supply", for_s=10.0)
        bench.unplug("supply", at_s=5.0, for_s=10.0)
        await trio.sleep(12.0)
        assert not bench.lines["supply"].plugged
        await trio.sleep(4.0)
        assert bench.lines["supply"].plugged

    assert not simulate(0, main, bench=ONE).violations


@pytest.mark.parametrize(
    "kind", [FaultKind.CRASH, FaultKind.CRASH_WAITING, FaultKind.CRASH_DECODING]
)
def test_crash_resolves_what_is_in_flight(kind: FaultKind) -> None:
    """Wherever the actor crashes, the command in flight fails at once, and the next works."""

    async def main(bench: Bench) -> None:
        psu = bench.get("psu", PowerSupply)
        await psu.voltage.set(5.0)
        bench.inject(PlannedFault(at_s=0.0, kind=kind, target="supply"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CommandError) as crashed:
            await psu.voltage.get()
        assert crashed.value.cause is Cause.CRASHED
        assert crashed.value.may_have_executed
        await trio.sleep(1.0)
        assert await psu.voltage.get() == 5.0

    report = simulate(0, main, bench=ONE)
    assert not report.violations
    assert report.restarts == 1


def test_device_is_off_after_a_trip() -> None:
    """After a trip the supply itself is off, and stays so until it is rearmed."""

    async def main(bench: Bench) -> None:
        psu = bench.get("psu", PowerSupply)
        model = bench.device("psu", PowerSupplyModel)

        def is_on() -> bool:
            return model.output_on

        await psu.output.set(True, confirm=True)
        assert is_on()
        await bench.tree.trip("psu")
        assert not is_on()
        with pytest.raises(RefusedError):
            await psu.output.set(True, confirm=True)
        bench.unplug("supply", for_s=10.0)
        await trio.sleep(60.0)
        assert not is_on()
        bench.tree.rearm("psu")
        await psu.output.set(True, confirm=True)
        assert is_on()

    assert not simulate(0, main, bench=ONE).violations


def test_everything_is_safe_when_cancelled_from_outside() -> None:
    """A bench whose time is up is driven safe all the same."""
    models: list[PowerSupplyModel] = []

    async def main(bench: Bench) -> None:
        models.append(bench.device("psu", PowerSupplyModel))
        await bench.get("psu", PowerSupply).output.set(True, confirm=True)
        assert models[0].output_on
        await trio.sleep_forever()

    with pytest.raises(SimulationError, match="not done"):
        simulate(0, main, bench=ONE, limit_s=5.0)
    assert not models[0].output_on


def test_abrupt_end_leaves_nothing() -> None:
    """After the end no task and no connection is left, however much was going on."""
    report = run_harsh(1)
    assert report.checked[NOTHING_LEFT] == 2
    assert report.checked[SAFE_AT_END] > 0
    assert not report.violations


def test_plan_without_targets_is_for_the_wall_clock() -> None:
    """A step of the wall clock changes stamps and nothing else."""
    plan = FaultPlan((PlannedFault(at_s=1.0, kind=FaultKind.CLOCK_STEP, by_s=-3600.0),))

    async def main(bench: Bench) -> None:
        before_ns = bench.clock.utc_ns()
        await trio.sleep(2.0)
        assert bench.clock.utc_ns() == before_ns + 2_000_000_000 - 3_600_000_000_000

    assert simulate(0, main, faults=plan).faults == {"clock_step": 1}
