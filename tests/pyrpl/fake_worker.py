"""A worker process of a board that is not there: the real worker, without PyRPL."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from transports.pyrpl.contract import BoardLostError, Operation, Quick, Report, StartError
from transports.pyrpl.desk import RefusedCallError
from transports.pyrpl.process import run_worker

NEEDS = {"analyzer": frozenset({"iq2"})}


class FakeBoard:
    """A few registers, and operations that take as long as they are told."""

    def __init__(self) -> None:
        self.registers: dict[str, Any] = {}
        self.lost: str | None = None

    def name_of(self, module: str) -> str:
        """Return its name."""
        return module

    def beat(self) -> None:
        """Be there, unless told otherwise."""
        if self.lost is not None:
            raise BoardLostError(self.lost)

    def tick(self) -> None:
        """Have no chores."""

    def switch_off(self) -> None:
        """Switch off."""
        self.registers["output"] = "off"

    def close(self) -> None:
        """Say goodbye where a file for that was named."""
        if farewell := self.registers.get("farewell"):
            os.close(os.open(farewell, os.O_CREAT | os.O_WRONLY))

    def plan(self, name: str, arguments: Mapping[str, Any]) -> Quick | Operation:
        """Return what a call does."""
        if name == "operate":
            return self._operation(**arguments)
        if name == "block":
            return Operation("slow", lambda _: self._block(**arguments), blocks_s=10.0)
        quick: Mapping[str, Callable[..., Any]] = {
            "get": self.registers.get,
            "set": self.registers.__setitem__,
            "echo": _same,
            "noise": lambda: print("noise on standard output"),  # noqa: T201 - the point
            "object": object,
            "endless": lambda: bytes(64 << 20),
            "fail": self._fail,
            "lose": lambda: setattr(self, "lost", "the board went away"),
            "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        }
        if name not in quick:
            raise RefusedCallError("rejected", f"there is no call {name!r}")
        values = arguments.values()
        written = arguments["path"].partition(".")[0] if name == "set" else None
        return Quick(lambda: quick[name](*values), writes=written)

    def _operation(self, module: str, steps: int, step_s: float) -> Operation:
        async def run(report: Report) -> Any:
            for step in range(steps):
                report(step)
                await trio.sleep(step_s)
            return steps

        return Operation(module, run, NEEDS.get(module, frozenset()))

    def _block(self, for_s: float, then_s: float = 0.0) -> Awaitable[str]:
        time.sleep(for_s)  # the point

        async def rest() -> str:
            await trio.sleep(then_s)
            return "done"

        return rest()

    def _fail(self) -> None:
        raise OSError("the register could not be read")


def _same(value: Any) -> Any:
    return value


def open_fake(settings: Mapping[str, Any]) -> FakeBoard:
    """Reach the board, or not, as the host's name says."""
    match settings["host"]:
        case "refusing":
            raise StartError("refused", "refusing:2222 refused the connection")
        case "crashing":
            raise RuntimeError("a mistake in the worker")
        case "dawdling":
            time.sleep(60.0)
        case "garbling":
            os.write(1, b"nothing of note")
        case _:
            pass
    return FakeBoard()


if __name__ == "__main__":
    if sys.argv[1:] == ["garble"]:
        os.write(1, b"\xff\xff\xff\xff this is no frame")
        time.sleep(60.0)
    run_worker(open_fake)
