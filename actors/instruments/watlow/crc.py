"""Check sums whose bits travel lowest first; pure."""

from __future__ import annotations

from collections.abc import Sequence


def make_table(polynomial: int) -> Sequence[int]:
    """Return what each byte does to a check sum, for a polynomial written lowest bit first."""
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ polynomial if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


def check_sum(data: bytes, table: Sequence[int], start: int) -> int:
    """Return the check sum over `data`."""
    crc = start
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc
