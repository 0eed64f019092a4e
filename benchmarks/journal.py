"""What the journal costs: an ask to a simulated instrument with it, against one without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from actors.instruments.scpi import PowerSupply
from benchtree import TreeSpec, open_journal, open_tree

from .report import Call, Measurement, interleave


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure reads, writes, and writes that wait for the disk."""
    return trio.run(_measure, 2 if quick else 31, 10 if quick else 200)


async def _measure(rounds: int, calls: int) -> list[Measurement]:
    with TemporaryDirectory(prefix="benchtree-") as folder:
        async with (
            open_journal(Path(folder) / "journal.sqlite") as journal,
            open_tree(TreeSpec(name="with"), sim=True, journal=journal) as with_it,
            open_journal(Path(folder) / "all.sqlite", everything=True) as everything,
            open_tree(TreeSpec(name="all"), sim=True, journal=everything) as with_all,
            open_tree(TreeSpec(name="without"), sim=True) as without,
        ):
            kept = await with_it.add("psu", PowerSupply, "sim://kept")
            full = await with_all.add("psu", PowerSupply, "sim://full")
            bare = await without.add("psu", PowerSupply, "sim://bare")
            cases: dict[str, Call] = {
                "read, without": bare.voltage.get,
                "read": kept.voltage.get,
                'read, journal = "all"': full.voltage.get,
                "write, without": lambda: bare.voltage.set(1.0),
                "write": lambda: kept.voltage.set(1.0),
                "hazardous write, without": lambda: bare.output.set(True, confirm=True),
                "hazardous write": lambda: kept.output.set(True, confirm=True),
            }
            for call in cases.values():
                await call()
            times = await interleave(cases, rounds=rounds, calls=calls)
    return [
        Measurement(
            name=f"journal: {name}",
            value=times[name],
            unit="us",
            ratio=times[name] / times[f"{name.partition(',')[0]}, without"],
            against="the same without a journal",
            n=rounds * calls,
        )
        for name in cases
        if not name.endswith("without")
    ]
