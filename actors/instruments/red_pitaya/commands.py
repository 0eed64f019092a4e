"""The commands of the shared-worker design, for programs that speak them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypedDict, cast

from actors.parameter import Reading, Setting

from .controller import Pid
from .demodulator import Iq
from .generator import Asg
from .periphery import Sampler
from .scope import Scope


class Answer(TypedDict):
    """The answer to a command.

    Keys:
        status: "ok" or "error".
        data: What came of it, or why nothing did.
        id: The number of the command.
    """

    status: str
    data: Any
    id: int


class Board(Protocol):
    """What the commands need of a board."""

    scope: Scope
    asg0: Asg
    asg1: Asg
    pid0: Pid
    pid1: Pid
    pid2: Pid
    iq0: Iq
    iq1: Iq
    iq2: Iq
    sampler: Sampler


Params: TypeAlias = dict[str, Any]
Command: TypeAlias = Callable[[Any, Params], Awaitable[Any]]

_OUTPUT: Final = "output_direct"


async def _scope_acquire(board: Board, params: Params) -> Mapping[str, Any]:
    channel = str(params.pop("input_channel", "in1"))
    params.pop("timeout", None)
    settings: dict[str, Any] = {"decimation": 64, "trigger_source": "immediately", **params}
    trace = await board.scope.single(input1=channel, **settings)
    return {"voltage": trace.ch1, "time": trace.time}


async def _scope_set_decimation(board: Board, params: Params) -> None:
    value = params["decimation"] if "decimation" in params else params["value"]
    await board.scope.decimation.set(value)


async def _scope_set_trigger(board: Board, params: Params) -> None:
    await board.scope.trigger_source.set(params["source"])


async def _asg_setup(board: Board, params: Params) -> None:
    asg = _module(board, params, ("asg0", "asg1"))
    if _OUTPUT in params:
        params["output"] = params.pop(_OUTPUT)
    await asg.setup(**params)


async def _asg_set_frequency(board: Board, params: Params) -> None:
    asg = _module(board, params, ("asg0", "asg1"))
    await asg.frequency.set(params["frequency"] if "frequency" in params else params["value"])


async def _pid_configure(board: Board, params: Params) -> None:
    pid = _module(board, params, _PIDS)
    if params.pop("d", 0):
        raise ValueError("this board has no differential gain: leave d out")
    await _set_all(pid, params)


async def _pid_set_setpoint(board: Board, params: Params) -> None:
    pid = _module(board, params, _PIDS)
    await pid.setpoint.set(params["setpoint"] if "setpoint" in params else params["value"])


async def _pid_get_setpoint(board: Board, params: Params) -> float | None:
    found: float | None = await _module(board, params, _PIDS).setpoint.get()
    return found


async def _iq_setup(board: Board, params: Params) -> None:
    iq = _module(board, params, _IQS)
    if isinstance(params.get("bandwidth"), (int, float)):
        params["bandwidth"] = [float(params["bandwidth"])]
    await _set_all(iq, params)


async def _iq_get_measurement(board: Board, params: Params) -> Mapping[str, float]:
    found = await _module(board, params, _IQS).quadratures(**params)
    return {"i": found.i, "q": found.q, "amplitude": found.amplitude, "phase": found.phase}


async def _sampler_read(board: Board, params: Params) -> float | None:
    channel = str(params.pop("channel", "in1"))
    reading = cast("Reading[float] | None", Sampler.parameters.get(channel))
    if reading is None:
        raise ValueError(f"there is no signal {channel!r}")
    return await board.sampler.ask(reading)


async def _set_all(module: Pid | Iq, params: Params) -> None:
    """Set settings by name, the output last; nothing is written where a name is wrong."""
    chosen: list[tuple[Setting[Any], Any]] = []
    for name, value in sorted(params.items(), key=lambda each: each[0] == _OUTPUT):
        setting = _setting(module, name)
        module.check("setup", setting, value)
        chosen.append((setting, value))
    for setting, value in chosen:
        await module.ask(setting.to(value))


def _setting(module: Pid | Iq, name: str) -> Setting[Any]:
    """Return a setting by its name here or in PyRPL."""
    for each in module.parameters.values():
        if isinstance(each, Setting) and name in (each.name, each.header):
            return each
    raise ValueError(f"{module.name} has no setting {name!r}")


def _module(board: Board, params: Params, names: tuple[str, ...]) -> Any:
    """Take the module that the parameters name, the first one where they name none."""
    channel = params.pop("channel", names[0])
    name = f"{names[0][:-1]}{channel}" if isinstance(channel, int) else str(channel)
    if name not in names:
        raise ValueError(f"there is no channel {channel!r}; there are: {', '.join(names)}")
    return getattr(board, name)


_PIDS: Final = ("pid0", "pid1", "pid2")
_IQS: Final = ("iq0", "iq1", "iq2")

COMMANDS: Final[Mapping[str, Command]] = {
    "scope_acquire": _scope_acquire,
    "scope_set_decimation": _scope_set_decimation,
    "scope_set_trigger": _scope_set_trigger,
    "asg_setup": _asg_setup,
    "asg_set_frequency": _asg_set_frequency,
    "pid_configure": _pid_configure,
    "pid_set_setpoint": _pid_set_setpoint,
    "pid_get_setpoint": _pid_get_setpoint,
    "iq_setup": _iq_setup,
    "iq_get_measurement": _iq_get_measurement,
    "sampler_read": _sampler_read,
}
"""What each command does, by its name."""
