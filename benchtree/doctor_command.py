"""`benchtree doctor`: what answers on a bench, and why the rest does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import trio
from attrs import asdict
from cyclopts import Parameter

from .config import load_config
from .diagnosis import Diagnosis
from .doctor import WITHIN_S, BusReport, InstrumentReport, examine
from .drivers import name_of

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2


def doctor(
    file: Path,
    *,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    within: float = WITHIN_S,
) -> int:
    """Open every bus of a bench, ask who is there, and say what is wrong and what mends it.

    Nothing is set anywhere. All buses are opened at once; ends with 1 if anything is wrong.

    Args:
        file: The bench's configuration.
        json_: Write JSON.
        within: How long a bus may take, in seconds.
    """
    if not 0.0 < within <= 600.0:
        sys.stderr.write(f"benchtree: --within is {within:g}; it must be above 0, to 600 seconds\n")
        return USAGE
    reports = trio.run(partial(examine, load_config(file).tree, within_s=within))
    if json_:
        sys.stdout.write(json.dumps([_as_json(each) for each in reports], indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(reports))
    return OK if all(each.well for each in reports) else FAILED


def _lines(reports: Sequence[BusReport]) -> Iterator[str]:
    for bus in reports:
        yield f"bus {bus.spec.name}: {bus.spec.address}" + (" (simulated)" * bus.simulated)
        if bus.diagnosis is not None:
            yield f"  {bus.diagnosis.trouble.value}"
            yield from _told(bus.diagnosis, "    ")
            continue
        for each in bus.instruments:
            if each.diagnosis is not None:
                yield f"  {each.spec.name}: {each.diagnosis.trouble.value}"
                yield from _told(each.diagnosis, "    ")
            elif each.identity is not None and each.latency_s is not None:
                yield f"  {each.spec.name}: ok: {each.identity}, {each.latency_s * 1e3:.1f} ms"
                if each.remark:
                    yield f"    but:  {each.remark}"
    wrong = sum(not each.well for each in reports)
    yield f"{wrong} of {len(reports)} buses need mending" if wrong else "all is well"


def _told(diagnosis: Diagnosis, indent: str) -> Iterator[str]:
    yield f"{indent}why:  {diagnosis.why}"
    yield f"{indent}mend: {diagnosis.mend}"


def _as_json(bus: BusReport) -> dict[str, object]:
    return {
        "bus": bus.spec.name,
        "address": bus.spec.address,
        "ok": bus.well,
        "simulated": bus.simulated,
        **_wrong(bus.diagnosis),
        "instruments": [_instrument(each) for each in bus.instruments],
    }


def _instrument(report: InstrumentReport) -> dict[str, object]:
    latency_s = report.latency_s
    return {
        "name": report.spec.name,
        "driver": name_of(report.spec.driver),
        "unit": report.unit,
        "identity": None if report.identity is None else asdict(report.identity),
        "latency_ms": None if latency_s is None else round(latency_s * 1e3, 3),
        "remark": report.remark or None,
        **_wrong(report.diagnosis),
    }


def _wrong(diagnosis: Diagnosis | None) -> dict[str, object]:
    return {
        "trouble": None if diagnosis is None else diagnosis.trouble.value,
        "why": None if diagnosis is None else diagnosis.why,
        "mend": None if diagnosis is None else diagnosis.mend,
    }
