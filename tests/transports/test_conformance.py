"""Every kind of line keeps every promise."""

from __future__ import annotations

import pytest

from tests.transports.conformance import CHECKS
from tests.transports.kinds import KINDS


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (kind, check)
        for kind, held in KINDS.items()
        for check in CHECKS
        if check not in held.bench.without
    ],
)
def test_conformance(kind: str, check: str) -> None:
    """A line of this kind passes this check."""
    KINDS[kind].run(CHECKS[check].run)
