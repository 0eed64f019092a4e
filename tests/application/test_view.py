"""What the live table shows, and how fast things are said to be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from benchtree import Sample, load_config, open_tree, run_bench
from benchtree.logs import open_logbook
from benchtree.run import BenchRun
from benchtree.view import RateMeter, Row, Watched, rows, show, show_sample, table_of
from recorder import Counts

from .benches import SIMULATED


def bench_file(folder: Path) -> Path:
    """Write the simulated bench."""
    path = folder / "bench.toml"
    path.write_text(SIMULATED)
    return path


def sample(value: float | str | None, unit: str | None = None) -> Sample:
    """Return a sample of a current."""
    return Sample("psu", "bus", "scpi", "current", "CURR", 1, value, unit, 0, 0, 0)


async def test_one_row_per_bus_and_instrument(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A healthy bench is in service, its breakers are closed, its numbers are there."""
    async with open_tree(bench_file(tmp_path), sim=True) as tree:
        await trio.sleep(1.0)
        counts = {"psu": Counts(read=9, missing=1, late=2)}
        watched = Watched({"psu": {"current": sample(0.5, "A")}}, counts, {"psu": 10.0})
        found = rows(tree.status(), watched)
    assert [row.name for row in found] == ["supply", "  psu", "meter", "  dmm"]
    assert all(row.well and row.breaker == "closed" for row in found)
    assert (found[0].state, found[1].state) == ("ready", "in service")
    psu = found[1]
    assert (psu.value, psu.rate, psu.late, psu.missing) == ("current 0.5 A", "10.0 Hz", "2", "1")
    assert (found[3].value, found[3].rate, found[3].missing) == ("", "", "")


async def test_an_unplugged_bus_is_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Its breaker is open, with the time to the next try; it takes its instrument along."""
    async with open_tree(bench_file(tmp_path), sim=True) as tree:
        await trio.sleep(1.0)
        tree.lines["meter"].unplug()
        await trio.sleep(0.5)
        found = {row.name.strip(): row for row in rows(tree.status(), Watched())}
    assert found["meter"].state.startswith("away: ")
    assert found["meter"].breaker.startswith("open, 1.")
    assert found["dmm"].breaker == found["meter"].breaker
    assert [name for name, row in found.items() if row.well] == ["supply", "psu"]


async def test_a_tripped_instrument_says_why(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Only reads pass, and the reason is in the row."""
    async with open_tree(bench_file(tmp_path), sim=True) as tree:
        await trio.sleep(1.0)
        await tree.trip("psu", "the door opened")
        found = rows(tree.status(), Watched())
    assert found[1].state == "tripped: the door opened"
    assert not found[1].well


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.123456789, "A", "current 0.12346 A"),
        (None, "A", "current - A"),
        ("AUTO", None, "current AUTO"),
    ],
)
def test_values_with_their_units(value: float | str | None, unit: str | None, shown: str) -> None:
    """A value is shown with its unit, and an unavailable one as such."""
    assert show_sample(sample(value, unit)) == shown


def test_rate_over_the_last_seconds() -> None:
    """The rate is that of each series, and falls to zero when nothing comes any more."""
    meter = RateMeter()
    series = {"psu": 2}
    assert meter.rates_hz(0.0, {"psu": Counts()}, series) == {}
    assert meter.rates_hz(1.0, {"psu": Counts(read=20)}, series) == {"psu": 10.0}
    assert meter.rates_hz(4.0, {"psu": Counts(read=20)}, series) == {}
    assert meter.rates_hz(5.0, {"psu": Counts(read=20)}, series) == {"psu": 0.0}


def test_numbers_fit_in_a_narrow_terminal() -> None:
    """On a hundred columns long texts are cut, never a number."""
    row = Row(
        name="  a-long-name-for-it",
        state="away: the far end closed the connection a while ago",
        well=False,
        breaker="open, 119.9 s",
        value="temperature 1023.4 degC  setpoint 1100 degC",
        rate="1000.0 Hz",
        late="12345",
        missing="1234567",
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(table_of([row], "a title with [brackets]"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for said in ("a title with [brackets]", row.name, row.breaker, row.rate, row.late, row.missing):
        assert said in text


async def test_the_table_is_drawn_until_the_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While a run goes on the table is drawn again and again, and its last state stays."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    config = load_config(bench_file(tmp_path))
    async with open_logbook(to_stderr=False) as logbook:

        async def watch(bench: BenchRun) -> None:
            await show(bench, console, logbook)

        await run_bench(config, sim=True, for_s=2.0, runs_root=tmp_path, watch=watch)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("bus, instrument") >= 8
    last = text.rpartition("bus, instrument")[2]
    assert "in service" in last
    assert "10.0 Hz" in last
