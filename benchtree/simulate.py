"""Whole benches under a virtual clock, a seeded scheduler and a seeded fault plan.

Rules:
1. The same seed gives the same trace.
2. No thread, process or timer descriptor: what needs time takes simulated time.
3. A fault happens at its instant, whatever the bench does meanwhile.
4. Violated invariants are collected; what `main` raises comes out.
"""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
import types
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeGuard, TypeVar, cast

import trio
from attrs import define, evolve, field, frozen

from actors import Chain, CommandMoved, CommandState, Event, Instrument, Parameter, first_seal
from recorder import AcquisitionSummary, Counts, Journal, SampleSink, keep_journal
from transports import (
    BoardModel,
    DeviceModel,
    LineState,
    MultiplexedSim,
    SharedLineModel,
    SimLine,
    TimedStream,
    install_clock,
)

from .config import load_config, simulation_problem
from .faultplan import OF_JOURNAL, OF_SINKS, FaultKind, FaultPlan, PlannedFault
from .invariants import NOTHING_LEFT, PLANNED_CRASH, SIMULATED, Invariants, Violation
from .opening import open_tree
from .repeatable import SimulationError, repeatable
from .spec import BusSpec, InstrumentSpec, TreeSpec
from .stage import (
    FaultyDisk,
    FaultySink,
    FragileBoard,
    FragileStream,
    SlowableClock,
    WitnessedLine,
)
from .tree import Tree

D = TypeVar("D", bound=Instrument)
M = TypeVar("M", bound=DeviceModel)

TRACE_KEPT: Final = 40
"""How many lines of the trace a report shows."""

STANDSTILL: Final = 20_000
"""How much may happen in one instant; a bench that does more would do it for ever."""

VIOLATIONS_SHOWN: Final = 10
"""How many violations are told beside what `main` raises."""

HASHED_TOGETHER: Final = 512
"""How many lines of the trace are hashed in one go."""

LOOK_S: Final = 5.0
"""How often commands that wait are looked at, in simulated seconds."""

_STATES: Final = {each: each.name for each in CommandState}


@frozen(kw_only=True)
class Report:
    """What one simulation did.

    Attributes:
        seed: Its seed.
        trace_hash: The same for the same seed, plan and program.
        simulated_s: How long it lasted in simulated time.
        real_s: How long that took.
        faults: Faults injected, by kind.
        accepted: Commands accepted.
        outcomes: Commands by how they ended.
        refused: Refusals by cause.
        restarts: How often children were started again.
        openings: How often breakers opened.
        samples: Samples of all recordings together.
        checked: How often each invariant was looked at.
        violations: The invariants that did not hold.
        last: The last lines of the trace: those up to the first violation, if there is one.
    """

    seed: int
    trace_hash: str
    simulated_s: float
    real_s: float
    faults: Mapping[str, int]
    accepted: int
    outcomes: Mapping[str, int]
    refused: Mapping[str, int]
    restarts: int
    openings: int
    samples: Counts
    checked: Mapping[str, int]
    violations: Sequence[Violation]
    last: Sequence[str]

    @property
    def hours_per_s(self) -> float:
        """How many hours were simulated in each second."""
        return self.simulated_s / 3600 / self.real_s


