"""Bytes become the same frames however they arrive, and never more than the bound is held."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports import FrameError, Framing, Lines, Measured

MAX_FRAME = 64
START = b"\xaa\x55"


def _length(held: bytes) -> int | None:
    return 3 + held[2] if len(held) > 2 else None


MEASURED = Measured(_length, start=START)


def _measured(payload: bytes) -> bytes:
    return START + bytes((len(payload),)) + payload


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(marks)]


def _frames(framing: Framing, pieces: list[bytes]) -> list[bytes]:
    framer = framing.framer(MAX_FRAME)
    frames: list[bytes] = []
    for piece in pieces:
        framer.feed(piece)
        while (frame := framer.next_frame()) is not None:
            frames.append(frame)
    return frames


text = st.binary(max_size=MAX_FRAME).filter(lambda data: b"\n" not in data and data[:1] != b"#")
cuts = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.lists(text, max_size=8), cuts)
def test_lines_however_split(lines: list[bytes], where: list[int]) -> None:
    """Terminated lines come out whole, in order, whatever the pieces were."""
    data = b"".join(line + b"\n" for line in lines)
    assert _frames(Lines(), _split(data, where)) == [line.strip(b"\r") for line in lines]


@given(st.lists(text, max_size=8), cuts)
def test_lines_with_two_terminating_bytes(lines: list[bytes], where: list[int]) -> None:
    """A terminator that is cut in two still ends the line."""
    data = b"".join(line + b"\r\n" for line in lines)
    framing = Lines(b"\r\n", strip=b"")
    assert _frames(framing, _split(data, where)) == lines


@given(st.lists(st.binary(max_size=MAX_FRAME - 3), max_size=8), cuts)
def test_measured_however_split(payloads: list[bytes], where: list[int]) -> None:
    """Frames that tell their length come out whole, in order, whatever the pieces were."""
    frames = [_measured(payload) for payload in payloads]
    assert _frames(MEASURED, _split(b"".join(frames), where)) == frames


@given(st.binary(max_size=40).filter(lambda noise: START[:1] not in noise), cuts)
def test_measured_after_noise(noise: bytes, where: list[int]) -> None:
    """What comes before a start mark is discarded."""
    frame = _measured(b"value")
    assert _frames(MEASURED, _split(noise + frame, where)) == [frame]


@pytest.mark.parametrize("framing", [Lines(), MEASURED])
@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes(framing: Framing, pieces: list[bytes]) -> None:
    """Whatever arrives, no more than the bound and one piece is held."""
    framer = framing.framer(MAX_FRAME)
    for piece in pieces:
        framer.feed(piece)
        try:
            while (frame := framer.next_frame()) is not None:
                assert len(frame) <= MAX_FRAME
        except FrameError:
            assert framer.clear() <= MAX_FRAME + 40
    held = framer.clear()
    assert held <= MAX_FRAME + 40
    assert framer.next_frame() is None


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        (Lines(), b"x" * 65),
        (Lines(), b"x" * 65 + b"\n"),
        (MEASURED, _measured(b"x" * 62)),
        (Measured(lambda held: None), b"x" * 65),
        (Measured(lambda held: 0), b"x"),
    ],
)
def test_no_frame(framing: Framing, data: bytes) -> None:
    """What cannot be a frame is an error that shows the bytes."""
    framer = framing.framer(MAX_FRAME)
    framer.feed(data)
    with pytest.raises(FrameError) as error:
        framer.next_frame()
    assert error.value.received
    assert framer.next_frame() is None


def test_empty_line() -> None:
    """A terminator alone ends an empty frame."""
    assert _frames(Lines(), [b"\n", b"\r\n"]) == [b"", b""]


def _block(data: bytes) -> bytes:
    size = str(len(data)).encode()
    return b"#%d%s%s" % (len(size), size, data)


@given(st.lists(st.binary(max_size=300), max_size=4), cuts)
def test_blocks_however_split(blocks: list[bytes], where: list[int]) -> None:
    """A block of IEEE 488.2 holds what it says, terminators and all, however it arrives."""
    data = b"".join(_block(block) + b"\n1,2\r\n" for block in blocks)
    expected = [frame for block in blocks for frame in (_block(block), b"1,2")]
    assert _frames(Lines(), _split(data, where)) == expected


def test_a_block_keeps_what_follows_it_in_its_line() -> None:
    """What comes between a block and the terminator belongs to its frame."""
    assert _frames(Lines(), [b'#13a\nb;0,"No error"\r\nnext\n']) == [
        b'#13a\nb;0,"No error"',
        b"next",
    ]


def test_frames_that_only_begin_like_blocks() -> None:
    """A line that is no block after all is a line, and so is every one where none come."""
    assert _frames(Lines(), [b"#\n#x1\n#2x1\n#0ab\n"]) == [b"#", b"#x1", b"#2x1", b"#0ab"]
    assert _frames(Lines(max_block=0), [b"#15ab\n"]) == [b"#15ab"]


def test_a_block_has_a_bound() -> None:
    """A block longer than the bound is refused by its length, before it is held."""
    framer = Lines(max_block=100).framer(MAX_FRAME)
    framer.feed(b"#3101")
    with pytest.raises(FrameError, match="no frame ends within 100 bytes"):
        framer.next_frame()
    assert framer.clear() == 0


@pytest.mark.parametrize(
    ("message", "frame", "left"),
    [
        (b"1.5\n", b"1.5", 0),
        (b"1.5", b"1.5", 0),
        (b"", None, 0),
        (b"first\nsecond\n", b"first", 7),
        (b"#0a\nb\r\n", b"#0a\nb\r", 0),
        (b"#0a\nb", b"#0a\nb", 0),
        (b"#13a\nb", b"#13a\nb", 0),
        (b"#13a\nb\r\n", b"#13a\nb", 0),
    ],
)
def test_messages_that_the_line_ends(message: bytes, frame: bytes | None, left: int) -> None:
    """Where the line marks the end, a terminator may be missing, and `#0` blocks end there."""
    framer = Lines().framer(MAX_FRAME)
    framer.feed(message)
    assert framer.end_message() == frame
    assert framer.clear() == left


def test_a_frame_after_a_message() -> None:
    """What was looked for in a block that the line ended is looked for anew in what follows."""
    framer = Lines().framer(MAX_FRAME)
    framer.feed(b"#0abc")
    assert framer.next_frame() is None
    assert framer.end_message() == b"#0abc"
    framer.feed(b"1\n")
    assert framer.next_frame() == b"1"


def test_half_a_frame_in_a_message() -> None:
    """A message that ends in the middle of a block or a measured frame is a fault."""
    for framing, data in ((Lines(), b"#15ab"), (MEASURED, _measured(b"abc")[:-1])):
        framer = framing.framer(MAX_FRAME)
        framer.feed(data)
        with pytest.raises(FrameError):
            framer.end_message()
        assert framer.clear() == 0


def test_how_much_is_missing() -> None:
    """A framer tells how much it needs at least, so that blocking reads ask for no more."""
    lines = Lines().framer(MAX_FRAME)
    assert lines.missing() == 1
    lines.feed(b"#210abc")
    assert lines.missing() == 7
    lines.feed(b"defghij")
    assert lines.missing() == 1
    measured = MEASURED.framer(MAX_FRAME)
    assert measured.missing() == 1
    measured.feed(_measured(b"abcdef")[:4])
    assert measured.missing() == 5
    lines.clear()
    lines.feed(b"x" * (MAX_FRAME + 2))
    with pytest.raises(FrameError):
        lines.missing()
