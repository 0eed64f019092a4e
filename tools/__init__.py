"""The checks of this repository that no ready-made tool does."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

PACKAGES: Final = ("transports", "actors", "recorder", "benchtree")