class Bench:
    """A simulated bench: a tree whose lines, devices and faults are in your hands.

    Attributes:
        seed: What it depends on.
        random: Random numbers that depend on the seed.
        tree: The running tree.
        invariants: What is checked; `expect` adds checks of your own.
        summaries: The recordings' numbers that the report adds up; add yours.
        injected: How many faults of each kind have happened.
        clock: The clock of the simulation.
    """

    def __init__(self, seed: int, spec: TreeSpec, plan: FaultPlan, prompt_s: float) -> None:
        """Make a bench; `simulate` fills and runs it."""
        self.seed = seed
        self.random = random.Random(f"bench {seed}")  # noqa: S311 - repeatable, no secret
        self.tree: Tree
        self.invariants = Invariants(spec, prompt_s, self._hold)
        self.summaries: list[AcquisitionSummary] = []
        self.injected: Counter[str] = Counter()
        self.clock = SlowableClock()
        self._spec = spec
        self._plan = plan
        self._trace = _Trace()
        # The last lines of the trace when something went wrong for the first time.
        self._held: Sequence[str] = ()
        self._lines: dict[str, WitnessedLine] = {}
        self._nursery: trio.Nursery
        self._connections = 0
        self._boards: list[FragileBoard] = []
        # When the last fault is over that is planned so far.
        self._over_s = 0.0
        # Planned crashes of tasks of yours that have not happened yet, by "actor.NAME".
        self._doom: dict[str, _Doom] = {f"actor.{each.name}": _Doom() for each in spec.actors}
        self._sinks: dict[str, list[FaultySink]] = {}
        # How long the next callers of each bus's instruments may wait, in seconds.
        self._cancelling: defaultdict[str, deque[float]] = defaultdict(deque)
        self._disk = FaultyDisk(
            self.invariants, self.clock, Chain(first_seal(spec.name, SIMULATED))
        )

    def __repr__(self) -> str:
        """Return the seed and the tree."""
        return f"<Bench seed={self.seed} {self._spec.name}>"

    @property
    def lines(self) -> Mapping[str, WitnessedLine]:
        """The simulated lines by bus name."""
        return self._lines

    def get(self, name: str, driver: type[D]) -> D:
        """Return an instrument by name, as the driver it is; see `Tree.get`."""
        return self.tree.get(name, driver)

    def device(self, name: str, model: type[M]) -> M:
        """Return the device model that an instrument talks to.

        Raises:
            TypeError: It is another model.
        """
        instrument = self.tree[name]
        found = self._lines[instrument.bus.name].model
        if isinstance(found, BoardModel | SharedLineModel):
            found = found.devices.get(instrument.unit or "", found)
        if not isinstance(found, model):
            raise TypeError(f"{name} talks to a {type(found).__name__}, not a {model.__name__}")
        return found

    def unplug(self, bus: str, *, at_s: float = 0.0, for_s: float) -> None:
        """Unplug a bus `at_s` seconds from now, and plug it in again `for_s` seconds later."""
        self.inject(PlannedFault(at_s=at_s, kind=FaultKind.UNPLUG, target=bus, for_s=for_s))

    def inject(self, fault: PlannedFault) -> None:
        """Let a fault happen, its `at_s` counted from now.

        Raises:
            SimulationError: It names no bus, unit, task or recording of this bench.
        """
        at_s = trio.current_time() + fault.at_s
        self._begin(fault, at_s)
        self._over_s = max(self._over_s, at_s + fault.for_s)

    def _begin(self, fault: PlannedFault, at_s: float) -> None:
        self._check(fault)
        self._nursery.start_soon(self._happen, fault, at_s)

    async def calm(self) -> None:
        """Wait until all faults are over, and forget those that nothing has met."""
        await trio.sleep_until(self._over_s)
        self._cancelling.clear()
        for line in self._lines.values():
            line.calm()

    def caller(self, instrument: str) -> AbstractContextManager[object]:
        """Be a caller of an instrument, whom a planned fault may cancel within the block."""
        planned = self._cancelling.get(self.tree[instrument].bus.name)
        return trio.move_on_after(planned.popleft()) if planned else nullcontext()

    def sink(self, recording: str, sink: SampleSink) -> FaultySink:
        """Return `sink` behind the sink faults that name `recording`."""
        faulty = FaultySink(sink, self.clock)
        self._sinks.setdefault(recording, []).append(faulty)
        return faulty

    def forget_sinks(self, recording: str) -> None:
        """Let later sink faults find no sink of `recording` that was made before."""
        self._sinks.pop(recording, None)

    # The stage: what the tree asks for simulated buses.

    def driver(self, driver: type[D]) -> type[D]:
        """Return a driver that makes itself known, and crashes when a plan says so."""
        return _fragile(driver, self)

    def line(self, bus: str, model: DeviceModel) -> SimLine:
        """Return the line that stands in for a bus."""
        line = self._lines[bus] = WitnessedLine(model, partial(self._witness, bus))
        return line

    def wrap(self, bus: str, stream: TimedStream) -> TimedStream:
        """Return a connection over which planned crashes happen."""
        self._connections += 1
        return FragileStream(stream, self._lines[bus], self._count_closed)

    def board(self, bus: str, key: str, units: Sequence[str]) -> MultiplexedSim:
        """Return the transport of a bus whose units are asked at once."""
        board = FragileBoard(key, self._lines[bus], units)
        self._boards.append(board)
        return board

    # Inside a run.

    def observe(self, event: Event) -> None:
        """Trace and check one event."""
        if type(event) is CommandMoved:  # the most frequent one, without the cost of its repr
            cause = "" if event.cause is None else f" {event.cause.value}"
            reply = f" {event.reply!r}" if event.reply else ""
            state = _STATES[event.state]
            text = f"#{event.seq} {event.instrument}.{event.command} {state}{cause}{reply}"
        else:
            text = repr(event)
        self._trace.add(event.mono_ns, text)
        self.invariants.observe(event)

    def _count_closed(self) -> None:
        self._connections -= 1

    def _witness(self, bus: str, asked: bytes, at_s: float, answers: Sequence[bytes]) -> None:
        at_ns = round(at_s * 1e9)
        self._trace.add(at_ns, f"{bus} < {asked!r}")
        self.invariants.see(bus, asked, at_ns, answers)

    def _check(self, fault: PlannedFault) -> None:
        if fault.target in self._sinks and fault.kind in OF_SINKS:
            return
        if fault.misfit(self._spec) is None:
            return
        misfit = fault.misfit(self._spec_now())
        if misfit is not None:
            raise SimulationError(f"the fault {fault.kind.value!r}: {misfit[1]}")

    def _spec_now(self) -> TreeSpec:
        """Return what the tree was made from, and what was added to it since."""
        spec = self._spec
        buses = {each.name for each in spec.buses}
        instruments = {each.name for each in spec.instruments}
        return evolve(
            spec,
            buses=[
                *spec.buses,
                *(BusSpec(name=name, address="") for name in self._lines if name not in buses),
            ],
            instruments=[
                *spec.instruments,
                *(
                    InstrumentSpec(
                        name=each.name, bus=each.bus.name, driver=type(each), unit_id=each.unit
                    )
                    for each in self.tree.instruments
                    if each.name not in instruments
                ),
            ],
        )

    async def _happen(self, fault: PlannedFault, at_s: float) -> None:
        await trio.sleep_until(at_s)
        self.injected[fault.kind.value] += 1
        self._trace.add(round(at_s * 1e9), repr(fault))
        if fault.kind is FaultKind.CLOCK_STEP:
            self.clock.utc_offset_ns += round(fault.by_s * 1e9)
        elif fault.kind in OF_JOURNAL:
            await self._disk.suffer(fault)
        elif fault.kind in OF_SINKS:
            async with trio.open_nursery() as nursery:
                for sink in self._sinks.get(fault.target, ()):
                    nursery.start_soon(sink.suffer, fault)
        elif fault.kind is FaultKind.LEASE_LOST:
            for instrument in self.tree.instruments:
                if instrument.bus.name == fault.target:
                    self.tree.revoke_lease(instrument.name, "a planned loss")
        elif fault.kind is FaultKind.CANCELLED:
            self._cancelling[fault.target].extend([fault.by_s] * fault.count)
        elif fault.target in self._doom:
            self._doom[fault.target].strike(fault.count)
        else:
            await self._lines[fault.target].suffer(fault)

    async def live(
        self, spec: TreeSpec, main: Callable[[Bench], Awaitable[object]], limit_s: float
    ) -> float:
        """Run `main` on the bench and return how long it took, in simulated seconds."""
        install_clock(self.clock)
        # A signal would wake a task of Trio's, and that the others in another order.
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        began_s = trio.current_time()
        before = trio.lowlevel.current_statistics().tasks_living
        invariants = self.invariants
        failure: BaseException | None = None
        journal: Journal | None = None
        with trio.move_on_after(limit_s) as limit:
            async with (
                keep_journal(Journal(self._disk, tree=spec.name)) as journal,
                open_tree(
                    self._staged(spec),
                    sim=True,
                    stage=self,
                    observer=self.observe,
                    journal=journal,
                ) as tree,
                trio.open_nursery() as nursery,
            ):
                self.tree = tree
                self._nursery = nursery
                planned_s = trio.current_time()
                self._over_s = planned_s + self._plan.ends_s
                try:
                    for fault in self._plan.faults:
                        self._begin(fault, planned_s + fault.at_s)
                    nursery.start_soon(_watch_promptness, invariants)
                    await main(self)
                except trio.Cancelled:
                    self._hold()
                    raise
                except BaseException as error:  # noqa: BLE001 - raised again below, ungrouped
                    self._hold()
                    failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if limit.cancelled_caught:
            raise SimulationError(f"seed {self.seed}: not done after {limit_s:g} simulated seconds")
        now_s = trio.current_time()
        invariants.finish(now_s)
        if journal is not None and not journal.waiting:
            invariants.finish_journal(now_s)
        left = trio.lowlevel.current_statistics().tasks_living - before
        invariants.expect(left == 0, now_s, NOTHING_LEFT, f"{left} tasks go on")
        boards = sum(each.state is not LineState.CLOSED for each in self._boards)
        connections = self._connections + boards
        invariants.expect(
            connections == 0, now_s, NOTHING_LEFT, f"{connections} connections are open"
        )
        return now_s - began_s

    @property
    def last(self) -> Sequence[str]:
        """The last lines of the trace, or those that led to what went wrong first."""
        return self._held or self._trace.last

    def _hold(self) -> None:
        """Keep the last lines of the trace, which the stop of the tree would push out."""
        if not self._held:
            self._held = self._trace.last

    def report(self, simulated_s: float, real_s: float) -> Report:
        """Return what was done."""
        seen = self.invariants
        return Report(
            seed=self.seed,
            trace_hash=self._trace.digest(),
            simulated_s=simulated_s,
            real_s=real_s,
            faults=dict(self.injected),
            accepted=seen.accepted,
            outcomes=dict(seen.outcomes),
            refused=dict(seen.refused),
            restarts=seen.restarts,
            openings=seen.openings,
            samples=sum((each.total() for each in self.summaries), Counts()),
            checked=dict(seen.checked),
            violations=tuple(seen.violations),
            last=tuple(self.last),
        )

    def _staged(self, spec: TreeSpec) -> TreeSpec:
        """Return `spec` with tasks that crash when a plan says so."""
        return evolve(
            spec,
            actors=[
                evolve(each, start=partial(self._doom[f"actor.{each.name}"].run, each.start))
                for each in spec.actors
            ],
        )

    def crash_if_due(self, instrument: Instrument) -> None:
        """Fail if the plan says that decoding does."""
        line = self._lines.get(instrument.bus.name)
        if line is not None and line.crash_decoding:
            line.crash_decoding -= 1
            raise RuntimeError(PLANNED_CRASH)


