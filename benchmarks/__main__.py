"""Measure benchtree: `python -m benchmarks [NAME ...] [--quick] [--json] [--page FILE]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from . import (
    ask,
    cadence,
    exchange,
    fleet,
    inbox,
    journal,
    peers,
    red_pitaya,
    restart,
    scale,
    simulate,
    sinks,
    visa,
)
from .page import write_table
from .report import Measurement


class _Benchmark(Protocol):
    def __call__(self, *, quick: bool) -> Iterable[Measurement]: ...


BENCHMARKS: Final[Mapping[str, _Benchmark]] = {
    "ask": ask.run,
    "inbox": inbox.run,
    "serial": exchange.run_serial,
    "tcp": exchange.run_tcp,
    "visa": visa.run,
    "fleet": fleet.run,
    "cadence": cadence.run,
    "sinks": sinks.run,
    "journal": journal.run,
    "scale": scale.run,
    "restart": restart.run,
    "simulate": simulate.run,
    "pyrpl": red_pitaya.run,
    "peers": peers.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run benchmarks and print what they measure; return 1 if a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--quick", action="store_true", help="so few rounds that only working is shown"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--page", type=Path, help="put the table into this page as well")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    found: list[Measurement] = []
    for name in chosen.names or BENCHMARKS:
        began_s = time.monotonic()
        for measured in BENCHMARKS[name](quick=chosen.quick):
            sys.stdout.write((measured.as_json() if chosen.json else measured.as_text()) + "\n")
            sys.stdout.flush()
            found.append(measured)
        sys.stderr.write(f"{name}: {time.monotonic() - began_s:.1f} s\n")
    if chosen.page is not None:
        write_table(chosen.page, found)
    return 0 if all(measured.ok for measured in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
