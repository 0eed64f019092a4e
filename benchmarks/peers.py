"""The same simulated devices and files, driven by benchtree and by alicatlib and watlowlib.

They need Python 3.13: where it is found, an environment of their own is made beside this
one, with exact versions; where it is not, there is nothing to compare and one line says so.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from actors import Reading
from actors.instruments.watlow import EzZoneStandardBus
from benchtree import DeviceResult, open_tree
from benchtree.drivers import find_driver
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import record
from transports import SERIAL, BlockingSimProcess, SimSpec, parse_address

from .report import Measurement
from .sinks import HELD, available, make_batches, time_of_row

PINNED: Final = ("alicatlib[parquet]==0.3.1", "watlowlib[parquet]==0.8.1", "trio==0.35.0")
PYTHON: Final = "python3.13"
ENVIRONMENT: Final = Path(__file__).parents[1] / ".venv-peers"
WORKER: Final = Path(__file__).with_name("peers_worker.py")

RATES_HZ: Final = (200, 500, 1000)
"""At the first none is to be missed, at the others fewer than the others miss."""

LEAST: Final = 3.0
"""How many times as many rows a second are to be written."""

TURNS: Final = 4
PORTS: Final = 32
WARM: Final = 5
"""How many calls go before those that are timed."""

LATENCY_S: Final = 0.02

MODELS: Final = {
    "alicatlib": "actors.instruments.alicat:make_line",
    "watlowlib": "actors.instruments.watlow:StandardBusModel",
}
ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "alicatlib": {"units": "A"},
    "watlowlib": {"controllers": [1], "thinking_s": 0.0},
}
DRIVERS: Final[Mapping[str, str]] = {"alicatlib": "alicat.flow_controller", "watlowlib": "watlow"}
REQUESTS: Final = {
    "alicatlib": b"A\r",
    "watlowlib": bytes.fromhex("55FF0510000006E8010301040101E399"),
}
# Each is one exchange; the driver of ours looks at the input error before a process value.
PARAMETERS: Final = {"alicatlib": "mass_flow", "watlowlib": "heat_power"}


def find_python() -> Path | None:
    """Return the interpreter with the other libraries, made if need be; None without 3.13."""
    python = ENVIRONMENT / "bin" / "python"
    if python.exists():
        return python
    # What pyenv puts on the path only says that another version has to be chosen.
    kept = sorted(Path.home().glob(f".pyenv/versions/3.13*/bin/{PYTHON}"))
    base = next(map(str, kept), shutil.which(PYTHON))
    if base is None:
        return None
    sys.stderr.write(f"making {ENVIRONMENT.name}, once\n")
    unbound = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    subprocess.run([base, "-m", "venv", str(ENVIRONMENT)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *PINNED], check=True, env=unbound)
    return python


def ask_worker(python: Path, *words: object) -> Any:
    """Return what the other interpreter measured."""
    done = subprocess.run(
        [str(python), str(WORKER), *map(str, words)],
        check=True, stdout=subprocess.PIPE, text=True, timeout=300,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure what an exchange costs, slots missed, polls of many ports, and rows written."""
    python = find_python()
    if python is None:
        sys.stderr.write(f"peers: left out, they need {PYTHON}, which is not here\n")
        return
    for library in MODELS:
        yield _exchanges(library, python, 40 if quick else 2000)
        for rate_hz in RATES_HZ:
            yield from _missed(library, python, rate_hz, 0.5 if quick else 1.0, 1 if quick else 3)
        yield _poll(library, python, 3 if quick else 30)
    yield from _sinks(python, 1 if quick else 3, 3 if quick else 30)


def _lines(library: str, count: int, latency_s: float, stack: ExitStack) -> Sequence[str]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    specs = [
        SimSpec(
            model=MODELS[library],
            arguments=dict(ARGUMENTS[library]),
            host="pty",
            link=str(folder / f"port{number}"),
            latency_s=latency_s,
        )
        for number in range(count)
    ]
    sim = stack.enter_context(BlockingSimProcess(specs))
    return [str(parse_address(address).path) for address in sim.addresses]


