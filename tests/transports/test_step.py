"""No reply ever reaches the wrong question, whatever is cancelled and however late it is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.conformance import FENCE, LineBench
from tests.transports.kinds import KINDS
from transports import (
    EchoModel,
    Exchange,
    LineState,
    SimLine,
    SimReply,
)

DEADLINE_S = 0.01
LATEST_S = 0.1
"""How late replies are at most: within the lateness of every kind's profile."""


class SlowEcho(EchoModel):
    """Takes its time for every reply, so that no two arrive at one instant."""

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer a millisecond later."""
        return [evolve(reply, delay_s=0.001) for reply in super().receive(data, now_s)]


async def cancel_often(kind: LineBench, seed: int, *, cancellations: int) -> None:
    """Cancel exchanges at random instants, and wait now and then."""
    chance = random.Random(seed)
    line = SimLine(SlowEcho())
    answered = cancelled = asked = 0
    async with kind.serve(line, kind.keeps_late) as make:
        transport = make(kind.profile)
        await transport.open()
        try:
            while cancelled < cancellations:
                await transport.resync(FENCE)
                asked += 1
                token = f"token-{asked}".encode()
                if chance.random() < 0.7:
                    line.late(chance.choice((0.002, DEADLINE_S, LATEST_S)) * chance.random())
                # Now and then somebody waits, until the device has done all it was asked.
                patience_s = 60.0 if asked % 10 == 0 else DEADLINE_S * chance.random()
                with trio.move_on_after(patience_s):
                    question = Exchange(b"ECHO " + token + b"\n", reply_within_s=60.0)
                    reply = await transport.exchange(question)
                    assert reply.data == token
                    answered += 1
                cancelled += transport.state is LineState.STALE
            assert answered >= asked // 10
        finally:
            await transport.aclose()


@pytest.mark.parametrize("name", ["memory", "memory-reopened"])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_thousand_cancellations_in_virtual_time(name: str, seed: int) -> None:
    """Fifty runs of twenty cancellations at random instants mix up no two replies."""

    async def main(kind: LineBench) -> None:
        await cancel_often(kind, seed, cancellations=20)

    KINDS[name].run(main)


@pytest.mark.parametrize("name", ["pty", "tcp"])
def test_hundred_cancellations_in_real_time(name: str) -> None:
    """A hundred cancellations on a real line mix up no two replies."""

    async def main(kind: LineBench) -> None:
        await cancel_often(kind, 7, cancellations=100)

    KINDS[name].run(main)
