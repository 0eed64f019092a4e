"""The one PyRPL of a worker process: reached, asked, and let go.

PyRPL and its Qt binding are imported here and nowhere else, and only in the worker process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, cast

import trio
from attrs import evolve

from .acquisition import acquire, roll, stream
from .contract import INSTALL, BoardLostError, Operation, Quick, Report, StartError
from .desk import RefusedCallError
from .measurement import quadratures, statistics, sweep
from .modules import ANALYZER, DRIVEN, GENERATORS, NEEDS, NOTHING, Modules, running
from .sockets import BoardSocket, NoShell, SocketModule
from .tables import Tables, fire
from .values import attributes, finished, plain

OFF: Final = "off"

QUADRATURE: Final = "quadrature"

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

MOST_TRACES: Final = 2
"""How many traces of a stream wait to be fetched: they are large."""


def open_board(settings: Mapping[str, Any]) -> PyrplBoard:
    """Reach the board that the settings describe.

    Raises:
        StartError: It cannot be reached; says why.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return PyrplBoard(_open_pyrpl(settings))


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
    """Return what PyRPL's own errors say, on one line and without their colours."""
    plain = _COLOUR.sub(" ", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


class PyrplBoard:
    """A board behind a PyRPL."""

    def __init__(self, pyrpl: Any) -> None:
        """Serve `pyrpl`."""
        from qtpy.QtWidgets import QApplication

        self.pyrpl = pyrpl
        self.rp = pyrpl.rp
        self._modules = Modules(pyrpl)
        self._tables = Tables({name: self.rp.modules[name] for name in GENERATORS})
        self._sweeping = False
        self._process_events: Callable[[], None] = QApplication.processEvents
        # Read at every heart-beat: the register that says what the board is.
        self._heart = self.rp.hk
        self._calls: Mapping[str, Callable[..., Quick | Operation]] = {
            "describe": self._describe,
            "get": self._get,
            "set": self._set,
            "call": self._call,
            "load": self._load,
            "fire": self._fire,
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
        """End what PyRPL goes on with by itself, and take every module off the outputs."""
        self._modules.end_runs()
        for name in DRIVEN:
            self.rp.modules[name].output_direct = OFF
        self._check()

    def close(self) -> None:
        """Stop PyRPL's timers and close the connection."""
        with suppress(Exception):  # the board may be gone, which is why we close
            self.pyrpl._clear()  # noqa: SLF001 - PyRPL offers no other way

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

        return evolve(planned, run=checked)

    def name_of(self, module: str) -> str:
        """Return what PyRPL calls a module.

        Raises:
            RefusedCallError: There is none.
        """
        return self._modules.name_of(module)

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
                "attributes": {} if module is None else attributes(self._modules.find(module)),
            }

        return Quick(run)

    def _get(self, path: str) -> Quick:
        _, owner, name = self._modules.locate(path)
        return Quick(lambda: plain(getattr(owner, name), path))

    def _set(self, path: str, value: Any) -> Quick:
        module, owner, name = self._modules.locate(path)
        if callable(getattr(cast("Any", type(owner)), name, None)):
            raise RefusedCallError("rejected", f"{path} is a method: call it")
        drives = module != ANALYZER or self._sweeping or running(owner)
        if name == "output_direct" and value == OFF and drives:
            # What makes the board safer asks nobody.
            return Quick(partial(self._take_off, module, owner))
        if module != ANALYZER:
            touches = NEEDS.get(module, NOTHING)
            return Quick(lambda: setattr(owner, name, value), module, touches)

        def keep() -> None:
            # PyRPL would switch off whatever its demodulator does now; a sweep sets all up.
            with owner.do_setup:
                setattr(owner, name, value)

        shared = name == "acbandwidth"
        return Quick(keep, module, NEEDS[module] if shared else NOTHING)

    def _take_off(self, module: str, owner: Any) -> None:
        """Take a module off the outputs, and with it what it uses now."""
        owner.output_direct = OFF
        if module == ANALYZER and self._sweeping:
            owner.iq.output_direct = OFF

    def _check_demodulator(self) -> None:
        """Refuse to take the network analyser's demodulator from whoever uses it.

        Raises:
            RefusedCallError: It drives an output.
        """
        iq = self.rp.iq2
        if iq.output_direct != OFF and float(iq.amplitude) != 0.0:
            text = (
                "the network analyser works with iq2, which drives "
                f"{iq.output_direct} with {float(iq.amplitude):g} V now: switch iq2 off first"
            )
            raise RefusedCallError("conflict", text)

    def _load(self, asg: str, points: Any) -> Quick:
        generator = self._modules.find(asg)
        return Quick(lambda: self._tables.load(generator, points), writes=asg)

    def _fire(self, asg: str) -> Quick:
        generator = self._modules.find(asg)
        return Quick(lambda: fire(generator), writes=asg)

    def _call(
        self, path: str, args: list[Any], kwargs: Mapping[str, Any], within_s: float
    ) -> Operation:
        module, owner, name = self._modules.locate(path)

        def run(report: Report) -> Awaitable[Any]:
            del report
            result = getattr(owner, name)(*args, **kwargs)
            # What it began by itself shows once Qt's events were processed.
            self.tick()
            return rest(result)

        async def rest(result: Any) -> Any:
            try:
                return plain(await finished(result), path)
            except trio.Cancelled:
                # PyRPL would leave a run's excitation on.
                self._modules.end_run(module)
                raise

        return Operation(module, run, NEEDS.get(module, NOTHING), within_s)

    def _error(self, pid: str) -> Quick:
        module = self._modules.find(pid)

        def run() -> float:
            signal = self._modules.signal_of(str(module.input))
            sampled: float = getattr(self.rp.sampler, signal)
            return sampled - float(module.setpoint)

        return Quick(run)

    def _operation(
        self,
        module: str,
        work: Callable[..., Awaitable[Any]],
        arguments: Mapping[str, Any],
        kept: int | None = None,
    ) -> Operation:
        owner = self._modules.find(module)
        name = self._modules.name_of(module)
        self._modules.check_alone(name)

        async def run(report: Report) -> Any:
            value = await work(self.rp, owner, report, **arguments)
            self._check()
            return value

        return Operation(name, run, NEEDS.get(name, NOTHING), kept=kept)

    def _single(self, **arguments: Any) -> Operation:
        return self._operation("scope", acquire, arguments)

    def _stream(self, **arguments: Any) -> Operation:
        return self._operation("scope", stream, arguments, MOST_TRACES)

    def _roll(self, **arguments: Any) -> Operation:
        return self._operation("scope", roll, arguments, MOST_TRACES)

    def _sweep(self, **arguments: Any) -> Operation:
        async def work(*given: Any, **named: Any) -> Any:
            self._sweeping = True
            try:
                return await sweep(*given, **named)
            finally:
                self._sweeping = False

        operation = self._operation(ANALYZER, work, arguments)
        self._check_demodulator()
        return operation

    def _quadratures(self, iq: str, **arguments: Any) -> Operation:
        signal = str(self._modules.find(iq).output_signal)
        if signal != QUADRATURE:
            text = (
                f"{iq}.output_signal is {signal!r}: its quadratures cannot be seen; "
                f"set it to {QUADRATURE!r} first"
            )
            raise RefusedCallError("rejected", text)
        return self._operation(iq, quadratures, arguments)

    def _statistics(self, **arguments: Any) -> Operation:
        return self._operation("sampler", statistics, arguments)