def simulate(
    seed: int,
    main: Callable[[Bench], Awaitable[object]],
    *,
    bench: TreeSpec | str | Path | None = None,
    faults: FaultPlan | None = None,
    limit_s: float = 86_400.0,
    prompt_s: float = 120.0,
) -> Report:
    """Run `main` on a simulated bench and report what happened.

    Time is virtual, no thread or process can be started, and everything that is random
    depends on `seed`. What `main` raises comes out; violated invariants are in the report.

    Args:
        seed: Any integer; the same one gives the same trace.
        main: An async function of the running bench.
        bench: The tree: a configuration file or a specification.
        faults: What goes wrong, counted from the start.
        limit_s: The most simulated time that `main` may take, in seconds.
        prompt_s: How long an accepted command may go without an outcome, in seconds.

    Raises:
        ConfigError: The bench has mistakes.
        SimulationError: A bus cannot be simulated, a fault names nothing, or `main` took
            longer than `limit_s`, or the bench does something for ever in one instant. (A task
            that waits for nothing, and only lets others run, keeps virtual time from moving.)
    """
    spec = _spec_of(bench)
    check_buses(spec)
    stage = Bench(seed, spec, faults or FaultPlan(), prompt_s)
    began_s = time.perf_counter()
    try:
        with repeatable(seed):
            simulated_s = trio.run(stage.live, spec, main, limit_s, clock=stage.clock.time)
    except BaseException as error:
        told = f"seed {seed}, the last of its trace:\n" + "\n".join(stage.last)
        if _stood_still(error):
            raise SimulationError(f"time stands still; {told}") from None
        for each in stage.invariants.violations[:VIOLATIONS_SHOWN]:
            error.add_note(f"violated: {each}")
        error.add_note(told)
        raise
    return stage.report(simulated_s, time.perf_counter() - began_s)


