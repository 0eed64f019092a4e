"""Operations that go on after their exchange: followed, called off, never left running."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from actors import (
    Acknowledge,
    Cause,
    CommandError,
    CommandState,
    OperationStopped,
    Priority,
    Progress,
    RefusedError,
    Setting,
    Ticket,
)
from actors.faults import TIMEOUT
from actors.instruments.scpi import (
    Multimeter,
    PowerSupply,
    PowerSupplyModel,
    ScpiInstrument,
    SignalGenerator,
    SignalGeneratorModel,
)
from actors.parameter import Operation
from transports import GPIB, SimReply

from .board import ONCE, GpibBoard, gpib_board

EXCHANGE_S = 0.005
DRIVERS = {"generator": SignalGenerator, "meter": Multimeter, "psu": PowerSupply}


class Hasty(SignalGenerator):
    """A generator whose sweep is given half a second."""

    sweep = Operation("INIT", abort="ABOR", progress="SWE:PROG", within_s=0.5)


class Endless(SignalGenerator):
    """A generator that cannot be told to stop."""

    sweep = Operation("INIT")


class Forgetful(SignalGeneratorModel):
    """A generator that does not answer when it is asked how a sweep went.

    Attributes:
        forgets: How often yet.
    """

    forgets = 0

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer, or forget to."""
        replies = super().receive(data, now_s)
        if data == b"SYST:ERR?\n" and self.forgets:
            self.forgets -= 1
            return []
        return replies


def bench(generator: type[SignalGenerator] = SignalGenerator) -> Any:
    """Return a board whose exchanges take 5 ms."""
    return gpib_board({**DRIVERS, "generator": generator}, latency_s=EXCHANGE_S)


async def sweeping(board: GpibBoard, time_s: float = 1.0) -> Ticket[None]:
    """Begin a sweep."""
    generator = board.get("generator", SignalGenerator)
    await generator.sweep_time.set(time_s)
    return await generator.sweep.submit()


async def test_a_sweep_delays_nobody(autojump_clock: MockClock) -> None:
    """Beside a 1 s sweep, another instrument's 5 ms query waits for one exchange at most."""
    async with bench() as board:
        meter = board.get("meter", Multimeter)
        took: list[float] = []
        began_s = trio.current_time()
        await meter.voltage.get()
        alone_s = trio.current_time() - began_s
        ticket = await sweeping(board)
        while not ticket.state.final:
            began_s = trio.current_time()
            await meter.voltage.get()
            took.append(trio.current_time() - began_s)
            await trio.sleep(0.003)
        assert (await ticket.outcome()).ok
        assert len(took) > 50
        assert max(took) <= alone_s + EXCHANGE_S + 1e-6
        assert not any("*OPC?" in text for _, text in board.sent("generator"))


async def test_progress_is_streamed(autojump_clock: MockClock) -> None:
    """Progress comes at least every 100 ms while others use the bus, and rises to the end."""
    async with bench() as board:
        meter = board.get("meter", Multimeter)
        seen: list[tuple[float, Progress]]

        async def chatter() -> None:
            while True:
                await meter.voltage.get()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(chatter)
            began_s = trio.current_time()
            ticket = await sweeping(board)
            seen = [(trio.current_time(), each) async for each in ticket.progress()]
            nursery.cancel_scope.cancel()
        assert ticket.state is CommandState.COMPLETED
        instants = [began_s, *(at_s for at_s, _ in seen)]
        assert max(later - earlier for earlier, later in pairwise(instants)) <= 0.1
        fractions = [each.fraction for _, each in seen]
        assert fractions == sorted(each or 0.0 for each in fractions)
        assert [each.done for _, each in seen] == [False] * (len(seen) - 1) + [True]
        assert [each async for each in ticket.progress()] == [seen[-1][1]]


async def test_whoever_has_seen_enough(autojump_clock: MockClock) -> None:
    """Looking at progress may be left off at any time, and begun again; nothing warns."""
    async with bench() as board:
        ticket = await sweeping(board)
        async for progress in ticket.progress():
            if (progress.fraction or 0.0) > 0.5:
                break
        gc.collect()
        assert not ticket.state.final
        *_, last = [each async for each in ticket.progress()]
        assert last.done


async def test_it_holds_its_lane(autojump_clock: MockClock) -> None:
    """It is acknowledged when the device took it; what follows waits until it is done."""
    async with bench() as board:
        ticket = await sweeping(board)
        after = await board.get("generator", SignalGenerator).sweep_time.submit(2.0)
        await trio.sleep(0.5)
        assert ticket.state is CommandState.ACKNOWLEDGED
        assert ticket.acknowledgement == b'+0,"No error"'
        assert after.state is CommandState.QUEUED
        assert [each.seq for each in board.bus.tickets()] == [ticket.seq, after.seq]
        (status, *_) = board.bus.status().instruments
        assert status.engaged == "sweep"
        assert (await after.outcome()).ok
        assert (await ticket.outcome()).ok


