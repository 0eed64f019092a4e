"""What a tree is made of, as values: made from a file, or in code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen, validators

from actors import (
    BreakerPolicy,
    Identity,
    Instrument,
    Intensity,
    OnReconnect,
    ReconcilePolicy,
    Restart,
    Strategy,
)
from recorder import OnError, OverflowPolicy
from transports import BusProfile

JournalDetail: TypeAlias = Literal["writes", "all"]
"""How much of reads a journal holds."""

DRAIN_S: Final = 2.0
"""How long a stopping tree lets accepted commands go on, in seconds."""


@frozen(kw_only=True)
class BusSpec:
    """One physical bus.

    Attributes:
        name: Its name in the tree.
        address: Where it is, as an address.
        profile: Its numbers; None for the usual ones of the address's kind.
        breaker: When it is left alone.
        required: Whether the tree waits for it to be connected before going on.
        reconcile: How what its instruments say is compared with what they were told.
    """

    name: str
    address: str
    profile: BusProfile | None = None
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    required: bool = False
    reconcile: ReconcilePolicy = field(factory=ReconcilePolicy)


@frozen(kw_only=True)
class InstrumentSpec:
    """One instrument on a bus.

    Attributes:
        name: Its name in the tree.
        bus: The name of its bus.
        driver: Its driver.
        unit_id: Its address on a shared bus, or None.
        identity: Who it must be; what is None may be anything.
        breaker: When it is quarantined.
        on_reconnect: What happens to its settings when it comes back.
        recovery_s: How long it may stay silent after its line was opened, in seconds.
        timeout_s: How long a reply may take, in seconds; None for what the driver says.
    """

    name: str
    bus: str
    driver: type[Instrument]
    unit_id: str | None = None
    identity: Identity = field(factory=Identity)
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    # By its value, too: as in a file.
    on_reconnect: OnReconnect = field(default=OnReconnect.RESTORE, converter=OnReconnect)
    recovery_s: float = field(default=0.0, validator=validators.ge(0.0))
    timeout_s: float | None = field(default=None, validator=validators.optional(validators.gt(0.0)))


@frozen(kw_only=True)
class ActorSpec:
    """Your own supervised code.

    Attributes:
        name: Its name in the tree.
        start: An async function; it is called with the tree.
        restart: Whether it is started again when it ends.
        stop_s: How long it may take to stop, in seconds.
    """

    name: str
    start: Callable[[Any], Awaitable[None]]
    restart: Restart = Restart.TRANSIENT
    stop_s: float = field(default=5.0, validator=validators.gt(0.0))


class Kind(Enum):
    """What a supervisor's child can be."""

    BUS = "bus"
    ACTOR = "actor"
    SUPERVISOR = "supervisor"
    RECONCILE = "reconcile"
    """What looks after a bus of that name."""
    PORTS = "ports"
    """What hands ports to other trees; there is one."""


ChildName: TypeAlias = tuple[Kind, str]
"""A child as a supervisor names it: "bus.supply" is `(Kind.BUS, "supply")`."""


@frozen(kw_only=True)
class SupervisorSpec:
    """A group that is supervised together.

    Attributes:
        name: Its name in the tree.
        children: What it starts, in this order.
        strategy: Which of them share a restart.
        intensity: How many restarts it bears.
    """

    name: str
    children: Sequence[ChildName]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = field(factory=Intensity)


@frozen(kw_only=True)
class RecordingSpec:
    """One recording that runs with the tree.

    Attributes:
        name: Its name; that of its files.
        parameters: What to read: `instrument.parameter`, or `parameter` for all that have it.
        rate_hz: How often.
        sinks: Where to: "sqlite", "csv", "jsonl", "arrow", "parquet", "postgres".
        duration_s: How long, in seconds; None until the tree stops.
        names: The instruments to read; None for all.
        instances: Which loops or channels to read.
        overflow: What happens when the sinks cannot keep up.
        buffer_size: How many batches wait for the sinks.
        on_error: What a failed read does: "record" it as missing, or "stop" the recording.
        batch_size: At most so many samples go into one write.
        flush_s: How long a sample waits for others, in seconds.
        power_safe: Whether each batch waits for the disk.
        wide: Whether the Parquet file has one row per tick.
        rotate_rows: How many samples go into each part of the Parquet file; None for one file.
        postgres: How to reach the PostgreSQL server.
        postgres_table: The table there.
    """

    name: str
    parameters: Sequence[str]
    rate_hz: float = field(validator=validators.gt(0.0))
    sinks: Sequence[str] = ("sqlite",)
    duration_s: float | None = None
    names: Sequence[str] | None = None
    instances: Sequence[int] = (1,)
    overflow: OverflowPolicy = OverflowPolicy.BLOCK
    buffer_size: int = field(default=64, validator=validators.ge(1))
    on_error: OnError = "record"
    batch_size: int = field(default=1000, validator=validators.ge(1))
    flush_s: float = field(default=1.0, validator=validators.ge(0.0))
    power_safe: bool = False
    wide: bool = False
    rotate_rows: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    postgres: str | None = None
    postgres_table: str = "samples"


@frozen(kw_only=True)
class TreeSpec:
    """A whole tree.

    Attributes:
        name: Its name, in owner files and run folders.
        drain_s: How long stopping lets accepted commands go on, in seconds.
        journal: What the journal of a run holds of reads: "writes" counts them and keeps those
            that failed, "all" keeps each step of each.
        priority: How important it is among the trees of the machine: a port is handed over to
            one with a higher priority that waits for it.
        wait: Whether to wait for ports that other trees have, not to fail.
        buses: The buses, in start order.
        instruments: The instruments.
        actors: Your own code.
        supervisors: Groups; what is in none is supervised alone.
        recordings: What is recorded.
    """

    name: str = "bench"
    drain_s: float = field(default=DRAIN_S, validator=validators.ge(0.0))
    journal: JournalDetail = "writes"
    priority: int = 0
    wait: bool = False
    buses: Sequence[BusSpec] = ()
    instruments: Sequence[InstrumentSpec] = ()
    actors: Sequence[ActorSpec] = ()
    supervisors: Sequence[SupervisorSpec] = ()
    recordings: Sequence[RecordingSpec] = ()
