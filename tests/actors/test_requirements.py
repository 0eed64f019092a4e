"""What an instrument has to hold or show before it is told something."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from actors import Action, Cause, CommandError, Priority, Reading, RefusedError, Setting
from actors.instruments.scpi import PowerSupply, PowerSupplyModel, SignalGenerator

from .board import GpibBoard, gpib_board


class Guarded(PowerSupply):
    """A supply whose output needs a voltage, and its protection not to have tripped."""

    voltage = Setting("VOLT", unit="V", low=0.0, high=30.0)
    tripped = Reading("VOLT:PROT:TRIP", type=bool)
    output = Setting(
        "OUTP",
        type=bool,
        hazardous=lambda on: on,
        requires=(voltage.is_set(), tripped.equals(False, within_s=5.0)),
    )
    current = Reading("MEAS:CURR", unit="A")
    degauss = Action("OUTP:PROT:CLE", requires=(current.satisfies(lambda i: i < 1, "be low"),))
    pulse = Action(
        "OUTP:PROT:CLE", requires=(voltage.satisfies(lambda v: v < 10, "be below 10 V"),)
    )
    safe_state: ClassVar[Any] = (output.to(False),)


async def refusal(board: GpibBoard, pattern: str) -> None:
    """Check that the output cannot be switched on, why, and that no byte of it arrived."""
    before = len(board.sent("psu"))
    with pytest.raises(RefusedError, match=pattern) as refused:
        await board.get("psu", Guarded).output.set(True, confirm=True)
    assert refused.value.cause is Cause.DEPENDENCY
    assert len(board.sent("psu")) == before


async def test_declared_requirements(autojump_clock: MockClock) -> None:
    """The output is switched on once a voltage was set and the interlock was just read."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        await refusal(board, r"psu: output.set: before True voltage must be set; it was not set")
        await psu.voltage.set(5.0)
        await refusal(board, r"tripped must be False; it was not read within the last 5 s")
        await psu.tripped.get()
        await psu.output.set(True, confirm=True)
        await psu.output.set(False)
        await trio.sleep(6.0)
        await refusal(board, r"it was not read within the last 5 s")


async def test_the_interlock_says_no(autojump_clock: MockClock) -> None:
    """A reading that will not do is named with its value; switching off needs nothing."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        model = board.model("psu", PowerSupplyModel)
        await psu.voltage.set(5.0)
        model.receive(b"VOLT:PROT 2;:OUTP 1\n", trio.current_time())
        assert model.tripped
        assert await psu.tripped.get()
        await refusal(board, r"tripped must be False; it was True when last read")
        await psu.output.set(False)
        with pytest.raises(CommandError):  # asked of the device alone
            await psu.output.set(True, confirm=True, priority=Priority.EMERGENCY)


async def test_a_reading_without_a_value(autojump_clock: MockClock) -> None:
    """What the device reports as unavailable will not do, whatever is required of it."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        board.lines[psu.unit or ""].foreign(b"9.91E+37\n")
        assert await psu.current.get() is None
        with pytest.raises(RefusedError, match="current must be low; it was unavailable when last"):
            await psu.degauss()
        await psu.current.get()
        await psu.degauss()


async def test_a_setting_that_will_not_do(autojump_clock: MockClock) -> None:
    """An action may look at what a setting was set to."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        await psu.voltage.set(12.0)
        with pytest.raises(RefusedError, match=r"voltage must be below 10 V; .* set to 12.0"):
            await psu.pulse()
        await psu.voltage.set(9.0)
        await psu.pulse()


@pytest.mark.parametrize("opened", ["the interlock", "a setting"])
async def test_it_holds_no_more_when_its_turn_comes(opened: str, autojump_clock: MockClock) -> None:
    """What holds when a command is accepted, and not when it would be sent, keeps it back."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        model = board.model("psu", PowerSupplyModel)
        await psu.voltage.set(5.0)
        await psu.tripped.get()
        if opened == "a setting":
            await psu.submit(Guarded.voltage.to(12.0))
            ticket = await psu.submit(Guarded.pulse)
            says = r"psu: pulse: before voltage must be below 10 V; it was last set to 12\.0"
        else:
            model.receive(b"VOLT:PROT 2;:OUTP 1\n", trio.current_time())
            await psu.submit(Guarded.tripped)
            ticket = await psu.submit(Guarded.output.to(True), confirm=True)
            says = (
                r"psu: output\.set: before True tripped must be False; it was True when last read"
            )
        before = len(board.sent("psu"))
        error = (await ticket.outcome()).error
        assert error is not None
        assert re.match(says, str(error))
        assert (error.cause, error.may_have_executed) == (Cause.DEPENDENCY, False)
        assert len(board.sent("psu")) == before + 1  # what went before it


async def test_how_old_a_reading_is_counts_once(autojump_clock: MockClock) -> None:
    """A reading that was new enough when a command was accepted may age while that waits."""
    async with gpib_board({"psu": Guarded, "generator": SignalGenerator}) as board:
        psu, generator = board.get("psu", Guarded), board.get("generator", SignalGenerator)
        await psu.voltage.set(5.0)
        await generator.sweep_time.set(8.0)
        sweep = await generator.sweep.submit()
        await psu.tripped.get()
        ticket = await psu.output.submit(True, confirm=True, after=[sweep])
        assert (await ticket.outcome()).ok
        assert trio.current_time() > 8.0


async def test_what_was_lost(autojump_clock: MockClock) -> None:
    """What was set before a trip is not what holds after it: safe values do."""
    async with gpib_board({"psu": Guarded}) as board:
        psu = board.get("psu", Guarded)
        await psu.voltage.set(5.0)
        await psu.tripped.get()
        assert board.bus.intended("psu")["voltage"].readback is not None
        await board.bus.make_safe(["psu"], "a test")
        board.bus.rearm("psu")
        assert set(board.bus.intended("psu")) == {"voltage", "output"}
