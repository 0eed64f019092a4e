"""What must hold on every trace of a simulated bench, checked while it runs.

A violation is noted with its instant and never raised, so that a run shows all it has.
Two sources are compared: the events of the tree, and what the simulated lines saw.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from attrs import define, field, frozen

from actors import (
    PROBE_CUT,
    AttemptBegun,
    AttemptFailed,
    Batch,
    BreakerChanged,
    BreakerPolicy,
    BreakerState,
    BusOpened,
    Cause,
    Chain,
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    CommandMoved,
    CommandRefused,
    CommandState,
    Event,
    Instrument,
    InstrumentIdentified,
    InstrumentQuarantined,
    Intensity,
    JournalRow,
    LaneRearmed,
    LaneTripped,
    LeaseExpired,
    LeaseGranted,
    LeaseReleased,
    LeaseRevoked,
    RefusedError,
    Replay,
    SafeStateDue,
    SafeStateFailed,
    SafeStateReached,
    Setting,
    SettingsRefused,
    SettingsRestored,
    SupervisorGaveUp,
    first_seal,
)
from recorder import BEHIND_S
from transports import BoardTransport, Exchange, addressed

from .spec import TreeSpec

SIMULATED: Final = "simulation"
"""The run that the journal of a simulation is of."""

PLANNED_CRASH: Final = "a planned crash"
"""The text of the failures that a fault plan causes; any other failure is a violation."""

URGENT_S: Final = 15.0
"""How long an emergency may go without an outcome: the cut, getting into step, identifying."""

LOST_KEPT: Final = 64
"""Beyond so many, the older lost leases are forgotten: what was accepted under them is over."""

ONE_OUTCOME: Final = "exactly one outcome per accepted command"
PROMPT: Final = "outcomes are prompt"
TABLE: Final = "states move along the table"
NUMBERS: Final = "numbers rise"
BALANCED: Final = "accepted = completed + failed"
IN_FLIGHT: Final = "as many exchanges in flight as a bus bears, one per lane"
WITHDRAWN: Final = "what was withdrawn or refused never reaches the wire"
OWN_REPLY: Final = "no reply to the wrong question"
OPEN_REFUSES: Final = "nothing passes an open breaker"
BREAKER_SCHEDULE: Final = "a breaker waits as long as its failures in a row say"
IDENTITY_FIRST: Final = "identity before anything else"
READS_ONLY: Final = "after a trip only reads until rearm"
TRIP_EMPTIES: Final = "a trip empties the lane of writes"
LEASED: Final = "what is leased takes writes of its holder only, and a lost lease none"
LOST_TRIPS: Final = "a lost lease trips its instruments at once"
ONE_SAFE_STATE: Final = "one safe-state sequence per loss of control"
OWED_FIRST: Final = "owed safe states come before service"
HAZARD_ASKED: Final = "nothing hazardous unless it was asked for"
SAFE_AT_END: Final = "everything is safe at the end, or named"
PLANNED_ONLY: Final = "no crash but planned ones"
RESTART_ORDER: Final = "children stop in reverse and start in order"
INTENSITY: Final = "a supervisor bears its intensity, and no more"
NOTHING_LEFT: Final = "nothing is left after stop"
JOURNAL_CHAIN: Final = "the journal's batches follow one another"
JOURNAL_TABLE: Final = "the journal, replayed, obeys the table"
JOURNAL_FIRST: Final = "nothing hazardous is sent before it is in the journal"
JOURNAL_SOON: Final = "the journal is at most 100 ms behind"
JOURNAL_ENDS: Final = "every journaled command has one outcome"

# Asked for with each step: Python 3.11 takes as long to find a member in its class as to
# call a function.
_QUEUED: Final = CommandState.QUEUED
_DISPATCHED: Final = CommandState.DISPATCHED
_ACKNOWLEDGED: Final = CommandState.ACKNOWLEDGED
_COMPLETED: Final = CommandState.COMPLETED
_FAILED: Final = CommandState.FAILED

_NEXT: Final = {
    _QUEUED: (_DISPATCHED, _FAILED),
    _DISPATCHED: (_ACKNOWLEDGED, _FAILED),
    _ACKNOWLEDGED: (_COMPLETED, _FAILED),
    _COMPLETED: (),
    _FAILED: (),
}

_ROUNDING_S: Final = 1e-6


@frozen
class Violation:
    """An invariant that did not hold.

    Attributes:
        at_s: When, in simulated seconds.
        invariant: Which.
        text: What was seen.
    """

    at_s: float
    invariant: str
    text: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.at_s:.6f} s: {self.invariant}: {self.text}"


@define(eq=False)
class _Life:
    """What is known of one accepted command.

    Attributes:
        queued: What was told of it when it was accepted.
        since_s: When that was, in simulated seconds.
        state: The state it is in now.
    """

    queued: CommandMoved
    since_s: float
    state: CommandState = _QUEUED


@define(eq=False)
class _Place:
    """What is known of one instrument.

    Attributes:
        device: The instrument itself.
        unit: The address by which its requests are known.
        firsts: What it may be asked as soon as its bus is open; empty for anything.
        safe_requests: What drives it safe.
        lease: The lease it is under, or None.
        identified: Whether it was identified since its bus was opened.
        unsafe: Whether it was tripped and not driven safe since.
        named: Whether somebody was told that it could not be driven safe.
    """

    device: Instrument
    name: str
    bus: str
    unit: str | None = None
    firsts: frozenset[bytes] = frozenset()
    safe_requests: tuple[bytes, ...] = ()
    lease: int | None = None
    identified: bool = False
    tripped: bool = False
    unsafe: bool = False
    named: bool = False
    was_tripped: bool = False


@define(eq=False)
class _Waiting:
    """What is known of one breaker."""

    policy: BreakerPolicy
    openings: int = 0


@define(eq=False)
class _Group:
    """What is known of one supervisor."""

    intensity: Intensity
    order: Sequence[str] = ()
    restarts: deque[float] = field(factory=deque[float])
    # Whether a child has ended by itself since the last restart was decided.
    ended: bool = False
    # The children that restart together, until all are started.
    starting: list[str] = field(factory=list[str])
    started: list[str] = field(factory=list[str])
    stopped: list[str] = field(factory=list[str])

    def begin_anew(self) -> None:
        """Forget what its children have been through: it ended."""
        self.restarts.clear()
        self.ended = False
        self.starting, self.started, self.stopped = [], [], []

    def precedes(self, child: str) -> bool:
        """Return whether a child comes before the last that is to restart."""
        if not self.starting or child not in self.order:
            return True
        return self.order.index(child) <= self.order.index(self.starting[-1])


class Invariants:
    """Watches one tree.

    Attributes:
        prompt_s: How long an accepted command may go without an outcome, in seconds.
        checked: How often each invariant was looked at.
        violations: Those that did not hold.
        outcomes: Commands by how they ended: "completed", or the cause.
        refused: Refusals by cause.
        accepted: How many commands were accepted.
        restarts: How often children were started again.
        openings: How often breakers opened.
        gave_up: The supervisors that gave up.
        journal: What is in the journal, as it is on its disk.
    """

    def __init__(self, spec: TreeSpec, prompt_s: float, broken: Callable[[], None]) -> None:
        """Expect what follows from `spec`; call `broken` before the first violation is noted."""
        self.prompt_s = prompt_s
        self._broken = broken
        # Not a Counter: each count would cost twice as much.
        self.checked: defaultdict[str, int] = defaultdict(int)
        self.violations: list[Violation] = []
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.refused: defaultdict[str, int] = defaultdict(int)
        self.accepted = 0
        self.restarts = 0
        self.openings = 0
        self.gave_up: set[str] = set()
        self.journal = Replay()
        self._chain = Chain(first_seal(spec.name, SIMULATED))
        self._alive: dict[int, _Life] = {}
        # The commands on each line, and the instrument of each; how many a bus bears.
        self._in_flight: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._bears: dict[str, int] = {}
        # What each request was answered with, by bus and the instant it was sent, in ns.
        self._answers: defaultdict[str, dict[int, list[bytes]]] = defaultdict(dict)
        self._places: dict[str, _Place] = {}
        self._on: defaultdict[str, list[_Place]] = defaultdict(list)
        # Whom each request can do harm to, by bus: those of settings that are on or off.
        self._hazards: defaultdict[str, dict[bytes, list[_Place]]] = defaultdict(dict)
        self._breakers = {each.name: _Waiting(each.breaker) for each in spec.buses}
        for each in spec.instruments:
            # Events do not tell a bus from an instrument of the same name.
            known = self._breakers.pop(each.name, None)
            if known is None:
                self._breakers[each.name] = _Waiting(each.breaker)
        # The breakers that are open.
        self._open: set[str] = set()
        self._groups = {
            f"supervisor.{each.name}": _Group(
                each.intensity, [f"{kind.value}.{name}" for kind, name in each.children]
            )
            for each in spec.supervisors
        }
        # The buses that were opened and have been asked nothing yet.
        self._fresh: set[str] = set()
        # Commands that must be over as soon as time moves on, by whose and why.
        self._overdue: dict[tuple[str, str], list[int]] = {}
        self._now_s = 0.0
        self._lost: set[int] = set()
        # What has to be tripped as soon as time moves on, and for which lost lease.
        self._to_trip: dict[str, int] = {}
        # Who does not take back what it held, and waits for somebody to rearm it without.
        self._refusing: set[str] = set()
        # What takes each kind of event; the others say nothing that is checked.
        self._takes: Mapping[type[Event], Callable[[Any, float], None]] = {
            CommandMoved: self._command,
            AttemptFailed: self._attempt_failed,
            AttemptBegun: self._begun,
            CommandRefused: self._refused,
            BreakerChanged: self._breaker,
            BusOpened: self._opened,
            InstrumentIdentified: self._in_service,
            InstrumentQuarantined: self._quarantined,
            LaneTripped: self._trip,
            LaneRearmed: self._rearm,
            SafeStateDue: self._due,
            SafeStateReached: self._safe,
            SafeStateFailed: self._not_safe,
            SettingsRefused: self._refuses,
            SettingsRestored: self._restored,
            LeaseGranted: self._granted,
            LeaseReleased: self._free,
            LeaseExpired: self._lose,
            LeaseRevoked: self._lose,
            ChildStarted: self._child_started,
            ChildEnded: self._child_ended,
            ChildRestarting: self._child_restarting,
            SupervisorGaveUp: self._gave_up,
        }

    def expect(self, holds: object, at_s: float, invariant: str, text: str) -> None:
        """Note that an invariant was looked at, and a violation unless it holds."""
        self.checked[invariant] += 1
        if not holds:
            self._note(at_s, invariant, text)

    def _note(self, at_s: float, invariant: str, text: str) -> None:
        if not self.violations:
            self._broken()
        self.violations.append(Violation(at_s, invariant, text))

    def learn(self, instrument: Instrument) -> None:
        """Take note of an instrument that was put on its bus."""
        place = _Place(instrument, instrument.name, instrument.bus.name)
        before = self._places.pop(place.name, None)
        if before is not None:  # removed, and added again
            self._forget(before)
        self._places[place.name] = place
        self._bears[place.bus] = instrument.bus.transport.max_in_flight
        self._on[place.bus].append(place)
        self._learn_requests(place)

    def _learn_requests(self, place: _Place) -> None:
        """Take note of what tells an instrument apart, by the address that it has now."""
        instrument = place.device
        place.unit = instrument.unit
        script = instrument.identify()
        identity = next(script, None)  # a protocol may have no such question
        script.close()
        # Where the question was cut short, a fence follows it: harmless as well.
        fence = None if identity is None else instrument.fence([identity])
        # A board's requests carry the address that a real one has beside the data.
        on_board = isinstance(instrument.bus.transport, BoardTransport)

        def sent(exchange: Exchange) -> bytes:
            return (addressed(exchange) if on_board else exchange).request

        place.firsts = frozenset(sent(each) for each in (identity, fence) if each is not None)
        place.safe_requests = tuple(sent(plan.exchange) for plan in instrument.safe_plans())
        hazards: set[bytes] = set()
        for setting in instrument.parameters.values():
            if not isinstance(setting, Setting):
                continue
            limits = setting.limits
            for value in limits.choices or ((False, True) if setting.type is bool else ()):
                if limits.is_hazardous(value):
                    # What the driver refuses, as an address that another has, is never sent.
                    with suppress(RefusedError):
                        directive = setting.to(limits.plain(value))
                        hazards.add(sent(instrument.encode(directive, directive.instance)))
        # Some settings are hazardous whatever their value; driving safe asks for no leave.
        hazards.difference_update(place.safe_requests)
        self._forget_hazards(place)
        known = self._hazards[place.bus]
        for request in hazards:
            known.setdefault(_without_clearing(request), []).append(place)

    def _forget(self, place: _Place) -> None:
        self._on[place.bus].remove(place)
        self._forget_hazards(place)

    def _forget_hazards(self, place: _Place) -> None:
        for others in self._hazards[place.bus].values():
            if place in others:
                others.remove(place)

    def is_open(self, *names: str) -> bool:
        """Return whether the breaker of any of these buses and instruments is open."""
        return not self._open.isdisjoint(names)

    def is_unsafe(self, instrument: str) -> bool:
        """Return whether an instrument was tripped and has not been driven safe since."""
        place = self._places.get(instrument)
        return place is not None and place.unsafe

    def note_named(self, instrument: str) -> None:
        """Note that somebody was told that an instrument could not be driven safe."""
        if instrument in self._places:
            self._places[instrument].named = True

    def is_named(self, instrument: str) -> bool:
        """Return whether somebody was told that an instrument could not be driven safe."""
        place = self._places.get(instrument)
        return place is not None and place.named

    def is_refusing(self, instrument: str) -> bool:
        """Return whether an instrument said that it does not take its settings back."""
        return instrument in self._refusing

    def is_tripped(self, instrument: str) -> bool:
        """Return whether an instrument was tripped and has not been rearmed since."""
        place = self._places.get(instrument)
        return place is not None and place.tripped

    # What happens.

    def observe(self, event: Event) -> None:
        """Take one event of the tree."""
        at_s = event.mono_ns / 1e9
        if at_s > self._now_s:
            self._now_s = at_s
            if self._to_trip or self._overdue:
                self._look_back(at_s)
        take = self._takes.get(type(event))
        if take is not None:
            take(event, at_s)

    def see(self, bus: str, asked: bytes, at_ns: int, answers: Sequence[bytes]) -> None:
        """Take what a line was asked, and what may be taken for the answer."""
        at_s = at_ns / 1e9
        said = self._answers[bus].setdefault(at_ns, [])
        said += answers
        if bus in self._fresh:
            self._fresh.discard(bus)
            places = self._on[bus]
            self.expect(
                not places or any(asked in (place.firsts or (asked,)) for place in places),
                at_s,
                IDENTITY_FIRST,
                f"{bus} was asked {asked!r} as soon as it was open",
            )
        for place in self._hazards[bus].get(_without_clearing(asked), ()):
            self._hazard(place.name, place, asked, at_s)

    def see_batch(self, batch: Batch, at_s: float, *, calm: bool) -> None:
        """Take a batch of the journal; `calm` says that nothing has kept it from its disk."""
        why = self._chain.check(batch)
        self.expect(why is None, at_s, JOURNAL_CHAIN, why or "")
        for cells in batch.cells:
            row = JournalRow.from_cells(cells)
            trouble = self.journal.step(row)
            self.expect(trouble is None, at_s, JOURNAL_TABLE, trouble or "")
            if not calm:
                continue
            self.checked[JOURNAL_SOON] += 1
            behind_s = at_s - row.mono_ns / 1e9
            if behind_s > BEHIND_S + _ROUNDING_S:
                text = f"a row of {row.instrument} was written {behind_s:.3f} s after it was taken"
                self._note(at_s, JOURNAL_SOON, text)

    def finish_journal(self, at_s: float) -> None:
        """Check what must be true of a journal that was written to its end."""
        left = list(self.journal.open)
        self.expect(
            not left,
            at_s,
            JOURNAL_ENDS,
            f"{len(left)} commands are open in the journal: {left[:5]}",
        )

    def finish(self, at_s: float) -> None:
        """Check what must be true once the tree has stopped."""
        self._look_back(at_s)
        left = sorted(self._alive)
        self.expect(not left, at_s, ONE_OUTCOME, f"{len(left)} commands never ended: {left[:5]}")
        ended = sum(self.outcomes.values())
        self.expect(
            self.accepted == ended, at_s, BALANCED, f"{self.accepted} accepted, {ended} ended"
        )
        for name, place in self._places.items():
            if place.safe_requests:
                self.expect(
                    place.was_tripped and (place.named or not place.unsafe),
                    at_s,
                    SAFE_AT_END,
                    f"{name} was neither driven safe nor named",
                )

    def check_promptness(self, at_s: float) -> None:
        """Check that no accepted command waits longer than it may."""
        for seq, life in self._alive.items():
            within_s = URGENT_S if life.queued.urgent else self.prompt_s
            self.checked[PROMPT] += 1
            if at_s - life.since_s > within_s:
                who = f"command {seq} of {life.queued.instrument}"
                self._note(at_s, PROMPT, f"{who} has waited since {life.since_s:.3f} s")

    def _look_back(self, at_s: float) -> None:
        """Look at what had to be over in the instant that is past."""
        for name, token in self._to_trip.items():
            self._note(at_s, LOST_TRIPS, f"{name} was not tripped when lease {token} was lost")
        self._to_trip.clear()
        for (name, why), waiting in self._overdue.items():
            left = [seq for seq in waiting if seq in self._alive]
            self.expect(not left, at_s, PROMPT, f"{name}: {why}, and commands {left[:5]} go on")
        self._overdue.clear()

    def _expect_end(self, name: str, why: str, *, is_bus: bool) -> None:
        """Expect that what waits for a bus or an instrument now has ended when time moves on."""
        self._overdue[name, why] = [
            seq
            for seq, life in self._alive.items()
            if (life.queued.bus if is_bus else life.queued.instrument) == name
            and not life.queued.urgent
        ]

    # Commands.

    def _command(self, event: CommandMoved, at_s: float) -> None:
        state = event.state
        if state is _QUEUED:
            self._accepted(event, at_s)
            return
        life = self._alive.get(event.seq)
        if life is None:
            self.expect(
                False,
                at_s,
                ONE_OUTCOME,
                f"command {event.seq} moved to {event.state.name} after its end",
            )
            return
        self.checked[TABLE] += 1
        if state not in _NEXT[life.state]:
            text = f"command {event.seq} went from {life.state.name} to {state.name}"
            self._note(at_s, TABLE, text)
        life.state = state
        if state is _DISPATCHED:
            self._dispatched(event, at_s)
            return
        self._in_flight[event.bus].pop(event.seq, None)
        if state is not _ACKNOWLEDGED:
            self._ended(event, at_s)

    def _accepted(self, event: CommandMoved, at_s: float) -> None:
        # Who waited for room was given a number before.
        self.checked[NUMBERS] += 1
        if event.seq in self._alive:
            self._note(at_s, NUMBERS, f"{event.seq} was given twice")
        self.accepted += 1
        self._alive[event.seq] = _Life(event, at_s)
        if not event.urgent:
            self._check_open(event, at_s, "accepted")

    def _check_open(self, event: CommandMoved, at_s: float, step: str) -> None:
        self.checked[OPEN_REFUSES] += 1
        if not self._open:
            return
        for name in (event.bus, event.instrument):
            if name in self._open:
                text = f"{event.instrument}: {event.command} was {step} while {name} was open"
                self._note(at_s, OPEN_REFUSES, text)

    def _dispatched(self, event: CommandMoved, at_s: float) -> None:
        self._on_the_line(event, at_s)
        if event.urgent:
            return
        if event.hazardous:
            self.expect(
                event.seq in self.journal.open,
                at_s,
                JOURNAL_FIRST,
                f"{event.instrument}: {event.command} was sent as number {event.seq}",
            )
        place = self._places.get(event.instrument)
        if place is None:
            return
        self._check_open(event, at_s, "sent")
        self.checked[IDENTITY_FIRST] += 1
        if not place.identified:
            text = f"{event.instrument}: {event.command} was sent before it was identified"
            self._note(at_s, IDENTITY_FIRST, text)
        self.checked[OWED_FIRST] += 1
        if place.unsafe:
            text = f"{event.instrument}: {event.command} was sent before it was driven safe"
            self._note(at_s, OWED_FIRST, text)
        self.checked[READS_ONLY] += 1
        if place.tripped and event.writes:
            self._note(at_s, READS_ONLY, f"{event.instrument}: {event.command} was sent")
        if event.writes:
            self.checked[LEASED] += 1
            if event.lease in self._lost or place.lease not in (None, event.lease):
                text = (
                    f"{event.instrument}: {event.command} was sent under lease {event.lease}, "
                    f"and it is under {place.lease}"
                )
                self._note(at_s, LEASED, text)

    def _begun(self, event: AttemptBegun, at_s: float) -> None:
        life = self._alive.get(event.seq)
        self.checked[TABLE] += 1
        if life is None or life.state is not _DISPATCHED:
            self._note(at_s, TABLE, f"command {event.seq} was tried again though it was not sent")
            return
        self._on_the_line(event, at_s)
        place = self._places.get(event.instrument)
        self.checked[READS_ONLY] += 1
        if place is not None and place.tripped and life.queued.writes:
            self._note(at_s, READS_ONLY, f"{event.instrument}: {event.command} was sent again")

    def _on_the_line(self, event: CommandMoved | AttemptBegun, at_s: float) -> None:
        self.checked[IN_FLIGHT] += 1
        bus, name = event.bus, event.instrument
        others = self._in_flight[bus]
        if others and (len(others) >= self._bears.get(bus, 1) or name in others.values()):
            text = f"{bus}: command {event.seq} of {name} was sent while {others} were in flight"
            self._note(at_s, IN_FLIGHT, text)
        others[event.seq] = name

    def _attempt_failed(self, event: AttemptFailed, at_s: float) -> None:
        del at_s
        self._in_flight[event.bus].pop(event.seq, None)

    def _ended(self, event: CommandMoved, at_s: float) -> None:
        del self._alive[event.seq]
        if event.state is not _COMPLETED:
            self.outcomes[(event.cause or Cause.CRASHED).value] += 1
            return
        self.outcomes["completed"] += 1
        if event.writes and (place := self._places.get(event.instrument)) is not None:
            self._follow(place)
        sent_ns = event.sent_ns
        if sent_ns is None:
            return
        answers = self._answers[event.bus]
        said = answers.get(sent_ns, [])
        self.checked[OWN_REPLY] += 1
        for each in said:
            if event.reply in each:
                break
        else:
            if not _put_together(event.reply, said):
                text = (
                    f"{event.instrument}: {event.command} was answered {event.reply!r}, "
                    f"its own answer was {said}"
                )
                self._note(at_s, OWN_REPLY, text)
        # No later exchange looks back this far, unless another one goes on beside it.
        if not self._in_flight[event.bus]:
            for earlier_ns in [each for each in answers if each < sent_ns]:
                del answers[earlier_ns]

    def _refused(self, event: CommandRefused, at_s: float) -> None:
        del at_s
        self.refused[event.cause.value] += 1

    # Breakers and identity.

    def _breaker(self, event: BreakerChanged, at_s: float) -> None:
        if event.reason == PROBE_CUT:
            return  # it waits as it did before its probe
        self.openings += event.state is BreakerState.OPEN
        breaker = self._breakers.get(event.name)
        if breaker is None:
            return
        if event.state is BreakerState.CLOSED:
            self._open.discard(event.name)
            breaker.openings = 0
        elif event.state is BreakerState.OPEN:
            self._open.add(event.name)
            policy = breaker.policy
            least_s = min(policy.open_s * 2.0 ** min(breaker.openings, 60), policy.max_open_s)
            breaker.openings += 1
            wait_s = event.retry_after_s
            self.expect(
                wait_s is not None
                and least_s - _ROUNDING_S
                <= wait_s
                <= least_s * (1.0 + policy.jitter) + _ROUNDING_S,
                at_s,
                BREAKER_SCHEDULE,
                f"{event.name} waits {wait_s} s after {breaker.openings} openings in a row, "
                f"not {least_s:g} s: {event.reason}",
            )
            is_bus = event.name not in self._places
            self._expect_end(event.name, "its breaker opened", is_bus=is_bus)

    def _opened(self, event: BusOpened, at_s: float) -> None:
        del at_s
        self._fresh.add(event.bus)
        for place in self._on[event.bus]:
            place.identified = False
            self._follow(place)

    def _follow(self, place: _Place) -> None:
        """Learn an instrument's requests anew where it goes by another address now."""
        if place.unit != place.device.unit:
            self._learn_requests(place)

    def _in_service(self, event: InstrumentIdentified, at_s: float) -> None:
        del at_s
        place = self._places.get(event.instrument)
        if place is not None:
            place.identified = True
            self._follow(place)  # it may have been found under another address

    def _quarantined(self, event: InstrumentQuarantined, at_s: float) -> None:
        del at_s
        self._expect_end(event.instrument, "it was quarantined", is_bus=False)

    # Safety.

    def _trip(self, event: LaneTripped, at_s: float) -> None:
        name = event.instrument
        left = [
            seq
            for seq, life in self._alive.items()
            if life.queued.instrument == name
            and life.queued.writes
            and not life.queued.urgent
            and life.state is _QUEUED
        ]
        # One may be in hand, waiting for the line to get into step; it is looked at before
        # its first byte.
        self.expect(len(left) <= 1, at_s, TRIP_EMPTIES, f"{name}: {left[:5]} still wait")
        place = self._places.get(name)
        if place is None:
            return
        place.tripped = place.was_tripped = True
        self._to_trip.pop(name, None)
        if place.lease in self._lost:
            place.lease = None
        if place.safe_requests:
            self.expect(
                not place.unsafe, at_s, ONE_SAFE_STATE, f"{name} was tripped twice, not safe yet"
            )
            place.unsafe, place.named = True, False

    def _granted(self, event: LeaseGranted, at_s: float) -> None:
        for name in event.instruments:
            place = self._places.get(name)
            if place is not None:
                self.expect(
                    place.lease is None or place.lease in self._lost,
                    at_s,
                    LEASED,
                    f"{name} was leased to {event.token} while {place.lease} has it",
                )
                place.lease = event.token

    def _lose(self, event: LeaseExpired | LeaseRevoked, at_s: float) -> None:
        del at_s
        self._lost.add(event.token)
        if len(self._lost) > LOST_KEPT:
            # Tokens rise: the highest are the latest.
            held = {place.lease for place in self._places.values()}
            latest = sorted(self._lost)[-LOST_KEPT // 2 :]
            self._lost = (self._lost & held) | set(latest)
        for name in event.instruments:
            place = self._places.get(name)
            if place is None:
                continue
            self.checked[LOST_TRIPS] += 1
            if place.tripped:
                place.lease = None
            else:
                self._to_trip[name] = event.token

    def _free(self, event: LeaseReleased, at_s: float) -> None:
        del at_s
        for place in self._places.values():
            if place.lease == event.token:
                place.lease = None

    def _due(self, event: SafeStateDue, at_s: float) -> None:
        del at_s
        place = self._places.get(event.instrument)
        if place is not None:
            place.unsafe, place.named = True, False

    def _rearm(self, event: LaneRearmed, at_s: float) -> None:
        name = event.instrument
        place = self._places.get(name)
        if place is not None:
            place.tripped = False
            self.expect(not place.unsafe, at_s, OWED_FIRST, f"{name} was rearmed, not safe yet")

    def _safe(self, event: SafeStateReached, at_s: float) -> None:
        name = event.instrument
        place = self._places.get(name)
        if place is not None:
            self.expect(
                place.unsafe,
                at_s,
                ONE_SAFE_STATE,
                f"{name} was driven safe though nothing asked for it",
            )
            place.unsafe = False

    def _not_safe(self, event: SafeStateFailed, at_s: float) -> None:
        del at_s
        self.note_named(event.instrument)

    def _refuses(self, event: SettingsRefused, at_s: float) -> None:
        del at_s
        self._refusing.add(event.instrument)

    def _restored(self, event: SettingsRestored, at_s: float) -> None:
        del at_s
        self._refusing.discard(event.instrument)

    def _hazard(self, name: str, place: _Place, asked: bytes, at_s: float) -> None:
        lives = [self._alive.get(seq) for seq in self._in_flight[place.bus]]
        self.expect(
            any(
                life is not None and life.queued.instrument == name and life.queued.writes
                for life in lives
            ),
            at_s,
            HAZARD_ASKED,
            f"{name} was told {asked!r}",
        )
        self.expect(
            not place.tripped,
            at_s,
            READS_ONLY,
            f"{name} was told {asked!r}, and is tripped",
        )

    # Supervision.

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            bears = Intensity(max_restarts=0) if name == "root" else Intensity()
            group = self._groups[name] = _Group(bears)
        return group

    def _child_ended(self, event: ChildEnded, at_s: float) -> None:
        if event.error is not None and event.supervisor != "root":
            self.expect(
                PLANNED_CRASH in event.error,
                at_s,
                PLANNED_ONLY,
                f"{event.child}: {event.error}",
            )
        # What is supervised alone goes by the name of its supervisor.
        if event.child != event.supervisor and event.child in self._groups:
            self._groups[event.child].begin_anew()
        group = self._group(event.supervisor)
        if event.stopped:
            group.stopped.append(event.child)
            return
        group.ended = True
        group.stopped.clear()

    def _child_restarting(self, event: ChildRestarting, at_s: float) -> None:
        self.restarts += 1
        group = self._group(event.supervisor)
        # A group restarts in order: one that begins again is another one.
        if group.ended or group.precedes(event.child):
            group.ended = False
            self._spend(group, at_s)
            self.expect(
                len(group.restarts) <= group.intensity.max_restarts,
                at_s,
                INTENSITY,
                f"{event.supervisor} restarts {event.child} as number {len(group.restarts)} "
                f"within {group.intensity.window_s:g} s",
            )
            self._check_order(event.supervisor, group, list(reversed(group.stopped)), at_s)
            group.stopped.clear()
            group.starting, group.started = [], []
        group.starting.append(event.child)

    def _child_started(self, event: ChildStarted, at_s: float) -> None:
        self.gave_up.discard(event.child)  # a group within a group, started again
        group = self._group(event.supervisor)
        if event.child in group.starting:
            group.started.append(event.child)
            self._check_order(event.supervisor, group, group.started, at_s)

    def _gave_up(self, event: SupervisorGaveUp, at_s: float) -> None:
        name = event.supervisor
        self.gave_up.add(name)
        group = self._group(name)
        self._spend(group, at_s)
        self.expect(
            len(group.restarts) > group.intensity.max_restarts,
            at_s,
            INTENSITY,
            f"{name} gave up after {len(group.restarts)} failures "
            f"within {group.intensity.window_s:g} s",
        )

    def _spend(self, group: _Group, at_s: float) -> None:
        restarts = group.restarts
        restarts.append(at_s)
        while at_s - restarts[0] > group.intensity.window_s + _ROUNDING_S:
            restarts.popleft()

    def _check_order(self, name: str, group: _Group, seen: Sequence[str], at_s: float) -> None:
        places = [group.order.index(each) for each in seen if each in group.order]
        self.expect(
            all(earlier < later for earlier, later in pairwise(places)),
            at_s,
            RESTART_ORDER,
            f"{name}: {', '.join(seen)}",
        )


def _without_clearing(request: bytes) -> bytes:
    """Return a request as it is where no errors are left: SCPI drivers clear those before it."""
    return request.replace(b"*CLS;:", b"", 1).replace(b"*CLS;", b"", 1)


def _put_together(reply: bytes, said: Sequence[bytes]) -> bool:
    """Return whether `reply` is several lines of what was said, in their order, without ends."""
    lines = reply.split(b"\n")
    if len(lines) == 1:
        return False
    whole = b"".join(said)
    at = 0
    for line in lines:
        at = whole.find(line, at)
        if at < 0:
            return False
        at += len(line)
    return True
