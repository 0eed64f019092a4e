"""The smallest device: it says back what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .model import SimReply

LONGEST_REQUEST: Final = 65_536


class EchoModel:
    r"""Answers `ECHO x\n` with `x\n`, `WAIT s x\n` the same after `s` seconds, and `*IDN?\n`.

    Anything else is carried out in silence.

    Args:
        identity: The answer to `*IDN?`.

    Attributes:
        heard: How many whole requests have come.
        resets: How often the power was cycled.
    """

    def __init__(self, identity: str = "benchtree,echo,1,0") -> None:
        """Start with nothing heard."""
        self.identity = identity
        self.heard = 0
        self.resets = 0
        self._held = b""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer the requests that `data` completes."""
        del now_s
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[-LONGEST_REQUEST:]
        self.heard += len(lines)
        return [reply for line in lines if (reply := self._answer(line)) is not None]

    def reset(self, now_s: float) -> None:
        """Forget half a request."""
        del now_s
        self.resets += 1
        self._held = b""

    def _answer(self, line: bytes) -> SimReply | None:
        word, _, rest = line.partition(b" ")
        match word:
            case b"*IDN?":
                return SimReply(self.identity.encode() + b"\n")
            case b"ECHO":
                return SimReply(rest + b"\n")
            case b"WAIT":
                seconds, _, text = rest.partition(b" ")
                return SimReply(text + b"\n", delay_s=float(seconds))
            case _:
                return None
