"""What a simulation puts in the place of lines, connections, sinks and the clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import trio
from attrs import define, field

from actors import Chain, JournalRow, Sample
from recorder import GATHER_S, RETRY_S, SampleSink
from transports import (
    BoardModel,
    DeviceModel,
    Exchange,
    MultiplexedSim,
    Reply,
    SimLine,
    SimReply,
    TimedStream,
    VirtualClock,
)

from .faultplan import FaultKind, PlannedFault
from .invariants import PLANNED_CRASH, Invariants
from .repeatable import JumpingClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LATENCY_S: Final = 0.002
"""How long bytes travel on a simulated line, in seconds, unless it is set otherwise."""

MOST_IN_FLIGHT: Final = 3
"""How many exchanges may be in flight on a simulated bus that is multiplexed."""

FOREIGN: Final = b"-1.25E-3\n"
"""What a foreign reply says where no other unit shares the line."""

Witness = Callable[[bytes, float, Sequence[bytes]], None]
"""Told what a line was asked, when, and what may be taken for the answer."""


class WitnessedLine(SimLine):
    """A line that suffers planned faults, and tells what it was asked and answers.

    Attributes:
        crash_sending: How many of the next requests crash the actor that sends them.
        crash_waiting: How many of the next waits for a reply do.
        crash_decoding: How many of the next values do.
    """

    def __init__(self, model: DeviceModel, witness: Witness) -> None:
        """Put `model` behind the line."""
        super().__init__(model, latency_s=LATENCY_S)
        self.crash_sending = 0
        self.crash_waiting = 0
        self.crash_decoding = 0
        self._witness = witness
        # How many planned outages concern the line or one of its units now.
        self._unplugged = 0
        self._hanging: Counter[str] = Counter()
        # What each unit said last: what a foreign reply repeats.
        self._heard: dict[str, bytes] = {}
        # What the device says to the request that is carried out now.
        self._said: list[bytes] = []
        self._unsigned: list[bytes] = []

    def receive(self, data: bytes, now_s: float) -> list[tuple[float, bytes]]:
        """Take bytes, and tell the witness what their true answer is."""
        self._said, self._unsigned = [], []
        sent = super().receive(data, now_s)
        self._witness(data, now_s, self._said + self._unsigned)
        return sent

    def _send(self, replies: Sequence[SimReply], now_s: float) -> list[tuple[float, bytes]]:
        sent = super()._send(replies, now_s)
        # Who answers for a board is told from outside, and nowhere in the reply.
        signed = not isinstance(self.model, BoardModel)
        for each in replies:
            self._said.append(each.data)
            # What was doubled on its way is its own answer still, and may be put together.
            if any(data == each.data * 2 for _, data in sent):
                self._said.append(each.data)
            if each.unit is None:
                signed = False
            else:
                self._heard[each.unit] = each.data
        # Who does not say his name cannot be told from a liar.
        self._unsigned = [] if signed else [data for _, data in sent]
        return sent

    def calm(self) -> None:
        """Forget the faults that nothing has met yet; outages go on."""
        self.disarm()
        self.crash_sending = self.crash_waiting = self.crash_decoding = 0

    async def suffer(self, fault: PlannedFault) -> None:
        """Let a planned fault happen, for as long as it lasts."""
        match fault.kind:
            case FaultKind.RESET:
                self.reset()
            case FaultKind.CRASH:
                self.crash_sending += fault.count
            case FaultKind.CRASH_WAITING:
                self.crash_waiting += fault.count
            case FaultKind.CRASH_DECODING:
                self.crash_decoding += fault.count
            case FaultKind.SLOW:
                self.latency_s += fault.by_s
                await trio.sleep(fault.for_s)
                self.latency_s -= fault.by_s
            case FaultKind.HANG:
                await self._hang_for(fault)
            case FaultKind.UNPLUG:
                await self._unplug_for(fault)
            case _:
                self._spoil_replies(fault)

    def _spoil_replies(self, fault: PlannedFault) -> None:
        unit = fault.unit or None
        match fault.kind:
            case FaultKind.LATE:
                self.late(fault.by_s, fault.count, unit)
            case FaultKind.LOST:
                self.lose(fault.count, unit)
            case FaultKind.GARBLED:
                self.garble(fault.count, unit)
            case FaultKind.TRUNCATED:
                self.truncate(fault.count, unit)
            case FaultKind.DUPLICATED:
                self.duplicate(fault.count, unit)
            case FaultKind.FOREIGN:
                self._lie(fault)
            case _:
                raise ValueError(f"{fault.kind.value} does not happen to a line")

    def _lie(self, fault: PlannedFault) -> None:
        """Let another unit answer in the place of `fault.unit`."""
        others = [said for unit, said in self._heard.items() if fault.unit not in ("", unit)]
        said = others[round(fault.at_s * 1e6) % len(others)] if others else FOREIGN
        self.foreign(said, fault.count, fault.unit or None)

    async def _hang_for(self, fault: PlannedFault) -> None:
        unit = fault.unit
        self._hanging[unit] += 1
        self.hang(unit or None)
        await trio.sleep(fault.for_s)
        self._hanging[unit] -= 1
        self.unhang()
        for each in +self._hanging:
            self.hang(each or None)

    async def _unplug_for(self, fault: PlannedFault) -> None:
        self._unplugged += 1
        self.unplug()
        await trio.sleep(fault.for_s)
        self._unplugged -= 1
        if not self._unplugged:
            self.replug()


class FragileStream:
    """A connection over which its actor crashes when its line says so."""

    def __init__(
        self, stream: TimedStream, line: WitnessedLine, on_close: Callable[[], None]
    ) -> None:
        """Stand in for `stream`; call `on_close` when it is closed for the first time."""
        self._stream = stream
        self._line = line
        self._on_close = on_close
        self._closed = False
        self.wait_writable = stream.wait_writable
        self.read_nowait = stream.read_nowait
        self.flush_input = stream.flush_input
        self.count_errors = stream.count_errors
        self.wait_lost = stream.wait_lost

    def write_nowait(self, data: bytes) -> int:
        """Hand bytes over, or crash."""
        if self._line.crash_sending:
            self._line.crash_sending -= 1
            raise RuntimeError(PLANNED_CRASH)
        return self._stream.write_nowait(data)

    async def wait_readable(self) -> None:
        """Wait until bytes have arrived, or crash."""
        await self._stream.wait_readable()
        if self._line.crash_waiting:
            self._crash_waiting()

    async def wait_readable_until(self, when_s: float) -> bool:
        """Wait until bytes have arrived, or crash; give up when it is `when_s`."""
        over = await self._stream.wait_readable_until(when_s)
        if over and self._line.crash_waiting:
            self._crash_waiting()
        return over

    async def aclose(self) -> None:
        """Close, and say so."""
        if not self._closed:
            self._closed = True
            self._on_close()
        await self._stream.aclose()

    def _crash_waiting(self) -> NoReturn:
        self._line.crash_waiting -= 1
        raise RuntimeError(PLANNED_CRASH)


class FragileBoard(MultiplexedSim):
    """A board whose modules share a line, and whose actor crashes when the line says so."""

    def __init__(self, key: str, line: WitnessedLine, units: Sequence[str]) -> None:
        """Put a module for each unit behind `line`."""
        super().__init__(key, dict.fromkeys(units, line), max_in_flight=MOST_IN_FLIGHT)
        self._line = line

    async def exchange(
        self, exchange: Exchange, *, commit: Callable[[], None] | None = None
    ) -> Reply:
        """Ask one module, or crash."""

        def send() -> None:
            if commit is not None:
                commit()
            if self._line.crash_sending:
                self._line.crash_sending -= 1
                raise RuntimeError(PLANNED_CRASH)

        reply = await super().exchange(exchange, commit=send)
        if self._line.crash_waiting:
            self._line.crash_waiting -= 1
            raise RuntimeError(PLANNED_CRASH)
        return reply


class SlowableClock(VirtualClock):
    """A virtual clock whose blocking calls may take simulated time.

    Attributes:
        time: Trio's clock of the run.
        spent_s: How long the blocking call that runs now takes, in simulated seconds.
    """

    def __init__(self) -> None:
        """Start at the virtual epoch."""
        super().__init__()
        self.time = JumpingClock()
        self.spent_s = 0.0

    # Asked several times for each command: not through Trio, which asks the same clock.

    def now_s(self) -> float:
        """Return the virtual time, in seconds."""
        return self.time.now_s

    def mono_ns(self) -> int:
        """Return the virtual time as nanoseconds."""
        return self.time.now_ns

    def utc_ns(self) -> int:
        """Return the simulated wall clock, in nanoseconds since 1970."""
        return self.utc_offset_ns + self.time.now_ns

    async def sleep_until(self, when_s: float) -> None:
        """Wait until it is `when_s`, at a quarter of what a cancel scope costs."""
        if when_s <= self.time.now_s or when_s == math.inf:
            await trio.sleep_until(when_s)
            return
        sleeping = [trio.lowlevel.current_task()]

        def wake() -> None:
            if sleeping:
                trio.lowlevel.reschedule(sleeping.pop())

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            sleeping.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        self.time.call_at(when_s, wake)
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def park_until(self, lot: trio.lowlevel.ParkingLot, when_s: float) -> bool:
        """Wait until `lot` is unparked, or until `when_s`; return whether that was it."""
        if when_s != math.inf:
            self.time.call_at(when_s, lot.unpark_all)
        await lot.park()
        return self.time.now_s >= when_s

    async def run_sync(
        self,
        blocking: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
        abandon_on_cancel: bool = False,
    ) -> T:
        """Run `blocking` inline, then let the time it says it took pass."""
        try:
            return await super().run_sync(
                blocking, *args, limiter=limiter, abandon_on_cancel=abandon_on_cancel
            )
        finally:
            spent_s, self.spent_s = self.spent_s, 0.0
            if spent_s:
                with trio.CancelScope(shield=not abandon_on_cancel):
                    await trio.sleep(spent_s)


@define(eq=False)
class FaultyDisk:
    """What a simulated journal is written to: no file, but eyes that check each batch.

    Attributes:
        chain: How far the journal goes.
        troubled: How many faults stand in the way now.
    """

    _invariants: Invariants
    _clock: SlowableClock
    chain: Chain
    troubled: int = 0
    _slow_s: float = 0.0
    _full: int = 0
    # Until when rows may be late after a fault, in simulated seconds.
    _late_until_s: float = 0.0

    async def suffer(self, fault: PlannedFault) -> None:
        """Be slow or full for as long as the fault lasts."""
        full = fault.kind is FaultKind.JOURNAL_FULL
        self.troubled += 1
        self._full += full
        self._slow_s += 0.0 if full else fault.by_s
        await trio.sleep(fault.for_s)
        self.troubled -= 1
        self._full -= full
        self._slow_s -= 0.0 if full else fault.by_s
        self._excuse(0.0)

    def append(self, rows: Sequence[JournalRow], *, durable: bool) -> None:
        """Take a batch, unless a fault stands in the way."""
        del durable
        now_s = trio.current_time()
        slow_s = max(0.0, self._slow_s)
        self._clock.spent_s += slow_s
        if self.troubled:
            self._excuse(slow_s)
        if self._full:
            raise OSError(28, "No space left on device")
        batch = self.chain.link(rows)
        self.chain.follow(batch)
        calm = not self.troubled and now_s > self._late_until_s
        self._invariants.see_batch(batch, now_s, calm=calm)

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _excuse(self, slow_s: float) -> None:
        """Let rows be late: what was begun takes its time, and who failed waits to try again."""
        late_until_s = trio.current_time() + slow_s + RETRY_S + GATHER_S
        self._late_until_s = max(self._late_until_s, late_until_s)


@define(eq=False)
class FaultySink:
    """A sink that is slow or fails when a plan says so. Made by `Bench.sink`.

    Attributes:
        acknowledged: How many samples it has taken.
    """

    _sink: SampleSink
    _clock: SlowableClock
    acknowledged: int = 0
    _slow_s: float = 0.0
    _failures: list[OSError] = field(factory=list[OSError])

    @property
    def name(self) -> str:
        """What the sink behind is called."""
        return self._sink.name

    async def suffer(self, fault: PlannedFault) -> None:
        """Be slow or fail for as long as the fault lasts."""
        if fault.kind is FaultKind.SLOW_SINK:
            self._slow_s += fault.by_s
            await trio.sleep(fault.for_s)
            self._slow_s -= fault.by_s
            return
        full = fault.kind is FaultKind.DISK_FULL
        failure = OSError(28, "No space left on device") if full else OSError("a planned failure")
        self._failures.append(failure)
        await trio.sleep(fault.for_s)
        self._failures.remove(failure)

    async def open(self) -> None:
        """Open what is behind."""
        await self._sink.open()

    def write(self, samples: Sequence[Sample]) -> None:
        """Write, unless a fault stands in the way."""
        if self._slow_s > 0.0:
            self._clock.spent_s += self._slow_s
        if self._failures:
            raise self._failures[-1]
        self._sink.write(samples)
        self.acknowledged += len(samples)

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._sink.aclose()
