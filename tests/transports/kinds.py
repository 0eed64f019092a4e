"""The kinds of host that the conformance checks run against."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import serial
import trio
from attrs import evolve, frozen
from trio.testing import MockClock

from tests.support.hislip import serve_hislip
from tests.support.visa_sim import plug_into_visa
from tests.transports.conformance import LineBench, Make, Serve
from transports import (
    GPIB,
    LAN,
    READ_WITHIN_S,
    SERIAL,
    TCP,
    USBTMC,
    Address,
    BusProfile,
    ByteStream,
    ConnectError,
    Lines,
    MemoryHost,
    SerialSettings,
    SimLine,
    StreamTransport,
    ThreadedSerialStream,
    Transport,
    connect_serial,
    connect_tcp,
    make_transport,
    parse_address,
    serve_pty,
    serve_tcp,
)


@asynccontextmanager
async def _serve_memory(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    yield _streams(MemoryHost(line, keeps_late=keeps_late).connect)


@asynccontextmanager
async def _serve_pty(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    del keeps_late  # a terminal always does
    with tempfile.TemporaryDirectory() as folder:
        async with serve_pty(line, link=Path(folder) / "tty") as text:
            address = parse_address(text)

            async def connect() -> ByteStream:
                return await connect_serial(address.path, address.options or SerialSettings())

            yield _streams(connect)


@asynccontextmanager
async def _serve_threaded(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    """Read a pseudo-terminal as ports are read on Windows."""
    del keeps_late  # a terminal always does
    with tempfile.TemporaryDirectory() as folder:
        async with serve_pty(line, link=Path(folder) / "tty") as text:
            path = parse_address(text).path

            async def connect() -> ByteStream:
                try:
                    port = serial.Serial(
                        path, timeout=READ_WITHIN_S, write_timeout=0, exclusive=True
                    )
                except OSError as error:
                    raise ConnectError(str(error)) from error
                return ThreadedSerialStream(port)

            yield _streams(connect)


@asynccontextmanager
async def _serve_tcp(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    async with serve_tcp(line, keeps_late=keeps_late) as text:
        address: Address = parse_address(text)

        async def connect() -> ByteStream:
            return await connect_tcp(address.host, address.port)

        yield _streams(connect)


def _streams(connect: Callable[[], Awaitable[ByteStream]]) -> Make:
    def make(profile: BusProfile) -> Transport:
        return StreamTransport("test://line", connect, Lines(), profile)

    return make


def _under_visa(text: str) -> Make:
    address = parse_address(text)

    def make(profile: BusProfile) -> Transport:
        return make_transport(address, framing=Lines(), profile=profile)

    return make


@asynccontextmanager
async def _serve_visa_socket(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    async with serve_tcp(line, keeps_late=keeps_late) as text:
        port = parse_address(text).port
        yield _under_visa(f"visa://TCPIP::127.0.0.1::{port}::SOCKET?backend=@py")


@asynccontextmanager
async def _serve_visa_serial(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    del keeps_late  # a terminal always does
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "tty"
        async with serve_pty(line, link=link):
            yield _under_visa(f"ASRL{link}::INSTR?backend=@py")


@asynccontextmanager
async def _serve_hislip(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
    del keeps_late  # what is late dies with its session
    async with serve_hislip(line) as port:
        yield _under_visa(f"TCPIP::127.0.0.1::hislip0,{port}::INSTR?backend=@py")


def _serve_simulated(resource: str) -> Serve:
    @asynccontextmanager
    async def serve(line: SimLine, keeps_late: bool) -> AsyncGenerator[Make]:
        del keeps_late  # an instrument always does
        with plug_into_visa(line, resource):
            yield _under_visa(f"{resource}?backend=@sim")

    return serve


@frozen
class Kind:
    """A kind of host.

    Attributes:
        bench: What the checks get.
        virtual: Whether it runs under a virtual clock.
    """

    bench: LineBench
    virtual: bool

    def run(self, main: Callable[[LineBench], Coroutine[object, object, None]]) -> None:
        """Run `main` on this kind of host."""
        trio.run(main, self.bench, clock=MockClock(autojump_threshold=0) if self.virtual else None)


_SERIAL: Final = evolve(SERIAL, lateness_s=0.2)
_TCP: Final = evolve(TCP, lateness_s=0.2)

_ONE_MESSAGE: Final = "one request has one message as its reply"
_NO_GATEWAY: Final = "no bytes of an old connection reach the next"
_UNSEEN: Final = "the library does not let a loss be seen while nothing is asked"
_SEVERAL: Final = (
    "reply_of_several_frames",
    "silence_instead_of_several_frames",
    "foreign_among_several_frames",
    "cut_last_of_several_frames",
    "endless_reply_of_several_frames",
    "cancelled_among_several_frames",
)
_HISLIP_WITHOUT: Final = {"gateway": _NO_GATEWAY, **dict.fromkeys(_SEVERAL, _ONE_MESSAGE)}
_SIMULATED_WITHOUT: Final = {"gateway": _NO_GATEWAY, "unplugged_while_idle": _UNSEEN}
_BOARD: Final = "one instrument of several is away: the board stays open"
_BOARD_WITHOUT: Final = {
    **_SIMULATED_WITHOUT,
    **dict.fromkeys(("unplugged_in_flight", "unplugged_then_asked", "replugged"), _BOARD),
}


def simulated_visa(
    resource: str, profile: BusProfile, unit: str | None = None, *, sees_unasked: bool = False
) -> Kind:
    """Return a resource of pyvisa-sim as a kind of host."""
    bench = LineBench(
        _serve_simulated(resource),
        evolve(profile, lateness_s=0.2),
        keeps_late=True,
        without=_SIMULATED_WITHOUT if unit is None else _BOARD_WITHOUT,
        sees_unasked=sees_unasked,
        unit=unit,
    )
    return Kind(bench, virtual=False)


KINDS: Final = {
    "memory": Kind(LineBench(_serve_memory, _SERIAL, keeps_late=True), virtual=True),
    "memory-reopened": Kind(LineBench(_serve_memory, _TCP, keeps_late=False), virtual=True),
    "pty": Kind(LineBench(_serve_pty, _SERIAL, keeps_late=True), virtual=False),
    "pty-threaded": Kind(LineBench(_serve_threaded, _SERIAL, keeps_late=True), virtual=False),
    "tcp": Kind(LineBench(_serve_tcp, _TCP, keeps_late=False), virtual=False),
    "visa-socket": Kind(LineBench(_serve_visa_socket, _TCP, keeps_late=False), virtual=False),
    "visa-serial": Kind(LineBench(_serve_visa_serial, _SERIAL, keeps_late=True), virtual=False),
    "visa-hislip": Kind(
        LineBench(
            _serve_hislip,
            evolve(LAN, lateness_s=0.2),
            keeps_late=False,
            without=_HISLIP_WITHOUT,
            sees_unasked=False,
        ),
        virtual=False,
    ),
    "visa-gpib": simulated_visa("GPIB0::5::INSTR", GPIB, "5"),
    "visa-usbtmc": simulated_visa("USB0::0x1AB1::0x0588::SIM1::INSTR", USBTMC),
    "visa-sim-serial": simulated_visa("ASRL9::INSTR", SERIAL, sees_unasked=True),
}
