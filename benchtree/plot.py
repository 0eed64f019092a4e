"""A picture of a run for the logbook.

One panel per unit, time along the bottom. A stretch in which nothing was read is a gap in the
line and shaded; what was lost, came back or was restarted is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recorder import NoSamplesError, load, need, read_run

from .runs_command import restarts

Floats = npt.NDArray[np.float64]

_EXTRA: Final = "plot"
_GAP_PERIODS: Final = 2.5
"""How many periods without a sample are a gap."""

_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
_INK: Final = "#333333"
_GRID: Final = "#e4e4e4"
_SHADE: Final = "#f9ebe7"
_PALE: Final = "#777777"
_MARKS: Final[Mapping[str, str]] = {
    "lost": "#b03a2e", "back": "#1e8449", "restarted": "#7d3c98", "tripped": "#b03a2e",
}  # fmt: skip


class Series:
    """One line of the picture.

    Attributes:
        name: `device.parameter`.
        device: Its instrument.
        unit: Its unit, or "".
        times_s: When, in seconds from the run's first sample.
        values: What was read.
        gaps: Where nothing was read: from when to when, in seconds.
    """

    def __init__(self, name: str, unit: str, times_s: Floats, values: Floats, end_s: float) -> None:
        """Find the gaps; `end_s` is when the run's last sample was read."""
        self.name = name
        self.device = name.partition(".")[0]
        self.unit = unit
        self.times_s = times_s
        self.values = values
        steps_s = np.diff(times_s)
        self._period_s = float(np.median(steps_s)) if len(steps_s) else 0.0
        self._breaks = np.flatnonzero(steps_s > _GAP_PERIODS * self._period_s)
        self.gaps = [(float(times_s[each]), float(times_s[each + 1])) for each in self._breaks]
        if self._period_s and end_s - times_s[-1] > _GAP_PERIODS * self._period_s:
            self.gaps.append((float(times_s[-1]), end_s))

    def __repr__(self) -> str:
        """Return the name and how much is missing."""
        return f"<Series {self.name} {len(self.values)} values, {len(self.gaps)} gaps>"

    def broken(self) -> tuple[Floats, Floats]:
        """Return times and values with a hole in each gap, so that no line crosses it."""
        after = self._breaks + 1
        return (
            np.insert(self.times_s, after, self.times_s[self._breaks] + self._period_s),
            np.insert(self.values, after, np.nan),
        )


def plot(
    run: Path, output: Path, *, parameters: Sequence[str] = (), recording: str | None = None
) -> Sequence[Series]:
    """Draw a run into a picture; return what was drawn. An earlier picture is replaced.

    Args:
        run: The run's folder, or a file of samples.
        output: The picture; its suffix says which format: png, svg, pdf.
        parameters: `name` or `device.name`; empty for every number.
        recording: The recording of that name; None for the first.

    Raises:
        NoSamplesError: There is nothing to draw.
        MissingExtraError: matplotlib or Arrow is not installed.
    """
    table = load(run, recording=recording)
    series = _series_of(table, parameters)
    if not series:
        known = ", ".join(sorted(set(_names(table)))) or "nothing"
        raise NoSamplesError(f"{run}: there is no number to draw; recorded is: {known}")
    folder = run if run.is_dir() else run.parent
    begin_utc_ns = int(table["t_utc_ns"][0].as_py())
    _draw(series, folder, begin_utc_ns, output)
    return series


def _names(table: Any) -> list[str]:
    columns = (table[name].to_pylist() for name in ("device", "parameter", "instance"))
    return [
        f"{device}.{parameter}" + (f"[{instance}]" if instance != 1 else "")
        for device, parameter, instance in zip(*columns, strict=True)
    ]


def _series_of(table: Any, parameters: Sequence[str]) -> list[Series]:
    names = np.array(_names(table))
    times_s: Floats = table["t_s"].to_numpy()
    values: Floats = table["value"].to_numpy()
    units = table["unit"].to_pylist()
    series: list[Series] = []
    for name in dict.fromkeys(names.tolist()):
        if parameters and not _wanted(name, parameters):
            continue
        mine = (names == name) & ~np.isnan(values)
        if mine.any():
            unit = units[int(np.argmax(mine))] or ""
            series.append(Series(name, unit, times_s[mine], values[mine], float(times_s[-1])))
    return series


def _wanted(name: str, parameters: Sequence[str]) -> bool:
    bare = name.partition("[")[0]
    return any(each in (name, bare, bare.partition(".")[2]) for each in parameters)


