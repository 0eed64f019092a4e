"""A Red Pitaya with PyRPL's gateware, as its register server shows it; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from transports.sim import SimReply

from .words import Block, Memory

HEADER: Final = struct.Struct("<cBHI")
"""Kind, nothing, number of words, address."""

_WINDOW_BITS: Final = 20

_FILTERS: Final = {0x224: 5, 0x228: 10}
_PID_CONSTANTS: Final = {0x200: 12, 0x204: 32, 0x208: 10, 0x20C: 24, 0x220: 4, **_FILTERS}
_IQ_CONSTANTS: Final = {
    0x200: 11,
    0x204: 17,
    0x208: 32,
    0x20C: 18,
    0x210: 14,
    0x214: 24,
    0x218: 8,
    0x220: 1,
    0x230: 2,
    0x234: 5,
    0x238: 10,
    **_FILTERS,
}
_IIR_CONSTANTS: Final = {0x200: 32, 0x204: 29, 0x208: 14, 0x220: 1, **_FILTERS}
_CONSTANTS: Final = {
    **dict.fromkeys((0, 1, 2), _PID_CONSTANTS),
    3: {0x220: 1, **_FILTERS},
    4: _IIR_CONSTANTS,
    **dict.fromkeys((5, 6, 7), _IQ_CONSTANTS),
}


class RedPitayaModel:
    """A board behind its register server.

    Attributes:
        reads: How many read requests were answered.
        writes: How many write requests were carried out.
    """

    def __init__(self) -> None:
        """Switch the power on."""
        self.reads = 0
        self.writes = 0
        self._held = bytearray()
        self._deaf = False
        self._blocks: dict[int, Block] = {
            0x400: Memory({0x0: 1}),
            0x401: Memory({0x14: 1}),
            0x402: Memory(),
            0x403: Memory(
                {
                    number * 0x10000 + offset: value
                    for number, constants in _CONSTANTS.items()
                    for offset, value in constants.items()
                }
            ),
            0x404: Memory(),
        }

    def __repr__(self) -> str:
        return f"<RedPitayaModel reads={self.reads} writes={self.writes}>"

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Carry out the requests that `data` completes."""
        del now_s
        self._held += data
        return [SimReply(reply) for reply in self._answers()]

    def connect(self, now_s: float) -> None:
        """Start over with a new client; half a request of the one before is lost."""
        del now_s
        self._held.clear()
        self._deaf = False

    def reset(self, now_s: float) -> None:
        """Cycle the power."""
        self.connect(now_s)

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
            block = self._blocks.get(address >> _WINDOW_BITS)
            offset = address & ((1 << _WINDOW_BITS) - 1)
            if count == 0:
                continue
            match kind:
                case b"r":
                    self.reads += 1
                    yield header + (
                        bytes(4 * count) if block is None else block.read(offset, count).tobytes()
                    )
                case b"w":
                    self.writes += 1
                    if block is not None:
                        block.write(offset, np.frombuffer(words, dtype=np.uint32))
                    yield header
                case _:
                    self._deaf = True
        if self._deaf:
            self._held.clear()
