"""The same simulated devices and files, driven by benchtree and by alicatlib and watlowlib.

What is compared is an exchange: of Alicat's the whole data frame, of Watlow's one parameter. A
process value takes benchtree two, as it looks at the input error first, and watlowlib one.

They need Python 3.13: where it is found, an environment of their own is made beside this
one, with exact versions; where it is not, there is nothing to compare and one line says so.
Devices are driven by the interpreter of that environment, by benchtree as well; rows of
benchtree are written by this one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from transports import BlockingSimProcess, SimSpec, parse_address

from .report import Measurement
from .sinks import HELD, available, make_batches, time_of_row

PINNED: Final = ("alicatlib[parquet]==0.3.1", "watlowlib[parquet]==0.8.1", "trio==0.35.0")
PYTHON: Final = "python3.13"
ROOT: Final = Path(__file__).parents[1]
ENVIRONMENT: Final = ROOT / ".venv-peers"
THEIRS: Final = "benchmarks.peers_theirs"
OURS: Final = "benchmarks.peers_ours"

RECORDINGS: Final = {200: (1, 3.0), 500: (5, 5.0), 1000: (3, 3.0)}
"""Rates in Hz, how many recordings of each, and how long each takes, in seconds.

At the first none is to be missed, at the others fewer than the others miss. The rarer a miss,
the longer one has to look.
"""

REAL_TIME: Final = 10
"""The priority of recordings, and of what they record, among what is real-time: a low one."""

FEWER: Final = 0.999
"""How many times as many slots may be missed at most."""

LEAST: Final = 3.0
"""How many times as many rows a second are to be written."""

TURNS: Final = 4
PORTS: Final = 32
LATENCY_S: Final = 0.02

MODELS: Final = {
    "alicatlib": "actors.instruments.alicat:make_line",
    "watlowlib": "actors.instruments.watlow:StandardBusModel",
}
ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "alicatlib": {"units": "A"},
    "watlowlib": {"controllers": [1], "thinking_s": 0.0},
}


def find_python() -> Path | None:
    """Return the interpreter with all libraries, made if need be; None where it cannot be.

    One line says why.
    """
    python = ENVIRONMENT / "bin" / "python"
    wanted = [*PINNED, *_requirements()]
    note = ENVIRONMENT / "made-of.txt"
    if note.exists() and note.read_text(encoding="utf-8").split("\n") == wanted:
        return python
    # What pyenv puts on the path only says that another version has to be chosen.
    kept = sorted(Path.home().glob(f".pyenv/versions/3.13*/bin/{PYTHON}"))
    base = next(map(str, kept), shutil.which(PYTHON))
    if base is None:
        sys.stderr.write(f"peers: left out, they need {PYTHON}, which is not here\n")
        return None
    sys.stderr.write(f"making {ENVIRONMENT.name}, once\n")
    unbound = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    make = [base, "-m", "venv", "--clear", str(ENVIRONMENT)]
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    try:
        subprocess.run(make, check=True)
        subprocess.run([*install, *wanted], check=True, env=unbound)
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd[:4]))
        sys.stderr.write(f"peers: left out, they could not be installed: {command} failed\n")
        return None
    note.write_text("\n".join(wanted), encoding="utf-8")
    return python


def _requirements() -> Sequence[str]:
    """Return what benchtree itself needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return tuple(project["dependencies"])


