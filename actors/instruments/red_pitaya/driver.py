"""A Red Pitaya: its modules, each with a lane of its own, and everything else by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import trio

from actors.bus import Bus
from actors.errors import CommandError, RefusedError
from actors.instrument import Instrument, ModelFactory
from actors.parameter import Action, Assignment

from .arguments import check_text, check_time
from .commands import COMMANDS, Answer, find_mistake
from .controller import Pid
from .demodulator import Iq, NetworkAnalyzer
from .generator import Asg
from .models import RedPitayaModel
from .module import Module
from .part import Library, ModuleStatus, Part, ask_status, tell_stop
from .periphery import Ams, Hk, Pwm, Sampler, Trigger
from .scope import Scope


class RedPitaya(Module):
    """A Red Pitaya with PyRPL's logic, behind a worker process that hosts PyRPL.

    Its modules are instruments of their own, named after it: `rp.scope`, `rp.pid0`. They
    run side by side.
    """

    model: ClassVar[ModelFactory | None] = RedPitayaModel

    outputs_off = Action("off", idempotent=True)

    safe_state: ClassVar[Sequence[Assignment[Any] | Action]] = (outputs_off,)

    parts: ClassVar[Mapping[str, type[Instrument]]] = {
        "scope": Scope,
        "asg0": Asg,
        "asg1": Asg,
        "pid0": Pid,
        "pid1": Pid,
        "pid2": Pid,
        "iq0": Iq,
        "iq1": Iq,
        "iq2": Iq,
        "network_analyzer": NetworkAnalyzer,
        "sampler": Sampler,
        "trigger": Trigger,
        "hk": Hk,
        "ams": Ams,
        "pwm0": Pwm,
        "pwm1": Pwm,
        "library": Library,
    }

    def __init__(self, name: str, bus: Bus, *, unit: str | None = None) -> None:
        """Make a board and its modules on `bus`."""
        super().__init__(name, bus, unit=unit)

        def part(kind: type[Any], called: str, module: str | None = None) -> Any:
            return kind(f"{name}.{called}", bus, unit=module or called, board=self)

        self.scope: Scope = part(Scope, "scope")
        self.asg0: Asg = part(Asg, "asg0")
        self.asg1: Asg = part(Asg, "asg1")
        self.pid0: Pid = part(Pid, "pid0")
        self.pid1: Pid = part(Pid, "pid1")
        self.pid2: Pid = part(Pid, "pid2")
        self.iq0: Iq = part(Iq, "iq0")
        self.iq1: Iq = part(Iq, "iq1")
        self.iq2: Iq = part(Iq, "iq2")
        self.network_analyzer: NetworkAnalyzer = part(
            NetworkAnalyzer, "network_analyzer", "networkanalyzer"
        )
        self.sampler: Sampler = part(Sampler, "sampler")
        self.trigger: Trigger = part(Trigger, "trigger", "trig")
        self.hk: Hk = part(Hk, "hk")
        self.ams: Ams = part(Ams, "ams")
        self.pwm0: Pwm = part(Pwm, "pwm0")
        self.pwm1: Pwm = part(Pwm, "pwm1")
        self.library: Library = part(Library, "library")
        self.chosen: dict[str, Any] = {}
        self._answered = 0

    @classmethod
    def unit_problem(cls, unit: str | None) -> str | None:
        """Return that a board has no unit id, where one is given."""
        return None if unit is None else "a Red Pitaya is alone on its bus: leave it out"

    def made_parts(self) -> Sequence[Part]:
        """Return the modules."""
        return [getattr(self, name) for name in self.parts]

    # What passes an operation.

    async def status(self, module: str) -> ModuleStatus:
        """Return what a module is doing, whatever that is. Names as in PyRPL.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        check_text(self.name, "status", "module", module)
        return await ask_status(self, module)

    async def stop(self, module: str) -> bool:
        """End the operation that uses a module; return whether there was one.

        Whoever waits for it is told that it was stopped.

        Raises:
            RefusedError: It was not accepted.
            CommandError: It failed.
        """
        check_text(self.name, "stop", "module", module)
        return await tell_stop(self, module)

    # What has no module of its own here.

    async def get(self, path: str) -> Any:
        """Return an attribute by its dotted path in PyRPL, such as "lockbox.classname".

        Raises:
            RefusedError: It was not accepted.
            CommandError: There is no such attribute, or reading it failed.
        """
        self._check_path("get", path)
        return await self.ask_plan(self.quick("get", "get", {"path": path}))

    async def set(self, path: str, value: Any) -> None:
        """Set an attribute by its dotted path in PyRPL; PyRPL checks the value.

        It is not restored after a reconnect, nor made safe.

        Raises:
            RefusedError: It was not accepted.
            CommandError: There is no such attribute, its module is busy, or setting it failed.
        """
        self._check_path("set", path)
        arguments = {"path": path, "value": value}
        await self.ask_plan(self.quick("set", "set", arguments, writes=True))

    def _check_path(self, command: str, path: object) -> None:
        """Refuse what is no dotted path.

        Raises:
            RefusedError: It is none.
        """
        check_text(self.name, command, "path", path)
        parts = str(path).split(".")
        if len(parts) < 2 or not all(each.isidentifier() for each in parts):
            raise self.refuse(command, f"{path!r} names no attribute: write module.name")

    async def call_method(self, path: str, *args: Any, within_s: float = 5.0, **kwargs: Any) -> Any:
        """Call a method by its dotted path in PyRPL and return what it gives.

        PyRPL's own methods keep the whole board waiting, save those whose names end in
        `_async`. Use the modules here where there is one.

        Args:
            path: Such as "iir.setup".
            args: Its arguments.
            within_s: How long it may take, in seconds.
            kwargs: Its arguments by name.

        Raises:
            RefusedError: It was not accepted.
            CommandError: There is no such method, its module is busy, or it failed.
        """
        self._check_path("call_method", path)
        check_time(self.name, "call_method", "within_s", within_s)
        arguments = {"path": path, "args": args, "kwargs": kwargs, "within_s": within_s}
        lane = self.library
        plan = lane.quick("call", "call", arguments, writes=True, within_s=within_s + 1.0)
        return await lane.ask_plan(plan)

    async def send_command(
        self, name: str, params: Mapping[str, Any] | None = None, timeout_s: float = 5.0
    ) -> Answer:
        """Carry out a command of the shared-worker design and return its kind of answer.

        Raises for nothing that the command meets: the answer's "status" is "error" then, and
        its "data" says why. For programs that were written for that design.

        Args:
            name: Such as "scope_acquire" or "pid_set_setpoint".
            params: Its parameters by name.
            timeout_s: How long it may take, in seconds.
        """
        self._answered += 1
        number = self._answered
        mistake = find_mistake(name, params)
        if mistake is not None:
            return _failed(number, mistake)
        try:
            check_time(self.name, name, "timeout_s", timeout_s)
        except RefusedError as refused:
            return _failed(number, str(refused))
        data: Any = None
        with trio.move_on_after(timeout_s) as scope:
            try:
                data = await COMMANDS[name](self, dict(params or {}))
            except CommandError as error:
                return _failed(number, str(error))
            except ValueError as error:
                return _failed(number, f"{name}: {error}")
        if scope.cancelled_caught:
            return _failed(number, f"{name}: not done within {timeout_s:g} s")
        return {"status": "ok", "data": data, "id": number}


def _failed(number: int, why: str) -> Answer:
    return {"status": "error", "data": why, "id": number}
