"""alicatlib itself on a bus of ours; asked for by hand, on Python 3.13: `pytest -m peer`."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from actors.instruments.alicat import AlicatLineModel, make_line
from transports import SimLine, serve_pty

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "alicatlib_hosted.py"


@pytest.mark.peer
async def test_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example sets a flow and reads it, and the flow is off when it has ended."""
    model = make_line("A")
    assert isinstance(model, AlicatLineModel)
    async with serve_pty(SimLine(model), link=tmp_path / "tty") as address:
        await runpy.run_path(str(EXAMPLE))["main"](address)
    flow, setpoint = (float(word) for word in capsys.readouterr().out.split())
    assert setpoint == 50.0
    assert flow == pytest.approx(50.0, abs=0.5)
