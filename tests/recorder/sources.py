"""Sources whose delays and faults a test decides."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import trio

from actors import Sample, SampleKey, Value, current_clock
from recorder import Partition


def make_sample(
    key: SampleKey | None = None,
    value: Value = 20.5,
    *,
    requested_ns: int = 1_000,
    received_ns: int = 3_000,
    received_utc_ns: int = 1_767_225_600_000_003_000,
    unit: str | None = "degC",
) -> Sample:
    """Return a sample of `key` with the given stamps."""
    key = key or SampleKey("oven", "temperature")
    return Sample(
        device=key.device,
        address=1,
        protocol="test",
        parameter=key.parameter,
        parameter_id=100,
        instance=key.instance,
        value=value,
        unit=unit,
        requested_ns=requested_ns,
        received_ns=received_ns,
        received_utc_ns=received_utc_ns,
    )


async def read(key: SampleKey, takes_s: float, value: Value = 20.5) -> Sample:
    """Return a sample that took `takes_s` to read."""
    clock = current_clock()
    requested_ns = clock.mono_ns()
    await trio.sleep(takes_s)
    return make_sample(
        key,
        value,
        requested_ns=requested_ns,
        received_ns=clock.mono_ns(),
        received_utc_ns=clock.utc_ns(),
    )


def always(takes_s: float, number: int) -> float:
    """Return `takes_s`, whatever the poll's number."""
    del number
    return takes_s


class Bus:
    """One partition. Reads its keys one after the other.

    Attributes:
        name: The bus's name.
        keys: What it owes; a test may change it.
        takes_s: Says how long the poll with a given number (from 0) takes per key.
        begun_s: Trio's time at the start of each poll.
    """

    def __init__(
        self,
        *devices: str,
        takes_s: float | Callable[[int], float] = 0.0,
        fault: Callable[[int], Exception | None] = lambda number: None,
    ) -> None:
        """Own the `temperature` of each device."""
        self.name = "+".join(devices)
        self.keys: list[SampleKey] = [SampleKey(device, "temperature") for device in devices]
        self.takes_s: Callable[[int], float] = (
            takes_s if callable(takes_s) else functools.partial(always, takes_s)
        )
        self.begun_s: list[float] = []
        self._fault = fault

    async def poll(self, deliver: Callable[[Sample], None]) -> None:
        """Read every key, or raise what the test wants."""
        number = len(self.begun_s)
        self.begun_s.append(trio.current_time())
        fault = self._fault(number)
        if fault is not None:
            raise fault
        for key in tuple(self.keys):
            deliver(await read(key, self.takes_s(number), value=number))


class Bench:
    """A source that spans buses."""

    def __init__(self, *buses: Partition) -> None:
        """Have `buses`."""
        self.buses: Sequence[Partition] = buses

    def partitions(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Partition]:
        """Return the buses."""
        del parameters, names, instances
        return self.buses


class Meter:
    """A plain source: one device that answers everything it is asked.

    Attributes:
        asked: The parameters of each poll.
    """

    def __init__(self, device: str = "meter", takes_s: float = 0.0) -> None:
        """Take `takes_s` for each poll."""
        self.device = device
        self.takes_s = takes_s
        self.asked: list[Sequence[str]] = []

    async def poll_many(
        self,
        parameters: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        instances: Sequence[int] = (1,),
    ) -> Sequence[Sample]:
        """Read each parameter of each instance."""
        del names
        number = len(self.asked)
        self.asked.append(parameters)
        first = await read(SampleKey(self.device, parameters[0]), self.takes_s, number)
        return [
            make_sample(
                SampleKey(self.device, parameter, instance),
                number,
                requested_ns=first.requested_ns,
                received_ns=first.received_ns,
                received_utc_ns=first.received_utc_ns,
            )
            for parameter in parameters
            for instance in instances
        ]