async def test_withdrawn(autojump_clock: MockClock) -> None:
    """Withdrawing stops the device once, within 50 ms and one exchange, and frees the lane."""
    async with bench() as board:
        ticket = await sweeping(board)
        await trio.sleep(0.333)
        began_s = trio.current_time()
        assert not ticket.withdraw()
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.WITHDRAWN, True)
        assert trio.current_time() == began_s
        await board.get("generator", SignalGenerator).sweep_time.set(2.0)
        stopped_s = board.model("generator", SignalGeneratorModel).aborted_at_s
        assert stopped_s is not None
        assert stopped_s - began_s <= 0.05 + EXCHANGE_S
        assert len(board.of(OperationStopped)) == 1
        await board.bus.make_safe(["generator"], "a test")
        assert sum("ABOR" in text for _, text in board.sent("generator")) == 1


@pytest.mark.parametrize("after_s", [0.001, 0.003, 0.006])
async def test_withdrawn_while_it_starts(after_s: float, autojump_clock: MockClock) -> None:
    """Taken back while its start is on the line, it is stopped as soon as that is answered."""
    async with bench() as board:
        generator = board.get("generator", SignalGenerator)
        model = board.model("generator", SignalGeneratorModel)
        ticket = await generator.sweep.submit()
        await trio.sleep(after_s)
        ticket.withdraw()
        with trio.fail_after(0.1):
            outcome = await ticket.outcome()
        assert outcome.cause is Cause.WITHDRAWN
        await trio.sleep(0.05)
        assert not model.sweeping
        with trio.move_on_after(after_s):
            await generator.sweep()
        await trio.sleep(0.05)
        assert not model.sweeping


async def test_cancelled(autojump_clock: MockClock) -> None:
    """Who is cancelled while an operation goes on leaves none running."""
    async with bench() as board:
        generator = board.get("generator", SignalGenerator)
        with trio.move_on_after(0.3):
            await generator.sweep()
        await trio.sleep(0.1)
        assert not board.model("generator", SignalGeneratorModel).sweeping


async def test_deadline(autojump_clock: MockClock) -> None:
    """Past its caller's deadline it is called off (expired), though nobody waits for it."""
    async with bench() as board:
        ticket: Ticket[None] | None = None
        with trio.move_on_after(0.4):
            ticket = await sweeping(board)
        assert ticket is not None
        assert (await ticket.outcome()).cause is Cause.EXPIRED
        await trio.sleep(0.1)
        assert not board.model("generator", SignalGeneratorModel).sweeping


async def test_too_slow(autojump_clock: MockClock) -> None:
    """What takes longer than declared is called off and failed as timed out."""
    async with bench(Hasty) as board:
        outcome = await (await sweeping(board, 2.0)).outcome()
        assert outcome.cause is Cause.DEVICE
        assert outcome.fault is not None
        assert outcome.fault.kind is TIMEOUT
        await trio.sleep(0.1)
        assert not board.model("generator", SignalGeneratorModel).sweeping


async def test_without_an_abort(autojump_clock: MockClock) -> None:
    """What the device cannot stop goes on, and is told as it ends."""
    async with bench(Endless) as board:
        ticket = await sweeping(board)
        await trio.sleep(0.3)
        assert not ticket.withdraw()
        assert (await ticket.outcome()).ok


async def test_tripped(autojump_clock: MockClock) -> None:
    """A trip fails it at once, stops the device and drives it safe, in this order."""
    async with bench() as board:
        generator = board.get("generator", SignalGenerator)
        await generator.output.set(True, confirm=True)
        ticket = await sweeping(board)
        await trio.sleep(0.333)
        board.bus.trip("generator", "a test")
        assert ticket.state is CommandState.FAILED
        assert (await ticket.outcome()).cause is Cause.TRIPPED
        (safe,) = await board.bus.make_safe(["generator"], "a test")
        assert safe.error is None
        sent = [text for _, text in board.sent("generator")]
        assert sent[-2:] == ["ABOR;:SYST:ERR?", "OUTP 0;:SYST:ERR?"]
        board.bus.rearm("generator")
        await generator.sweep_time.set(1.0)


