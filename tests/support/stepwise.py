"""Exchanges as a bus makes them: in step first, then the question."""

from __future__ import annotations

from transports import Exchange, Transport

IDENTITY = Exchange(b"*IDN?\n", accepts=lambda data: data.startswith(b"benchtree,"))


async def ask(
    transport: Transport, text: str, *, within_s: float = 1.0, unit: str | None = None
) -> str:
    """Bring the line into step if it is not, and have an echo say `text`."""
    request = f"{text}\n".encode()
    fence = Exchange(IDENTITY.request, unit, 1.0, IDENTITY.accepts)
    if transport.owed(unit):
        await transport.resync(fence)
    reply = await transport.exchange(Exchange(request, unit, within_s))
    return reply.data.decode()
