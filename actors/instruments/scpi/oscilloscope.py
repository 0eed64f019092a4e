"""Oscilloscopes: channels, timebase, trigger, and the waveforms that they caught."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from operator import index
from typing import Any, ClassVar, Final, Literal, SupportsIndex

import numpy as np
from attrs import evolve, field, frozen

from actors.errors import RefusedError
from actors.faults import Cause
from actors.operation import Overlap, Progress
from actors.parameter import Action, Assignment, Operation, Reading, Setting, with_instance
from transports import current_clock

from .blocks import Array, Block, brief
from .frames import decode_float, decode_int
from .models import OscilloscopeModel
from .tracing import TracingInstrument

# Bits of the operation condition register: it acquires, and it waits for its trigger.
_RUNNING: Final = 8
_WAITS: Final = 32

# What two codes mean, of 8 bits and of 16: nothing was acquired there, and below the screen.
_HOLE: Final = 0
_BELOW: Final = 1

_LARGE: Final = 200_000
"""What takes a millisecond or more to turn into volts, in bytes, is done beside the event loop."""


@frozen
class Preamble:
    """How the codes of a waveform are volts, and when they were sampled.

    Attributes:
        points: How many there are.
        averages: How many acquisitions each is the mean of.
        x_increment_s: The time from one to the next, in seconds.
        x_origin_s: When the point `x_reference` was sampled, in seconds from the trigger.
        x_reference: Which point that is.
        y_increment_v: What one code is, in volts.
        y_origin_v: What the code `y_reference` is, in volts.
        y_reference: Which code that is.
    """

    points: int
    averages: int
    x_increment_s: float
    x_origin_s: float
    x_reference: float
    y_increment_v: float
    y_origin_v: float
    y_reference: float


@frozen(eq=False)
class ScopeWaveform:
    """What one channel saw.

    Attributes:
        channel: Which, from 1.
        t_s: The instants, in seconds from the trigger.
        volts: The voltage at each; NaN where nothing was acquired yet.
        averages: How many acquisitions each is the mean of.
        clipped: Whether some were beyond the screen, and are not what was there.
    """

    channel: int
    t_s: Array = field(repr=brief)
    volts: Array = field(repr=brief)
    averages: int
    clipped: bool

    @property
    def sample_rate_hz(self) -> float:
        """How many points there are in a second."""
        return (len(self.t_s) - 1) / float(self.t_s[-1] - self.t_s[0])


class Oscilloscope(TracingInstrument):
    """An oscilloscope of four channels, in the words of Keysight's InfiniiVision.

    Volts are those at the tip of the probe: `probe` is what it divides them by, and what the
    instrument takes for `scale` and `offset` goes up with it. Another `probe` changes what
    `scale`, `offset` and the trigger level are in volts, and what is restored of them with it;
    what was set before a channel's first `probe` is not restored, as nobody knows what it became.

    Class attributes beside those of `TracingInstrument`:
        byte_order: Which byte of a point of 16 bits comes first.
    """

    channels: ClassVar[int] = 4
    byte_order: ClassVar[Literal["big", "little"]] = "big"

    displayed = Setting("CHAN{}:DISP", type=bool)
    scale = Setting("CHAN{}:SCAL", unit="V", low=1e-4, high=1e4)
    offset = Setting("CHAN{}:OFFS", unit="V", low=-4e4, high=4e4)
    coupling = Setting("CHAN{}:COUP", type=str, choices=("DC", "AC"))
    probe = Setting("CHAN{}:PROB", low=0.1, high=1000.0)
    time_scale = Setting("TIM:SCAL", unit="s", low=1e-9, high=50.0)
    time_position = Setting("TIM:POS", unit="s", low=-500.0, high=500.0)
    trigger_mode = Setting("TRIG:SWE", type=str, choices=("AUTO", "NORM"))
    trigger_source = Setting(
        "TRIG:EDGE:SOUR", type=str, choices=("CHAN1", "CHAN2", "CHAN3", "CHAN4", "EXT")
    )
    trigger_level = Setting("TRIG:EDGE:LEV", unit="V", low=-4e4, high=4e4)
    trigger_slope = Setting("TRIG:EDGE:SLOP", type=str, choices=("POS", "NEG", "EITH"))
    acquisition = Setting("ACQ:TYPE", type=str, choices=("NORM", "AVER", "HRES", "PEAK"))
    averages = Setting("ACQ:COUN", type=int, low=2, high=65_536)
    points = Setting("WAV:POIN", type=int, low=100, high=8_000_000)
    peak_to_peak = Reading("MEAS:VPP CHAN{}", unit="V")
    mean = Reading("MEAS:VAV CHAN{}", unit="V")
    frequency = Reading("MEAS:FREQ CHAN{}", unit="Hz")
    run = Action("RUN", idempotent=True)
    stop = Action("STOP", idempotent=True)
    force_trigger = Action("TRIG:FORC")
    single = Operation("SING", abort="STOP")

    model = OscilloscopeModel
    # Keysight and Agilent InfiniiVision, and the simulated one.
    known_models = re.compile(r"((DSO|MSO)-?X|EDUX) ?[0-9]{4}[A-Z].*|OS4000")

    def moved(
        self, assignment: Assignment[Any], held: Mapping[str, Any]
    ) -> Sequence[Assignment[Any]]:
        """Return the volts that another probe makes of those set: its input stays as it is."""
        own = type(self)
        if assignment.setting is not own.probe:
            return ()
        channel = assignment.instance
        before = held.get(with_instance(own.probe.name, channel))

        def at_tip(setting: Setting[float], instance: int) -> Assignment[Any]:
            volts = held.get(with_instance(setting.name, instance))
            moved: Any = None
            if before is not None and volts is not None:
                moved = volts / before * assignment.value
            return Assignment(setting, moved, instance)

        moves = [at_tip(own.scale, channel), at_tip(own.offset, channel)]
        source = held.get(own.trigger_source.name)
        if source == f"CHAN{channel}":
            moves.append(at_tip(own.trigger_level, 1))
        elif source is None:
            moves.append(Assignment[Any](own.trigger_level, None))
        return moves

    def overlap(self, directive: Assignment[Any] | Action) -> Overlap[None] | None:
        """Return how an acquisition is followed: `*OPC` does not wait for a trigger there."""
        overlap = super().overlap(directive)
        if overlap is None or directive is not type(self).single:
            return overlap
        return evolve(overlap, poll=self._query("OPER:COND"), judge=_acquiring, by_status=False)

    async def waveform(self, channel: int = 1, *, bits: Literal[8, 16] = 16) -> ScopeWaveform:
        """Return what a channel shows: after `single` or `stop`, what was caught then.

        Args:
            channel: Which, from 1; it must be displayed.
            bits: How many bits each point has on the wire.

        Raises:
            RefusedError: There is no such channel, or it was not accepted.
            CommandError: It failed; with cause DEVICE, the channel holds nothing.
        """
        if not 1 <= _whole(channel) <= self.channels or bits not in (8, 16):
            raise RefusedError(
                f"there is no channel {channel!r} of {bits} bits; "
                f"there are 1 to {self.channels}, of 8 or 16 bits",
                cause=Cause.VALIDATION,
                instrument=self.name,
                command="waveform",
            )
        block, preamble = await self.fetch(
            f"waveform[{channel}]",
            ("WAV:DATA?", "WAV:PRE?"),
            partial(_explained, bits // 8),
            before=(
                f"WAV:SOUR CHAN{channel}",
                f"WAV:FORM {'BYTE' if bits == 8 else 'WORD'}",
                f"WAV:BYT {'MSBF' if self.byte_order == 'big' else 'LSBF'}",
                "WAV:UNS 1",
            ),
        )
        if len(block.data) < _LARGE:
            return self.scaled(channel, block, preamble, bits)
        return await current_clock().run_sync(self.scaled, channel, block, preamble, bits)

    def scaled(self, channel: int, block: Block, preamble: Preamble, bits: int) -> ScopeWaveform:
        """Return the volts in a block. A maker with another rule for them overrides it."""
        codes = block.numbers(f"{'>' if self.byte_order == 'big' else '<'}u{bits // 8}")
        held = codes.astype(np.float64)
        place = np.arange(len(held), dtype=np.float64) - preamble.x_reference
        clipped = bool(np.any(held == _BELOW) or np.any(held == 2**bits - 1))
        held[held == _HOLE] = np.nan
        return ScopeWaveform(
            channel,
            preamble.x_origin_s + place * preamble.x_increment_s,
            preamble.y_origin_v + (held - preamble.y_reference) * preamble.y_increment_v,
            preamble.averages,
            clipped,
        )


def _whole(channel: object) -> int:
    """Return a whole number of any kind, NumPy's too; 0 for what is none."""
    return index(channel) if isinstance(channel, SupportsIndex) else 0


