"""The one PyRPL of a worker process: reached, asked, and let go.

PyRPL and its Qt binding are imported here and nowhere else, and only in the worker process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final, cast

from .acquisition import acquire, roll, stream
from .contract import BoardLostError, Operation, Quick, Report, StartError
from .desk import RefusedCallError
from .measurement import quadratures, statistics, sweep
from .sockets import BoardSocket, NoShell, SocketModule
from .values import attributes, finished, member, plain

INSTALL: Final = 'pip install "benchtree[pyrpl]"'

OFF: Final = "off"

MOST_TRACES: Final = 2
"""How many traces of a stream wait to be fetched: they are large."""

DRIVEN: Final = ("asg0", "asg1", "pid0", "pid1", "pid2", "iq0", "iq1", "iq2", "iir")
"""The modules that can drive an output."""

NEEDS: Final[Mapping[str, frozenset[str]]] = {
    "networkanalyzer": frozenset({"iq2"}),
    "spectrumanalyzer": frozenset({"iq2", "scope"}),
}
"""The modules that some modules work with."""

ALIASES: Final[Mapping[str, str]] = {
    "network_analyzer": "networkanalyzer",
    "spectrum_analyzer": "spectrumanalyzer",
    "trigger": "trig",
}


def open_board(settings: Mapping[str, Any]) -> PyrplBoard:
    """Reach the board that the settings describe.

    Raises:
        StartError: It cannot be reached; says why.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    scratch = None
    if not settings["config_name"] and "PYRPL_USER_DIR" not in os.environ:
        # Nothing is to be kept: PyRPL makes its folders all the same.
        scratch = tempfile.TemporaryDirectory(prefix="benchtree-pyrpl-")
        os.environ["PYRPL_USER_DIR"] = scratch.name
    try:
        return PyrplBoard(_open_pyrpl(settings), scratch)
    except BaseException:
        if scratch is not None:
            scratch.cleanup()
        raise


def _open_pyrpl(settings: Mapping[str, Any]) -> Any:
    if find_spec("pyrpl") is None:
        raise StartError("missing", f"PyRPL is not installed: {INSTALL}")
    try:
        import pyrpl
        import pyrpl.redpitaya
        import pyrpl.redpitaya_client
    except ImportError as error:
        text = f"PyRPL cannot be imported ({error}): {INSTALL}, and the libraries that Qt needs"
        raise StartError("missing", text) from error
    ssh = bool(settings["ssh"])
    BoardSocket.patient = ssh
    pyrpl.redpitaya_client.socket = SocketModule()
    options: dict[str, Any] = {}
    if ssh:
        options["user"] = settings["user"]
    else:
        pyrpl.redpitaya.SshShell = NoShell
        options |= {"delay": 0.0, "leds_off": False, "reloadfpga": False}
    try:
        return pyrpl.Pyrpl(
            config=settings["config_name"] or "",
            hostname=settings["host"],
            port=settings["port"],
            gui=False,
            reloadserver=False,
            loglevel="warning",
            **options,
        )
    except StartError:
        raise
    except BoardLostError as lost:
        raise StartError("refused", str(lost)) from lost
    except Exception as error:
        raise StartError("refused", _reason(error)) from error


