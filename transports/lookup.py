"""Host names behind addresses."""

from __future__ import annotations

import socket
from typing import Final

import trio
from attrs import evolve

from .address import Address, canonical_key
from .clock import current_clock

LOOKUP_WITHIN_S: Final = 2.0
"""How long the look-up of a host name may take, in seconds."""

# A resolver that hangs delays other look-ups only.
_LOOKUP_LIMITER: Final = trio.CapacityLimiter(8)


async def resolve_key(address: Address) -> str:
    """Return the canonical name with the host name looked up.

    Falls back to the name where it is unknown or the look-up takes too long; under a
    virtual clock nothing is looked up.
    """
    clock = current_clock()
    if address.host and not clock.virtual:
        with trio.move_on_after(LOOKUP_WITHIN_S):
            host = await clock.run_sync(
                _look_up, address.host, limiter=_LOOKUP_LIMITER, abandon_on_cancel=True
            )
            return canonical_key(evolve(address, host=host))
    await trio.lowlevel.checkpoint()
    return canonical_key(address)


def _look_up(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return host
    # The order of the answers may change from call to call; the least does not.
    return str(min((family != socket.AF_INET, str(where[0])) for family, *_, where in found)[1])
