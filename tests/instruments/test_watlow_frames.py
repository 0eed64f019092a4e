"""Frames of the Standard Bus and of Modbus RTU."""

import math
import struct
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.instruments.watlow import ENTRIES, Kind, Scale
from actors.instruments.watlow.entries import to_celsius, to_fahrenheit
from actors.instruments.watlow.modbus import frames as modbus
from actors.instruments.watlow.standard_bus import frames as standard
from transports import FrameError, Framing, Measured

UNHURRIED = settings(deadline=None)

STANDARD = Measured(standard.frame_length, standard.PREAMBLE)
MODBUS = Measured(modbus.reply_length)

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
words = st.integers(0, 0xFFFF)
addresses = st.integers(1, standard.MAX_ADDRESS)
units = st.integers(1, modbus.MAX_UNIT)

standard_replies = st.one_of(
    st.builds(
        standard.ValueReply,
        addresses,
        st.sampled_from([standard.READ, standard.WRITE]),
        st.integers(0, 255).flatmap(lambda it: st.integers(0, 255).map(lambda m: it * 1000 + m)),
        st.integers(1, 4),
        floats,
    ),
    st.builds(standard.ErrorReply, addresses, st.integers(0x80, 0xFF)),
)
modbus_replies = st.one_of(
    st.builds(modbus.ReadReply, units, st.lists(words, min_size=1, max_size=8).map(tuple)),
    st.builds(modbus.WriteReply, units, words, st.integers(1, 123)),
    st.builds(
        modbus.ErrorReply, units, st.sampled_from([modbus.READ, modbus.WRITE]), st.integers(1, 11)
    ),
)


def hexed(data: bytes) -> str:
    """Return bytes as manuals print them."""
    return data.hex(" ").upper()


def framed(framing: Framing, pieces: Sequence[bytes]) -> list[bytes]:
    """Return the frames that a line finds in what arrives piece by piece."""
    framer = framing.framer(4096)
    found: list[bytes] = []
    for piece in pieces:
        framer.feed(piece)
        while (frame := framer.next_frame()) is not None:
            found.append(frame)
    return found


@st.composite
def pieces_of(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Cut a stream anywhere."""
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def test_standard_bus_check_sums() -> None:
    """They are those of ASHRAE 135: its own examples, and the check of CRC-16/X-25."""
    assert standard.header_crc(bytes.fromhex("00 10 05 00 00")) == 0x8C
    assert standard.data_crc(bytes.fromhex("01 22 30")) == 0xBD10
    assert standard.data_crc(b"123456789") == 0x906E


def test_modbus_check_sums() -> None:
    """They are those of Modbus: its guide's example, and the check of CRC-16/MODBUS."""
    assert modbus.crc16(bytes.fromhex("02 07")) == 0x1241
    assert modbus.crc16(b"123456789") == 0x4B37


def test_standard_bus_requests() -> None:
    """What is sent is what the controllers were seen to be asked."""
    read = standard.Request(1, 4001, 1)
    assert hexed(standard.encode_request(read, Kind.FLOAT)) == (
        "55 FF 05 10 00 00 06 E8 01 03 01 04 01 01 E3 99"
    )
    write = standard.Request(1, 7001, 1, 250.0)
    assert hexed(standard.encode_request(write, Kind.FLOAT)) == (
        "55 FF 05 10 00 00 0A EC 01 04 07 01 01 08 43 7A 00 00 B2 ED"
    )


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        ("55 FF 06 00 11 00 02 17 02 80 FF B8", standard.ErrorReply(2, 0x80)),
        ("55 FF 06 00 10 00 02 8F 02 83 64 8A", standard.ErrorReply(1, 0x83)),
        ("55 FF 06 00 10 00 02 8F 02 85 52 EF", standard.ErrorReply(1, 0x85)),
    ],
)
def test_standard_bus_refusals(frame: str, reply: standard.ErrorReply) -> None:
    """Refusals that controllers were seen to send are understood."""
    assert standard.decode_reply(bytes.fromhex(frame)) == reply


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("01 02", 2),
        ("03 00 05", 5),
        ("05 FB 9D 48 F7", 0xFB9D48F7),
        ("06 00 00 00 1C", 28),
        ("08 43 7A 00 00", 250.0),
        ("09 10 50 4D 33 52 31 43 41 2D 41 41 41 41 41 41 41 00", "PM3R1CA-AAAAAAA"),
        ("0F 01 00 47", 71),
    ],
)
def test_tagged_values(data: str, value: float | str) -> None:
    """Each tag that was seen means a number or a text of its own length."""
    found = standard.decode_value(bytes.fromhex(data))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "data",
    ["", "01", "01 02 03", "08 43 7A 00", "09 03 41", "09 01 FF", "0F 02 00 47 00 48", "0F 01 47"],
)
def test_values_that_do_not_fit(data: str) -> None:
    """A value that is cut short, too long or of another tag is none."""
    with pytest.raises(ValueError, match="tagged value"):
        standard.decode_value(bytes.fromhex(data))


