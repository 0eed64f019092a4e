"""Whatever a client writes, the simulated board goes on answering."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from .board import AMS, ASG, DSP, HK, LENGTH, SCOPE, SIGNALS, Board

HK_OFFSETS = (0x10, 0x14, 0x18, 0x1C, 0x30)
SCOPE_OFFSETS = (0x0, 0x4, 0x8, 0x10, 0x14, 0x20, 0x28, 0x90)
ASG_OFFSETS = tuple(range(0x0, 0x44, 4))
DSP_OFFSETS = (0x0, 0x4, 0xC, *range(0x100, 0x138, 4))

addresses = st.one_of(
    st.sampled_from([HK + offset for offset in HK_OFFSETS]),
    st.sampled_from([SCOPE + offset for offset in SCOPE_OFFSETS]),
    st.sampled_from([ASG + offset for offset in ASG_OFFSETS]),
    st.sampled_from(
        [DSP + number * 0x10000 + offset for number in range(16) for offset in DSP_OFFSETS]
    ),
    st.sampled_from([AMS + 0x20, DSP + 0x48000]),
)
words = st.one_of(
    st.integers(0, 15),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 31).map(lambda bit: 1 << bit),
    st.sampled_from([0x1FFF, 0x2000, 0x3FFF, 0x8080, 0xC0C0_C0C0, 0xFFFF_FFFF]),
)
waits = st.sampled_from([0.0, 8e-9, 1e-6, 3e-4, 0.02, 1.0, 1e4])
steps = st.lists(st.tuples(addresses, words, waits), max_size=30)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_every_setting_is_survived(steps: list[tuple[int, int, float]]) -> None:
    """Any registers at any times: each read is answered in full, each voltage is in range."""
    board = Board()
    board.generate(1000.0, 0.5)
    for address, word, seconds in steps:
        board.write(address, word)
        board.wait(seconds)
        board.read(SCOPE)
    for name in SIGNALS:
        assert -1.0 <= board.sample(name) <= 1.0
    for name in ("pid0", "pid1", "pid2"):
        assert -4.0 <= board.integral(name) <= 4.0
    for name in ("iq0", "iq1", "iq2"):
        assert len(board.read(board.module(name) + 0x140, 4)) == 4
    assert len(board.read(SCOPE + 0x10000, LENGTH)) == LENGTH
    assert len(board.read(SCOPE, 0x60)) == 0x60
    assert len(board.read(AMS, 20)) == 20
