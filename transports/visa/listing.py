"""Which resources a VISA library finds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from .faults import open_error
from .library import borrow


def list_visa_resources(backend: str = "") -> Sequence[str]:
    """Return the names of the instruments that a VISA library finds.

    Serial ports are left out: they need no VISA. Blocks, for seconds where the library asks
    the network.

    Raises:
        ConnectError: PyVISA, the library or what it needs is missing, or looking failed.
    """
    library = borrow(backend)
    try:
        with warnings.catch_warnings():
            # What would help it to find more is for its own manual.
            warnings.simplefilter("ignore")
            found = library.visa.list_resources(library.manager, "?*::INSTR")
    except Exception as error:
        raise open_error(error, backend) from error
    finally:
        library.give_back()
    return sorted(each for each in found if not each.upper().startswith("ASRL"))