def test_modbus_requests() -> None:
    """A value has two registers, the low word first."""
    assert hexed(modbus.encode_request(modbus.ReadRequest(1, 0, 10))) == "01 03 00 00 00 0A C5 CD"
    low_first = modbus.words_of_float(250.0)
    assert low_first == (0x0000, 0x437A)
    assert modbus.words_of_float(250.0, low_first=False) == (0x437A, 0x0000)
    write = modbus.encode_request(modbus.WriteRequest(1, 2160, low_first))
    assert hexed(write[:-2]) == "01 10 08 70 00 02 04 00 00 43 7A"


@given(floats, st.booleans())
def test_numbers_survive_the_registers(value: float, low_first: bool) -> None:
    """A number comes back the same in either order of words, and differently in the other."""
    pair = modbus.words_of_float(value, low_first=low_first)
    assert modbus.float_of_words(pair, low_first=low_first) == value
    assert modbus.words_of_float(value, low_first=not low_first) == pair[::-1]


@given(st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_whole_numbers_survive_the_registers(value: int, low_first: bool) -> None:
    """A whole number comes back the same in either order of words."""
    pair = modbus.words_of_int(value, low_first=low_first)
    assert modbus.int_of_words(pair, low_first=low_first) == value


@given(floats)
def test_numbers_survive_the_standard_bus(value: float) -> None:
    """A number comes back the same, sign of zero included."""
    found = standard.decode_value(standard.encode_value(Kind.FLOAT, value))
    assert isinstance(found, float)
    assert struct.pack(">f", found) == struct.pack(">f", value)


@given(st.data(), st.lists(standard_replies, max_size=4), st.binary(max_size=8))
@UNHURRIED
def test_standard_bus_frames_arrive_in_any_pieces(
    data: st.DataObject, replies: list[standard.Reply], noise: bytes
) -> None:
    """However a stream is cut, the same replies are found, behind noise too."""
    noise = noise.replace(b"\x55", b"")
    stream = noise + b"".join(standard.encode_reply(each) for each in replies)
    found = framed(STANDARD, data.draw(pieces_of(stream)))
    assert [standard.decode_reply(frame) for frame in found] == replies


@given(st.data(), st.lists(modbus_replies, max_size=4))
@UNHURRIED
def test_modbus_frames_arrive_in_any_pieces(
    data: st.DataObject, replies: list[modbus.Reply]
) -> None:
    """However a stream is cut, the same replies are found."""
    stream = b"".join(modbus.encode_reply(each) for each in replies)
    found = framed(MODBUS, data.draw(pieces_of(stream)))
    assert [modbus.decode_reply(frame) for frame in found] == replies


@given(standard_replies, st.integers(0), st.integers(1, 255))
@UNHURRIED
def test_a_damaged_standard_bus_frame_is_no_reply(
    reply: standard.Reply, place: int, change: int
) -> None:
    """Whichever byte is changed, and how, nothing is read from the frame."""
    frame = bytearray(standard.encode_reply(reply))
    frame[place % len(frame)] ^= change
    with pytest.raises(ValueError, match="expected"):
        standard.decode_reply(bytes(frame))


@given(modbus_replies, st.integers(0), st.integers(1, 255))
@UNHURRIED
def test_a_damaged_modbus_frame_is_no_reply(reply: modbus.Reply, place: int, change: int) -> None:
    """Whichever byte is changed, and how, nothing is read from the frame."""
    frame = bytearray(modbus.encode_reply(reply))
    frame[place % len(frame)] ^= change
    with pytest.raises(ValueError, match="expected"):
        modbus.decode_reply(bytes(frame))


@given(st.binary(max_size=40))
def test_anything_may_arrive(data: bytes) -> None:
    """Whatever bytes come, they are a frame, no frame, or not all of one."""
    for framing in (STANDARD, MODBUS):
        framer = framing.framer(256)
        framer.feed(data)
        with suppress(FrameError):
            while (frame := framer.next_frame()) is not None:
                assert frame
    for decode in (standard.decode_reply, modbus.decode_reply):
        with suppress(ValueError):
            decode(data)


def test_a_damaged_header_is_believed_in_nothing() -> None:
    """A frame whose header fails its check is an error at once, not a wait for its length."""
    frame = bytearray(standard.encode_reply(standard.ErrorReply(1, 0x81)))
    frame[5] = 0x0F
    with pytest.raises(FrameError):
        framed(STANDARD, [bytes(frame)])


@given(standard_replies.filter(lambda each: isinstance(each, standard.ValueReply)))
def test_standard_bus_requests_are_read_as_they_were_written(reply: standard.ValueReply) -> None:
    """A controller understands what the host writes."""
    for value in (None, reply.value):
        request = standard.Request(reply.address, reply.parameter, reply.instance, value)
        assert standard.decode_request(standard.encode_request(request, Kind.FLOAT)) == request


@given(units, words, st.lists(words, min_size=1, max_size=123).map(tuple))
@UNHURRIED
def test_modbus_requests_are_read_as_they_were_written(
    unit: int, register: int, content: tuple[int, ...]
) -> None:
    """A controller understands what the host writes."""
    for request in (
        modbus.ReadRequest(unit, register, len(content)),
        modbus.WriteRequest(unit, register, content),
    ):
        frame = modbus.encode_request(request)
        assert modbus.request_length(frame) == len(frame)
        assert modbus.decode_request(frame) == request


@pytest.mark.parametrize("address", [0, 17])
def test_addresses_of_the_standard_bus(address: int) -> None:
    """Addresses go from 1 to 16."""
    with pytest.raises(ValueError, match="1 to 16"):
        standard.encode_request(standard.Request(address, 4001, 1), Kind.FLOAT)


def test_what_modbus_cannot_carry() -> None:
    """Units, counts and contents out of range are refused before they are sent."""
    with pytest.raises(ValueError, match="1 to 247"):
        modbus.encode_request(modbus.ReadRequest(248, 0, 1))
    with pytest.raises(ValueError, match="1 to 125"):
        modbus.encode_request(modbus.ReadRequest(1, 0, 126))
    with pytest.raises(ValueError, match="1 to 123"):
        modbus.encode_request(modbus.WriteRequest(1, 0, ()))
    with pytest.raises(ValueError, match="16 bits"):
        modbus.encode_request(modbus.WriteRequest(1, 0, (70_000,)))
    with pytest.raises(ValueError, match="32 bits"):
        modbus.words_of_float(1e39)
    with pytest.raises(ValueError, match="32 bits"):
        modbus.words_of_int(2**31)


@pytest.mark.parametrize("value", [1e39, "°"])
def test_what_the_standard_bus_cannot_carry(value: float | str) -> None:
    """A value that does not fit its kind is refused before it is sent."""
    with pytest.raises(ValueError, match="cannot travel"):
        standard.encode_value(Kind.FLOAT, value)
    with pytest.raises(ValueError, match="expected a text"):
        standard.encode_value(Kind.TEXT, 1.0)


@given(st.sampled_from(Scale), st.floats(-2000, 10_000))
def test_units(scale: Scale, value: float) -> None:
    """Fahrenheit to Celsius and back is the same number."""
    assert math.isclose(to_celsius(scale, to_fahrenheit(scale, value)), value, abs_tol=1e-9)


def test_units_of_differences() -> None:
    """A band of 18 °F is one of 10 K; 212 °F are 100 °C."""
    assert to_celsius(Scale.DIFFERENCE, 18.0) == pytest.approx(10.0)
    assert to_celsius(Scale.TEMPERATURE, 212.0) == pytest.approx(100.0)
    assert to_celsius(Scale.PLAIN, 50.0) == 50.0


def test_registers_do_not_overlap() -> None:
    """No two parameters, in any instance, share a register."""
    taken = [
        entry.register_of(instance) + half
        for entry in ENTRIES.values()
        if entry.register is not None
        for instance in range(1, entry.instances + 1)
        for half in (0, 1)
    ]
    assert len(taken) == len(set(taken))