def ask_worker(python: Path, worker: str, *words: object) -> Any:
    """Return what a worker of the other interpreter measured."""
    done = subprocess.run(
        [str(python), "-m", worker, *map(str, words)],
        check=True, stdout=subprocess.PIPE, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure what an exchange costs, slots missed, polls of many ports, and rows written."""
    python = find_python()
    if python is None:
        return
    version = _version_of(python)
    yield from (evolve(each, python=version) for each in _lines_measured(python, quick=quick))
    yield from _sinks(python, 1 if quick else 3, 3 if quick else 30)


def _version_of(python: Path) -> str:
    say = "import platform; print(platform.python_version())"
    done = subprocess.run([str(python), "-c", say], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _lines_measured(python: Path, *, quick: bool) -> Iterable[Measurement]:
    recordings = dict.fromkeys(RECORDINGS, (1, 0.5)) if quick else RECORDINGS
    for library in MODELS:
        yield _exchanges(library, python, 40 if quick else 2000)
        for rate_hz, (rounds, seconds) in recordings.items():
            yield from _missed(library, python, rate_hz, seconds, rounds)
        yield _poll(library, python, 3 if quick else 30)


def _lines(library: str, count: int, latency_s: float, stack: ExitStack) -> Sequence[str]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    specs = [
        SimSpec(
            model=MODELS[library],
            arguments=dict(ARGUMENTS[library]),
            host="pty",
            link=str(folder / f"port{number}"),
            latency_s=latency_s,
        )
        for number in range(count)
    ]
    sim = stack.enter_context(BlockingSimProcess(specs))
    return [str(parse_address(address).path) for address in sim.addresses]


def _device(library: str) -> str:
    """Return whose device the library is for."""
    return library.removesuffix("lib")


def _exchanges(library: str, python: Path, count: int) -> Measurement:
    """Compare what is added to a bare write and read, in turns on one port."""
    ours_s: list[float] = []
    theirs_s: list[float] = []
    bare_s: list[float] = []
    with ExitStack() as stack:
        stack.enter_context(_one_processor())
        (port,) = _lines(library, 1, 0.0, stack)
        for _ in range(TURNS):
            bare_s += ask_worker(python, OURS, "bare", library, port, count // TURNS)
            ours_s += ask_worker(python, OURS, "exchanges", library, port, count // TURNS)
            theirs_s += ask_worker(python, THEIRS, "exchanges", library, port, count // TURNS)
    bare, ours, theirs = (statistics.median(each) for each in (bare_s, ours_s, theirs_s))
    return Measurement(
        name=f"added to an exchange, {_device(library)}",
        value=(ours - bare) * 1e6,
        unit="us",
        ratio=(ours - bare) / (theirs - bare),
        against=library,
        budget=1.0,
        n=count,
    )


def _missed(
    library: str, python: Path, rate_hz: int, seconds: float, rounds: int
) -> Iterable[Measurement]:
    """Compare which slots gave no sample, in turns on one port."""
    slots = rounds * round(rate_hz * seconds)
    ours = theirs = slots
    with ExitStack() as stack:
        stack.enter_context(_undisturbed())
        (port,) = _lines(library, 1, 0.0, stack)
        for _ in range(rounds):
            ours -= ask_worker(python, OURS, "record", library, port, rate_hz, seconds)
            theirs -= ask_worker(python, THEIRS, "record", library, port, rate_hz, seconds)
    none_at_all = rate_hz == min(RECORDINGS)
    name = f"slots missed at {rate_hz} Hz"
    yield Measurement(
        name=f"{name} beside {library}",
        value=ours / slots * 100,
        unit="%",
        ratio=None if none_at_all else ours / theirs if theirs else float(ours),
        against=None if none_at_all else library,
        # As many are not fewer, unless there are none.
        budget=0.0 if none_at_all else FEWER,
        n=slots,
    )
    yield Measurement(name=f"{name}, {library}", value=theirs / slots * 100, unit="%", n=slots)


@contextmanager
def _undisturbed() -> Generator[None]:
    """Let what is started in the block go before all other work, on Linux.

    Its own threads may keep a processor for milliseconds: whole slots, lost by whoever records
    just then. Where real-time priority is not permitted, all stays on one processor.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME))
    except OSError:
        sys.stderr.write("peers: recording on one processor: real-time priority is not permitted\n")
        with _one_processor():
            yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@contextmanager
def _one_processor() -> Generator[None]:
    """Keep what is started in the block on one processor, where the system lets one choose.

    Waking a second one takes a virtual machine up to some milliseconds at times, and tenths of
    one often, whoever waits for it.
    """
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _poll(library: str, python: Path, count: int) -> Measurement:
    ours_s: list[float] = []
    theirs_s: list[float] = []
    with ExitStack() as stack:
        ports = _lines(library, PORTS, LATENCY_S, stack)
        # Opening so many ports takes one of the libraries a quarter of a minute: once is enough.
        ours_s += ask_worker(python, OURS, "poll", library, count, *ports)
        theirs_s += ask_worker(python, THEIRS, "poll", library, 2 * count, *ports)
        ours_s += ask_worker(python, OURS, "poll", library, count, *ports)
    ours, theirs = statistics.median(ours_s), statistics.median(theirs_s)
    return Measurement(
        name=f"poll of {PORTS} ports of {LATENCY_S * 1e3:g} ms, {_device(library)}",
        value=ours * 1e3,
        unit="ms",
        ratio=(ours - LATENCY_S) / (theirs - LATENCY_S),
        against=f"{library}, beyond the ideal",
        budget=1.0,
        n=2 * count,
    )


def _sinks(python: Path, rounds: int, count: int) -> Iterable[Measurement]:
    """Compare the time that a row takes in batches of the usual size."""
    sinks = available()
    batches = make_batches(HELD, count)
    ours: dict[str, list[float]] = {}
    theirs: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for kind, make in sinks.items():
            ours.setdefault(kind, []).append(time_of_row(kind, make, batches)[0])
        found: dict[str, dict[str, float]] = ask_worker(python, THEIRS, "sinks", HELD, count)
        for library, rates in found.items():
            for kind, rate in rates.items():
                theirs.setdefault((library, kind), []).append(1 / rate)
    for (library, kind), their_s in theirs.items():
        if kind not in ours:
            continue
        row_s = statistics.median(ours[kind])
        yield Measurement(
            name=f"sink {kind}, time of a row",
            value=row_s * 1e6,
            unit="us",
            ratio=row_s / statistics.median(their_s),
            against=library,
            budget=1 / LEAST,
            n=rounds * count,
        )
