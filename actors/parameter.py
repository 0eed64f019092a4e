"""What an instrument can do, declared: settings, readings and actions.

A declaration is a class attribute of a driver. Seen from an instrument, the same
attribute is bound to it: `psu.voltage.set(5.0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Never, Protocol, TypeVar, overload

from .command import Priority
from .operation import Acknowledge
from .retry import RetryPolicy
from .ticket import Ticket
from .validation import Limits, Requirement

T = TypeVar("T")


def with_instance(name: str, instance: int) -> str:
    """Return a name, with its instance where that is not the first: `setpoint[2]`."""
    return name if instance == 1 else f"{name}[{instance}]"


class Caller(Protocol):
    """What a bound parameter needs of its instrument.

    The types of values are those of the declarations, which bound parameters restore.
    """

    @property
    def name(self) -> str:
        """Its name in the tree."""
        ...

    async def ask(
        self,
        directive: Any,
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """Carry out a directive and return its value."""
        ...

    async def submit(
        self,
        directive: Any,
        *,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[Any]:
        """Have a directive accepted and return its ticket."""
        ...


class Parameter(Generic[T]):
    """Something an instrument has, by name.

    Attributes:
        header: What travels on the wire.
        unit: The physical unit, or None.
        type: The Python type of its values.
        retry: How often reading or writing it is tried; None for what its bus says.
        name: The attribute's name in the driver.
    """

    def __init__(
        self, header: str, *, unit: str | None, type: type[T], retry: RetryPolicy | None = None
    ) -> None:
        """Declare a parameter; its name comes from the attribute it is assigned to."""
        self.header = header
        self.unit = unit
        self.type = type
        self.retry = retry
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name."""
        self.name = name

    def __repr__(self) -> str:
        """Return the kind, the name and the header."""
        return f"<{type(self).__name__} {self.name} {self.header!r}>"


