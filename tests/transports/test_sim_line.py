"""The simulated line: order, latency and faults, as bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from transports import EchoModel, MemoryHost, SimLine, SimReply


class Units:
    """Answers `a:text` with `a:text` from unit a, and so on."""

    def __init__(self) -> None:
        """Have done nothing."""
        self.done: list[bytes] = []

    def receive(self, data: bytes, now_s: float) -> Sequence[SimReply]:
        """Answer each line from the unit it names."""
        del now_s
        lines = data.splitlines(keepends=True)
        self.done += lines
        return [SimReply(line, unit=line.split(b":")[0].decode()) for line in lines]

    def reset(self, now_s: float) -> None:
        """Forget what was done."""
        del now_s
        self.done.clear()


def echo(text: str) -> bytes:
    """Return the request that is answered with `text`."""
    return f"ECHO {text}\n".encode()


def test_latency_and_order() -> None:
    """Replies come after the latency, a quick one never before a slow one asked earlier."""
    line = SimLine(EchoModel(), latency_s=0.1)
    assert line.receive(b"WAIT 1 slow\n", 10.0) == [(11.1, b"slow\n")]
    assert line.receive(echo("quick"), 10.5) == [(11.1, b"quick\n")]
    line.latency_s = 0.0
    assert line.receive(echo("next"), 20.0) == [(20.0, b"next\n")]


def test_requests_are_remembered() -> None:
    """Everything received is kept with its instant, answered or not."""
    line = SimLine(EchoModel())
    line.receive(b"NO", 1.0)
    line.unplug()
    line.receive(b"TE\n", 2.0)
    assert list(line.requests) == [(1.0, b"NO"), (2.0, b"TE\n")]


def test_late_delays_what_follows() -> None:
    """A device answers one after another: a late reply holds up the next."""
    line = SimLine(EchoModel())
    line.late(0.5)
    assert line.receive(echo("a") + echo("b"), 0.0) == [(0.5, b"a\n"), (0.5, b"b\n")]


def test_one_fault_for_each_reply() -> None:
    """Faults meet replies in the order they were armed, one each, as often as asked."""
    line = SimLine(EchoModel())
    line.lose(2)
    line.duplicate()
    line.foreign(b"other\n")
    line.truncate()
    line.garble()
    received = [data for _, data in line.receive(b"".join(map(echo, "1234567")), 0.0)]
    assert received == [b"3\n3\n", b"other\n", b"5", b"\xb6\n", b"7\n"]


def test_fault_waits_for_its_unit() -> None:
    """A fault aimed at a unit leaves the other units' replies alone."""
    line = SimLine(Units())
    line.lose(unit="b")
    assert line.receive(b"a:1\nb:1\nb:2\n", 0.0) == [(0.0, b"a:1\n"), (0.0, b"b:2\n")]


def test_no_fault_of_no_reply() -> None:
    """A fault that would meet no reply is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        SimLine(EchoModel()).lose(0)


def test_hung_line_does_nothing() -> None:
    """A hung device neither carries out nor answers; released, it forgets."""
    model = EchoModel()
    line = SimLine(model)
    line.hang()
    assert line.receive(echo("x"), 0.0) == []
    line.unhang()
    assert model.heard == 0
    assert line.collect(1.0) == []
    assert line.receive(echo("y"), 1.0) == [(1.0, b"y\n")]


def test_hung_line_answers_later() -> None:
    """A hung device released with `answer` answers what it had swallowed, then the rest."""
    line = SimLine(EchoModel())
    called: list[None] = []
    unwatch = line.watch(lambda: called.append(None))
    line.hang()
    line.receive(echo("x"), 0.0)
    line.unhang(answer=True)
    assert len(called) == 1
    assert line.collect(2.0) == [(2.0, b"x\n")]
    assert line.collect(3.0) == []
    unwatch()
    line.unplug()
    assert len(called) == 1


def test_hung_unit_withholds() -> None:
    """A hung unit carries out what it is told and is silent; its neighbour answers."""
    model = Units()
    line = SimLine(model)
    line.hang("b")
    assert line.receive(b"b:1\na:1\n", 0.0) == [(0.0, b"a:1\n")]
    assert model.done == [b"b:1\n", b"a:1\n"]
    line.unhang(answer=True)
    assert line.collect(5.0) == [(5.0, b"b:1\n")]


def test_unplug_and_replug() -> None:
    """An unplugged device hears nothing; another one can come in its place."""
    line = SimLine(EchoModel("first"))
    changes: list[bool] = []
    line.watch(lambda: changes.append(line.plugged))
    line.unplug()
    line.unplug()
    assert line.receive(b"*IDN?\n", 0.0) == []
    line.replug(EchoModel("second"))
    line.replug()
    assert changes == [False, True]
    assert line.receive(b"*IDN?\n", 0.0) == [(0.0, b"second\n")]


def test_reset() -> None:
    """A power cycle loses half a request."""
    model = EchoModel()
    line = SimLine(model)
    line.receive(b"ECHO lo", 0.0)
    line.reset()
    assert line.receive(b"st\n" + echo("x"), 1.0) == [(1.0, b"x\n")]
    assert model.resets == 1


@pytest.mark.parametrize(
    ("request_", "unplug_s", "over", "at_s"),
    [
        pytest.param(echo("soon"), None, True, 0.1, id="in time"),
        pytest.param(b"WAIT 1 late\n", None, False, 0.5, id="too late"),
        pytest.param(b"", None, False, 0.5, id="silent"),
        pytest.param(echo("soon"), 0.05, True, 0.05, id="unplugged"),
        pytest.param(b"", 0.05, True, 0.05, id="unplugged while silent"),
    ],
)
async def test_waits_no_longer_than_told(
    autojump_clock: MockClock, request_: bytes, unplug_s: float | None, over: bool, at_s: float
) -> None:
    """A limited wait ends with the bytes, with the connection or at its limit."""
    del autojump_clock
    line = SimLine(EchoModel(), latency_s=0.1)
    stream = await MemoryHost(line).connect()
    started_s = trio.current_time()
    stream.write_nowait(request_)
    async with trio.open_nursery() as nursery:
        if unplug_s is not None:
            nursery.start_soon(_unplug_after, line, unplug_s)
        assert await stream.wait_readable_until(started_s + 0.5) is over
        assert trio.current_time() - started_s == pytest.approx(at_s)


async def _unplug_after(line: SimLine, delay_s: float) -> None:
    await trio.sleep(delay_s)
    line.unplug()
