"""`benchtree run` on a machine where others have the port: refused, waiting, preempting."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benchtree import ConfigError, load_config
from tests.application.benches import supply_and_oven, write_bench
from tests.application.commands import Running


def _benches(tmp_path: Path, addresses: list[str]) -> tuple[Path, Path]:
    """Write two benches on the same ports: "real", and "urgent" of priority 5."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = write_bench(tmp_path / "first", addresses)
    second = write_bench(tmp_path / "second", addresses)
    text = second.read_text().replace('name = "real"', 'name = "urgent"\npriority = 5', 1)
    second.write_text(text)
    return first, second


def test_two_runs(tmp_path: Path) -> None:
    """The more urgent run gets the ports with all outputs off; the other one gets them back."""
    with supply_and_oven() as devices:
        first, second = _benches(tmp_path, list(devices.addresses))
        with Running("run", first, cwd=first.parent) as owner:
            owner.wait_for("the output is on")
            with Running("run", second, cwd=second.parent) as refused:
                assert refused.end() == 1
            assert any("--wait waits for it" in line for line in refused.lines)
            assert any("'real' (process " in line for line in refused.lines)
            with Running("run", second, "--wait", cwd=second.parent) as urgent:
                urgent.wait_for("it is owned by tree 'real' (process ")
                owner.wait_for("bus lent")
                urgent.wait_for("the output is on")
                urgent.send(signal.SIGINT)
                assert urgent.end() == 130
            owner.wait_for("bus returned")
            assert devices.call(0, "ask_model", {"name": "output_on"}) is False
            owner.send(signal.SIGTERM)
            assert owner.end() == 143


def test_interrupted_while_waiting(tmp_path: Path) -> None:
    """Ctrl-C ends a run that still waits for a port; the owner goes on."""
    with supply_and_oven() as devices:
        first, second = _benches(tmp_path, list(devices.addresses))
        with Running("run", first, cwd=first.parent) as owner:
            owner.wait_for("the output is on")
            with Running("run", second, "--wait", "--priority=-1", cwd=second.parent) as waiting:
                waiting.wait_for("it is free when that tree ends")
                waiting.send(signal.SIGINT)
                assert waiting.end() == 130
            assert devices.call(0, "ask_model", {"name": "output_on"}) is True
            owner.send(signal.SIGINT)
            assert owner.end() == 130


def test_keys(tmp_path: Path) -> None:
    """The keys are understood, and mistakes in them are named."""
    path = write_bench(tmp_path, ["tcp://192.0.2.1:1", "tcp://192.0.2.2:1"])
    text = path.read_text()
    path.write_text(text.replace("[tree]", "[tree]\npriority = 5\nwait = true", 1))
    tree = load_config(path).tree
    assert (tree.priority, tree.wait) == (5, True)
    path.write_text(text.replace("[tree]", '[tree]\npriority = "high"\nwait = 1', 1))
    with pytest.raises(ConfigError) as wrong:
        load_config(path)
    assert "tree.priority: must be a whole number" in str(wrong.value)
    assert "tree.wait: must be true or false" in str(wrong.value)
