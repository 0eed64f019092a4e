"""Every benchmark runs and says what it found in the same words; nothing here judges speed."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Bus, Events, Ticket
from actors.instruments.scpi import PowerSupply
from actors.instruments.scpi.models import PowerSupplyModel
from benchmarks import peers, red_pitaya
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.page import BEGIN, END, write_table
from benchmarks.report import Measurement, growth
from benchmarks.sinks import make_batches
from transports import SERIAL, Lines, MemoryHost, SimLine, StreamTransport

FIELDS = ["name", "value", "unit", "ratio", "against", "budget", "ok", "n", "python", "trio"]

MARKS = {"pyrpl": pytest.mark.heavy, "peers": pytest.mark.peer}

EXACT = {"ask, passes": 2.0, "ask, steps": 2.0, "inbox, one message behind a lane of 1000": 1.0}
"""What is counted, not timed: the same on every machine."""

BUDGETS: Mapping[str, Sequence[tuple[str, str | None, float]]] = {
    "ask": [
        ("ask, passes", None, 2),
        ("ask, steps", None, 2),
        ("ask, 1 caller", "a call under trio.Lock", 3.0),
        ("ask, async handler, 1 caller", "a call under trio.Lock", 4.5),
        ("ask, 10 callers", "a call under trio.Lock", 1.05),
        ("ask, 100 callers", "a call under trio.Lock", 1.05),
        ("ask, 1000 callers", "a call under trio.Lock", 1.05),
    ],
    "serial": [
        (f"serial, device latency {latency} ms, p50", "blocking pyserial", budget)
        for latency, budget in (("0", 1.3), ("0.2", 1.05), ("2", 1.05), ("20", 1.05))
    ],
    "tcp": [
        (f"tcp, device latency {latency} ms, p50", "a blocking socket", 1.2)
        for latency in ("0", "0.2", "2", "20")
    ],
    "visa": [
        (f"visa, device latency {latency} ms, p50 beyond blocking PyVISA", None, 110.0)
        for latency in ("0", "0.2", "2", "20")
    ],
    "cadence": [
        (
            "recorder lateness at 1000 Hz, SQLite being written, p50",
            "a time.sleep loop",
            0.6,
        ),
        (
            "recorder lateness at 1000 Hz, SQLite being written, p99",
            "a time.sleep loop",
            1.2,
        ),
        ("recorder slots missed at 1000 Hz, SQLite being written", None, 1.0),
    ],
    "sinks": [
        ("sink sqlite, batches of 1000, time of a row", "the goal of 500000 rows/s", 1.0),
        ("sink sqlite, acknowledged rows lost to kill -9", None, 0),
    ],
    "fleet": [("poll of 2 ports of 20 ms", "a poll of one port", 1.25)],
    "scale": [
        ("an idle actor", None, 6.5),
        ("an ask beside 100 idle actors", "beside 10", 1.25),
        ("starting actors, growth with actors", "linear, 10 to 100", 1.15),
        ("starting actors one by one, growth with actors", "linear, 10 to 100", 1.15),
        ("serving a queue, growth with commands", "linear, 100 to 1000", 1.15),
        ("writing samples, growth with samples", "linear, 1000 to 4000", 1.15),
        ("recording, growth with the length of the run", "linear, 30 to 120", 1.15),
    ],
}
"""What the design allows at most, by benchmark: name, what it is held against, how much."""


@cache
def measured(name: str) -> Sequence[dict[str, Any]]:
    """Run a benchmark on tiny sizes, once, and return what it printed."""
    with redirect_stdout(io.StringIO()) as out:
        assert main([name, "--quick", "--json"]) in (0, 1)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=MARKS.get(each, ())) for each in BENCHMARKS]
)
def test_benchmark(name: str) -> None:
    """It prints objects of exactly these fields, every number sane, every budget the design's."""
    found = measured(name)
    for each in found:
        assert list(each) == FIELDS
        assert math.isfinite(each["value"])
        assert each["value"] >= 0.0 or "beyond" in each["name"] or each["unit"] == "log/log"
        assert each["ratio"] is None or (math.isfinite(each["ratio"]) and each["against"])
        assert each["n"] >= 1
        held = each["value"] if each["ratio"] is None else each["ratio"]
        assert each["ok"] is (each["budget"] is None or held <= each["budget"])
        assert each["trio"] == trio.__version__
        if each["name"] in EXACT:
            assert each["value"] == EXACT[each["name"]]
    said = [(each["name"], each["against"]) for each in found]
    assert said
    assert len(set(said)) == len(said)
    budgets = {(each["name"], each["against"], each["budget"]) for each in found}
    assert budgets >= set(BUDGETS.get(name, ()))


