"""Trees with emulated boards, each behind the real PyRPL in a real worker process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import trio
from attrs import frozen

from actors import BreakerPolicy, Event
from actors.instruments.red_pitaya import RedPitaya, RedPitayaModel
from benchtree import Tree, open_tree
from transports import PyrplTransport, SimLine, serve_tcp

Floats = npt.NDArray[np.float64]

CABLE: Final = {"cutoff_hz": None, "noise_v": 0.0}

QUICK: Final = BreakerPolicy(open_s=0.2, jitter=0.0)

LATENCY_S: Final = 0.000_15
"""How long bytes travel one way: a register takes twice that."""


@frozen
class Bench:
    """A tree with one board.

    Attributes:
        line: The emulator's line, to arm faults on.
        address: The emulator's address.
        events: What happened in the tree, in order.
    """

    tree: Tree
    rp: RedPitaya
    line: SimLine
    address: str
    events: list[Event]

    def register(self, address: int) -> int:
        """Return a register of the emulated board, read past PyRPL."""
        model = self.line.model
        assert isinstance(model, RedPitayaModel)
        return model.peek(address, trio.current_time())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        transport = self.rp.bus.transport
        assert isinstance(transport, PyrplTransport)
        assert transport.pid is not None
        return transport.pid


@asynccontextmanager
async def emulated(
    plant: Mapping[str, Any] | None = None, *, latency_s: float = 0.0
) -> AsyncGenerator[tuple[SimLine, str]]:
    """Serve an emulated board from this very process; yield its line and its address."""
    model = RedPitayaModel(in1={**CABLE, **(plant or {})}, in2=CABLE)
    line = SimLine(model, latency_s=latency_s)
    async with serve_tcp(line, one_client=True) as where:
        host, _, port = where.removeprefix("tcp://").rpartition(":")
        yield line, f"redpitaya://{host}?port={port}&ssh=false"


@asynccontextmanager
async def bench(
    plant: Mapping[str, Any] | None = None,
    *,
    latency_s: float = 0.0,
    breaker: BreakerPolicy | None = QUICK,
    **options: Any,
) -> AsyncGenerator[Bench]:
    """Run a tree with one board, in service."""
    async with emulated(plant, latency_s=latency_s) as (line, address):
        events: list[Event] = []
        async with open_tree(observer=events.append) as tree:
            rp = await tree.add("rp", RedPitaya, address, breaker=breaker, **options)
            with trio.fail_after(60.0):
                await rp.get("hk.led")
            yield Bench(tree, rp, line, address, events)


async def eventually(true: Callable[[], bool], within_s: float) -> None:
    """Wait until something is true; fail when it takes longer."""
    with trio.fail_after(within_s):
        while not true():  # noqa: ASYNC110 - of the world, which knows nothing of Trio
            await trio.sleep(0.005)


def strongest(time: Floats, volts: Floats) -> float:
    """Return the strongest frequency of a trace, the constant part left aside, in Hz."""
    size = 8 * len(volts)
    spectrum: Floats = np.abs(np.fft.rfft(volts * np.hanning(len(volts)), size))
    spectrum[:8] = 0.0
    step_s = float(time[1] - time[0])
    return int(spectrum.argmax()) / (size * step_s)
