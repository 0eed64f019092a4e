"""Bytes to and from one physical bus."""

from __future__ import annotations

from .address import (
    Address,
    SerialSettings,
    canonical_key,
    parse_address,
)
from .base import Exchange, LineCounters, Reply, Signal, Transport
from .board import BoardSettings
from .borrowed import BorrowedTransport
from .clock import Clock, SystemClock, VirtualClock, current_clock, install_clock
from .errors import (
    AddressError,
    ConnectError,
    ConnectProblem,
    ForeignReplyError,
    FrameError,
    LineBusyError,
    LineClosedError,
    LineStaleError,
    PeerLostError,
    PortOwnedError,
    ReplyTimeoutError,
    TransportError,
    UnsupportedError,
)
from .framing import Framer, Framing, Lines, Measured
from .handover import Applicant, Desk, Waiting, await_port
from .hosted import HostedStream, HostedTransport, Hosting
from .line_state import IllegalLineStepError, LineEvent, LineState, advance
from .lookup import resolve_key
from .opening import default_profile, make_board_transport, make_transport
from .owner import Owner, OwnerNote, OwnerState, claim, look, owner_of
from .profile import (
    GATEWAY,
    GPIB,
    LAN,
    MULTIPLEXED,
    PROFILES,
    RS485,
    SERIAL,
    TCP,
    USBTMC,
    BusProfile,
    Resync,
)
from .pyrpl import REDPITAYA, Emulator, PyrplTransport, pack, unpack
from .resource import Medium, Resource, is_resource_name, parse_resource
from .serial import connect_serial
from .serial_ports import BY_ID, PortUser, SerialPort, list_serial_ports, port_users
from .sim import (
    BlockingSimProcess,
    DeviceModel,
    EchoModel,
    MemoryHost,
    MultiplexedSim,
    RemoteLine,
    SimLine,
    SimProcess,
    SimReply,
    SimSpec,
    serve_pty,
    serve_tcp,
)
from .stream import ByteStream, StreamTransport
from .tcp import connect_tcp
from .threaded_serial import READ_WITHIN_S, ThreadedSerialStream
from .timer import Timer, make_timer
from .visa import VisaTransport, list_visa_resources

__all__ = [
    "BY_ID",
    "GATEWAY",
    "GPIB",
    "LAN",
    "MULTIPLEXED",
    "PROFILES",
    "READ_WITHIN_S",
    "REDPITAYA",
    "RS485",
    "SERIAL",
    "TCP",
    "USBTMC",
    "Address",
    "AddressError",
    "Applicant",
    "BlockingSimProcess",
    "BoardSettings",
    "BorrowedTransport",
    "BusProfile",
    "ByteStream",
    "Clock",
    "ConnectError",
    "ConnectProblem",
    "Desk",
    "DeviceModel",
    "EchoModel",
    "Emulator",
    "Exchange",
    "ForeignReplyError",
    "FrameError",
    "Framer",
    "Framing",
    "HostedStream",
    "HostedTransport",
    "Hosting",
    "IllegalLineStepError",
    "LineBusyError",
    "LineClosedError",
    "LineCounters",
    "LineEvent",
    "LineStaleError",
    "LineState",
    "Lines",
    "Measured",
    "Medium",
    "MemoryHost",
    "MultiplexedSim",
    "Owner",
    "OwnerNote",
    "OwnerState",
    "PeerLostError",
    "PortOwnedError",
    "PortUser",
    "PyrplTransport",
    "RemoteLine",
    "Reply",
    "ReplyTimeoutError",
    "Resource",
    "Resync",
    "SerialPort",
    "SerialSettings",
    "Signal",
    "SimLine",
    "SimProcess",
    "SimReply",
    "SimSpec",
    "StreamTransport",
    "SystemClock",
    "ThreadedSerialStream",
    "Timer",
    "Transport",
    "TransportError",
    "UnsupportedError",
    "VirtualClock",
    "VisaTransport",
    "Waiting",
    "advance",
    "await_port",
    "canonical_key",
    "claim",
    "connect_serial",
    "connect_tcp",
    "current_clock",
    "default_profile",
    "install_clock",
    "is_resource_name",
    "list_serial_ports",
    "list_visa_resources",
    "look",
    "make_board_transport",
    "make_timer",
    "make_transport",
    "owner_of",
    "pack",
    "parse_address",
    "parse_resource",
    "port_users",
    "resolve_key",
    "serve_pty",
    "serve_tcp",
    "unpack",
]
