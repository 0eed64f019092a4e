"""What kinds of bus exist, and what each can bear.

A profile is plain data: the numbers a line needs to stay in step. Each can be
overridden per bus.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from attrs import field, frozen, validators


class Resync(Enum):
    """How a stale line comes back into step."""

    REOPEN = "reopen"
    """Close and connect anew: late bytes die with the old connection."""

    REOPEN_AND_FENCE = "reopen-and-fence"
    """Reopen, then ask a fence: a serial gateway keeps late bytes across connections."""

    FENCE = "fence"
    """Ask something recognisable and discard everything up to its answer."""

    CLEAR_AND_FENCE = "clear-and-fence"
    """Clear the device, or reopen where it cannot be cleared, then ask a fence. A line that
    has no device clear asks the fence only."""

    DRAIN = "drain"
    """Discard until the line's declared lateness has passed."""


_positive = validators.gt(0.0)
_not_negative = validators.ge(0.0)


@frozen(kw_only=True)
class BusProfile:
    """The numbers of one kind of bus.

    Attributes:
        name: The word used in configuration.
        resync: How a stale line comes back into step.
        reply_within_s: How long a reply may take where the command does not say.
        lateness_s: How long after its `reply_within_s` a reply can still arrive; what a
            drain and a fence survive.
        pacing_s: The least silence between the end of an exchange and the next write.
        acknowledge_within_s: How long after it was sent a write may take until the device's
            status acknowledges it, where its driver does not say; then it has timed out.
        flush_every_s: How often what arrived unasked is thrown away while the line is idle;
            0 for before each exchange only.
        attempts: How often a command is tried that failed in a way that may pass, the first
            time included; 1 for once only.
        retry_wait_s: How long before the second attempt; then twice as long each time.
        retry_jitter: The largest share by which such a wait is lengthened, at random.
        status_poll_s: How often an operation that goes on is asked how far it has come.
        queue_depth: How many commands an instrument's lane holds.
        max_frame: The longest reply, in bytes.
        shared: Whether several units share the line, so that each needs a unit id.
        connect_within_s: How long opening may take.
        close_within_s: How long closing may take.
        emergency_wait_s: How long an emergency lets the exchange in flight go on.
        safe_s: How long driving the bus's instruments safe may take.
    """

    name: str
    resync: Resync
    reply_within_s: float = field(default=1.0, validator=_positive)
    lateness_s: float = field(default=0.5, validator=_positive)
    pacing_s: float = field(default=0.0, validator=_not_negative)
    acknowledge_within_s: float = field(default=10.0, validator=_positive)
    flush_every_s: float = field(default=1.0, validator=_not_negative)
    attempts: int = field(default=3, validator=validators.ge(1))
    retry_wait_s: float = field(default=1.0, validator=_not_negative)
    retry_jitter: float = field(
        default=0.1, validator=validators.and_(_not_negative, validators.le(1.0))
    )
    status_poll_s: float = field(default=0.05, validator=_positive)
    queue_depth: int = field(default=1024, validator=validators.ge(1))
    max_frame: int = field(default=65_536, validator=validators.ge(16))
    shared: bool = False
    connect_within_s: float = field(default=3.0, validator=_positive)
    close_within_s: float = field(default=1.0, validator=_positive)
    emergency_wait_s: float = field(default=0.5, validator=_positive)
    safe_s: float = field(default=3.0, validator=_positive)


SERIAL: Final = BusProfile(name="serial", resync=Resync.FENCE)
"""One instrument on RS-232 or USB: replies come in order, so a fence finds the step."""

RS485: Final = BusProfile(
    name="rs485",
    resync=Resync.FENCE,
    pacing_s=0.003,
    acknowledge_within_s=5.0,
    max_frame=4_096,
    shared=True,
)
"""Several units on one pair: the driver of the last talker needs time to let go."""

TCP: Final = BusProfile(name="tcp", resync=Resync.REOPEN)
"""An instrument's own socket: what is late dies with the old connection."""

GATEWAY: Final = BusProfile(
    name="gateway", resync=Resync.REOPEN_AND_FENCE, lateness_s=2.0, max_frame=4_096
)
"""A serial line behind a network gateway, which keeps late bytes across connections."""

GPIB: Final = BusProfile(
    name="gpib",
    resync=Resync.CLEAR_AND_FENCE,
    flush_every_s=0.0,
    max_frame=16_777_216,
    shared=True,
)
"""A GPIB board, or a gateway to one: each instrument is read by its own address."""

USBTMC: Final = BusProfile(
    name="usbtmc", resync=Resync.CLEAR_AND_FENCE, flush_every_s=0.0, max_frame=16_777_216
)
"""One instrument on USB, under VISA."""

LAN: Final = BusProfile(
    name="lan", resync=Resync.REOPEN_AND_FENCE, flush_every_s=0.0, max_frame=16_777_216
)
"""One instrument in the network under VISA, by VXI-11 or HiSLIP."""

MULTIPLEXED: Final = BusProfile(
    name="multiplexed",
    resync=Resync.REOPEN,
    flush_every_s=0.0,
    queue_depth=256,
    connect_within_s=30.0,
    safe_s=5.0,
)
"""A worker that carries out several commands at once and matches replies by their numbers:
what is late is dropped, so nothing has to come into step."""

PROFILES: Final[Mapping[str, BusProfile]] = {
    profile.name: profile
    for profile in (SERIAL, RS485, TCP, GATEWAY, GPIB, USBTMC, LAN, MULTIPLEXED)
}
