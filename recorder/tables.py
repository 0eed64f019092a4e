"""Samples as columns, in Arrow's memory: for the Arrow and Parquet files, and for reading.

Every column has one type for good. A value lies in up to three of them: `value` is what can
be plotted (floats, whole numbers, truth values as 0 and 1), `value_int` the exact whole
number, `value_text` a text, or the digits of a whole number beyond 64 bits. `value_type`
says which it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from actors import Sample

from .extras import need
from .values import VALUE_TYPES

_EXTRA: Final = "columnar"
_LONGEST_INT: Final = 1 << 63

COLUMNS: Final = (
    "device", "address", "protocol", "parameter", "parameter_id", "instance", "value",
    "value_int", "value_text", "value_type", "unit", "t_utc", "t_utc_ns", "t_mono_ns",
    "requested_ns", "received_ns", "received_utc_ns", "t_midpoint_mono_ns",
)  # fmt: skip
"""The columns of a table of samples, in order; `t_utc` and `t_mono_ns` are midpoints."""


def arrow() -> Any:
    """Return the library `pyarrow`.

    Raises:
        MissingExtraError: It is not installed.
    """
    return need("pyarrow", _EXTRA)


@cache
def schema() -> Any:
    """Return the types of the columns."""
    pa = arrow()
    text, whole = pa.string(), pa.int64()
    types = {
        "instance": pa.int32(),
        "value": pa.float64(),
        "value_int": whole,
        "t_utc": pa.timestamp("us", "UTC"),
        **{name: whole for name in COLUMNS if name.endswith("_ns")},
    }
    may_lack = {"value", "value_int", "value_text", "unit", "t_midpoint_mono_ns"}
    return pa.schema(
        [pa.field(name, types.get(name, text), nullable=name in may_lack) for name in COLUMNS]
    )


@cache
def waveform_schema() -> Any:
    """Return the types of the columns of waveforms; `t_mono_ns` names their sample."""
    pa = arrow()
    numbers = pa.list_(pa.float64())
    return pa.schema(
        [
            ("device", pa.string()),
            ("parameter", pa.string()),
            ("instance", pa.int32()),
            ("unit", pa.string()),
            ("t_utc", pa.timestamp("us", "UTC")),
            ("t_utc_ns", pa.int64()),
            ("t_mono_ns", pa.int64()),
            ("axis_name", pa.string()),
            ("axis_unit", pa.string()),
            ("axis", numbers),
            ("values", numbers),
        ]
    )


def to_batch(samples: Sequence[Sample]) -> Any:
    """Return samples as one Arrow record batch."""
    pa = arrow()
    # One comprehension per column is twice as fast as one pass that takes tuples.
    value = [sample.value for sample in samples]
    requested_ns = _whole([sample.requested_ns for sample in samples])
    received_ns = _whole([sample.received_ns for sample in samples])
    received_utc_ns = _whole([sample.received_utc_ns for sample in samples])
    # The midpoint, rounded down as `Sample.t_mono_ns` does it: no sum that could overflow.
    mono_ns = (requested_ns >> 1) + (received_ns >> 1) + (requested_ns & received_ns & 1)
    utc_ns = received_utc_ns - (received_ns - mono_ns)
    columns = [
        _texts([sample.device for sample in samples]),
        _texts(_named([sample.address for sample in samples])),
        _texts([sample.protocol for sample in samples]),
        _texts([sample.parameter for sample in samples]),
        _texts(_named([sample.parameter_id for sample in samples])),
        pa.array([sample.instance for sample in samples], pa.int32()),
        *_value_columns(value),
        _texts([sample.unit for sample in samples]),
        pa.array(utc_ns // 1000).cast(pa.timestamp("us", "UTC")),
        pa.array(utc_ns),
        pa.array(mono_ns),
        pa.array(requested_ns),
        pa.array(received_ns),
        pa.array(received_utc_ns),
        pa.array([sample.t_midpoint_mono_ns for sample in samples], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema())


def waveforms_to_batch(samples: Iterable[Sample]) -> Any:
    """Return the waveforms of samples as one Arrow record batch."""
    rows = [
        {
            "device": sample.device,
            "parameter": sample.parameter,
            "instance": sample.instance,
            "unit": sample.unit,
            "t_utc": sample.t_utc_ns // 1000,
            "t_utc_ns": sample.t_utc_ns,
            "t_mono_ns": sample.t_mono_ns,
            "axis_name": sample.waveform.axis_name,
            "axis_unit": sample.waveform.axis_unit,
            "axis": sample.waveform.axis,
            "values": sample.waveform.values,
        }
        for sample in samples
        if sample.waveform is not None
    ]
    return arrow().RecordBatch.from_pylist(rows, schema=waveform_schema())


def split_value(value: object, kind: str) -> tuple[float | None, int | None, str | None]:
    """Return a value as it lies in `value`, `value_int` and `value_text`."""
    match value:
        case None:
            return None, None, None
        case str():
            return None, None, _clean(value)
        case float():
            return value, None, None
        case int() if -_LONGEST_INT <= value < _LONGEST_INT:
            return float(value), int(value), None
        case int():
            try:
                near = float(value)
            except OverflowError:
                near = float("inf") if value > 0 else float("-inf")
            return near, None, str(int(value))
        case _:
            raise TypeError(f"a sample's value cannot be a {kind}")


def _value_columns(values: Sequence[Any]) -> list[Any]:
    """Return the columns `value`, `value_int`, `value_text` and `value_type`."""
    pa = arrow()
    count = len(values)
    if set(map(type, values)) == {float}:
        return [
            pa.array(values, pa.float64(), from_pandas=False),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.string()),
            pa.repeat("float", count),
        ]
    kinds = list(map(VALUE_TYPES.__getitem__, map(type, values)))
    split = [split_value(value, kind) for value, kind in zip(values, kinds, strict=True)]
    return [
        pa.array([number for number, _, _ in split], pa.float64(), from_pandas=False),
        pa.array([whole for _, whole, _ in split], pa.int64()),
        pa.array([text for _, _, text in split], pa.string()),
        pa.array(kinds, pa.string()),
    ]


def _named(names: Sequence[str | int]) -> Sequence[str]:
    """Return names and numbers as texts, each made once."""
    if set(map(type, names)) == {str}:
        return cast("Sequence[str]", names)
    texts = {name: str(name) for name in set(names)}
    return [texts[name] for name in names]


def _texts(texts: Sequence[str | None]) -> Any:
    pa = arrow()
    first = texts[0] if texts else None
    try:
        if first is not None and texts.count(first) == len(texts):
            return pa.repeat(first, len(texts))
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        # A text decoded from a garbled reply may hold half of a pair of code points.
        return pa.array([None if each is None else _clean(each) for each in texts], pa.string())


def _clean(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _whole(numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)