class Reading(Parameter[T]):
    """A value that is only read."""

    @overload
    def __init__(
        self: Reading[float],
        header: str,
        *,
        unit: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        header: str,
        *,
        type: type[T],
        unit: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None: ...
    def __init__(
        self,
        header: str,
        *,
        type: type[Any] = float,
        unit: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Declare a reading of `type` in `unit`."""
        super().__init__(header, unit=unit, type=type, retry=retry)

    def equals(self, value: T, *, within_s: float = 10.0) -> Requirement:
        """Return the requirement that it was `value` when it was last read, not long ago."""
        return self.satisfies(lambda read: bool(read == value), f"be {value!r}", within_s=within_s)

    def satisfies(
        self, accepts: Callable[[T], bool], text: str, *, within_s: float = 10.0
    ) -> Requirement:
        """Return the requirement that its last value will do; `text` completes "it must"."""
        return Requirement(self, accepts, text, within_s)

    @overload
    def __get__(self, instrument: None, owner: type) -> Reading[T]: ...
    @overload
    def __get__(self, instrument: Caller, owner: type) -> BoundReading[T]: ...
    def __get__(self, instrument: Caller | None, owner: type) -> Reading[T] | BoundReading[T]:
        """Return the declaration from the driver, the bound reading from an instrument."""
        return self if instrument is None else BoundReading(instrument, self)

    def __set__(self, instrument: Caller, value: Never) -> None:
        """Refuse to be replaced.

        Raises:
            AttributeError: Always.
        """
        here = f"{instrument.name}.{self.name}"
        raise AttributeError(f"{here} is only read, with `await {here}.get()`")


class Setting(Parameter[T]):
    """A value that is written and read back.

    Attributes:
        limits: What values it takes, and which of them can do harm.
        idempotent: Whether writing it twice is the same as once.
        acknowledge: What tells that it was taken; None for what the driver says.
        requires: What has to hold before it is written: before a value that can do harm,
            where only some can, else before any.
    """

    @overload
    def __init__(
        self: Setting[float],
        header: str,
        *,
        unit: str | None = None,
        low: float | None = None,
        high: float | None = None,
        hazardous: bool | Callable[[float], bool] = False,
        idempotent: bool = True,
        acknowledge: Acknowledge | None = None,
        retry: RetryPolicy | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        header: str,
        *,
        type: type[T],
        unit: str | None = None,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[T] = (),
        hazardous: bool | Callable[[T], bool] = False,
        idempotent: bool = True,
        acknowledge: Acknowledge | None = None,
        retry: RetryPolicy | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None: ...
    def __init__(  # noqa: PLR0913 - a declaration says all of it in one place
        self,
        header: str,
        *,
        type: type[Any] = float,
        unit: str | None = None,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[Any] = (),
        hazardous: bool | Callable[[Any], bool] = False,
        idempotent: bool = True,
        acknowledge: Acknowledge | None = None,
        retry: RetryPolicy | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None:
        """Declare a setting of `type` in `unit`, within its limits."""
        super().__init__(header, unit=unit, type=type, retry=retry)
        self.limits: Limits[T] = Limits(type, unit, low, high, tuple(choices), hazardous)
        self.idempotent = idempotent
        self.acknowledge = acknowledge
        self.requires = tuple(requires)

    @overload
    def __get__(self, instrument: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instrument: Caller, owner: type) -> BoundSetting[T]: ...
    def __get__(self, instrument: Caller | None, owner: type) -> Setting[T] | BoundSetting[T]:
        """Return the declaration from the driver, the bound setting from an instrument."""
        return self if instrument is None else BoundSetting(instrument, self)

    def __set__(self, instrument: Caller, value: Never) -> None:
        """Refuse to be replaced: nothing would be sent.

        Raises:
            AttributeError: Always.
        """
        here = f"{instrument.name}.{self.name}"
        raise AttributeError(f"{here}: write it with `await {here}.set({value!r})`")

    def is_set(self) -> Requirement:
        """Return the requirement that it was set, to whatever value."""
        return Requirement(self, lambda _: True, "be set")

    def equals(self, value: T) -> Requirement:
        """Return the requirement that it was last set to `value`."""
        return self.satisfies(lambda held: bool(held == value), f"be set to {value!r}")

    def satisfies(self, accepts: Callable[[T], bool], text: str) -> Requirement:
        """Return the requirement that what it was set to will do; `text` completes "it must"."""
        return Requirement(self, accepts, text)

    def to(self, value: T, *, instance: int = 1) -> Assignment[T]:
        """Return the assignment of `value`, to be submitted or declared as safe."""
        return Assignment(self, value, instance)


class Action:
    """Something an instrument does, without a value.

    Attributes:
        header: What travels on the wire.
        hazardous: Whether it can do harm and needs `confirm=True`.
        idempotent: Whether doing it twice is the same as once.
        acknowledge: What tells that it was done; None for what the driver says.
        retry: How often it is tried; None for what its bus says.
        requires: What has to hold before it is done.
        name: The attribute's name in the driver.
    """

    def __init__(
        self,
        header: str,
        *,
        hazardous: bool = False,
        idempotent: bool = False,
        acknowledge: Acknowledge | None = None,
        retry: RetryPolicy | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None:
        """Declare an action; its name comes from the attribute it is assigned to."""
        self.header = header
        self.hazardous = hazardous
        self.idempotent = idempotent
        self.acknowledge = acknowledge
        self.retry = retry
        self.requires = tuple(requires)
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name."""
        self.name = name

    def __repr__(self) -> str:
        """Return the kind, the name and the header."""
        return f"<{type(self).__name__} {self.name} {self.header!r}>"

    @overload
    def __get__(self, instrument: None, owner: type) -> Action: ...
    @overload
    def __get__(self, instrument: Caller, owner: type) -> BoundAction: ...
    def __get__(self, instrument: Caller | None, owner: type) -> Action | BoundAction:
        """Return the declaration from the driver, the bound action from an instrument."""
        return self if instrument is None else BoundAction(instrument, self)

    def __set__(self, instrument: Caller, value: Never) -> None:
        """Refuse to be replaced.

        Raises:
            AttributeError: Always.
        """
        here = f"{instrument.name}.{self.name}"
        raise AttributeError(f"{here} is an action: `await {here}()`")


class Operation(Action):
    """Something an instrument goes on with after it was told to: a sweep, a calibration.

    Its lane is held until it is done; the bus is free for the others.

    Attributes:
        abort: What stops it, or None where the device cannot.
        progress: What is asked for how much of it is done, from 0 to 1, or None.
        within_s: How long it may take before it is called off as failed, in seconds.
    """

    def __init__(
        self,
        header: str,
        *,
        abort: str | None = None,
        progress: str | None = None,
        within_s: float = 3600.0,
        hazardous: bool = False,
        idempotent: bool = False,
        acknowledge: Acknowledge | None = None,
        requires: Sequence[Requirement] = (),
    ) -> None:
        """Declare an operation; its name comes from the attribute it is assigned to."""
        super().__init__(
            header,
            hazardous=hazardous,
            idempotent=idempotent,
            acknowledge=acknowledge,
            requires=requires,
        )
        self.abort = abort
        self.progress = progress
        self.within_s = within_s


class Assignment(Generic[T]):
    """A setting and the value it is to have.

    Attributes:
        setting: Which.
        value: The value, in the setting's unit.
        instance: Of which loop or channel, from 1.
    """

    __match_args__ = ("setting", "value", "instance")
    __slots__ = ("instance", "setting", "value")

    def __init__(self, setting: Setting[T], value: T, instance: int = 1) -> None:
        """Pair a setting with a value; nothing is checked before it is submitted."""
        self.setting = setting
        self.value = value
        self.instance = instance

    def __repr__(self) -> str:
        """Return the setting's name and the value."""
        return f"<Assignment {with_instance(self.setting.name, self.instance)} = {self.value!r}>"


class BoundReading(Generic[T]):
    """A reading of one instrument."""

    def __init__(self, instrument: Caller, declared: Reading[T]) -> None:
        """Bind a declaration to an instrument."""
        self.instrument = instrument
        self.declared = declared

    async def get(self, *, instance: int = 1, priority: Priority = Priority.NORMAL) -> T | None:
        """Read the value; None where the instrument reports it as unavailable.

        Args:
            instance: Of which loop or channel, from 1.
            priority: Who goes first within the lane.

        Raises:
            RefusedError: The command was not accepted.
            CommandError: It was, and failed.
        """
        value: T | None = await self.instrument.ask(
            self.declared, instance=instance, priority=priority
        )
        return value


class BoundSetting(Generic[T]):
    """A setting of one instrument."""

    def __init__(self, instrument: Caller, declared: Setting[T]) -> None:
        """Bind a declaration to an instrument."""
        self.instrument = instrument
        self.declared = declared

    async def get(self, *, instance: int = 1, priority: Priority = Priority.NORMAL) -> T | None:
        """Read the value back; None where the instrument reports it as unavailable.

        Args:
            instance: Of which loop or channel, from 1.
            priority: Who goes first within the lane.

        Raises:
            RefusedError: The command was not accepted.
            CommandError: It was, and failed.
        """
        value: T | None = await self.instrument.ask(
            self.declared, instance=instance, priority=priority
        )
        return value

    async def set(
        self,
        value: T,
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        """Write the value and return when the instrument has taken it.

        Args:
            value: The value, in the setting's unit.
            instance: Of which loop or channel, from 1.
            confirm: That a value that can do harm is meant.
            priority: Who goes first within the lane.

        Raises:
            RefusedError: Out of range, not confirmed, or not accepted now.
            CommandError: Accepted, and failed.
        """
        assignment = self.declared.to(value, instance=instance)
        await self.instrument.ask(assignment, confirm=confirm, priority=priority)

    async def submit(
        self,
        value: T,
        *,
        instance: int = 1,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[None]:
        """Submit the write and return its ticket; see `Instrument.submit`."""
        assignment = self.declared.to(value, instance=instance)
        return await self.instrument.submit(
            assignment, confirm=confirm, priority=priority, after=after
        )

    def to(self, value: T, *, instance: int = 1) -> Assignment[T]:
        """Return the assignment of `value`, to be submitted."""
        return self.declared.to(value, instance=instance)


class BoundAction:
    """An action of one instrument."""

    def __init__(self, instrument: Caller, declared: Action) -> None:
        """Bind a declaration to an instrument."""
        self.instrument = instrument
        self.declared = declared

    async def __call__(
        self, *, confirm: bool = False, priority: Priority = Priority.NORMAL
    ) -> None:
        """Do it and return when the instrument has.

        Raises:
            RefusedError: Not confirmed, or not accepted now.
            CommandError: Accepted, and failed.
        """
        await self.instrument.ask(self.declared, confirm=confirm, priority=priority)

    async def submit(
        self,
        *,
        confirm: bool = False,
        priority: Priority = Priority.NORMAL,
        after: Sequence[Ticket[Any]] = (),
    ) -> Ticket[None]:
        """Submit it and return its ticket; see `Instrument.submit`."""
        return await self.instrument.submit(
            self.declared, confirm=confirm, priority=priority, after=after
        )
