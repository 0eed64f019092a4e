"""The line in front of a device model: order, latency and faults, without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from attrs import define

from .model import DeviceModel, ServerModel, SimReply

REQUESTS_KEPT: Final = 4_096
"""How many received pieces a line remembers."""

TimedBytes = tuple[float, bytes]
"""An instant in seconds, and bytes that belong to it."""


class _Fault(Enum):
    LATE = auto()
    LOSE = auto()
    GARBLE = auto()
    TRUNCATE = auto()
    DUPLICATE = auto()
    FOREIGN = auto()


@define
class _Armed:
    fault: _Fault
    left: int
    unit: str | None
    by_s: float = 0.0
    data: bytes = b""


class SimLine:
    """One device model behind one line, with faults on demand.

    Replies leave in order, each after the one before it: a late reply delays those that
    follow. Faults that concern replies meet each reply at most once, oldest fault first;
    with `unit` they wait for a reply of that unit.

    Args:
        model: The device, or the devices that share the line.
        latency_s: How long bytes travel, in seconds; may be set at any time.

    Attributes:
        requests: The last pieces received, with their instants, whatever became of them.
    """

    def __init__(self, model: DeviceModel, *, latency_s: float = 0.0) -> None:
        """Plug `model` in; nothing is armed."""
        self.model = model
        self.latency_s = latency_s
        self.requests: deque[TimedBytes] = deque(maxlen=REQUESTS_KEPT)
        self._plugged = True
        self._armed: list[_Armed] = []
        self._hung_line = False
        self._hung_units: set[str] = set()
        # What a hung line or unit swallowed, in case it is to be answered later.
        self._swallowed = bytearray()
        self._withheld: list[SimReply] = []
        self._answer_due = False
        self._now_s: float | None = None
        # When the device is done with what it was asked so far.
        self._busy_until_s = float("-inf")
        self._last_due_s = float("-inf")
        self._watchers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        """Return the model and the line's condition."""
        condition = "plugged" if self._plugged else "unplugged"
        return f"<SimLine {type(self.model).__name__} {condition} armed={len(self._armed)}>"

    @property
    def plugged(self) -> bool:
        """Whether the device is connected."""
        return self._plugged

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when the line is (un)plugged or has replies to `collect`.

        Returns a function that ends this.
        """
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def connect(self, now_s: float) -> None:
        """Tell a model that is a server of a new client; nothing else changes."""
        self._now_s = now_s
        if isinstance(self.model, ServerModel):
            self._swallowed.clear()
            self._busy_until_s = self._last_due_s = float("-inf")
            self.model.connect(now_s)

    def receive(self, data: bytes, now_s: float) -> list[TimedBytes]:
        """Take bytes that arrive at `now_s`; return what is sent when, in order."""
        self._now_s = now_s
        self.requests.append((now_s, data))
        if not self._plugged:
            return []
        if self._hung_line:
            self._swallowed += data
            return []
        return self._send(self.model.receive(data, now_s), now_s)

    def collect(self, now_s: float) -> list[TimedBytes]:
        """Return the replies that an `unhang(answer=True)` released, in order."""
        self._now_s = now_s
        if not (self._answer_due and self._plugged):
            return []
        self._answer_due = False
        withheld, self._withheld = self._withheld, []
        swallowed = bytes(self._swallowed)
        self._swallowed.clear()
        released = self._send(withheld, now_s)
        if swallowed:
            released += self._send(self.model.receive(swallowed, now_s), now_s)
        return released

    def late(self, by_s: float, count: int = 1, unit: str | None = None) -> None:
        """Delay the next `count` replies by `by_s` seconds each."""
        self._arm(_Armed(_Fault.LATE, count, unit, by_s=by_s))

    def lose(self, count: int = 1, unit: str | None = None) -> None:
        """Drop the next `count` replies; the requests are carried out."""
        self._arm(_Armed(_Fault.LOSE, count, unit))

    def garble(self, count: int = 1, unit: str | None = None) -> None:
        """Invert the high bit of the middle byte of the next `count` replies."""
        self._arm(_Armed(_Fault.GARBLE, count, unit))

    def truncate(self, count: int = 1, unit: str | None = None) -> None:
        """Send only the first half of the next `count` replies."""
        self._arm(_Armed(_Fault.TRUNCATE, count, unit))

    def duplicate(self, count: int = 1, unit: str | None = None) -> None:
        """Send the next `count` replies twice."""
        self._arm(_Armed(_Fault.DUPLICATE, count, unit))

    def foreign(self, data: bytes, count: int = 1, unit: str | None = None) -> None:
        """Send `data` in place of the next `count` replies."""
        self._arm(_Armed(_Fault.FOREIGN, count, unit, data=data))

    def disarm(self) -> None:
        """Forget the faults that no reply has met yet."""
        self._armed.clear()

    def hang(self, unit: str | None = None) -> None:
        """Let the device go silent until `unhang`.

        The whole line swallows its requests without carrying them out; a single unit
        carries them out and withholds its replies.
        """
        if unit is None:
            self._hung_line = True
        else:
            self._hung_units.add(unit)

    def unhang(self, *, answer: bool = False) -> None:
        """Let everything that hung answer again.

        Requests swallowed meanwhile are answered now with `answer`, else never.
        """
        self._hung_line = False
        self._hung_units.clear()
        if answer:
            self._answer_due = True
            self._notify()
        else:
            self._swallowed.clear()
            self._withheld.clear()

    def unplug(self) -> None:
        """Take the device off the line; replies on the way are lost."""
        if self._plugged:
            self._plugged = False
            self._swallowed.clear()
            self._withheld.clear()
            self._busy_until_s = self._last_due_s = float("-inf")
            self._notify()

    def replug(self, model: DeviceModel | None = None) -> None:
        """Put the device back, or `model` in its place."""
        if model is not None:
            self.model = model
        if not self._plugged:
            self._plugged = True
            self._notify()

    def reset(self) -> None:
        """Cycle the device's power, at the instant the line was last used."""
        self.model.reset(self._now_s or 0.0)

    def _arm(self, armed: _Armed) -> None:
        if armed.left < 1:
            raise ValueError(f"count is {armed.left}; it must be at least 1")
        self._armed.append(armed)

    def _notify(self) -> None:
        for callback in tuple(self._watchers):
            callback()

    def _send(self, replies: Sequence[SimReply], now_s: float) -> list[TimedBytes]:
        sent: list[TimedBytes] = []
        for reply in replies:
            if reply.unit is not None and reply.unit in self._hung_units:
                self._withheld.append(reply)
                continue
            data = reply.data
            self._busy_until_s = max(now_s, self._busy_until_s) + reply.delay_s
            if self._armed and (armed := self._next_fault(reply.unit)) is not None:
                self._busy_until_s += armed.by_s
                data = _apply(armed, data)
            if data:
                self._last_due_s = max(self._busy_until_s + self.latency_s, self._last_due_s)
                sent.append((self._last_due_s, data))
        return sent

    def _next_fault(self, unit: str | None) -> _Armed | None:
        for armed in self._armed:
            if armed.unit is None or armed.unit == unit:
                armed.left -= 1
                if armed.left == 0:
                    self._armed.remove(armed)
                return armed
        return None


def _apply(armed: _Armed, data: bytes) -> bytes:
    match armed.fault:
        case _Fault.LATE:
            return data
        case _Fault.LOSE:
            return b""
        case _Fault.GARBLE:
            return _garbled(data)
        case _Fault.TRUNCATE:
            return data[: len(data) // 2]
        case _Fault.DUPLICATE:
            return data + data
        case _Fault.FOREIGN:
            return armed.data


def _garbled(data: bytes) -> bytes:
    if not data:
        return data
    # Never the last byte of several: the reply still ends, and is read as a wrong one.
    middle = (len(data) - 1) // 2
    return data[:middle] + bytes((data[middle] ^ 0x80,)) + data[middle + 1 :]
