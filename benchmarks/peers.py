"""The same simulated devices and files, driven by benchtree and by alicatlib and watlowlib.

Both read the same of a device: of an Alicat its whole data frame, of a Watlow its
setpoint, which is one exchange for both. A process value is compared as well, without a budget:
benchtree asks first whether the input has an error, which is one exchange more.

They need Python 3.13: where it is found, an environment of their own is made beside this
one, with exact versions; where it is not, there is nothing to compare and one line says so.
Devices are driven by the interpreter of that environment, by benchtree as well; rows of
benchtree are written by this one. Each library has its devices open for the length of the
comparison, and they take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

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

RECORDINGS: Final = {200: (2, 1.5), 500: (13, 2.0), 1000: (8, 2.0)}
"""Rates in Hz, how many recordings of each, and how long each takes, in seconds.

At the first none is to be missed, at the others fewer than the others miss. The rarer a miss,
the longer one has to look.
"""

REAL_TIME: Final = 10
"""The priority of what is compared, and of its devices, among what is real-time: a low one."""

FEWER: Final = 0.999
"""How many times as many slots may be missed at most."""

LEAST: Final = 3.0
"""How many times as many rows a second are to be written."""

EXCHANGES: Final = 40
"""How many exchanges a turn has."""

WITHIN_S: Final = 300.0
"""How long a library may take with all that it is asked, in seconds; then it is ended."""

PORTS: Final = 32
POLLS: Final = 10
"""How many polls a turn has."""

CLOSE_S: Final = 20.0
"""How long a library may take to close its devices, in seconds."""

LATENCY_S: Final = 0.02

READ: Final[Mapping[str, Sequence[str]]] = {
    "alicatlib": ("data frame",),
    "watlowlib": ("setpoint", "process_value"),
}
"""What is read of a device; a budget is held against the first."""

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


class Worker:
    """A process of the other interpreter that has devices open; a context manager.

    It is told what to measure, one thing after the other.
    """

    def __init__(self, python: Path, module: str, library: str, ports: Sequence[str]) -> None:
        """Start it and wait until the devices are open."""
        self._name = f"{module} with {library}"
        self._process = subprocess.Popen(
            [str(python), "-m", module, library, *ports],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self._overdue = False
        self._end = threading.Timer(WITHIN_S, self._give_up)
        self._end.start()
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the worker."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def ask(self, *words: object) -> Any:
        """Return what it measured."""
        self.tell(*words)
        return self.hear()

    def tell(self, *words: object) -> None:
        """Have it begin to measure."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it says, or does not, tells why
            self._process.stdin.write(json.dumps([str(each) for each in words]) + "\n")
            self._process.stdin.flush()

    def hear(self) -> Any:
        """Return what it was told to measure."""
        return json.loads(self._listen())

    def close(self) -> None:
        """End the process, by force if it does not end by itself."""
        self._end.cancel()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _listen(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            why = (
                f"took longer than {WITHIN_S} s"
                if self._overdue
                else f"ended with exit code {code}"
            )
            raise RuntimeError(f"{self._name} {why}")
        return line

    def _give_up(self) -> None:
        self._overdue = True
        self._process.kill()


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
        with _at_work(python, library, 1, 0.0) as (ours, theirs, bare):
            measured = [*_exchanges(library, ours, theirs, bare, 1 if quick else 100)]
            for rate_hz, (turns, seconds) in recordings.items():
                measured += _missed(library, ours, theirs, rate_hz, seconds, turns)
            measured.append(_missed_together(library, ours, theirs, 1 if quick else 5))
        with _at_work(python, library, PORTS, LATENCY_S) as (ours, theirs, _):
            measured += _polls(library, ours, theirs, 1 if quick else 6)
        yield from measured


@contextmanager
def _at_work(
    python: Path, library: str, count: int, latency_s: float
) -> Generator[tuple[Worker, Worker, str]]:
    """Have both at work on so many ports each; yield them, and one more port."""
    with ExitStack() as stack:
        stack.enter_context(_undisturbed())
        *ports, bare = lines(library, 2 * count + 1, latency_s, stack)
        ours = stack.enter_context(Worker(python, OURS, library, ports[:count]))
        theirs = stack.enter_context(Worker(python, THEIRS, library, ports[count:]))
        yield ours, theirs, bare


def lines(library: str, count: int, latency_s: float, stack: ExitStack) -> Sequence[str]:
    """Return the ports of so many simulated devices of a library, open until `stack` ends."""
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


def _exchanges(
    library: str, ours: Worker, theirs: Worker, port: str, turns: int
) -> Iterable[Measurement]:
    """Compare what reading adds to a bare write and read."""
    for what in READ[library]:
        ours_s: list[float] = []
        theirs_s: list[float] = []
        bare_s: list[float] = []
        for _ in range(turns):
            bare_s += ours.ask("bare", port, EXCHANGES)
            ours_s += ours.ask("exchanges", what, EXCHANGES)
            theirs_s += theirs.ask("exchanges", what, EXCHANGES)
        bare, our, their = (statistics.median(each) for each in (bare_s, ours_s, theirs_s))
        first = what == READ[library][0]
        yield Measurement(
            name=f"added to {'an exchange' if first else 'a reading'}, {_device(library)} {what}",
            value=(our - bare) * 1e6,
            unit="us",
            ratio=(our - bare) / (their - bare),
            against=library,
            budget=1.0 if first else None,
            n=turns * EXCHANGES,
        )


def _missed(
    library: str, ours: Worker, theirs: Worker, rate_hz: int, seconds: float, turns: int
) -> Iterable[Measurement]:
    """Compare which slots gave no sample."""
    slots = turns * round(rate_hz * seconds)
    our = their = slots
    for _ in range(turns):
        our -= ours.ask("record", rate_hz, seconds)
        their -= theirs.ask("record", rate_hz, seconds)
    none_at_all = rate_hz == min(RECORDINGS)
    name = f"slots missed at {rate_hz} Hz"
    yield Measurement(
        name=f"{name} beside {library}",
        value=our / slots * 100,
        unit="%",
        ratio=None if none_at_all else our / their if their else float(our),
        against=None if none_at_all else library,
        # As many are not fewer, unless there are none.
        budget=0.0 if none_at_all else FEWER,
        n=slots,
    )
    yield Measurement(name=f"{name}, {library}", value=their / slots * 100, unit="%", n=slots)


def _missed_together(library: str, ours: Worker, theirs: Worker, turns: int) -> Measurement:
    """Compare which slots gave no sample while both record: what holds one up holds up both."""
    rate_hz = max(RECORDINGS)
    _, seconds = RECORDINGS[rate_hz]
    slots = turns * round(rate_hz * seconds)
    our = their = slots
    for turn in range(turns):
        for each in (ours, theirs) if turn % 2 else (theirs, ours):
            each.tell("record", rate_hz, seconds)
        our -= ours.hear()
        their -= theirs.hear()
    return Measurement(
        name=f"slots missed at {rate_hz} Hz at the same time as {library}",
        value=our / slots * 100,
        unit="%",
        ratio=our / their if their else float(our),
        against=library,
        budget=FEWER,
        n=slots,
    )


def _polls(library: str, ours: Worker, theirs: Worker, turns: int) -> Iterable[Measurement]:
    """Compare how long reading all ports takes."""
    for what in READ[library]:
        ours_s: list[float] = []
        theirs_s: list[float] = []
        for _ in range(turns):
            ours_s += ours.ask("poll", what, POLLS)
            theirs_s += theirs.ask("poll", what, POLLS)
        our, their = statistics.median(ours_s), statistics.median(theirs_s)
        yield Measurement(
            name=f"poll of {PORTS} ports of {LATENCY_S * 1e3:g} ms, {_device(library)} {what}",
            value=our * 1e3,
            unit="ms",
            ratio=(our - LATENCY_S) / (their - LATENCY_S),
            against=f"{library}, beyond the ideal",
            budget=1.0 if what == READ[library][0] else None,
            n=turns * POLLS,
        )


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
        sys.stderr.write("peers: all on one processor: real-time priority is not permitted\n")
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


def _sinks(python: Path, rounds: int, count: int) -> Iterable[Measurement]:
    """Compare the time that a row takes in batches of the usual size."""
    sinks = available()
    batches = make_batches(HELD, count)
    ours: dict[str, list[float]] = {}
    theirs: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        others = {
            library: stack.enter_context(Worker(python, THEIRS, library, ())) for library in MODELS
        }
        for _ in range(rounds):
            for kind, make in sinks.items():
                ours.setdefault(kind, []).append(time_of_row(kind, make, batches)[0])
            for library, other in others.items():
                rates: dict[str, float] = other.ask("sinks", HELD, count)
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
