"""Samples as lines of JSON, one object each, and back, without loss."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from actors import Sample, Value, Waveform

from .values import VALUE_TYPES

_SECOND_NS: Final = 1_000_000_000
_ODD_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode_lines(samples: Iterable[Sample], *, raw: bool = False) -> bytes:
    """Return one line of JSON per sample; with `raw` the reply as it came is in it too.

    A float that is no number is written as text: JSON has no word for it.
    """
    heads = _HEADS
    lines: list[str] = []
    second, stamp = -1, ""
    for sample in samples:
        value = sample.value
        kind = VALUE_TYPES[type(value)]
        requested_ns, received_ns = sample.requested_ns, sample.received_ns
        mono_ns = (requested_ns + received_ns) // 2
        utc_ns = sample.received_utc_ns - (received_ns - mono_ns)
        if utc_ns // _SECOND_NS != second:
            second = utc_ns // _SECOND_NS
            stamp = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        match kind:
            case "float" if math.isfinite(value):  # type: ignore[arg-type]  # the word says so
                text = repr(float(value))  # type: ignore[arg-type]  # the word says so
            case "float":
                text = f'"{value}"'
            case "int":
                text = str(int(value))  # type: ignore[arg-type]  # the word says so
            case "none":
                text = "null"
            case _:
                text = json.dumps(value)
        head = heads[
            sample.device,
            sample.address,
            sample.protocol,
            sample.parameter,
            sample.parameter_id,
            sample.instance,
            sample.unit,
        ]
        middle_ns = sample.t_midpoint_mono_ns
        tail = ""
        if raw and sample.raw:
            tail = f',"raw":"{b64encode(sample.raw).decode()}"'
        if sample.waveform is not None:
            tail += f',"waveform":{json.dumps(_plain(sample.waveform))}'
        lines.append(
            f'{{"t_utc":"{stamp}{utc_ns % _SECOND_NS // 1000:06d}Z",{head}"value":{text},'
            f'"value_type":"{kind}","t_utc_ns":{utc_ns},"t_mono_ns":{mono_ns},'
            f'"requested_ns":{requested_ns},"received_ns":{received_ns},'
            f'"received_utc_ns":{sample.received_utc_ns},'
            f'"t_midpoint_mono_ns":{"null" if middle_ns is None else middle_ns}{tail}}}\n'
        )
    return "".join(lines).encode(errors="backslashreplace")


def decode_lines(data: bytes) -> Iterator[Sample]:
    """Yield the samples of whole lines; a line that was cut short at the end is left out."""
    whole = data[: data.rfind(b"\n") + 1]
    for line in whole.splitlines():
        yield _decode(json.loads(line))


class _Heads(dict[tuple[str, str | int, str, str, str | int, int, str | None], str]):
    """What all lines of one series have in common, made once."""

    def __missing__(
        self, series: tuple[str, str | int, str, str, str | int, int, str | None]
    ) -> str:
        names = (
            "device", "address", "protocol", "parameter", "parameter_id", "instance", "unit",
        )  # fmt: skip
        pairs = zip(names, series, strict=True)
        head = "".join(f'"{name}":{json.dumps(value)},' for name, value in pairs)
        if len(self) > _MOST_HEADS:
            self.clear()
        self[series] = head
        return head


_MOST_HEADS: Final = 10_000
_HEADS: Final = _Heads()


def _decode(row: dict[str, Any]) -> Sample:
    waveform = row.get("waveform")
    return Sample(
        device=row["device"],
        address=row["address"],
        protocol=row["protocol"],
        parameter=row["parameter"],
        parameter_id=row["parameter_id"],
        instance=row["instance"],
        value=_value(row["value"], row["value_type"]),
        unit=row["unit"],
        requested_ns=row["requested_ns"],
        received_ns=row["received_ns"],
        received_utc_ns=row["received_utc_ns"],
        raw=b64decode(row.get("raw", "")),
        t_midpoint_mono_ns=row["t_midpoint_mono_ns"],
        waveform=None if waveform is None else _waveform(waveform),
    )


def _value(value: Value, kind: str) -> Value:
    if kind == "float" and isinstance(value, str):
        return _ODD_FLOATS[value]
    return value


def _plain(waveform: Waveform) -> dict[str, object]:
    return {
        "axis_name": waveform.axis_name,
        "axis_unit": waveform.axis_unit,
        "axis": _numbers(waveform.axis),
        "values": _numbers(waveform.values),
    }


def _numbers(numbers: npt.NDArray[np.float64]) -> list[object]:
    return [each if math.isfinite(each) else str(each) for each in numbers.tolist()]


def _waveform(plain: dict[str, Any]) -> Waveform:
    def array(numbers: list[Any]) -> npt.NDArray[np.float64]:
        return np.array([_value(each, "float") for each in numbers], dtype=np.float64)

    return Waveform(
        array(plain["values"]), array(plain["axis"]), plain["axis_name"], plain["axis_unit"]
    )
