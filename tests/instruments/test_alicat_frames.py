"""Alicat bytes: requests, tables of both kinds, data frames, and what is none of them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.instruments.alicat import AlicatUnit, DataFrame, Statistic
from actors.instruments.alicat.frames import (
    accepting,
    accepting_pattern,
    decimal,
    decode_firmware,
    decode_gases,
    decode_layout,
    decode_maker_table,
    decode_numbers,
    decode_quantities,
    firmware_shape,
    frame_or_rejection,
    is_rejected,
    numbers_shape,
    quantity_shape,
    statistics,
    table_shape,
)
from actors.instruments.alicat.models import Kind
from transports import ForeignReplyError

FLAGS = ["OPL", "POV", "P2O", "TOV", "VOV", "MOV", "TMF", "OVR", "COM", "HLD", "EXH", "GTA", "LCK"]

# As captured from an MC-500SCCM-D with firmware 10v20.
NEW_TABLE = "\n".join(
    [
        "A D00 ID_ NAME______________________ TYPE_______ WIDTH NOTES______",
        "A D01 700 Unit ID                    string          1",
        "A D02 002 Abs Press                  s decimal     7/2 010 02 PSIA",
        "A D03 003 Flow Temp                  s decimal     7/2 002 02 `C",
        "A D04 004 Volu Flow                  s decimal     7/2 012 02 CCM",
        "A D05 005 Mass Flow                  s decimal     7/2 012 02 SCCM",
        "A D06 037 Mass Flow Setpt            s decimal     7/2 012 02 SCCM",
        "A D07 703 Gas                        string          6",
        "A D08 701 *Error                     string          3 ADC",
        *(f"A D{9 + i:02} 702 *Status                    string          3 {flag}"
          for i, flag in enumerate(FLAGS)),
    ]
).encode()  # fmt: skip

CAPTURED = b"A +014.62 +021.89 +000.00 +000.00 +078.95     N2"


def test_layout_and_frame_of_a_real_device() -> None:
    """The captured table and the captured frame belong together."""
    layout = decode_layout(NEW_TABLE)
    frame = layout.decode(layout.pattern("A"), CAPTURED)
    assert dict(frame) == {
        "pressure": 14.62,
        "temperature": 21.89,
        "volumetric_flow": 0.0,
        "mass_flow": 0.0,
        "setpoint": 78.95,
        "gas": "N2",
    }
    assert frame.unit == "A"
    assert frame.status == ()
    assert frame.units["temperature"] == "degC"
    assert frame.units["setpoint"] == "SCCM"
    assert layout.flags == {"ADC", *FLAGS}


def test_one_column_is_that_of_the_whole_frame() -> None:
    """Whoever wants one value gets the same one, and no value of what is no frame."""
    layout = decode_layout(NEW_TABLE)
    pattern = layout.pattern("A")
    raw = CAPTURED.replace(b"+021.89", b"--") + b" HLD"
    found = pattern.fullmatch(raw)
    whole = layout.read(found, raw)
    assert {name: layout.read_one(found, raw, name) for name in whole} == dict(whole)
    with pytest.raises(KeyError, match="humidity"):
        layout.read_one(found, raw, "humidity")
    with pytest.raises(ValueError, match="a data frame of the device's own layout"):
        layout.read_one(pattern.fullmatch(b"A +014.62"), b"A +014.62", "pressure")


@pytest.mark.parametrize("flags", [["HLD"], ["MOV", "OVR", "HLD"], FLAGS])
def test_flags_follow_the_columns(flags: list[str]) -> None:
    """Any number of flags may follow, in any order."""
    layout = decode_layout(NEW_TABLE)
    raw = CAPTURED + b" " + " ".join(flags).encode()
    assert list(layout.decode(layout.pattern("A"), raw).status) == flags


def test_dashes_are_no_value() -> None:
    """A column of dashes is a value that the device has not got."""
    layout = decode_layout(NEW_TABLE)
    raw = b"A +014.62 -- +000.00 +000.00 +078.95     N2"
    assert layout.decode(layout.pattern("A"), raw)["temperature"] is None


@pytest.mark.parametrize(
    "kind", ["flow_meter", "flow_controller", "pressure_meter", "pressure_controller"]
)
@pytest.mark.parametrize("old", [False, True])
def test_older_table(kind: Kind, old: bool) -> None:
    """A table without statistic numbers gives the same names as one with them."""
    unit = AlicatUnit("Q", kind, old=old)
    layout = decode_layout("\n".join(unit.answer("??D*")).encode())
    frame = layout.decode(layout.pattern("Q"), unit.answer("")[0].encode())
    assert frame["pressure"] == 14.0 + 16
    assert ("setpoint" in frame) is unit.controls
    assert ("mass_flow" in frame) is unit.flows
    assert frame.units["pressure"] == "PSIA"


@pytest.mark.parametrize(
    "raw",
    [
        b"B +014.62 +021.89 +000.00 +000.00 +078.95     N2",
        b"@ +014.62 +021.89 +000.00 +000.00 +078.95     N2",
        b"+014.62 +021.89 +000.00 +000.00 +078.95     N2",
        b"A +014.62 +021.89 +000.00 +000.00     N2",
        b"A +014.62 +021.89 +000.00 +000.00 +078.95 +001.00     N2",
        b"A +014.62 +021.89 +000.00 +000.00 +078.95     N2 XXX",
        b"A +014.62 +021.89 +000\xae00 +000.00 +078.95     N2",
        b"A   10v20.0-R24 Jan  9 2025,15:04:07",
        b"A +000.00 +100.00 12 SCCM",
        b"A 8 N2 Nitrogen",
        b"A S",
        b"+014.63 +000.06",
        b"?",
        b"",
    ],
)
def test_what_is_no_data_frame(raw: bytes) -> None:
    """Another unit's frame, a part of one, and every other reply are not this unit's frame."""
    layout = decode_layout(NEW_TABLE)
    with pytest.raises(ValueError, match="expected a data frame"):
        layout.decode(layout.pattern("A"), raw)
    if not is_rejected(raw) and not raw.startswith(b"@"):
        assert not frame_or_rejection(layout, "A")(raw)


def test_shapes_tell_replies_apart() -> None:
    """Each reply has the shape of its own command only."""
    layout = decode_layout(NEW_TABLE)
    shapes = {
        b"A   10v20.0-R24 Jan  9 2025,15:04:07": firmware_shape("A"),
        CAPTURED: layout.pattern("A").pattern,
        b"A +500.00 12 SCCM": quantity_shape("A", 1),
        b"A +000.00 +100.00 12 SCCM": quantity_shape("A", 2),
        b"+014.63 +000.06": numbers_shape(2),
        b"A D01 700 Unit ID                    string          1": table_shape("A", "D"),
        b"A  M04 Model Number MC-500SCCM-D": table_shape("A", "M"),
        b"A G08       N2": table_shape("A", "G"),
    }
    for reply, own in shapes.items():
        fitting = [shape for shape in shapes.values() if accepting("A", shape)(reply)]
        assert fitting == [own]
        assert not accepting("B", own.replace(b"A", b"B", 1), rejection=False)(reply) or (
            own == numbers_shape(2)
        )


@pytest.mark.parametrize("raw", [b"?", b"A ?", b"A?", b"A  ?"])
def test_rejections(raw: bytes) -> None:
    """A question mark, with the letter or without, is a rejection; another unit's is not."""
    assert is_rejected(raw)
    assert accepting("A", firmware_shape("A"))(raw)
    assert accepting("B", firmware_shape("B"))(raw) is (raw == b"?")
    assert not accepting("A", firmware_shape("A"), rejection=False)(raw)