async def test_an_emergency_passes(autojump_clock: MockClock) -> None:
    """An emergency reaches the device though its lane is held, and ends the operation."""
    async with bench() as board:
        generator = board.get("generator", SignalGenerator)
        ticket = await sweeping(board)
        await trio.sleep(0.333)
        began_s = trio.current_time()
        await generator.output.set(False, priority=Priority.EMERGENCY)
        assert trio.current_time() - began_s <= 3 * EXCHANGE_S
        assert (await ticket.outcome()).cause is Cause.TRIPPED
        await trio.sleep(0.1)
        assert not board.model("generator", SignalGeneratorModel).sweeping


async def test_a_new_incarnation_stops_it(autojump_clock: MockClock) -> None:
    """After a crash it has failed (crashed), and the device is told to stop first thing."""
    async with bench() as board:
        ticket = await sweeping(board, 60.0)
        await trio.sleep(0.3)

        meter = board.get("meter", Multimeter)
        plan = meter.read_plan(Multimeter.voltage)

        def fail(raw: bytes) -> float:
            raise RuntimeError("a bug")

        broken = await board.bus.submit(meter, evolve(plan, decode=fail))
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.CRASHED, True)
        assert (await broken.outcome()).cause is Cause.CRASHED
        crashed = len(board.sent("generator"))
        await board.get("generator", SignalGenerator).sweep_time.set(1.0)
        sent = [text for _, text in board.sent("generator")][crashed:]
        assert sent[:3] == ["*IDN?", "SYST:ERR?", "ABOR;:SYST:ERR?"]
        assert not board.model("generator", SignalGeneratorModel).sweeping


async def test_out_of_sight(autojump_clock: MockClock) -> None:
    """An instrument that falls silent fails it; once it is back it is stopped."""
    async with bench() as board:
        ticket = await sweeping(board, 60.0)
        await trio.sleep(0.3)
        line = board.lines["1"]
        line.hang()
        outcome = await ticket.outcome()
        assert (outcome.cause, outcome.may_have_executed) == (Cause.TRANSPORT, True)
        line.unhang()
        await board.in_service()
        assert not board.model("generator", SignalGeneratorModel).sweeping
        await board.get("generator", SignalGenerator).sweep()


async def test_lost_status(autojump_clock: MockClock) -> None:
    """A status or a result whose reply is lost is asked for again; nothing else is sent."""
    model = Forgetful()
    async with gpib_board({"generator": SignalGenerator}, {"generator": model}) as board:
        ticket = await sweeping(board)
        await trio.sleep(0.2)
        board.lines["1"].lose()
        model.forgets = 1
        assert (await ticket.outcome()).ok
        assert model.forgets == 0
        assert model.sweeps == 1
        assert not any("ABOR" in text for _, text in board.sent("generator"))


async def test_refused_by_the_device(autojump_clock: MockClock) -> None:
    """A start that the device refuses fails like any command; there is nothing to stop."""
    async with bench() as board:
        model = board.model("generator", SignalGeneratorModel)
        model.receive(b"INIT\n", trio.current_time())
        generator = board.get("generator", SignalGenerator)
        with pytest.raises(CommandError, match="-213") as failed:
            await generator.sweep()
        assert not failed.value.may_have_executed
        assert not any("ABOR" in text for _, text in board.sent("generator"))


class Supply(PowerSupply):
    """A supply with one setting for each way to acknowledge."""

    none = Setting("VOLT", acknowledge=Acknowledge.NONE)
    reply = Setting("VOLT", acknowledge=Acknowledge.REPLY)
    echo = Setting("VOLT", acknowledge=Acknowledge.ECHO)
    status_byte = Setting("VOLT", acknowledge=Acknowledge.STATUS_BYTE)
    event_status = Setting("VOLT", acknowledge=Acknowledge.EVENT_STATUS)
    service_request = Setting("VOLT", acknowledge=Acknowledge.SERVICE_REQUEST)


