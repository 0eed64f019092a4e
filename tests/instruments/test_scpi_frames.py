"""SCPI requests and replies as bytes."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.instruments.scpi.frames import (
    ErrorKind,
    ScpiError,
    decode_bool,
    decode_error,
    decode_float,
    decode_identity,
    decode_int,
    decode_text,
    encode_value,
    is_error_reply,
    is_identity_reply,
    query,
    set_command,
)

# How long an example takes says more about the machine than about the claim.
UNHURRIED = settings(deadline=None)

DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_float,
    decode_int,
    decode_bool,
    decode_text,
    decode_error,
    decode_identity,
)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("frame", [b"", b" ", b"\xff\xfe", b"1\x002", b'"open'])
def test_decoders_refuse_what_is_no_reply(decode: Callable[[bytes], object], frame: bytes) -> None:
    """Empty, binary and half replies raise, and the error shows the raw bytes."""
    with pytest.raises(ValueError, match="expected ") as caught:
        decode(frame)
    assert repr(frame) in str(caught.value)


@UNHURRIED
@given(frame=st.binary(max_size=40))
def test_decoders_raise_nothing_but_value_errors(frame: bytes) -> None:
    """Whatever arrives, a decoder returns a value or raises ValueError."""
    for decode in DECODERS:
        try:
            decode(frame)
        except ValueError:
            continue
    assert is_error_reply(frame) in {True, False}
    assert is_identity_reply(frame) in {True, False}


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, "", "1;*RST", "1\n*RST", '"open', "caf\u00e9"]
)
def test_encoding_refuses_what_would_not_stay_one_argument(value: float | str) -> None:
    """Numbers SCPI has no digits for, and text that would end the request, raise."""
    with pytest.raises(ValueError, match="expected "):
        encode_value(value)


@pytest.mark.parametrize("header", ["", "VOLT?", "VOLT 5", "VOLT;*RST", "VOLT\n", "*", "VOLT:"])
def test_headers_that_are_no_headers_are_refused(header: str) -> None:
    """A header cannot carry a question mark, an argument or a second unit."""
    with pytest.raises(ValueError, match="SCPI header"):
        query(header)
    with pytest.raises(ValueError, match="SCPI header"):
        set_command(header, 1, check_errors=True)


@pytest.mark.parametrize("frame", [b"1.0V", b"1,2", b"1_0", b'0,"No error"', b"one", b"1e", b"."])
def test_a_number_is_the_whole_frame(frame: bytes) -> None:
    """Units, lists, and what only Python reads as a number are not numbers."""
    with pytest.raises(ValueError, match="a number"):
        decode_float(frame)


@pytest.mark.parametrize("frame", [b"1.5", b"9.9E37", b"9.91E37", b"NAN", b"1e400", b"9" * 5000])
def test_a_whole_number_is_whole(frame: bytes) -> None:
    """A fraction, an overload and an endless row of digits are no whole numbers."""
    with pytest.raises(ValueError, match="a whole number"):
        decode_int(frame)


@pytest.mark.parametrize("frame", [b"2", b"TRUE", b"-1", b"1.0"])
def test_a_switch_is_one_of_four_words(frame: bytes) -> None:
    """Anything but 1, 0, ON and OFF is refused."""
    with pytest.raises(ValueError, match="ON or OFF"):
        decode_bool(frame)


@pytest.mark.parametrize("frame", [b"1.0", b"0,1", b"0,", b"1,2,3,4", b'x,"y"', b'-113,"open'])
def test_readings_are_no_error_replies(frame: bytes) -> None:
    """A number or a list of numbers does not pass for an answer of the error queue."""
    assert not is_error_reply(frame)


@pytest.mark.parametrize("frame", [b"1,2,3,4", b'0,"No error"', b"A,B,C", b"A,B,C,D,E", b",,,"])
def test_readings_are_no_identities(frame: bytes) -> None:
    """Four readings, or another number of fields, do not pass for an identity."""
    assert not is_identity_reply(frame)


@pytest.mark.parametrize(
    "frame",
    [b"9.9E37", b"+9.90000000E+37", b"-9.9E37", b"9.91E37", b"NAN", b"inf", b"-INF", b"1e999"],
)
def test_overload_and_not_a_number_are_unavailable(frame: bytes) -> None:
    """What the instrument has no value for is None, not a huge number."""
    assert decode_float(frame) is None


@UNHURRIED
@given(value=st.floats(allow_nan=False, allow_infinity=False, min_value=-9e37, max_value=9e37))
def test_floats_survive_the_trip(value: float) -> None:
    """A float written and read back is the same float."""
    assert decode_float(encode_value(value).encode("ascii")) == value


@UNHURRIED
@given(value=st.integers(min_value=-(10**37), max_value=10**37))
def test_whole_numbers_survive_the_trip(value: int) -> None:
    """A whole number written and read back is the same number."""
    assert decode_int(encode_value(value).encode("ascii")) == value


def test_values_are_written_as_scpi_writes_them() -> None:
    """Switches are digits, floats the shortest that read back, text is itself."""
    assert [encode_value(value) for value in (True, False, 7, 0.1, "MAX", '"VOLT;DC"')] == [
        "1",
        "0",
        "7",
        "0.1",
        "MAX",
        '"VOLT;DC"',
    ]
    assert encode_value(np.float64(2.5)) == "2.5"


def test_requests_end_with_a_line_feed() -> None:
    """Questions, settings, actions and checked settings have their documented bytes."""
    assert query("VOLT") == b"VOLT?\n"
    assert query("*IDN") == b"*IDN?\n"
    assert set_command("VOLT", 5.0, check_errors=False) == b"VOLT 5.0\n"
    assert set_command("VOLT", 5.0, check_errors=True) == b"VOLT 5.0;:SYST:ERR?\n"
    assert set_command("OUTP:PROT:CLE", None, check_errors=True) == b"OUTP:PROT:CLE;:SYST:ERR?\n"


def test_replies_are_read() -> None:
    """Good replies of each kind decode, a stray carriage return included."""
    assert decode_float(b"+1.25000000E+00\r") == 1.25
    assert decode_float(b".5") == 0.5
    assert decode_int(b"+3.00000000E+00") == 3
    assert [decode_bool(frame) for frame in (b"1", b"0", b"ON", b"off")] == [1, 0, 1, 0]
    assert decode_text(b'"say ""hi"""') == 'say "hi"'
    assert decode_text(b"'VOLT'") == "VOLT"
    assert decode_text(b"CV") == "CV"
    assert decode_error(b'+0,"No error"') == ScpiError(0, "No error")
    assert decode_error(b'-222,"Data out of range; VOLT"').number == -222
    assert decode_error(b"0,No error") == ScpiError(0, "No error")
    assert decode_identity(b"ACME, PS1,,1.0") == ("ACME", "PS1", "", "1.0")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (0, ErrorKind.NONE),
        (-100, ErrorKind.COMMAND),
        (-199, ErrorKind.COMMAND),
        (-200, ErrorKind.EXECUTION),
        (-350, ErrorKind.DEVICE),
        (-499, ErrorKind.QUERY),
        (-500, ErrorKind.EVENT),
        (-1, ErrorKind.DEVICE),
        (217, ErrorKind.DEVICE),
    ],
)
def test_error_numbers_have_classes(number: int, kind: ErrorKind) -> None:
    """The class of an error is the hundred of its number."""
    assert ScpiError(number, "").kind is kind
