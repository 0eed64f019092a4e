"""An instrument alone on a line: simulated under a virtual clock, or a real one."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeVar

from actors import Instrument
from benchtree import open_tree
from tests.actors.bench import Bench, Parts, bench_running
from transports import DeviceModel, SimLine, parse_address, serve_pty, serve_tcp

I = TypeVar("I", bound=Instrument)  # noqa: E741 - an instrument


@asynccontextmanager
async def on_line(
    driver: type[I], model: DeviceModel, parts: Parts | None = None, name: str = "psu"
) -> AsyncGenerator[tuple[I, Bench]]:
    """Put an instrument on a simulated line and wait until it is in service."""
    bench = Bench(model, [], parts or Parts())
    instrument = driver(name, bench.bus)
    bench.bus.attach(instrument, bench.parts.policy)
    async with bench_running(bench):
        await bench.in_service()
        bench.line.requests.clear()
        yield instrument, bench


@asynccontextmanager
async def on_real_line(
    driver: type[I], model: DeviceModel, kind: Literal["tcp", "pty", "visa"]
) -> AsyncGenerator[tuple[I, SimLine]]:
    """Serve a model on a socket or pseudo-terminal, and open its driver there in a tree."""
    line = SimLine(model)
    with tempfile.TemporaryDirectory() as folder:
        served = serve_pty(line, link=Path(folder) / "tty") if kind == "pty" else serve_tcp(line)
        async with served as text, open_tree() as tree:
            visa = f"visa://TCPIP::127.0.0.1::{parse_address(text).port}::SOCKET?backend=@py"
            yield await tree.add("it", driver, visa if kind == "visa" else text), line
