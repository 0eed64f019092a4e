"""What makes plain PyVISA lose step for good ends with the right value or a typed fault.

Each experiment runs many times at once, each time on a line of its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from attrs import define, evolve

from tests.support.stepwise import ask
from tests.transports.kinds import KINDS, Kind, simulated_visa
from transports import (
    GPIB,
    USBTMC,
    ConnectError,
    EchoModel,
    LineState,
    PeerLostError,
    ReplyTimeoutError,
    SimLine,
    SimReply,
    Transport,
)

REPETITIONS = 20
SOAKED = 200

VISA = ("visa-socket", "visa-serial", "visa-hislip", "visa-gpib", "visa-usbtmc")


class Halves(EchoModel):
    """Sends the reply to `HALVES x` in two halves, 200 ms apart."""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer in two pieces, or say it back."""
        if not data.startswith(b"HALVES "):
            return super().receive(data, now_s)
        reply = data.removeprefix(b"HALVES ")
        middle = len(reply) // 2
        return [SimReply(reply[:middle]), SimReply(reply[middle:], delay_s=0.2)]


@define
class Trial:
    """One repetition: a line, a transport to it, and words that nobody else uses."""

    line: SimLine
    transport: Transport
    number: int
    unit: str | None
    chance: random.Random

    async def ask(self, text: str, within_s: float = 1.0) -> str:
        """Ask in step."""
        return await ask(self.transport, text, within_s=within_s, unit=self.unit)

    async def check(self, count: int = 3) -> None:
        """Ask what has one right answer each."""
        for index in range(count):
            word = f"{self.number}-{index}"
            assert await self.ask(f"ECHO {word}") == word


async def late_reply(trial: Trial) -> None:
    """A reply that comes after its exchange timed out answers nothing."""
    trial.line.late(trial.chance.uniform(0.03, 0.15))
    with pytest.raises(ReplyTimeoutError) as silent:
        await trial.ask(f"ECHO late-{trial.number}", within_s=0.02)
    assert silent.value.waited_s == 0.02
    await trial.check()


async def cancelled_read(trial: Trial) -> None:
    """A read that is cancelled returns at once, and its reply answers nothing."""
    await trial.check(1)
    began_s = trio.current_time()
    with trio.move_on_after(trial.chance.uniform(0.0, 0.05)) as scope:
        await trial.ask(f"WAIT 0.1 cancelled-{trial.number}")
    assert scope.cancelled_caught
    assert trio.current_time() - began_s < 5.0
    await trial.check()


async def two_halves(trial: Trial) -> None:
    """A reply in two halves is one reply where there is time for both, else none."""
    assert await trial.ask(f"HALVES whole-{trial.number}") == f"whole-{trial.number}"
    with pytest.raises(ReplyTimeoutError):
        await trial.ask(f"HALVES torn-{trial.number}", within_s=0.1)
    await trial.check()


async def unplug_and_replug(trial: Trial) -> None:
    """An unplug is one fault; plugged in again, the line is opened anew and in step."""
    await trial.check(1)
    trial.line.unplug()
    with pytest.raises((PeerLostError, ConnectError)):
        await trial.ask(f"ECHO gone-{trial.number}")
    if trial.unit is None:
        assert trial.transport.state is LineState.CLOSED
        with pytest.raises(ConnectError):
            await trial.transport.open()
    else:
        with pytest.raises(ConnectError):
            await trial.ask(f"ECHO gone-{trial.number}")
    trial.line.replug()
    if trial.unit is None:
        await trial.transport.open()
    await trial.check()


EXPERIMENTS: dict[str, Callable[[Trial], Awaitable[None]]] = {
    each.__name__: each for each in (late_reply, cancelled_read, two_halves, unplug_and_replug)
}


def kind_of(name: str, number: int) -> Kind:
    """Return the kind, simulated resources each with a board or a serial number of its own."""
    if name == "visa-gpib":
        return simulated_visa(f"GPIB{number}::5::INSTR", GPIB, "5")
    if name == "visa-usbtmc":
        return simulated_visa(f"USB0::0x1AB1::0x0588::SIM{number}::INSTR", USBTMC)
    return KINDS[name]


async def repeat(name: str, experiment: Callable[[Trial], Awaitable[None]], times: int) -> int:
    """Run an experiment so many times at once and return how often it ended well."""
    passed = 0

    async def once(number: int) -> None:
        nonlocal passed
        kind = kind_of(name, number).bench
        line = SimLine(Halves())
        async with kind.serve(line, kind.keeps_late) as make:
            transport = make(evolve(kind.profile, lateness_s=0.4, close_within_s=5.0))
            await transport.open()
            try:
                await experiment(Trial(line, transport, number, kind.unit, random.Random(number)))
            finally:
                await transport.aclose()
        passed += 1

    with trio.fail_after(60):
        for first in range(0, times, REPETITIONS):
            async with trio.open_nursery() as nursery:
                for number in range(first, min(first + REPETITIONS, times)):
                    nursery.start_soon(once, number)
    return passed


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("kind", VISA)
async def test_experiments(kind: str, experiment: str) -> None:
    """Twenty times on every kind of VISA line: no wrong value."""
    assert await repeat(kind, EXPERIMENTS[experiment], REPETITIONS) == REPETITIONS


@pytest.mark.parametrize("kind", ["visa-socket", "visa-serial", "visa-hislip"])
async def test_a_long_read_that_is_cancelled(kind: str) -> None:
    """Who asks next does not wait for the time limit of a read that was given up."""
    bench = KINDS[kind].bench
    line = SimLine(EchoModel())
    async with bench.serve(line, bench.keeps_late) as make:
        transport = make(bench.profile)
        await transport.open()
        try:
            line.lose()
            with trio.move_on_after(0.05) as scope:
                await ask(transport, "ECHO never", within_s=300.0)
            assert scope.cancelled_caught
            with trio.fail_after(20.0):
                assert await ask(transport, "ECHO next") == "next"
        finally:
            await transport.aclose()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("kind", VISA)
async def test_experiments_soaked(kind: str, experiment: str) -> None:
    """Two hundred times on every kind of VISA line: no wrong value."""
    assert await repeat(kind, EXPERIMENTS[experiment], SOAKED) == SOAKED
