"""A simulated board under virtual time, set up through its registers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from actors.instruments.red_pitaya import RedPitayaModel

Floats = NDArray[np.float64]

HEADER: Final = struct.Struct("<cBHI")
LENGTH: Final = 1 << 14
CLOCK_HZ: Final = 125e6

HK: Final = 0x4000_0000
SCOPE: Final = 0x4010_0000
ASG: Final = 0x4020_0000
DSP: Final = 0x4030_0000
AMS: Final = 0x4040_0000

_NAMES: Final = (
    *("pid0", "pid1", "pid2", "trig", "iir", "iq0", "iq1", "iq2"),
    *("asg0", "asg1", "in1", "in2", "out1", "out2", "iq2_2", "off"),
)
SIGNALS: Final = {name: number for number, name in enumerate(_NAMES)}
OUTPUTS: Final = {"off": 0, "out1": 1, "out2": 2, "both": 3}
CABLE: Final = {"cutoff_hz": None, "noise_v": 0.0}

ARM: Final = 1
RESET: Final = 2


def unsigned(value: float, bits: int) -> int:
    """Return a number in two's complement."""
    return round(value) & ((1 << bits) - 1)


def signed(word: int, bits: int) -> int:
    """Return the number that is written in two's complement."""
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> (bits - 1) else word


def generated_hz(hz: float) -> float:
    """Return the frequency that a generator makes of `hz`."""
    return round(hz * (1 << 30) / CLOCK_HZ) * CLOCK_HZ / (1 << 30)


def sine() -> Floats:
    """Return one cycle of a sine in the generator's resolution."""
    return np.asarray(np.rint(8191 * np.sin(2 * np.pi * np.arange(LENGTH) / LENGTH)) / 8192)


@frozen
class Trace:
    """What the scope shows: times relative to the trigger, and both channels."""

    times_s: Floats
    volts: Sequence[Floats] = field()

    def at(self, time_s: float, channel: int = 0) -> float:
        """Return the sample nearest to a time."""
        return float(self.volts[channel][np.argmin(np.abs(self.times_s - time_s))])


