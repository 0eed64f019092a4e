"""A Red Pitaya with PyRPL's gateware, as its register server shows it; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from transports.sim import SimReply

from .circuit import Plant
from .gateware import Gateware

HEADER: Final = struct.Struct("<cBHI")
"""Kind, nothing, number of words, address."""

PlantSettings = Mapping[str, Any]
"""Fields of a `Plant` by name."""


class RedPitayaModel:
    """A board behind its register server; each output is connected to the input next to it.

    Args:
        in1: What lies between out1 and in1: `gain`, `cutoff_hz` of a low-pass filter (None
            for a cable), `offset_v` and `noise_v`.
        in2: The same between out2 and in2.
        seed: For the noise.

    Attributes:
        reads: How many read requests were answered.
        writes: How many write requests were carried out.
        clients: How many clients have connected.
    """

    def __init__(
        self, in1: PlantSettings | None = None, in2: PlantSettings | None = None, *, seed: int = 0
    ) -> None:
        """Switch the power on."""
        self.reads = 0
        self.writes = 0
        self.clients = 0
        self._plants = [Plant(**in1 or {}), Plant(**in2 or {})]
        self._seed = seed
        self._held = bytearray()
        self._deaf = False
        self._origin_s: float | None = None
        self._gateware = Gateware(self._plants, seed)

    def __repr__(self) -> str:
        return f"<RedPitayaModel reads={self.reads} writes={self.writes}>"

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Carry out the requests that `data` completes."""
        self._held += data
        self._gateware.advance(self._since(now_s))
        return [SimReply(reply) for reply in self._answers()]

    def connect(self, now_s: float) -> None:
        """Start over with a new client; half a request of the one before is lost."""
        del now_s
        self.clients += 1
        self._held.clear()
        self._deaf = False

    def reset(self, now_s: float) -> None:
        """Cycle the power: the gateware starts anew, what is connected stays."""
        self._held.clear()
        self._origin_s = now_s
        self._gateware = Gateware(self._plants, self._seed)

    def connect_input(self, number: int, plant: PlantSettings, now_s: float) -> None:
        """Put something else between an output and the input of the same number, 1 or 2."""
        self._gateware.advance(self._since(now_s))
        self._plants[number - 1] = Plant(**plant)
        self._gateware.connect(self._plants)

    def peek(self, address: int, now_s: float) -> int:
        """Return the word at an address, as a client would read it."""
        self._gateware.advance(self._since(now_s))
        return int(self._gateware.read(address, 1)[0])

    def _since(self, now_s: float) -> float:
        """Return how long the power has been on."""
        if self._origin_s is None:
            self._origin_s = now_s
        return now_s - self._origin_s

    def _answers(self) -> Iterator[bytes]:
        """Answer whole requests. What is no request at all ends the server, as on the board."""
        while not self._deaf and len(self._held) >= HEADER.size:
            kind, _, count, address = HEADER.unpack_from(self._held)
            body = 4 * count if kind == b"w" else 0
            if len(self._held) < HEADER.size + body:
                return
            header = bytes(self._held[: HEADER.size])
            words = bytes(self._held[HEADER.size : HEADER.size + body])
            del self._held[: HEADER.size + body]
            if count == 0:
                continue
            match kind:
                case b"r":
                    self.reads += 1
                    yield header + self._gateware.read(address, count).tobytes()
                case b"w":
                    self.writes += 1
                    self._gateware.write(address, np.frombuffer(words, dtype=np.uint32))
                    yield header
                case _:
                    self._deaf = True
        if self._deaf:
            self._held.clear()
