"""A far end that takes no more bytes, over real TCP."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve

from transports import (
    TCP,
    Exchange,
    Lines,
    LineState,
    PeerLostError,
    make_transport,
    parse_address,
)


async def test_a_request_that_is_not_taken_ends_in_time() -> None:
    """Sending has a bound too: a peer that stops reading is a lost peer, not a hang."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    address = parse_address(f"tcp://127.0.0.1:{port}")
    line = make_transport(address, framing=Lines(), profile=evolve(TCP, reply_within_s=0.2))
    with trio.fail_after(10):
        await line.open()
        async with await listeners[0].accept():
            with pytest.raises(PeerLostError, match="takes no more bytes"):
                await line.exchange(Exchange(b"x" * 50_000_000 + b"\n"))
    assert line.state is LineState.CLOSED
    await trio.aclose_forcefully(listeners[0])