def check_buses(spec: TreeSpec) -> None:
    """Check that every bus of a tree can be simulated.

    Raises:
        AddressError: An address cannot be understood.
        SimulationError: One needs a real process, or has instruments without a device model.
    """
    for bus in spec.buses:
        if bus.address.startswith("redpitaya:"):
            raise SimulationError(
                f"{bus.name}: {bus.address} needs a real process, which virtual time cannot "
                "wait for; use redpitaya://sim in real time instead"
            )
        problem = simulation_problem(spec, bus)
        if problem is not None:
            raise SimulationError(f"{bus.name}: {problem}")


def _stood_still(error: BaseException) -> bool:
    if _is_group(error):
        return any(_stood_still(each) for each in error.exceptions)
    return isinstance(error, _StandstillError)


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)


async def _watch_promptness(invariants: Invariants) -> None:
    while True:
        await trio.sleep(LOOK_S)
        invariants.check_promptness(trio.current_time())


def _spec_of(bench: TreeSpec | str | Path | None) -> TreeSpec:
    match bench:
        case None:
            return TreeSpec()
        case TreeSpec():
            return bench
        case _:
            return load_config(Path(bench)).tree


def _fragile(driver: type[D], bench: Bench) -> type[D]:
    """Return a driver that makes itself known and crashes as it decodes when a plan says so."""

    def start(self: D, *args: Any, **kwargs: Any) -> None:
        driver.__init__(self, *args, **kwargs)
        bench.invariants.learn(self)

    def decode(self: D, parameter: Parameter[Any], raw: bytes) -> object:
        bench.crash_if_due(self)
        return driver.decode(self, parameter, raw)

    def decode_written(self: D, directive: Any, raw: bytes) -> None:
        bench.crash_if_due(self)
        driver.decode_written(self, directive, raw)

    made = types.new_class(
        driver.__name__,
        (driver,),
        exec_body=lambda names: names.update(
            __module__=driver.__module__,
            __qualname__=driver.__qualname__,
            __init__=start,
            decode=decode,
            decode_written=decode_written,
        ),
    )
    return cast("type[D]", made)


