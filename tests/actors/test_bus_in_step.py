"""A thousand cancellations at random instants: no reply reaches the wrong question."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
import trio
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    BreakerPolicy,
    Cause,
    CommandMoved,
    Event,
    MemberPolicy,
    Plan,
    Priority,
    RefusedError,
    Ticket,
)
from transports import GATEWAY, RS485, SERIAL, TCP, BusProfile

from .bench import Bench, Parts, Witness, WitnessModel, bench_running

WITHIN_S: Final = 0.05
LATENESS_S: Final = 0.10
EXAMPLES: Final = 60
ASKS: Final = 40

PATIENT: Final = BreakerPolicy(failures=10_000, open_s=0.05, max_open_s=0.05, jitter=0.0)


@frozen
class Kind:
    """A line, and who is on it."""

    profile: BusProfile
    units: str
    keeps_late: bool


KINDS: Final = {
    "serial": Kind(SERIAL, "A", keeps_late=True),
    "rs485": Kind(RS485, "ABC", keeps_late=True),
    "tcp": Kind(TCP, "A", keeps_late=False),
    "gateway": Kind(evolve(GATEWAY, shared=True), "ABC", keeps_late=True),
}


@frozen
class Step:
    """One question: to whom, how late it is answered, and how long its caller waits."""

    unit: int
    late_ms: int
    patience_ms: int
    gap_ms: int
    urgent: bool


STEPS: Final = st.lists(
    st.builds(
        Step,
        unit=st.integers(0, 2),
        late_ms=st.one_of(st.just(1), st.integers(1, 149)),
        patience_ms=st.integers(1, 160),
        gap_ms=st.integers(0, 60),
        urgent=st.integers(0, 9).map(lambda number: number == 0),
    ),
    min_size=ASKS,
    max_size=ASKS,
)


def parrot(device: Witness, tag: str, late_ms: int) -> Plan[str]:
    """Return a question that takes any reply for its answer: only the line can save it."""
    return Plan(
        name="ask",
        exchange=device.exchange(f"WAIT {late_ms / 1000} {tag}"),
        decode=lambda raw: raw.decode("latin-1"),
    )


class Run:
    """One example: callers that give up at random."""

    def __init__(self, kind: Kind) -> None:
        model = WitnessModel(*kind.units)
        self.devices = [Witness(unit.lower(), unit, within_s=WITHIN_S) for unit in kind.units]
        profile = evolve(kind.profile, lateness_s=LATENESS_S)
        parts = Parts(
            profile=profile,
            breaker=PATIENT,
            policy=MemberPolicy(breaker=PATIENT),
            keeps_late=kind.keeps_late,
        )
        self.bench = Bench(model, self.devices, parts)
        self.ended: Counter[int] = Counter()
        self.tickets: list[Ticket[str]] = []
        self.cancelled = 0
        self.answered = 0

    def observe(self, event: Event) -> None:
        """Count the ends of every command."""
        if isinstance(event, CommandMoved) and event.state.final:
            self.ended[event.seq] += 1

    async def call(self, number: int, steps: list[Step]) -> None:
        """Ask one question after the other, giving up when patience ends."""
        for index, step in enumerate(steps):
            device = self.devices[step.unit % len(self.devices)]
            tag = f"{number}.{index}"
            ticket: Ticket[str] | None = None
            with trio.move_on_after(step.patience_ms / 1000) as scope:
                try:
                    ticket = await self.bench.bus.submit(
                        device,
                        parrot(device, tag, step.late_ms),
                        priority=Priority.EMERGENCY if step.urgent else Priority.NORMAL,
                        watch_deadline=bool(index % 2),
                    )
                except RefusedError:
                    continue
                self.tickets.append(ticket)
                outcome = await ticket.outcome()
                if outcome.value is not None:
                    self.answered += 1
                    assert outcome.value.startswith(f"{device.unit}:ASK {tag} ")
                else:
                    assert outcome.cause in (Cause.TRANSPORT, Cause.TRIPPED, Cause.BREAKER)
            if scope.cancelled_caught:
                self.cancelled += 1
                assert ticket is not None
                ticket.withdraw()
            await trio.sleep(step.gap_ms / 1000)

    async def __call__(self, steps: list[Step]) -> None:
        """Let five callers share the steps; then everything has to be answered, in step."""
        bench = self.bench
        with bench.events.observed(self.observe, commands=True):
            async with bench_running(bench):
                await bench.in_service()
                async with trio.open_nursery() as nursery:
                    for number in range(5):
                        nursery.start_soon(self.call, number, steps[number::5])
                await trio.sleep(5)
                for ticket in self.tickets:
                    assert ticket.state.final
                    outcome = await ticket.outcome()
                    tag = ticket.command.plan.exchange.request.split()[-1].decode()
                    assert outcome.value is None or f" {tag} " in outcome.value
                await bench.in_service()
                for device in self.devices:
                    last = await bench.bus.submit(device, parrot(device, "last", 1))
                    value = (await last.outcome()).value
                    assert value is not None
                    assert value.startswith(f"{device.unit}:ASK last ")
        assert set(self.ended.values()) == {1}
        assert len(self.ended) == len(self.tickets) + len(self.devices)


@pytest.mark.parametrize("kind", KINDS)
def test_no_reply_reaches_the_wrong_question(kind: str) -> None:
    """However late replies are within the profile, and whoever gives up when."""
    totals: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(steps=STEPS)
    def example(steps: list[Step]) -> None:
        run = Run(KINDS[kind])
        trio.run(run, steps, clock=MockClock(autojump_threshold=0))
        totals["cancelled"] += run.cancelled
        totals["answered"] += run.answered

    example()
    # Four kinds of line: together over a thousand.
    assert totals["cancelled"] + totals["answered"] > EXAMPLES * ASKS // 2
    assert totals["cancelled"] >= 300
