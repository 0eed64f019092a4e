"""A bus as seen from outside."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from attrs import frozen

from transports import LineState, Transport

from .breaker import BreakerState
from .intake import Intake
from .member import InstrumentStatus, Service


@frozen(kw_only=True)
class BusStatus:
    """A bus as seen from outside.

    Attributes:
        name: Its name in the tree.
        key: Its canonical name.
        line: The state of its line.
        breaker: The state of its breaker.
        retry_after_s: How long it refuses commands yet, in seconds; None when it takes them.
        reason: Why its breaker opened last, or "".
        instruments: The instruments on it.
        lent: Who has the port now instead, or None.
    """

    name: str
    key: str
    line: LineState
    breaker: BreakerState
    retry_after_s: float | None
    reason: str
    instruments: Sequence[InstrumentStatus]
    lent: str | None = None


def status_of(intake: Intake, transport: Transport) -> BusStatus:
    """Return where a bus and its instruments stand now."""
    now_s = trio.current_time()
    retry_after_s = intake.breaker.retry_after_s(now_s)
    return BusStatus(
        name=intake.name,
        key=transport.key,
        line=transport.state,
        breaker=intake.breaker.state,
        retry_after_s=retry_after_s,
        reason=intake.reason,
        instruments=tuple(
            InstrumentStatus(
                name=member.name,
                service=member.service,
                tripped=member.tripped,
                identity=member.identity,
                reason="" if member.service is Service.IN_SERVICE else member.reason,
                retry_after_s=retry_after_s
                if retry_after_s is not None
                else member.breaker.retry_after_s(now_s),
                waiting=len(member.lane),
                safe_owed=member.safe_reason is not None,
                engaged=None
                if member.engagement is None
                else member.engagement.ticket.command.plan.name,
            )
            for member in intake.members.values()
        ),
        lent=intake.lent,
    )
