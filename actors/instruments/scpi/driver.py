"""Instruments that speak SCPI over a line of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from actors.command import Plan
from actors.errors import DeviceError
from actors.faults import (
    BUSY,
    CALIBRATION_EXPIRED,
    FRAMING,
    PARITY_ERROR,
    REJECTED,
    TIMEOUT,
    Fault,
    FaultClass,
)
from actors.instrument import Directive, Instrument
from actors.member import Identity, Script
from actors.operation import Acknowledge, Overlap
from actors.parameter import Action, Assignment, Operation, Parameter
from transports import Exchange, Framing, Lines, SerialSettings

from .frames import (
    CLEAR,
    PREPARE,
    ErrorKind,
    ScpiError,
    decode_bool,
    decode_condition,
    decode_error,
    decode_float,
    decode_identity,
    decode_int,
    decode_status,
    decode_text,
    fits,
    is_echo,
    is_error_reply,
    is_identity_reply,
    query,
    set_command,
)

T = TypeVar("T")

SCPI_FAULTS: Final[Mapping[int, FaultClass]] = {
    -213: BUSY,  # the operation that was to begin goes on already
    -284: BUSY,  # a program is running
    -313: CALIBRATION_EXPIRED,  # calibration memory lost
    -361: PARITY_ERROR,
    -362: FRAMING,
    -363: FRAMING,  # input buffer overrun
    -365: TIMEOUT,
}
"""What error numbers of SCPI-1999, volume 2, chapter 21, mean beyond their class."""

DEVICE_ERROR: Final = FaultClass("DEVICE_ERROR")
"""The instrument took the command and failed at it."""

_IDENTITY: Final = "*IDN"
_ERRORS: Final = "SYST:ERR"
_CONDITION: Final = "STAT:QUES:COND"


class ScpiInstrument(Instrument):
    """The base of SCPI drivers: declare settings and readings by their headers.

    A header takes the number of its channel where it has `{}`. The header of a reading or an
    action may be followed by an argument, such as `MEAS:VPP CHAN{}`.

    Every write carries a query of the error queue, so that one exchange says whether the
    instrument took it. Class attributes beside those of `Instrument`:

        channels: How many channels the headers with `{}` stand for.
        check_errors: Whether writes do so; False for instruments without an error queue.
        acknowledge: What tells that a write was carried out, where its declaration does not
            say.
        completion: What tells that an operation is done, where its declaration does not say.
        acknowledge_within_s: How long a write may take that a status acknowledges, in
            seconds; None for what the profile of its bus says.
        reply_within_s: How long a reply may take, in seconds.
        faults: What its error numbers mean, where they are more than an error: those that
            SCPI defines, unless a driver says otherwise, and the maker's own.
        conditions: What each bit of the questionable condition register says, for
            instruments whose register is to be looked at: with it their error queue is.
    """

    protocol: ClassVar[str] = "scpi"
    framing: ClassVar[Framing] = Lines(b"\n")
    recognised_at: ClassVar[Sequence[SerialSettings]] = tuple(
        SerialSettings(baudrate=each) for each in (9_600, 115_200, 19_200, 57_600, 38_400)
    )
    channels: ClassVar[int] = 1
    check_errors: ClassVar[bool] = True
    acknowledge: ClassVar[Acknowledge] = Acknowledge.REPLY
    completion: ClassVar[Acknowledge] = Acknowledge.STATUS_BYTE
    acknowledge_within_s: ClassVar[float | None] = None
    reply_within_s: ClassVar[float] = 1.0
    faults: ClassVar[Mapping[int, FaultClass]] = {}
    conditions: ClassVar[Mapping[int, FaultClass]] = {}

    _leftovers: bool = False
    """Whether the error queue may hold what came of another command than the next."""

    @classmethod
    def instances_of(cls, parameter: Parameter[Any]) -> int:
        """Return how many channels there are, where the header names one."""
        return cls.channels if "{}" in parameter.header else 1

    def encode(self, directive: Directive[Any], instance: int = 1) -> Exchange:
        """Return the line that carries out `directive`."""
        match directive:
            case Assignment(setting, value, instance):
                return self._write(directive, setting.header.format(instance), value)
            case Action(header=header):
                header, _, argument = header.partition(" ")
                return self._write(directive, header, argument or None)
            case Parameter(header=header):
                header, _, argument = header.format(instance).partition(" ")
                return self._query(header, argument=argument)

    def decode(self, parameter: Parameter[T], raw: bytes) -> T | None:
        """Return the value in a reply, by the parameter's type."""
        value: Any
        if parameter.type is bool:
            value = decode_bool(raw)
        elif parameter.type is int:
            value = decode_int(raw)
        elif parameter.type is float:
            value = decode_float(raw)
        else:
            value = decode_text(raw)
        return value  # type: ignore[no-any-return]  # the branches follow parameter.type

    def decode_written(self, directive: Directive[Any], raw: bytes) -> None:
        """Raise what the error queue held after a write."""
        if self.replies(directive):
            self._check_error(raw)

    def overlap(self, directive: Assignment[Any] | Action) -> Overlap[None] | None:
        """Return how a command is followed that a status acknowledges, or an operation."""
        how = self._acknowledged(directive)
        if not how.by_status:
            return None
        register = "*ESR" if how is Acknowledge.EVENT_STATUS else "*STB"
        headers = [register]
        abort: Exchange | None = None
        within_s = self.acknowledge_within_s or self.bus.profile.acknowledge_within_s
        if isinstance(directive, Operation):
            within_s = directive.within_s
            if directive.progress is not None:
                headers.append(directive.progress)
            if directive.abort is not None:
                abort = self._checked(directive.abort, None)
        judge = partial(decode_status, how)
        return Overlap(
            poll=Exchange(query(*headers), self.unit, self._within_s, partial(fits, judge)),
            judge=judge,
            finish=self._query(_ERRORS, is_error_reply) if self.check_errors else None,
            result=self._check_error if self.check_errors else _nothing,
            abort=abort,
            within_s=within_s,
            by_status=not self.replies(directive),
            on_request=how is Acknowledge.SERVICE_REQUEST,
        )

    def replies(self, directive: Directive[Any]) -> bool:
        """Return whether the device answers a write with an entry of its error queue."""
        how = self._acknowledged(directive)
        if isinstance(directive, Operation):
            return self.check_errors  # what was started is asked for at once
        return self.check_errors and how is Acknowledge.REPLY

    def _acknowledged(self, directive: Directive[Any]) -> Acknowledge:
        match directive:
            case Assignment(setting):
                return setting.acknowledge or self.acknowledge
            case Operation():
                return directive.acknowledge or self.completion
            case Action():
                return directive.acknowledge or self.acknowledge
            case _:
                return self.acknowledge

    def _check_error(self, raw: bytes) -> None:
        error = decode_error(raw)
        # One entry was read: where there was one there may be more.
        self._leftovers = error.kind is not ErrorKind.NONE
        if self._leftovers:
            raise DeviceError(self._fault_of(error, raw))

    def _fault_of(self, error: ScpiError, raw: bytes) -> Fault:
        # Command and execution errors mean that nothing was carried out.
        rejected = error.kind in (ErrorKind.COMMAND, ErrorKind.EXECUTION)
        usual = REJECTED if rejected else DEVICE_ERROR
        kind = self.faults.get(error.number) or SCPI_FAULTS.get(error.number, usual)
        return Fault(kind, f"it answered {error.number}, {error.text!r}", raw)

    def identify(self) -> Script[Identity]:
        """Ask `*IDN?`, then empty the error queue of what happened before."""
        identity = yield from self.recognise()
        if self.check_errors:
            for _ in range(_QUEUE_BOUND):
                raw = yield self._query(_ERRORS, is_error_reply)
                self._leftovers = decode_error(raw).kind is not ErrorKind.NONE
                if not self._leftovers:
                    break
        return identity

    def recognise(self) -> Script[Identity]:
        """Ask `*IDN?`, and leave the error queue alone."""
        maker, model, serial, firmware = decode_identity(
            (yield self._query(_IDENTITY, is_identity_reply))
        )
        return Identity(maker, model, serial or None, firmware)

    def fence(self, owed: Sequence[Exchange]) -> Exchange | None:
        """Return `*IDN?`, or a query of the error queue where an identity is owed."""
        requests = [each.request.upper() for each in owed]
        if not any(_IDENTITY.encode() in each for each in requests):
            return self._query(_IDENTITY, is_identity_reply)
        if not any(_ERRORS.encode() in each for each in requests):
            return self._query(_ERRORS, is_error_reply)
        return None

    def status_plan(self) -> Plan[Sequence[Fault]] | None:
        """Return the query of the questionable condition register, where its bits are known."""
        if not self.conditions:
            return None
        # A device that does not know the register would keep that for an answer to the next
        # write: its error queue is asked for as well.
        headers = (_CONDITION, _ERRORS) if self.check_errors else (_CONDITION,)
        accepts = partial(fits, decode_condition)
        request = query(*headers)
        if self.check_errors and self._leftovers:
            request = f"{CLEAR};:".encode("ascii") + request
        exchange = Exchange(request, self.unit, self._within_s, accepts)
        return Plan(name="status", exchange=exchange, decode=self._conditions)

    def _conditions(self, raw: bytes) -> Sequence[Fault]:
        held, error = decode_condition(raw)
        if held is None:
            text = f"it does not know {_CONDITION}? and answered {raw.decode('ascii', 'replace')}"
            raise DeviceError(Fault(REJECTED, text, raw))
        found = [
            Fault(kind, f"bit {bit} of its questionable conditions is set", raw)
            for bit, kind in self.conditions.items()
            if held >> bit & 1
        ]
        if error is not None:
            self._leftovers = error.kind is not ErrorKind.NONE
            if self._leftovers:
                found.append(self._fault_of(error, raw))
        return found

    def note_unanswered(self) -> None:
        """Note that something was not answered: the device may keep why for the next write."""
        self._leftovers = self.check_errors

    def safe_plans(self) -> Sequence[Plan[object]]:
        """Return what drives the instrument safe, blamed for no other command's error."""
        return self.made_safe_plans() if self._leftovers else super().safe_plans()

    @property
    def _within_s(self) -> float:
        return self.reply_within_s if self.timeout_s is None else self.timeout_s

    def _checked(self, header: str, value: Any) -> Exchange:
        request = set_command(header, value, check_errors=self.check_errors, clear=self._leftovers)
        return Exchange(request, self.unit, self._within_s if self.check_errors else None)

    def _query(
        self, header: str, accepts: Callable[[bytes], bool] | None = None, *, argument: str = ""
    ) -> Exchange:
        request = query(header, argument=argument)
        return Exchange(request, self.unit, self._within_s, accepts)

    def _write(self, directive: Directive[Any], header: str, value: Any) -> Exchange:
        how = self._acknowledged(directive)
        replies = self.replies(directive)
        if how.by_status:
            # It empties the queue itself, and nothing may do so while it goes on.
            self._leftovers = False
        request = set_command(
            header,
            value,
            check_errors=replies,
            before=PREPARE.get(how, ""),
            clear=replies and self._leftovers,
        )
        if how is Acknowledge.ECHO:
            return Exchange(request, self.unit, self._within_s, partial(is_echo, request))
        return Exchange(request, self.unit, self._within_s if replies else None)


def _nothing(raw: bytes) -> None:
    del raw


_QUEUE_BOUND: Final = 64
"""An error queue that is longer than this is not emptied by reading it."""
