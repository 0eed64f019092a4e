"""Users at work on a simulated bench: seeded commands of every kind, and recordings."""

from __future__ import annotations

import csv
import itertools
import math
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import trio
from attrs import define, field

from actors import (
    Assignment,
    Cause,
    CommandError,
    Instrument,
    InstrumentStatus,
    LeaseLostError,
    OnReconnect,
    Priority,
    RefusedError,
    Sample,
    Service,
    Setting,
    Ticket,
)
from recorder import (
    AcquisitionSummary,
    BatchStream,
    BlockingSink,
    CsvSink,
    SinkError,
    SqliteSink,
    pipe,
    record,
)

from .invariants import WITHDRAWN
from .simulate import LOOK_S, Bench
from .spec import Kind, RecordingSpec, TreeSpec

PAUSE_S: Final = 2.0
"""How long a user thinks between two commands, on average, in seconds."""

TRIP_EVERY_S: Final = 60.0
"""How often somebody trips an instrument, on average, in seconds."""

LEASE_EVERY_S: Final = 30.0
"""How often each of two experimenters leases instruments, on average, in seconds."""

LEASED_S: Final = 10.0
"""How long they keep them, on average, in seconds."""

ATTEND_EVERY_S: Final = 20.0
"""How often somebody looks after what came back and waits to be rearmed, in seconds."""

REARM_TRIES: Final = 12
"""How often somebody tries to rearm an instrument that has not been driven safe."""

FLUSH_S: Final = 5.0
"""How long samples wait for others before they are written, in simulated seconds."""

SETTLE_S: Final = 120.0
"""How long probing everybody on a line may take once its breakers let it, in seconds."""

STEADY_S: Final = 30.0
"""How long everything has to be in service without a break to be back, in seconds."""

WATCHED: Final = 200
"""How many commands that were taken back are watched, to see that they are never sent."""

EXPECTED_SLOTS: Final = "expected = read + missing, one for each slot"
EMITTED: Final = "emitted is what was delivered"
KEPT: Final = "what a sink acknowledged is in it, and what it lost is named"
REFUSED_AT_ONCE: Final = "refusal at once while open"
SUBMITTED: Final = "submitted = refused + accepted"
ALIVE: Final = "everything is back after the faults"
LEFT_DOWN: Final = "what gave up is left down and safe"
TRIPPED: Final = "an emergency trips its instrument"
UNCUT: Final = "driving safe is not cut short by cancellation"
TOLD_ONCE: Final = "every ticket tells its outcome"

_PRIORITIES: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)

_SINKS: Final[Mapping[str, Callable[[Path], BlockingSink]]] = {
    "sqlite": SqliteSink,
    "csv": CsvSink,
}


