"""Serial ports, on pseudo-terminals."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from attrs import frozen

from transports import (
    ConnectError,
    ConnectProblem,
    Exchange,
    LineClosedError,
    Lines,
    LineState,
    PeerLostError,
    SerialSettings,
    connect_serial,
    make_transport,
    parse_address,
)


@frozen
class Terminal:
    """A pseudo-terminal: the descriptor of its far end, and the node of its near end."""

    master: int
    node: str


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Return a pseudo-terminal that nobody serves."""
    master, slave = os.openpty()
    try:
        yield Terminal(master, os.ttyname(slave))
    finally:
        os.close(slave)
        os.close(master)


async def test_settings_reach_the_port(terminal: Terminal) -> None:
    """Speed, frame format and flow control are what the address says."""
    address = parse_address(
        f"serial://{terminal.node}?baudrate=38400&parity=E&bytesize=7&stopbits=2"
        "&rtscts=true&xonxoff=true"
    )
    transport = make_transport(address, framing=Lines())
    await transport.open()
    # A terminal's driver forces some flags of its own; these it keeps.
    flags_in, _, flags, _, speed_in, speed_out, _ = termios.tcgetattr(terminal.master)
    assert (speed_in, speed_out) == (termios.B38400, termios.B38400)
    assert flags & termios.CSTOPB
    assert flags & termios.CRTSCTS
    assert flags_in & termios.IXON
    await transport.aclose()


async def test_default_settings(terminal: Terminal) -> None:
    """Without options a port is raw, 9600 baud, one stop bit and no flow control."""
    stream = await connect_serial(terminal.node, SerialSettings())
    flags_in, flags_out, flags, local, speed, _, _ = termios.tcgetattr(terminal.master)
    assert speed == termios.B9600
    assert not flags & (termios.CSTOPB | termios.CRTSCTS)
    assert not flags_in & (termios.IXON | termios.IXOFF | termios.ICRNL)
    assert not flags_out & termios.OPOST
    assert not local & (termios.ECHO | termios.ICANON)
    await stream.aclose()


async def test_port_in_use(terminal: Terminal) -> None:
    """A port that is open is locked; the error says so, and closing frees it."""
    first = await connect_serial(terminal.node, SerialSettings())
    with pytest.raises(ConnectError, match="in use by another program") as refused:
        await connect_serial(terminal.node, SerialSettings())
    assert refused.value.address == terminal.node
    await first.aclose()
    await first.aclose()
    second = await connect_serial(terminal.node, SerialSettings())
    await second.aclose()


async def test_no_such_port(tmp_path: Path) -> None:
    """A port that does not exist is said to be missing."""
    with pytest.raises(ConnectError, match="no such port") as failed:
        await connect_serial(str(tmp_path / "ttyUSB0"), SerialSettings())
    assert failed.value.problem is ConnectProblem.NO_SUCH_PORT


async def test_not_a_port(tmp_path: Path) -> None:
    """A file that is no serial port cannot be opened as one."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConnectError, match="cannot be opened"):
        await connect_serial(str(path), SerialSettings())


async def test_cancelled_opening_leaves_the_port_free(terminal: Terminal) -> None:
    """An abandoned opening leaves no lock behind."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await connect_serial(terminal.node, SerialSettings())
    assert scope.cancelled_caught
    transport = make_transport(parse_address(terminal.node), framing=Lines())
    with trio.fail_after(5):
        # The abandoned thread closes the port a moment later.
        while transport.state is LineState.CLOSED:
            with suppress(ConnectError):
                await transport.open()
    await transport.aclose()


async def test_closed_stream(terminal: Terminal) -> None:
    """A closed stream refuses everything and has nothing to wait for."""
    stream = await connect_serial(terminal.node, SerialSettings())
    await stream.aclose()
    with pytest.raises(LineClosedError):
        stream.write_nowait(b"x")
    with pytest.raises(LineClosedError):
        stream.read_nowait()
    with pytest.raises(LineClosedError):
        await stream.wait_readable()
    with pytest.raises(LineClosedError):
        await stream.wait_writable()
    await stream.wait_lost(1.0)


async def test_hang_up_between_bytes() -> None:
    """After a hang-up reading, writing and flushing all say that the port is gone."""
    master, slave = os.openpty()
    stream = await connect_serial(os.ttyname(slave), SerialSettings())
    os.close(master)
    await stream.wait_readable()
    with pytest.raises(PeerLostError):
        stream.read_nowait()
    with pytest.raises(PeerLostError):
        stream.write_nowait(b"x")
    with pytest.raises(PeerLostError):
        stream.flush_input()
    await stream.aclose()
    os.close(slave)


async def test_stopped_flow(terminal: Terminal) -> None:
    """A request that cannot leave is cancellable; half sent, it costs the connection."""
    transport = make_transport(parse_address(terminal.node), framing=Lines())
    await transport.open()
    with trio.move_on_after(0.05) as scope:
        await transport.exchange(Exchange(b"x" * 1_000_000, reply_within_s=None))
    assert scope.cancelled_caught
    assert transport.state is LineState.CLOSED