def test_streaming_says_so() -> None:
    """A line that begins with `@` is not only foreign: the error says that a unit streams."""
    layout = decode_layout(NEW_TABLE)
    with pytest.raises(ForeignReplyError, match="streams"):
        accepting_pattern(layout.pattern("A"))(CAPTURED.replace(b"A", b"@", 1))


def test_missing_row_of_the_table() -> None:
    """A table with a hole is no table: the frame would be read wrongly."""
    rows = NEW_TABLE.split(b"\n")
    with pytest.raises(ValueError, match="row 4 of the layout table is missing"):
        decode_layout(b"\n".join(rows[:4] + rows[5:]))
    with pytest.raises(ValueError, match="expected a row of the layout table"):
        decode_layout(NEW_TABLE + b"\nA D22 nonsense")
    with pytest.raises(ValueError, match="expected a layout table"):
        decode_layout(rows[0])


def test_other_replies() -> None:
    """The captured replies to the other commands are read as what they are."""
    assert decode_firmware(b"A   10v20.0-R24 Jan  9 2025,15:04:07") == "10v20.0-R24"
    assert [each.value for each in decode_quantities(b"A +000.00 +100.00 12 SCCM")] == [0.0, 100.0]
    assert decode_quantities(b"A +500.00 12 SCCM")[0].unit == "SCCM"
    assert decode_numbers(b"+014.63 -- +000.06") == [14.63, None, 0.06]
    assert decode_gases(b"A G00      Air\nA G08       N2")["N2"].number == 8
    table = decode_maker_table(b"A  M04 Model Number MC-500SCCM-D\nA  M05 Serial Number 521641")
    assert table == {"M04": "Model Number MC-500SCCM-D", "M05": "Serial Number 521641"}
    for decode in (decode_quantities, decode_gases, decode_firmware):
        with pytest.raises(ValueError, match="expected"):
            decode(b"A")


def test_statistics_request() -> None:
    """Statistics go by number; names are found however they are written."""
    wanted = [Statistic.PRESSURE, Statistic.named("Mass Flow"), Statistic.named("mass-flow")]
    assert statistics("B", wanted, 500) == b"BDV 500 2 5 5\r"


@given(st.floats(min_value=-9999, max_value=9999))
def test_numbers_have_no_exponent(value: float) -> None:
    """A setpoint is written as the device reads it, to a millionth."""
    text = decimal(value)
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(value, abs=1e-6)


@given(st.binary(max_size=80))
def test_arbitrary_bytes(raw: bytes) -> None:
    """Whatever arrives is a data frame or a ValueError."""
    layout = decode_layout(NEW_TABLE)
    with suppress(ValueError):
        assert isinstance(layout.decode(layout.pattern("A"), raw), DataFrame)
