"""Simulated instruments in a process of their own, steered over its standard input.

One JSON object a line. The parent first sends the list of lines and gets their addresses,
then sends calls and gets results. Closing standard input ends the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self, cast

import trio
from attrs import asdict

from transports.errors import TransportError

from .spec import Json, SimSpec, encode

END_WITHIN_S: Final = 2.0
"""How long the process may take to end before it is killed, in seconds."""

LONGEST_LINE: Final = 1 << 20


class RemoteLine:
    """A `SimLine` in the other process: the same faults, each a call that is awaited."""

    def __init__(self, process: SimProcess, index: int, address: str) -> None:
        """Speak for line number `index` of `process`."""
        self.address = address
        self._process = process
        self._index = index

    def __repr__(self) -> str:
        """Return the address."""
        return f"<RemoteLine {self.address}>"

    async def late(self, by_s: float, count: int = 1, unit: str | None = None) -> None:
        """Delay the next `count` replies by `by_s` seconds each."""
        await self._call("late", by_s=by_s, count=count, unit=unit)

    async def lose(self, count: int = 1, unit: str | None = None) -> None:
        """Drop the next `count` replies."""
        await self._call("lose", count=count, unit=unit)

    async def garble(self, count: int = 1, unit: str | None = None) -> None:
        """Invert a bit in each of the next `count` replies."""
        await self._call("garble", count=count, unit=unit)

    async def truncate(self, count: int = 1, unit: str | None = None) -> None:
        """Send only the first half of the next `count` replies."""
        await self._call("truncate", count=count, unit=unit)

    async def duplicate(self, count: int = 1, unit: str | None = None) -> None:
        """Send the next `count` replies twice."""
        await self._call("duplicate", count=count, unit=unit)

    async def foreign(self, data: bytes, count: int = 1, unit: str | None = None) -> None:
        """Send `data` in place of the next `count` replies."""
        await self._call("foreign", data=data.hex(), count=count, unit=unit)

    async def hang(self, unit: str | None = None) -> None:
        """Let the device, or one unit, go silent."""
        await self._call("hang", unit=unit)

    async def unhang(self, *, answer: bool = False) -> None:
        """Let everything answer again; with `answer` also what was asked meanwhile."""
        await self._call("unhang", answer=answer)

    async def unplug(self) -> None:
        """Take the device off the line."""
        await self._call("unplug")

    async def replug(self) -> None:
        """Put the device back."""
        await self._call("replug")

    async def reset(self) -> None:
        """Cycle the device's power."""
        await self._call("reset")

    async def set_latency(self, latency_s: float) -> None:
        """Set how long bytes travel, in seconds."""
        await self._call("set_latency", latency_s=latency_s)

    async def ask_model(self, name: str) -> Json:
        """Return an attribute of the device model, dots allowed, called if it is a method."""
        return await self._call("ask_model", name=name)

    async def _call(self, call: str, **arguments: Json) -> Json:
        return await self._process.call(self._index, call, arguments)


class SimProcess:
    """Runs simulated lines in a process of their own; an async context manager.

    Leaving it ends the process.

    Attributes:
        lines: The lines, in the order of the specifications; there while it runs.
    """

    def __init__(self, specs: Sequence[SimSpec]) -> None:
        """Start nothing yet."""
        self.lines: list[RemoteLine] = []
        self._specs = specs
        self._process: trio.Process | None = None
        self._received = bytearray()
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        """Return the addresses."""
        return f"<SimProcess {[line.address for line in self.lines]}>"

    @property
    def pid(self) -> int | None:
        """The process id, or None before it is started."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        """Start the process and wait until its lines are open."""
        self._process = await trio.lowlevel.open_process(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the program, which stops its instruments
        )
        try:
            addresses = await self._request(_hello(self._specs))
        except BaseException:
            await self.aclose()
            raise
        self.lines = [
            RemoteLine(self, index, address)
            for index, address in enumerate(cast("list[str]", addresses))
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        await self.aclose()

    async def call(self, line: int, name: str, arguments: Mapping[str, Json]) -> Json:
        """Make one call on line number `line` and return its result.

        Cancellation in mid-call leaves the process unusable.

        Raises:
            TransportError: The call failed there, or the process has ended.
        """
        return await self._request({"line": line, "call": name, "arguments": arguments})

    async def aclose(self) -> None:
        """End the process, by force if it takes longer than `END_WITHIN_S`."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(END_WITHIN_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await process.stdout.aclose()

    async def _request(self, message: Mapping[str, Json]) -> Json:
        process = self._process
        if process is None or process.stdin is None:
            raise TransportError("the process is not started")
        async with self._turn:
            try:
                await process.stdin.send_all(encode(message))
                return _result(await self._receive_line(process))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise TransportError("the process has ended") from error

    async def _receive_line(self, process: trio.Process) -> bytes:
        while b"\n" not in self._received:
            data = await process.stdout.receive_some() if process.stdout else b""
            if not data:
                raise TransportError("the process has ended")
            self._received += data
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        return line


class BlockingSimProcess:
    """The same for programs without Trio; a context manager."""

    def __init__(self, specs: Sequence[SimSpec]) -> None:
        """Start the process and wait until its lines are open."""
        self._process = subprocess.Popen(  # noqa: S603 - starts this very package
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        try:
            self.addresses = cast("list[str]", self._request(_hello(specs)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return this process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def call(self, line: int, name: str, arguments: Mapping[str, Json]) -> Json:
        """Make one call on line number `line` and return its result.

        Raises:
            TransportError: The call failed there, or the process has ended.
        """
        return self._request({"line": line, "call": name, "arguments": arguments})

    def close(self) -> None:
        """End the process, by force if it takes longer than `END_WITHIN_S`."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, message: Mapping[str, Json]) -> Json:
        if self._process.stdin is None or self._process.stdout is None:
            raise TransportError("the process is not started")
        try:
            self._process.stdin.write(encode(message))
            self._process.stdin.flush()
        except OSError as error:
            raise TransportError("the process has ended") from error
        return _result(self._process.stdout.readline(LONGEST_LINE))


def _command() -> list[str]:
    return [sys.executable, "-m", "transports.sim"]


def _environment() -> dict[str, str]:
    """Let the process import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}


def _hello(specs: Sequence[SimSpec]) -> dict[str, Json]:
    return {"lines": [cast("dict[str, Json]", asdict(spec)) for spec in specs]}


def _result(line: bytes) -> Json:
    if not line:
        raise TransportError("the process has ended")
    answer = cast("dict[str, Json]", json.loads(line))
    if "error" in answer:
        raise TransportError(str(answer["error"]))
    return answer["result"]