class Board:
    """A model, its time, and what a client does with it. Nothing here takes time but `wait`."""

    def __init__(self, **arguments: Any) -> None:
        """Switch the power on."""
        self.model = RedPitayaModel(**arguments)
        self.now_s = 100.0
        self.model.connect(self.now_s)

    def ask(self, request: bytes) -> bytes:
        """Return what the model answers."""
        return b"".join(reply.data for reply in self.model.receive(request, self.now_s))

    def read(self, address: int, count: int = 1) -> list[int]:
        """Return words."""
        header = HEADER.pack(b"r", 0, count, address)
        answer = self.ask(header)
        assert answer[:8] == header
        return list(struct.unpack(f"<{count}I", answer[8:]))

    def write(self, address: int, *words: int) -> None:
        """Set words."""
        header = HEADER.pack(b"w", 0, len(words), address)
        assert self.ask(header + struct.pack(f"<{len(words)}I", *words)) == header

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def module(self, name: str) -> int:
        """Return the address of a signal processing module."""
        return DSP + SIGNALS[name] * 0x10000

    def sample(self, name: str) -> float:
        """Return what a signal is now, in volts."""
        return signed(self.read(self.module(name) + 0x10)[0], 14) / 8192

    def route(self, name: str, *, source: str = "off", to: str = "off") -> None:
        """Connect a module."""
        self.write(self.module(name), SIGNALS[source])
        self.write(self.module(name) + 0x4, OUTPUTS[to])

    def generate(
        self,
        hz: float,
        volts: float,
        *,
        channel: int = 0,
        offset: float = 0.0,
        table: Floats | None = None,
        to: str = "out1",
        degrees: float = 0.0,
        cycles: int = 0,
        bursts: int = 0,
        pause_us: int = 0,
        start: bool = True,
    ) -> None:
        """Set up a generator and start it."""
        base = ASG + 0x20 * channel
        values = sine() if table is None else table
        raw = np.rint(values * 8192).astype(int).clip(-8192, 8191) & 0x3FFF
        self.control(channel, 1 << 6)
        self.write(ASG + 0x10000 * (channel + 1), *raw.tolist())
        self.write(base + 0x4, unsigned(offset * 8192, 14) << 16 | round(volts * 8192))
        self.write(base + 0x8, (1 << 30) - 1)
        self.write(base + 0xC, round(degrees / 360 * (1 << 30)))
        self.write(base + 0x18, cycles, bursts, pause_us)
        self.frequency(hz, channel)
        self.write(self.module(f"asg{channel}") + 0x4, OUTPUTS[to])
        if start:
            self.control(channel, 1)

    def frequency(self, hz: float, channel: int = 0) -> None:
        """Set a generator's frequency."""
        self.write(ASG + 0x20 * channel + 0x10, round(hz * (1 << 30) / CLOCK_HZ))

    def control(self, channel: int, bits: int) -> None:
        """Set a generator's half of the control register."""
        word = self.read(ASG)[0]
        self.write(ASG, word & ~(0xFFFF << 16 * channel) | bits << 16 * channel)

    def servo(
        self,
        name: str = "pid0",
        *,
        source: str = "in1",
        to: str = "out1",
        setpoint: float = 0.0,
        p: float = 0.0,
        i_hz: float = 0.0,
        low: float = -1.0,
        high: float = 8191 / 8192,
    ) -> None:
        """Set up a PID module."""
        base = self.module(name)
        self.write(base + 0x104, unsigned(setpoint * 8192, 14), unsigned(p * 4096, 24))
        self.write(base + 0x10C, unsigned(i_hz * 2**32 * 2 * np.pi * 8e-9, 24))
        self.write(base + 0x124, unsigned(low * 8192, 14), unsigned(high * 8192, 14))
        self.route(name, source=source, to=to)

    def integral(self, name: str = "pid0") -> float:
        """Return a PID module's integrator, in volts."""
        return signed(self.read(self.module(name) + 0x100)[0], 16) / 8192

    def set_integral(self, volts: float, name: str = "pid0") -> None:
        """Set a PID module's integrator."""
        self.write(self.module(name) + 0x100, unsigned(volts * 8192, 16))

    def look(self, in1: str = "in1", in2: str = "out1", *, decimation: int, average: bool) -> None:
        """Set up the scope."""
        self.write(self.module("asg0"), SIGNALS[in1])
        self.write(self.module("asg1"), SIGNALS[in2])
        self.write(SCOPE + 0x14, decimation)
        self.write(SCOPE + 0x28, int(average))

    def arm(self, source: int, delay: int) -> None:
        """Begin an acquisition: trigger source, and samples after the trigger."""
        self.write(SCOPE, RESET)
        self.write(SCOPE + 0x10, delay)
        self.write(SCOPE, ARM)
        self.write(SCOPE + 0x4, source)

    def busy(self) -> bool:
        """Whether the acquisition goes on."""
        return bool(self.read(SCOPE)[0] & 0b101)

    def trace(self) -> Trace:
        """Return what was acquired."""
        delay, decimation = self.read(SCOPE + 0x10, 2)
        roll = -(self.read(SCOPE + 0x1C)[0] + delay + 1)
        volts: list[Floats] = []
        for data in (0x10000, 0x20000):
            raw = np.array(self.read(SCOPE + data, LENGTH), dtype=np.int64)
            raw[raw >= 8192] -= LENGTH
            volts.append(np.roll(raw, roll) / 8192)
        numbers = np.arange(LENGTH) - (LENGTH - delay) + 1
        return Trace(numbers * decimation / CLOCK_HZ, volts)

    def single(self, *, decimation: int, average: bool = False, **signals: str) -> Trace:
        """Acquire one trace, at once."""
        self.look(decimation=decimation, average=average, **signals)
        self.arm(1, LENGTH)
        self.wait(1.01 * LENGTH * decimation / CLOCK_HZ)
        assert not self.busy()
        return self.trace()


def fit(times_s: Floats, volts: Floats, hz: float) -> complex:
    """Return `A * exp(1j * phase)` of `A * sin(2 * pi * hz * t + phase)`, by least squares."""
    turns = 2 * np.pi * hz * times_s
    columns = np.column_stack([np.sin(turns), np.cos(turns), np.ones_like(turns)])
    found = np.linalg.lstsq(columns, volts, rcond=None)[0]
    return complex(found[0], found[1])
