"""One row per tick, one column per series.

A tick is one period of the recording. Each sample lies in the tick in which it was measured;
of several samples of one series in one tick the first is taken. What is missing is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .errors import NoSamplesError
from .extras import need
from .tables import arrow

Whole = npt.NDArray[np.int64]

_JOIN: Final = "."


def to_wide(table: Any, *, rate_hz: float | None = None) -> Any:
    """Pivot an Arrow table of samples.

    The result begins with `t_utc` (the first sample of the tick), `t_s` (since the first
    tick) and `tick`; a column is called `device.parameter`, with `[instance]` where that is
    not 1. A series of numbers is a column of floats, or of whole numbers if all of them are;
    one with a text in it is a column of texts.

    Args:
        table: What `load` returns, or a file of an Arrow or Parquet sink.
        rate_hz: Ticks per second; None to take it from the times of the samples.

    Raises:
        NoSamplesError: There are fewer samples than tell the rate, and none is given.
    """
    pa = arrow()
    mono_ns = _whole(table["t_mono_ns"])
    if not len(mono_ns):
        return pa.table({"t_utc": [], "t_s": [], "tick": []})
    series = _series(table)
    names, codes = np.unique(np.array(series), return_inverse=True)
    period_ns = 1e9 / rate_hz if rate_hz else _period_ns(mono_ns, codes)
    # Half a period before the earliest: what comes a little early is in its own tick.
    begin_ns = int(mono_ns.min())
    ticks = np.floor((mono_ns - begin_ns) / period_ns + _EARLY).astype(np.int64)
    rows, row_of = np.unique(ticks, return_inverse=True)
    order = np.argsort(mono_ns, kind="stable")[::-1]
    first = np.empty(len(rows), dtype=np.int64)
    first[row_of[order]] = order
    columns: dict[str, Any] = {
        "t_utc": table["t_utc"].take(pa.array(first)),
        "t_s": pa.array(rows * period_ns / 1e9),
        "tick": pa.array(rows),
    }
    appearance = sorted(range(len(names)), key=lambda code: int(np.argmax(codes == code)))
    for code in appearance:
        mine = order[codes[order] == code]
        picked = np.full(len(rows), -1, dtype=np.int64)
        picked[row_of[mine]] = mine
        columns[str(names[code])] = _column(table, picked)
    return pa.table(columns)


_EARLY: Final = 0.25
"""How much of a period a sample may be early, against the first one, and stay in its tick."""


def _column(table: Any, picked: Whole) -> Any:
    pa = arrow()
    pc = need("pyarrow.compute", "columnar")
    index = pa.array(picked, mask=picked < 0)
    kinds = set(pc.unique(table["value_type"].take(index)).to_pylist()) - {None, "none"}
    if kinds <= {"int"} and kinds and not _has_text(table, index):
        return table["value_int"].take(index)
    if kinds == {"bool"}:
        return table["value_int"].take(index).cast(pa.bool_())
    if "text" in kinds or _has_text(table, index):
        numbers = table["value"].take(index).cast(pa.string())
        whole = table["value_int"].take(index).cast(pa.string())
        return pc.coalesce(table["value_text"].take(index), whole, numbers)
    return table["value"].take(index)


def _has_text(table: Any, index: Any) -> bool:
    texts = table["value_text"].take(index)
    return bool(texts.null_count < len(texts))


def _series(table: Any) -> Sequence[str]:
    devices, parameters = table["device"].to_pylist(), table["parameter"].to_pylist()
    instances = table["instance"].to_pylist()
    return [
        f"{device}{_JOIN}{parameter}" + (f"[{instance}]" if instance != 1 else "")
        for device, parameter, instance in zip(devices, parameters, instances, strict=True)
    ]


def _period_ns(mono_ns: Whole, codes: Whole) -> float:
    """Return the period of the series that has most samples.

    The usual distance of two neighbours is not exact enough for a long recording. Distances
    over 2, 4, 8 ... periods are, each step knowing from the last how many periods they are.
    """
    times_ns = np.sort(mono_ns[codes == np.bincount(codes).argmax()])
    times_ns = times_ns[np.concatenate(([True], np.diff(times_ns) > 0))]
    if len(times_ns) < 2:
        raise NoSamplesError("one sample of each series does not tell the rate: give rate_hz")
    period_ns = float(np.median(np.diff(times_ns)))
    apart = 1
    while apart < len(times_ns):
        distances_ns = times_ns[apart:] - times_ns[:-apart]
        periods = np.maximum(1, np.round(distances_ns / period_ns))
        period_ns = float(np.median(distances_ns / periods))
        apart *= 2
    return period_ns


def _whole(column: Any) -> Whole:
    return np.asarray(column.to_numpy(), dtype=np.int64)
