"""A Red Pitaya that is emulated, in a process of its own."""

from __future__ import annotations

from actors import Instrument
from transports import SimProcess, SimSpec, parse_address


class BoardEmulator:
    """Runs a driver's device model behind a socket for as long as its line needs it."""

    def __init__(self, driver: type[Instrument]) -> None:
        """Start nothing yet.

        Raises:
            ValueError: The driver has no device model.
        """
        model = driver.model
        if model is None:
            raise ValueError(f"{driver.__name__} has no device model to emulate it with")
        where = type(model) if not isinstance(model, type) else model
        self._spec = SimSpec(model=f"{where.__module__}:{where.__qualname__}", one_client=True)
        self._process: SimProcess | None = None

    async def start(self) -> tuple[str, int]:
        """Start it unless it runs, and return its host and port."""
        if self._process is None:
            process = SimProcess([self._spec])
            await process.__aenter__()
            self._process = process
        address = parse_address(self._process.lines[0].address)
        return address.host, address.port

    async def aclose(self) -> None:
        """End it. Twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            await process.aclose()
