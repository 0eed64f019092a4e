"""What becomes of callers and settings when the worker or its board goes away."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import trio

from actors import BusLost, BusOpened, Cause, CommandError, Event, SettingsRestored
from actors.instruments.red_pitaya import RedPitaya, RedPitayaModel
from benchtree import open_tree
from tests.pyrpl.boards import QUICK, Bench, bench, emulated, eventually
from tests.pyrpl.kit import alive, lateness
from transports import PortOwnedError

pytestmark = pytest.mark.heavy


async def _back(b: Bench, pid: int, within_s: float) -> None:
    """Wait until another worker serves."""
    with trio.fail_after(within_s):
        while True:
            try:
                await b.rp.get("hk.led")
            except CommandError:
                await trio.sleep(0.02)
            else:
                break
    assert b.pid != pid


async def test_a_killed_worker_is_replaced_and_settings_are_restored() -> None:
    """`kill -9`: callers fail within 100 ms, another worker serves in 2 s, settings as before."""
    began_s = trio.current_time()
    async with bench(breaker=None) as b:
        # Not slower than twice the first start, on a machine that takes over a second for that.
        back_s = max(2.0, 2.0 * (trio.current_time() - began_s))
        rp = b.rp
        await rp.asg0.setup(frequency=1e3, amplitude=0.25)
        await rp.pid0.setpoint.set(0.125)
        await rp.iq2.amplitude.set(0.375)
        # High for three quarters of the time, low for one: unlike any waveform.
        await rp.asg1.load(np.repeat([0.25, 0.25, 0.25, -0.75], 4096))
        await rp.asg1.setup(frequency=1e3, amplitude=1.0)
        await rp.asg1.trigger()
        await rp.scope.single(input2="asg1", duration=0.01)
        pid = b.pid
        failed: list[float] = []

        async def acquire() -> None:
            with pytest.raises(CommandError) as lost:
                await rp.scope.single(duration=8.0)
            assert lost.value.cause is Cause.TRANSPORT
            assert lost.value.may_have_executed
            failed.append(trio.current_time())

        async def sweep() -> None:
            with pytest.raises(CommandError):
                await rp.network_analyzer.sweep(1e3, 1e4, 1000, output="off").result()
            failed.append(trio.current_time())

        async with lateness() as late, trio.open_nursery() as nursery:
            nursery.start_soon(acquire)
            nursery.start_soon(sweep)
            await trio.sleep(0.3)
            # Somebody else may have touched the board meanwhile.
            await rp.set("asg0.frequency", 5e3)
            killed_s = trio.current_time()
            os.kill(pid, signal.SIGKILL)
        assert max(failed) - killed_s < 0.1 + late.worst_s
        await _back(b, pid, 20.0)
        assert trio.current_time() - killed_s < back_s + late.worst_s
        assert await rp.asg0.frequency.get() == pytest.approx(1e3, abs=0.1)
        assert await rp.pid0.setpoint.get() == pytest.approx(0.125)
        assert await rp.iq2.amplitude.get() == pytest.approx(0.375)
        # The acquisition's settings are as before, too.
        assert await rp.scope.input2.get() == "asg1"
        assert await rp.scope.duration.get() == pytest.approx(8.59, abs=0.01)
        levels = (await rp.scope.single(duration=0.01)).summaries[1]
        assert (levels.low, levels.high) == pytest.approx((-0.75, 0.25), abs=0.01)
        await rp.asg1.waveform.set("square")
        await rp.asg1.setup(frequency=2e3)
        levels = (await rp.scope.single()).summaries[1]
        assert (levels.low, levels.high) == pytest.approx((-1.0, 1.0), abs=0.01)
        restored = [each for each in b.events if isinstance(each, SettingsRestored)]
        assert {each.instrument for each in restored} >= {"rp.asg0", "rp.pid0"}
    assert not alive(pid)


async def test_a_stalled_board_is_noticed_and_its_worker_replaced() -> None:
    """A board that answers nothing is found out within 3 s, though nobody asks it."""
    async with bench() as b:
        pid = b.pid
        seen = len(b.events)
        async with lateness() as late:
            b.line.hang()
            began_s = trio.current_time()
            await eventually(lambda: _lost(b, seen), 8.0)
            taken_s = trio.current_time() - began_s
        assert taken_s < 3.0 + late.worst_s
        b.line.unhang()
        await _back(b, pid, 20.0)
    assert not alive(pid)


async def test_a_dropped_connection_is_a_fault_and_no_busy_process() -> None:
    """When the server drops, the worker ends; nothing is left at full load."""
    async with bench() as b:
        pid = b.pid
        seen = len(b.events)
        b.line.unplug()
        await eventually(lambda: _lost(b, seen) and not alive(pid), 8.0)
        # Workers come and go in vain; none of them stays at full load.
        before = _used_s()
        await trio.sleep(2.0)
        shares = [(used - before[pid]) / 2.0 for pid, used in _used_s().items() if pid in before]
        assert all(share < 0.9 for share in shares)
        with pytest.raises(CommandError) as refused:
            await b.rp.get("hk.led")
        assert refused.value.cause is Cause.BREAKER
        assert refused.value.retry_after_s is not None
        b.line.replug()
        await _back(b, pid, 20.0)


def _lost(b: Bench, since: int) -> bool:
    """Return whether the bus was lost after so many events."""
    return any(isinstance(each, BusLost) for each in b.events[since:])


def _used_s() -> dict[int, float]:
    """Return the processor time that each child of this program has used, by process id."""
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            told = stat.read_text().rpartition(")")[2].split()
            if int(told[1]) == os.getpid():
                ticks = int(told[11]) + int(told[12])
                used[int(stat.parent.name)] = ticks / os.sysconf("SC_CLK_TCK")
    return used


async def test_garbage_from_the_board_is_a_fault() -> None:
    """A server that answers nonsense is a board that is lost, not a value."""
    async with bench() as b:
        pid = b.pid
        b.line.foreign(b"\xaa" * 12)
        with pytest.raises(CommandError):
            await b.rp.hk.led.get()
        await _back(b, pid, 20.0)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("redpitaya://127.0.0.1?port=9&ssh=false", "127.0.0.1:9 refused the connection"),
        ("redpitaya://nobody.invalid?ssh=false", "no host is called nobody.invalid"),
    ],
)
async def test_a_start_that_fails_says_why(address: str, says: str) -> None:
    """No server, or no such host: the bus says which, and goes on trying."""
    lost: list[BusLost] = []

    def observe(event: Event) -> None:
        if isinstance(event, BusLost):
            lost.append(event)

    async with open_tree(observer=observe) as tree:
        await tree.add("rp", RedPitaya, address, breaker=QUICK)
        await eventually(lambda: bool(lost), 20.0)
    assert says in lost[0].reason
    assert "\n" not in lost[0].reason


async def test_a_named_configuration_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a configuration's name, settings outlive the power of the board; without, nothing."""
    monkeypatch.setenv("PYRPL_USER_DIR", str(tmp_path))
    for name, kept in (("", False), ("&config_name=cavity", True)):
        found: list[float | None] = []
        for turn in range(2):
            async with emulated() as (_, address), open_tree() as tree:
                rp = await tree.add("rp", RedPitaya, address + name)
                found.append(await rp.asg0.frequency.get())
                if not turn:
                    await rp.asg0.frequency.set(4321.0)
        assert (found[1] == pytest.approx(4321.0, abs=0.1)) is kept
    assert [each.name for each in (tmp_path / "config").glob("cavity*")]


