"""The bench that is simulated: twelve instruments on five buses, in groups, recorded."""

from __future__ import annotations

import trio
from attrs import evolve

from actors import CommandError, Intensity, Strategy
from actors.instruments.scpi import Multimeter, PowerSupply, TemperatureController
from benchtree.exercise import Exercise
from benchtree.faultplan import LEVELS, FaultKind, FaultPlan, FaultRate
from benchtree.simulate import Bench, Report, simulate
from benchtree.spec import (
    ActorSpec,
    BusSpec,
    InstrumentSpec,
    Kind,
    RecordingSpec,
    SupervisorSpec,
    TreeSpec,
)
from benchtree.tree import Tree
from transports import MULTIPLEXED, RS485

from .family import ZoneController

ZONES = 8


async def ramp(tree: Tree) -> None:
    """Move a setpoint up and down for ever: somebody's own code."""
    oven = tree.get("oven", TemperatureController)
    while True:
        for setpoint in (50.0, 80.0):
            await trio.sleep(7.0)
            try:
                await oven.setpoint.set(setpoint)
            except CommandError:
                await trio.sleep(1.0)  # it is away, or tripped


SPEC = TreeSpec(
    name="sim",
    buses=[
        BusSpec(name="supply", address="tcp://192.0.2.17:5025"),
        BusSpec(name="meter", address="tcp://192.0.2.18:5025"),
        BusSpec(name="furnace", address="serial:///dev/ttyUSB0"),
        BusSpec(name="aux", address="serial:///dev/ttyUSB1"),
        BusSpec(name="line", address="serial:///dev/ttyUSB2", profile=RS485),
    ],
    instruments=[
        InstrumentSpec(name="psu", bus="supply", driver=PowerSupply),
        InstrumentSpec(name="dmm", bus="meter", driver=Multimeter),
        InstrumentSpec(name="oven", bus="furnace", driver=TemperatureController),
        InstrumentSpec(name="heater", bus="aux", driver=PowerSupply),
        *(
            InstrumentSpec(name=f"zone{n}", bus="line", driver=ZoneController, unit_id=str(n))
            for n in range(1, ZONES + 1)
        ),
    ],
    actors=[ActorSpec(name="ramp", start=ramp)],
    supervisors=[
        SupervisorSpec(
            name="heat",
            strategy=Strategy.REST_FOR_ONE,
            children=[(Kind.BUS, "supply"), (Kind.BUS, "furnace"), (Kind.ACTOR, "ramp")],
            intensity=Intensity(max_restarts=4, window_s=10.0),
        ),
        SupervisorSpec(
            name="cell",
            strategy=Strategy.ONE_FOR_ALL,
            children=[(Kind.BUS, "aux"), (Kind.BUS, "line")],
        ),
    ],
    recordings=[
        RecordingSpec(
            name="main",
            parameters=[
                "measured_voltage",
                "dmm.voltage",
                "temperature",
                "process_value",
            ],
            rate_hz=1.0,
            sinks=["sqlite", "csv"],
        )
    ],
)


SETTLING_S = 3600.0
"""How long everything may take to end and recover after the last fault."""


def heavy(seed: int, duration_s: float) -> FaultPlan:
    """Return the heavy faults of one seed."""
    return FaultPlan.seeded(seed, SPEC, duration_s=duration_s, rates=LEVELS["heavy"])


def run_seed(seed: int, duration_s: float, *, abrupt: bool = False) -> Report:
    """Simulate the bench under heavy faults."""

    async def main(bench: Bench) -> None:
        await Exercise(bench, duration_s, abrupt=abrupt).run()

    limit_s = duration_s + SETTLING_S
    return simulate(seed, main, bench=SPEC, faults=heavy(seed, duration_s), limit_s=limit_s)


HARSH = {
    kind: evolve(rate, per_hour=6 * rate.per_hour) for kind, rate in LEVELS["heavy"].items()
} | {FaultKind.CRASH: FaultRate(per_hour=40, count=(1, 5))}
"""Trouble enough for a run of two minutes; actors crash until their supervisors give up."""

HARSH_S = 120.0


def run_harsh(seed: int) -> Report:
    """Simulate two bad minutes; every other seed ends amid work."""
    plan = FaultPlan.seeded(seed, SPEC, duration_s=HARSH_S, rates=HARSH)

    async def main(bench: Bench) -> None:
        await Exercise(bench, HARSH_S, abrupt=seed % 2 == 1).run()

    return simulate(seed, main, bench=SPEC, faults=plan)


LATE = {FaultKind.LATE: FaultRate(per_hour=1200, by_s=(0.9, 1.4))}
"""Replies that come about when they are given up."""


def run_late(seed: int) -> Report:
    """Simulate a minute in which many replies come about when they are given up."""
    plan = FaultPlan.seeded(seed, SPEC, duration_s=60.0, rates=LATE)

    async def main(bench: Bench) -> None:
        await Exercise(bench, 60.0, abrupt=True).run()

    return simulate(seed, main, bench=SPEC, faults=plan)


BOARD_SPEC = TreeSpec(
    name="board",
    buses=[
        BusSpec(name="board", address="tcp://192.0.2.20:5025", profile=MULTIPLEXED),
        BusSpec(name="supply", address="tcp://192.0.2.17:5025"),
    ],
    instruments=[
        *(
            InstrumentSpec(name=f"zone{n}", bus="board", driver=ZoneController, unit_id=str(n))
            for n in range(1, 7)
        ),
        InstrumentSpec(name="psu", bus="supply", driver=PowerSupply),
    ],
    recordings=[
        RecordingSpec(
            name="main",
            parameters=["process_value", "power", "measured_voltage"],
            rate_hz=1.0,
            sinks=["sqlite"],
        )
    ],
)
"""A bench with a bus whose instruments are asked at once."""


def run_board(seed: int) -> Report:
    """Simulate two bad minutes of the bench with a multiplexed bus."""
    plan = FaultPlan.seeded(seed, BOARD_SPEC, duration_s=HARSH_S, rates=HARSH)

    async def main(bench: Bench) -> None:
        await Exercise(bench, HARSH_S, abrupt=seed % 2 == 1, users=2).run()

    return simulate(seed, main, bench=BOARD_SPEC, faults=plan)