@define(eq=False)
class Exercise:
    """Seeded users of every instrument of a bench, beside its recordings.

    Attributes:
        bench: Where they work.
        duration_s: How long, in simulated seconds.
        abrupt: Whether the end comes amid work, or when everything is in service again.
        users: How many users each instrument has.
    """

    bench: Bench
    duration_s: float
    abrupt: bool = False
    users: int = 1
    _tickets: list[Ticket[Any]] = field(factory=list[Ticket[Any]])
    # Commands whose users were told that they never reach the wire.
    _taken_back: deque[Ticket[Any]] = field(factory=deque[Ticket[Any]])
    _submitted: int = 0
    _accepted: int = 0
    _refused: int = 0
    _cancelled: int = 0

    async def run(self) -> None:
        """Work for `duration_s`, wait until faults are over, and check that all is well."""
        bench = self.bench
        with TemporaryDirectory(prefix="benchtree-") as folder:
            async with trio.open_nursery() as nursery:
                for instrument in bench.tree.instruments:
                    for number in range(self.users):
                        nursery.start_soon(self._use, instrument, number)
                if self._kept_away():
                    nursery.start_soon(self._attend)
                if bench.tree.instruments:
                    nursery.start_soon(self._operate)
                    for number in range(2):
                        nursery.start_soon(self._experiment, number)
                async with trio.open_nursery() as recordings:
                    for spec in bench.tree.spec.recordings or [self._everything()]:
                        if spec.parameters:
                            recordings.start_soon(self._record, spec, Path(folder))
                        else:
                            recordings.start_soon(trio.sleep, self.duration_s)
                nursery.cancel_scope.cancel()
        if not self.abrupt:
            await self._check_liveness()
            await self._check_tickets()

    # Users.

    async def _use(self, instrument: Instrument, number: int) -> None:
        """Give one instrument commands, patiently and not, for ever."""
        random = Random(f"{self.bench.seed} {instrument.name} {number}")  # noqa: S311 - repeatable
        while True:
            thinks_s = random.expovariate(1 / PAUSE_S)
            await self.bench.clock.sleep_until(trio.current_time() + thinks_s)
            patience_s = random.choice([math.inf, math.inf, 5.0, 0.5, 0.05, 0.003])
            if patience_s == math.inf:
                await self._command(instrument, random)
                continue
            with trio.move_on_after(patience_s):
                await self._command(instrument, random)

    async def _command(self, instrument: Instrument, random: Random) -> None:
        with self.bench.caller(instrument.name):
            await self._give(instrument, random)

    async def _give(self, instrument: Instrument, random: Random) -> None:
        directive = _some_directive(instrument, random)
        priority = random.choice(_PRIORITIES)
        manner = random.random()
        began_s = trio.current_time()
        was_open = self.bench.invariants.is_open(instrument.bus.name, instrument.name)
        try:
            if manner < 0.6:
                await instrument.ask(directive, confirm=True, priority=priority)
                return
            ticket = await self._submit(instrument, directive, priority)
            if manner < 0.7:
                return  # nobody waits for it
            if manner < 0.85 and ticket.withdraw():
                self._note_taken_back(ticket)
            await ticket.outcome()
        except RefusedError as refusal:
            if refusal.cause is Cause.BREAKER:
                self._expect(
                    trio.current_time() == began_s or not was_open,
                    REFUSED_AT_ONCE,
                    f"{instrument.name} took {trio.current_time() - began_s:g} s to refuse",
                )
        except CommandError:
            pass  # the bench is in trouble on purpose

    async def _submit(
        self, instrument: Instrument, directive: Any, priority: Priority
    ) -> Ticket[Any]:
        self._submitted += 1
        try:
            ticket: Ticket[Any] = await instrument.submit(
                directive, confirm=True, priority=priority, wait=priority is not Priority.LOW
            )
        except RefusedError:
            self._refused += 1
            raise
        except trio.Cancelled:
            self._cancelled += 1  # while it waited for room
            raise
        self._accepted += 1
        self._tickets = [each for each in self._tickets if not each.state.final]
        self._tickets.append(ticket)
        return ticket

    # Experimenters.

    async def _experiment(self, number: int) -> None:
        """Lease instruments now and then, patiently and not, and command them."""
        random = Random(f"{self.bench.seed} experimenter {number}")  # noqa: S311 - repeatable
        instruments = self.bench.tree.instruments
        while True:
            await trio.sleep(random.expovariate(1 / LEASE_EVERY_S))
            chosen = random.sample(instruments, k=random.randint(1, min(2, len(instruments))))
            with (
                trio.move_on_after(random.choice([math.inf, math.inf, 20.0, 0.5])),
                suppress(LeaseLostError, RefusedError),
            ):
                await self._lease(chosen, f"experimenter {number}", random)

    async def _lease(self, chosen: Sequence[Instrument], owner: str, random: Random) -> None:
        async with self.bench.tree.lease(
            *(each.name for each in chosen),
            owner=owner,
            ttl_s=random.choice([5.0, 30.0]),
            priority=random.randint(0, 3),
            grace_s=random.choice([0.0, 2.0, 10.0]),
            reads=random.choice(["shared", "shared", "exclusive"]),
            heartbeat=random.random() < 0.8,
        ) as lease:
            polite = random.random() < 0.7
            until_s = trio.current_time() + random.expovariate(1 / LEASED_S)
            while trio.current_time() < until_s and not (polite and lease.preempted.is_set()):
                await self._command(random.choice(chosen), random)
                await trio.sleep(random.expovariate(1.0))

    # The operator.

    async def _operate(self) -> None:
        """Trip instruments now and then, patiently and not, and rearm them."""
        random = Random(f"{self.bench.seed} operator")  # noqa: S311 - repeatable
        tree = self.bench.tree
        while True:
            await trio.sleep(random.expovariate(1 / TRIP_EVERY_S))
            instrument = random.choice(tree.instruments)
            await self._leave_writes(instrument, random)
            if instrument.safe_state and random.random() < 0.3:
                await self._emergency(instrument)
            else:
                await self._trip(instrument, random.choice([math.inf, 1.0, 0.001]))
            await trio.sleep(random.uniform(0.0, 20.0))
            await self._rearm(instrument.name)

    async def _leave_writes(self, instrument: Instrument, random: Random) -> None:
        """Let some writes wait in the lane, none of which may follow a trip."""
        settings = [each for each in instrument.parameters.values() if isinstance(each, Setting)]
        for setting in random.choices(settings, k=random.randint(0, 3)) if settings else ():
            try:
                await self._submit(instrument, _some_value(setting, random), Priority.LOW)
            except RefusedError:
                return

    async def _emergency(self, instrument: Instrument) -> None:
        try:
            with trio.move_on_after(10.0):
                await instrument.ask(instrument.safe_state[0], priority=Priority.EMERGENCY)
        except RefusedError:
            return
        except CommandError:
            pass  # it could not be reached; it is tripped all the same
        self._expect(
            self.bench.invariants.is_tripped(instrument.name),
            TRIPPED,
            f"{instrument.name} takes writes after an emergency",
        )

    async def _trip(self, instrument: Instrument, patience_s: float) -> None:
        began_s = trio.current_time()
        with trio.move_on_after(patience_s) as patience:
            outcome = await self.bench.tree.trip(instrument.name, "the operator")
            if outcome.error is not None:
                self.bench.invariants.note_named(instrument.name)
        if patience.cancelled_caught:
            took_s = trio.current_time() - began_s
            self._expect(
                not self.bench.invariants.is_unsafe(instrument.name)
                or took_s >= instrument.bus.profile.safe_s,
                UNCUT,
                f"{instrument.name}: given up after {took_s:g} s",
            )

    async def _rearm(self, name: str) -> None:
        for _ in range(REARM_TRIES):
            try:
                self.bench.tree.rearm(name)
            except RefusedError:
                await trio.sleep(5.0)  # driving it safe is still owed
            else:
                return

    async def _attend(self) -> None:
        """Look now and then after instruments that stay out of service until rearmed."""
        while True:
            await trio.sleep(ATTEND_EVERY_S)
            self._readmit(tripped=False)

    def _readmit(self, *, tripped: bool) -> None:
        """Rearm what came back and waits for that; what is tripped only if `tripped`."""
        kept_away = self._kept_away()
        for bus in self.bench.tree.status():
            for each in bus.instruments:
                waits = each.name in kept_away or self.bench.invariants.is_refusing(each.name)
                if (
                    waits
                    and each.service is Service.QUARANTINED
                    and (tripped or each.tripped is None)
                ):
                    with suppress(RefusedError):  # driving it safe is still owed
                        self.bench.tree.rearm(each.name)

    def _kept_away(self) -> set[str]:
        """Return the instruments that somebody has to rearm after they were away."""
        return {
            each.name
            for each in self.bench.tree.spec.instruments
            if each.on_reconnect is OnReconnect.QUARANTINE
        }

    # Recordings.

    def _everything(self) -> RecordingSpec:
        return RecordingSpec(
            name="everything",
            parameters=[
                f"{instrument.name}.{name}"
                for instrument in self.bench.tree.instruments
                for name, parameter in instrument.parameters.items()
                if not isinstance(parameter, Setting)
            ],
            rate_hz=1.0,
            sinks=(),
        )

    async def _record(self, spec: RecordingSpec, folder: Path) -> None:
        """Record into the recording's sinks, and into new ones when one fails."""
        kept: Counter[str] = Counter()
        unwritten: Counter[str] = Counter()
        async with record(
            self.bench.tree,
            parameters=spec.parameters,
            rate_hz=spec.rate_hz,
            duration=self.duration_s,
            names=spec.names,
            instances=spec.instances,
            overflow=spec.overflow,
            buffer_size=spec.buffer_size,
            observer=self.bench.observe,
        ) as recording:
            self.bench.summaries.append(recording.summary)
            for part in itertools.count():  # ends with the stream
                lost = await self._pipe(spec, recording.stream, folder, part, kept)
                if lost is None:
                    break
                unwritten += lost
        for kind in _kinds(spec):
            delivered = recording.summary.samples_emitted
            self._expect(
                kept[kind] <= delivered <= kept[kind] + unwritten[kind],
                KEPT,
                f"{spec.name}, {kind}: {delivered} delivered, {kept[kind]} kept, "
                f"{unwritten[kind]} named as unwritten",
            )
        self._check_recording(spec, recording.summary)

    async def _pipe(
        self,
        spec: RecordingSpec,
        stream: BatchStream[Sequence[Sample]],
        folder: Path,
        part: int,
        kept: Counter[str],
    ) -> Counter[str] | None:
        """Write into new sinks until the stream ends (None) or one fails (what it lost)."""
        lost: Counter[str] = Counter()
        failed = False
        sinks = {kind: _SINKS[kind](folder / f"{spec.name}-{part}.{kind}") for kind in _kinds(spec)}
        faulty = {kind: self.bench.sink(spec.name, sink) for kind, sink in sinks.items()}
        async with AsyncExitStack() as stack:
            for sink in sinks.values():
                await stack.enter_async_context(sink)
            try:
                await pipe(stream, *faulty.values(), flush_s=FLUSH_S)
            except* SinkError as errors:
                failed = True
                for error in _leaves(errors):
                    kind = error.sink.rpartition(".")[2]
                    lost[kind] += error.unwritten
        for kind, sink in sinks.items():
            rows = _rows(folder / sink.name)
            acknowledged = faulty[kind].acknowledged
            self._expect(
                rows == acknowledged,
                KEPT,
                f"{sink.name} holds {rows} rows, {acknowledged} were acknowledged",
            )
            kept[kind] += rows
        self.bench.forget_sinks(spec.name)
        return lost if failed else None

    def _check_recording(self, spec: RecordingSpec, summary: AcquisitionSummary) -> None:
        slots = max(1, round(self.duration_s * spec.rate_hz))
        series = summary.by_key()
        for key, counts in series.items():
            self._expect(
                counts.expected == slots,
                EXPECTED_SLOTS,
                f"{key}: {counts.expected} are expected in {slots} slots",
            )
        sources = self.bench.tree.partitions(
            spec.parameters, names=spec.names, instances=spec.instances
        )
        wanted = sum(len(each.keys) for each in sources)
        self._expect(
            len(series) == wanted,
            EXPECTED_SLOTS,
            f"{spec.name}: {len(series)} series are counted, {wanted} are wanted",
        )
        total = summary.total()
        self._expect(
            total.read == total.emitted + total.dropped,
            EMITTED,
            f"{spec.name}: {summary!r}",
        )

    # Afterwards.

    async def _check_liveness(self) -> None:
        """Expect everything in service, at the latest when every breaker may have held back."""
        tree = self.bench.tree
        await self.bench.calm()
        policies = [each.breaker for each in tree.spec.buses]
        policies += [each.breaker for each in tree.spec.instruments]
        longest_s = max((each.max_open_s * (1.0 + each.jitter) for each in policies), default=0.0)
        recovery_s = max((each.recovery_s for each in tree.spec.instruments), default=0.0)
        # A probe of each instrument on a line, one after the other, and what a silent one
        # is spared between probes.
        latest_s = trio.current_time() + 2 * longest_s + recovery_s + SETTLE_S
        await self._wait_in_service(latest_s)
        down = _buses_below(tree.spec, self.bench.invariants.gave_up)
        for bus in tree.status():
            for each in bus.instruments:
                if bus.name in down:
                    seen = self.bench.invariants
                    self._expect(
                        seen.is_named(each.name) or not seen.is_unsafe(each.name),
                        LEFT_DOWN,
                        f"{each.name} was neither driven safe nor named",
                    )
                else:
                    self._expect(
                        _serves(each),
                        ALIVE,
                        f"{each.name} is {each.service.value} on {bus!r}",
                    )

    async def _wait_in_service(self, latest_s: float) -> None:
        """Wait until everything has been in service for `STEADY_S`, or until `latest_s`."""
        tree = self.bench.tree
        since_s = trio.current_time()
        while (now_s := trio.current_time()) < min(latest_s, since_s + STEADY_S):
            self._readmit(tripped=True)
            down = _buses_below(tree.spec, self.bench.invariants.gave_up)
            buses = [bus for bus in tree.status() if bus.name not in down]
            if not all(_serves(each) for bus in buses for each in bus.instruments):
                since_s = now_s + LOOK_S
            await trio.sleep(LOOK_S)

    async def _check_tickets(self) -> None:
        """Expect that nobody waits for ever, and that what was taken back was not sent."""
        self._expect(
            self._submitted == self._accepted + self._refused + self._cancelled,
            SUBMITTED,
            f"{self._submitted} submitted, {self._accepted} accepted, {self._refused} refused, "
            f"{self._cancelled} given up while they waited for room",
        )
        while self._taken_back:
            self._check_unsent(self._taken_back.popleft())
        for ticket in self._tickets:
            with trio.move_on_after(self.bench.invariants.prompt_s) as patience:
                await ticket.outcome()
            self._expect(not patience.cancelled_caught, TOLD_ONCE, f"{ticket!r} tells nothing")

    def _note_taken_back(self, ticket: Ticket[Any]) -> None:
        """Keep a ticket whose command is never to be sent, and look at it later."""
        self._taken_back.append(ticket)
        if len(self._taken_back) > WATCHED:
            self._check_unsent(self._taken_back.popleft())

    def _check_unsent(self, ticket: Ticket[Any]) -> None:
        self._expect(ticket.attempts == 0, WITHDRAWN, f"{ticket!r} was sent after it was withdrawn")

    def _expect(self, holds: object, invariant: str, text: str) -> None:
        self.bench.invariants.expect(holds, trio.current_time(), invariant, text)


