"""What comes of asking many instruments: a value or an error for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Generic, Self, TypeVar, overload

from attrs import frozen

from actors import CommandError, Event

T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=Exception)
B = TypeVar("B", bound=BaseException)


class ErrorPolicy(Enum):
    """What becomes of errors when many instruments are asked."""

    RAISE = "raise"
    """Everybody is asked, then one `FleetError` holds all failures and all results."""
    RETURN = "return"
    """Errors are part of the results."""


@frozen(kw_only=True)
class DeviceResult(Generic[T_co]):
    """What came of asking one instrument: a value or an error, never both.

    Attributes:
        value: What it answered; None with an error, and for a reading that the instrument
            reports as unavailable.
        error: Why there is no value, or None.
    """

    value: T_co | None = None
    error: CommandError | None = None

    def __attrs_post_init__(self) -> None:
        """Check that it is one of the two."""
        if self.value is not None and self.error is not None:
            raise ValueError("a result is a value or an error, not both")

    @property
    def ok(self) -> bool:
        """Whether it is a value."""
        return self.error is None


class FleetError(ExceptionGroup[CommandError]):
    """Some instruments of a fleet failed. Each failure names its instrument.

    Attributes:
        results: Everybody's result by name, the good ones among them, in the order asked.
    """

    results: Mapping[str, DeviceResult[Any]]

    def __new__(
        cls,
        message: str,
        errors: Sequence[CommandError],
        results: Mapping[str, DeviceResult[Any]],
    ) -> Self:
        """Make a group of `errors`."""
        del results
        return super().__new__(cls, message, errors)

    def __init__(
        self,
        message: str,
        errors: Sequence[CommandError],
        results: Mapping[str, DeviceResult[Any]],
    ) -> None:
        """Keep the results."""
        super().__init__(message, errors)
        self.results = dict(results)

    @property
    def failures(self) -> Mapping[str, CommandError]:
        """Who failed, and why."""
        return {
            name: result.error for name, result in self.results.items() if result.error is not None
        }

    @overload
    def derive(self, errors: Sequence[E], /) -> ExceptionGroup[E]: ...
    @overload
    def derive(self, errors: Sequence[B], /) -> BaseExceptionGroup[B]: ...
    def derive(self, errors: Sequence[Any], /) -> BaseExceptionGroup[Any]:
        """Return the same with some of the failures; the results stay whole."""
        return FleetError(self.message, errors, self.results)


class FleetClosedError(RuntimeError):
    """The fleet is closed, or was not entered yet: nothing can be asked of it."""


@frozen(kw_only=True)
class DeviceAdded(Event):
    """An instrument was identified and belongs to a fleet now.

    Attributes:
        name: Its name in the fleet.
        port: The canonical name of its bus.
        model: The type it says it is, or None.
        firmware: The version of its software, or None.
    """

    name: str
    port: str
    model: str | None
    firmware: str | None


@frozen(kw_only=True)
class DeviceRemoved(Event):
    """An instrument does not belong to a fleet any more."""

    name: str
    port: str


@frozen(kw_only=True)
class DeviceCloseFailed(Event):
    """Taking an instrument out of a closing fleet failed; the others go on."""

    name: str
    port: str
    error: str
