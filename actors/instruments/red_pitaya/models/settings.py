"""What the registers of the signal processing modules say; pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import field, frozen

from .generator import CLOCK_HZ
from .words import Memory, signed

MODULE: Final = 0x10000
"""Bytes of address space of one module."""

PIDS: Final = (0, 1, 2)
TRIG: Final = 3
IIR: Final = 4
IQS: Final = (5, 6, 7)
ASGS: Final = (8, 9)
INPUTS: Final = (10, 11)
OUTPUTS: Final = (12, 13)
IQ2_SECOND: Final = 14
OFF: Final = 15

SYNC: Final = 0xC
"""Where every module shows the one register with a bit for each module that runs."""

SLOWEST_SHIFT: Final = 24
FASTEST_HZ: Final = 20e6
"""The bandwidth of a filter that is off, where something must still have one."""

# How many clock cycles late the modules answer, and how many more behind each filter.
_PID_CYCLES: Final = 3.6
_IQ_CYCLES: Final = 3.0
_LOW_PASS_CYCLES: Final = 2
_HIGH_PASS_CYCLES: Final = 1

_OUTPUT_DIRECT: Final = 1
_QUADRATURE: Final = 0

# A step of a filter is large against its time constant at the fastest corners: measured
# there, the corner is this much higher than the step alone says.
_MEASURED: Final = {0.125: 1.17, 0.0625: 1.08, 0.03125: 1.04, 0.015625: 1.02, 0.0078125: 1.01}


@frozen
class PidSettings:
    """The settings of one PID module.

    Attributes:
        source: The number of its input.
        directs: Where it goes besides, bit 0 for out1 and bit 1 for out2.
        setpoint_v: What its input should be.
        p: Proportional gain.
        i_per_s: Integral gain.
        filters_hz: Corners of its input filters, negative for high-pass filters.
        low_v: Lowest output.
        high_v: Highest output.
        differential: Whether the input of its partner is its set point.
    """

    source: int
    directs: int
    setpoint_v: float
    p: float
    i_per_s: float
    filters_hz: tuple[float, ...]
    low_v: float
    high_v: float
    differential: bool

    @property
    def delay_s(self) -> float:
        """How late it answers."""
        return (_PID_CYCLES + _filter_cycles(*self.filters_hz)) / CLOCK_HZ

    @property
    def idle(self) -> bool:
        """Whether its output is its integrator's, which holds still."""
        return not self.p and not self.i_per_s


@frozen
class IqSettings:
    """The settings of one IQ module.

    Attributes:
        source: The number of its input.
        directs: Where its modulation goes besides, bit 0 for out1 and bit 1 for out2.
        on: Whether it works at all.
        frequency_hz: Of its oscillator.
        phase: Between demodulation and modulation, in radians.
        filter_hz: Corner of its input filter, negative for a high-pass filter.
        bandwidths_hz: Corners of its quadrature filters.
        gain: From input to output at the oscillator's frequency.
        amplitude_v: Of its modulation.
        factor: By what its quadratures are multiplied when they are put out.
        shows: What it puts out for other modules.
        modulates: How many times the oscillator's frequency it modulates at.
        demodulates: How many times the oscillator's frequency it demodulates at.
    """

    source: int
    directs: int
    on: bool
    frequency_hz: float
    phase: float
    filter_hz: float
    bandwidths_hz: tuple[float, ...] = field()
    gain: float
    amplitude_v: float
    factor: float
    shows: int
    modulates: int
    demodulates: int

    @property
    def delay_s(self) -> float:
        """How late it demodulates."""
        return (_IQ_CYCLES + _filter_cycles(self.filter_hz)) / CLOCK_HZ

    @property
    def works(self) -> bool:
        """Whether its input matters."""
        return self.on and self.frequency_hz > 0 and self.source != OFF

    @property
    def puts_out_modulation(self) -> bool:
        """Whether other modules see its modulation."""
        return self.shows == _OUTPUT_DIRECT

    @property
    def puts_out_quadrature(self) -> bool:
        """Whether other modules see its quadratures."""
        return self.shows == _QUADRATURE


def _filter_cycles(*corners_hz: float) -> int:
    low = sum(corner > 0 for corner in corners_hz)
    high = sum(corner < 0 for corner in corners_hz)
    return _LOW_PASS_CYCLES * low + _HIGH_PASS_CYCLES * high


def corner_hz(setting: int, fastest_shift: int = 31) -> float:
    """Return the corner of one filter stage: 0 when off, negative for a high-pass filter."""
    if not setting & 0x80:
        return 0.0
    part = 2.0 ** ((setting & fastest_shift) - SLOWEST_SHIFT)
    if part >= 1:
        return 0.0
    corner = -float(np.log1p(-part)) / (2 * np.pi) * CLOCK_HZ * _MEASURED.get(part, 1.0)
    return -corner if setting & 0x40 else corner


def read_pid(memory: Memory, number: int) -> PidSettings:
    """Return the settings of a PID module."""
    base = number * MODULE
    pause = memory[base + 0x12C]
    paused = not memory[SYNC] >> number & 1
    holds_i = paused and bool(pause & 1)
    holds_p = paused and bool(pause & 2)
    return PidSettings(
        source=memory[base] & 0xF,
        directs=memory[base + 0x4] & 0x3,
        setpoint_v=signed(memory[base + 0x104], 14) / 8192,
        p=0.0 if holds_p else signed(memory[base + 0x108], 24) / 2**12,
        i_per_s=0.0 if holds_i else signed(memory[base + 0x10C], 24) / 2**32 * CLOCK_HZ,
        filters_hz=tuple(
            corner_hz(memory[base + 0x120] >> shift & 0xFF) for shift in (0, 8, 16, 24)
        ),
        low_v=signed(memory[base + 0x124], 14) / 8192,
        high_v=signed(memory[base + 0x128], 14) / 8192,
        differential=bool(pause & 8),
    )


def read_iq(memory: Memory, number: int) -> IqSettings:
    """Return the settings of an IQ module."""
    base = number * MODULE
    flags = memory[base + 0x100]
    return IqSettings(
        source=memory[base] & 0xF,
        directs=memory[base + 0x4] & 0x3,
        on=bool(flags & 1) and bool(memory[SYNC] >> number & 1),
        frequency_hz=memory[base + 0x108] * CLOCK_HZ / 2**32,
        phase=-2 * np.pi * memory[base + 0x104] / 2**32,
        filter_hz=corner_hz(memory[base + 0x120] & 0xFF),
        bandwidths_hz=tuple(corner_hz(memory[base + 0x124] >> shift & 0xFF) for shift in (0, 8)),
        gain=signed(memory[base + 0x110], 18) / 2**8 / 2**3,
        amplitude_v=signed(memory[base + 0x114], 18) / 2**17,
        factor=float(signed(memory[base + 0x118], 18)),
        shows=memory[base + 0x10C] & 0x7,
        modulates=2 if flags & 0xC else 1,
        demodulates=2 if flags & 0x30 else 1,
    )
