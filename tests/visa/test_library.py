"""What is missing is said in a line, and what VISA can do beside bytes goes through exchanges."""

from __future__ import annotations

import sys
import threading

import pytest
import trio
import trio.testing
from pyvisa.constants import EventType, StatusCode
from pyvisa.errors import VisaIOError
from pyvisa.highlevel import VisaLibraryBase, open_visa_library
from trio.testing import MockClock

from tests.support.hislip import serve_hislip
from tests.support.visa_sim import plug_into_visa
from transports import (
    SERIAL,
    AddressError,
    ConnectError,
    ConnectProblem,
    EchoModel,
    Exchange,
    HostedStream,
    Hosting,
    Lines,
    LineState,
    MemoryHost,
    ReplyTimeoutError,
    Signal,
    SimLine,
    StreamTransport,
    Transport,
    UnsupportedError,
    make_transport,
    parse_address,
)

RESOURCE = "GPIB8::5::INSTR"


def _line(text: str) -> Transport:
    return make_transport(parse_address(text), framing=Lines())


async def test_pyvisa_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, opening says in one line how to install it."""
    for name in ("pyvisa", "pyvisa.highlevel"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConnectError) as missing:
        await _line("GPIB0?backend=@py").open()
    assert missing.value.reason == "PyVISA is not installed: pip install 'benchtree[visa]'"
    assert missing.value.problem is ConnectProblem.MISSING_LIBRARY


async def test_no_library_of_a_maker() -> None:
    """Without NI-VISA or the like, what can be used instead is said."""
    with pytest.raises(ConnectError, match=r"\?backend=@py") as missing:
        await _line("GPIB0?backend=/nowhere/libvisa.so@ivi").open()
    assert missing.value.problem is ConnectProblem.MISSING_LIBRARY


async def test_what_pyvisa_py_needs_for_a_bus() -> None:
    """What a kind of bus needs beside pyvisa-py is passed on, in one line."""
    line = _line("USB0::0x1AB1::0x0588::DS1::INSTR?backend=@py")
    with pytest.raises(ConnectError) as missing:
        await line.open()
    assert "\n" not in str(missing.value)
    assert line.state is LineState.CLOSED


async def test_refused_under_a_virtual_clock(autojump_clock: MockClock) -> None:
    """VISA takes real time: a simulation says what to do instead."""
    with pytest.raises(ConnectError, match="--sim"):
        await _line("GPIB0").open()


def test_no_library_is_hosted_under_visa() -> None:
    """A library that wants bytes is refused where messages are."""

    async def make(stream: HostedStream) -> HostedStream:
        return stream

    with pytest.raises(AddressError, match="write a serial or tcp address"):
        make_transport(parse_address("GPIB0"), framing=Lines(), hosting=Hosting(make, {}))


async def test_status_byte_and_clear() -> None:
    """A serial poll and a device clear are exchanges like any other."""
    status = 0x51
    async with serve_hislip(SimLine(EchoModel()), status=lambda: status) as port:
        line = _line(f"TCPIP::127.0.0.1::hislip0,{port}::INSTR?backend=@py")
        await line.open()
        reply = await line.exchange(Exchange(b"", signal=Signal.STATUS_BYTE))
        assert reply.data == b"81"
        await line.exchange(Exchange(b"", signal=Signal.CLEAR))
        assert (await line.exchange(Exchange(b"ECHO after\n"))).data == b"after"
        with pytest.raises(UnsupportedError):
            await line.exchange(Exchange(b"", signal=Signal.SERVICE_REQUEST))
        assert line.state is LineState.READY
        assert (await line.exchange(Exchange(b"ECHO still\n"))).data == b"still"
        await line.aclose()


async def test_signals_of_a_library_that_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service requests, triggers and locks reach the library, within the time limit."""
    library = open_visa_library("@sim")
    called: list[str] = []

    def wait(session: int, kind: EventType, timeout_ms: int) -> tuple[EventType, int, StatusCode]:
        called.append(f"wait {timeout_ms}")
        if len(called) > 4:
            raise VisaIOError(StatusCode.error_timeout)
        return kind, session, StatusCode.success

    def note(name: str, result: object) -> None:
        def call(*_: object) -> object:
            called.append(name)
            return result

        monkeypatch.setattr(library, name, call, raising=False)

    note("enable_event", StatusCode.success)
    note("read_stb", (64, StatusCode.success))
    note("assert_trigger", StatusCode.success)
    note("lock", ("", StatusCode.success))
    note("unlock", StatusCode.success)
    monkeypatch.setattr(library, "wait_on_event", wait, raising=False)
    note("close", StatusCode.success)
    with plug_into_visa(SimLine(EchoModel()), RESOURCE):
        line = _line(f"{RESOURCE}?backend=@sim")
        await line.open()

        async def signal(what: Signal) -> bytes:
            return (await line.exchange(Exchange(b"", "5", 0.25, signal=what))).data

        assert await signal(Signal.SERVICE_REQUEST) == b"64"
        assert called == ["enable_event", "wait 250", "close", "read_stb"]
        with pytest.raises(ReplyTimeoutError):
            await signal(Signal.SERVICE_REQUEST)
        await line.resync()
        called.clear()
        for each in (Signal.LOCK, Signal.TRIGGER, Signal.UNLOCK):
            assert await signal(each) == b""
        assert called == ["lock", "assert_trigger", "unlock"]
        await line.aclose()


async def test_lines_without_signals(autojump_clock: MockClock) -> None:
    """A line of bytes has none of it, and sends nothing."""
    line = SimLine(EchoModel())
    transport = StreamTransport("test://line", MemoryHost(line).connect, Lines(), SERIAL)
    await transport.open()
    with pytest.raises(UnsupportedError, match="no trigger"):
        await transport.exchange(Exchange(b"*TRG\n", signal=Signal.TRIGGER))
    assert not line.requests
    assert transport.state is LineState.READY
    await transport.aclose()


async def test_a_library_that_hangs_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one backend does not even open, buses of another do, and close."""
    free = threading.Event()
    load = open_visa_library

    def hang(name: str) -> VisaLibraryBase:
        if name.endswith("@ivi"):
            free.wait(30.0)
        return load(name)

    monkeypatch.setattr("pyvisa.highlevel.open_visa_library", hang)
    hung, well = _line("GPIB13?backend=/nowhere/hung.so@ivi"), _line("GPIB14?backend=@sim")
    async with trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(ConnectError):
                await hung.open()

        nursery.start_soon(refused)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5.0):
            await well.open()
            await well.aclose()
        free.set()


async def test_sessions_share_a_library_that_is_closed_last() -> None:
    """Closing one bus leaves the others of its library alone."""
    with (
        plug_into_visa(SimLine(EchoModel()), "GPIB11::5::INSTR"),
        plug_into_visa(SimLine(EchoModel()), "GPIB12::5::INSTR"),
    ):
        one, two = (_line(f"GPIB{number}::5::INSTR?backend=@sim") for number in (11, 12))
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.open)
                nursery.start_soon(two.open)
            for each in (one, two):
                assert (await each.exchange(Exchange(b"ECHO a\n", "5"))).data == b"a"
            await one.aclose()
            assert (await two.exchange(Exchange(b"ECHO b\n", "5"))).data == b"b"
            await two.aclose()