_SECOND = """
import sys
import trio
from actors.instruments.red_pitaya import RedPitaya
from benchtree import open_tree
from transports import PortOwnedError

async def main():
    async with open_tree() as tree:
        try:
            await tree.add("rp", RedPitaya, sys.argv[1])
        except PortOwnedError as error:
            print(error)

trio.run(main)
"""


async def test_the_second_tree_is_told_who_has_the_board() -> None:
    """Another tree or process that wants the board is told its owner; the first goes on."""
    async with bench() as b:
        pid = b.pid
        by_name = b.address.replace("127.0.0.1", "localhost")
        async with open_tree() as other:
            for address in (b.address, by_name):
                with pytest.raises(PortOwnedError, match=r"owned by tree 'bench' \(process \d+\)"):
                    await other.add("rp", RedPitaya, address)
        command = [sys.executable, "-c", _SECOND, b.address]
        second = await trio.run_process(command, capture_stdout=True)
        told = second.stdout.decode().strip()
        assert f"owned by tree 'bench' (process {os.getpid()})" in told
        assert "\n" not in told
        assert b.pid == pid
        assert await b.rp.get("hk.led") is not None
        assert sum(isinstance(each, BusOpened) for each in b.events) == 1


async def test_a_clean_end_is_quiet_and_safe(caplog: pytest.LogCaptureFixture) -> None:
    """The end of a tree takes the outputs off, ends the worker, and draws no complaint of Qt's."""
    caplog.set_level(logging.DEBUG, "transports.pyrpl.child")
    async with emulated() as (line, address):
        async with open_tree() as tree:
            rp = await tree.add("rp", RedPitaya, address)
            await rp.asg0.setup(frequency=1e3, amplitude=0.5, output="out1")
            async with rp.network_analyzer.sweep(1e3, 1e5, 1000, output="out2") as sweep:
                await anext(sweep)
        model = line.model
        assert isinstance(model, RedPitayaModel)
        for output in (0x4038_0004, 0x4037_0004):
            assert model.peek(output, trio.current_time()) == 0
    said = [each.getMessage() for each in caplog.records]
    assert any("the worker says" in each for each in said)
    for complaint in ("QObject", "QThread", "QTimer", "Traceback", "Exception ignored"):
        assert not [each for each in said if complaint in each]


@pytest.mark.parametrize(
    "cycles",
    [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)],
)
@pytest.mark.timeout(1800)
async def test_opening_and_closing_leaves_nothing(
    cycles: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a board is opened and closed: no process, thread or file stays."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    async with emulated() as (_, address):
        pids: set[int] = set()
        held: list[tuple[int, int]] = []
        for _ in range(cycles):
            async with open_tree() as tree:
                rp = await tree.add("rp", RedPitaya, address)
                await rp.asg0.output.set("out1")
                pid = getattr(rp.bus.transport, "pid", None)
                assert pid is not None
                pids.add(pid)
            held.append((_count("fd"), _working()))
        assert len(pids) == cycles
        assert not any(alive(pid) for pid in pids)
        # The first cycle starts what the interpreter keeps, such as a pool of threads.
        assert held[-1][0] <= held[1][0]
        assert held[-1][1] <= held[1][1]
        assert set(scratch.iterdir()) == set()


def _working() -> int:
    """Return how many threads there are, but for those that Trio keeps for the next call.

    How many it keeps depends on which calls happened to overlap, and they end by themselves.
    """
    kept = sum(each.name.startswith("Trio thread") for each in threading.enumerate())
    return _count("task") - kept


def _count(what: str) -> int:
    return len(os.listdir(f"/proc/self/{what}"))  # noqa: PTH208 - a view on a process
