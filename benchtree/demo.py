"""The demonstration: a bench whose instruments are simulated in a process of their own.

A furnace on a serial port, a power supply and a multimeter on the network, three gas flow
controllers on one RS-485 line; a ramp, a gas mixture; a recording. Midway the multimeter is
unplugged and plugged in again. It checks itself.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import trio
from rich.console import Console

from actors import current_clock, describe
from actors.instruments.alicat import FlowController
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

SHARES: Final = {"nitrogen": 0.7, "argon": 0.2, "oxygen": 0.1}
"""The mixture: each gas's share of the total flow."""

GASES: Final = {"nitrogen": "N2", "argon": "Ar", "oxygen": "O2"}

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


async def mix(tree: Tree) -> None:
    """Ramp the total flow from 100 to 500 SCCM while three controllers keep their shares."""
    flows = tree.fleet("mfc_*")
    await flows.poll()  # answered once all three are identified, and their gases known
    await flows.execute(FlowController.gas, {f"mfc_{name}": gas for name, gas in GASES.items()})
    for total_sccm in range(100, 501, 10):
        setpoints = {f"mfc_{name}": share * total_sccm for name, share in SHARES.items()}
        await flows.execute(FlowController.setpoint, setpoints)
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
            SimSpec(
                model="actors.instruments.alicat:make_line",
                arguments={"units": "ABC"},
                host="pty",
                link=str(Path(folder) / "gas"),
            ),
        ]
        async with SimProcess(specs) as process:
            furnace, supply, meter, gas = process.lines
            path = Path(folder) / "bench.toml"
            template = files(__package__ or "benchtree").joinpath("demo.toml").read_text("utf-8")
            text = template.format(
                furnace=furnace.address,
                supply=supply.address,
                meter=meter.address,
                gas=gas.address,
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
            wrong = [*result.problems, *await _still_on(furnace, supply, gas)]
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


async def _still_on(furnace: RemoteLine, supply: RemoteLine, gas: RemoteLine) -> list[str]:
    """Return what is not off, asking the devices themselves."""
    off = dict.fromkeys("ABC", 0.0)
    wrong: list[str] = []
    for name, line, asked, safe in (
        ("oven", furnace, "output_on", False),
        ("psu", supply, "output_on", False),
        ("the gas", gas, "setpoints", off),
    ):
        try:
            if await line.ask_model(asked) != safe:
                wrong.append(f"{name} is still on")
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
        flows = {name: _flows(database, f"mfc_{name}") for name in SHARES}
    for key, counts in summary.by_key().items():
        if counts.expected != slots:
            wrong.append(f"{key}: {counts.expected} samples were expected, not {slots}")
        if kept.get((key.device, key.parameter), 0) != counts.read:
            wrong.append(f"{key}: {counts.read} samples were read, but not as many kept")
    for name, counts in summary.by_device().items():
        wrong += _judge(name, counts)
    if not wrong:
        wrong += _judge_mixture(flows)
    return wrong


def _flows(database: sqlite3.Connection, device: str) -> Sequence[float]:
    query = (
        "SELECT value FROM samples WHERE device = ? AND parameter = 'mass_flow' ORDER BY t_mono_ns"
    )
    return [value for (value,) in database.execute(query, (device,))]


def _judge_mixture(flows: Mapping[str, Sequence[float]]) -> Sequence[str]:
    """Return whether the shares were kept in every slot in which the ramp was on."""
    # Nothing is missing: the values of one index belong to one slot.
    ramp = [slot for slot in zip(*flows.values(), strict=True) if sum(slot) > 95.0]
    if not ramp:
        return ["no gas flowed"]
    worst = max(
        abs(flow / sum(slot) - share)
        for slot in ramp
        for flow, share in zip(slot, SHARES.values(), strict=True)
    )
    return [f"the mixture was off by {worst:.1%}"] if worst > 0.05 else []


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
