"""`benchtree sim`: what it prints, its exit codes, and replaying a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchtree.cli import main
from benchtree.exercise import Exercise
from benchtree.faultplan import FaultPlan

BENCH = """
[bus.supply]
address = "tcp://192.0.2.17:5025"
[bus.furnace]
address = "serial:///dev/ttyUSB0"
[instrument.psu]
bus = "supply"
driver = "scpi.power_supply"
[instrument.oven]
bus = "furnace"
driver = "scpi.temperature_controller"
[recording.main]
rate_hz = 1
parameters = ["psu.current", "temperature"]
"""


@pytest.fixture
def bench_file(tmp_path: Path) -> Path:
    """Write the bench's configuration."""
    path = tmp_path / "bench.toml"
    path.write_text(BENCH)
    return path


def trace_hash(printed: str) -> str:
    """Return the hash in what was printed."""
    (line,) = [line for line in printed.splitlines() if "trace hash" in line]
    return line.split()[-2]


def test_prints_what_happened(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A simulation says how fast it was, what was done to the bench, and what was checked."""
    assert main(["sim", str(bench_file), "--hours", "0.1", "--seed", "7"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in (
        "trace hash",
        "simulated hours per second",
        "faults",
        "late",
        "restarts",
        "breaker openings",
        "720 expected",
        "completed",
        "invariants",
        "no reply to the wrong question",
    ):
        assert name in printed


def test_same_seed_same_trace(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed gives the same hash, another one another."""
    hashes: list[str] = []
    for seed in ("7", "7", "8"):
        assert main(["sim", str(bench_file), "--hours", "0.02", "--seed", seed]) == 0
        hashes.append(trace_hash(capsys.readouterr().out))
    assert hashes[0] == hashes[1] != hashes[2]


def test_many_seeds(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several seeds are simulated at once, each as if it were alone."""
    command = ["sim", str(bench_file), "--hours", "0.02"]
    assert main([*command, "--seed", "8"]) == 0
    alone = trace_hash(capsys.readouterr().out)
    assert main([*command, "--seed", "7", "--seeds", "3", "--jobs", "2"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["seed 7", "seed 8", "seed 9"]
    assert any(line.startswith(f"seed 8: {alone}, ") for line in lines)
    assert last.startswith("3 seeds, ")
    assert last.endswith(", 0 with violations")


@pytest.mark.parametrize(
    "line",
    ['on_reconnect = "quarantine"', "recovery_s = 900", 'identity = { serial = "MY5300" }'],
)
def test_real_bench_is_simulated(
    bench_file: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a file says of real instruments is no violation by their models.

    Nobody rearmed what waits for that, nobody waited for as long as a recovery may take, and a
    model was turned away for the serial number of the instrument that it stands for.
    """
    bench_file.write_text(BENCH.replace("[instrument.psu]", f"[instrument.psu]\n{line}"))
    assert main(["sim", str(bench_file), "--hours", "0.05", "--seed", "3"]) == 0
    assert "0 read" not in capsys.readouterr().out


def test_red_pitaya_is_refused(bench_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with a bus that needs a real process is refused before anything runs."""
    address, driver = "redpitaya://192.0.2.9", "red_pitaya"
    text = BENCH.replace("tcp://192.0.2.17:5025", address).replace("scpi.power_supply", driver)
    bench_file.write_text(text.replace('"psu.current", ', ""))
    for seeds in ("1", "2"):
        assert main(["sim", str(bench_file), "--hours", "0.01", "--seeds", seeds]) == 2
        assert "redpitaya://sim in real time instead" in capsys.readouterr().err


def test_saved_plan_replays(
    bench_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saved plan can be edited, and gives the same trace as long as it is not."""
    plan = tmp_path / "plan.toml"
    command = ["sim", str(bench_file), "--hours", "0.05"]
    assert main([*command, "--save-plan", str(plan)]) == 0
    first = trace_hash(capsys.readouterr().out)
    assert FaultPlan.from_toml(plan.read_text()).faults
    assert main([*command, "--plan", str(plan)]) == 0
    assert trace_hash(capsys.readouterr().out) == first


def test_violation_fails(
    bench_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A violated invariant is printed with the trace and the command that replays it."""

    async def run(self: Exercise) -> None:
        self.bench.invariants.expect(False, 1.0, "mine", "it is wrong")

    monkeypatch.setattr(Exercise, "run", run)
    assert main(["sim", str(bench_file), "--hours", "0.01", "--seed", "3"]) == 1
    printed = capsys.readouterr().err
    assert "1.000000 s: mine: it is wrong" in printed
    assert f"benchtree sim {bench_file} --hours 0.01 --seed 3 --faults heavy" in printed


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--hours", "0"], "--hours"),
        (["--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["--jobs", "-1"], "--jobs is -1; it must be at least 1"),
        (["--seeds", "2", "--save-plan", "plan.toml"], "leave --seeds out"),
        (["--faults", "terrible"], "terrible"),
        (["--plan", "absent.toml"], "absent.toml"),
        (["--plan", "wrong.toml"], "wrong.toml:2: fault[0].kind: 'sabotage' is not known"),
        (["--plan", "target.toml"], "target.toml:4: fault[0].target: no bus is named 'suply'"),
        (["--save-plan", "absent/plan.toml"], "--save-plan"),
    ],
)
def test_wrong_command_line(
    bench_file: Path,
    arguments: list[str],
    wrong: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be simulated is exit code 2 and one line."""
    monkeypatch.chdir(bench_file.parent)
    Path("wrong.toml").write_text('[[fault]]\nkind = "sabotage"\n')
    Path("target.toml").write_text('[[fault]]\nat_s = 1.0\nkind = "lost"\ntarget = "suply"\n')
    assert main(["sim", str(bench_file), *arguments]) == 2
    assert wrong in capsys.readouterr().err
