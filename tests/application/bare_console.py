"""What the console script does on a machine that has no ports of its own.

Nothing is said to anybody's real instruments. The last line on standard error is how many
seconds it took, Python's own start left out.
"""

import sys
import time
from pathlib import Path

import pytest

from benchtree.cli import main
from tests.application.bare import hide_ports

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        hide_ports(patch, Path(sys.prefix) / "no-such-folder")
        began_s = time.monotonic()
        status = main()
    sys.stderr.write(f"\n{time.monotonic() - began_s}\n")
    sys.exit(status)
