"""Tasks that hold everybody up are named."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from actors import Event
from benchtree.loop_watch import LoopHeldUp, watching_loop
from tests.application.commands import benchtree

SLOW = """
import time, trio

async def dawdle(tree):
    await trio.sleep(0.2)
    time.sleep(0.05)
    await trio.sleep_forever()
"""


async def _dawdle(for_s: float) -> None:
    await trio.sleep(0.0)
    time.sleep(for_s)  # noqa: ASYNC251 - what is to be noticed


async def test_slow_step_is_named() -> None:
    """A step over 10 ms is told as it happens, with its task's name and how long it took."""
    seen: list[Event] = []
    with watching_loop(seen.append):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_dawdle, 0.05, name="the dawdler")
            nursery.start_soon(trio.sleep, 0.01)
    held_up = [each for each in seen if isinstance(each, LoopHeldUp)]
    (slow,) = [each for each in held_up if each.task == "the dawdler"]
    assert slow.took_s >= 0.05
    await _dawdle(0.02)
    assert len(held_up) == len(seen)


async def test_begun_amid_a_step() -> None:
    """The step that watching begins in is timed from there, not from when the machine began."""
    seen: list[Event] = []
    with watching_loop(seen.append):
        await trio.lowlevel.checkpoint()
    assert all(isinstance(each, LoopHeldUp) and each.took_s < 5.0 for each in seen)


async def test_waiting_is_no_step() -> None:
    """A task that waits holds nobody up."""
    seen: list[Event] = []
    with watching_loop(seen.append):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.1, name="the patient")
    assert not [
        each for each in seen if isinstance(each, LoopHeldUp) and each.task == "the patient"
    ]


def test_run_reports_live(tmp_path: Path) -> None:
    """`benchtree run --watch-loop` logs the task that dawdles; without it nothing is said."""
    (tmp_path / "slow_code.py").write_text(SLOW)
    (tmp_path / "bench.toml").write_text(
        '[bus.supply]\naddress = "sim://psu"\n[instrument.psu]\nbus = "supply"\n'
        'driver = "scpi.power_supply"\n[actor.slow]\nstart = "slow_code:dawdle"\n'
    )
    run = ["run", "bench.toml", "--plain", "--for", "1"]
    watched = benchtree(*run, "--watch-loop", cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    said = [line for line in watched.stderr.splitlines() if "loop held up" in line]
    assert any("slow" in line for line in said), watched.stderr
    assert "loop held up" not in benchtree(*run, cwd=tmp_path).stderr
