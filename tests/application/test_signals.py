"""Ctrl-C and SIGTERM end a run in order: outputs off, run closed, exit code told."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from .benches import supply_and_oven, write_bench
from .commands import Running, only_run, wait_for_rows

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BUDGET_S = 1.0 + 2.0 + 1.5
"""Draining, driving safe, closing; and a little for a busy machine is added below."""


@pytest.mark.parametrize("hung", [False, True], ids=["all answer", "another device hangs"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_signal_drives_the_supply_safe(
    tmp_path: Path, number: signal.Signals, *, hung: bool
) -> None:
    """The output is off at the device, the run is closed, the exit code is 128 + signal."""
    with supply_and_oven() as devices:
        bench = write_bench(tmp_path, devices.addresses)
        with Running("run", bench, cwd=tmp_path) as running:
            running.wait_for("the output is on")
            running.wait_for("recording")
            wait_for_rows(only_run(tmp_path / "runs"))
            assert devices.call(0, "ask_model", {"name": "output_on"}) is True
            if hung:
                devices.call(1, "hang", {"unit": None})
            began_s = time.monotonic()
            running.send(number)
            assert running.end() == 128 + number
            assert time.monotonic() - began_s < BUDGET_S + 2.0
        assert devices.call(0, "ask_model", {"name": "output_on"}) is False
    metadata = json.loads((only_run(tmp_path / "runs") / "metadata.json").read_text())
    assert metadata["exit_status"] == 128 + number
    assert metadata["outcome"] == number.name
    assert metadata["finished_utc"] is not None
    assert metadata["safe_state_failures"] == (["furnace"] if hung else [])
    recording = metadata["recordings"]["main"]
    assert recording["samples_read"] == recording["samples_emitted"]
    assert recording["devices"]["psu"]["samples_missing"] == 0
    assert not any("Traceback" in line for line in running.lines)


def test_second_signal_skips_draining_but_not_safety(tmp_path: Path) -> None:
    """With a minute of accepted writes waiting, a second Ctrl-C ends at once, output off."""
    with supply_and_oven() as devices:
        bench = write_bench(tmp_path, devices.addresses, start="queue", drain_s=60.0, rate_hz=1)
        devices.call(0, "set_latency", {"latency_s": 0.3})
        with Running("run", bench, cwd=tmp_path) as running:
            running.wait_for("the output is on")
            running.send(signal.SIGINT)
            running.wait_for("stopping")
            assert devices.call(0, "ask_model", {"name": "output_on"}) is True
            began_s = time.monotonic()
            running.send(signal.SIGINT)
            assert running.end() == 130
            assert time.monotonic() - began_s < 10.0
        assert devices.call(0, "ask_model", {"name": "output_on"}) is False