def _draw(series: Sequence[Series], folder: Path, begin_utc_ns: int, output: Path) -> None:
    backend = need("matplotlib.backends.backend_agg", _EXTRA)
    figures = need("matplotlib.figure", _EXTRA)
    by_unit: dict[str, list[Series]] = {}
    for each in series:
        by_unit.setdefault(each.unit, []).append(each)
    end_s = max(float(each.times_s[-1]) for each in series)
    scale, unit = _time_unit(end_s)
    figure = figures.Figure(figsize=(9.0, 1.1 + 1.9 * len(by_unit)), layout="constrained")
    backend.FigureCanvasAgg(figure)
    panels = figure.subplots(len(by_unit), 1, sharex=True, squeeze=False)[:, 0]
    marks = [
        ((utc_ns - begin_utc_ns) / 1e9 / scale, word, who) for utc_ns, word, who in restarts(folder)
    ]
    colors = {each.name: _COLORS[index % len(_COLORS)] for index, each in enumerate(series)}
    for panel, (name, group) in zip(panels, by_unit.items(), strict=True):
        _draw_panel(panel, group, colors, scale)
        panel.set_ylabel(_axis_label(group, name), color=_INK, fontsize=9)
        _draw_marks(panel, marks, {each.device for each in group}, end_s / scale)
    begin = datetime.fromtimestamp(begin_utc_ns // 1000 / 1e6, tz=UTC)
    panels[-1].set_xlabel(
        f"time since {begin:%Y-%m-%d %H:%M:%S} UTC [{unit}]", color=_INK, fontsize=9
    )
    panels[-1].set_xlim(0.0, end_s / scale * 1.005)
    title, below = _title(folder, series)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    panels[0].set_title(below, loc="left", fontsize=8.5, color=_PALE, pad=8)
    figure.align_ylabels(panels)
    figure.savefig(
        output, dpi=110, metadata={"Software": None} if output.suffix == ".png" else None
    )


def _draw_panel(
    panel: Any, group: Sequence[Series], colors: Mapping[str, str], scale: float
) -> None:
    for each in group:
        times_s, values = each.broken()
        panel.plot(times_s / scale, values, color=colors[each.name], linewidth=1.3, label=each.name)
        for begin_s, end_s in each.gaps:
            panel.axvspan(begin_s / scale, end_s / scale, color=_SHADE, linewidth=0, zorder=0)
    panel.grid(color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.margins(y=0.12)
    panel.legend(
        loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8, labelcolor=_INK
    )


def _draw_marks(
    panel: Any, marks: Sequence[tuple[float, str, str]], devices: set[str], end: float
) -> None:
    for at, word, who in marks:
        about_others = who not in devices and word in ("lost", "back", "tripped")
        if about_others or not 0.0 <= at <= end:
            continue
        panel.axvline(at, color=_MARKS[word], linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        late = at > 0.85 * end
        panel.annotate(
            f"{who} {word}",
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if late else 3, -3),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=7.5,
            color=_MARKS[word],
        )


def _axis_label(group: Sequence[Series], unit: str) -> str:
    what = {each.name.partition(".")[2].partition("[")[0].replace("_", " ") for each in group}
    name = what.pop() if len(what) == 1 else _COMMON.get(unit, "value")
    shown = _SHOWN.get(unit, unit)
    return f"{name} [{shown}]" if unit else name


_SHOWN: Final[Mapping[str, str]] = {"degC": "°C", "degF": "°F", "ohm": "Ω"}

_COMMON: Final[Mapping[str, str]] = {
    "degC": "temperature", "°C": "temperature", "degF": "temperature", "K": "temperature",
    "V": "voltage", "A": "current", "W": "power", "ohm": "resistance", "Hz": "frequency",
    "psia": "pressure", "bar": "pressure", "Pa": "pressure", "%": "share",
}  # fmt: skip


def _title(folder: Path, series: Sequence[Series]) -> tuple[str, str]:
    """Return the line above the picture and the smaller one below it."""
    metadata: Mapping[str, Any] = read_run(folder).metadata
    recordings: Mapping[str, Any] = metadata.get("recordings") or {}
    if not recordings:
        return folder.name, f"{sum(len(each.values) for each in series)} samples"
    missing: dict[str, int] = {}
    for each in recordings.values():
        devices: Mapping[str, Any] = each.get("devices", {})
        for device, counts in devices.items():
            if count := counts.get("samples_missing", 0):
                missing[device] = missing.get(device, 0) + count
    read = sum(each.get("samples_read", 0) for each in recordings.values())
    rates = ", ".join(
        f"{each['rate_hz']:g} Hz" for each in recordings.values() if "rate_hz" in each
    )
    holes = ", ".join(f"{device} {count}" for device, count in missing.items())
    words = [f"run {folder.name}", rates, f"{read} samples read"]
    words.append(f"missing: {holes}" if holes else "none missing")
    return str(metadata.get("tree", folder.name)), "   ·   ".join(filter(None, words))


def _time_unit(duration_s: float) -> tuple[float, str]:
    for scale, unit, least in ((86_400.0, "d", 3.0), (3600.0, "h", 3.0), (60.0, "min", 5.0)):
        if duration_s >= least * scale:
            return scale, unit
    return 1.0, "s"