def _exchanges(library: str, python: Path, count: int) -> Measurement:
    """Compare what is added to a bare write and read, in turns on one port."""
    ours_s: list[float] = []
    theirs_s: list[float] = []
    bare_s: list[float] = []
    with ExitStack() as stack:
        (port,) = _lines(library, 1, 0.0, stack)
        for _ in range(TURNS):
            bare_s += trio.run(_bare, library, port, count // TURNS)
            ours_s += trio.run(_ask, library, port, count // TURNS)
            theirs_s += ask_worker(python, "exchanges", library, port, count // TURNS)
    bare, ours, theirs = (statistics.median(each) for each in (bare_s, ours_s, theirs_s))
    return Measurement(
        name=f"added to an exchange, {MODELS[library].split('.')[2].split(':')[0]}",
        value=(ours - bare) * 1e6,
        unit="us",
        ratio=(ours - bare) / (theirs - bare),
        against=library,
        budget=1.0,
        n=count,
    )


def _missed(
    library: str, python: Path, rate_hz: int, seconds: float, rounds: int
) -> Iterable[Measurement]:
    """Compare which slots gave no sample, in turns on one port."""
    slots = rounds * round(rate_hz * seconds)
    ours, theirs = 0, slots
    with ExitStack() as stack:
        (port,) = _lines(library, 1, 0.0, stack)
        for _ in range(rounds):
            ours += trio.run(_record, library, port, rate_hz, seconds)
            theirs -= ask_worker(python, "record", library, port, rate_hz, seconds)
    none_at_all = rate_hz == RATES_HZ[0]
    name = f"slots missed at {rate_hz} Hz"
    yield Measurement(
        name=f"{name} beside {library}",
        value=ours / slots * 100,
        unit="%",
        # As many where neither misses any.
        ratio=None if none_at_all else ours / theirs if theirs else 1.0 + ours,
        against=None if none_at_all else library,
        budget=0.0 if none_at_all else 1.0,
        n=slots,
    )
    yield Measurement(name=f"{name}, {library}", value=theirs / slots * 100, unit="%", n=slots)


def _poll(library: str, python: Path, count: int) -> Measurement:
    ours_s: list[float] = []
    theirs_s: list[float] = []
    with ExitStack() as stack:
        ports = _lines(library, PORTS, LATENCY_S, stack)
        for _ in range(2):
            ours_s += trio.run(_poll_all, library, ports, count)
            theirs_s += ask_worker(python, "poll", library, count, *ports)
    ours, theirs = statistics.median(ours_s), statistics.median(theirs_s)
    return Measurement(
        name=f"poll of {PORTS} ports of {LATENCY_S * 1e3:g} ms",
        value=ours * 1e3,
        unit="ms",
        ratio=(ours - LATENCY_S) / (theirs - LATENCY_S),
        against=f"{library}, beyond the ideal",
        budget=1.0,
        n=2 * count,
    )


def _sinks(python: Path, rounds: int, count: int) -> Iterable[Measurement]:
    """Compare the time that a row takes in batches of the usual size."""
    sinks = available()
    batches = make_batches(HELD, count)
    ours: dict[str, list[float]] = {}
    theirs: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for kind, make in sinks.items():
            ours.setdefault(kind, []).append(time_of_row(kind, make, batches)[0])
        found: dict[str, dict[str, float]] = ask_worker(python, "sinks", HELD, count)
        for library, rates in found.items():
            for kind, rate in rates.items():
                theirs.setdefault((library, kind), []).append(1 / rate)
    for (library, kind), their_s in theirs.items():
        if kind not in ours:
            continue
        row_s = statistics.median(ours[kind])
        yield Measurement(
            name=f"sink {kind}, time of a row",
            value=row_s * 1e6,
            unit="us",
            ratio=row_s / statistics.median(their_s),
            against=library,
            budget=1 / LEAST,
            n=rounds * count,
        )


async def _bare(library: str, port: str, count: int) -> Sequence[float]:
    handle = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    times_s: list[float] = []
    async with trio.lowlevel.FdStream(handle) as stream:
        for _ in range(count):
            began_s = time.perf_counter()
            await stream.send_all(REQUESTS[library])
            await stream.receive_some()
            times_s.append(time.perf_counter() - began_s)
    return times_s


def _bench(library: str, ports: Sequence[str]) -> TreeSpec:
    """Return a bench with one device on each port.

    Each is alone on its line, as the other libraries take it to be: no silence between two
    talkers has to be kept.
    """
    driver = find_driver(DRIVERS[library])
    return TreeSpec(
        buses=[
            BusSpec(name=f"port{number}", address=port, profile=SERIAL)
            for number, port in enumerate(ports)
        ],
        instruments=[
            InstrumentSpec(name=f"device{number}", bus=f"port{number}", driver=driver)
            for number in range(len(ports))
        ],
    )


async def _ask(library: str, port: str, count: int) -> Sequence[float]:
    """Return how long it takes to ask the device of one port, each time."""
    async with open_tree(_bench(library, [port])) as tree:
        (device,) = tree.instruments
        parameter = device.parameters[PARAMETERS[library]]
        assert isinstance(parameter, Reading)
        return await _timed(partial(device.ask, parameter), count)


async def _poll_all(library: str, ports: Sequence[str], count: int) -> Sequence[float]:
    """Return how long a poll of all ports takes, each time."""
    async with open_tree(_bench(library, ports)) as tree:
        fleet = tree.fleet()

        async def poll() -> None:
            if library == "alicatlib":
                results: Mapping[str, DeviceResult[Any]] = await fleet.poll()
            else:
                wanted = dict.fromkeys(fleet)
                results = await fleet.execute(EzZoneStandardBus.heat_power, wanted)
            if not all(each.ok for each in results.values()):
                raise RuntimeError(f"{results}")

        return await _timed(poll, count)


async def _timed(call: Callable[[], Awaitable[object]], count: int) -> Sequence[float]:
    for _ in range(WARM):
        await call()
    times_s: list[float] = []
    for _ in range(count):
        began_s = time.perf_counter()
        await call()
        times_s.append(time.perf_counter() - began_s)
    return times_s


async def _record(library: str, port: str, rate_hz: int, seconds: float) -> int:
    """Return how many slots were missed."""
    async with open_tree(_bench(library, [port])) as tree:
        await tree.fleet().poll()  # until it is identified
        async with record(
            tree, parameters=[PARAMETERS[library]], rate_hz=rate_hz, duration=seconds
        ) as recording:
            async for batch in recording.stream:
                del batch
    return recording.summary.samples_missing
