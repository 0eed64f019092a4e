"""What became of every reading that a recording owed.

Each sample that was expected ends as read or as missing, and each one read ends as emitted
or as dropped. The recording writes a `Ledger`; everybody else reads an `AcquisitionSummary`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import define, frozen

from actors import SampleKey

from .sketch import DurationSketch


@frozen
class Counts:
    """Numbers of samples, of one series, one device or all.

    Attributes:
        read: Received, in their slot or later.
        missing: Owed by a slot and never received.
        late: Received after their slot had ended; also counted as read.
        emitted: Delivered to the consumer.
        dropped: Read and never delivered: evicted or refused by the overflow policy, or
            still buffered when the recording was left.
    """

    read: int = 0
    missing: int = 0
    late: int = 0
    emitted: int = 0
    dropped: int = 0

    @property
    def expected(self) -> int:
        """How many were owed so far: read and missing."""
        return self.read + self.missing

    def __add__(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(
            self.read + other.read,
            self.missing + other.missing,
            self.late + other.late,
            self.emitted + other.emitted,
            self.dropped + other.dropped,
        )


@define(eq=False)
class Tally:
    """The running numbers of one series."""

    read: int = 0
    missing: int = 0
    late: int = 0
    emitted: int = 0
    dropped: int = 0


class Ledger:
    """The recording's own side of its summary: constant memory per series."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.tallies: dict[SampleKey, Tally] = {}
        self.durations = DurationSketch()
        self.batches_emitted = 0
        self.max_drift_s = 0.0
        self.disconnects = 0
        self.disconnects_by_device: dict[str, int] = {}
        self.started_utc_ns: int | None = None
        self.finished_utc_ns: int | None = None

    def tally(self, key: SampleKey) -> Tally:
        """Return where a series is counted."""
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        return tally

    def add_missing(self, keys: Iterable[SampleKey]) -> None:
        """Count one missing sample for each of `keys`."""
        for key in keys:
            self.tally(key).missing += 1

    def add_emitted(self, batch: Sequence[Tally]) -> None:
        """Count a batch that the consumer has taken."""
        self.batches_emitted += 1
        for tally in batch:
            tally.emitted += 1

    def add_dropped(self, batch: Sequence[Tally]) -> None:
        """Count a batch that nobody will get."""
        for tally in batch:
            tally.dropped += 1

    def add_disconnect(self, devices: Iterable[str]) -> None:
        """Count one loss of a connection that served `devices`."""
        self.disconnects += 1
        for device in devices:
            self.disconnects_by_device[device] = self.disconnects_by_device.get(device, 0) + 1

    def add_poll(self, drift_s: float) -> None:
        """Note how long after its target a poll was begun."""
        self.max_drift_s = max(self.max_drift_s, drift_s)


class AcquisitionSummary:
    """A recording's numbers, live while it runs and final after it. Read only.

    `samples_expected` equals `samples_read + samples_missing` at every instant, in total and
    per series; after the end `samples_read` equals `samples_emitted + samples_dropped`.
    A sample whose poll is still going on is not counted yet.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Show `ledger`."""
        self._ledger = ledger

    @property
    def started_at(self) -> datetime | None:
        """The first scheduled target, UTC; None before the recording was entered."""
        return _datetime(self._ledger.started_utc_ns)

    @property
    def finished_at(self) -> datetime | None:
        """When the recording ended, UTC, on whatever way; None while it runs."""
        return _datetime(self._ledger.finished_utc_ns)

    @property
    def batches_emitted(self) -> int:
        """How many batches the consumer took. A batch is never empty."""
        return self._ledger.batches_emitted

    @property
    def samples_expected(self) -> int:
        """How many samples the slots so far owed."""
        return self.total().expected

    @property
    def samples_read(self) -> int:
        """How many samples were received, late ones included."""
        return self.total().read

    @property
    def samples_emitted(self) -> int:
        """How many samples the consumer really took."""
        return self.total().emitted

    @property
    def samples_late(self) -> int:
        """How many samples were received after their slot had ended."""
        return self.total().late

    @property
    def samples_missing(self) -> int:
        """How many samples were owed and never received."""
        return self.total().missing

    @property
    def samples_dropped(self) -> int:
        """How many samples were read and never delivered."""
        return self.total().dropped

    @property
    def max_drift_ms(self) -> float:
        """The latest start of a poll after its target, in ms; its own time not included."""
        return self._ledger.max_drift_s * 1e3

    @property
    def tick_duration_ms_p50(self) -> float | None:
        """The median duration of one bus's poll, in ms to within 1 %; None before the first."""
        return _ms(self._ledger.durations.quantile_s(0.50))

    @property
    def tick_duration_ms_p99(self) -> float | None:
        """The duration that 99 % of the polls of one bus do not exceed, in ms."""
        return _ms(self._ledger.durations.quantile_s(0.99))

    @property
    def disconnects(self) -> int:
        """How often a connection was lost; one that serves several devices counts once."""
        return self._ledger.disconnects

    def disconnects_by_device(self) -> Mapping[str, int]:
        """Return how often each device was lost; 0 where it never was."""
        never = dict.fromkeys((key.device for key in self._ledger.tallies), 0)
        return {**never, **self._ledger.disconnects_by_device}

    def total(self) -> Counts:
        """Return the numbers of all series together."""
        return sum(self.by_key().values(), Counts())

    def by_key(self) -> Mapping[SampleKey, Counts]:
        """Return the numbers per series."""
        return {
            key: Counts(tally.read, tally.missing, tally.late, tally.emitted, tally.dropped)
            for key, tally in self._ledger.tallies.items()
        }

    def by_device(self) -> Mapping[str, Counts]:
        """Return the numbers per device."""
        devices: dict[str, Counts] = {}
        for key, counts in self.by_key().items():
            devices[key.device] = devices.get(key.device, Counts()) + counts
        return devices

    def as_dict(self) -> dict[str, object]:
        """Return everything as plain values, ready for JSON."""
        lost = self.disconnects_by_device()
        return {
            "started_utc": _text(self.started_at),
            "finished_utc": _text(self.finished_at),
            "batches_emitted": self.batches_emitted,
            **_plain(self.total()),
            "max_drift_ms": self.max_drift_ms,
            "tick_duration_ms_p50": self.tick_duration_ms_p50,
            "tick_duration_ms_p99": self.tick_duration_ms_p99,
            "disconnects": self.disconnects,
            "devices": {
                name: {**_plain(counts), "disconnects": lost.get(name, 0)}
                for name, counts in self.by_device().items()
            },
        }

    def __repr__(self) -> str:
        """Return the main numbers."""
        total = self.total()
        return (
            f"<AcquisitionSummary expected {total.expected} read {total.read} "
            f"late {total.late} missing {total.missing} dropped {total.dropped}>"
        )


def _plain(counts: Counts) -> dict[str, object]:
    return {
        "samples_expected": counts.expected,
        "samples_read": counts.read,
        "samples_emitted": counts.emitted,
        "samples_late": counts.late,
        "samples_missing": counts.missing,
        "samples_dropped": counts.dropped,
    }


def _datetime(utc_ns: int | None) -> datetime | None:
    return None if utc_ns is None else datetime.fromtimestamp(utc_ns // 1000 / 1e6, tz=UTC)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _ms(duration_s: float | None) -> float | None:
    return None if duration_s is None else duration_s * 1e3
