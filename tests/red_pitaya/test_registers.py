"""The register server of the simulated board."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.sim import SimLine

from .board import AMS, DSP, HEADER, HK, SCOPE, Board


def test_plain_registers_read_back() -> None:
    """What is written is read back, word by word and many at once."""
    board = Board()
    board.write(HK + 0x30, 0xA5)
    board.write(DSP + 0x48000, 1, 2, 0xFFFF_FFFF)
    assert board.read(HK + 0x30) == [0xA5]
    assert board.read(DSP + 0x48000, 3) == [1, 2, 0xFFFF_FFFF]
    assert board.read(0x5000_0000, 2) == [0, 0]


def test_constants_of_the_gateware_are_there() -> None:
    """PyRPL divides by the constants of the modules: none is zero."""
    board = Board()
    for name in ("pid0", "pid1", "pid2", "iq0", "iq1", "iq2", "iir", "trig"):
        assert all(board.read(board.module(name) + 0x220, 3)), name
    for name in ("iq0", "iq1", "iq2"):
        assert all(board.read(board.module(name) + 0x230, 3)), name
        assert all(board.read(board.module(name) + 0x200, 7)), name


@given(data=st.data())
def test_requests_arrive_in_any_pieces(data: st.DataObject) -> None:
    """However the bytes are cut, every request is answered once, in order."""
    requests = [
        HEADER.pack(b"w", 0, 2, HK + 0x18) + struct.pack("<2I", 5, 6),
        HEADER.pack(b"r", 0, 2, HK + 0x18),
        HEADER.pack(b"r", 0, 0, HK),
        HEADER.pack(b"r", 0, 1, HK),
    ]
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    board = Board()
    answered = b"".join(
        board.ask(stream[begin:end]) for begin, end in zip([0, *cuts], [*cuts, None], strict=True)
    )
    assert answered == (
        requests[0][:8] + requests[1] + struct.pack("<2I", 5, 6) + requests[3] + b"\1\0\0\0"
    )


def test_garbage_ends_the_server_until_a_new_client() -> None:
    """What is no request is never answered again; a new client starts with nothing held."""
    board = Board()
    board.ask(HEADER.pack(b"w", 0, 9, HK))
    board.model.connect(board.now_s)
    assert board.read(HK) == [1]
    assert board.ask(b"GET / HTTP/1.1\r\n\r\n") == b""
    assert board.ask(HEADER.pack(b"r", 0, 1, HK)) == b""
    board.model.connect(board.now_s)
    assert board.read(HK) == [1]


def test_a_line_tells_the_board_of_its_clients() -> None:
    """A client that connects is new, whatever the one before left half sent."""
    board = Board()
    line = SimLine(board.model)
    line.connect(1.0)
    assert line.receive(HEADER.pack(b"r", 0, 1, HK)[:5], 1.0) == []
    line.connect(2.0)
    assert len(line.receive(HEADER.pack(b"r", 0, 1, HK), 2.0)) == 1


def test_power_cycle_forgets_the_registers() -> None:
    """After a power cycle the registers are as at first, and time starts at zero."""
    board = Board()
    board.write(HK + 0x30, 7)
    board.wait(5.0)
    assert board.read(SCOPE + 0x15C, 2) == [625_000_000, 0]
    board.model.reset(board.now_s)
    assert board.read(HK + 0x30) == [0]
    assert board.read(SCOPE + 0x15C, 2) == [0, 0]


def test_time_stamps_have_64_bits() -> None:
    """The counter of clock cycles goes on after its lower word has overflowed."""
    board = Board()
    assert board.read(SCOPE + 0x15C, 2) == [0, 0]
    board.wait(60.0)
    low, high = board.read(SCOPE + 0x15C, 2)
    assert low + (high << 32) == 60 * 125_000_000


def test_pins_read_what_is_put_out() -> None:
    """A pin reads its output register while its direction is output, else zero."""
    board = Board()
    board.write(HK + 0x18, 0b11, 0b101)
    assert board.read(HK + 0x20, 2) == [0, 0]
    board.write(HK + 0x10, 0b10, 0b111)
    assert board.read(HK + 0x20, 2) == [0b10, 0b101]


def test_chip_warms_up() -> None:
    """The temperature register holds a plausible temperature, which rises after power on."""
    board = Board()

    def celsius() -> float:
        return board.read(AMS + 0x30)[0] * 503.975 / 4096 - 273.15

    assert celsius() == pytest.approx(30.0, abs=0.2)
    board.wait(600.0)
    assert celsius() == pytest.approx(55.0, abs=0.5)


def test_slow_outputs_read_back() -> None:
    """The four slow outputs hold what they are set to."""
    board = Board()
    board.write(AMS + 0x20, 1, 2, 3, 4)
    assert board.read(AMS + 0x20, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 100, 16384])
def test_answers_are_as_long_as_asked(count: int) -> None:
    """A read of n words is answered with the header and 4 n bytes, at once."""
    board = Board()
    answer = board.ask(HEADER.pack(b"r", 0, count, SCOPE + 0x10000))
    assert len(answer) == 8 + 4 * count