class EchoingModel(PowerSupplyModel):
    """A supply that sends back what it was told."""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer, or echo."""
        replies = super().receive(data, now_s)
        return replies or [SimReply(data, 0.0)]


SAID = {
    Supply.none: b"",
    Supply.reply: b'+0,"No error"',
    Supply.echo: b"VOLT 7.5",
    Supply.status_byte: b"32",
    Supply.event_status: b"1",
    Supply.service_request: b"96",
}


@pytest.mark.parametrize("setting", SAID, ids=lambda each: each.name)
async def test_acknowledgements(setting: Setting[float], autojump_clock: MockClock) -> None:
    """Each policy tells what the hardware said; what it did not take is an error."""
    model = EchoingModel() if setting is Supply.echo else PowerSupplyModel()
    async with gpib_board({"psu": Supply}, {"psu": model}) as board:
        psu = board.get("psu", Supply)
        ticket = await psu.submit(setting.to(7.5))
        assert (await ticket.outcome()).ok
        assert ticket.acknowledgement == SAID[setting]
        assert model.setpoint_v == 7.5
        if setting in (Supply.none, Supply.echo):
            return
        refused = await psu.submit(setting.to(99.0))
        outcome = await refused.outcome()
        assert outcome.cause is Cause.DEVICE
        assert outcome.error is not None
        assert "-222" in str(outcome.error)
        assert refused.acknowledgement


class Absent(PowerSupplyModel):
    """A supply that does not see that something is complete.

    Attributes:
        misses: How often yet.
    """

    misses = 0

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Do what is asked, but for what would say that it is done."""
        if self.misses and b";*OPC" in data:
            self.misses -= 1
            data = data.replace(b";*OPC", b"")
        return super().receive(data, now_s)


@pytest.mark.parametrize("misses", [1, 2])
async def test_no_acknowledgement_in_time(misses: int, autojump_clock: MockClock) -> None:
    """A write that no status acknowledges within its window timed out: tried again, or failed.

    The bus is free for others meanwhile.
    """
    impatient = evolve(GPIB, acknowledge_within_s=0.5, attempts=2, retry_wait_s=0.2, retry_jitter=0)
    model = Absent()
    drivers = {"psu": Supply, "meter": Multimeter}
    async with gpib_board(drivers, {"psu": model}, profile=impatient) as board:
        model.misses = misses
        began_s = trio.current_time()
        ticket = await board.get("psu", Supply).submit(Supply.status_byte.to(7.5))
        await board.get("meter", Multimeter).voltage.get()
        assert trio.current_time() - began_s < 0.1
        assert ticket.state is CommandState.DISPATCHED
        outcome = await ticket.outcome()
        took_s = trio.current_time() - began_s
        assert ticket.attempts == 2
        assert outcome.fault is None or outcome.fault.kind is TIMEOUT
        if misses == 1:
            assert outcome.ok
            assert 0.7 <= took_s <= 0.9
            assert ticket.acknowledgement == b"32"
        else:
            assert outcome.cause is Cause.RETRIES_EXHAUSTED
            assert "not acknowledged within 0.5 s" in str(outcome.error)
            assert 1.2 <= took_s <= 1.4
            assert ticket.acknowledgement == b""
        await board.get("psu", Supply).voltage.set(1.0)  # the lane is free


class Patient(Supply):
    """A supply that says itself how long it takes."""

    acknowledge_within_s: ClassVar[float | None] = 2.0


async def test_the_driver_knows_its_window(autojump_clock: MockClock) -> None:
    """How long a driver gives its device goes before what the bus's profile says."""
    model = Absent()
    async with gpib_board({"psu": Patient}, {"psu": model}) as board:
        model.misses = 1
        began_s = trio.current_time()
        outcome = await (
            await board.get("psu", Patient).submit(Supply.status_byte.to(1.0))
        ).outcome()
        assert outcome.fault is not None
        assert 2.0 <= trio.current_time() - began_s <= 2.1


class Silent(ScpiInstrument):
    """An instrument without an error queue."""

    level = Setting("VOLT")
    check_errors: ClassVar[bool] = False


async def test_no_acknowledgement_at_all(autojump_clock: MockClock) -> None:
    """Without a reply a command is done once it is sent, and nothing was said."""
    async with gpib_board({"psu": Silent}, {"psu": PowerSupplyModel()}) as board:
        ticket = await board.get("psu", Silent).submit(Silent.level.to(3.0))
        assert (await ticket.outcome()).ok
        assert ticket.acknowledgement == b""
        with pytest.raises(RefusedError):
            await board.get("psu", Silent).submit(Silent.level.to("three"))  # type: ignore[arg-type]  # on purpose


async def test_service_requests(autojump_clock: MockClock) -> None:
    """Who requests service is asked at once, though its next poll is far away."""
    rare = evolve(ONCE, status_poll_s=30.0)

    class Requesting(SignalGenerator):
        sweep = Operation("INIT", abort="ABOR", acknowledge=Acknowledge.SERVICE_REQUEST)

    async with gpib_board({"generator": Requesting}, profile=rare) as board:
        ticket = await sweeping(board)
        await trio.sleep(1.1)
        board.transport.request_service("9")  # somebody else
        await trio.sleep(0.1)
        assert not ticket.state.final
        began_s = trio.current_time()
        board.transport.request_service("1")
        assert (await ticket.outcome()).ok
        assert trio.current_time() - began_s < 0.01