def decode_preamble(answer: bytes) -> Preamble:
    """Read a preamble: format, type, points, count, and three numbers for each axis.

    Raises:
        ValueError: It is none.
    """
    fields = answer.split(b",")
    if len(fields) != 10:
        raise ValueError(f"expected a preamble of 10 numbers, got {answer!r}")
    scaling = [decode_float(each) for each in fields[4:]]
    known = [each for each in scaling if each is not None]
    if len(known) != len(scaling) or known[0] <= 0.0:
        raise ValueError(f"expected a preamble with an interval above 0, got {answer!r}")
    return Preamble(decode_int(fields[2]), decode_int(fields[3]), *known)


def _explained(size: int, block: Block) -> tuple[Block, Preamble]:
    """Return a block with the preamble that came with it."""
    preamble = decode_preamble(block.answers[0])
    if len(block.data) != size * preamble.points:
        raise ValueError(
            f"expected {preamble.points} points of {size} bytes, got {len(block.data)} bytes"
        )
    return block, preamble


def _acquiring(frame: bytes) -> Progress:
    """Read how far an acquisition has come: nothing is done before its trigger."""
    condition = decode_int(frame)
    return Progress(
        done=not condition & _RUNNING, fraction=0.0 if condition & _WAITS else None, said=frame
    )
