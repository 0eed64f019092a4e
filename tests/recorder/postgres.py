"""A PostgreSQL server of the tests' own: on loopback, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

_USER = "postgres"


def _binaries() -> Path:
    """Return where the server's programs are.

    Raises:
        RuntimeError: It is not installed.
    """
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return installed[-1].parent


class Server:
    """A server that can be stopped and started again.

    Attributes:
        conninfo: How to reach it.
    """

    def __init__(self) -> None:
        """Make a new, empty cluster."""
        self._folder = Path(tempfile.mkdtemp(prefix="benchtree-postgres-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self._user = _USER if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.conninfo = f"host=127.0.0.1 port={self._port} user={_USER} dbname=postgres"
        subprocess.run(
            [
                _binaries() / "initdb",
                f"--pgdata={self._data}",
                f"--username={_USER}",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _binaries() / "postgres",
                    "-D",
                    self._data,
                    "-p",
                    str(self._port),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    f"unix_socket_directories={self._folder}",
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        ready = _binaries() / "pg_isready"
        subprocess.run(
            [ready, "--host=127.0.0.1", f"--port={self._port}", "--timeout=30", "--quiet"],
            check=False,
        )
        for _ in range(300):
            try:
                self.ask("SELECT 1")
            except psycopg.OperationalError:
                subprocess.run(["sleep", "0.1"], check=True)
            else:
                return
        raise RuntimeError((self._folder / "log").read_text())

    def stop(self) -> None:
        """Stop it at once, breaking every connection; what was committed stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.conninfo, connect_timeout=5) as connection:
            return connection.execute(query.encode()).fetchall()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder)