@define(eq=False)
class _Doom:
    """The planned crashes of one task of yours."""

    left: int = 0
    struck: trio.Event = field(factory=trio.Event)

    def strike(self, count: int) -> None:
        self.left += count
        self.struck.set()

    async def run(self, start: Callable[[Tree], Awaitable[None]], tree: Tree) -> None:
        """Run the task until it ends or is struck."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._crash)
            await start(tree)
            nursery.cancel_scope.cancel()

    async def _crash(self) -> None:
        while not self.left:
            self.struck = trio.Event()
            await self.struck.wait()
        self.left -= 1
        raise RuntimeError(PLANNED_CRASH)


class _StandstillError(BaseException):
    """Too much happened without time passing. No code of the bench may catch it."""


class _Trace:
    """Everything that was seen, as a hash and its last lines."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        # What is not in the hash yet: each line begins with its instant in ns.
        self._lines: list[str] = []
        self._instant_ns = 0
        self._at_once = 0
        self._last: deque[str] = deque(maxlen=TRACE_KEPT)

    @property
    def last(self) -> Sequence[str]:
        last = deque([*self._last, *self._lines], maxlen=TRACE_KEPT)
        parted = [line.partition(" ") for line in last]
        return [f"{int(at_ns) / 1e9:.6f} {text}" for at_ns, _, text in parted]

    def add(self, at_ns: int, text: str) -> None:
        lines = self._lines
        lines.append(f"{at_ns} {text}")
        if len(lines) >= HASHED_TOGETHER:
            self._flush()
        if at_ns != self._instant_ns:
            self._instant_ns = at_ns
            self._at_once = 1
            return
        self._at_once += 1
        if self._at_once >= STANDSTILL:
            self._at_once = 0
            raise _StandstillError

    def _flush(self) -> None:
        lines = self._lines
        self._last.extend(lines[-TRACE_KEPT:])
        lines.append("")
        self._hash.update("\n".join(lines).encode())
        lines.clear()

    def digest(self) -> str:
        self._flush()
        return self._hash.hexdigest()[:16]
