"""A bus with two instruments against a small model of its rules, whatever its users do.

The model is written from the project's numbered rules: what is accepted and refused, who
goes next, what a trip, an emergency, a withdrawal, a deadline, a crash and a lost connection
do, and when a breaker lets go. Every exchange takes the same time, so that it can say what is
on the wire when, and how each command ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, example, given, settings

from actors import (
    Action,
    Assignment,
    BreakerPolicy,
    Cause,
    CommandState,
    Identity,
    Instrument,
    Intensity,
    Parameter,
    Priority,
    Reading,
    RefusedError,
    Script,
    Ticket,
)
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, Kind, SupervisorSpec, TreeSpec
from transports import BusProfile, DeviceModel, Exchange, Framing, Lines, Resync, SimReply

EXCHANGE_S = 0.2
"""How long every exchange takes but asking who somebody is, which takes no time."""

WITHIN_S = 1.0
LATENESS_S = 0.25
"""How long a reply may take, and how much longer one that was abandoned is waited for."""

OPEN_S = 2.0
MAX_OPEN_S = 3.0
DEPTH = 3

PRIORITIES = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


class PairModel:
    """Two units that answer with what they were asked, and how often."""

    def __init__(self) -> None:
        """Start unasked."""
        self.heard: list[bytes] = []

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer one request."""
        del now_s
        self.heard.append(data)
        delay_s = 0.0 if b"ID" in data else EXCHANGE_S
        reply = data.rstrip() + b" #%d\n" % len(self.heard)
        return [SimReply(reply, delay_s=delay_s, unit=data[:1].decode())]

    def reset(self, now_s: float) -> None:
        """Keep everything."""
        del now_s


