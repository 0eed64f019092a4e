"""An exchange under VISA through a bus actor, against PyVISA alone on the same kind of device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final

import pyvisa
from pyvisa.resources import MessageBasedResource

from transports import current_clock, parse_address

from .exchange import LATENCIES_S, Kind, measure
from .report import Call, Measurement

ADDED_US: Final = 110.0
"""What the actor and the hop to the thread of the bus may cost together."""


def run(*, quick: bool) -> Iterable[Measurement]:
    """Measure pyvisa-py on a loopback socket at several device latencies, and eight at once."""
    return measure(_VISA, quick=quick)


def _client(address: str, stack: ExitStack) -> Callable[[], object]:
    manager = pyvisa.ResourceManager("@py")
    stack.callback(manager.close)
    alone = manager.open_resource(_resource(address))
    assert isinstance(alone, MessageBasedResource)
    alone.read_termination = alone.write_termination = "\n"
    return lambda: alone.query("VOLT?")


def _least(address: str, stack: ExitStack) -> Call:
    """Have PyVISA called in a thread of its own, and nothing else."""
    ask = _client(address, stack)
    thread = current_clock().make_thread("bare")
    stack.callback(thread.stop)

    async def hop() -> None:
        await thread.start(ask).wait()

    return hop


def _resource(address: str) -> str:
    return f"TCPIP::127.0.0.1::{parse_address(address).port}::SOCKET"


_VISA: Final = Kind(
    name="visa",
    host="tcp",
    address=lambda address: f"visa://{_resource(address)}?backend=@py",
    client=_client,
    least=_least,
    against="blocking PyVISA",
    budgets=(None,) * len(LATENCIES_S),
    added_us=ADDED_US,
)