def _kinds(spec: RecordingSpec) -> list[str]:
    """Return the sinks of a recording that a simulation writes to."""
    return [kind for kind in spec.sinks if kind in _SINKS]


def _leaves(errors: BaseExceptionGroup[SinkError]) -> Iterator[SinkError]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _rows(path: Path) -> int:
    """Return how many samples a file holds."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("SELECT count(*) FROM samples").fetchone()
        return int(count)


def _serves(status: InstrumentStatus) -> bool:
    return status.service is Service.IN_SERVICE and status.retry_after_s is None


def _buses_below(spec: TreeSpec, supervisors: Collection[str]) -> set[str]:
    """Return the buses that some supervisors keep, directly or not."""
    groups = {f"supervisor.{each.name}": each.children for each in spec.supervisors}
    found: set[str] = set()
    for name in supervisors:
        kind, _, rest = name.partition(".")
        if kind == Kind.BUS.value:
            found.add(rest)
        below = [f"{kind.value}.{child}" for kind, child in groups.get(name, ())]
        found |= _buses_below(spec, below)
    return found


def _some_directive(instrument: Instrument, random: Random) -> Any:
    parameter = random.choice(list(instrument.parameters.values()))
    if not isinstance(parameter, Setting) or random.random() < 0.5:
        return parameter
    return _some_value(parameter, random)


def _some_value(setting: Setting[Any], random: Random) -> Assignment[Any]:
    limits = setting.limits
    if limits.choices:
        return setting.to(random.choice(list(limits.choices)))
    if limits.type is bool:
        return setting.to(random.random() < 0.5)
    low = 0.0 if limits.low is None else limits.low
    high = low + 100.0 if limits.high is None else limits.high
    value = round(random.uniform(low, high), 3)
    return setting.to(round(value) if limits.type is int else value)
