"""Commands of a whole tree over real ports: no answer to another's question, none lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from attrs import evolve

from actors import (
    BreakerPolicy,
    Cause,
    CommandError,
    CommandMoved,
    CommandState,
    Directive,
    Priority,
    Setting,
)
from actors.instruments.scpi import PowerSupply, ScpiInstrument
from actors.instruments.scpi.models import PowerSupplyModel
from actors.parameter import Assignment
from benchtree import open_tree
from transports import (
    SERIAL,
    TCP,
    BusProfile,
    EchoModel,
    Exchange,
    SimLine,
    serve_pty,
    serve_tcp,
)

CANCELLATIONS = 100
DEADLINE_S = 0.01
LATENESS_S = 0.03
# What the profile allows for: on a busy machine a reply is later than its device made it.
ALLOWED_S = 1.0
PLAIN_QUESTIONS = 20
PATIENCE_S = 2.0
ON, OFF = b"OUTP 1", b"OUTP 0"

Serve = Callable[[SimLine, Path], AbstractAsyncContextManager[str]]


class Questioner(ScpiInstrument):
    """Asks questions that their answers repeat.

    Attributes:
        waits_s: How long it waits for an answer, in seconds.
        right: The questions that were answered.
        wrong: The questions and answers that did not belong together.
    """

    question = Setting("WAIT", type=str)
    check_errors = False
    reply_within_s = DEADLINE_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Start without an answer."""
        super().__init__(*arguments, **named)
        self.right: set[str] = set()
        self.waits_s = DEADLINE_S
        self.wrong: list[tuple[str, str]] = []

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Ask; the value is how long the device shall wait, and the question."""
        del instance
        assert isinstance(directive, Assignment)
        request = f"WAIT {directive.value}\n".encode()
        return Exchange(request, self.unit, self.waits_s)

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Compare the answer with the question."""
        assert isinstance(directive, Assignment)
        question = str(directive.value).split()[1]
        if raw.decode() == question:
            self.right.add(question)
        else:
            self.wrong.append((question, raw.decode()))


@asynccontextmanager
async def _by_tcp(line: SimLine, folder: Path) -> AsyncGenerator[str]:
    del folder
    async with serve_tcp(line) as address:
        yield address


def _by_pty(line: SimLine, folder: Path) -> AbstractAsyncContextManager[str]:
    return serve_pty(line, link=folder / "tty")


@pytest.mark.parametrize(
    ("serve", "profile"), [(_by_tcp, TCP), (_by_pty, SERIAL)], ids=["tcp", "pty"]
)
async def test_cancellations(serve: Serve, profile: BusProfile, tmp_path: Path) -> None:
    """Answers that come after their deadline answer nothing else; each command ends once."""
    random = Random(1)
    accepted: Counter[int] = Counter()
    ended: Counter[int] = Counter()

    def count(event: object) -> None:
        if isinstance(event, CommandMoved):
            if event.state is CommandState.QUEUED:
                accepted[event.seq] += 1
            elif event.state.final:
                ended[event.seq] += 1

    line = SimLine(EchoModel())
    async with serve(line, tmp_path) as address, open_tree() as tree:
        device = await tree.add(
            "device",
            Questioner,
            address,
            profile=evolve(profile, lateness_s=ALLOWED_S),
            breaker=BreakerPolicy(failures=10 * CANCELLATIONS),
        )
        cancelled = number = 0
        causes: set[Cause] = set()
        with tree.events.observed(count, commands=True), trio.fail_after(60.0):
            while cancelled < CANCELLATIONS:
                number += 1
                # Some in time, some late; some asked while the last one is still awaited.
                delay_s = random.choice([0.0, random.uniform(0.0, DEADLINE_S + LATENESS_S)])
                await trio.sleep(random.choice([0.0, DEADLINE_S]))
                with trio.move_on_after(DEADLINE_S) as scope:
                    try:
                        await device.question.set(f"{delay_s:.4f} q{number}")
                    except CommandError as failed:
                        causes.add(failed.cause)
                cancelled += scope.cancelled_caught
            # How many of those were answered is up to the machine. With time enough, all are.
            device.waits_s = PATIENCE_S
            await _insist(lambda: device.question.set("0 first"))
            for each in range(PLAIN_QUESTIONS):
                await device.question.set(f"0 plain{each}")
            assert device.right >= {f"plain{each}" for each in range(PLAIN_QUESTIONS)}
        counters = device.bus.transport.counters
        assert counters.timeouts
        assert counters.resyncs
    assert not device.wrong
    assert causes <= {Cause.TRANSPORT, Cause.EXPIRED}
    assert set(accepted.values()) == {1}
    assert ended == accepted


async def _insist(attempt: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await attempt()
            return
        except CommandError:
            await trio.sleep(DEADLINE_S)


async def test_emergency_passes_a_thousand_commands() -> None:
    """Off reaches the wire after one exchange at most, and nothing turns it on again."""
    model = PowerSupplyModel()
    line = SimLine(model, latency_s=0.002)
    async with serve_tcp(line) as address, open_tree() as tree:
        psu = await tree.add("psu", PowerSupply, address)
        await psu.output.set(True, confirm=True)
        tickets = [await psu.output.submit(True, confirm=True) for _ in range(1000)]
        await tickets[2].outcome()
        sent = len(line.requests)
        off = await psu.output.submit(False, priority=Priority.EMERGENCY)
        assert (await off.outcome()).ok
        assert not model.output_on
        outcomes = [await ticket.outcome() for ticket in tickets]
        await psu.voltage.get()
        assert not model.output_on
    requests = [data for _, data in line.requests]
    assert any(data.startswith(ON) for data in requests[:sent])
    after = requests[sent:]
    place = next((place for place, data in enumerate(after) if data.startswith(OFF)), None)
    assert place in (0, 1)
    assert not any(data.startswith(ON) for data in after[place:])
    assert {outcome.cause for outcome in outcomes[5:]} == {Cause.TRIPPED}
    assert not any(outcome.may_have_executed for outcome in outcomes[5:])
