"""The commands of the shared-worker design, for programs that speak them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypedDict, cast

from attrs import frozen

from actors.parameter import Reading, Setting

from .controller import Pid
from .demodulator import Iq
from .generator import Asg
from .module import Module
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
    #: What the commands of the scope chose for the acquisitions to come.
    chosen: dict[str, Any]


Params: TypeAlias = dict[str, Any]

_OUTPUT: Final = "output_direct"

_ACQUIRED_BY_DEFAULT: Final[Mapping[str, Any]] = {
    "decimation": 64,
    "trigger_source": "immediately",
}


async def _scope_acquire(board: Board, params: Params) -> Mapping[str, Any]:
    channel = params.pop("input_channel", "in1")
    timeout_s = params.pop("timeout", None)
    settings = {**_ACQUIRED_BY_DEFAULT, **board.chosen, **params}
    if "duration" in params and "decimation" not in params:
        del settings["decimation"]
    trace = await board.scope.single(input1=channel, timeout_s=timeout_s, **settings)
    return {"voltage": trace.ch1, "time": trace.time}


async def _scope_set_decimation(board: Board, params: Params) -> None:
    decimation = _one(params, "decimation", "value")
    await board.scope.decimation.set(decimation)
    board.chosen["decimation"] = decimation


async def _scope_set_trigger(board: Board, params: Params) -> None:
    source = _one(params, "trigger_source", "source", "value")
    await board.scope.trigger_source.set(source)
    board.chosen["trigger_source"] = source


async def _asg_setup(board: Board, params: Params) -> None:
    asg = _module(board, params, _ASGS)
    await asg.setup(**{each.name: value for each, value in _settings_of(asg, params).items()})


async def _asg_set_frequency(board: Board, params: Params) -> None:
    await _module(board, params, _ASGS).frequency.set(_one(params, "frequency", "value"))


async def _pid_configure(board: Board, params: Params) -> None:
    pid = _module(board, params, _PIDS)
    if params.pop("d", 0):
        raise ValueError("this board has no differential gain: leave d out")
    await _set_all(pid, params)


async def _pid_set_setpoint(board: Board, params: Params) -> None:
    await _module(board, params, _PIDS).setpoint.set(_one(params, "setpoint", "value"))


async def _pid_get_setpoint(board: Board, params: Params) -> float | None:
    found: float | None = await _module(board, params, _PIDS).setpoint.get()
    return found


async def _iq_setup(board: Board, params: Params) -> None:
    await _set_all(_module(board, params, _IQS), params)


async def _iq_get_measurement(board: Board, params: Params) -> Mapping[str, float]:
    found = await _module(board, params, _IQS).quadratures(**params)
    return {"i": found.i, "q": found.q, "amplitude": found.amplitude, "phase": found.phase}


async def _sampler_read(board: Board, params: Params) -> float | None:
    channel = str(params.pop("channel", "in1"))
    reading = cast("Reading[float] | None", Sampler.parameters.get(channel))
    if reading is None:
        known = ", ".join(Sampler.parameters)
        raise ValueError(f"there is no signal {channel!r}; there are: {known}")
    return await board.sampler.ask(reading)


def _one(params: Params, *names: str) -> Any:
    """Return the parameter that goes by several names."""
    given = [name for name in names if name in params]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are the same: give one of the two")
    if not given:
        raise ValueError(f"it needs the parameter {names[0]!r}")
    return params[given[0]]


async def _set_all(module: Pid | Iq, params: Params) -> None:
    """Set settings by name, the output last; nothing is written where a name is wrong."""
    chosen = _settings_of(module, params)
    for setting, value in chosen.items():
        module.check("setup", setting, value)
    for setting, value in sorted(chosen.items(), key=lambda each: each[0].header == _OUTPUT):
        await module.ask(setting.to(value))


def _settings_of(module: Asg | Pid | Iq, params: Params) -> dict[Setting[Any], Any]:
    """Return the settings that parameters name, and their values; one filter is a list of one."""
    found: dict[Setting[Any], Any] = {}
    for name, value in params.items():
        setting = _setting(module, name)
        if setting in found:
            raise ValueError(
                f"{setting.name} and {setting.header} are the same: give one of the two"
            )
        single = setting.type is list and isinstance(value, (int, float))
        found[setting] = [value] if single else value
    return found


def _setting(module: Asg | Pid | Iq, name: str) -> Setting[Any]:
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


_ASGS: Final = ("asg0", "asg1")
_PIDS: Final = ("pid0", "pid1", "pid2")
_IQS: Final = ("iq0", "iq1", "iq2")


def _settings(kind: type[Module]) -> tuple[str, ...]:
    """Return the names that a module's settings have here and in PyRPL."""
    found = [each for each in kind.parameters.values() if isinstance(each, Setting)]
    names = dict.fromkeys(name for each in found for name in (each.name, each.header))
    return tuple(names)


@frozen
class Command:
    """One command.

    Attributes:
        run: Carries it out; takes its parameters out of the mapping.
        takes: The names of its parameters.
    """

    run: Callable[[Any, Params], Awaitable[Any]]
    takes: tuple[str, ...]

    async def __call__(self, board: Board, params: Params) -> Any:
        """Carry it out.

        Raises:
            ValueError: A parameter is missing, or is none of its own; nothing was sent.
            CommandError: It was refused, or failed.
        """
        unknown = next((each for each in params if each not in self.takes), None)
        if unknown is not None:
            raise ValueError(f"it has no parameter {unknown!r}; it takes: {', '.join(self.takes)}")
        return await self.run(board, params)


_ACQUIRED: Final = (
    "decimation",
    "trigger_source",
    "input_channel",
    "input2",
    "duration",
    "average",
    "averages",
    "trigger_delay",
    "threshold",
    "hysteresis",
    "timeout",
)

COMMANDS: Final[Mapping[str, Command]] = {
    "scope_acquire": Command(_scope_acquire, _ACQUIRED),
    "scope_set_decimation": Command(_scope_set_decimation, ("decimation", "value")),
    "scope_set_trigger": Command(_scope_set_trigger, ("trigger_source", "source", "value")),
    "asg_setup": Command(_asg_setup, ("channel", *_settings(Asg))),
    "asg_set_frequency": Command(_asg_set_frequency, ("channel", "frequency", "value")),
    "pid_configure": Command(_pid_configure, ("channel", *_settings(Pid), "d")),
    "pid_set_setpoint": Command(_pid_set_setpoint, ("channel", "setpoint", "value")),
    "pid_get_setpoint": Command(_pid_get_setpoint, ("channel",)),
    "iq_setup": Command(_iq_setup, ("channel", *_settings(Iq))),
    "iq_get_measurement": Command(_iq_get_measurement, ("channel", "average_s")),
    "sampler_read": Command(_sampler_read, ("channel",)),
}
"""What each command does, by its name."""


def find_mistake(name: object, params: object) -> str | None:
    """Return what is wrong with a command whatever its parameters are; None if nothing."""
    if not isinstance(name, str) or name not in COMMANDS:
        return f"unknown command {name!r}; there are: {', '.join(COMMANDS)}"
    if params is not None and not isinstance(params, Mapping):
        return f"{name}: the parameters are a {type(params).__name__}; they are given by name"
    return None
