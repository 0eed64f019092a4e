"""A four-channel oscilloscope with a trigger and waveforms to fetch; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from attrs import evolve, frozen

from .activity import Activity
from .data import block, named
from .entries import About, Action, Choice, Entry, Number, Query, RequestError, Switch
from .interpreter import ScpiModel
from .signals import Array, Shape, Signal

Input = Signal | Callable[[], Signal]

CHANNELS: Final = 4
DIVISIONS: Final = 10
ROWS: Final = 8
# Bits of the operation condition register.
RUNNING: Final = 8
WAITS_FOR_TRIGGER: Final = 32
# How long an automatic trigger waits for a real one, in seconds.
_AUTO_S: Final = 0.05
_NOT_A_NUMBER: Final = 9.91e37

INPUTS: Final = (
    Signal(amplitude_v=1.0),
    Signal(shape=Shape.SQUARE, amplitude_v=2.0, offset_v=1.0),
    Signal(shape=Shape.RAMP, frequency_hz=500.0, amplitude_v=0.5),
    Signal(shape=Shape.DC, amplitude_v=0.0, offset_v=0.5),
)
"""What is on the channels unless something is connected."""


class _Channel:
    """The settings of one input."""

    def __init__(self, number: int, moved: Callable[[int, float], None]) -> None:
        self._number = number
        self._moved = moved
        head = f"CHANnel{number}"
        self.display = Switch(f"{head}:DISPlay", default=number == 1)
        self.scale = Number(
            f"{head}:SCALe", low=1e-4, high=1e4, default=1.0, unit="V", accept=self._check_scale
        )
        self.offset = Number(
            f"{head}:OFFSet", low=-4e4, high=4e4, default=0.0, unit="V", accept=self._check_offset
        )
        self.coupling = Choice(f"{head}:COUPling", {"DC": "DC", "AC": "AC"}, quoted=False)
        self.probe = Number(f"{head}:PROBe", low=0.1, high=1000.0, default=1.0, accept=self._attach)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.display, self.scale, self.offset, self.coupling, self.probe

    def _check_scale(self, volts: float) -> None:
        if not 1e-3 <= volts / self.probe.value * (1 + 1e-9) <= 10.0 * (1 + 1e-6):
            raise RequestError(-222)

    def _check_offset(self, volts: float) -> None:
        if abs(volts) > 40.0 * self.probe.value * (1 + 1e-6):
            raise RequestError(-222)

    def _attach(self, probe: float) -> None:
        """Say in other volts what the input sees as before."""
        ratio = probe / self.probe.value
        self.scale.value *= ratio
        self.offset.value *= ratio
        self._moved(self._number, ratio)


@frozen
class _Record:
    """What one trigger left in the memory, of each channel that was on."""

    trigger_s: float
    begin_s: float
    span_s: float
    averages: int
    signals: Sequence[Signal | None]
    scales_v: Sequence[float]
    offsets_v: Sequence[float]


class OscilloscopeModel(ScpiModel):
    """Four inputs of ten by eight divisions, sampled around a trigger.

    `RUN` triggers again and again, `SINGle` once and then stops. A trigger needs its edge; in
    automatic mode it is done without after a while. Values beyond the screen are clipped.
    Another probe changes scale, offset and trigger level in volts, and not what is on the screen.

    Attributes:
        inputs: What is connected to each channel: a signal, or what tells it when it is
            sampled.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[Input] = (),
        noise_v: float = 0.0,
        seed: int = 0,
        serial: str = "SIM-OS-1",
        idn: str | None = None,
    ) -> None:
        """Switch the power on, acquiring; `noise_v` is the deviation of each sample."""
        self.inputs: list[Input] = [*inputs, *INPUTS[len(inputs) :]]
        self._noise_v = noise_v
        self._seed = seed
        self._channels = [_Channel(number, self._move_level) for number in range(1, CHANNELS + 1)]
        sources = {f"CHAN{number}": f"CHANnel{number}" for number in range(1, CHANNELS + 1)}
        self._scale = Number("TIMebase:SCALe", low=1e-9, high=50.0, default=2e-4, unit="S")
        self._position = Number("TIMebase:POSition", low=-500.0, high=500.0, default=0.0, unit="S")
        self._mode = Choice("TRIGger:SWEep", {"AUTO": "AUTO", "NORM": "NORMal"}, quoted=False)
        self._source = Choice("TRIGger[:EDGE]:SOURce", {**sources, "EXT": "EXTernal"}, quoted=False)
        self._level = Number("TRIGger[:EDGE]:LEVel", low=-4e4, high=4e4, default=0.0, unit="V")
        slopes = {"POS": "POSitive", "NEG": "NEGative", "EITH": "EITHer"}
        self._slope = Choice("TRIGger[:EDGE]:SLOPe", slopes, quoted=False)
        kinds = {"NORM": "NORMal", "AVER": "AVERage", "HRES": "HRESolution", "PEAK": "PEAK"}
        self._kind = Choice("ACQuire:TYPE", kinds, quoted=False)
        self._count = Number("ACQuire:COUNt", low=2, high=65536, default=8)
        self._sent = Choice("WAVeform:SOURce", sources, quoted=False)
        self._format = Choice("WAVeform:FORMat", {"BYTE": "BYTE", "WORD": "WORD"}, quoted=False)
        orders = {"MSBF": "MSBFirst", "LSBF": "LSBFirst"}
        self._order = Choice("WAVeform:BYTeorder", orders, quoted=False)
        self._unsigned = Switch("WAVeform:UNSigned", default=True)
        self._points = Number("WAVeform:POINts", low=100, high=8_000_000, default=1000)
        self._single = Activity()
        self._trigger_s: float | None = None
        self._record: _Record | None = None
        self._running = True
        super().__init__(
            (
                *(entry for channel in self._channels for entry in channel.entries),
                *(self._scale, self._position, self._mode, self._source, self._level),
                *(self._slope, self._kind, self._count, self._sent, self._format),
                *(self._order, self._unsigned, self._points),
                Action("RUN", self._run_on),
                Action("STOP", self._stop),
                Action("SINGle", self._arm),
                Action("TRIGger:FORCe", self._force),
                Query("OPERegister:CONDition", self.operation_condition),
                Query("WAVeform:DATA", self._data),
                Query("WAVeform:PREamble", self._preamble),
                About("MEASure:VPP", lambda source: self._measured(source, _swing)),
                About("MEASure:VAVerage", lambda source: self._measured(source, _mean)),
                About("MEASure:FREQuency", lambda source: self._measured(source, _frequency)),
            ),
            idn=f"benchtree,OS4000,{serial},1.0" if idn is None else idn,
        )

    @property
    def acquisitions(self) -> int:
        """How many single acquisitions were begun."""
        return self._single.begun

    @property
    def running(self) -> bool:
        """Whether it acquires, on and on or once."""
        return self._running or self._single.running

    def advance(self, now_s: float) -> None:
        """Look for the trigger of a single acquisition, and end one that is complete."""
        if not self._single.running:
            return
        if math.isinf(self._single.ends_s):
            self._await_trigger(max(now_s, self._single.began_s))
        if self._single.ended(now_s) and self._trigger_s is not None:
            self._record = self._sampled(self._trigger_s)

    def pending(self) -> bool:
        """Return whether a single acquisition goes on."""
        return self._single.running

    def operation_condition(self) -> int:
        """Report that it acquires, and that it waits for its trigger."""
        waits = self._single.running and (self._trigger_s or math.inf) > self.device_s
        return (RUNNING if self.running else 0) | (WAITS_FOR_TRIGGER if waits else 0)

    def reset(self, now_s: float) -> None:
        """Cycle the power: settings and memory are lost; it acquires."""
        self._single.forget()
        self._record = None
        self._running = True
        super().reset(now_s)

    def _move_level(self, channel: int, ratio: float) -> None:
        if self._source.value == f"CHAN{channel}":
            self._level.value *= ratio

    def _run_on(self) -> None:
        self._single.abort(self.device_s)
        self._running = True

    def _stop(self) -> None:
        if self._running:
            self._record = self._latest()
        self._running = False
        self._single.abort(self.device_s)

    def _arm(self) -> None:
        self._single.begin(self.device_s, math.inf)
        self._running = False
        self._record = None
        # The half of the screen before the trigger is filled first.
        self._await_trigger(self.device_s + self._span_s / 2)

    def _force(self) -> None:
        if self._single.running and math.isinf(self._single.ends_s):
            self._triggered(self.device_s)

    def _await_trigger(self, from_s: float) -> None:
        trigger_s = self._edge_s(from_s)
        if trigger_s is None and self._mode.value == "AUTO":
            trigger_s = from_s + _AUTO_S
        self._trigger_s = trigger_s
        if trigger_s is not None:
            self._triggered(trigger_s)

    def _triggered(self, trigger_s: float) -> None:
        self._trigger_s = trigger_s
        self._single.ends_s = trigger_s + self._span_s / 2
        self._single.ends_s += (self._averages - 1) * self._span_s

    def _edge_s(self, from_s: float) -> float | None:
        if self._source.value == "EXT":
            return None
        signal = self._seen(int(self._source.value.removeprefix("CHAN")) - 1)
        return signal.next_crossing_s(self._level.value, from_s, slope=self._slope.value)

    @property
    def _span_s(self) -> float:
        return DIVISIONS * self._scale.value

    @property
    def _averages(self) -> int:
        return int(self._count.value) if self._kind.value == "AVER" else 1

    def _seen(self, index: int) -> Signal:
        """Return what a channel sees of what is connected to it."""
        connected = self.inputs[index]
        signal = connected() if callable(connected) else connected
        if self._channels[index].coupling.value == "DC":
            return signal
        return evolve(signal, offset_v=0.0)

    def _sampled(self, trigger_s: float) -> _Record:
        return _Record(
            trigger_s,
            self._position.value - self._span_s / 2,
            self._span_s,
            self._averages,
            [
                self._seen(index) if channel.display.on else None
                for index, channel in enumerate(self._channels)
            ],
            [channel.scale.value for channel in self._channels],
            [channel.offset.value for channel in self._channels],
        )

    def _latest(self) -> _Record | None:
        """Return what the screen shows."""
        if not self._running:
            return self._record
        edge_s = self._edge_s(self.device_s - self._span_s)
        if edge_s is None and self._mode.value == "NORM":
            return None
        return self._sampled(self.device_s if edge_s is None else edge_s)

    def _volts(self, index: int, points: int) -> tuple[_Record, Array]:
        record = self._latest()
        signal = None if record is None else record.signals[index]
        if record is None or signal is None:
            raise RequestError(-230)
        time_s = record.begin_s + np.arange(points, dtype=np.float64) * (record.span_s / points)
        volts = signal.at(record.trigger_s + time_s)
        if self._noise_v:
            noise = np.random.default_rng((self._seed, index, self._single.begun))
            volts = volts + noise.normal(0.0, self._noise_v / math.sqrt(record.averages), points)
        return record, volts

    def _steps(self, record: _Record, index: int) -> tuple[int, float]:
        """Return how many codes there are, and what one is in volts."""
        codes = 256 if self._format.value == "BYTE" else 65536
        return codes, ROWS * record.scales_v[index] / codes

    def _data(self) -> str:
        index = int(self._sent.value.removeprefix("CHAN")) - 1
        record, volts = self._volts(index, int(self._points.value))
        codes, step_v = self._steps(record, index)
        found = np.rint((volts - record.offsets_v[index]) / step_v) + codes // 2
        # The first code says that nothing was acquired.
        clipped = np.clip(found, 1, codes - 1) - (0 if self._unsigned.on else codes // 2)
        order = ">" if self._order.value == "MSBF" else "<"
        kind = f"{order}{'u' if self._unsigned.on else 'i'}{1 if codes == 256 else 2}"
        return block(clipped.astype(np.int32).astype(kind).tobytes())

    def _preamble(self) -> str:
        index = int(self._sent.value.removeprefix("CHAN")) - 1
        points = int(self._points.value)
        record, _ = self._volts(index, 1)
        codes, step_v = self._steps(record, index)
        fields = (
            0 if codes == 256 else 1,
            2 if record.averages > 1 else 0,
            points,
            record.averages,
            record.span_s / points,
            record.begin_s,
            0,
            step_v,
            record.offsets_v[index],
            codes // 2 if self._unsigned.on else 0,
        )
        return ",".join(f"{each:+.8E}" if isinstance(each, float) else str(each) for each in fields)

    def _measured(self, source: str, measure: Callable[[Array, float], float]) -> float:
        number = named(source, *(f"CHAN{number}" for number in range(1, CHANNELS + 1)))
        try:
            record, volts = self._volts(int(number.removeprefix("CHAN")) - 1, 1000)
        except RequestError:
            return _NOT_A_NUMBER
        return measure(volts, record.span_s / 1000)


def _swing(volts: Array, step_s: float) -> float:
    del step_s
    return float(np.ptp(volts))


def _mean(volts: Array, step_s: float) -> float:
    del step_s
    return float(np.mean(volts))


def _frequency(volts: Array, step_s: float) -> float:
    above = volts > (float(np.max(volts)) + float(np.min(volts))) / 2
    (rises,) = np.nonzero(~above[:-1] & above[1:])
    if len(rises) < 2:
        return _NOT_A_NUMBER
    return float((len(rises) - 1) / ((rises[-1] - rises[0]) * step_s))