def test_no_such_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is none of them is refused with those that there are."""
    with pytest.raises(SystemExit) as refused:
        main(["asc"])
    assert refused.value.code == 2
    assert "no benchmark asc; there are: ask, inbox" in capsys.readouterr().err


def test_a_missed_budget_is_told() -> None:
    """The exit code, the line and the page say it."""
    missed = Measurement(name="a", value=3.0, unit="us", ratio=2.0, against="b", budget=1.5)
    assert not missed.ok
    assert missed.as_text().endswith("2.00 x b  (at most 1.5: MISSED)")
    assert not Measurement(name="a", value=1.0, unit="rows", budget=0).ok
    assert Measurement(name="a", value=1.0, unit="rows").ok


def test_page(tmp_path: Path) -> None:
    """What has a budget goes between the marks, and nothing else; a page must have them."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    missed = Measurement(name="a", value=3.0, unit="us", ratio=2.0, against="b", budget=1.5)
    write_table(page, [missed, Measurement(name="no budget", value=1.0, unit="rows")])
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\nMeasured on ")
    assert "0 of 1 budgets" in text
    assert "no budget |" not in text
    assert text.endswith(f"| a | 3 us | 2.00 x b | 1.5 | **missed** |\n{END}\nafter\n")
    page.write_text("no marks")
    with pytest.raises(ValueError, match="needs the marks"):
        write_table(page, [missed])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [(None, "No such file"), ("no marks", "needs the marks <!-- measured: begin")],
)
def test_a_page_is_looked_at_first(
    text: str | None, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot take the table is refused before minutes are spent on it."""
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    with pytest.raises(SystemExit) as refused:
        main(["inbox", "--quick", "--page", str(page)])
    assert refused.value.code == 2
    said = capsys.readouterr()
    assert wrong in said.err
    assert not said.out


@pytest.mark.parametrize("some", ["inbox", "--quick"])
def test_a_page_takes_all_or_nothing(
    some: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of a whole run is not replaced by a part of one."""
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\nold\n{END}\n")
    with pytest.raises(SystemExit) as refused:
        main([some, "--page", str(page)])
    assert refused.value.code == 2
    assert "leave NAME and --quick out" in capsys.readouterr().err
    assert page.read_text() == f"{BEGIN}\nold\n{END}\n"


@pytest.mark.parametrize("module", [peers.OURS, peers.THEIRS])
def test_a_library_that_ends_is_named(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One that cannot be started or open its device ends the comparison, and is named."""
    with pytest.raises(RuntimeError, match=rf"{module} with alicatlib ended with exit code 1"):
        peers.Worker(Path(sys.executable), module, "alicatlib", ["/dev/none"])
    assert "Traceback" in capfd.readouterr().err


def test_a_library_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes too long is ended, and is said to have taken too long."""
    with ExitStack() as stack:
        (port,) = peers.lines("alicatlib", 1, 0.0, stack)
        with peers.Worker(Path(sys.executable), peers.OURS, "alicatlib", [port]) as worker:
            assert worker.ask("exchanges", "data frame", 2)
            with pytest.raises(RuntimeError, match="ended with exit code 1"):
                worker.ask("nothing of the kind")
        monkeypatch.setattr(peers, "WITHIN_S", 0.05)
        with pytest.raises(RuntimeError, match=r"with alicatlib took longer than 0\.05 s"):
            peers.Worker(Path(sys.executable), peers.OURS, "alicatlib", [port])


def test_what_is_not_here_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without PyRPL or Python 3.13 one line says what is missing, and nothing has failed."""

    def absent(name: str) -> None:
        assert name == "pyrpl"

    monkeypatch.setattr(red_pitaya, "find_spec", absent)
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["pyrpl", "peers", "--quick"]) == 0
    said = capsys.readouterr()
    assert not said.out
    assert 'pyrpl: left out, PyRPL is not here: pip install "benchtree[pyrpl]"' in said.err
    assert "peers: left out, they need python3.13, which is not here" in said.err


@pytest.mark.parametrize(("power", "ok"), [(0.0, True), (1.0, True), (1.2, False), (2.0, False)])
def test_growth(power: float, ok: bool) -> None:
    """The exponent is found, and what grows faster than linear is over the budget."""
    sizes = (10, 100, 1000)
    found = growth("it", {size: 3.0 * size**power for size in sizes})
    assert found.value == pytest.approx(power)
    assert found.ok is ok


def test_samples_are_those_of_a_furnace() -> None:
    """Rows are all different, in the order of their stamps, and the same in every run."""
    batches = make_batches(100, 3)
    assert [len(each) for each in batches] == [100] * 3
    samples = list(chain.from_iterable(batches))
    stamps = [each.requested_ns for each in samples]
    assert stamps == sorted(set(stamps))
    assert len({each.value for each in samples}) > 250
    assert samples == list(chain.from_iterable(make_batches(100, 3)))


async def test_exchanges_of_an_ask(autojump_clock: MockClock) -> None:
    """A read and a checked write are one exchange each; one withdrawn in the queue is none."""
    host = MemoryHost(SimLine(PowerSupplyModel()))
    transport = StreamTransport("line", host.connect, framing=Lines(), profile=SERIAL)
    bus = Bus("line", transport, SERIAL, events=Events(), sequence=count(1))
    psu = PowerSupply("psu", bus)
    bus.attach(psu)
    async with trio.open_nursery() as nursery:
        up = trio.Event()
        nursery.start_soon(bus.run, up.set)
        await up.wait()
        await psu.voltage.get()
        before = transport.counters.exchanges
        for number in range(10):
            await psu.voltage.set(float(number))
            await psu.voltage.get()
        assert transport.counters.exchanges == before + 20
        tickets: list[Ticket[float | None]] = [
            await psu.submit(PowerSupply.voltage) for _ in range(10)
        ]
        for each in tickets[1:]:
            each.withdraw()
        for each in tickets:
            await each.outcome()
        assert transport.counters.exchanges == before + 21
        nursery.cancel_scope.cancel()
