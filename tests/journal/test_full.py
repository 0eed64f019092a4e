"""A disk that is full: what cannot be journaled and does harm is refused, the rest goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from actors import CommandState, RowKind
from recorder import JOURNAL_FILE, check_journal, find_runs, read_entries
from transports import BlockingSimProcess, SimSpec

ROOT = Path(__file__).resolve().parents[2]


def test_full_disk(tmp_path: Path) -> None:
    """Off, emergency and safe state work at once; a new output on is refused with the reason.

    With room again it is let through, the gap is recorded, and no step of a command is missing.
    """
    log = tmp_path / "device.log"
    model = SimSpec(model="tests.journal.valve:WitnessModel", arguments={"log": str(log)})
    with BlockingSimProcess([model]) as devices:
        done = subprocess.run(
            [sys.executable, "-m", "tests.journal.full", str(tmp_path), devices.addresses[0]],
            cwd=ROOT,
            capture_output=True,
            timeout=60.0,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    cause, text = said["refused"]
    assert cause == "journal"
    assert said["failed"] in text
    assert text.startswith("supply: output.set: ")
    assert (said["off"], said["safe"], said["on"]) == (False, None, True)
    assert said["took_s"] < 2.0
    assert said["lost"] == 0

    asked = [line for line in log.read_text().splitlines() if line.startswith("OUTP")]
    outputs = [line for line in asked if "?" not in line.split(";")[0]]
    assert [line.split(";")[0] for line in outputs][:2] == ["OUTP 1", "OUTP 0"]

    (info,) = find_runs(tmp_path)
    path = info.path / JOURNAL_FILE
    batches, seal = said["head"]
    report = check_journal(path, anchor=(batches, seal))
    assert (report.sound, report.ended) == (True, True)
    (gap,) = [row for _, row in read_entries(path, "kind = 'gap'")]
    assert said["failed"] in gap.text
    refused = [row for _, row in read_entries(path, "cause = 'journal'")]
    assert [(row.kind, row.command) for row in refused] == [(RowKind.REFUSED, "output.set")]
    ended = [
        row.command
        for _, row in read_entries(path, "kind = 'command'")
        if row.state is CommandState.COMPLETED
    ]
    assert ended.count("current_limit.set") == said["writes"]
