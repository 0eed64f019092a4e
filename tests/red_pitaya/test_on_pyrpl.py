"""The unmodified PyRPL library on the simulated board."""

from __future__ import annotations

import cmath
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import numpy as np
import pytest
import trio

from transports.sim import SimProcess, SimSpec

from .board import Floats, fit

CUTOFF_HZ = 20e3


@pytest.fixture
async def board() -> AsyncGenerator[str]:
    """Serve a simulated board in a process of its own and yield its port."""
    plant = {"cutoff_hz": CUTOFF_HZ, "noise_v": 3e-4}
    spec = SimSpec(
        model="actors.instruments.red_pitaya:RedPitayaModel",
        arguments={"in1": plant, "in2": {"cutoff_hz": None, "noise_v": 3e-4}},
        one_client=True,
    )
    async with SimProcess([spec]) as process:
        yield process.lines[0].address.rpartition(":")[2]


async def take(step: str, port: str) -> dict[str, Any]:
    """Let a program with PyRPL take one step, and return what it saw."""
    command = [sys.executable, "-m", "tests.red_pitaya.session", step, port]
    run = partial(trio.run_process, command, capture_stdout=True, capture_stderr=True, check=False)
    with trio.fail_after(60):
        done: subprocess.CompletedProcess[bytes] = await run()
    assert done.returncode == 0, done.stderr.decode()
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def frequency_hz(times_s: Floats, volts: Floats, near_hz: float) -> float:
    """Return the frequency of a sine, from how its phase moves through the trace."""
    half = len(times_s) // 2
    first, second = (fit(times_s[part], volts[part], near_hz) for part in halves(half))
    apart_s = float(times_s[half] - times_s[0])
    return near_hz + cmath.phase(second / first) / (2 * cmath.pi * apart_s)


def halves(half: int) -> tuple[slice, slice]:
    """Return slices of the first and the second half."""
    return slice(0, half), slice(half, None)


@pytest.mark.heavy
async def test_sine_through_the_loop(board: str) -> None:
    """1 kHz of 0.5 V: the frequency is right within 0.1 %, the amplitude within 1 %."""
    seen = await take("loop_back", board)
    times_s = np.array(seen["times_s"])
    for volts in seen["volts"]:
        values = np.array(volts)
        assert frequency_hz(times_s, values, 1000.0) == pytest.approx(1000.0, rel=1e-3)
        assert abs(fit(times_s, values, 1000.0)) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.heavy
async def test_edge_of_arbitrary_data(board: str) -> None:
    """A saw tooth loaded as data is shown from the edge at which it passes the threshold."""
    seen = await take("triggered", board)
    times_s, volts = np.array(seen["times_s"]), np.array(seen["volts"][1])
    after = (times_s >= 0) & (times_s < 70e-6)
    expected = 0.2 + 2 * 0.8 * 5000.0 * times_s[after]
    assert np.abs(volts[after] - expected).max() < 0.005


@pytest.mark.heavy
async def test_rolling(board: str) -> None:
    """A rolling scope shows the newest samples, less what changed while they were read."""
    seen = await take("rolling", board)
    volts = np.array(seen["volts"])
    span_s = float(np.ptp(np.array(seen["times_s"])))
    assert 0.3 < span_s < 1.1
    assert np.quantile(np.abs(volts), 0.1) == pytest.approx(0.5, abs=0.01)
    edges = np.count_nonzero(np.diff(np.sign(volts)))
    assert edges == pytest.approx(10 * span_s, abs=2)


@pytest.mark.heavy
async def test_sweep_matches_theory(board: str) -> None:
    """The network analyser finds the first-order filter within 1 % at every frequency."""
    seen = await take("sweep", board)
    response = np.array(seen["real"]) + 1j * np.array(seen["imaginary"])
    theory = 1 / (1 + 1j * np.array(seen["hz"]) / CUTOFF_HZ)
    assert np.abs(response / theory - 1).max() < 0.01


@pytest.mark.heavy
async def test_loop_settles(board: str) -> None:
    """A loop around the plant reaches each set point; paused it stays where it is."""
    seen = await take("control", board)
    assert seen["before"] == pytest.approx(0.25, abs=0.003)
    assert seen["after"] == pytest.approx(-0.4, abs=0.003)
    assert seen["integral"] == pytest.approx(-0.4, abs=0.003)
    assert seen["paused"] == pytest.approx(-0.4, abs=0.003)
    assert seen["resumed"] == pytest.approx(0.1, abs=0.003)


@pytest.mark.heavy
async def test_quadratures(board: str) -> None:
    """The sampler shows the quadratures of the modulation, turned by the phase."""
    seen = await take("quadratures", board)
    expected = 0.25 * np.exp(1j * np.radians(40.0))
    assert complex(seen["i"], seen["q"]) == pytest.approx(expected, abs=0.01)


@pytest.mark.heavy
async def test_housekeeping(board: str) -> None:
    """LEDs, pins and slow outputs keep what they are set to, and time passes."""
    seen = await take("housekeeping", board)
    assert (seen["led"], seen["pin"]) == (0x5A, True)
    assert seen["dac"] == pytest.approx(0.9, abs=0.001)
    assert 0.2 <= seen["passed_s"] < 20.0


@pytest.mark.heavy
async def test_spectrum(board: str) -> None:
    """The spectrum analyser finds the line where it is."""
    seen = await take("spectrum", board)
    assert seen["hz"] == pytest.approx(200e3, rel=0.01)
