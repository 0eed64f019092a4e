"""Simulated instruments on real and virtual lines."""

from __future__ import annotations

from .board import BoardModel, BoardTransport, addressed
from .echo import EchoModel
from .hosts import serve_pty, serve_tcp
from .line import SimLine, TimedBytes
from .memory import MemoryHost, MemoryStream
from .model import DeviceModel, ServerModel, SimReply
from .multiplexed import MultiplexedSim
from .process import BlockingSimProcess, RemoteLine, SimProcess
from .shared import SharedLineModel
from .spec import Json, SimSpec

__all__ = [
    "BlockingSimProcess",
    "BoardModel",
    "BoardTransport",
    "DeviceModel",
    "EchoModel",
    "Json",
    "MemoryHost",
    "MemoryStream",
    "MultiplexedSim",
    "RemoteLine",
    "ServerModel",
    "SharedLineModel",
    "SimLine",
    "SimProcess",
    "SimReply",
    "SimSpec",
    "TimedBytes",
    "addressed",
    "serve_pty",
    "serve_tcp",
]
