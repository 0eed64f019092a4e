"""Service requests under VISA: who makes one is asked at once, where the library tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio
from attrs import evolve
from pyvisa.constants import EventMechanism, EventType, StatusCode
from pyvisa.highlevel import open_visa_library

from actors import Acknowledge, Event, ServiceRequestsUntold
from actors.instruments.scpi import SignalGenerator, SignalGeneratorModel
from actors.parameter import Operation
from benchtree import open_tree
from tests.support.visa_sim import plug_into_visa
from transports import GPIB, SimLine, SimReply

RESOURCE = "GPIB9::5::INSTR"
RARE = evolve(GPIB, status_poll_s=30.0)
SWEEP_S = 0.2
CHECK_S = 0.002


class Requesting(SignalGenerator):
    """A generator that requests service when its sweep is over."""

    sweep = Operation("INIT", abort="ABOR", acknowledge=Acknowledge.SERVICE_REQUEST)


class Locked(SignalGeneratorModel):
    """A generator that two threads may look at."""

    def __init__(self) -> None:
        """Switch the power on."""
        self._lock = threading.Lock()
        super().__init__()

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer one after the other."""
        with self._lock:
            return super().receive(data, now_s)

    def requests_service(self) -> bool:
        """Return whether it requests service now."""
        self.receive(b"*WAI\n", time.monotonic())
        return bool(self.status_byte & 64)


class Requests:
    """Stands in for what NI's library does about service requests: a thread that calls back.

    It polls the instrument, as a board's driver does, and calls each time the instrument
    begins to request service; not again before its status byte was read.

    Attributes:
        read: How often the status byte was read.
    """

    def __init__(self, model: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
        """Teach pyvisa-sim's library the functions."""
        self.read = 0
        self.enabled = False
        self._model = model
        self._handler: Callable[..., int] | None = None
        self._armed = threading.Event()
        self._armed.set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        library = open_visa_library("@sim")
        for name in ("install_handler", "enable_event", "read_stb", "uninstall_all_visa_handlers"):
            monkeypatch.setattr(library, name, getattr(self, name), raising=False)

    def install_handler(
        self, session: int, kind: EventType, handler: Callable[..., int], user: Any
    ) -> tuple[Any, ...]:
        """Take the handler."""
        assert kind is EventType.service_request
        self._handler = handler
        return handler, user, handler, StatusCode.success

    def enable_event(self, session: int, kind: EventType, how: EventMechanism) -> StatusCode:
        """Begin to watch."""
        assert how is EventMechanism.handler
        self.enabled = True
        self._thread.start()
        return StatusCode.success

    def read_stb(self, session: int) -> tuple[int, StatusCode]:
        """Read the status byte; there can be another request."""
        self.read += 1
        self._armed.set()
        return self._model.status_byte, StatusCode.success

    def uninstall_all_visa_handlers(self, session: int | None) -> None:
        """Stop watching."""
        self.end()

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        requested = False
        while not self._ended.wait(CHECK_S):
            before, requested = requested, self._model.requests_service()
            if requested and not before and self._armed.is_set() and self._handler is not None:
                self._armed.clear()
                assert self._handler(1, EventType.service_request, 2, None) == 0


@pytest.fixture
def model() -> Locked:
    """Return the generator."""
    return Locked()


@pytest.fixture
def requests(model: Locked, monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """Return a library that tells of service requests."""
    requests = Requests(model, monkeypatch)
    yield requests
    requests.end()


async def swept(model: Locked, times: int, poll_s: float) -> tuple[float, list[Event]]:
    """Sweep so often on a GPIB board under VISA; return how long each took, and what was said."""
    said: list[Event] = []
    profile = evolve(RARE, status_poll_s=poll_s)
    with plug_into_visa(SimLine(model), RESOURCE):
        async with open_tree(observer=said.append) as tree:
            address = f"visa://{RESOURCE}?backend=@sim"
            generator = await tree.add("generator", Requesting, address, profile=profile)
            await generator.sweep_time.set(SWEEP_S)
            began_s = trio.current_time()
            with trio.fail_after(20.0):
                for _ in range(times):
                    await generator.sweep()
            return (trio.current_time() - began_s) / times, said


async def test_asked_at_once(model: Locked, requests: Requests) -> None:
    """Sweep after sweep ends when the device says so, though its next poll is far away."""
    took_s, said = await swept(model, 3, poll_s=30.0)
    assert SWEEP_S <= took_s < 3.0
    assert requests.read == 3
    assert not any(isinstance(each, ServiceRequestsUntold) for each in said)


async def test_a_library_that_does_not_tell(model: Locked) -> None:
    """Where the library tells of none, the status is asked for, and that is said once."""
    took_s, said = await swept(model, 2, poll_s=0.05)
    assert SWEEP_S <= took_s < 3.0
    (untold,) = [each for each in said if isinstance(each, ServiceRequestsUntold)]
    assert (untold.instrument, untold.command, untold.poll_s) == ("generator", "sweep", 0.05)
