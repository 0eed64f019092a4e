"""What every simulated SCPI instrument shares: messages, errors and status; pure.

A message ends with a line feed and holds units separated by semicolons. A unit is
read relative to the path of the one before it, or from the root after a colon. The
answers of one message leave in one line. A unit in error queues its error and the next
unit is read as usual, so that a write can be followed by the question how it went.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from actors.instruments.scpi.frames import ErrorKind, ScpiError
from transports.sim import SimReply

from .entries import ERROR_TEXTS, Action, Entry, Number, Query, RequestError, expect_at_most

ERROR_QUEUE_SIZE: Final = 20

_UNIT: Final = re.compile(r"(\*|:?)([A-Za-z]\w*(?::[A-Za-z]\w*)*)(\?)?(?:\s+(.*))?", re.ASCII)

# IEEE 488.2, 11.5.1: the standard event status register.
_OPERATION_COMPLETE: Final = 1
_POWER_ON: Final = 128
_EVENT_OF: Final = {
    ErrorKind.QUERY: 4,
    ErrorKind.DEVICE: 8,
    ErrorKind.EXECUTION: 16,
    ErrorKind.COMMAND: 32,
}


class ConditionRegister:
    """A SCPI status structure: a condition, the bits that rose, and those that are reported."""

    def __init__(self, header: str) -> None:
        self.condition = 0
        self.event = 0
        self.enable = Number(f"{header}:ENABle", low=0, high=65535, default=0)
        self.entries: tuple[Entry, ...] = (
            Query(f"{header}[:EVENt]", self.take_event),
            Query(f"{header}:CONDition", lambda: self.condition),
            self.enable,
        )

    def __repr__(self) -> str:
        return f"<ConditionRegister condition={self.condition} event={self.event}>"

    @property
    def summary(self) -> bool:
        """Whether an enabled bit has risen since the event was last read."""
        return bool(self.event & int(self.enable.value))

    def update(self, condition: int) -> None:
        """Take the condition as it is now; rising bits are remembered."""
        self.event |= condition & ~self.condition
        self.condition = condition

    def take_event(self) -> int:
        """Return the bits that rose, and forget them."""
        event, self.event = self.event, 0
        return event


class OperationComplete(Action):
    """`*OPC`, which is an action and a question."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__("*OPC", run)

    def answer(self, arguments: Sequence[str]) -> str:
        """Return 1: an instrument that reads this has carried out all before it."""
        expect_at_most(arguments, 0)
        return "1"