class Half(Instrument):
    """One of two units."""

    framing: ClassVar[Framing] = Lines(b"\n")
    look = Reading("LOOK", type=str)
    poke = Action("POKE")
    rest = Action("REST")
    safe_state = (rest,)

    @classmethod
    def simulate(cls, units: Sequence[str | None]) -> DeviceModel:
        """Return both on one line."""
        del units
        return PairModel()

    def encode(
        self, directive: Parameter[Any] | Assignment[Any] | Action, instance: int = 1
    ) -> Exchange:
        """Return the line that carries out `directive`."""
        del instance
        header = directive.setting.header if isinstance(directive, Assignment) else directive.header
        return self._exchange(header)

    def decode(self, parameter: Parameter[Any], raw: bytes) -> Any:
        """Return the whole reply."""
        del parameter
        return raw.decode()

    def decode_written(
        self, directive: Parameter[Any] | Assignment[Any] | Action, raw: bytes
    ) -> None:
        """Take any reply."""

    def identify(self) -> Script[Identity]:
        """Ask who it is."""
        yield self._exchange("ID")
        return Identity("acme", "half", self.name)

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return nothing: no exchange is ever abandoned on a connection that goes on."""
        del owed
        return None

    def _exchange(self, header: str) -> Exchange:
        request = f"{self.unit} {header}".encode()
        return Exchange(request + b"\n", self.unit, WITHIN_S, lambda raw: raw.startswith(request))


SPEC = TreeSpec(
    buses=[
        BusSpec(
            name="line",
            address="serial:///dev/ttyUSB0",
            profile=BusProfile(
                name="pair",
                resync=Resync.FENCE,
                shared=True,
                queue_depth=DEPTH,
                lateness_s=LATENESS_S,
            ),
            breaker=BreakerPolicy(open_s=OPEN_S, max_open_s=MAX_OPEN_S, jitter=0.0),
        )
    ],
    instruments=[
        InstrumentSpec(name=name, bus="line", driver=Half, unit_id=name) for name in ("a", "b")
    ],
    # It bears every crash.
    supervisors=[
        SupervisorSpec(
            name="all", children=[(Kind.BUS, "line")], intensity=Intensity(max_restarts=1000)
        )
    ],
)

LaneName = Literal["a", "b"]


@define(eq=False)
class Asked:
    """One command as the model sees it."""

    lane: LaneName
    priority: Priority
    writes: bool
    deadline_s: float
    urgent: bool = False
    state: CommandState = CommandState.QUEUED
    cause: Cause | None = None

    @property
    def request(self) -> bytes:
        """What it puts on the wire."""
        if self.urgent:
            return f"{self.lane} REST\n".encode()
        return f"{self.lane} {'POKE' if self.writes else 'LOOK'}\n".encode()

    def fail(self, cause: Cause) -> None:
        """End it."""
        self.state, self.cause = CommandState.FAILED, cause


@define(eq=False)
class Lane:
    """One instrument as the model sees it."""

    name: LaneName
    waiting: list[Asked] = field(factory=list[Asked])
    tripped: bool = False
    # The commands that trip it: they go before everything.
    urgent: list[Asked] = field(factory=list[Asked])
    owed: bool = False
    due: bool = False
    tries: int = 0
    serving: bool = True
    # Since when it waits to be identified.
    unserved_s: float = -math.inf
    # It said who it is since the line was opened.
    known: bool = True
    # It was away, and its settings were not looked after since.
    neglected: bool = False

    def __len__(self) -> int:
        """Return how many commands wait."""
        return len(self.waiting) + len(self.urgent)

    def owe(self) -> None:
        """Owe driving it safe."""
        if not self.owed:
            self.owed, self.tries = True, 0

    def first(self) -> Asked | None:
        """Return whose turn it is within the lane."""
        if not self.serving:
            return None
        return min(self.waiting, key=lambda each: each.priority, default=None)


@define(eq=False)
class Model:
    """The bus as the rules describe it."""

    now_s: float
    lanes: dict[LaneName, Lane] = field(factory=lambda: {"a": Lane("a"), "b": Lane("b")})
    turns: deque[Lane] = field(factory=deque[Lane])
    wire: list[bytes] = field(factory=list[bytes])
    plugged: bool = True
    # Connected or connecting, and whether commands are accepted.
    up: bool = True
    closed: bool = True
    openings: int = 0
    retry_at_s: float = math.inf
    probed_last: bool = False
    flight: Asked | None = None
    # The lane that is driven safe now.
    resting: Lane | None = None
    # Whether the actor fails as the reply to what is in flight comes.
    doomed: bool = False
    ends_s: float = math.inf
    sent_s: float = -math.inf
    # When the last reply that was abandoned is too late to come.
    late_until_s: float = -math.inf

    # What users do.

    def submit(self, asked: Asked) -> Cause | None:
        """Accept a command, or return why it is refused."""
        lane = self.lanes[asked.lane]
        if lane.tripped and asked.writes:
            return Cause.TRIPPED
        if not self.closed:
            return Cause.BREAKER
        if len(lane) >= DEPTH:
            return Cause.FULL
        self._queue(lane)
        lane.waiting.append(asked)
        self.work()
        return None

    def withdraw(self, asked: Asked) -> bool:
        """Take a command back if its first byte is not out."""
        if asked.state is not CommandState.QUEUED:
            return False
        self._take(asked)
        asked.fail(Cause.WITHDRAWN)
        return True

    def trip(self, name: LaneName) -> None:
        """Let only reads pass, and drive safe."""
        lane = self.lanes[name]
        lane.tripped = True
        for asked in [each for each in lane.waiting if each.writes]:
            self._take(asked)
            asked.fail(Cause.TRIPPED)
        lane.owe()
        lane.due = True
        self.hurry()

    def alarm(self, asked: Asked) -> None:
        """Accept an emergency, which trips its lane."""
        lane = self.lanes[asked.lane]
        self._queue(lane)
        lane.urgent.append(asked)
        if lane.tripped:
            self.hurry()
        else:
            self.trip(asked.lane)

    def hurry(self) -> None:
        """See to it that what is urgent is tried at once, whatever the breaker says."""
        if not self.up:
            self._probe()
        self.work()

    def rearm(self, name: LaneName) -> bool:
        """Let everything pass again, unless driving safe is owed or about to be."""
        lane = self.lanes[name]
        alarmed = self.flight is not None and self.flight.urgent and self.flight.lane == name
        if lane.owed or lane.urgent or alarmed:
            return False
        lane.tripped = False
        if self.closed and lane.serving and lane.neglected:
            # Whoever was tripped while it came back has its settings restored now.
            self._put_out(lane)
            self.work()
        return True

    def unplug(self) -> None:
        """Lose the connection."""
        self.plugged = False
        if self.doomed:
            self._crash()
        if self.up:
            self._lose()

    # What time does.

    def advance(self, to_s: float) -> None:
        """Let everything happen until then, in order."""
        while (at_s := self._next_s()) <= to_s:
            self.now_s = at_s
            if self.ends_s <= at_s:
                self._finish()
            elif not self.up and self.retry_at_s <= at_s:
                self._probe()
            else:
                self._expire()
            self.work()
        self.now_s = to_s

    def work(self) -> None:
        """Begin the most urgent thing there is, unless something is going on."""
        while self.up and self.ends_s == math.inf:
            urgent = [each for each in self.turns if each.urgent]
            if urgent:
                self._answer_alarm(urgent[0])
                continue
            due = [each for each in self.lanes.values() if each.due]
            # Whoever had no try goes first, then who is in service: it can be reached at once.
            due.sort(key=lambda each: (each.tries, not each.serving))
            unknown = [each for each in self.lanes.values() if not each.serving]
            unknown.sort(key=lambda each: each.unserved_s)
            if due:
                due[0].tries += 1
                self._approach(due[0])
            elif unknown and not self.probed_last:
                self.probed_last = True
                self._approach(unknown[0])
            else:
                self.probed_last = False
                if not self._serve() and not unknown:
                    return

    def _approach(self, lane: Lane) -> None:
        """Identify an instrument if need be, and drive it safe if that is owed."""
        if not lane.serving:
            self.wire.append(f"{lane.name} ID\n".encode())
            lane.known = True
        if lane.owed:
            self.wire.append(f"{lane.name} REST\n".encode())
            self.resting = lane
            self._begin()
        else:
            self._admit(lane)

    def _answer_alarm(self, lane: Lane) -> None:
        """Send an emergency, once it is known who will hear it."""
        if not lane.known:
            self._approach(lane)
        else:
            asked = lane.urgent.pop(0)
            self._unqueue(lane)
            self._send(asked)

    def _send(self, asked: Asked) -> None:
        asked.state = CommandState.DISPATCHED
        self.wire.append(asked.request)
        self.flight = asked
        self._begin()

    def _begin(self) -> None:
        self.sent_s = self.now_s
        self.ends_s = self.now_s + EXCHANGE_S

    def _put_out(self, lane: Lane) -> None:
        """Identify an instrument anew before anything else is sent to it."""
        lane.serving, lane.unserved_s = False, self.now_s

    def _admit(self, lane: Lane) -> None:
        lane.serving = True
        lane.neglected = lane.neglected and lane.tripped

    def _serve(self) -> bool:
        """Send the next command; lanes take turns."""
        for _ in range(len(self.turns)):
            lane = self.turns.popleft()
            asked = lane.first()
            if asked is not None:
                lane.waiting.remove(asked)
            if len(lane):
                self.turns.append(lane)
            if asked is not None:
                self._send(asked)
                return True
        return False

    def _finish(self) -> None:
        self.ends_s = math.inf
        if not self.closed:
            self.closed, self.openings = True, 0
        if self.doomed:
            self._crash()
        elif self.resting is not None:
            self.resting.owed = self.resting.due = False
            self._admit(self.resting)
            self.resting = None
        elif self.flight is not None:
            self.flight.state = CommandState.COMPLETED
            self._end_alarm(self.flight)
            self.flight = None

    def _end_alarm(self, asked: Asked) -> None:
        """Whatever an emergency wrote, its instrument ends in its safe state."""
        if asked.urgent:
            lane = self.lanes[asked.lane]
            lane.owe()
            lane.due = True

    def _crash(self) -> None:
        """Lose the command in flight, and start again at once with all others."""
        self.doomed = False
        self.ends_s = self.late_until_s = self.sent_s + WITHIN_S + LATENESS_S
        if self.flight is not None:
            self.flight.fail(Cause.CRASHED)
            self._end_alarm(self.flight)
        self.flight = self.resting = None
        for lane in self.lanes.values():
            self._put_out(lane)
            lane.known = False
            lane.neglected = True

    def _expire(self) -> None:
        for asked in self._waiting():
            if asked.deadline_s <= self.now_s:
                self._take(asked)
                asked.fail(Cause.EXPIRED)

    def _probe(self) -> None:
        if not self.plugged:
            self._fail_urgent()
            self._open_breaker()
            return
        self.up = True
        self.closed = self.late_until_s <= self.now_s
        if not self.closed:
            self.ends_s = self.late_until_s
        else:
            self.openings = 0
        self.retry_at_s = math.inf
        self.probed_last = False

    def _lose(self) -> None:
        self.up = self.closed = self.doomed = False
        self.ends_s = math.inf
        self._fail_urgent()
        if self.flight is not None:
            self.flight.fail(Cause.TRANSPORT)
        self.flight = self.resting = None
        for asked in self._waiting():
            self._take(asked)
            asked.fail(Cause.BREAKER)
        for lane in self.lanes.values():
            self._put_out(lane)
            lane.known = False
            lane.neglected = True
            # Whoever was away may be in any state.
            if lane.tripped:
                lane.owe()
        self._open_breaker()

    def _fail_urgent(self) -> None:
        """Tell who waits for something urgent that it cannot be reached; it stays owed."""
        for lane in self.lanes.values():
            lane.due = False
            for asked in lane.urgent:
                asked.fail(Cause.TRANSPORT)
            if lane.urgent:
                lane.urgent.clear()
                self._unqueue(lane)

    def _open_breaker(self) -> None:
        self.retry_at_s = self.now_s + min(OPEN_S * 2.0**self.openings, MAX_OPEN_S)
        self.openings += 1

    def _next_s(self) -> float:
        due = [self.ends_s, math.inf if self.up else self.retry_at_s]
        return min(*due, *(each.deadline_s for each in self._waiting()))

    def _waiting(self) -> list[Asked]:
        return [asked for lane in self.lanes.values() for asked in lane.waiting]

    def _take(self, asked: Asked) -> None:
        lane = self.lanes[asked.lane]
        (lane.urgent if asked.urgent else lane.waiting).remove(asked)
        self._unqueue(lane)

    def _queue(self, lane: Lane) -> None:
        """Let a lane have turns from now on."""
        if not len(lane):
            self.turns.append(lane)

    def _unqueue(self, lane: Lane) -> None:
        """Let a lane have no more turns if nothing waits in it."""
        if not len(lane):
            self.turns.remove(lane)


LANES: st.SearchStrategy[LaneName] = st.sampled_from(("a", "b"))

# Commands come faster than they are carried out; trouble is rare enough to let them queue.
ACTIONS = (
    *("submit",) * 12,
    *("wait",) * 4,
    *("withdraw",) * 2,
    *("trip", "rearm"),
    *("unplug", "plug", "plug"),
    *("emergency", "crash", "rest"),
)


@frozen
class Step:
    """One step, with more details than most need."""

    action: str
    lane: LaneName
    priority: Priority
    writes: bool
    within_s: float
    which: int
    wait_s: float


STEPS = st.builds(
    Step,
    action=st.sampled_from(ACTIONS),
    lane=LANES,
    priority=st.sampled_from(PRIORITIES),
    writes=st.booleans(),
    within_s=st.sampled_from((math.inf, math.inf, 0.3117)),
    which=st.integers(0, 20),
    wait_s=st.sampled_from((0.0511, 0.1317, 0.3719)),
)


def check(steps: list[Step], seed: int) -> None:
    """Take the same steps with a bus and with the model, and see no difference."""

    async def main(bench: Bench) -> None:
        await compare(bench, steps)

    assert simulate(seed, main, bench=SPEC).violations == ()


SEEDS = st.integers(0, 3)
QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    max_examples=200,
    # To make a failing life shorter takes minutes; it is printed with its trace as it is.
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


def live(action: str, lane: LaneName = "a", wait_s: float = 0.0) -> Step:
    """Return a step in which nothing else matters."""
    return Step(action, lane, Priority.NORMAL, False, math.inf, which=0, wait_s=wait_s)


SECOND_WAITS_LONGER = [
    live("trip"),
    live("unplug"),
    live("plug"),
    live("wait", wait_s=2.1),
    live("submit"),
    live("wait", wait_s=0.2),
    live("rearm"),
    live("wait", wait_s=0.3),
]
"""The first instrument is driven safe, read, and to be identified again; the second still is."""


@QUICK
@given(steps=st.lists(STEPS, min_size=15, max_size=60), seed=SEEDS)
@example(steps=SECOND_WAITS_LONGER, seed=0)
def test_bus_does_as_its_rules_say(steps: list[Step], seed: int) -> None:
    """Whatever users and cables do, the wire carries what the model says, and so ends all."""
    check(steps, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(QUICK, derandomize=False, max_examples=20_000)
@given(steps=st.lists(STEPS, min_size=15, max_size=200), seed=SEEDS)
def test_bus_does_so_for_long(steps: list[Step], seed: int) -> None:
    """Longer lives, and other ones each time."""
    check(steps, seed)


async def compare(bench: Bench, steps: list[Step]) -> None:
    """Take the same steps with a bus and with the model."""
    bench.lines["line"].latency_s = 0.0
    await trio.sleep(1.0)
    device = bench.device("a", PairModel)
    device.heard.clear()
    model = Model(trio.current_time())
    pairs: list[tuple[Ticket[Any], Asked]] = []
    for step in steps:
        await take(bench, model, pairs, step)
        await trio.testing.wait_all_tasks_blocked()
        assert [ticket.state for ticket, _ in pairs] == [asked.state for _, asked in pairs]
        assert device.heard == model.wire
    if not model.plugged:
        model.plugged = True
        bench.lines["line"].replug()
    await trio.sleep(100.0)
    model.advance(trio.current_time())
    for ticket, asked in pairs:
        outcome = await ticket.outcome()
        assert ticket.state is asked.state
        assert outcome.cause is asked.cause
        sent = asked.cause in (None, Cause.TRANSPORT, Cause.CRASHED)
        assert ticket.attempts == sent or asked.urgent
    assert device.heard == model.wire
    assert model.turns == deque()


async def submit(
    half: Half, model: Model, pairs: list[tuple[Ticket[Any], Asked]], step: Step
) -> None:
    """Give both the same command."""
    deadline_s = trio.current_time() + step.within_s
    asked = Asked(step.lane, step.priority, step.writes, deadline_s)
    cause: Cause | None = None
    try:
        with trio.move_on_after(step.within_s):
            ticket: Ticket[Any] = await half.submit(
                Half.poke if step.writes else Half.look,
                priority=step.priority,
                wait=False,
            )
            pairs.append((ticket, asked))
    except RefusedError as refusal:
        cause = refusal.cause
    assert model.submit(asked) is cause


async def take(
    bench: Bench, model: Model, pairs: list[tuple[Ticket[Any], Asked]], step: Step
) -> None:
    """Take one step with both."""
    half = bench.get(step.lane, Half)
    line = bench.lines["line"]
    match step.action:
        case "submit":
            await submit(half, model, pairs, step)
        case "withdraw" if pairs:
            taken, known = pairs[step.which % len(pairs)]
            assert taken.withdraw() == model.withdraw(known)
        case "trip" if not model.lanes[step.lane].tripped:
            model.trip(step.lane)
            half.bus.trip(step.lane, "the test")
        case "emergency":
            asked = Asked(step.lane, Priority.EMERGENCY, True, math.inf, urgent=True)
            model.alarm(asked)
            pairs.append((await half.submit(Half.rest, priority=Priority.EMERGENCY), asked))
        case "crash" if (model.flight or model.resting) and not model.doomed:
            model.doomed = True
            line.crash_waiting = 1
        case "rearm":
            possible = model.rearm(step.lane)
            try:
                half.bus.rearm(step.lane)
            except RefusedError:
                assert not possible
            else:
                assert possible
        case "unplug" if model.plugged:
            model.unplug()
            line.unplug()
        case "plug" if not model.plugged:
            model.plugged = True
            line.replug()
        case "wait" | "rest":
            await trio.sleep(step.wait_s if step.action == "wait" else 3.1731)
            model.advance(trio.current_time())
        case _:
            pass
