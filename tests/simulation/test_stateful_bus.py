"""A bus with two instruments against a small model of its rules, whatever its users do.

The model is written from the project's numbered rules: what is accepted and refused, who
goes next, what a trip, a withdrawal, a deadline and a lost connection do, and when a breaker
lets go. Every exchange takes the same time, so that it can say what is on the wire when, and
how each command ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import hypothesis.strategies as st
import trio
import trio.testing
from attrs import define, field, frozen
from hypothesis import HealthCheck, given, settings

from actors import (
    Action,
    Assignment,
    BreakerPolicy,
    Cause,
    CommandState,
    Identity,
    Instrument,
    Parameter,
    Priority,
    Reading,
    RefusedError,
    Script,
    Ticket,
)
from benchtree.simulate import Bench, simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from transports import BusProfile, DeviceModel, Exchange, Framing, Lines, Resync, SimReply

EXCHANGE_S = 0.2
"""How long every exchange takes but asking who somebody is, which takes no time."""

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
        return Exchange(request + b"\n", self.unit, 1.0, lambda raw: raw.startswith(request))


SPEC = TreeSpec(
    buses=[
        BusSpec(
            name="line",
            address="serial:///dev/ttyUSB0",
            profile=BusProfile(name="pair", resync=Resync.FENCE, shared=True, queue_depth=DEPTH),
            breaker=BreakerPolicy(open_s=OPEN_S, max_open_s=MAX_OPEN_S, jitter=0.0),
        )
    ],
    instruments=[
        InstrumentSpec(name=name, bus="line", driver=Half, unit_id=name) for name in ("a", "b")
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
    state: CommandState = CommandState.QUEUED
    cause: Cause | None = None

    @property
    def request(self) -> bytes:
        """What it puts on the wire."""
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
    owed: bool = False
    due: bool = False
    serving: bool = True
    # It was away, and its settings were not looked after since.
    neglected: bool = False

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
    up: bool = True
    openings: int = 0
    retry_at_s: float = math.inf
    probed_last: bool = False
    flight: Asked | None = None
    # The lane that is driven safe now.
    resting: Lane | None = None
    ends_s: float = math.inf

    # What users do.

    def submit(self, asked: Asked) -> Cause | None:
        """Accept a command, or return why it is refused."""
        lane = self.lanes[asked.lane]
        if lane.tripped and asked.writes:
            return Cause.TRIPPED
        if not self.up:
            return Cause.BREAKER
        if len(lane.waiting) >= DEPTH:
            return Cause.FULL
        if not lane.waiting:
            self.turns.append(lane)
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
        lane.owed = lane.due = True
        self.work()

    def rearm(self, name: LaneName) -> bool:
        """Let everything pass again, unless driving safe is owed."""
        lane = self.lanes[name]
        if lane.owed:
            return False
        lane.tripped = False
        if self.up and lane.serving and lane.neglected:
            # Whoever was tripped while it came back has its settings restored now.
            lane.serving = False
            self.work()
        return True

    def unplug(self) -> None:
        """Lose the connection."""
        self.plugged = False
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
            due = [each for each in self.lanes.values() if each.due]
            # One that is in service goes first: it can be reached at once.
            due.sort(key=lambda each: not each.serving)
            unknown = [each for each in self.lanes.values() if not each.serving]
            if due:
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
        if lane.owed:
            self.wire.append(f"{lane.name} REST\n".encode())
            self.resting = lane
            self.ends_s = self.now_s + EXCHANGE_S
        else:
            self._admit(lane)

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
            if lane.waiting:
                self.turns.append(lane)
            if asked is not None:
                asked.state = CommandState.DISPATCHED
                self.wire.append(asked.request)
                self.flight = asked
                self.ends_s = self.now_s + EXCHANGE_S
                return True
        return False

    def _finish(self) -> None:
        self.ends_s = math.inf
        if self.resting is not None:
            self.resting.owed = self.resting.due = False
            self._admit(self.resting)
            self.resting = None
        elif self.flight is not None:
            self.flight.state = CommandState.COMPLETED
            self.flight = None

    def _expire(self) -> None:
        for asked in self._waiting():
            if asked.deadline_s <= self.now_s:
                self._take(asked)
                asked.fail(Cause.EXPIRED)

    def _probe(self) -> None:
        if not self.plugged:
            self._open_breaker()
            return
        self.up = True
        self.openings = 0
        self.retry_at_s = math.inf
        self.probed_last = False

    def _lose(self) -> None:
        self.up = False
        self.ends_s = math.inf
        if self.flight is not None:
            self.flight.fail(Cause.TRANSPORT)
        self.flight = self.resting = None
        for asked in self._waiting():
            self._take(asked)
            asked.fail(Cause.BREAKER)
        for lane in self.lanes.values():
            lane.serving = lane.due = False
            lane.neglected = True
            # Whoever was away may be in any state.
            lane.owed = lane.owed or lane.tripped
        self._open_breaker()

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
        lane.waiting.remove(asked)
        if not lane.waiting:
            self.turns.remove(lane)


LANES: st.SearchStrategy[LaneName] = st.sampled_from(("a", "b"))

# Commands come faster than they are carried out; trouble is rare enough to let them queue.
ACTIONS = (
    *("submit",) * 12,
    *("wait",) * 4,
    *("withdraw",) * 2,
    *("trip", "rearm"),
    *("unplug", "plug", "plug"),
    "rest",
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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(steps=st.lists(STEPS, min_size=15, max_size=60), seed=st.integers(0, 3))
def test_bus_does_as_its_rules_say(steps: list[Step], seed: int) -> None:
    """Whatever users and cables do, the wire carries what the model says, and so ends all."""

    async def main(bench: Bench) -> None:
        await compare(bench, steps)

    assert simulate(seed, main, bench=SPEC).violations == ()


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
        assert ticket.attempts == (asked.cause in (None, Cause.TRANSPORT))
    assert device.heard == model.wire
    assert model.turns == deque()


async def take(
    bench: Bench, model: Model, pairs: list[tuple[Ticket[Any], Asked]], step: Step
) -> None:
    """Take one step with both."""
    half = bench.get(step.lane, Half)
    line = bench.lines["line"]
    match step.action:
        case "submit":
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
        case "withdraw" if pairs:
            taken, known = pairs[step.which % len(pairs)]
            assert taken.withdraw() == model.withdraw(known)
        case "trip" if model.up and not model.lanes[step.lane].tripped:
            model.trip(step.lane)
            half.bus.trip(step.lane, "the test")
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
