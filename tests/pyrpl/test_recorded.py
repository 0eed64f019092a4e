"""A board in a bench file, and recorded beside a furnace."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors.instruments.red_pitaya import RedPitaya
from benchtree import ConfigError, load_config, open_tree
from benchtree.repeatable import SimulationError
from benchtree.simulate import simulate
from benchtree.spec import BusSpec, InstrumentSpec, TreeSpec
from recorder import record
from transports import AddressError

BENCH = """
[tree]
name = "cell"

[bus.board]
address = "{address}"

[bus.furnace]
address = "sim://furnace"

[instrument.rp]
bus = "board"
driver = "red_pitaya"

[instrument.oven]
bus = "furnace"
driver = "scpi.temperature_controller"

[recording.main]
rate_hz = 100
parameters = ["rp.pid0.error", "rp.sampler.in1", "oven.temperature"]
sinks = ["sqlite"]
"""


def _file(folder: Path, address: str, *changes: tuple[str, str]) -> Path:
    text = BENCH.format(address=address)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "bench.toml"
    path.write_text(text)
    return path


def test_a_bench_file_knows_the_modules(tmp_path: Path) -> None:
    """The readings of a board's modules are known by their dotted names."""
    config = load_config(_file(tmp_path, "redpitaya://rp-f0a1.local?config_name=cell"))
    assert config.tree.instruments[0].driver is RedPitaya


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("rp.pid0.error", "rp.pid3.error", "no instrument is named 'rp.pid3'"),
        ("rp.pid0.error", "rp.pid0.eror", "rp.pid0 has no parameter 'eror'"),
        ('driver = "red_pitaya"', 'driver = "scpi.multimeter"', "the driver for it is red_pitaya"),
        ("redpitaya://rp", "tcp://rp:5025", "write redpitaya://HOST"),
        ("redpitaya://rp", "redpitaya://rp?gui=yes", "known are config_name, port, ssh, user"),
    ],
)
def test_mistakes_in_a_bench_file(tmp_path: Path, before: str, after: str, says: str) -> None:
    """A wrong module, parameter, driver or address is named, with what would be right."""
    with pytest.raises(ConfigError) as wrong:
        load_config(_file(tmp_path, "redpitaya://rp", (before, after)))
    assert says in str(wrong.value)


def test_simulated_time_is_refused() -> None:
    """Under `simulate` a board is refused, and what to use instead is said."""
    spec = TreeSpec(
        buses=[BusSpec(name="board", address="redpitaya://sim")],
        instruments=[InstrumentSpec(name="rp", bus="board", driver=RedPitaya)],
    )

    async def main(bench: object) -> None:
        del bench

    with pytest.raises(SimulationError, match="use redpitaya://sim in real time instead"):
        simulate(1, main, bench=spec)


async def test_virtual_time_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """A tree under a virtual clock refuses a board, and says what to use instead."""
    async with open_tree() as tree:
        with pytest.raises(AddressError, match="use redpitaya://sim in real time instead"):
            await tree.add("rp", RedPitaya, "redpitaya://sim")


@pytest.mark.heavy
async def test_an_error_signal_is_recorded_beside_a_furnace(tmp_path: Path) -> None:
    """`redpitaya://sim` starts an emulator; a controller's error is recorded 100 times a second."""
    async with open_tree(_file(tmp_path, "redpitaya://sim")) as tree:
        rp = tree.get("rp", RedPitaya)
        await rp.pid0.input.set("in1")
        await rp.pid0.setpoint.set(0.25)
        await rp.sampler.in1.get()
        parameters = ["rp.pid0.error", "rp.sampler.in1", "oven.temperature"]
        read = 0
        async with record(tree, parameters=parameters, rate_hz=100, duration=2.0) as recording:
            async for batch in recording.stream:
                for sample in batch:
                    read += 1
                    if str(sample.parameter) == "error":
                        assert sample.device == "rp.pid0"
                        assert sample.unit == "V"
                        assert sample.value == pytest.approx(-0.25, abs=0.05)
        summary = recording.summary
    assert summary.samples_expected == 600
    # On a machine that has nothing else to do: all of them.
    assert read == summary.samples_emitted > 450


@pytest.mark.heavy
async def test_a_simulated_tree_emulates_its_boards(tmp_path: Path) -> None:
    """With `sim=True` a board's address is not asked: an emulator stands in for it."""
    path = _file(tmp_path, "redpitaya://rp-f0a1.invalid")
    async with open_tree(path, sim=True) as tree:
        rp = tree.get("rp", RedPitaya)
        await rp.asg0.setup(frequency=1e3, amplitude=0.5, output="out1")
        trace = await rp.scope.single(input1="asg0", duration=0.01)
        assert trace.summaries[0].high == pytest.approx(0.5, abs=0.01)
