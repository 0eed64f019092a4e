"""Measure benchtree: `python -m benchmarks [NAME ...] [--quick] [--json] [--page FILE]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from .page import check_page, write_table
from .report import Measurement

try:
    from . import (
        ask,
        cadence,
        exchange,
        fleet,
        inbox,
        peers,
        red_pitaya,
        restart,
        scale,
        simulate,
        sinks,
        visa,
    )
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"the benchmarks need {missing.name}, which is not here: pip install -e '.[dev]'"
    ) from None


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
    parser.add_argument("--page", type=Path, help="put the table of a whole run into this page")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if chosen.page is not None:
        try:
            check_page(chosen.page)
        except (OSError, ValueError) as error:
            parser.error(f"--page: {error}")
        if chosen.names or chosen.quick:
            parser.error(
                "--page: the table is of all benchmarks in full; leave NAME and --quick out"
            )
    found: list[Measurement] = []
    for name in dict.fromkeys(chosen.names or BENCHMARKS):
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
    code = 130  # as a shell says it of what Ctrl-C ended
    try:
        code = main()
    except* KeyboardInterrupt:
        pass
    except* BrokenPipeError:
        # Whoever read has seen enough; nothing is to be written on the way out either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)
