"""The demonstration: a bench whose instruments are simulated in a process of their own.

A furnace on a serial port, a power supply and a multimeter on the network; a ramp; a
recording. Midway the multimeter is unplugged and plugged in again. It checks itself.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import trio
from rich.console import Console

from actors import current_clock, describe
from actors.instruments.scpi import PowerSupply, TemperatureController
from recorder import Counts
from transports import RemoteLine, SimProcess, SimSpec, TransportError

from .config import load_config
from .logs import EventLog, open_logbook
from .run import FAILED, OK, RunResult, run_bench
from .tree import Tree
from .view import show, summary_table, tally

DEMO_S: Final = 20.0
"""How long the demonstration takes unless told otherwise, in seconds."""

UNPLUG_AT: Final = 0.3
REPLUG_AT: Final = 0.5
"""When the multimeter goes and comes, as shares of the whole."""

LOOK: Final = "SELECT * FROM readings LIMIT 10"

_MODELS: Final = "actors.instruments.scpi"


async def ramp(tree: Tree) -> None:
    """Heat the oven from 25 to 60 degC, one kelvin every quarter of a second, under power."""
    oven = tree.get("oven", TemperatureController)
    psu = tree.get("psu", PowerSupply)
    await psu.voltage.set(5.0)
    await psu.output.set(True, confirm=True)
    await oven.setpoint.set(25.0)
    await oven.output.set(True, confirm=True)
    for setpoint_c in range(25, 61):
        await oven.setpoint.set(float(setpoint_c))
        await trio.sleep(0.25)


async def run_demo(console: Console, *, for_s: float, runs_root: Path, lively: bool) -> int:
    """Run the demonstration and return the exit code: 0 only if all went as it should.

    Args:
        console: Where it is shown.
        for_s: How long, in seconds.
        runs_root: The folder of all runs.
        lively: Whether to show a live table; else log lines go to standard error.
    """
    with tempfile.TemporaryDirectory(prefix="benchtree-demo-") as folder:
        specs = [
            SimSpec(
                model=f"{_MODELS}:TemperatureControllerModel",
                host="pty",
                link=str(Path(folder) / "furnace"),
            ),
            SimSpec(model=f"{_MODELS}:PowerSupplyModel"),
            SimSpec(model=f"{_MODELS}:MultimeterModel"),
        ]
        async with SimProcess(specs) as process:
            furnace, supply, meter = process.lines
            path = Path(folder) / "bench.toml"
            template = files(__package__ or "benchtree").joinpath("demo.toml").read_text("utf-8")
            text = template.format(
                furnace=furnace.address, supply=supply.address, meter=meter.address
            )
            await current_clock().run_sync(path.write_text, text)
            config = await current_clock().run_sync(load_config, path)
            async with open_logbook(to_stderr=not lively) as logbook:
                result = await run_bench(
                    config,
                    for_s=for_s,
                    runs_root=runs_root,
                    observer=EventLog(),
                    logbook=logbook,
                    watch=partial(show, console=console, logbook=logbook) if lively else None,
                    beside=partial(_mishap, meter, for_s),
                )
            wrong = [*result.problems, *await _still_on(furnace, supply)]
    if result.exit_status in (OK, FAILED):
        wrong += await current_clock().run_sync(_shortfalls, result, for_s)
    _show_outcome(console, result, wrong)
    return FAILED if wrong and result.exit_status == OK else result.exit_status


async def _mishap(meter: RemoteLine, for_s: float, tree: Tree) -> None:
    del tree
    await trio.sleep(UNPLUG_AT * for_s)
    await meter.unplug()
    await trio.sleep((REPLUG_AT - UNPLUG_AT) * for_s)
    await meter.replug()


async def _still_on(furnace: RemoteLine, supply: RemoteLine) -> list[str]:
    """Return which outputs are not off, asking the devices themselves."""
    wrong: list[str] = []
    for name, line in (("oven", furnace), ("psu", supply)):
        try:
            if await line.ask_model("output_on") is not False:
                wrong.append(f"the output of {name} is still on")
        except TransportError as error:
            wrong.append(f"whether {name} is off is not known: {describe(error)}")
    return wrong


def _shortfalls(result: RunResult, for_s: float) -> list[str]:
    """Return what the recording has not got that it should have."""
    summary = result.recordings.get("main")
    if summary is None:
        return ["there is no recording"]
    wrong: list[str] = []
    slots = round(for_s * 10)
    with closing(sqlite3.connect(result.files["main"][0])) as database:
        query = "SELECT device, parameter, count(*) FROM samples GROUP BY device, parameter"
        kept = {(device, parameter): count for device, parameter, count in database.execute(query)}
    for key, counts in summary.by_key().items():
        if counts.expected != slots:
            wrong.append(f"{key}: {counts.expected} samples were expected, not {slots}")
        if kept.get((key.device, key.parameter), 0) != counts.read:
            wrong.append(f"{key}: {counts.read} samples were read, but not as many kept")
    for name, counts in summary.by_device().items():
        wrong += _judge(name, counts)
    return wrong


def _judge(name: str, counts: Counts) -> Sequence[str]:
    if name != "dmm":
        return [f"{name} misses {counts.missing} samples"] if counts.missing else []
    if not counts.missing:
        return ["dmm misses nothing, though it was unplugged"]
    # It was away for a fifth of the time, and is let back in soon after.
    if counts.read < counts.expected // 2:
        return ["dmm was not taken back into service in time"]
    return []


def _show_outcome(console: Console, result: RunResult, wrong: Sequence[str]) -> None:
    counts, _ = tally(result.recordings.values())
    console.print(summary_table(counts))

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    whole = result.exit_status in (OK, FAILED)
    if whole:
        say("dmm was unplugged midway: what it could not deliver is missing, nobody else's is.")
    say(f"The run's folder:  {result.path}")
    for path in result.files.get("main", ()):
        say(f"To look at it:     sqlite3 {path} '{LOOK}'")
    for each in wrong:
        say(f"NOT AS IT SHOULD BE: {each}")
    if not wrong:
        say(f"{'Everything is as it should be' if whole else 'Interrupted'}: every output is off.")
