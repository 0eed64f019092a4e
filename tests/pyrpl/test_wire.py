"""Frames and the values in them: whole, in pieces, and broken."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.pyrpl.wire import BrokenFrameError, Frame, FrameReader, Kind, encode, pack, unpack

FRAMES = st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**63), st.binary(max_size=200))


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 2000), max_size=8))
def test_frames_arrive_whole_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    """Wherever the bytes are cut, the same frames come out, in order."""
    data = b"".join(encode(each) for each in frames)
    reader = FrameReader()
    found: list[Frame] = []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        found += reader.feed(data[begin:end])
    assert found == frames


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
    | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_values_survive(value: Any) -> None:
    """What is packed comes back as it was."""
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("kind", ["f8", "c16", "i2", "u4", "?"])
def test_arrays_keep_their_kind_and_shape(kind: str) -> None:
    """Arrays travel as raw bytes, two-dimensional and sliced ones too."""
    array = np.arange(24).reshape(4, 6).astype(kind)
    for each in (array, array[:, ::2], array[:0]):
        found = unpack(pack({"values": each}))["values"]
        assert found.dtype == each.dtype
        assert found.shape == each.shape
        assert np.array_equal(found, each)


def test_numbers_of_numpy_are_plain_numbers() -> None:
    """Scalars of numpy come back as Python's own."""
    found = unpack(pack([np.float32(0.5), np.int16(-3), np.bool_(True), np.complex64(1j)]))
    assert found == [0.5, -3, True, 1j]
    assert [type(each) for each in found] == [float, int, bool, complex]
    assert math.isnan(unpack(pack(math.nan)))


@pytest.mark.parametrize("value", [object(), np.array([object()]), {1, 2}])
def test_what_cannot_travel_is_refused(value: object) -> None:
    """Objects are refused where they are packed, not where they are read."""
    with pytest.raises(TypeError, match="cannot be packed"):
        pack(value)


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\0\0\0\x01\xc0", b"\0\0\0\x04\x93\x01\x02\xc1", encode(
        Frame(Kind.CALL, 1)).replace(b"\x93\x02", b"\x93\x7f")],
)  # fmt: skip
def test_broken_frames_are_told(data: bytes) -> None:
    """Too long, no list, no such kind: nothing after it can be understood."""
    with pytest.raises(BrokenFrameError):
        list(FrameReader().feed(data))
    with pytest.raises(BrokenFrameError):
        unpack(b"\xc1")
