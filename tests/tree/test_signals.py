"""A program that is told to stop leaves its instruments safe, whatever hangs."""

from __future__ import annotations

from signal import SIGINT, SIGTERM, Signals

import pytest
import trio

from actors.instruments.scpi.models import PowerSupplyModel
from tests.tree.scripts import BUSY, HOLD, run_script
from transports import TCP, SimLine, serve_tcp

DRAIN_S = 2.0
MARGIN_S = 1.5


@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
async def test_signal(number: Signals, code: int) -> None:
    """The output is off at the device, and the exit code names the signal; no traceback."""
    model = PowerSupplyModel()
    async with serve_tcp(SimLine(model)) as address, run_script(HOLD, address) as script:
        await script.hear("on")
        assert model.output_on
        assert await script.end(number) == code
        assert not model.output_on


async def test_signal_while_another_device_hangs() -> None:
    """A device that hangs keeps the others on no longer, and the program within its budget."""
    model, hung = PowerSupplyModel(), SimLine(PowerSupplyModel())
    async with (
        serve_tcp(SimLine(model)) as address,
        serve_tcp(hung) as hung_address,
        run_script(HOLD, hung_address, address) as script,
    ):
        await script.hear("on")
        hung.hang()
        began_s = trio.current_time()
        assert await script.end(SIGTERM) == 143
        assert trio.current_time() - began_s < DRAIN_S + TCP.safe_s + TCP.close_within_s + MARGIN_S
        assert not model.output_on


async def test_second_signal() -> None:
    """A second signal skips what waits, never the safe state."""
    model = PowerSupplyModel()
    line = SimLine(model)
    async with serve_tcp(line) as address, run_script(BUSY, address) as script:
        line.latency_s = 0.1
        await script.hear("on")
        began_s = trio.current_time()
        script.signal(SIGINT)
        await script.hear("stopping")
        before = len(line.requests)
        await trio.sleep(1.0)
        # It goes on with what was accepted ...
        assert len(line.requests) > before
        assert model.output_on
        # ... until told again.
        assert await script.end(SIGTERM) == 130
        assert trio.current_time() - began_s < 1.0 + MARGIN_S
        assert not model.output_on