def _reason(error: Exception) -> str:
    """Return what PyRPL's own errors say, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


class PyrplBoard:
    """A board behind a PyRPL."""

    def __init__(self, pyrpl: Any, scratch: tempfile.TemporaryDirectory[str] | None) -> None:
        """Serve `pyrpl`; remove the scratch folder in the end."""
        from qtpy.QtWidgets import QApplication

        self.pyrpl = pyrpl
        self.rp = pyrpl.rp
        self._scratch = scratch
        self._process_events: Callable[[], None] = QApplication.processEvents
        # Read at every heart-beat: the register that says what the board is.
        self._heart = self.rp.hk
        self._calls: Mapping[str, Callable[..., Quick | Operation]] = {
            "describe": self._describe,
            "get": self._get,
            "set": self._set,
            "call": self._call,
            "error": self._error,
            "single": self._single,
            "stream": self._stream,
            "roll": self._roll,
            "sweep": self._sweep,
            "quadratures": self._quadratures,
            "statistics": self._statistics,
        }

    # What the worker asks of any board.

    def beat(self) -> None:
        """Read one register."""
        self._heart._read(0x0)  # noqa: SLF001 - PyRPL's own way to read a register
        self._check()

    def tick(self) -> None:
        """Let Qt do what it waits for."""
        self._process_events()
        self._check()

    def switch_off(self) -> None:
        """Take every module off the outputs."""
        self.pyrpl.networkanalyzer.iq.amplitude = 0
        for name in DRIVEN:
            self.rp.modules[name].output_direct = OFF
        self._check()

    def close(self) -> None:
        """Stop PyRPL's timers and close the connection."""
        with suppress(Exception):  # the board may be gone, which is why we close
            self.pyrpl._clear()  # noqa: SLF001 - PyRPL offers no other way
        if self._scratch is not None:
            self._scratch.cleanup()

    def plan(self, name: str, arguments: Mapping[str, Any]) -> Quick | Operation:
        """Return what a call does."""
        make = self._calls.get(name)
        if make is None:
            raise RefusedCallError("rejected", f"there is no call {name!r}")
        try:
            planned = make(**arguments)
        except TypeError as error:
            raise RefusedCallError("rejected", f"{name}: {error}") from error
        if isinstance(planned, Operation):
            return planned
        run = planned.run

        def checked() -> Any:
            value = run()
            self._check()
            return value

        return Quick(checked, planned.writes)

    # The modules.

    def module(self, name: str) -> Any:
        """Return a module by name.

        Raises:
            RefusedCallError: There is none.
        """
        name = ALIASES.get(name, name)
        software = {each.name: each for each in self.pyrpl.software_modules}
        found = self.rp.modules.get(name, software.get(name))
        if found is None:
            known = ", ".join([*self.rp.modules, *software])
            raise RefusedCallError("rejected", f"there is no module {name!r}; there are: {known}")
        return found

    def name_of(self, module: str) -> str:
        """Return what PyRPL calls a module.

        Raises:
            RefusedCallError: There is none.
        """
        self.module(module)
        return ALIASES.get(module, module)

    def _find(self, path: str) -> tuple[str, Any, str]:
        """Return the name of a path's module, the object at the path, and its last part."""
        first, *rest = path.split(".")
        if not rest:
            raise RefusedCallError("rejected", f"{path!r} names no attribute: write module.name")
        found = self.module(first)
        for part in [*rest]:
            if part.startswith("_"):
                raise RefusedCallError(
                    "rejected", f"{path!r}: {part!r} is not for use from outside"
                )
        for part in rest[:-1]:
            found = member(found, part, path)
        kind = cast("Any", type(found))
        # Looking at the class reads no register.
        member(kind if hasattr(kind, rest[-1]) else found, rest[-1], path)
        return ALIASES.get(first, first), found, rest[-1]

    def _check(self) -> None:
        """Raise what PyRPL may have swallowed."""
        socket = BoardSocket.latest
        if socket is not None and socket.lost is not None:
            raise BoardLostError(socket.lost)

    # The calls.

    def _describe(self, module: str | None) -> Quick:
        """Say who the board is, and what a module's attributes take."""
        import pyrpl

        def run() -> Mapping[str, Any]:
            return {
                "maker": "Red Pitaya",
                "model": str(self.rp.hk.id),
                "library": f"PyRPL {pyrpl.__version__}",
                "attributes": {} if module is None else attributes(self.module(module)),
            }

        return Quick(run)

    def _get(self, path: str) -> Quick:
        _, owner, name = self._find(path)
        return Quick(lambda: plain(getattr(owner, name), path))

    def _set(self, path: str, value: Any) -> Quick:
        module, owner, name = self._find(path)
        if callable(getattr(cast("Any", type(owner)), name, None)):
            raise RefusedCallError("rejected", f"{path} is a method: call it")
        # What makes the board safer asks nobody.
        safe = name == "output_direct" and value == OFF
        return Quick(lambda: setattr(owner, name, value), writes=None if safe else module)

    def _call(
        self, path: str, args: list[Any], kwargs: Mapping[str, Any], within_s: float
    ) -> Operation:
        module, owner, name = self._find(path)

        async def run(report: Report) -> Any:
            del report
            result = getattr(owner, name)(*args, **kwargs)
            self._check()
            return plain(await finished(result), path)

        return Operation(module, run, NEEDS.get(module, frozenset()), within_s)

    def _error(self, pid: str) -> Quick:
        module = self.module(pid)

        def run() -> float:
            sampled: float = getattr(self.rp.sampler, module.input)
            return sampled - float(module.setpoint)

        return Quick(run)

    def _operation(
        self,
        module: str,
        work: Callable[..., Awaitable[Any]],
        arguments: Mapping[str, Any],
        kept: int | None = None,
    ) -> Operation:
        owner = self.module(module)

        async def run(report: Report) -> Any:
            value = await work(self.rp, owner, report, **arguments)
            self._check()
            return value

        name = ALIASES.get(module, module)
        return Operation(name, run, NEEDS.get(name, frozenset()), kept=kept)

    def _single(self, **arguments: Any) -> Operation:
        return self._operation("scope", acquire, arguments)

    def _stream(self, **arguments: Any) -> Operation:
        return self._operation("scope", stream, arguments, MOST_TRACES)

    def _roll(self, **arguments: Any) -> Operation:
        return self._operation("scope", roll, arguments, MOST_TRACES)

    def _sweep(self, **arguments: Any) -> Operation:
        iq = self.rp.iq2
        if iq.output_direct != OFF and float(iq.amplitude) != 0.0:
            text = (
                "the network analyser works with iq2, which drives "
                f"{iq.output_direct} with {float(iq.amplitude):g} V now: switch iq2 off first"
            )
            raise RefusedCallError("conflict", text)
        return self._operation("networkanalyzer", sweep, arguments)

    def _quadratures(self, iq: str, **arguments: Any) -> Operation:
        return self._operation(iq, quadratures, arguments)

    def _statistics(self, **arguments: Any) -> Operation:
        return self._operation("sampler", statistics, arguments)