class ScpiModel:
    """A SCPI instrument on a line: subclasses bring the table and the physics.

    Attributes:
        idn: The answer of `*IDN?`.
        device_s: The instant the instrument has got to; past the latest `now_s` while it
            is busy.
    """

    def __init__(
        self, entries: Sequence[Entry], *, idn: str, max_message_bytes: int = 1024
    ) -> None:
        """Take the table and switch the power on.

        Messages longer than `max_message_bytes` are dropped with error -363.
        """
        self.idn: Final = idn
        self.device_s = float("-inf")
        self._max_message_bytes = max_message_bytes
        self._message = bytearray()
        self._overrun = False
        self._path = ""
        self._answers: list[str] = []
        self._errors: deque[ScpiError] = deque()
        self._event_status = _POWER_ON
        # Whether `*OPC` waits for an operation to end.
        self._completing = False
        self._questionable = ConditionRegister("STATus:QUEStionable")
        self._operation = ConditionRegister("STATus:OPERation")
        self._event_enable = Number("*ESE", low=0, high=255, default=0)
        self._service_enable = Number("*SRE", low=0, high=255, default=0)
        self._entries = tuple(entries)
        self._common = self._declare_common()
        self._found: dict[str, Entry] = {}

    def _declare_common(self) -> tuple[Entry, ...]:
        return (
            Query("*IDN", lambda: self.idn),
            Action("*RST", self._restore),
            Action("*CLS", self._clear_status),
            Query("*ESR", self._take_event_status),
            self._event_enable,
            Query("*STB", lambda: self.status_byte),
            self._service_enable,
            OperationComplete(self._complete_operation),
            Query("*TST", lambda: 0),
            Action("*WAI", lambda: None),
            Query("SYSTem:ERRor[:NEXT]", self._take_error),
            Query("SYSTem:ERRor:COUNt", lambda: len(self._errors)),
            Query("SYSTem:VERSion", lambda: "1999.0"),
            Action("STATus:PRESet", self._preset_status),
            *self._questionable.entries,
            *self._operation.entries,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.idn!r}, {len(self._errors)} errors queued>"

    @property
    def errors(self) -> tuple[ScpiError, ...]:
        """The error queue, oldest first."""
        return tuple(self._errors)

    @property
    def status_byte(self) -> int:
        """The IEEE 488.2 status byte with its master summary, as `*STB?` answers it."""
        status = (
            (4 if self._errors else 0)
            | (8 if self._questionable.summary else 0)
            | (16 if self._answers else 0)
            | (32 if self._event_status & int(self._event_enable.value) else 0)
            | (128 if self._operation.summary else 0)
        )
        return status | (64 if status & int(self._service_enable.value) & ~64 else 0)

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Take bytes as they arrive, whole messages or parts, and return the replies."""
        replies: list[SimReply] = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._collect(part)
            self.device_s = max(self.device_s, now_s)
            line = self._run()
            if line:
                delay_s = self.device_s - now_s
                replies.append(SimReply(line.encode("latin-1") + b"\n", delay_s))
        if rest:
            self._collect(rest)
        return replies

    def reset(self, now_s: float) -> None:
        """Cycle the power: settings, status and half a message are lost, physics goes on."""
        self.advance(now_s)
        self.device_s = now_s
        self._message.clear()
        self._overrun = False
        self._errors.clear()
        self._completing = False
        for entry in chain(self._entries, self._common):
            entry.restore()
        self.settle()
        for register in (self._questionable, self._operation):
            register.condition = register.event = 0
        self._update_conditions()
        self._event_status = _POWER_ON

    def advance(self, now_s: float) -> None:
        """Bring the physics up to an instant; called before a message is read."""

    def settle(self) -> None:
        """Let settings act on the physics; called after every unit and after a reset."""

    def pending(self) -> bool:
        """Return whether an overlapped operation goes on."""
        return False

    def questionable_condition(self) -> int:
        """Return the bits of the questionable condition register."""
        return 0

    def operation_condition(self) -> int:
        """Return the bits of the operation condition register."""
        return 0

    def spend(self, duration_s: float) -> None:
        """Be busy: the answer of this message, and every later one, leaves that much later."""
        self.device_s += duration_s

    def queue_error(self, number: int) -> None:
        """Queue an error and set its event; a full queue ends with -350."""
        error = ScpiError(number, ERROR_TEXTS[number])
        self._event_status |= _EVENT_OF.get(error.kind, 0)
        if len(self._errors) < ERROR_QUEUE_SIZE:
            self._errors.append(error)
        else:
            self._errors[-1] = ScpiError(-350, ERROR_TEXTS[-350])
            self._event_status |= _EVENT_OF[ErrorKind.DEVICE]

    def _collect(self, part: bytes) -> None:
        self._message += part
        if len(self._message) > self._max_message_bytes:
            self._overrun = True
        if self._overrun:
            self._message.clear()

    def _run(self) -> str:
        message, overrun = bytes(self._message), self._overrun
        self._message.clear()
        self._overrun = False
        self.advance(self.device_s)
        self._settle_completion()
        self._update_conditions()
        if overrun:
            self.queue_error(-363)
            return ""
        text = message.decode("latin-1").strip()
        if not text:
            return ""
        if not (text.isascii() and text.replace("\t", " ").isprintable()):
            self.queue_error(-101)
            return ""
        self._path = ""
        for unit in split_unquoted(text, ";"):
            try:
                self._run_unit(unit)
            except RequestError as error:
                self.queue_error(error.number)
            self.settle()
            self._settle_completion()
            self._update_conditions()
        line = ";".join(self._answers)
        self._answers.clear()
        return line

    def _run_unit(self, unit: str) -> None:
        if not unit:
            return
        found = _UNIT.fullmatch(unit)
        if found is None:
            raise RequestError(-102)
        root, written, question, rest = found.groups()
        if root == "*":
            header = f"*{written}".upper()
        else:
            header = f"{'' if root else self._path}:{written}".upper()
        entry = self._find(header)
        if root != "*":
            self._path = header.rpartition(":")[0]
        arguments = split_unquoted(rest, ",") if rest else ()
        if question is None:
            entry.write(arguments)
        else:
            self._answers.append(entry.answer(arguments))

    def _find(self, header: str) -> Entry:
        found = self._found.get(header)
        if found is not None:
            return found
        for entry in chain(self._common, self._entries):
            if entry.matches(header):
                self._found[header] = entry
                return entry
        raise RequestError(-113)

    def _update_conditions(self) -> None:
        self._questionable.update(self.questionable_condition())
        self._operation.update(self.operation_condition())

    def _restore(self) -> None:
        for entry in self._entries:
            entry.restore()

    def _clear_status(self) -> None:
        self._errors.clear()
        self._completing = False
        self._event_status = 0
        self._questionable.event = self._operation.event = 0

    def _preset_status(self) -> None:
        self._questionable.enable.restore()
        self._operation.enable.restore()

    def _complete_operation(self) -> None:
        self._completing = True

    def _settle_completion(self) -> None:
        if self._completing and not self.pending():
            self._completing = False
            self._event_status |= _OPERATION_COMPLETE

    def _take_event_status(self) -> int:
        status, self._event_status = self._event_status, 0
        return status

    def _take_error(self) -> str:
        error = self._errors.popleft() if self._errors else ScpiError(0, ERROR_TEXTS[0])
        return f'{error.number:+d},"{error.text}"'


def split_unquoted(text: str, separator: str) -> tuple[str, ...]:
    """Split at separators outside quotes, and strip the parts."""
    if '"' not in text and "'" not in text:
        return tuple(map(str.strip, text.split(separator)))
    parts = [""]
    quote = ""
    for character in text:
        if character == separator and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        parts[-1] += character
    return tuple(part.strip() for part in parts)
