"""Benches for runs: simulated ones in memory, and one over TCP with code of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transports import BlockingSimProcess, SimSpec

SCPI = "actors.instruments.scpi"

# Switches the supply on, says so, and holds it; with a queue of slow writes if asked.
LAB = """\
import sys, trio
from benchtree import PowerSupply

async def hold(tree):
    psu = tree.get("psu", PowerSupply)
    await psu.voltage.set(5.0)
    await psu.output.set(True, confirm=True)
    print("the output is on", file=sys.stderr, flush=True)
    await trio.sleep_forever()

async def queue(tree):
    psu = tree.get("psu", PowerSupply)
    await psu.output.set(True, confirm=True)
    for count in range(200):
        await psu.voltage.submit(count / 100)
    print("the output is on", file=sys.stderr, flush=True)
    await trio.sleep_forever()

async def fail(tree):
    await trio.sleep(1.0)
    raise RuntimeError("the wire came off")
"""

SIMULATED = """\
[tree]
name = "simulated"
[bus.supply]
address = "tcp://192.0.2.17:5025"
[bus.meter]
address = "tcp://192.0.2.18:5025"
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
[instrument.dmm]
bus = "meter"
driver = "scpi.multimeter"
[recording.main]
rate_hz = 10
parameters = ["psu.measured_voltage", "dmm.voltage"]
sinks = ["sqlite", "csv"]
"""


def supply_and_oven() -> BlockingSimProcess:
    """Start a power supply and an oven, in this order, each on a TCP port."""
    return BlockingSimProcess(
        [
            SimSpec(model=f"{SCPI}:PowerSupplyModel"),
            SimSpec(model=f"{SCPI}:TemperatureControllerModel"),
        ]
    )


def write_bench(
    folder: Path,
    addresses: Sequence[str],
    *,
    rate_hz: float = 10,
    start: str = "hold",
    drain_s: float = 1.0,
) -> Path:
    """Write a bench of a supply and an oven, with an actor that switches the supply on."""
    (folder / "lab.py").write_text(LAB)
    path = folder / "bench.toml"
    path.write_text(f"""\
[tree]
name = "real"
drain_s = {drain_s}
[bus.supply]
address = "{addresses[0]}"
profile = {{ safe_s = 2.0 }}
required = true
[bus.oven]
address = "{addresses[1]}"
profile = {{ safe_s = 2.0 }}
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
[instrument.furnace]
bus = "oven"
driver = "scpi.temperature_controller"
[actor.user]
start = "lab:{start}"
[recording.main]
rate_hz = {rate_hz}
parameters = ["psu.measured_voltage", "psu.current", "furnace.temperature"]
""")
    return path
