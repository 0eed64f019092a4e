"""Where samples come from: one source, or one per bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from attrs import evolve

from actors import Sample, SampleKey


class PollSource(Protocol):
    """Anything that reads parameters when asked."""

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read `parameters` once and return what answered.

        Args:
            parameters: `name`, of every device that has it, or `device.name`.
            names: The devices to read; None for all.
            instances: Which loops or channels to read, from 1.
        """
        ...


class Partition(Protocol):
    """What one bus owes a recording, and how to ask for it."""

    @property
    def name(self) -> str:
        """The bus's name, for reports."""
        ...

    @property
    def keys(self) -> Sequence[SampleKey]:
        """The series expected once per slot; they may change while a recording runs."""
        ...

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Read every key once, and deliver each sample as it arrives.

        Keys that are not delivered by the time this returns or raises are missing.
        """
        ...


@runtime_checkable
class Watched(Protocol):
    """A partition that reconnects by itself, and says when it has to."""

    def watch(
        self,
        lost: Callable[[Sequence[str], str], None],
        back: Callable[[Sequence[str]], None],
    ) -> AbstractContextManager[None]:
        """Report, for the block's length, which devices were lost, why, and which came back."""
        ...


@runtime_checkable
class Partitioned(Protocol):
    """A source that spans buses."""

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Partition]:
        """Return one partition per bus; the arguments mean what they mean to `poll_many`.

        The sequence may change while a recording runs: partitions that join it are polled
        from the next slot on, and those that leave it are polled no more.
        """
        ...


@runtime_checkable
class Revised(Protocol):
    """A changing sequence of partitions that says so: nobody has to look at each of them."""

    @property
    def revision(self) -> int:
        """A number that is another one whenever a partition has joined or left since."""
        ...


class SourcePartition:
    """One partition made of a plain source.

    Every series that the source answered once is expected from then on.
    """

    def __init__(
        self,
        source: PollSource,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> None:
        """Remember what to ask `source` for."""
        self._source = source
        self._parameters = tuple(parameters)
        self._names = None if names is None else tuple(names)
        self._instances = tuple(instances)
        self._known: set[SampleKey] = set()
        self.name = _name_of(source)
        self.keys: Sequence[SampleKey] = ()

    def __repr__(self) -> str:
        """Return the name and how many series are known."""
        return f"<SourcePartition {self.name} {len(self.keys)} series>"

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that have answered so far, or the source's own name."""
        return tuple(dict.fromkeys(key.device for key in self.keys)) or (self.name,)

    def adopt(self, source: PollSource) -> None:
        """Ask another source from now on; what the earlier one answered stays expected."""
        self._source = source

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Ask the source once and deliver all that it returned."""
        samples = await self._source.poll_many(
            self._parameters, names=self._names, instances=self._instances
        )
        for sample in samples:
            key = sample.key
            if key not in self._known:
                self._known.add(key)
                self.keys = (*self.keys, key)
            deliver(sample)


class PollSourceAdapter:
    """Gives a lone device a name of its own.

    Attributes:
        name: The name that its samples carry.
        device: The device that is asked.
    """

    def __init__(self, name: str, device: PollSource) -> None:
        """Name `device`."""
        self.name = name
        self.device = device

    def __repr__(self) -> str:
        """Return the name and the device."""
        return f"<PollSourceAdapter {self.name} {self.device!r}>"

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read the device and relabel its samples; `[]` where `names` leaves it out."""
        if names is not None and self.name not in names:
            return []
        own = f"{self.name}."
        wanted = [
            parameter.removeprefix(own)
            for parameter in parameters
            if "." not in parameter or parameter.startswith(own)
        ]
        if not wanted:
            return []
        samples = await self.device.poll_many(wanted, instances=instances)
        return [evolve(sample, device=self.name) for sample in samples]


def partitions_of(
    source: PollSource | Partitioned,
    parameters: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    instances: Sequence[int] = (1,),
) -> Sequence[Partition]:
    """Return the source's partitions; a plain source counts as one bus."""
    if isinstance(source, Partitioned):
        return source.partitions(parameters, names=names, instances=instances)
    return (SourcePartition(source, parameters, names=names, instances=instances),)


def _name_of(source: PollSource) -> str:
    return str(getattr(source, "name", type(source).__name__))
