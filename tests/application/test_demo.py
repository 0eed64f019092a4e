"""The demonstration, shortened, from end to end."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from .commands import benchtree, only_run


def test_demo(tmp_path: Path) -> None:
    """It exits 0; the recording holds all instruments, and only the unplugged one has holes."""
    done = benchtree("demo", "--for", "6", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path / "runs")
    assert f"The run's folder:  {run.relative_to(tmp_path)}" in done.stdout
    assert f"sqlite3 {run.relative_to(tmp_path)}/samples.sqlite 'SELECT" in done.stdout
    for said in ("bus lost", "state=OPEN", "state=CLOSED", "failed more often"):
        assert said in done.stderr
    # Who answers is asked before every return to service.
    assert done.stderr.count("benchtree MM6 SIM-MM-1") == 2

    metadata = json.loads((run / "metadata.json").read_text())
    devices = metadata["recordings"]["main"]["devices"]
    with closing(sqlite3.connect(run / "samples.sqlite")) as database:
        query = "SELECT device, count(*), max(t_mono_ns) FROM samples GROUP BY device"
        kept = {name: (count, last_ns) for name, count, last_ns in database.execute(query)}
    assert (
        set(kept)
        == set(devices)
        == {
            "oven",
            "psu",
            "dmm",
            "mfc_nitrogen",
            "mfc_argon",
            "mfc_oxygen",
        }
    )
    for name, counts in devices.items():
        assert counts["samples_expected"] == counts["samples_read"] + counts["samples_missing"]
        assert counts["samples_read"] == kept[name][0]
        assert (counts["samples_missing"] == 0) == (name != "dmm")
    # It was let back in, and read to the end.
    assert abs(kept["dmm"][1] - kept["psu"][1]) < 0.5e9
