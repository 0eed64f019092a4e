"""The table of a documentation page, made from a run of the benchmarks."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio

from .report import Measurement

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"


def check_page(page: Path) -> None:
    """Raise what would keep a table from being written; benchmarks take minutes.

    Raises:
        OSError: The page cannot be read.
        ValueError: It has not both marks.
    """
    _around(page)


def write_table(page: Path, found: Sequence[Measurement]) -> None:
    """Replace what stands between the page's two marks with a table of `found`.

    Raises:
        OSError: The page cannot be read or written.
        ValueError: It has not both marks.
    """
    before, after = _around(page)
    page.write_text(f"{before}{BEGIN}\n{_table(found)}\n{END}{after}", encoding="utf-8")


def _around(page: Path) -> tuple[str, str]:
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the marks {BEGIN} and {END}")
    return before, after


def _table(found: Sequence[Measurement]) -> str:
    day = datetime.now(UTC).date().isoformat()
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    versions = f"Python {platform.python_version()}, Trio {trio.__version__}"
    held = [each for each in found if each.budget is not None]
    rows = [
        f"Measured on {day}: {machine}, {versions}.",
        f"{sum(each.ok for each in held)} of {len(held)} budgets are kept. A run also prints",
        "what has no budget; it is left out here.",
        "",
        "| what | measured | held against | at most | |",
        "|---|---:|---:|---:|---|",
        *(_row(each) for each in held),
    ]
    return "\n".join(rows)


def _row(measured: Measurement) -> str:
    value = f"{measured.value:.4g} {measured.unit}".strip()
    against = ""
    if measured.against is not None:
        times = "" if measured.ratio is None else f"{measured.ratio:.2f} x "
        against = f"{times}{measured.against}"
    verdict = "ok" if measured.ok else "**missed**"
    return f"| {measured.name} | {value} | {against} | {measured.budget:.3g} | {verdict} |"
