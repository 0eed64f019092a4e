"""The driver of an instrument whose protocol is a library's affair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from actors.errors import DeviceError
from actors.faults import REJECTED, Fault
from actors.instrument import Directive, Instrument
from actors.member import Identity, Script
from actors.parameter import Action, Assignment, Parameter
from transports import Exchange, Framing, Hosting, Lines

T = TypeVar("T")


class HostedInstrument(Instrument):
    """Declares as settings, readings and actions what a library's object can do.

    A header is the name of a call in `hosting`. A reading's call gives its value; that of
    a setting is given the value to write, or None to read it back, and gives what the
    instrument holds; what an action's call gives is ignored. The call `identify`, where
    there is one, gives maker, model, serial number and firmware, each a text or None.

    Class attributes beside those of `Instrument`:

        reply_within_s: How long a call may take, in seconds.
    """

    protocol: ClassVar[str] = "hosted"
    # Replies are what calls return; nothing is framed.
    framing: ClassVar[Framing] = Lines(b"\n")
    reply_within_s: ClassVar[float] = 1.0

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the call that carries out `directive`."""
        del instance
        match directive:
            case Assignment(setting, value):
                return self._call(setting.header, value)
            case Action(header=header) | Parameter(header=header):
                return self._call(header)

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return what the call gave, if it is of the parameter's type."""
        value: Any = json.loads(raw)
        if value is not None:
            whole = parameter.type is float and isinstance(value, int)
            if not (whole or isinstance(value, parameter.type)):
                raise ValueError(f"{parameter.name} is {value!r}, no {parameter.type.__name__}")
        return value  # type: ignore[no-any-return]  # it was just checked

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Check that the instrument holds what it was given, where the call says."""
        held = json.loads(raw)
        if isinstance(directive, Assignment) and held is not None and held != directive.value:
            raise DeviceError(Fault(REJECTED, f"it holds {held!r}, not {directive.value!r}", raw))

    def identify(self) -> Script[Identity]:
        """Make the call `identify`; without it the instrument stays unverified."""
        if "identify" not in self._hosting.calls:
            return Identity()
        raw = yield self._call("identify")
        return Identity(*json.loads(raw))

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return None: the line is drained or reopened, and the library made anew."""
        del owed
        return None

    @property
    def _hosting(self) -> Hosting[Any]:
        if self.hosting is None:
            raise ValueError(f"{type(self).__name__} declares no `hosting`")
        return self.hosting

    def _call(self, name: str, *arguments: object) -> Exchange:
        within_s = self.reply_within_s if self.timeout_s is None else self.timeout_s
        return Exchange(self._hosting.request(name, *arguments), self.unit, within_s, bool)
