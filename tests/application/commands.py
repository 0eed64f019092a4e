"""The command line in a process of its own, and what it says."""

from __future__ import annotations

import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

WITHIN_S = 30.0


def benchtree(
    *arguments: str | Path, cwd: Path, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `before` goes in front of it in the shell."""
    command = [sys.executable, "-m", "tests.application.console", *map(str, arguments)]
    if before:
        command = ["bash", "-c", f'{before} && exec "$@"', "bash", *command]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return an environment in which the checkout can be imported from anywhere."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "120"}


class Running:
    """A command that is running; leaving the context kills it if it still does.

    Attributes:
        lines: What it has written to standard error so far.
    """

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        """Start the command."""
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.application.console", *map(str, arguments)],
            cwd=cwd,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        """Return the command."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.wait()
        self._listener.join()

    def wait_for(self, text: str) -> None:
        """Wait until a line holds `text`."""
        while True:
            line = self._said.get(timeout=WITHIN_S)
            assert line is not None, f"it ended without {text!r}:\n" + "".join(self.lines)
            if text in line:
                return

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(WITHIN_S)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self.lines.append(line)
                self._said.put(line)
        self._said.put(None)


def only_run(root: Path) -> Path:
    """Return the one run folder below `root`."""
    (run,) = root.iterdir()
    return run


def wait_for_rows(run: Path) -> None:
    """Wait until a run that goes on has written its first samples."""
    until_s = time.monotonic() + WITHIN_S
    with closing(sqlite3.connect(run / "samples.sqlite")) as database:
        while database.execute("SELECT count(*) FROM samples").fetchone() == (0,):
            assert time.monotonic() < until_s, "nothing was recorded"
            threading.Event().wait(0.02)


def write(path: Path, lines: Sequence[str]) -> Path:
    """Write a file of these lines and return its path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
